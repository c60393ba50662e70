"""Reads what a record's files say beyond its latencies: time per layer, a sweep, the plan of a compiler."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Generic, Optional, TypeVar

from tools.profile import SCHEMA, Layer
from tools.report.results import Record

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Found(Generic[Value]):
    """What a file says, or a sentence on why there is nothing to show."""

    value: Optional[Value] = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Profile:
    """Time, or cycles, per layer (tools/profile.py), the most expensive first."""

    counters: str
    layers: Sequence[Layer]

    def share(self, layer: Layer) -> float:
        """Return the layer's part of all that is counted in its unit."""
        time_ms, cycles = self.sums(self.layers)
        total = cycles if layer.time_ms is None else time_ms
        return (layer.time_ms if layer.time_ms is not None else layer.cycles or 0.0) / total if total else 0.0

    def bar_percent(self, layer: Layer) -> float:
        """Return how long the layer's bar is, in percent of its cell: the first one's takes two thirds."""
        first = self.share(self.layers[0])
        return 66 * self.share(layer) / first if first else 0.0

    @staticmethod
    def sums(layers: Sequence[Layer]) -> tuple[float, float]:
        """Return the layers' time in ms and their cycles; a layer has one of them."""
        return sum(layer.time_ms or 0.0 for layer in layers), sum(layer.cycles or 0.0 for layer in layers)


@dataclasses.dataclass(frozen=True)
class Point:
    """One value of the swept parameter: its median latency, or why there is none."""

    at: float
    status: str
    p50_ms: Optional[float] = None
    ci95_rel: Optional[float] = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Median latency over one parameter; `measured` and `failed` points in the parameter's order."""

    parameter: str
    measured: Sequence[Point]
    failed: Sequence[Point]

    @property
    def fastest(self) -> Point:
        """The measured point with the smallest median."""
        return min(self.measured, key=lambda point: point.p50_ms)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a chip executes; the columns are the compiler's. Stages of one step run at the same time.

    `steps` is None where the compiler does not tell them apart.
    """

    columns: Sequence[str]
    stages: Sequence[Mapping[str, Any]]
    steps: Optional[int]


@dataclasses.dataclass(frozen=True)
class Power:
    """A power trace in stretches of time, each with its least and its largest power (W).

    A stretch of which nothing is known is NaN. `windows`, `idle` and `signatures` are (from, to) in s, where
    the energy tool found them; [] where it did not. `idle_line` are two points (s, W) of the idle power.
    `simulated`: a stand-in was the meter or the device.
    """

    time_s: Sequence[float]
    low_w: Sequence[float]
    high_w: Sequence[float]
    windows: Sequence[Sequence[float]]
    idle: Sequence[Sequence[float]]
    idle_line: Sequence[Sequence[float]]
    signatures: Sequence[Sequence[float]]
    simulated: bool


def power(record: Record) -> Optional[Found[Power]]:
    """Read the `plot` in the record's `energy` file (tools/energy/document.py); None where it has none."""
    found = _file(record, record.files, "energy", _power)
    if found is None or found.value or found.problem:
        return found
    return Found(problem="There is no power in the trace.")


def profile(record: Record) -> Optional[Found[Profile]]:
    """Read the record's `profile`; None where it has none."""
    return _file(record, record.files, "profile", _profile)


def sweep(record: Record) -> Optional[Found[Sweep]]:
    """Read the record's `sweep`; None where it has none.

    JSON: `{"parameter": NAME, "points": [{NAME, "p50_ms", "ci95_rel", "n", "status", "reason"}, ...]}`.
    """
    return _file(record, record.files, "sweep", _sweep)


def plans(record: Record) -> dict[str, Found[Plan]]:
    """Read the plans among the record's artifacts (`plan`, `plan_...`): path -> JSON `{"stages": [...]}`."""
    names = [name for name in record.artifacts if name.split("_")[0] == "plan"]
    return {record.artifacts[name]: _file(record, record.artifacts, name, _plan) for name in names}


def _file(
    record: Record, paths: Mapping[str, str], name: str, parse: Callable[[Any], Value]
) -> Optional[Found[Value]]:
    if name not in paths:
        return None
    what = f"The {name} file {paths[name]}"
    try:
        return Found(parse(json.loads(Path(record.folder, paths[name]).read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return Found(problem=f"{what} is missing.")
    except OSError as error:
        return Found(problem=f"{what} cannot be read: {error.strerror}.")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return Found(problem=f"{what} is cut off or corrupt.")


def _profile(data: Any) -> Profile:
    if data["schema"] != SCHEMA:
        message = f"schema {data['schema']}"
        raise ValueError(message)
    _number(data["total_ms"])
    layers = [
        Layer(
            *(str(row[key]) for key in ("name", "type", "executed_as")),
            time_ms=None if row["time_ms"] is None else _number(row["time_ms"]),
            source=str(row.get("source", "")),
            cycles=None if row.get("cycles") is None else _number(row["cycles"]),
        )
        for row in data["layers"]
    ]
    if any((layer.time_ms is None) == (layer.cycles is None) for layer in layers):
        message = "a layer has either time or cycles"
        raise ValueError(message)
    found = Profile(str(data["counters"]), layers)
    return dataclasses.replace(found, layers=sorted(layers, key=found.share, reverse=True))


def _power(data: Any) -> Optional[Power]:
    drawn = data["plot"]
    if drawn is None:
        return None
    time_s, low_w, high_w = (
        [math.nan if value is None else float(value) for value in drawn[key]]
        for key in ("time_s", "low_w", "high_w")
    )
    if not (len(time_s) == len(low_w) == len(high_w) > 1 and time_s[0] < time_s[-1]):
        message = "columns of different length, or none"
        raise ValueError(message)
    signatures = [pair for one in drawn["signatures"] for pair in one]
    pairs = (drawn["windows"], drawn["idle"], drawn["idle_line"], signatures)
    found = ([(float(a), float(b)) for a, b in each] for each in pairs)
    return Power(time_s, low_w, high_w, *found, simulated=bool(data["simulated"]))


def _sweep(data: Any) -> Sweep:
    parameter = data["parameter"]
    points = sorted((_point(row, parameter) for row in data["points"]), key=lambda point: point.at)
    measured = [point for point in points if point.status == "ok"]
    return Sweep(str(parameter), measured, [point for point in points if point.status != "ok"])


def _point(row: Mapping[str, Any], parameter: str) -> Point:
    at, status = _number(row[parameter]), str(row["status"])
    if status != "ok":
        return Point(at, status, reason=str(row["reason"]))
    p50_ms = _number(row["p50_ms"])
    if p50_ms == 0:
        message = "no inference takes no time"
        raise ValueError(message)
    interval = None if row["ci95_rel"] is None else _number(row["ci95_rel"])
    return Point(at, status, p50_ms, interval)


def _plan(data: Any) -> Plan:
    stages = [dict(stage) for stage in data["stages"]]
    columns = list(dict.fromkeys(key for stage in stages for key in stage))
    return Plan(columns, stages, len({stage["step"] for stage in stages}) if "step" in columns else None)


def _number(value: Any) -> float:
    """Return a finite number that is not negative."""
    if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0:
        return value
    message = f"{value!r} is neither a time nor a count"
    raise ValueError(message)
