"""A meter's stage beside a measuring one: recorded while that makes its windows, and never in its way.

What the two sides say to each other is in tools/metered.py and tools/recording.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.session import Session
from tools import metered, recording
from tools.stage import ERRORS, StageError, Unsupported, write_json

if TYPE_CHECKING:
    from host.pipeline import Outcome

START_LIMIT_S = 60.0  # until a meter gives its first samples: a Monsoon calibrates, a phone's gauge is slow
STOP_LIMIT_S = 20.0  # until one that was told to stop has written its file
POLL_S = 0.02


class Recording:
    """One recording, begun and stopped as the measuring stage says.

    Args:
        session: the meter's tool, started.
        folder: where the recording's stage will run.
        run: runs that stage to its end.
    """

    def __init__(self, session: Session, folder: Path, run: Callable[[], Outcome]) -> None:
        self._session = session
        self._folder = folder
        self._run = run
        self._beside = Path()
        self._measuring: Session | None = None
        self._thread: threading.Thread | None = None
        self._is_late = False
        self._none: StageError | None = None
        self.outcome: Outcome | None = None

    def ask(self, measuring: Session, beside: Path) -> None:
        """Ask the stage that `measuring` is to run in the folder `beside` for windows."""
        self._measuring, self._beside = measuring, beside
        write_json(beside / metered.ASKED, {})

    def told(self, event: Mapping[str, Any]) -> None:
        """Do what the measuring stage says: `start` or `stop`; or take note that it makes no windows."""
        if event["meter"] == "start" and self._thread is None:
            self._start()
        elif event["meter"] == "stop":
            self._stop()
            self._ended()
            self._say(metered.STOPPED, {})
        elif event["meter"] == "none":
            why = event["error"]
            self._none = ERRORS.get(why["exit_code"], StageError)(why["message"], hint=why["hint"])

    def end(self) -> None:
        """Stop it, if the measuring stage did not, and wait for its file; kill it if it does not stop."""
        self._stop()
        self._ended()

    @property
    def problem(self) -> StageError | None:
        """Why there is no trace, where the recording's own outcome does not say it."""
        if self._none:
            return self._none
        if self._thread is None:
            message = "this measurement makes no windows of inferences for a meter"
            return Unsupported(message, hint="docs/energy-in-all.md says which do.")
        if self.outcome is None:
            return StageError("the recording broke off", hint="Its log says more.")
        if self._is_late:
            message = f"the meter gave no sample within {START_LIMIT_S:g} s"
            return StageError(message, hint="Its log says more.")
        return None

    def _start(self) -> None:
        """Let the meter record; tell the measuring stage when it samples, or that it does not."""
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()
        started, until = self._folder / recording.STARTED, time.monotonic() + START_LIMIT_S
        while not started.exists() and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(POLL_S)
        said = json.loads(started.read_text()) if started.exists() else {}
        self._is_late = not said and self._thread.is_alive()
        self._say(metered.SAMPLING, said)

    def _say(self, file: Path, said: Mapping[str, Any]) -> None:
        """Tell the measuring stage by a file."""
        write_json(self._beside / file, said)
        assert self._measuring
        self._measuring.share(self._beside / file)

    def _record(self) -> None:
        self.outcome = self._run()

    def _stop(self) -> None:
        stop = self._folder / recording.STOP
        if self._thread and self._folder.is_dir() and not stop.exists():
            stop.touch()
            self._session.share(stop)

    def _ended(self) -> None:
        """Wait for the end of what was told to stop; kill it if that does not come."""
        if self._thread is None:
            return
        self._thread.join(STOP_LIMIT_S)
        if self._thread.is_alive():
            self._session.kill()
            self._thread.join()
