"""The idle power: before and after the load, a straight line between them, and how far it can be trusted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Sequence, Tuple

from tools.energy import levels
from tools.energy.levels import MAD
from tools.energy.refusals import Refused

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power

Span = Tuple[float, float]
BLOCKS = 32  # of a side's idle time
SHORTEST_S = 0.3  # of idle time on a side
READINGS = 10  # at least, on a side
OUTLIER = 6.0  # robust standard deviations: what is further off is no idle power
MEDIAN = 1.2533  # standard error of a median over that of a mean, of normal samples: sqrt(pi / 2)
HINT = "Record some seconds of idle before and after the load, with nothing else running."


@dataclasses.dataclass(frozen=True)
class Side:
    """Idle power on one side of the load.

    Attributes:
        at_s: the middle of its time.
        level_w: its power there, `error_w` the standard uncertainty of it.
        slope_w_per_s: its drift, with its standard uncertainty.
        count: independent blocks that it is of.
    """

    at_s: float
    seconds: float
    level_w: float
    error_w: float
    slope_w_per_s: float
    slope_error: float
    count: float


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Idle power as a line through the two sides."""

    before: Side
    after: Side

    @property
    def drift_w_per_s(self) -> float:
        """How fast it changes from one side to the other."""
        return (self.after.level_w - self.before.level_w) / (self.after.at_s - self.before.at_s)

    def level_w(self, at_s: np.ndarray) -> np.ndarray:
        """Return the idle power at times; its mean over a window is that at the window's middle."""
        return self.before.level_w + self.drift_w_per_s * (at_s - self.before.at_s)

    def error_w(self, at_s: float) -> float:
        """Return the standard uncertainty of the idle power about a time between the sides."""
        share = (at_s - self.before.at_s) / (self.after.at_s - self.before.at_s)
        noise = ((1 - share) * self.before.error_w) ** 2 + (share * self.after.error_w) ** 2
        return float((noise + self._bend_w() ** 2) ** 0.5)

    def freedom(self, at_s: float) -> float:
        """Return the degrees of freedom of `error_w` (JCGM 100:2008, G.4.1)."""
        share = (at_s - self.before.at_s) / (self.after.at_s - self.before.at_s)
        parts = (
            ((1 - share) * self.before.error_w, self.before.count),
            (
                share * self.after.error_w,
                self.after.count,
            ),
        )
        below = sum(error**4 / max(count - 1, 1) for error, count in parts)
        return float(self.error_w(at_s) ** 4 / below) if below else 1e6

    def _bend_w(self) -> float:
        """Return the standard uncertainty by the idle power not being a straight line between the sides.

        If it is any path from one level to the other, the mean may be anywhere between them: a rectangular
        distribution (JCGM 100:2008, 4.3.7). If each side's own drift is well known, the path is the cubic
        through both levels and drifts (Hermite's), whose mean differs from the line's by T (s0 - s1) / 12.
        That one counts if it is the smaller, or if the drifts are surely not the same.
        """
        between_w = abs(self.after.level_w - self.before.level_w) / 12**0.5
        bend = abs(self.before.slope_w_per_s - self.after.slope_w_per_s)
        unknown = float((self.before.slope_error**2 + self.after.slope_error**2) ** 0.5)
        bent_w = (self.after.at_s - self.before.at_s) / 12 * float((bend**2 + unknown**2) ** 0.5)
        return bent_w if bend > 2 * unknown else min(between_w, bent_w)


def of_spans(power: Power, before: Sequence[Span], after: Sequence[Span]) -> Baseline:
    """Return the idle power of the times before and after the load.

    Raises:
        Refused: there is not enough of it on a side.
    """
    return Baseline(_side(power, before, "before"), _side(power, after, "after"))


def _side(power: Power, spans: Sequence[Span], name: str) -> Side:
    import numpy as np

    seconds = sum(end - start for start, end in spans)
    shortest = max(SHORTEST_S, READINGS * power.step_s, 3 * power.resolution_s)
    if seconds < shortest:
        message = f"there are {seconds:.2g} s of idle power {name} the load; it takes {shortest:.2g} s"
        raise Refused(message, hint=HINT)
    block_s = max(seconds / BLOCKS, 2 * power.resolution_s, 0.02)
    pieces = [
        power.blocks(start, end, max(int((end - start) / block_s), 1))
        for start, end in spans
        if end - start >= 0.5 * block_s
    ]
    time_s, level = (np.concatenate(parts) for parts in zip(*pieces))
    time_s, level = time_s[np.isfinite(level)], level[np.isfinite(level)]
    if len(level) < 3:
        message = f"nothing is known of the idle power {name} the load: its samples are lost"
        raise Refused(message, hint=HINT)
    return _fit(*_without_outliers(time_s, level), seconds)


def _without_outliers(time_s: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out blocks that are far from the rest: something ran there."""
    import numpy as np

    away = np.abs(level - np.median(level))
    near = away <= OUTLIER * max(MAD * float(np.median(away)), 1e-12)
    return (time_s[near], level[near]) if near.sum() >= 3 else (time_s, level)


def _fit(time_s: np.ndarray, level: np.ndarray, seconds: float) -> Side:
    """Return level and drift of one side's blocks, by the medians of H. Theil (1950) and P. K. Sen (1968).

    The standard error is that of the residuals, with their correlation from block to block taken as that of
    a first-order process: n (1 - r) / (1 + r) of them count (Bayley and Hammersley, 1946). To it comes how
    far mean and median are apart: what an idle power with rare wake-ups leaves open.
    """
    import numpy as np

    count = len(level)
    slope = levels.slope(time_s, level)
    at_s = float(time_s.mean())
    flat = level - slope * (time_s - at_s)
    middle = float(np.median(flat))
    rest = flat - middle
    spread = float(np.sqrt((rest**2).sum() / max(count - 2, 1)))
    before = float((rest[:-1] * rest[1:]).sum() / max(float((rest**2).sum()), 1e-30))
    correlation = min(max(before, 0.0), 0.9)
    free = max(count * (1 - correlation) / (1 + correlation), 1.5)
    skew = abs(float(flat.mean()) - middle)
    error = float(np.hypot(MEDIAN * spread / free**0.5, skew))
    wide = float(np.sqrt(((time_s - at_s) ** 2).sum() * free / count))
    return Side(at_s, seconds, middle, error, slope, MEDIAN * spread / max(wide, 1e-12), free)
