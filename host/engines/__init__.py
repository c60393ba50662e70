"""Engines: what executes a stage. `docker` runs the tool's image, `venv` its lock file in an environment.

Both start a tool as a process that reads stage folders on standard input and reports on standard error
(`tools.stage.Tool.serve`); what is said on that wire is in `host.session`, and the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

Note = Callable[[str], None]


class Process(Protocol):
    """A started tool; `command` is what started it."""

    command: str

    def send(self, line: str) -> None:
        """Write one line to its standard input."""

    def share(self, path: str) -> None:
        """Let it see a file of a stage's folder, `path` below the work folder, that was written by now."""

    def lines(self) -> Iterator[str]:
        """Yield what it prints, line by line, until it ends."""

    def close(self) -> str:
        """Close its standard input, wait for its end, and say how it ended ('exit code 0').

        Raises:
            StageError: its end has a cause that the engine knows.
        """

    def kill(self) -> None:
        """End it and all that it started, at once."""


def name_of(tool: str) -> str:
    """Return the tool's name of what `Command.runs_as` says."""
    return tool.partition(":")[0]


def service_of(tool: str, builds: Mapping[str, str]) -> str:
    """Return the service that runs it."""
    return builds.get(tool) or builds.get(name_of(tool)) or name_of(tool)


class Engine(Protocol):
    """Where tools run. `name` and `why` go into every record.

    `builds` names the service that runs a tool, for tools that another build than their usual one is to run.
    `tool` below is what `Command.runs_as` says: a tool's name, or with `:sdk` for what drives an SDK.
    """

    name: str
    why: str
    builds: Mapping[str, str]

    def toolchain(self, tool: str) -> str:
        """Return what identifies the tool's code and packages; part of every key in the store.

        Raises:
            Unavailable: the tool cannot run on this engine.
        """

    def owner(self, tool: str) -> tuple[int, int] | None:
        """Return user and group id that a stage folder must belong to, None for the caller's own."""

    def start(self, tool: str, work: Path, note: Note) -> Process:
        """Start the tool in the shared folder `work`; `note` is told of what takes long.

        Raises:
            Unavailable: the tool cannot run on this engine.
            DeviceNotFound: a device that its service asks for is not there.
        """
