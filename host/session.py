"""What host and tool say to each other: stage folders go in, events and log lines come out."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from host.engines import Process
from tools.stage import RESULT, Result, StageError

OnProgress = Callable[[float, str], None]
OnMeter = Callable[[Mapping[str, Any]], None]


class ToolEnded(StageError):
    """The tool's process ended, or was ended, in the middle of a stage."""


class Session:
    """One started tool; runs stage folders in it, one after the other."""

    def __init__(self, process: Process, work: Path) -> None:
        self._process = process
        self._work = work
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.alive = True
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.alive and kind is None:
            with contextlib.suppress(StageError):  # all results are here
                self._process.close()
        else:
            self.kill()

    def kill(self) -> None:
        """End the tool at once."""
        self._process.kill()
        self.alive = False

    def share(self, path: Path) -> None:
        """Let the tool see a file that was written into the folder of the stage that it runs."""
        self._process.share(str(path.relative_to(self._work)))

    def run(
        self,
        folder: Path,
        *,
        log: TextIO,
        on_progress: OnProgress,
        limit_s: float,
        on_meter: OnMeter = lambda _: None,
    ) -> Result:
        """Run one stage folder and return what its result.json says, errors included.

        `on_meter` is told what the tool says to a meter, as tools/metered.py has it.

        Raises:
            ToolEnded: the process died, or ran past `limit_s` seconds and was killed.
            StageError: result.json is missing or not of this schema, or the engine knows what happened.
        """
        name = str(folder.relative_to(self._work))
        until = time.monotonic() + limit_s
        with contextlib.suppress(OSError):  # it is dead already: _next tells how it ended
            self._process.send(name)
        while True:
            line = self._next(folder, until, limit_s)
            event = event_in(line)
            if event is None:
                print(line, file=log, flush=True)
            elif event.get("done") == name:
                return Result.read(folder)
            elif "progress" in event:
                on_progress(event["progress"], event.get("message", ""))
            elif "meter" in event:
                on_meter(event)

    def _next(self, folder: Path, until: float, limit_s: float) -> str:
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            self.kill()
            message = f"it did not end within its time limit of {limit_s:g} s and was killed"
            raise ToolEnded(
                message, hint="Raise the limit with --limit-s, if the stage needs longer."
            ) from None
        if line is not None:
            return line
        self.alive = False
        how = self._process.close()
        left = "" if (folder / RESULT).exists() else f" without writing {RESULT}"
        message = f"the tool's process ended ({how}){left}"
        why = " SIGKILL is often the kernel, out of memory." if how == "SIGKILL" else ""
        raise ToolEnded(message, hint=f"Its log says more.{why}")

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the pipe was closed under it by a kill
            for line in self._process.lines():
                self._lines.put(line)
        self._lines.put(None)


def event_in(line: str) -> dict[str, Any] | None:
    """Return the event that a line holds, or None for a line of the log."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.keys() & {"progress", "done", "meter"} else None
