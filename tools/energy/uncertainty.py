"""What an energy is uncertain by, part by part; docs/energy.md lists them for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from tools.energy import alignment, cells
from tools.energy.alignment import Edges, Placement
from tools.energy.baseline import Baseline
from tools.energy.budget import Part
from tools.energy.cells import Cells
from tools.energy.integral import Power
from tools.trace import Trace

if TYPE_CHECKING:
    import numpy as np


def parts(
    trace: Trace,
    power: Power,
    line: Baseline,
    made: Cells,
    placement: Placement,
    edges: Sequence[Edges],
    beside_w: float,
) -> list[Part]:
    """Return the uncertainty budget: standard uncertainties, in J, of the sums over all cells.

    `beside_w` is the power of other work beside the load, which may have gone on under it or not.
    """
    gross, net = cells.energies(power, line, made)
    smear = _smear(power, made)
    sampling = _sampling(trace, power, made)
    middle_s = made.middle_s
    seconds = float((made.seconds + made.pad_a_s + made.pad_b_s).sum())
    idle = float((line.error_w(middle_s) ** 2 + beside_w**2 / 3) ** 0.5) * seconds
    freedom = len(made.count) - 1.0
    return [
        Part("meter", *_meter(power, float(gross.sum()), float(net.sum()), float(made.seconds.sum()))),
        Part("sampling", sampling, sampling, freedom + 1),
        Part("window_edges", smear, smear),
        Part("alignment", *_shift(power, line, made, placement, edges)),
        Part("baseline_drift", 0.0, idle, line.freedom(middle_s)),
        Part("spread", _spread(gross, made.count), _spread(net, made.count), freedom),
    ]


def _meter(power: Power, gross_j: float, net_j: float, seconds: float) -> tuple[float, float]:
    """Return what the meter's own error leaves open: a gain of both, an offset of gross only.

    The same offset is in the idle power, so it is not in what is left when that is subtracted.
    """
    gain, offset_w = power.facts.gain_error or 0.0, power.facts.offset_error_w
    return float(((gain * gross_j) ** 2 + (offset_w * seconds) ** 2) ** 0.5), gain * abs(net_j)


def _sampling(trace: Trace, power: Power, made: Cells) -> float:
    """Return what there being no more samples, and lost ones, leave open; power in a gap is rectangular."""
    missing_s = float(cells.lost(power, made).sum()) + undated(trace, power) * power.step_s
    missing_j = missing_s * cells.swing_w(power, made) / 12**0.5 if missing_s else 0.0
    return float((cells.sampling_j(power, made) ** 2 + missing_j**2) ** 0.5)


def undated(trace: Trace, power: Power) -> float:
    """Return how many samples are lost without a gap to show for it, as the meter says or by its count."""
    import numpy as np

    if not trace.meta.rate_hz or power.power_w is None:
        return trace.meta.undated
    gaps_s = np.diff(power.time_s)[power.gap_after]
    shown = float((np.rint(gaps_s / power.step_s) - 1).sum())
    return max(trace.meta.undated, trace.meta.dropped - shown)


def _spread(energy: np.ndarray, count: np.ndarray) -> float:
    """Return the standard error of a sum of energies by how much windows differ.

    That of a ratio, energy to inferences: W. G. Cochran, Sampling Techniques (1977), 2.11.
    """
    ratio = energy.sum() / count.sum()
    number = len(count)
    rest = energy - ratio * count
    return float((number / (number - 1) * (rest**2).sum()) ** 0.5)


def _smear(power: Power, made: Cells) -> float:
    """Return what the windows' edges leave open, because a reading is not of a moment.

    Between two readings a change is anywhere: rectangular. A meter that averages over T moves T / 8 of a step
    out of the window at each edge, always out, so these add up; where a pad brings it back nothing is lost.
    """
    import numpy as np

    starts, ends = cells.edge_steps_w(power, made)
    if power.average_s:
        bare = starts * (made.pad_a_s == 0) + ends * (made.pad_b_s == 0)
        return float(bare.sum() * power.average_s / 8)
    return float(np.sqrt((starts**2).sum() + (ends**2).sum()) * power.resolution_s / 12**0.5)


def _shift(
    power: Power,
    line: Baseline,
    made: Cells,
    placement: Placement,
    edges: Sequence[Edges],
) -> tuple[float, float]:
    """Return what the windows' place leaves open of gross and net energy.

    By the energies of all windows moved by -1.7, 0 and 1.7 standard uncertainties: the rule of Gauss and
    Hermite for three points; at least by what changes where they are moved to the load's own edges, because
    windows with short rests lose as much on either side. The load that was found has pads instead: net by
    what wider ones change, gross also by the idle energy of the time by which its two edges are unsure.
    """
    import numpy as np

    if placement.by == alignment.FOUND:
        _, net = cells.energies(power, line, made)
        _, wide = cells.energies(power, line, made, more_s=float(made.pad_a_s.max()))
        change = abs(float(wide.sum() - net.sum())) / 3**0.5
        idle = float(line.level_w(np.array(made.middle_s))) * placement.error_s * 2**0.5
        return float(np.hypot(change, idle)), change
    away = [each for edge in edges for each in edge.found]
    error_s = max(placement.error_s, float(np.sqrt(np.mean(np.square(away)))) if away else 0.0)
    wide_s, edge_s = 3**0.5 * error_s, float(np.mean(away)) if away else 0.0
    at = [cells.energies(power, line, made, shift_s=shift_s) for shift_s in (0.0, -wide_s, wide_s, edge_s)]
    moved = []
    for kind in (0, 1):
        here, early, late, edge = (float(each[kind].sum()) for each in at)
        moved.append(max((((early - here) ** 2 + (late - here) ** 2) / 6) ** 0.5, abs(edge - here)))
    return moved[0], moved[1]
