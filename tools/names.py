"""What is said of a name that nobody knows: the nearest that is known, and what there is.

Standard library only: host and tools both import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LISTED = 15  # names; more in one line hide the suggestion


def similar(name: Any, known: Iterable[str]) -> str:
    """Return `Did you mean X? ` of the known name that is most like `name`, in whatever case, if one is."""
    folded = {one.lower(): one for one in known}
    close = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.7)
    return f"Did you mean {folded[close[0]]}? " if close else ""


def nearest(name: Any, known: Iterable[str], listing: str = "") -> str:
    """Return the hint for an unknown name: the nearest that is known, and what there is.

    `listing` says how to list what there is, where that is too much for a line.
    """
    names = list(known)
    more = " and more." if len(names) > LISTED else "."
    return similar(name, names) + (listing or f"There are {', '.join(names[:LISTED])}{more}")
