"""What is known of a trace now: the meter's thread adds to it, those of the browsers ask."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from tools.live_view.export import decimated
from tools.live_view.history import History
from tools.stage import StageError
from tools.trace import TIME, Meta, write

if TYPE_CHECKING:
    from tools.trace import Chunk

SHOWN_S = 0.5  # numbers are means over so much of the newest
MOST_STREAMS = 16


class Live:
    """What is known of the trace now; one thread adds, those of the browsers ask."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.note = ""  # why it ended, where that is an error
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._guard = threading.Lock()
        self._history: Optional[History] = None
        self._meta: Optional[Meta] = None

    def add(self, chunk: Chunk, meta: Meta) -> None:
        """Take samples: a `Listener`."""
        with self._guard:
            if self._history is None:
                self._history = History([name for name in chunk if name != TIME])
            self._history.add(chunk)
            self._meta = meta

    def end(self) -> None:
        """Tell the browsers that there will be no more, and give them a moment to hear it."""
        self.ended.set()
        for _ in range(MOST_STREAMS):
            self.streams.acquire(timeout=1.0 / MOST_STREAMS)

    def about(self) -> Dict[str, Any]:
        """Return what does not change: empty before the first sample."""
        with self._guard:
            history, meta = self._history, self._meta
            if history is None or meta is None:
                return {}
            names = ("meter", "device", "serial", "firmware", "rate_hz", "supply_v", "simulated")
            scopes = {name: channel.scope for name, channel in meta.channels.items()}
            known = {name: getattr(meta, name) for name in names}
            return {**known, "series": history.series, "channels": history.channels, "scopes": scopes}

    def state(self) -> Dict[str, Any]:
        """Return the numbers of now."""
        with self._guard:
            history, meta = self._history, self._meta
            if history is None or meta is None:
                return {"samples": 0, "ended": self.ended.is_set(), "note": self.note}
            energy = history.energy
            measured = [one for one in energy.channels if one.measures]
            newest = history.columns(energy.last_s - SHOWN_S, math.inf, SHOWN_S / 100)
            [mean] = history.mean(history.join(newest, math.inf))
            return {
                "samples": energy.samples,
                "first_s": energy.first_s,
                "now_s": energy.last_s,
                "dropped": meta.dropped,
                "energy_j": {one.name: one.energy_j for one in measured},
                "unknown_s": max((energy.recorded_s - one.known_s for one in measured), default=0.0),
                "latest": {
                    name: value for name, value in zip(history.series, mean.tolist()) if math.isfinite(value)
                },
                "ended": self.ended.is_set(),
                "note": self.note,
            }

    def columns(self, start_s: float, end_s: float, width_s: float) -> Any:
        """Return the rows of `History.columns`; none before the first sample."""
        with self._guard:
            if self._history is None:
                return []
            return self._history.columns(start_s, end_s, width_s)

    def save(self, start_s: float, end_s: float, path: Path) -> None:
        """Write what is kept of [start_s, end_s) as a trace, as finely as it is kept.

        Raises:
            StageError: nothing is.
        """
        message = "no sample of that time is here"
        with self._guard:
            history, meta = self._history, self._meta
            if history is None or meta is None:
                raise StageError(message)
            rows, width_s = history.samples(start_s, end_s)
        if not len(rows):
            raise StageError(message)
        write(path, decimated(history, rows, width_s, meta))
