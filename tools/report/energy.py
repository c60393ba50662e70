"""The energy of a record, as results.json has it, checked; and the words for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

SIDES = ("before", "after")
PARTS = {  # of the uncertainty, as the energy tool names them -> for a reader
    "meter": "the meter",
    "sampling": "sampling",
    "window_edges": "edges of the windows",
    "alignment": "place of the windows",
    "baseline_drift": "idle power",
    "spread": "windows differ",
}


@dataclasses.dataclass(frozen=True)
class Energy:
    """Energy of one inference in mJ; `idle_w` before and after the windows; `budget_mj` by part, as PARTS.

    `channels_w` is the mean power of each of the meter's channels in the windows, in W; the energy is that of
    `channel`, which the others may be parts of. Empty where nothing is said of them.
    """

    gross_mj: float
    net_mj: float
    net_ci95_mj: tuple[float, float]
    idle_w: Mapping[str, Optional[float]]
    budget_mj: Mapping[str, float]
    channel: str
    channels_w: Mapping[str, float]
    aligned_by: str
    windows: int
    inferences: Optional[int]
    meter: Mapping[str, Any]
    simulated: bool
    scope: str
    warnings: Sequence[str]

    @property
    def meter_name(self) -> str:
        """The meter's own name, else that for `--meter`."""
        return str(self.meter.get("device") or self.meter["name"])

    @property
    def half_mj(self) -> float:
        """Half of the net energy's interval."""
        return (self.net_ci95_mj[1] - self.net_ci95_mj[0]) / 2

    @property
    def budget(self) -> list[tuple[str, float, float]]:
        """Return the parts that say something: name, standard uncertainty (mJ), and share of the variance."""
        total = sum(value**2 for value in self.budget_mj.values()) or 1.0
        rows = [(PARTS.get(key, key), value, value**2 / total) for key, value in self.budget_mj.items()]
        return sorted((row for row in rows if row[1]), key=lambda row: -row[1])

    @property
    def channels(self) -> list[tuple[str, float, float]]:
        """Return each channel's name, mean power (W), and that as a part of the largest; [] of a single one.

        The energy's own channel is the first, then the one with the most power.
        """
        if len(self.channels_w) < 2:
            return []
        largest = max(0.0, *self.channels_w.values()) or 1.0
        rows = [(key, value, max(0.0, value) / largest) for key, value in self.channels_w.items()]
        return sorted(rows, key=lambda row: (row[0] != self.channel, -row[1]))


def read(data: Optional[Mapping[str, Any]]) -> Optional[Energy]:
    """Return the energy in a record, None if it has none.

    Raises:
        KeyError, TypeError, ValueError: it is not as the schema wants it.
    """
    if data is None:
        return None
    low, high = map(_number, data["net_ci95_mj"])
    idle = {side: None if data["idle_w"][side] is None else _number(data["idle_w"][side]) for side in SIDES}
    return Energy(
        gross_mj=_number(data["gross_mj"]),
        net_mj=_number(data["net_mj"]),
        net_ci95_mj=(low, high),
        idle_w=idle,
        budget_mj={str(key): _number(value) for key, value in data.get("budget_mj", {}).items()},
        channel=str(data.get("channel") or ""),
        channels_w={str(key): _number(value) for key, value in data.get("channels_w", {}).items()},
        aligned_by=str(data["aligned_by"]),
        windows=int(data["windows"]),
        inferences=None if data.get("inferences") is None else int(data["inferences"]),
        meter={"name": str(data["meter"]["name"]), **data["meter"]},
        simulated=bool(data["simulated"]),
        scope=str(data.get("scope") or ""),
        warnings=[str(text) for text in data.get("warnings", ())],
    )


def _number(value: Any) -> float:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return value
    message = f"{value!r} is not a number"
    raise ValueError(message)
