"""One run: its folder `work/runs/<id>/` with records, report, raw samples and every stage's log."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host import machine
from host.plan import Stage
from host.store import link
from tools.stage import InvalidRequest, check_name


class Run:
    """A run's folder. It is `<id>.part` while the run goes on and gets its name, whole, at the end."""

    def __init__(self, work: Path, meter: Mapping[str, Any] | None = None) -> None:
        """Make it below `work`; `meter` is what results.json says of the run's, None if none was wanted."""
        self.meter = meter
        self.started = dt.datetime.now().astimezone()
        self.host = machine.facts()  # now: later the load is the run's own
        runs = work / "runs"
        runs.mkdir(exist_ok=True)
        stem = self.started.strftime("%Y%m%d-%H%M%S")
        taken = {path.name for path in runs.iterdir()}
        self.id = next(
            name for n in itertools.count(1) if (name := f"{stem}-{n}" if n > 1 else stem) not in taken
        )
        self.folder = runs / f"{self.id}.part"
        (self.folder / "logs").mkdir(parents=True)

    @classmethod
    def find(cls, work: Path, name: str) -> Run:
        """Return an earlier run, `latest` for the newest.

        Raises:
            InvalidRequest: there is none of that name.
        """
        folder = (work / "runs" / check_name(name, "run")).resolve()
        if not folder.is_dir():
            message = f"there is no run {name!r} in {work}"
            raise InvalidRequest(message, hint=f"The runs: {', '.join(run_names(work)) or 'none yet'}")
        run = cls.__new__(cls)
        run.id, run.folder = folder.name, folder
        return run

    def log(self, stage: Stage) -> Path:
        """Return the path of a stage's log."""
        return self.folder / "logs" / f"{_file_name(stage)}.log"

    def stage_path(self, stage: Stage) -> Path:
        """Return the folder of a stage that the store does not keep, such as a measurement."""
        return self.folder / "stages" / _file_name(stage)

    def stage_folder(self, stage: Stage) -> Path:
        """Return that folder, made anew."""
        folder = self.stage_path(stage)
        shutil.rmtree(folder, ignore_errors=True)  # there in a run whose report is made anew
        folder.mkdir(parents=True)
        return folder

    def close(self) -> Path:
        """Give the folder its name, point `latest` at it, and return it."""
        final = self.folder.with_name(self.id)
        self.folder.rename(final)
        link(final.with_name("latest"), final)
        return final


def run_names(work: Path) -> list[str]:
    """Return the names of all complete runs, oldest first."""
    folders = (path for path in (work / "runs").glob("*") if path.is_dir() and not path.is_symlink())
    return sorted(path.name for path in folders if path.suffix != ".part")


def _file_name(stage: Stage) -> str:
    name = f"{stage.model}.{stage.name}"
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).rstrip("-")
