"""Whether a trace's times can be trusted: one steady step, the rate that the meter has, gaps where they are.

What can be seen: a rate that is not the meter's, a step that changes, steps that are too long. What cannot:
a time base that is wrong by a factor from the first sample to the last, in a file that says nothing of its
meter. Where windows are given, times that are wrong show in where the load is (tools/energy/alignment.py).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tools.energy.refusals import Refused
from tools.trace import Trace

if TYPE_CHECKING:
    import numpy as np

STEADY = 0.05  # of the median: a step within it is a regular one
LONG_STEADY = 1.5  # steps: from here on one is missing, where the meter samples by its own clock
LONG_POLLED = 4.0  # where a host asks for each reading, and may be late
RATE = 0.02  # by which a steady rate may differ from the meter's: crystals differ by 1e-4 at most
CHUNKS = 16


@dataclasses.dataclass(frozen=True)
class Steps:
    """A trace's steps in time: the median, whether a clock makes them, and from what length one is a gap."""

    median_s: float
    steady: bool
    limit_s: float


def examine(trace: Trace) -> Steps:
    """Return what the steps between a trace's readings are.

    Raises:
        Refused: the step changes within the trace, or the rate is not that of the meter.
    """
    import numpy as np

    steps = np.diff(trace.time_s)
    if not len(steps):
        message = "the trace has one sample"
        raise Refused(message, hint="Record it anew.")
    some = steps[:: max(len(steps) // 100_000, 1)]
    median_s = float(np.median(some))
    steady = _share_near(some, median_s) >= 0.9
    _refuse_change(trace, steps)
    rate_hz = trace.meta.rate_hz
    if steady and rate_hz and abs(median_s * rate_hz - 1) > RATE:
        message = (
            f"the samples are {median_s * 1e3:.4g} ms apart, but the meter takes one each {1e3 / rate_hz:.4g} ms"
        )
        hint = "The times were made with a wrong rate, or samples were left out. Record it anew, or convert the original."
        raise Refused(message, hint=hint)
    return Steps(median_s, steady, median_s * (LONG_STEADY if steady else LONG_POLLED))


def _refuse_change(trace: Trace, steps: np.ndarray) -> None:
    """Refuse a trace whose parts are each steady, but not with the same step."""
    import numpy as np

    parts = [part for part in np.array_split(steps, min(CHUNKS, max(len(steps) // 20, 1)))]
    medians = [float(np.median(part[:: max(len(part) // 5000, 1)])) for part in parts]
    steady = [_share_near(part, median) >= 0.9 for part, median in zip(parts, medians)]
    found = [(median, index) for index, median in enumerate(medians) if steady[index]]
    if len(found) < 2 or max(found)[0] <= (1 + 2 * STEADY) * min(found)[0]:
        return
    index = next(index for median, index in found if abs(median / found[0][0] - 1) > 2 * STEADY)
    at_s = float(trace.time_s[sum(map(len, parts[:index]))])
    message = (
        f"the time between samples changes, from {found[0][0] * 1e3:.4g} to {medians[index] * 1e3:.4g} ms near {at_s:.4g} s"
    )
    raise Refused(message, hint="Two recordings in one file, or times that were made up: record it anew.")


def _share_near(steps: np.ndarray, median_s: float) -> float:
    import numpy as np

    return float(np.mean(np.abs(steps - median_s) <= STEADY * median_s))
