"""Energies of the windows, or of parts of them: gross and net, with what was lost, and how they differ."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Sequence

from tools.energy.baseline import Baseline

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power


@dataclasses.dataclass(frozen=True)
class Cells:
    """Times in which inferences ran, all [k]: windows, or equal parts of one.

    Attributes:
        count: inferences in each; of a part, its share of the window's.
        pad_a_s, pad_b_s: times of idle before and after that are integrated too, because the meter or the
            load's own edges smear its energy over them.
    """

    start_s: np.ndarray
    end_s: np.ndarray
    count: np.ndarray
    pad_a_s: np.ndarray
    pad_b_s: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """How long each is."""
        return self.end_s - self.start_s

    @property
    def middle_s(self) -> float:
        """The middle of all of them by time, where their common idle power is that of a straight line."""
        import numpy as np

        return float(np.average((self.start_s + self.end_s) / 2, weights=self.seconds))


def of(
    bounds: Sequence[tuple[float, float, float]], pads: Sequence[tuple[float, float]], parts: int
) -> Cells:
    """Return cells of windows (start, end, inferences), each cut in `parts` of equal length."""
    import numpy as np

    rows = []
    for (start_s, end_s, count), (pad_a_s, pad_b_s) in zip(bounds, pads):
        edges = np.linspace(start_s, end_s, parts + 1)
        for index in range(parts):
            outer = (pad_a_s if index == 0 else 0.0, pad_b_s if index == parts - 1 else 0.0)
            rows.append((edges[index], edges[index + 1], count / parts, *outer))
    return Cells(*np.array(rows, dtype=np.float64).T)


def energies(
    power: Power, baseline: Baseline, cells: Cells, shift_s: float = 0.0, more_s: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return gross and net energy, J, of each cell, `shift_s` later, its pads wider by `more_s`.

    Lost time counts with the mean power of the rest. Net is what is above the idle power, in the cell and its
    pads; gross is net and the idle energy of the cell itself.
    """
    import numpy as np

    start_s = cells.start_s + shift_s - cells.pad_a_s - np.where(cells.pad_a_s > 0, more_s, 0.0)
    end_s = cells.end_s + shift_s + cells.pad_b_s + np.where(cells.pad_b_s > 0, more_s, 0.0)
    mean_w, _ = power.known(start_s, end_s)
    net = (mean_w - baseline.level_w((start_s + end_s) / 2)) * (end_s - start_s)
    idle_w = baseline.level_w((cells.start_s + cells.end_s) / 2 + shift_s)
    return net + idle_w * cells.seconds, net


def lost(power: Power, cells: Cells) -> np.ndarray:
    """Return the time in each cell and its pads of which nothing is known, s."""
    return power.known(cells.start_s - cells.pad_a_s, cells.end_s + cells.pad_b_s)[1]


def swing_w(power: Power, cells: Cells) -> float:
    """Return by how much the power varies inside the cells: the 5th to the 95th percentile of blocks."""
    import numpy as np

    means = [
        power.blocks(start_s, end_s, int(min(max((end_s - start_s) / (2 * power.step_s), 2), 200)))[1]
        for start_s, end_s in zip(cells.start_s, cells.end_s)
    ]
    low, high = np.nanpercentile(np.concatenate(means), (5, 95))
    return float(high - low)


def edge_steps_w(power: Power, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return how much the power changes across each start and each end."""
    import numpy as np

    wide_s = np.minimum(max(2 * power.resolution_s, 0.02), cells.seconds / 2)
    steps = []
    for at_s in (cells.start_s, cells.end_s):
        before, _ = power.known(np.maximum(at_s - wide_s, power.start_s), at_s)
        after, _ = power.known(at_s, np.minimum(at_s + wide_s, power.end_s))
        steps.append(np.nan_to_num(np.abs(after - before)))
    return steps[0], steps[1]


def sampling_j(power: Power, cells: Cells) -> float:
    """Return the standard uncertainty of the energy of all cells by there being no more samples, J.

    Half the difference between what the even and what the odd samples alone would give: for noise it is what
    the sum of all leaves open. A counter has none of it but its step: the reading is late by up to one step
    at both ends, whose difference is a triangular distribution (JCGM 100:2008, 4.3.9).
    """
    import numpy as np

    if power.power_w is None:
        return float(power.step_j * (len(cells.start_s) / 6) ** 0.5)
    total = 0.0
    bounds = np.searchsorted(power.time_s, [cells.start_s, cells.end_s]).T
    for low, high in bounds:
        inside = power.power_w[low : low + (high - low) // 2 * 2]
        if len(inside):
            seconds = power.step_s * len(inside)
            total += (float(inside[::2].mean() - inside[1::2].mean()) * seconds / 2) ** 2
    return float(total**0.5)
