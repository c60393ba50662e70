"""The tools that there are, and which command makes which artifact.

A tool is an image folder, a module of the same name and a compose service; being there is all that it takes
to be known here. A tool may have other builds: the same code with another lock file, a service of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from host import ROOT
from tools.names import nearest
from tools.stage import Command, InvalidRequest, Tool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """A way to run a tool's code: its compose service, its lock file, and the Python version of that."""

    service: str
    tool: str
    python: str
    lock: Path


@functools.cache
def tools() -> Mapping[str, Tool]:
    """Return every tool by name. Their modules import the standard library only, so this is quick."""
    names = sorted(folder.name for folder in (ROOT / "images").iterdir() if folder.is_dir())
    return {name: importlib.import_module(f"tools.{name}").tool for name in names}


@functools.cache
def builds() -> Mapping[str, Build]:
    """Return every build of every tool by its service's name; a tool's usual one has the tool's name."""
    found = {}
    for tool in tools().values():
        folder = ROOT / "images" / tool.name
        for name, python in {"": tool.python, **tool.builds}.items():
            suffix = f"-{name}" if name else ""
            service, lock = tool.name + suffix, folder / f"requirements{suffix}.txt"
            found[service] = Build(service=service, tool=tool.name, python=python, lock=lock)
    return found


def commands() -> Iterable[Command]:
    """Yield every command of every tool."""
    for tool in tools().values():
        yield from tool.commands.values()


def backends() -> list[str]:
    """Names of the tools that measure, which makes them rows of the main job's result."""
    return [tool.name for tool in tools().values() if any(c.measures for c in tool.commands.values())]


def find(full_name: str) -> Command:
    """Return the command `tool.command`.

    Raises:
        InvalidRequest: there is none of that name; the hint suggests the nearest.
    """
    known = {command.full_name: command for command in commands()}
    if full_name not in known:
        message = f"there is no stage {full_name!r}"
        raise InvalidRequest(message, hint=nearest(full_name, known))
    return known[full_name]


def producer(artifact: str) -> Command:
    """Return the one command that makes `artifact` of what other commands make.

    One that needs a file that only the user has (a trained checkpoint) is for a plan to choose.

    Raises:
        InvalidRequest: none does.
    """
    makers = _makers(artifact)
    if len(makers) != 1:
        names = ", ".join(command.full_name for command in makers) or "no stage"
        message = f"{names} makes the artifact {artifact!r}; it takes exactly one"
        raise InvalidRequest(message, hint=f"Give the file yourself: --input {artifact}=PATH")
    return makers[0]


def is_made(artifact: str) -> bool:
    """Whether some command makes `artifact`."""
    return bool(_makers(artifact))


@functools.cache
def _makers(artifact: str) -> list[Command]:
    """Return the commands that make `artifact` of what others make, and not of a file of the user's."""
    made = {name for command in commands() for name in command.outputs}
    return [
        command
        for command in commands()
        if artifact in command.outputs
        and command.cached
        and made.issuperset(set(command.inputs) - set(command.optional))
    ]


def in_precision(artifact: str, precision: str) -> str:
    """Return the name of an artifact in a precision: of `tflite` in int8-dynamic, `tflite_int8_dynamic`."""
    return f"{artifact}_{precision.replace('-', '_')}"
