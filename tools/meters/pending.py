"""What came of a meter and becomes samples: of an error among it nothing is lost that came before."""

from __future__ import annotations

import collections
import contextlib
import queue
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Callable, Deque, Generic, TypeVar

from tools.stage import StageError

if TYPE_CHECKING:
    Rows = Sequence[Sequence[float]]

Item = TypeVar("Item")


class Pending(Generic[Item]):
    """Items that are still to be read by `rows_of`. One that cannot be is told when those before are kept."""

    def __init__(self, rows_of: Callable[[Item], Rows]) -> None:
        self._rows_of = rows_of
        self._items: Deque[Item] = collections.deque()

    def rows(self, items: Iterable[Item]) -> list[Sequence[float]]:
        """Return the rows of all items that wait, `items` the last of them.

        Raises:
            StageError: the first of them cannot be read.
        """
        self._items.extend(items)
        rows: list[Sequence[float]] = []
        while self._items:
            try:
                rows += self._rows_of(self._items[0])
            except StageError:
                if rows:
                    return rows
                raise
            self._items.popleft()
        return rows


def drained(came: queue.SimpleQueue[Item]) -> list[Item]:
    """Return what is in a queue, waiting for 0.1 s at most for the first of it."""
    items: list[Item] = []
    with contextlib.suppress(queue.Empty):
        items.append(came.get(timeout=0.1))
        while True:
            items.append(came.get_nowait())
    return items
