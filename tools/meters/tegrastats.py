"""NVIDIA's program tegrastats on a Jetson board: the rails in the lines that it prints.

A rail is `NAME current/average` in mW, without a unit up to JetPack 4, with `mW` since, and with a third
value since JetPack 7. Only the first value is a reading: the second is the mean since the program started.
Real lines are in tests/meters/test_tegrastats.py.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from tools.meters import ina3221, rails
from tools.meters.pending import Pending, drained
from tools.recording import Attached
from tools.stage import DeviceNotFound, StageError
from tools.trace import Channel, Clock, Meta, chunk, this_host

if TYPE_CHECKING:
    from tools.trace import Chunk

# A name that stands alone, and nothing but these two or three values: RAM and SWAP end in MB, a temperature
# is GPU@30.5C, where Xavier's rail is GPU 463/463.
RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+(?:mW)?)?(?!\S)")
FIRST_LINE_LIMIT_S = 10.0
ARRIVAL_ERROR_S = 0.01  # from reading the monitors to here, a guess; the program does not tell
NONE_HINT = "It is a program of NVIDIA's on Jetson boards; is this one? A container gets it from the runner."
NO_RAILS = "Some boards print rails for root only: run it as root. Others have no monitors at all."
SOURCE = "as ina3221; the program rounds to 1 mW"


def parse(line: str) -> dict[str, float]:
    """Return the power of each rail in W, in the order of the line, without those that are not connected."""
    return {name: int(now) / 1e3 for name, now in RAIL.findall(line) if name != rails.UNUSED}


def program(root: Path) -> Optional[str]:
    """Return tegrastats' path; older releases had it in a user's home."""
    if root == Path("/"):
        found = shutil.which("tegrastats")
        if found:
            return found
    places = [root / "usr/bin/tegrastats", *sorted(root.glob("home/*/tegrastats"))]
    return next((str(path) for path in places if os.access(path, os.X_OK)), None)


def present(root: Path = Path("/")) -> list[Attached]:
    """Say whether the program is here."""
    return [Attached(f"tegrastats of {ina3221.board(root)}")] if program(root) else []


@contextlib.contextmanager
def opened(root: Path, rate_hz: float) -> Iterator[Lines]:
    """Yield a reader of what tegrastats prints `rate_hz` times a second; the program ends with the block.

    Raises:
        DeviceNotFound: there is no such program here.
        StageError: its first line has no rails.
    """
    path = program(root)
    if path is None:
        message = "there is no tegrastats here"
        raise DeviceNotFound(message, hint=NONE_HINT)
    argv = [path, "--interval", str(max(1, round(1000 / rate_hz)))]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            yield Lines(child, root)
        finally:
            child.terminate()


class Lines:
    """The program's lines as samples. It prints no time that is good enough, so theirs is when they come."""

    def __init__(self, child: subprocess.Popen[bytes], root: Path) -> None:
        self._child = child
        self._start_s = time.monotonic()
        self._came: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        first = self._first()
        found = parse(first[1])
        if not found:
            message = f"tegrastats prints no rails: {first[1][:200]}"
            raise StageError(message, hint=NO_RAILS)
        self._kept = [first]
        self._pending = Pending(self._rows)
        self._names = sorted(found, key=lambda name: name not in rails.WHOLE)
        self._summed = not rails.whole(self._names)
        channels = {name: Channel(rails.scope(name), source=SOURCE) for name in self._names}
        if self._summed:
            channels = {rails.TOTAL: Channel(rails.TOTAL_SCOPE, source=SOURCE), **channels}
        self.columns = [f"{name}_w" for name in channels]
        self.meta = Meta(
            meter="tegrastats",
            device=ina3221.board(root),
            simulated=root != Path("/"),
            channels=channels,
            clock=Clock(this_host(), self._start_s, ARRIVAL_ERROR_S),
        )

    def read(self) -> Chunk:
        """Return the samples of the lines that came, waiting for 0.1 s at most.

        Raises:
            DeviceNotFound: the program ended.
            StageError: a line lacks a rail that the first one had.
        """
        kept, self._kept = self._kept, []
        return chunk(self._pending.rows([*kept, *drained(self._came)]), self.columns)

    def _rows(self, came: tuple[float, str]) -> list[list[float]]:
        at_s, line = came
        if not line:
            message = f"tegrastats ended by itself (exit code {self._child.wait()})"
            raise DeviceNotFound(message, hint=NO_RAILS)
        found = parse(line)
        missing = [name for name in self._names if name not in found]
        if missing:
            message = f"a line of tegrastats lacks {', '.join(missing)}: {line[:200]}"
            raise StageError(message, hint="Its first line had it. Please report both lines.")
        total = [sum(found.values())] * self._summed
        return [[at_s - self._start_s, *total, *(found[name] for name in self._names)]]

    def _listen(self) -> None:
        """Date each line as it comes: who reads them may be busy. An empty one ends them."""
        assert self._child.stdout is not None
        with self._child.stdout as pipe:
            for line in pipe:
                if line.strip():
                    self._came.put((time.monotonic(), line.decode(errors="replace").strip()))
        self._came.put((time.monotonic(), ""))

    def _first(self) -> tuple[float, str]:
        try:
            first = self._came.get(timeout=FIRST_LINE_LIMIT_S)
        except queue.Empty:
            first = (0.0, "")
        if not first[1]:
            message = f"tegrastats printed nothing in {FIRST_LINE_LIMIT_S:g} s, or ended"
            raise DeviceNotFound(message, hint=NO_RAILS)
        return first
