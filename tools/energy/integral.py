"""Energy of a channel between two times, whatever the meter gives: V and I, power, or a counter.

Everything else asks this module: it knows the energy up to any time, in which times nothing is known, and
within what time a change of power cannot be placed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

from tools.energy import timebase
from tools.energy.refusals import Refused
from tools.stage import InvalidRequest
from tools.trace import Channel, Trace

if TYPE_CHECKING:
    import numpy as np

# Taken in this order where nobody says which: what the whole device draws comes before its parts. Names of
# rails are those of the boards (NVIDIA's Jetson developer kits), of RAPL's zones, and of this project.
DEFAULTS = (
    "main",
    "total",
    "VDD_IN",
    "POM_5V_IN",
    "VIN_SYS_5V0",
    "psys",
    "package-0",
    "gpu",
    "gpu-0",
    "battery",
)


@dataclasses.dataclass(frozen=True)
class Power:
    """A channel's energy over time.

    Attributes:
        time_s: [n] times at which its energy is known, rising.
        energy_j: [n] energy from the first of them to each; gaps add nothing.
        power_w: [n] power at these times; None of a counter, which has only a mean between two of them.
        gap_after: [n - 1] whether nothing is known between a time and the next.
        lost_s: [n] time in gaps up to each time.
        step_s: median time between two readings.
        resolution_s: within which a change of power cannot be placed: a step, or what a reading averages.
        average_s: what a reading averages, 0 for none.
        step_j: of a counter.
    """

    channel: str
    facts: Channel
    time_s: np.ndarray
    energy_j: np.ndarray
    power_w: Optional[np.ndarray]
    gap_after: np.ndarray
    lost_s: np.ndarray
    step_s: float
    resolution_s: float
    average_s: float = 0.0
    step_j: float = 0.0

    @property
    def start_s(self) -> float:
        """The first time at which anything is known."""
        return float(self.time_s[0])

    @property
    def end_s(self) -> float:
        """The last one."""
        return float(self.time_s[-1])

    def until(self, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return energy (J) and lost time (s) up to times inside the trace, both of the shape of `at_s`.

        Between two readings power is a straight line, so energy is a parabola: the trapezoidal rule with
        interpolated edges. A counter's energy is a straight line between two of its values.
        """
        import numpy as np

        at_s = np.clip(np.asarray(at_s, dtype=np.float64), self.start_s, self.end_s)
        index = np.clip(np.searchsorted(self.time_s, at_s, side="right") - 1, 0, len(self.time_s) - 2)
        since = at_s - self.time_s[index]
        step = self.time_s[index + 1] - self.time_s[index]
        if self.power_w is None:
            inside = (self.energy_j[index + 1] - self.energy_j[index]) * since / step
        else:
            slope = (self.power_w[index + 1] - self.power_w[index]) / step
            inside = since * (self.power_w[index] + slope * since / 2)
        gap = self.gap_after[index]
        energy = self.energy_j[index] + np.where(gap, 0.0, inside)
        return energy, self.lost_s[index] + np.where(gap, since, 0.0)

    def known(self, start_s: np.ndarray, end_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean power (W; NaN where nothing is known) and lost time (s) between times."""
        import numpy as np

        energy_a, lost_a = self.until(start_s)
        energy_b, lost_b = self.until(end_s)
        lost = lost_b - lost_a
        known = np.asarray(end_s) - np.asarray(start_s) - lost
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(known > 1e-9, (energy_b - energy_a) / known, np.nan), lost

    def blocks(self, start_s: float, end_s: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the middles (s) and mean powers (W) of `count` equal blocks; NaN where nothing is known."""
        import numpy as np

        edges = np.linspace(start_s, end_s, count + 1)
        mean, _ = self.known(edges[:-1], edges[1:])
        return (edges[:-1] + edges[1:]) / 2, mean


def of_channel(trace: Trace, channel: str) -> Power:
    """Return the energy of a trace's channel.

    Raises:
        InvalidRequest: the channel has no power, or its counter falls.
        Refused: its samples are not those of one steady time base, or there are too few of them.
    """
    import numpy as np

    counter = trace.column(channel, "j")
    values = counter if counter is not None else trace.power_w(channel)
    steps = timebase.examine(trace)
    good = np.isfinite(values)
    whole = bool(good.all())
    time_s, values = (trace.time_s, values) if whole else (trace.time_s[good], values[good])
    if len(time_s) < 2:
        message = f"the channel {channel} has no two readings"
        raise Refused(message, hint="Record it anew.")
    gap_after = np.diff(time_s) > steps.limit_s
    if not whole:
        gap_after |= np.diff(np.flatnonzero(good)) > 1
    facts = trace.meta.channels.get(channel, Channel())
    if counter is not None:
        return _of_counter(channel, facts, time_s, values, gap_after, steps.median_s)
    return _of_samples(channel, facts, time_s, values, gap_after, steps.median_s)


def _of_samples(
    channel: str,
    facts: Channel,
    time_s: np.ndarray,
    power_w: np.ndarray,
    gap_after: np.ndarray,
    step_s: float,
) -> Power:
    """A reading that is a mean over the time before it stands for the middle of that time."""
    import numpy as np

    length = np.diff(time_s)
    mean = (power_w[1:] + power_w[:-1]) / 2
    mean *= length
    mean[gap_after] = 0.0
    energy = np.empty(len(time_s))
    energy[0] = 0.0
    np.cumsum(mean, out=energy[1:])
    return Power(
        channel=channel,
        facts=facts,
        time_s=time_s - facts.average_s / 2 if facts.average_s else time_s,
        energy_j=energy,
        power_w=power_w,
        gap_after=gap_after,
        lost_s=_lost(length, gap_after),
        step_s=step_s,
        resolution_s=max(step_s, facts.average_s),
        average_s=facts.average_s,
    )


def _of_counter(
    channel: str,
    facts: Channel,
    time_s: np.ndarray,
    count_j: np.ndarray,
    gap_after: np.ndarray,
    step_s: float,
) -> Power:
    """A counter tells at any reading all that flowed before it, so a missed reading loses no energy.

    One that is read more often than it counts is taken where it changes, in the middle between the reading
    that saw the change and the one before.
    """
    import numpy as np

    rise = np.diff(count_j)
    if (rise < 0).any():
        at_s = float(time_s[1:][rise < 0][0])
        message = f"the energy counter of {channel} falls at {at_s:g} s"
        raise InvalidRequest(message, hint="It was reset or it ran over: record it anew.")
    changed = np.flatnonzero(rise > 0)
    if len(changed) < 2:
        message = f"the energy counter of {channel} does not count"
        raise Refused(message, hint="Does this channel measure at all?")
    step_j = facts.step_j
    if len(changed) < 0.9 * len(rise):
        step_j = step_j or float(np.median(rise[changed]))
        time_s, count_j = (time_s[changed] + time_s[changed + 1]) / 2, count_j[changed + 1]
    interval = float(np.median(np.diff(time_s)))
    return Power(
        channel=channel,
        facts=facts,
        time_s=time_s,
        energy_j=count_j - count_j[0],
        power_w=None,
        gap_after=np.zeros(len(time_s) - 1, dtype=bool),
        lost_s=np.zeros(len(time_s)),
        step_s=step_s,
        resolution_s=interval,
        step_j=step_j,
    )


def _lost(length: np.ndarray, gap_after: np.ndarray) -> np.ndarray:
    import numpy as np

    lost = np.zeros(len(length) + 1)
    if gap_after.any():
        np.cumsum(np.where(gap_after, length, 0.0), out=lost[1:])
    return lost


def choose(trace: Trace, wanted: str) -> str:
    """Return the channel to take the power of: the one that is wanted, else the whole device's.

    Raises:
        InvalidRequest: it is not there, or there are several and none is the whole device's.
    """
    able = [name for name in trace.channels if _has_power(trace, name)]
    listed = ", ".join(able) or "none"
    if wanted:
        if wanted not in trace.channels:
            message = f"the trace has no channel {wanted!r}"
            raise InvalidRequest(message, hint=f"Its channels with a power: {listed}.")
        if wanted not in able:
            message = f"the channel {wanted} has no power: it takes both current and voltage"
            raise InvalidRequest(message, hint=f"Its channels with a power: {listed}.")
        return wanted
    if len(able) == 1:
        return able[0]
    for name in DEFAULTS:
        if name in able:
            return name
    if not able:
        message = "the trace has no channel with a power"
        raise InvalidRequest(message, hint="It takes both current and voltage.")
    message = f"the trace has several channels: {listed}"
    raise InvalidRequest(message, hint=f"Choose one: --channel {able[0]}")


def _has_power(trace: Trace, name: str) -> bool:
    units = {unit for unit in "avwj" if trace.column(name, unit) is not None}
    return bool(units & {"w", "j"}) or {"a", "v"} <= units
