"""The pattern of load that a benchmark makes on purpose, found in the power: what aligns two clocks.

A matched filter (D. O. North, 1943; G. L. Turin, IRE Trans. Inf. Theory 6, 1960): the normalised correlation
of the power with the pattern "load here, rest there". Then each edge of the pattern is found by itself, and a
straight line through all of them is the host's clock in the meter's time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional, Sequence

from tools.energy import levels
from tools.energy.refusals import Refused

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power

Pattern = Sequence["tuple[float, float]"]
BLOCK_S = 0.005
LEAD_S = 0.1  # of rest beside a pattern that belongs to it
RATE = 1e-3  # by which clocks may differ, for the pattern after the windows to be searched
CORRELATION = 0.4  # at least
SIGNIFICANT = 8.0  # standard errors of the correlation, 1 / sqrt(blocks); less is enough if it is ENOUGH
ENOUGH = 0.75
CONTRAST = 0.3  # of the mean difference of load and rest, for the lowest load and the highest rest
RIVAL = 0.9  # of the best: a second place as good as that makes the first a guess
HINT = "Was the meter recording the device on which the windows ran, all the time?"


@dataclasses.dataclass(frozen=True)
class Match:
    """The meter's time of a host's: `offset_s` + `rate` x host time, with its standard uncertainty.

    `rate_error` is that of the rate alone: large where the patterns are near each other.
    """

    offset_s: float
    rate: float
    error_s: float
    correlation: float
    rate_error: float = 0.0

    def at(self, host_s: float) -> float:
        """Return the meter's time."""
        return self.offset_s + self.rate * host_s


def find(power: Power, patterns: Sequence[Pattern], expected: Optional[tuple[float, float]]) -> Match:
    """Return where the patterns are; `expected`: offset by a clock and its standard uncertainty, if known.

    Raises:
        Refused: they are not there, or they could be elsewhere as well.
    """
    import numpy as np

    lengths = [off - on for pattern in patterns for on, off in pattern]
    block_s = min(max(BLOCK_S, power.step_s), min(lengths) / 2)
    count = int((power.end_s - power.start_s) / block_s)
    _, mean_w = power.blocks(power.start_s, power.start_s + count * block_s, count)
    mean_w = levels.filled(mean_w)
    scores = [_correlation(mean_w, _template(pattern, block_s, power.average_s)) for pattern in patterns]
    lead = round(LEAD_S / block_s)
    starts = [round((pattern[0][0] - patterns[0][0][0]) / block_s) for pattern in patterns]
    total = np.zeros(max(min(len(score) - start for score, start in zip(scores, starts)), 0))
    for score, start in zip(scores, starts):
        near = _near_maximum(score, int(RATE * start) + 1)
        total += near[start : start + len(total)] / len(scores)
    first_s = patterns[0][0][0]
    allowed = np.ones(len(total), dtype=bool)
    if expected:
        offset_s, error_s = expected
        offsets_s = power.start_s + (np.arange(len(total)) + lead) * block_s - first_s
        allowed = np.abs(offsets_s - offset_s) <= 5 * error_s + 0.5
    best = _best(total, allowed, len(_template(patterns[0], block_s, 0.0)), max(lengths) / block_s)
    offset_s = power.start_s + (best + lead) * block_s - first_s
    return _refine(power, patterns, offset_s, float(total[best]), block_s)


def _template(pattern: Pattern, block_s: float, average_s: float) -> np.ndarray:
    """Return the pattern in blocks, with some rest beside it, as a meter that averages would see it."""
    import numpy as np

    start_s = pattern[0][0] - LEAD_S
    count = round((pattern[-1][1] + LEAD_S - start_s) / block_s)
    edges = start_s + np.arange(count + 1) * block_s
    share = sum(np.clip(edges[1:], on, off) - np.clip(edges[:-1], on, off) for on, off in pattern)
    wide = round(average_s / block_s)
    return np.convolve(share, np.ones(wide) / wide, mode="same") if wide > 1 else share


