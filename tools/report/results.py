"""Reads results.json (host/results.schema.json says what is in it) and the samples that it names."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tools.report import energy
from tools.report.energy import Energy
from tools.stage import InvalidRequest

SCHEMA = 1
STATUSES = ("ok", "wrong_output", "unsupported", "no_device", "no_sdk", "unavailable", "emulated", "failed")
HINT = "Make a new one: python runner.py all --model MODEL"


@dataclasses.dataclass(frozen=True)
class Latency:
    """Summary of the samples; times in ms. `ci95_rel`: half the median's interval over the median."""

    p50: float
    p90: float
    p99: float
    mean: float
    min: float
    max: float
    n: int
    ci95_rel: Optional[float]


@dataclasses.dataclass(frozen=True)
class Correctness:
    """Agreement with the reference; a value is None where it is not a finite number."""

    max_abs: Optional[float]
    cosine: Optional[float]
    top1_match: Optional[float]
    top5_overlap: Optional[float]
    n_inputs: int


@dataclasses.dataclass(frozen=True)
class Samples:
    """Raw latencies in ms, in the order they were taken, or why there are none to show."""

    ms: Optional[np.ndarray] = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a stage compiled the network to, for one chip; a field is None where the compiler does not say it.

    `stages` is how many steps the chip executes one after the other, `hw_stages` how many of them its
    fixed-function units do; `checked_only`: a table was asked, and nothing was compiled;
    `other` is what the page has no column for.
    """

    made_by: str
    chip: str
    stages: Optional[int] = None
    hw_stages: Optional[int] = None
    stage_types: Mapping[str, int] = dataclasses.field(default_factory=dict)
    shaves: Optional[int] = None
    cmx_slices: Optional[int] = None
    memory_bytes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    blob_bytes: Optional[int] = None
    unsupported_layers: Optional[Sequence[str]] = None
    checked_only: bool = False
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Record:
    """One (model, backend, runtime, device, precision)."""

    model: str
    backend: str
    runtime: str
    device: str
    precision: str
    engine: str
    status: str
    reason: Optional[str]
    hint: Optional[str]
    latency_ms: Optional[Latency]
    throughput_per_s: Optional[float]
    samples: Optional[str]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    peak_rss_mb: Optional[float]
    correctness: Optional[Correctness]
    energy: Optional[Energy]
    artifacts: Mapping[str, str]
    versions: Mapping[str, str]
    metadata: Mapping[str, Any]
    folder: Path
    simulated: bool = False
    breakdown_ms: Optional[Mapping[str, float]] = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weights: Optional[Mapping[str, Any]] = None
    energy_reason: Optional[str] = None
    energy_hint: Optional[str] = None
    compiled: Sequence[Compiled] = ()

    @property
    def name(self) -> str:
        """Backend, with the runtime where that says more."""
        return self.backend if self.runtime == self.backend else f"{self.backend} ({self.runtime})"

    @property
    def where(self) -> str:
        """Device, threads, precision and load in words."""
        threads = self.metadata.get("threads")
        count = f", {threads} thread{'s' * (threads != 1)}" if threads else ""
        requests = self.metadata.get("requests")  # in the scenario throughput only
        load = f", {requests} requests in flight" if requests else ""
        return f"{self.device}{count}, {self.precision}{load}"

    @property
    def measured(self) -> bool:
        """True where there is a latency of a backend that gave the right answer."""
        return self.status == "ok" and self.latency_ms is not None

    @property
    def warnings(self) -> list[str]:
        """What the tools that measured want the reader to know."""
        found = self.metadata.get("warnings")
        mine = [str(text) for text in found] if isinstance(found, list) else []
        return [*mine, *(f"Energy: {text}." for text in (self.energy.warnings if self.energy else ()))]

    @property
    def tolerance(self) -> Mapping[str, float]:
        """The limits of the correctness gate, where the tool recorded them."""
        found = self.metadata.get("tolerance")
        limits = found.items() if isinstance(found, dict) else ()
        return {key: limit for key, limit in limits if isinstance(limit, (int, float))}

    @functools.cached_property
    def raw(self) -> Samples:
        """The raw samples, read from their file."""
        if not self.samples:
            return Samples(problem="The record names no samples file.")
        path = self.folder / self.samples
        if not path.is_file():
            return Samples(problem=f"The samples file {self.samples} is missing.")
        try:
            size, ns = path.stat().st_size, np.fromfile(path, dtype="<i8")
        except OSError as error:
            return Samples(problem=f"The samples file {self.samples} cannot be read: {error.strerror}.")
        if not size or size % 8 or ns.min() <= 0:
            return Samples(problem=f"The samples file {self.samples} is cut off or corrupt.")
        return Samples(ms=ns / 1e6)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run; `folder` is where results.json lies."""

    id: str
    started: str
    argv: tuple[str, ...]
    engine: str
    engine_reason: str
    builds: Mapping[str, str]
    host: Mapping[str, Any]
    project_version: str
    models: tuple[str, ...]
    processes: tuple[Mapping[str, Any], ...]
    stages: tuple[Mapping[str, Any], ...]
    records: tuple[Record, ...]
    folder: Path
    weights: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meter: Optional[Mapping[str, Any]] = None

    def of(self, model: str) -> list[Record]:
        """Return the model's records: what was measured by median latency, then the others."""
        mine = [record for record in self.records if record.model == model]
        return sorted(mine, key=lambda r: (not r.measured, r.latency_ms.p50 if r.measured else 0))


