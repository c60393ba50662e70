"""Where the windows are in the trace: by a marker, by a signature of load, by a clock; and how well.

In this order, the surest first. Windows with times of the trace's own need none of it. Whatever placed them,
`examine` then looks whether the load really is where they are.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Optional, Sequence

from tools.energy import levels, signatures
from tools.energy.baseline import Baseline
from tools.energy.refusals import Refused
from tools.trace import MARKER, Trace
from tools.windows import Window, Windows

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power

FOUND = "found"  # what places windows that nobody gave
RATE = 1e-3  # by which two clocks may differ: ten times what crystals do
DRIFT = 1e-4  # what crystals differ by at most: the uncertainty of a rate that was not measured
MARKER_ERROR = 1e-3  # of a window: so far may a marker be from where it should be
BLOCKS = 50  # in a window, to see where it is idle
IDLE = 0.1  # of a window: with more idle time at its ends it is not where the load is
SHIFT = 0.05  # of a window: with edges of the load further off than that it is not either
ABOVE = 3.0  # standard errors of the idle power, for a window to hold a load
HINT = (
    "Are these the windows of this trace, and is its time base right? Without them the load is found in it."
)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Windows on the trace's clock, by what, and their standard uncertainty in time.

    Attributes:
        signatures: intervals of load that were recognised, on the trace's clock.
        busy: times of other activity beside the windows, on the trace's clock.
        facts: for the document: offset and rate of the clocks.
    """

    windows: Sequence[Window]
    by: str
    error_s: float
    signatures: Sequence[Sequence[tuple[float, float]]] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    busy: Sequence[tuple[float, float]] = ()


@dataclasses.dataclass(frozen=True)
class Edges:
    """Which of a window's two edges are edges of the load, and how far off these are: load - window, s."""

    start_s: Optional[float]
    end_s: Optional[float]

    @property
    def found(self) -> list[float]:
        """Those that there are."""
        return [each for each in (self.start_s, self.end_s) if each is not None]


def place(trace: Trace, power: Power, given: Windows) -> Placement:
    """Return where the windows are in the trace.

    Raises:
        Refused: nothing tells it, or what does contradicts itself.
    """
    placed = _place(trace, power, given)
    offset_s, rate = placed.facts.get("offset_s", 0.0), placed.facts.get("rate", 1.0)
    busy = [(offset_s + rate * start_s, offset_s + rate * end_s) for start_s, end_s in given.busy]
    return dataclasses.replace(placed, busy=busy)


def _place(trace: Trace, power: Power, given: Windows) -> Placement:
    if given.host is None:
        return Placement(given.windows, "trace", power.step_s / 12**0.5)
    notes: dict[str, Any] = {}
    if MARKER in trace.columns:
        placed = _by_marker(trace, power, given)
        if placed:
            return placed
        notes["marker"] = "its bits do not show the windows"
    clock = trace.meta.clock
    same = clock is not None and clock.host == given.host
    expected = (-clock.monotonic_s, clock.error_s) if clock and same else None
    if given.signatures:
        match = signatures.find(power, given.signatures, expected)
        if abs(match.rate - 1) > RATE + 3 * match.rate_error:
            message = f"the meter's clock and the host's differ by {match.rate - 1:.2%}"
            raise Refused(message, hint="Its time base is wrong, or samples are missing: record it anew.")
        facts = {"offset_s": match.offset_s, "rate": match.rate, "correlation": match.correlation, **notes}
        windows = _moved(given.windows, match.offset_s, match.rate)
        moved = [[(match.at(on), match.at(off)) for on, off in one] for one in given.signatures]
        alone_s = given.windows[-1].end_s - given.windows[0].start_s if len(given.signatures) == 1 else 0.0
        error_s = float((match.error_s**2 + (DRIFT * alone_s) ** 2) ** 0.5)
        return Placement(windows, "signature", error_s, moved, facts)
    if clock and same:
        span_s = given.windows[-1].end_s - clock.monotonic_s
        drift_s = (clock.rate_error or 0.0) * span_s
        error_s = float((clock.error_s**2 + given.error_s**2 + drift_s**2) ** 0.5)
        windows = _moved(given.windows, -clock.monotonic_s, 1.0)
        facts = {"offset_s": -clock.monotonic_s, "rate": 1.0, **notes}
        return Placement(windows, "clock", error_s, (), facts)
    message = f"the windows are on the clock of {given.host}, and nothing tells where that is in the trace"
    raise Refused(message, hint="It takes a signature, a marker or a meter on that host's clock.")


def _moved(windows: Sequence[Window], offset_s: float, rate: float) -> list[Window]:
    return [
        Window(offset_s + rate * one.start_s, offset_s + rate * one.end_s, one.inferences) for one in windows
    ]


def _by_marker(trace: Trace, power: Power, given: Windows) -> Optional[Placement]:
    """Return the windows by the bit whose edges are at their starts and ends, None if none's are.

    A bit may be set for the time of a window, or a pulse may stand at each start and end (as in MLPerf Tiny
    and EEMBC's runner): then only its rising or only its falling edges count.
    """
    import numpy as np

    bounds = np.array([at for one in given.windows for at in (one.start_s, one.end_s)])
    shortest_s = min(one.end_s - one.start_s for one in given.windows)
    allowed_s = max(2 * power.step_s, MARKER_ERROR * shortest_s)
    best: Optional[tuple[float, float, float]] = None
    for times in _marks(trace):
        if len(times) != len(bounds):
            continue
        rate, offset_s = np.polyfit(bounds - bounds[0], times, 1)
        away = np.abs(offset_s + rate * (bounds - bounds[0]) - times).max()
        if away <= allowed_s and abs(rate - 1) <= RATE and (best is None or away < best[0]):
            best = float(away), float(rate), float(offset_s - rate * bounds[0])
    if best is None:
        return None
    away, rate, offset_s = best
    error_s = max(away, power.step_s / 12**0.5)
    windows = _moved(given.windows, offset_s, rate)
    return Placement(windows, "marker", error_s, (), {"offset_s": offset_s, "rate": rate})


