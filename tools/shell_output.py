"""What a shell script on a phone or a board has printed: its sections, and what df said."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tools.stage import StageError


def sections(text: str, name: str = r"\w+") -> Mapping[str, str]:
    """Return the parts of an output below its lines `@@ NAME`, by names of the pattern `name`."""
    parts = re.split(rf"^@@ ({name})\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def free_bytes(text: str, whose: str) -> int:
    """Return the free space that `df -k` told; `whose` it is goes into the error.

    Raises:
        StageError: there is no such line.
    """
    # Filesystem 1K-blocks Used Available Use% Mounted
    found = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%", text)
    if found is None:
        message = f"{whose}'s df cannot be read: {text[:200]!r}"
        raise StageError(message, hint="Please report this line.")
    return int(found[1]) * 1024
