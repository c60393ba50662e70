"""Meters: which there are, which one a recording gets, and that no two programs use one at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from host import toolbox
from host.engines import Engine
from host.engines.venv import VenvEngine
from host.plan import parse_settings
from tools.names import nearest
from tools.recording import Attached
from tools.stage import Command, DeviceNotFound, InvalidRequest, StageError, Unsupported
from tools.usb import Host

AUTO = "auto"
OF_BOARDS = "jetson"  # what `auto` is on a board
LOCKS = (Path("/run/lock"), Path(tempfile.gettempdir()))  # of the host, whatever the work folder: the first


def commands() -> Mapping[str, Command]:
    """Return the commands that record a trace, by their meter's name for `--meter`."""
    return {command.meter: command for command in toolbox.commands() if command.meter}


def for_auto() -> Mapping[str, Command]:
    """Return those of them that `auto` looks for: all but the ways to one that is among them."""
    return {name: command for name, command in commands().items() if name not in _of_tool(command, "WAYS")}


def present(command: Command, root: Path | None = None) -> list[Attached] | None:
    """Return a command's meters that are here, None if that cannot be told; nothing is opened.

    The meter's module, `tools.<tool>.<meter>` or else the tool's own, says it by its function `present`.
    """
    look: Callable[[Path], list[Attached]] | None = getattr(_module(command), "present", None)
    return look(root or Host.current().root) if look else None


def host_only(command: Command) -> str:
    """Return why no container reaches a command's meter, "" if one does; its tool's `HOST_ONLY` says it."""
    return _of_tool(command, "HOST_ONLY").get(command.meter, "")


def engine_for(command: Command, engine: Engine) -> Engine:
    """Return what runs a meter's command: the run's engine, or venv where no container reaches the meter."""
    why = host_only(command)
    return VenvEngine(why) if why and engine.name != VenvEngine.name else engine


def choose(name: str, serial: str = "", *, boards: bool = False) -> tuple[Command, dict[str, Any]]:
    """Return the command that records with the meter `name`, and the parameters that say which device.

    `auto` is the one meter that is here, with `boards` the one that these have. One that cannot be looked for
    (a board's own, an instrument in the network) is believed to be there.

    Raises:
        InvalidRequest: there is no meter of that name, or more than one is here and nothing says which.
        DeviceNotFound: none is here, or it cannot be used.
        Unsupported: it is one of a board's own that no container there reaches.
    """
    known = commands()
    if name != AUTO and name not in known:
        message = f"there is no meter {name!r}"
        raise InvalidRequest(message, hint=nearest(name, known))
    if boards and name == AUTO:
        name = OF_BOARDS
    if boards and known[name].on_board:
        if why := host_only(known[name]):
            message = f"{name} does not record on a board: {why}"
            raise Unsupported(message, hint=f"--meter {OF_BOARDS} reads a Jetson's rails.")
        return known[name], {"meter_serial": serial}
    wanted = for_auto() if name == AUTO else {name: known[name]}
    here = {meter: present(command) for meter, command in wanted.items()}
    if here.get(name, ()) is None:
        return known[name], {"meter_serial": serial}
    found = [(meter, one) for meter, attached in here.items() for one in attached or ()]
    if serial:
        found = [(meter, one) for meter, one in found if one.serial == serial]
    which = "meter" if name == AUTO else f"meter {name}"
    which += f" with the serial number {serial}" if serial else ""
    if not found:
        message = f"there is no {which} here"
        raise DeviceNotFound(message, hint="python runner.py power list says which meters are here.")
    if len(found) > 1 and name == AUTO:
        found = [(meter, one) for meter, one in found if not one.problem] or found
    if len(found) > 1:
        listed = ", ".join(f"{meter} {one.serial}".strip() for meter, one in found)
        message = f"there is more than one {which} here: {listed}"
        raise InvalidRequest(message, hint="Say which with --meter NAME and --meter-serial SERIAL.")
    [(meter, one)] = found
    if one.problem:
        message = f"{one.name} cannot be used: {one.problem}"
        raise DeviceNotFound(message, hint=one.hint)
    return known[meter], {"meter_serial": one.serial}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The meter of a run: the command that records with it and its parameters, or why there is none."""

    command: Command | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    missing: StageError | None = None

    def engine(self, engine: Engine) -> Engine:
        """Return what runs the meter in a run on `engine`."""
        return engine_for(self.command, engine) if self.command else engine

    def record(self) -> dict[str, Any]:
        """Return what results.json says of it."""
        missing = self.missing
        return {
            "name": self.command.meter if self.command else None,
            "serial": self.params.get("meter_serial") or None,
            "reason": str(missing) if missing else None,
            "hint": (missing.hint or None) if missing else None,
        }


@contextlib.contextmanager
def held(
    name: str,
    serial: str,
    sets: Sequence[str],
    settings: Mapping[str, Any],
    *,
    lock: bool = True,
    boards: bool = False,
) -> Iterator[Chosen | None]:
    """Choose the meter of a run and hold it; None if none is wanted.

    `sets` are its own parameters, `name=value`; `settings` those of all stages that take them; with `boards`
    as `choose`. Where `auto` finds none that can be used the run goes on without one, and says so. A board's
    own meter needs no lock: whoever has the board has it.

    Raises:
        InvalidRequest, Unsupported: as `choose`, or a parameter is wrong.
        DeviceNotFound: the meter that was named is not here, or in use.
    """
    if not name:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            command, device = choose(name, serial, boards=boards)
            own = _own(sets, command)
            if lock and not (boards and command.on_board):
                stack.enter_context(locked(command.meter, device["meter_serial"]))
        except DeviceNotFound as error:
            if name != AUTO:
                raise
            chosen = Chosen(missing=error)
        else:
            known = {key: value for key, value in settings.items() if key in command.params}
            chosen = Chosen(command=command, params={**known, **own, **device})
        yield chosen


def _own(sets: Sequence[str], command: Command) -> dict[str, Any]:
    own = parse_settings(sets, command)
    if unknown := [key for key in own if key not in command.params]:
        message = f"the meter {command.meter} has no {unknown[0]!r}"
        raise InvalidRequest(message, hint=nearest(unknown[0], command.params))
    return own


@contextlib.contextmanager
def locked(meter: str, serial: str = "") -> Iterator[None]:
    """Hold a meter for this program; the kernel frees it, however we end.

    Raises:
        DeviceNotFound: another program holds it; the message names its process.
    """
    folder = next(folder for folder in LOCKS if os.access(folder, os.W_OK))
    name = re.sub(r"[^A-Za-z0-9_]", "-", f"{meter}-{serial}".rstrip("-"))
    path = folder / f"mobile-accelerator-{name}.lock"
    with os.fdopen(_opened(path), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"the meter {meter} is in use by process {lock.read().strip() or '?'}"
            raise DeviceNotFound(message, hint="Wait for it to end: one meter has one reader.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _opened(path: Path) -> int:
    """Open a lock's file for whoever uses this host, as its owner or not."""
    try:  # without O_CREAT, which the kernel forbids for another user's file here (fs.protected_regular)
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.fchmod(descriptor, 0o666)
        return descriptor


def _of_tool(command: Command, table: str) -> Mapping[str, str]:
    """Return what the package of a command's tool says of its meters, if it does."""
    said: Mapping[str, str] = getattr(importlib.import_module(f"tools.{command.tool}"), table, {})
    return said


def _module(command: Command) -> ModuleType:
    try:
        return importlib.import_module(f"tools.{command.tool}.{command.meter}")
    except ModuleNotFoundError:
        return importlib.import_module(f"tools.{command.tool}")
