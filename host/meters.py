"""Meters: which there are, which one a recording gets, and that no two programs use one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from host import toolbox
from tools.names import nearest
from tools.recording import Attached
from tools.stage import Command, DeviceNotFound, InvalidRequest

AUTO = "auto"
LOCKS = (Path("/run/lock"), Path(tempfile.gettempdir()))  # of the host, whatever the work folder: the first


def commands() -> Mapping[str, Command]:
    """Return the commands that record a trace, by their meter's name for `--meter`."""
    return {command.meter: command for command in toolbox.commands() if command.meter}


def present(command: Command, root: Path = Path("/")) -> list[Attached]:
    """Return a command's meters that are here; nothing is opened.

    The meter's module, `tools.<tool>.<meter>` or else the tool's own, says it by its function `present`.
    """
    found: list[Attached] = _module(command).present(root)
    return found


def choose(name: str, serial: str = "") -> tuple[Command, dict[str, Any]]:
    """Return the command that records with the meter `name`, and the parameters that say which device.

    `auto` is the one meter that is here.

    Raises:
        InvalidRequest: there is no meter of that name.
        DeviceNotFound: none is here, or more than one, and nothing says which.
    """
    known = commands()
    if name != AUTO and name not in known:
        message = f"there is no meter {name!r}"
        raise InvalidRequest(message, hint=nearest(name, known))
    wanted = known if name == AUTO else {name: known[name]}
    found = [(meter, one) for meter, command in wanted.items() for one in present(command)]
    if serial:
        found = [(meter, one) for meter, one in found if one.serial == serial]
    which = "meter" if name == AUTO else f"meter {name}"
    which += f" with the serial number {serial}" if serial else ""
    if not found:
        message = f"there is no {which} here"
        raise DeviceNotFound(message, hint="python runner.py power list says which meters are here.")
    if len(found) > 1:
        listed = ", ".join(f"{meter} {one.serial}".strip() for meter, one in found)
        message = f"there is more than one {which} here: {listed}"
        raise DeviceNotFound(message, hint="Say which with --meter NAME and --meter-serial SERIAL.")
    [(meter, one)] = found
    if one.problem:
        message = f"{one.name} cannot be used: {one.problem}"
        raise DeviceNotFound(message, hint=one.hint)
    return known[meter], {"meter_serial": one.serial}


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


def _module(command: Command) -> ModuleType:
    try:
        return importlib.import_module(f"tools.{command.tool}.{command.meter}")
    except ModuleNotFoundError:
        return importlib.import_module(f"tools.{command.tool}")