def _marks(trace: Trace) -> list[np.ndarray]:
    """Return for each bit of the marker the times of all its edges, of its rising, of its falling ones."""
    import numpy as np

    marker = trace.columns[MARKER]
    found = []
    for bit in range(8):
        level = (marker >> bit) & 1
        change = np.flatnonzero(level[1:] != level[:-1])
        times = (trace.time_s[change] + trace.time_s[change + 1]) / 2
        rising = level[change + 1] == 1
        found += [times, times[rising], times[~rising]]
    return found


def examine(power: Power, placement: Placement, baseline: Baseline) -> list[Edges]:
    """Return which edges of the windows are edges of the load, after checking that the load is in them.

    Where other activity adjoins a window nothing tells the edge of the load from that.

    Raises:
        Refused: there is no load in a window, or it starts or ends elsewhere.
    """
    windows = placement.windows
    lifts = [_lift(power, window, baseline) for window in windows]
    found = []
    for number, (window, lift_w) in enumerate(zip(windows, lifts), 1):
        error_w = baseline.error_w((window.start_s + window.end_s) / 2)
        where = f"window {number}, from {window.start_s:.4g} to {window.end_s:.4g} s,"
        if not lift_w > max(ABOVE * error_w, 0.25 * max(lifts)):
            idle = f"the idle power, which is known to {error_w:.2g} W"
            message = f"{where} holds no load: its power is {lift_w:.3g} W above {idle}"
            raise Refused(message, hint=HINT)
        before_s = windows[number - 2].end_s if number > 1 else power.start_s
        after_s = windows[number].start_s if number < len(windows) else power.end_s
        for start_s, end_s in placement.busy:
            if end_s <= window.start_s:
                before_s = max(before_s, end_s)
            elif start_s >= window.end_s:
                after_s = min(after_s, start_s)
        edges = _edges(power, window, baseline, lift_w, (before_s, after_s), where)
        found.append(edges)
    away = [shift for edges in found for shift in edges.found]
    shortest_s = min(window.end_s - window.start_s for window in windows)
    worst = max(away, key=abs, default=0.0)
    if abs(worst) > max(SHIFT * shortest_s, 2 * power.resolution_s):
        message = f"the load starts or ends {abs(worst):.3g} s off the windows"
        raise Refused(message, hint=HINT)
    return found


def _lift(power: Power, window: Window, baseline: Baseline) -> float:
    """Return a window's power above idle, the median of its parts."""
    import numpy as np

    time_s, mean_w = power.blocks(window.start_s, window.end_s, _count(power, window))
    return float(np.nanmedian(mean_w - baseline.level_w(time_s))) if np.isfinite(mean_w).any() else 0.0


def _count(power: Power, window: Window) -> int:
    return int(min(max((window.end_s - window.start_s) / (2 * power.resolution_s), 4), BLOCKS))


def _edges(
    power: Power,
    window: Window,
    baseline: Baseline,
    lift_w: float,
    free: tuple[float, float],
    where: str,
) -> Edges:
    """Return a window's edges; `free` is the time up to the windows beside it.

    Raises:
        Refused: it is idle at its ends.
    """
    count = _count(power, window)
    length_s = window.end_s - window.start_s
    block_s = length_s / count

    def loaded(start_s: float, end_s: float, blocks: int) -> np.ndarray:
        time_s, mean_w = power.blocks(start_s, end_s, blocks)
        return levels.filled(mean_w) - baseline.level_w(time_s) >= 0.5 * lift_w

    def edge(bound_s: float, sign: int, idle: int, room_s: float) -> Optional[float]:
        """Look for the load's edge near a bound, outwards in the direction `sign`."""
        beyond = 0
        if not idle:
            reach = int(min(room_s, length_s / 2) / block_s)
            low_s, high_s = sorted((bound_s, bound_s + sign * reach * block_s))
            beyond = _run(loaded(low_s, high_s, reach)[::sign]) if reach else 0
            if beyond == reach or beyond > IDLE * count:
                return None  # the load goes on: this is no edge of it
        return levels.edge(power, bound_s + sign * (beyond - idle) * block_s, 2 * block_s) - bound_s

    inside = loaded(window.start_s, window.end_s, count)
    lead, trail = _run(~inside), _run(~inside[::-1])
    if lead + trail > max(IDLE * count, 1):
        message = f"{where} is idle for {(lead + trail) * block_s:.3g} s at its ends"
        raise Refused(message, hint=HINT)
    return Edges(
        edge(window.start_s, -1, lead, window.start_s - free[0]),
        edge(window.end_s, 1, trail, free[1] - window.end_s),
    )


def _run(marked: np.ndarray) -> int:
    """Return how many are marked at the beginning."""
    import numpy as np

    return len(marked) if marked.all() else int(np.argmin(marked))
