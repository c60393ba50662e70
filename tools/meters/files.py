"""Small files of the kernel: numbers and words, and what to say where there are none."""

from __future__ import annotations

from pathlib import Path

from tools.stage import DeviceNotFound, StageError

GONE = "Is the device still there? python runner.py devices"


def word(path: Path, denied: str = "") -> str:
    """Return what a file says, without the end of its line.

    `denied` is what to do where this user may not read it.

    Raises:
        DeviceNotFound: it is not there any more, or may not be read.
    """
    try:
        return path.read_text(errors="replace").strip()
    except PermissionError:
        message = f"{path} may not be read by this user"
        raise DeviceNotFound(message, hint=denied or GONE) from None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise DeviceNotFound(message, hint=GONE) from None


def number(path: Path, denied: str = "") -> int:
    """Return the whole number in a file.

    Raises:
        DeviceNotFound: as `word`.
        StageError: it says something else.
    """
    text = word(path, denied)
    try:
        return int(text)
    except ValueError:
        message = f"{path} says {text[:40]!r}, which is no number"
        raise StageError(message, hint="Please report it, with the file.") from None


def optional(path: Path) -> str:
    """Return what a file says, "" if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
