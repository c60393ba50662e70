"""Energy per inference of a trace: windows placed or found, integrated, compared; a number or a refusal."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional, Sequence

from tools.energy import alignment, baseline, budget, cells, find_load, levels, timebase, uncertainty
from tools.energy.alignment import Edges, Placement
from tools.energy.baseline import Baseline
from tools.energy.budget import Part
from tools.energy.cells import Cells
from tools.energy.integral import Power
from tools.energy.refusals import Refused
from tools.stage import InvalidRequest
from tools.trace import Trace
from tools.windows import Window, Windows

if TYPE_CHECKING:
    import numpy as np

WINDOWS = 5  # at least: MLPerf Tiny's power rules take the median of exactly five
LOST = 1e-3  # of the windows: EEMBC's runner fails a measurement that dropped more (emon-drop-thresh-pct)
WIDEST = 0.5  # of the net energy: an interval that is wider on each side says nothing
STATIONARY = 0.1  # by which parts of one window may differ from their mean, to count as windows
VARIES = 0.05  # by which they may without a warning
PAUSE, PAUSES = 0.25, 0.05  # of the load's power, below which it rests; of its time, without a warning
PAD_S, PADS = 0.05, 7.0  # beside a load that was found: seconds, and standard uncertainties of its edges
WARM_UP = 0.5  # of the load's power: what is beside it and higher is the load itself, outside its windows
GUARD_S, GUARD = 0.25, 0.02  # beside load: seconds, and share of it, that are no idle power yet
AVERAGES = 5.0  # times of averaging that a window takes at least
HINT = "Measure longer: five windows of 10 s or more, with as much idle time before and after."


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What was found; all energies in J for all inferences together."""

    power: Power
    placement: Placement
    baseline: Baseline
    cells: Cells
    gross_j: np.ndarray
    net_j: np.ndarray
    parts: Sequence[Part]
    idle: Sequence[tuple[float, float]]
    warnings: Sequence[str]
    lost_s: float

    @property
    def inferences(self) -> float:
        """All of them."""
        return float(self.cells.count.sum())

    def interval_mj(self, kind: str) -> list[float]:
        """Return the 95 % interval of the energy per inference, kind `gross` or `net`."""
        total = float((self.gross_j if kind == "gross" else self.net_j).sum())
        found = budget.interval(total, [(getattr(part, kind), part.freedom) for part in self.parts])
        return [each * 1e3 / self.inferences for each in found]


def of_power(trace: Trace, power: Power, given: Optional[Windows], inferences: int) -> Estimate:
    """Return the energy of the inferences in a trace; without windows the load is found in it.

    Raises:
        Refused: the trace cannot carry it.
    """
    placement, busy, beside_w = _placed(trace, power, given, inferences)
    span = placement.windows[0].start_s, placement.windows[-1].end_s
    before, after = _idle(power, busy, span)
    line = baseline.of_spans(power, before, after)
    edges = alignment.examine(power, placement, line) if given is not None else []
    made = _cells(power, placement, edges)
    gross, net = cells.energies(power, line, made)
    lost_s = _check_lost(trace, power, made)
    warnings = [*_about(trace, power), *_steady(given, placement, made, net)]
    if given is None:
        warnings += _pauses(power, line, span, float(net.sum() / made.seconds.sum()))
    beside_w = max(beside_w, line.before.beside_w, line.after.beside_w)
    if beside_w >= WARM_UP * float(net.sum() / made.seconds.sum()):
        beside_w = 0.0
    elif beside_w:
        warnings.append(f"{beside_w:.3g} W of other work right beside the load may have gone on under it")
    parts = uncertainty.parts(trace, power, line, made, placement, edges, beside_w)
    found = Estimate(power, placement, line, made, gross, net, parts, [*before, *after], warnings, lost_s)
    _check_width(found)
    return found


def _placed(
    trace: Trace, power: Power, given: Optional[Windows], inferences: int
) -> tuple[Placement, list[tuple[float, float]], float]:
    """Return the windows, all times of activity, and the power of other work beside the load."""
    if given is None:
        load = find_load.find(power)
        window = Window(load.start_s, load.end_s, inferences)
        busy = [(load.start_s, load.end_s), *load.others]
        return Placement([window], alignment.FOUND, load.blur_s / 3**0.5), busy, load.beside_w
    placement = alignment.place(trace, power, given)
    _inside(power, placement)
    busy = [(one.start_s, one.end_s) for one in placement.windows]
    busy += [*((one[0][0], one[-1][1]) for one in placement.signatures), *placement.busy]
    return placement, busy, 0.0


def check_count(given: Optional[Windows], inferences: int) -> None:
    """Raise InvalidRequest if the number of inferences is none, or not that of the windows."""
    if given is None:
        if inferences < 1:
            message = f"the number of inferences is {inferences}"
            raise InvalidRequest(message, hint="Say how many ran: --inferences 1000")
        return
    total = sum(one.inferences for one in given.windows)
    if inferences and inferences != total:
        message = f"the windows hold {total} inferences, and {inferences} were given"
        raise InvalidRequest(message, hint="Leave --inferences out: the windows say it.")


def _about(trace: Trace, power: Power) -> list[str]:
    """Return what is to be known of a trace before its energy is believed."""
    meta = trace.meta
    found = []
    if not meta.complete:
        found.append(f"the recording ended early: {meta.note or 'nobody says why'}")
    if meta.meter == timebase.TABLE and abs(power.step_s * timebase.MONSOON_HZ - 1) > timebase.RATE:
        rate = f"{1 / power.step_s:.5g} samples a second"
        found.append(f"the table does not say its meter's rate: by a wrong time base of {rate} all is wrong")
    return found


