"""A Jetson board's rails by the best way there is: the kernel's files of its monitors, else tegrastats.

Both are meters of their own too (`ina3221`, `tegrastats`), and a trace says which of them it is of.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tools.meters import ina3221, tegrastats
from tools.recording import Attached
from tools.stage import DeviceNotFound

if TYPE_CHECKING:
    from tools.recording import Reader


def present(root: Path = Path("/")) -> list[Attached]:
    """Say whether this is a board whose rails can be read, and how."""
    return ina3221.present(root) or tegrastats.present(root)


@contextlib.contextmanager
def opened(root: Path, rate_hz: float) -> Iterator[Reader]:
    """Yield a reader of all rails; where the monitors' files are no way its `meta.note` says why.

    Raises:
        DeviceNotFound: there is neither of the two.
        StageError: tegrastats prints no rails.
    """
    with contextlib.ExitStack() as stack:
        try:
            reader: Reader = stack.enter_context(ina3221.opened(root, rate_hz))
        except DeviceNotFound as error:
            reader = stack.enter_context(_instead(error, root, rate_hz))
        yield reader


@contextlib.contextmanager
def _instead(error: DeviceNotFound, root: Path, rate_hz: float) -> Iterator[Reader]:
    if tegrastats.program(root) is None:
        message = f"{error}, and there is no tegrastats"
        raise DeviceNotFound(message, hint=ina3221.NONE_HINT)
    with tegrastats.opened(root, rate_hz) as reader:
        reader.meta = dataclasses.replace(reader.meta, note=f"{error}, so tegrastats was read instead")
        yield reader
