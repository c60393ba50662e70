"""One phone, as the tools that measure on it use it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.phone import awake, files, jobs, state
from tools.phone.adb import Completed, Server, Sync
from tools.stage import InvalidRequest, progress

# /data/local/tmp is where Android lets adb's user write files and run programs
ROOT = "/data/local/tmp/mobile_accelerator"
COOL_EVERY_S = 5.0


@dataclasses.dataclass(frozen=True)
class Phone:
    """A phone that `choose` found. All that this project puts on it is below `root`."""

    serial: str
    server: Server = dataclasses.field(default_factory=Server.current)
    root: str = ROOT

    def shell(self, command: str, timeout_s: float = 30.0) -> Completed:
        """Run a short command in the phone's shell, connected; what is measured takes `run_detached`.

        Raises:
            DeviceNotFound: the phone is not there (ConnectionLost: it went away).
            StageError: it did not end in time.
        """
        return self.server.shell(self.serial, command, timeout_s)

    def sync(self) -> Sync:
        """Return a stream that carries files."""
        return Sync(self.server, self.serial)

    def reconnect(self) -> None:
        """Ask the server for the phone again if it is on the network; one on USB comes back by itself."""
        if ":" in self.serial:
            self.server.ask(f"host:connect:{self.serial}")

    def push(self, sources: Mapping[str, Path], folder: str) -> files.Pushed:
        """Bring files (name there -> file here) into a folder, unless they are there. See files.push."""
        return files.push(self, sources, folder)

    def pull(self, source: str, target: Path) -> None:
        """Copy the file `source` of the phone to `target`."""
        files.pull(self, source, target)

    def folder(self) -> contextlib.AbstractContextManager[str]:
        """Return a context: a folder on the phone for what a program writes, gone afterwards."""
        return jobs.folder(self)

    def run_detached(self, script: str, timeout_s: float) -> jobs.Finished:
        """Run a shell script by itself, with no word to the phone until it ended. See jobs.run."""
        return jobs.run(self, script, timeout_s)

    def state(self) -> state.State:
        """Return what the phone is and how it is now."""
        return state.read(self)

    def pinned(self, cpus: Iterable[int]) -> str:
        """Return the words before a command that keep it to these cores: 'taskset f0 '; '' for no cores.

        Raises:
            InvalidRequest: the phone has no such core.
        """
        wanted = sorted(set(cpus))
        if not wanted:
            return ""
        n_cpus = self.state().n_cpus
        if wanted[0] < 0 or wanted[-1] >= n_cpus:
            message = f"there are no cores {wanted} on the phone {self.serial}"
            raise InvalidRequest(message, hint=f"It has the cores 0 to {n_cpus - 1}.")
        return f"taskset {sum(1 << cpu for cpu in wanted):x} "

    def awake(self, timeout_s: float) -> contextlib.AbstractContextManager[bool]:
        """Return a context in which the phone's screen stays on; settings come back whatever happens."""
        return awake.awake(self, timeout_s)

    def cool_down(self, limit_degc: float, timeout_s: float) -> dict[str, Any]:
        """Wait until the phone's hottest CPU sensor reads at most `limit_degc`.

        Returns what a record says of it: `before_degc`, `after_degc`, `waited_s`, and `warnings` where it did
        not get there in `timeout_s`, or shows no temperature.
        """
        start = time.monotonic()
        before = now = self.state().hottest_degc
        while now is not None and now > limit_degc and time.monotonic() - start < timeout_s:
            progress(0.0, f"cooling down: {now:.0f} degC, {limit_degc:g} wanted")
            time.sleep(min(COOL_EVERY_S, timeout_s))
            now = self.state().hottest_degc
        warnings = []
        if now is None:
            warnings = ["The phone shows no temperatures, so it was not waited for."]
        elif now > limit_degc:
            warnings = [f"The phone was at {now:.1f} degC after {timeout_s:g} s; {limit_degc:g} was wanted."]
        waited_s = round(time.monotonic() - start, 1)
        return {"before_degc": before, "after_degc": now, "waited_s": waited_s, "warnings": warnings}

    def clean_up(self) -> None:
        """End what runs there, give settings back, remove all that this project put on the phone."""
        jobs.kill_all(self)
        awake.restore(self)
        self.shell(f"rm -rf {self.root}", timeout_s=120).check(f"removing {self.root}")
