"""A trace as a few stretches of about one level each, and where exactly the level changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power

SHORTEST = 2  # blocks in a stretch
SIGNIFICANT = 7.0  # standard errors by which two stretches differ; chance alone gives about 4 in 6000 blocks
BLOCK_S = 0.02  # a whole period of the mains, and of twice their frequency
RAMP = 0.15  # of a step, from its levels, where its ramp ends
MAD = 1.4826  # from the median absolute deviation to the standard deviation of a normal distribution


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A time in which the power is about `level_w`."""

    start_s: float
    end_s: float
    level_w: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s


def stretches(time_s: np.ndarray, power_w: np.ndarray, most: int) -> list[Stretch]:
    """Cut equal blocks, [n] middles and mean powers, where the level changes; into `most` at most.

    Binary segmentation by the CUSUM statistic: E. S. Page, Continuous inspection schemes, Biometrika 41
    (1954); L. Y. Vostrikova, Detecting "disorder" in multidimensional random processes (1981).
    """
    import numpy as np

    noise = MAD * float(np.median(np.abs(np.diff(power_w)))) / 2**0.5
    noise = max(noise, 1e-4 * float(np.ptp(power_w)), 1e-12)
    total = np.concatenate([[0.0], np.cumsum(power_w)])
    cuts, todo = [0, len(power_w)], [(0, len(power_w))]
    while todo and len(cuts) <= most:
        low, high = todo.pop(0)
        if high - low < 2 * SHORTEST:
            continue
        cut, size = max((_best_cut(total, low, high), _local_cut(total, low, high)), key=lambda one: one[1])
        if size > SIGNIFICANT * noise:
            cuts.append(cut)
            todo += [(low, cut), (cut, high)]
    cuts.sort()
    half = float(time_s[1] - time_s[0]) / 2
    return [
        Stretch(time_s[low] - half, time_s[high - 1] + half, float(np.median(power_w[low:high])))
        for low, high in zip(cuts, cuts[1:])
    ]


def _best_cut(total: np.ndarray, low: int, high: int) -> tuple[int, float]:
    """Return where two levels fit blocks low..high best, and the difference in units of one block's noise."""
    import numpy as np

    cut = np.arange(low + SHORTEST, high - SHORTEST + 1)
    left, right = cut - low, high - cut
    means = (total[cut] - total[low]) / left - (total[high] - total[cut]) / right
    size = np.abs(means) * np.sqrt(left * right / (left + right))
    best = int(np.argmax(size))
    return int(cut[best]), float(size[best])


def _local_cut(total: np.ndarray, low: int, high: int) -> tuple[int, float]:
    """Return the same of steps between neighbours of 2, 4, 8, ... blocks, as a short box in a long time has.

    After seeded binary segmentation: S. Kovacs and others, Biometrika 110 (2023).
    """
    import numpy as np

    best = low + SHORTEST, 0.0
    wide = SHORTEST
    while 4 * wide <= high - low:
        cut = np.arange(low + wide, high - wide + 1)
        sums = 2 * total[cut] - total[cut - wide] - total[cut + wide]
        at = int(np.argmax(np.abs(sums)))
        size = abs(float(sums[at])) / (2 * wide) ** 0.5
        if size > best[1]:
            best = int(cut[at]), size
        wide *= 2
    return best


def edge(power: Power, near_s: float, within_s: float) -> float:
    """Return when the power changes most within `within_s` of a time, as well as the readings tell it.

    The maximum-likelihood place of one step in white noise, as `stretches`, on blocks of a few readings.
    """
    import numpy as np

    low, high = max(near_s - within_s, power.start_s), min(near_s + within_s, power.end_s)
    count = int(min(max((high - low) / power.step_s, 4), 400))
    middles, means = power.blocks(low, high, count)
    means = filled(means)
    total = np.concatenate([[0.0], np.cumsum(means)])
    cut, _ = _best_cut(total, 0, count)
    return float(middles[cut - 1] + (high - low) / count / 2)


def ramp(power: Power, at_s: float, sign: int, within_s: float) -> float:
    """Return how long the power takes from one level to the other at an edge, s; `sign` 1 of a rising one."""
    import numpy as np

    start_s, end_s = max(at_s - within_s, power.start_s), min(at_s + within_s, power.end_s)
    count = int(min(max((end_s - start_s) / max(power.step_s, BLOCK_S), 4), 200))
    _, mean_w = power.blocks(start_s, end_s, count)
    rising = filled(mean_w)[::sign]
    low, high = (float(np.median(part)) for part in (rising[: count // 3], rising[-(count // 3) :]))
    if high <= low:
        return 0.0
    share = (rising - low) / (high - low)
    above, below = np.flatnonzero(share > 1 - RAMP), np.flatnonzero(share < RAMP)
    if not len(above) or not len(below):
        return 0.0
    return max(float(above[0] - below[-1] - 1), 0.0) * (end_s - start_s) / count


def filled(power_w: np.ndarray) -> np.ndarray:
    """Return blocks with those of which nothing is known set to the one before: for looking, not for sums."""
    import numpy as np

    bad = ~np.isfinite(power_w)
    if not bad.any():
        return power_w
    known = np.flatnonzero(~bad)
    if not len(known):
        return np.zeros(len(power_w))
    before = np.searchsorted(known, np.arange(len(power_w)), side="right") - 1
    return power_w[known[np.maximum(before, 0)]]


def slope(time_s: np.ndarray, values: np.ndarray) -> float:
    """Return the slope of a line through values, by the median over all pairs of at most 400 of them.

    H. Theil (1950), P. K. Sen (1968): up to 29 % of the values may be anything.
    """
    import numpy as np

    every = -(-len(values) // 400)
    time_s, values = time_s[::every], values[::every]
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (time_s[second] - time_s[first])))


def groups(marks: Sequence[bool]) -> list[tuple[int, int]]:
    """Return runs of what is marked, as first and one past the last."""
    found: list[tuple[int, int]] = []
    for index, marked in enumerate(marks):
        if marked and found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        elif marked:
            found.append((index, index + 1))
    return found
