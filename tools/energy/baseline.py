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
READINGS = 5  # at least, on a side
OUTLIER = 6.0  # robust standard deviations: what is further off stands out
DECAYS = 1.5  # times as much at its beginning as at its end: the load's own end, and no steady work
HIDDEN = 3.0  # standard uncertainties of the levels: more of a bend than that would show in them
FEW, SHORT = 2, 2  # times that stand out, and blocks of one, up to which it is other work, and a short one
HINT = "Record some seconds of idle before and after the load, with nothing else running."


@dataclasses.dataclass(frozen=True)
class Side:
    """Idle power on one side of the load.

    Attributes:
        at_s: the middle of its time.
        level_w: its power there, `error_w` the standard uncertainty of it.
        slope_w_per_s: its drift, with its standard uncertainty.
        count: independent blocks that it is of.
        beside_w: power of other work that was left out and is right beside the load.
    """

    at_s: float
    seconds: float
    level_w: float
    error_w: float
    slope_w_per_s: float
    slope_error: float
    count: float
    beside_w: float = 0.0


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
        below = 0.0
        for weight, side in ((1 - share, self.before), (share, self.after)):
            below += (weight * side.error_w) ** 4 / max(side.count - 1, 1)
        return float(self.error_w(at_s) ** 4 / below) if below else 1e6

    def _bend_w(self) -> float:
        """Return the standard uncertainty by the idle power not being a straight line between the sides.

        With the drifts of both sides it is the cubic through both levels (Hermite's), whose middle is off the
        line by T (s0 - s1) / 8; as much may be hidden in what these drifts are uncertain by, but not without
        end where nothing of it is seen. Where these drifts do not confirm the line's, because they are others
        or unknown, the idle power may have gone from one level to the other anywhere: then its mean is
        anywhere between them, a rectangular distribution (JCGM 100:2008, 4.3.7).
        """
        length_s, line = self.after.at_s - self.before.at_s, self.drift_w_per_s
        sides = _likely(self.before, self.after, line), _likely(self.after, self.before, line)
        (first, first_error), (second, second_error) = sides
        unknown = (first_error**2 + second_error**2) ** 0.5
        noise_w = (self.before.error_w**2 + self.after.error_w**2) ** 0.5
        bend = abs(first - second)
        bent_w = bend * length_s / 8 if bend > 2 * unknown else 0.0
        hidden_w = min(unknown * length_s / 8, HIDDEN * noise_w)
        apart = abs((first + second) / 2 - line)
        confirmed = apart <= 2 * unknown and unknown <= abs(line)
        between_w = 0.0 if confirmed else abs(line) * length_s / 12**0.5
        return float((bent_w**2 + hidden_w**2 + between_w**2) ** 0.5)


def _likely(side: Side, other: Side, line: float) -> tuple[float, float]:
    """Return a side's drift and its uncertainty; one too short to tell has none larger than was seen else."""
    most = abs(other.slope_w_per_s) + other.slope_error + abs(line)
    return (line, most) if side.slope_error > most else (side.slope_w_per_s, side.slope_error)


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
        there = f"{seconds:.2g} s of idle power {name} the load, without the moments right beside it"
        message = f"there are {there}; it takes {shortest:.2g} s"
        raise Refused(message, hint=HINT)
    block_s = max(seconds / BLOCKS, 2 * power.resolution_s, levels.BLOCK_S)
    pieces = [
        power.blocks(start, end, max(int((end - start) / block_s), 1))
        for start, end in spans
        if end - start >= 0.5 * block_s
    ]
    time_s, level = np.hstack([np.empty((2, 0)), *map(np.vstack, pieces)])
    time_s, level = time_s[np.isfinite(level)], level[np.isfinite(level)]
    if len(level) < 3:
        message = f"nothing is known of the idle power {name} the load: its samples are lost"
        raise Refused(message, hint=HINT)
    return _fit(time_s, level, seconds, at=-1 if name == "before" else 0)


def _outside(level: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return which blocks are no idle power, and by how much the rest may be too low, W: mean and error.

    One or two times that stand out are other work. Whether a short one is a wake-up, as there are under load
    too, nobody knows: half of it counts, with a rectangular uncertainty. More of them are the idle power.
    """
    import numpy as np

    middle = float(np.median(level))
    away = np.abs(level - middle)
    marked = away > OUTLIER * max(MAD * float(np.median(away)), 1e-12)
    runs = levels.groups(list(marked))
    if len(runs) > FEW or marked.sum() > len(level) / 2:
        return np.zeros(len(level), dtype=bool), 0.0, 0.0
    short = [float((level[first:end] - middle).sum()) for first, end in runs if end - first <= SHORT]
    open_w = sum(short) / len(level)
    return marked, open_w / 2, abs(open_w) / 12**0.5


def _fit(time_s: np.ndarray, level: np.ndarray, seconds: float, at: int) -> Side:
    """Return level and drift of one side's blocks, of which number `at` is beside the load.

    The drift is that of the median of H. Theil (1950) and P. K. Sen (1968).

    The standard error is that of the residuals, with their correlation from block to block taken as that of
    a first-order process: n (1 - r) / (1 + r) of them count (Bayley and Hammersley, 1946).
    """
    import numpy as np

    marked, more_w, more_error_w = _outside(level - levels.slope(time_s, level) * time_s)
    beside = level[marked] - np.median(level) if marked[at] else level[:0]
    time_s, level = time_s[~marked], level[~marked]
    count = len(level)
    slope = levels.slope(time_s, level)
    at_s = float(time_s.mean())
    middle = float(level.mean())
    rest = level - slope * (time_s - at_s) - middle
    square = max(float((rest**2).sum()), 1e-30)
    spread = (square / max(count - 2, 1)) ** 0.5
    correlation = min(max(float((rest[:-1] * rest[1:]).sum()) / square, 0.0), 0.9)
    free = max(count * (1 - correlation) / (1 + correlation), 1.5)
    wide = float(((time_s - at_s) ** 2).mean() * free) ** 0.5
    error = float(np.hypot(spread / free**0.5, more_error_w))
    steady = len(beside) > SHORT and not (at == 0 and beside[0] > DECAYS * abs(beside[-1]))
    beside_w = abs(float(beside.mean())) if steady else 0.0
    slope_error = spread / max(wide, 1e-12)
    return Side(at_s, seconds, middle + more_w, error, slope, slope_error, free, beside_w)