def _inside(power: Power, placement: Placement) -> None:
    for number, one in enumerate(placement.windows, 1):
        if one.start_s < power.start_s - power.step_s or one.end_s > power.end_s + power.step_s:
            message = (
                f"window {number}, from {one.start_s:.6g} to {one.end_s:.6g} s, is outside the trace, "
                f"which is from {power.start_s:.6g} to {power.end_s:.6g} s"
            )
            raise Refused(message, hint="Are these the windows of this trace?")


def _idle(
    power: Power, busy: Sequence[tuple[float, float]], span: tuple[float, float]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return the idle times before and after the windows: what is beside all activity, with a guard."""
    guard_s = max(GUARD_S, min(GUARD * (span[1] - span[0]), 2.0), 2 * power.resolution_s)
    sides = []
    for low_s, high_s in ((power.start_s, span[0]), (span[1], power.end_s)):
        at_s, free = low_s, []
        walls = sorted((a, b) for a, b in busy if b > low_s - 1e-9 and a < high_s + 1e-9)
        for start_s, end_s in walls:
            free.append((at_s, start_s - guard_s))
            at_s = max(at_s, end_s + guard_s)
        free.append((at_s, high_s))
        sides.append([(a, min(b, high_s)) for a, b in free if min(b, high_s) - a > 0])
    return sides[0], sides[1]


def _cells(power: Power, placement: Placement, edges: Sequence[Edges]) -> Cells:
    """Return the windows as cells, cut into parts if there are fewer than five.

    A window's edge gets a pad where the meter smears it and there is idle time beside it to be smeared into.
    """
    windows = placement.windows
    parts = -(-WINDOWS // len(windows)) if len(windows) < WINDOWS else 1
    pad_s = max(PADS * placement.error_s, power.average_s, PAD_S) if placement.by == alignment.FOUND else 0.0
    pads = [(pad_s, pad_s)] * len(windows)
    smear_s = 1.5 * power.average_s
    if edges and smear_s:
        pads = []
        for index, (window, edge) in enumerate(zip(windows, edges)):
            before_s = windows[index - 1].end_s if index else power.start_s
            after_s = windows[index + 1].start_s if index + 1 < len(windows) else power.end_s
            pads.append(
                (
                    smear_s if edge.start_s is not None and window.start_s - before_s >= 2 * smear_s else 0.0,
                    smear_s if edge.end_s is not None and after_s - window.end_s >= 2 * smear_s else 0.0,
                )
            )
    shortest_s = min(one.end_s - one.start_s for one in windows)
    if shortest_s < AVERAGES * power.resolution_s:
        wide = f"{power.resolution_s:.3g} s"
        message = f"a window of {shortest_s:.3g} s is too short for a meter whose readings are {wide} wide"
        raise Refused(message, hint=HINT)
    return cells.of([(one.start_s, one.end_s, one.inferences) for one in windows], pads, parts)


def _steady(given: Optional[Windows], placement: Placement, made: Cells, net: np.ndarray) -> list[str]:
    """Return a warning if windows differ; refuse parts that cannot stand for windows."""
    each = net / made.count
    mean = float(net.sum() / made.count.sum())
    worst = float(abs(each - mean).max() / abs(mean)) if mean else 0.0
    number = len(placement.windows)
    if given is not None and number < WINDOWS and worst > STATIONARY:
        message = f"{number} windows are fewer than {WINDOWS}, and the power inside changes by {worst:.0%}"
        raise Refused(message, hint=f"Measure {WINDOWS} windows or more.")
    if worst > VARIES:
        what = "parts of the load" if len(each) > number else "windows"
        return [f"the {what} differ by up to {worst:.0%} from their mean: throttling, or other work beside"]
    return []


def _pauses(power: Power, line: Baseline, span: tuple[float, float], lift_w: float) -> list[str]:
    """Return a warning if a load that was found rests in between: gross energy holds these times too."""
    import numpy as np

    count = int((span[1] - span[0]) / max(levels.BLOCK_S, power.step_s)) or 1
    at_s, mean_w = power.blocks(span[0], span[1], count)
    share = float(np.mean(mean_w - line.level_w(at_s) < PAUSE * lift_w))
    if share <= PAUSES:
        return []
    return [f"for {share:.0%} of its time the load rests; gross energy has the idle power of these times"]


def _check_lost(trace: Trace, power: Power, made: Cells) -> float:
    """Return the time in the windows, and in their pads, of which nothing is known.

    Raises:
        Refused: it is too much of them.
    """
    lost_s = float(cells.lost(power, made).sum())
    seconds = float((made.seconds + made.pad_a_s + made.pad_b_s).sum())
    undated_s = uncertainty.undated(trace, power) * power.step_s
    for missing_s, what in ((lost_s, "in the windows"), (undated_s, "without saying where")):
        if missing_s > max(LOST * seconds, 2.5 * power.step_s):
            share = f"{missing_s / seconds:.2%}, the limit is {LOST:.1%}"
            message = f"{missing_s:.3g} s of {seconds:.4g} s are lost {what}: {share}"
            raise Refused(message, hint="Record it anew, with the computer doing less meanwhile.")
    return lost_s


def _check_width(found: Estimate) -> None:
    low, high = found.interval_mj("net")
    middle = (low + high) / 2
    half = (high - low) / 2
    if middle <= 0 or half > WIDEST * middle:
        share = "it is not above the idle power" if middle <= 0 else f"its interval is +-{half / middle:.0%}"
        worst = max(found.parts, key=lambda part: part.net)
        message = f"the net energy cannot be told: {share}, mostly by {worst.name}"
        raise Refused(message, hint=HINT)