def _correlation(power_w: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of the template with the power at each place of its start."""
    import numpy as np

    count = len(template)
    if len(power_w) < count:
        return np.zeros(0)
    size = 1 << (len(power_w) + count - 1).bit_length()
    shape = template - template.mean()
    centred = power_w - power_w.mean()
    product = np.fft.irfft(np.fft.rfft(centred, size) * np.conj(np.fft.rfft(shape, size)), size)
    sums = np.cumsum(np.concatenate([[0.0], centred]))
    squares = np.cumsum(np.concatenate([[0.0], centred**2]))
    places = len(power_w) - count + 1
    variance = (squares[count:] - squares[:-count]) - (sums[count:] - sums[:-count]) ** 2 / count
    floor = max(float(np.var(centred)) * count * 1e-6, 1e-30)
    return product[:places] / np.sqrt(np.maximum(variance, floor) * float((shape**2).sum()))


def _near_maximum(score: np.ndarray, reach: int) -> np.ndarray:
    """Return the maximum within `reach` places of each: the clocks' rates differ."""
    import numpy as np

    if reach <= 1 and len(score) < 3:
        return score
    padded = np.pad(score, reach, constant_values=-1.0)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)


def _best(total: np.ndarray, allowed: np.ndarray, blocks: int, lobe: float) -> int:
    import numpy as np

    if not allowed.any():
        message = "the trace is too short to hold the windows and their signatures"
        raise Refused(message, hint=HINT)
    scores = np.where(allowed, total, -1.0)
    best = int(np.argmax(scores))
    if scores[best] < max(CORRELATION, min(SIGNIFICANT / blocks**0.5, ENOUGH)):
        message = f"the benchmark's signature is not in the trace: its best correlation is {scores[best]:.2f}"
        raise Refused(message, hint=HINT)
    away = np.abs(np.arange(len(scores)) - best) > lobe
    rival = float(scores[away].max()) if away.any() else -1.0
    if rival > RIVAL * scores[best]:
        message = f"the benchmark's signature could be at two places: {scores[best]:.2f}, {rival:.2f} alike"
        raise Refused(message, hint=HINT)
    return best


def _refuse_gaps(power: Power, bounds: Sequence[Sequence[float]]) -> None:
    """Refuse a place where not every load of the patterns is above every rest: a step is alike to some.

    A sample in which an edge is says neither of them, so one at each end of a load and of a rest is left out.
    """
    import numpy as np

    loads, rests = [], []
    for each in bounds:
        edge_s = min(power.step_s, float(np.diff(each).min()) / 4)
        edges = np.array([each[0] - LEAD_S - 2 * edge_s, *each, each[-1] + LEAD_S + 2 * edge_s])
        mean_w, _ = power.known(edges[:-1] + edge_s, edges[1:] - edge_s)
        loads += mean_w[1::2].tolist()
        rests += mean_w[::2].tolist()
    between = np.nanmean(loads) - np.nanmean(rests)  # of a rest beyond the trace's end nothing is known
    if not np.nanmin(loads) - np.nanmax(rests) >= CONTRAST * between:
        message = "the benchmark's signature is not in the trace: what is most like it differs"
        raise Refused(message, hint=HINT)


def _refine(
    power: Power, patterns: Sequence[Pattern], offset_s: float, correlation: float, block_s: float
) -> Match:
    """Return the line through all edges of the patterns, each found near where the correlation puts it."""
    import numpy as np

    bounds = [[at for interval in pattern for at in interval] for pattern in patterns]
    shortest_s = min(float(np.diff(each).min()) for each in bounds)
    if power.resolution_s > shortest_s / 4:  # single edges are not to be seen
        return Match(offset_s, 1.0, max(power.resolution_s, block_s) / 12**0.5, correlation)
    _refuse_gaps(power, [[offset_s + at for at in each] for each in bounds])
    rate = 1.0
    for within_s in (0.45 * shortest_s, 0.25 * shortest_s):
        host = np.array([at for each in bounds for at in each])
        seen = np.array([levels.edge(power, offset_s + rate * at, within_s) for at in host])
        if len(patterns) > 1:
            rate, zero = np.polyfit(host - host[0], seen, 1)
        else:
            rate, zero = 1.0, float(np.median(seen - (host - host[0])))
        offset_s = float(zero - rate * host[0])
    away = seen - (offset_s + rate * host)
    error_s = float(np.sqrt((away**2).sum() / max(len(away) - 2, 1)))
    if error_s > shortest_s / 2:
        message = f"the edges of the signature are {error_s:.2g} s from a straight line of time"
        raise Refused(message, hint="Samples are missing unseen, or something else ran: record it anew.")
    error_s = max(error_s, power.step_s / 12**0.5)
    rate_error = error_s / float(np.sqrt(((host - host.mean()) ** 2).sum())) if len(patterns) > 1 else 0.0
    return Match(offset_s, float(rate), error_s, correlation, rate_error)