def read(path: Path) -> Run:
    """Read and check a results.json.

    Raises:
        InvalidRequest: it is not JSON (NaN is not JSON either), of another schema, or a field is missing,
            unknown or of the wrong kind.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        message = f"{path.name} cannot be read: {error.strerror or error}"
        raise InvalidRequest(message, hint=HINT) from None
    except (ValueError, RecursionError) as error:
        message = f"{path.name} is not JSON: {error}"
        raise InvalidRequest(message, hint=HINT) from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        message = f"{path.name} has schema {schema!r}, this report reads schema {SCHEMA}"
        raise InvalidRequest(message, hint="Use the version that made it, or make a new one.")
    return _checked(data, path)


def _checked(data: dict[str, Any], path: Path) -> Run:
    """Build the run. What the page computes with is converted here, so nothing can go wrong later."""
    where = "run"
    try:
        run = dict(data["run"])
        stages = tuple(
            {**_STAGE, **stage, "seconds": _number(stage["seconds"])} for stage in run.pop("stages")
        )
        records = []
        for number, record in enumerate(data["records"], 1):
            where = f"record {number}"
            records.append(_record(record, path.parent))
        where = "run"
        run.update(
            argv=tuple(map(str, run["argv"])),
            processes=tuple(
                {**process, "seconds": _number(process["seconds"])} for process in run["processes"]
            ),
            models=tuple(dict.fromkeys([*map(str, run["models"]), *(record.model for record in records)])),
            builds=dict(run.get("builds", {})),
            host=dict(run["host"]),
        )
        return Run(stages=stages, records=tuple(records), folder=path.parent, **run)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else error
        message = f"{path.name} is not of schema {SCHEMA}: {where}: {what}"
        raise InvalidRequest(message, hint=HINT) from None


_STAGE: Mapping[str, Any] = {"reason": None, "log": None}
_WEIGHTS: Mapping[str, Any] = {"sha256": None, "hint": None, "imported": None}
_TEXTS = ("model", "backend", "runtime", "device", "precision", "engine", "status")
_TEXTS_OR_NONE = ("reason", "hint", "samples")


def _record(data: Mapping[str, Any], folder: Path) -> Record:
    fields = dict(data)
    texts = [data[key] for key in _TEXTS] + [data[key] or "" for key in _TEXTS_OR_NONE]
    texts += [data.get(key) or "" for key in ("energy_reason", "energy_hint")]
    if not all(isinstance(text, str) for text in texts):
        message = f"{', '.join(_TEXTS + _TEXTS_OR_NONE)}, energy_reason and energy_hint have to be text"
        raise TypeError(message)
    if data["status"] not in STATUSES:
        message = f"unknown status {data['status']!r}"
        raise ValueError(message)
    for key in ("throughput_per_s", "load_ms", "first_inference_ms", "peak_rss_mb"):
        fields[key] = _number(data[key])
    for key in ("artifacts", "versions", "metadata"):
        fields[key] = dict(data[key])
    fields["latency_ms"] = _numbers(Latency, data["latency_ms"])
    fields["correctness"] = _numbers(Correctness, data["correctness"])
    fields["energy"] = energy.read(data["energy"])
    fields["weights"] = {**_WEIGHTS, **data["weights"]} if data.get("weights") else None
    fields["breakdown_ms"] = _counts(data.get("breakdown_ms") or {}) or None
    fields["files"] = {key: str(path) for key, path in data.get("files", {}).items()}
    fields["compiled"] = tuple(_compiled(data["metadata"].get("made_by", {})))
    return Record(folder=folder, **fields)


def _compiled(made_by: Mapping[str, Any]) -> Iterator[Compiled]:
    """Yield what the stages that a record builds upon compiled."""
    known = {field.name for field in dataclasses.fields(Compiled)} - {"made_by", "other"}
    for stage, said in made_by.items():
        if not said.get("compiled"):
            continue
        facts = {key: value for key, value in said["compiled"].items() if value is not None}
        other = {key: facts.pop(key) for key in list(facts) if key not in known}
        for key in ("stages", "hw_stages", "shaves", "cmx_slices", "blob_bytes"):
            facts[key] = _number(facts.get(key))
        for key in ("stage_types", "memory_bytes"):
            facts[key] = _counts(facts.get(key, {}))
        if "unsupported_layers" in facts:
            facts["unsupported_layers"] = [
                f"{layer['node']} ({layer['operator']})" for layer in facts["unsupported_layers"]
            ]
        yield Compiled(made_by=stage, **facts, other=other)


def _counts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of finite numbers as it is."""
    found = {key: _number(value) for key, value in data.items()}
    if None in found.values():
        message = f"{found} has no number where one is due"
        raise ValueError(message)
    return found


def _numbers(kind: Any, data: Optional[Mapping[str, Any]]) -> Any:
    if data is None:
        return None
    return kind(**{key: _number(value) for key, value in data.items()})


def _number(value: Any) -> Any:
    """Return a finite number or None as it is."""
    if value is None or (isinstance(value, (int, float)) and math.isfinite(value)):
        return value
    message = f"{value!r} is not a number"
    raise ValueError(message)


def _no_constant(text: str) -> None:
    message = f"{text} is not a JSON number"
    raise ValueError(message)
