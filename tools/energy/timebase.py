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
TABLE = "csv"  # the meter of a file that does not say which it was (tools/trace_files/csv.py)
MONSOON_HZ = 5000.0  # all of Monsoon's meters, whose programs write most of such tables
ANEW = "Record it anew."


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
        raise Refused(message, hint=ANEW)
    some = steps[:: max(len(steps) // 100_000, 1)]
    median_s = float(np.median(some))
    steady = _share_near(some, median_s) >= 0.9
    _refuse_change(trace, steps)
    if steady:
        _refuse_rate(trace, median_s)
    return Steps(median_s, steady, median_s * (LONG_STEADY if steady else LONG_POLLED))


def _refuse_rate(trace: Trace, median_s: float) -> None:
    """Refuse a rate that is not the meter's, as the file says it, or half or twice that of a Monsoon."""
    rate_hz, found_hz = trace.meta.rate_hz, 1 / median_s
    if rate_hz and abs(found_hz / rate_hz - 1) > RATE:
        message = f"the trace has {found_hz:.5g} samples a second, but its meter takes {rate_hz:.5g}"
        raise Refused(message, hint=f"Its times were made with a wrong rate. {ANEW}")
    if trace.meta.meter != TABLE:
        return
    for factor in (0.5, 2.0):
        if abs(found_hz / (factor * MONSOON_HZ) - 1) <= RATE:
            like = f"a Monsoon's, {MONSOON_HZ:g} a second, with a time base that is wrong by a factor of two"
            message = f"the table has {found_hz:.5g} samples a second, which look like {like}"
            raise Refused(message, hint=f"{ANEW} Or convert the meter's own file instead of the table.")


def _refuse_change(trace: Trace, steps: np.ndarray) -> None:
    """Refuse a trace whose parts are each steady, but not with the same step."""
    import numpy as np

    parts = np.array_split(steps, min(CHUNKS, max(len(steps) // 20, 1)))
    medians = [float(np.median(part[:: max(len(part) // 5000, 1)])) for part in parts]
    steady = [index for index, part in enumerate(parts) if _share_near(part, medians[index]) >= 0.9]
    for index in steady:
        if abs(medians[index] / medians[steady[0]] - 1) > 2 * STEADY:
            at_s = float(trace.time_s[sum(map(len, parts[:index]))])
            apart = f"{medians[steady[0]] * 1e3:.4g} to {medians[index] * 1e3:.4g} ms"
            message = f"the time between samples changes near {at_s:.4g} s, from {apart}"
            raise Refused(message, hint=f"Two recordings in one file, or times that were made up. {ANEW}")


def _share_near(steps: np.ndarray, median_s: float) -> float:
    import numpy as np

    return float(np.mean(np.abs(steps - median_s) <= STEADY * median_s))
