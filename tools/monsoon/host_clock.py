"""Where the meter's clock is on this host's, by when its samples arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from tools.trace import Clock, this_host

if TYPE_CHECKING:
    import numpy as np

SLOT_S = 1.0
RATE_FROM_S = 20.0  # of recording: what is shorter says nothing of a drift of some ppm
# What no arrival tells: a packet waits until its last sample is there, for the bus and for this program.
# Estimated, never measured on a meter: half of the time that three samples take, and a transfer.
LEAST_ERROR_S = 0.0005


class HostClock:
    """Collects arrivals. A sample is late by what is between meter and host, and never early.

    So in each second the one that is least late counts; a straight line through those gives offset and drift,
    and what they are off that line is the error.
    """

    def __init__(self) -> None:
        self._least: dict[int, tuple[float, float]] = {}

    def arrived(self, time_s: np.ndarray, monotonic_s: np.ndarray) -> None:
        """Note when samples of the meter's `time_s` arrived, by CLOCK_MONOTONIC."""
        import numpy as np

        late_s = monotonic_s - time_s
        slots = (time_s // SLOT_S).astype(np.int64)
        for slot in np.unique(slots):
            at = int(np.flatnonzero(slots == slot)[np.argmin(late_s[slots == slot])])
            seen = (float(late_s[at]), float(time_s[at]))
            self._least[int(slot)] = min(seen, self._least.get(int(slot), seen))

    @property
    def clock(self) -> Optional[Clock]:
        """What is known by now; None before the first sample."""
        import numpy as np

        if not self._least:
            return None
        late_s, time_s = np.array(list(self._least.values())).T
        if time_s[-1] - time_s[0] < RATE_FROM_S:
            offset_s = float(late_s.min())
            return Clock(this_host(), offset_s, max(LEAST_ERROR_S, float(np.ptp(late_s))))
        drift, offset_s = np.polyfit(time_s, late_s, 1)
        off = late_s - (offset_s + drift * time_s)
        error_s = max(LEAST_ERROR_S, float(np.abs(off).max()))
        return Clock(this_host(), float(offset_s), error_s, abs(float(drift)))
