"""When a recording begins and ends by what it measures: a current with hysteresis, or a number of samples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

from tools.stage import InvalidRequest
from tools.trace import TIME

if TYPE_CHECKING:
    from tools.trace import Chunk

STOP_AFTER_S = 0.1  # below the threshold for so long: a load's own short rests do not end the recording


@dataclasses.dataclass(frozen=True)
class Trigger:
    """Begin at the first sample of at least `start_ma`; end below `stop_ma`, or after `samples`; 0: not so.

    The distance of the two thresholds is the hysteresis.
    """

    start_ma: float = 0.0
    stop_ma: float = 0.0
    samples: int = 0

    def check(self) -> Trigger:
        """Return it.

        Raises:
            InvalidRequest: it would end where it begins, or a number is negative.
        """
        if min(self.start_ma, self.stop_ma, self.samples) < 0:
            message = "start_ma, stop_ma and samples cannot be negative"
            raise InvalidRequest(message, hint="0, which is also what is taken without them, means no limit.")
        if self.start_ma and self.stop_ma > self.start_ma:
            message = f"the recording would begin at {self.start_ma:g} mA and end below {self.stop_ma:g} mA"
            raise InvalidRequest(
                message, hint="Let stop_ma be less than start_ma: what is between is the hysteresis."
            )
        return self


class Gate:
    """Lets through what is between the trigger's beginning and its end."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self._open = not trigger.start_ma
        self._rows = 0
        self._below_since_s: Optional[float] = None
        self.closed = False

    def take(self, chunk: Chunk) -> Chunk:
        """Return the part of the chunk that is to be recorded; the recording is over once `closed` is set."""
        import numpy as np

        current_ma = chunk["main_a"] * 1e3
        if not self._open:
            above = np.flatnonzero(current_ma >= self._trigger.start_ma)
            if not len(above):
                return {name: column[:0] for name, column in chunk.items()}
            self._open = True
            chunk = {name: column[above[0] :] for name, column in chunk.items()}
        end = len(chunk[TIME])
        if self._trigger.stop_ma:
            end = self._end(chunk)
        if self._trigger.samples and self._rows + end >= self._trigger.samples:
            end = self._trigger.samples - self._rows
            self.closed = True
        self._rows += end
        return {name: column[:end] for name, column in chunk.items()}

    def _end(self, chunk: Chunk) -> int:
        """Return up to which row it is to be recorded: where it has been below for STOP_AFTER_S."""
        import numpy as np

        time_s, low = chunk[TIME], chunk["main_a"] * 1e3 < self._trigger.stop_ma
        changes = np.flatnonzero(np.diff(low.astype(np.int8), prepend=int(self._below_since_s is not None)))
        for start, end in zip([0, *changes], [*changes, len(low)]):
            if start == end:
                continue
            if not low[start]:
                self._below_since_s = None
                continue
            since_s = self._below_since_s if self._below_since_s is not None else float(time_s[start])
            self._below_since_s = since_s
            over = np.flatnonzero(time_s[start:end] >= since_s + STOP_AFTER_S)
            if len(over):
                self.closed = True
                return int(start + over[0])
        return len(low)
