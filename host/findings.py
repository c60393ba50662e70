"""How `doctor` and `devices` print what they found: plain lines, because rich takes 0.1 s to import."""

from __future__ import annotations

from collections.abc import Sequence


def print_findings(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print state, name and what was found in a line each, and what to do, if anything, in the next."""
    state_width, name_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for state, name, found, mend in rows:
        print(f"{state:{state_width}}  {name:{name_width}}  {found}")
        if mend:
            print(f"{'':{state_width}}  {'':{name_width}}  -> {mend}")
