"""What a trace cannot carry: an energy that is refused instead of being wrong."""

from __future__ import annotations

from tools.stage import StageError


class Refused(StageError):
    """The trace is a good file, but no energy can be told from it with an uncertainty that is known."""
