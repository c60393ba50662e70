"""Files with what a vendor's program printed: read as a whole or refused, never with an exception.

What the parsers of such files return has `status` (`ok` or `failed`), `reason` and `hint`, beside what was
found; of one that failed, that is what there is of it.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

LIMIT_BYTES = 16 << 20  # a table of some ten thousand layers and a dozen columns has a tenth of it


def read(path: Path, parse: Callable[[str], dict[str, Any]], program: str) -> dict[str, Any]:
    """Return what `parse` finds in a file that `program` printed."""
    with path.open("rb") as file:
        data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        return failed(f"the file is larger than {LIMIT_BYTES >> 20} MB, which no output of {program} is")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Windows PowerShell's `>` writes that
        return parse(data.decode("utf-16", errors="replace"))
    if b"\0" in data:
        return failed("it is not text", f"Give what {program} printed, in UTF-8.")
    return parse(data.decode("utf-8-sig", errors="replace"))  # Windows' editors begin a file with a mark


def ok(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a file that is whole."""
    return {"status": "ok", "reason": None, "hint": None, **found}


def failed(reason: str, hint: str = "Give the whole output of one run.", **found: Any) -> dict[str, Any]:
    """Return the result of a file that is not; `found` is what there is of it."""
    return {"status": "failed", "reason": reason, "hint": hint, **found}
