"""A stand-in for a meter: a model of power, by whether a process has something to do.

    watts = idle_w + busy_w while its main thread runs, or waits for a processor

The process is the one that measures, or any one of whose arguments begins with `words`: a virtual phone's.

So the energy of an inference is known, on a busy host too: net, `busy_w` times the time that it takes. It
counts energy, so a late reading loses none. It sees the processes of the venv engine, and no other load.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.recording import Attached, Polled, run
from tools.stage import DeviceNotFound, Output, Result, Tool
from tools.trace import Channel, Meta

tool = Tool("labmeter", packages=("pyarrow", "numpy"))
PERIOD_S = 0.01
LOOK_EVERY_S = 0.1
SERIALS = "MOBILE_ACCELERATOR_LAB_METERS"  # which are plugged in; "7" if it is not set


def present(root: Path = Path("/")) -> list[Attached]:
    """Return the stand-ins that a test plugged in."""
    return [Attached("CPU model", serial) for serial in os.environ.get(SERIALS, "7").split()]


class Busy:
    """The energy that the process beside this stage would take, or those with these words."""

    def __init__(self, idle_w: float, busy_w: float, lose_after_s: float, words: str) -> None:
        self._idle_w, self._busy_w = idle_w, busy_w
        self._words, self._look_s = words.encode(), 0.0
        self._folders = [] if words else [_measuring()]
        self._at_s = time.monotonic()
        self._lost_s = self._at_s + (lose_after_s or 1e9)
        self._energy_j = 0.0

    def ask(self) -> Sequence[float]:
        """Return J since the start."""
        now_s = time.monotonic()
        if now_s > self._lost_s:
            message = "the stand-in was pulled out"
            raise DeviceNotFound(message, hint="Plug it in.")
        power_w = self._idle_w + (self._busy_w if self._is_busy() else 0.0)
        self._energy_j += power_w * (now_s - self._at_s)
        self._at_s = now_s
        return [self._energy_j]

    def _is_busy(self) -> bool:
        """Whether a process's state is R, "running or runnable": proc_pid_stat(5)."""
        if self._words and self._at_s > self._look_s:
            self._look_s = self._at_s + LOOK_EVERY_S
            self._folders = list(_with(self._words))
        for folder in self._folders:
            with contextlib.suppress(OSError):  # it has ended
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return True
        return False


def _with(words: bytes) -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(argument.startswith(words) for argument in (folder / "cmdline").read_bytes().split(b"\0")):
                yield folder


def _measuring() -> Path:
    """Return the process that runs the measuring stage of this run: its folder is beside ours."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            beside = (folder / "cwd").readlink().parent == Path.cwd().parent
            if beside and b"measure" in (folder / "cmdline").read_bytes().split(b"\0"):
                return folder
    message = "nothing measures beside this stage"
    raise DeviceNotFound(message, hint="The stand-in is for the runner, on the venv engine.")


class OwnClock(Polled):
    """A meter that shares no clock with the host, as those on USB do."""

    @property
    def meta(self) -> Meta:
        """What is known by now."""
        return dataclasses.replace(super().meta, clock=None)

    @meta.setter
    def meta(self, meta: Meta) -> None:
        self._meta = meta


@contextlib.contextmanager
def opened(
    idle_w: float, busy_w: float, lose_after_s: float, serial: str, words: str, *, own_clock: bool
) -> Iterator[Polled]:
    """Open the stand-in."""
    about = "a model, not a measurement"
    scope = f"processes of {words}" if words else "the measuring process"
    channel = Channel(scope=scope, gain_error=0.001, source=about)
    meta = Meta("cpu-model", "CPU model", serial, simulated=True, channels={"main": channel})
    busy = Busy(idle_w, busy_w, lose_after_s, words)
    yield (OwnClock if own_clock else Polled)(busy.ask, ("main_j",), meta, PERIOD_S)


@tool.command(meter="cpu-model")
def cpu_model(
    trace: Output = "trace.parquet",
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    idle_w: float = 2.0,
    busy_w: float = 4.0,
    lose_after_s: float = 0.0,
    own_clock: bool = False,
    words: str = "",
) -> Result:
    """Record the model's power; `lose_after_s` > 0: be pulled out after so many seconds."""
    reader = opened(idle_w, busy_w, lose_after_s, meter_serial, words, own_clock=own_clock)
    return run(reader, trace, duration_s=duration_s, live_port=live_port)


if __name__ == "__main__":
    tool.main()
