"""How a reading steps, of a meter that does not say when it measured: learnt while it is read."""

from __future__ import annotations

import collections
import statistics
import time
from typing import Deque, Optional

KEPT = 101  # of the last steps; more would make the median no better


class Steps:
    """Readings of one value. Both properties are medians of the last steps, 0 where none was seen."""

    def __init__(self) -> None:
        self._value: Optional[float] = None
        self._at_s = 0.0
        self._heights: Deque[float] = collections.deque(maxlen=KEPT)
        self._times_s: Deque[float] = collections.deque(maxlen=KEPT)

    def saw(self, value: float) -> None:
        """Note a reading."""
        if value == self._value:
            return
        now_s = time.monotonic()
        if self._value is not None:
            self._heights.append(abs(value - self._value))
            self._times_s.append(now_s - self._at_s)
        self._value, self._at_s = value, now_s

    @property
    def height(self) -> float:
        """By how much it changes, when it does."""
        return statistics.median(self._heights) if self._heights else 0.0

    @property
    def period_s(self) -> float:
        """How long it stays the same."""
        return statistics.median(self._times_s) if self._times_s else 0.0
