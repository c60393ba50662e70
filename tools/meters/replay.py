"""A recorded trace played as if it were a meter: for trying what uses meters without one."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from tools import trace
from tools.stage import InvalidRequest
from tools.trace import TIME, Clock, Trace, this_host

if TYPE_CHECKING:
    from tools.trace import Chunk

AT_ONCE = 10_000  # rows, where it plays as fast as it can


@contextlib.contextmanager
def opened(path: Optional[Path], speed: float) -> Iterator[Replay]:
    """Yield a reader of the trace at `path`.

    Raises:
        InvalidRequest: there is none, it is no trace, or `speed` is negative.
    """
    if path is None:
        message = "replay needs a trace to play"
        raise InvalidRequest(message, hint="--input recorded=trace.parquet")
    if speed < 0:
        message = f"a trace cannot be played at {speed:g} times its speed"
        raise InvalidRequest(message, hint="1 is real time, 10 ten times faster, 0 as fast as possible.")
    yield Replay(trace.read(path), path.name, speed)


class Replay:
    """The samples of a trace at `speed` times the time they took; 0: as fast as they can be read.

    What the trace says of itself stays, `simulated` too, but that it is a replay, and when.
    """

    def __init__(self, played: Trace, name: str, speed: float) -> None:
        self.columns = list(played.columns)
        self._played, self._speed, self._next = played, speed, 0
        self._start_s = time.monotonic()
        about = f"Replay of {name}, which {played.meta.meter} recorded."
        clock = None
        if speed == 1:
            clock = Clock(this_host(), self._start_s - float(played.time_s[0]), 0.1)
        self.meta = dataclasses.replace(
            played.meta,
            meter="replay",
            device=f"replay of {played.meta.device or played.meta.meter}",
            note=f"{about} {played.meta.note}".strip(),
            clock=clock,
        )

    def read(self) -> Optional[Chunk]:
        """Return the samples whose time has come, None after the last."""
        import numpy as np

        times = self._played.time_s
        if self._next == len(times):
            return None
        end = self._next + AT_ONCE
        if self._speed:
            time.sleep(0.1)
            until_s = times[0] + (time.monotonic() - self._start_s) * self._speed
            end = int(np.searchsorted(times, until_s, side="right"))
        rows = slice(self._next, end)
        self._next = min(end, len(times))
        return {TIME: times[rows], **{key: column[rows] for key, column in self._played.columns.items()}}
