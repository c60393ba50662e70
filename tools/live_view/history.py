"""What is kept of a trace for looking at: least, greatest and mean value of ever coarser spans of time.

Memory has a bound whatever the rate, the duration and the number of channels: a level holds so many rows,
and forgets the oldest. The finest has a row for each sample; the others one for each span of their width in
which there was a sample, so that a level with four times the width reaches four times as far back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, List, Sequence, Tuple

from tools.running_energy import RunningEnergy
from tools.trace import MARKER, TIME

if TYPE_CHECKING:
    import numpy as np

    from tools.trace import Chunk

BUDGET_BYTES = 64 << 20
LEAST_ROWS = 4096  # more than a screen is wide
WIDTHS_S = (0.0, *(0.001 * 4**power for power in range(9)))  # each sample; 1 ms to 65 s
START, COUNT, LOST, MARKERS, FIXED = range(5)  # columns of a row; least, greatest, mean and energy follow


class History:
    """The levels of a trace with these columns.

    A row is [first time s, samples, gaps among them, marker bits, least of each series, greatest of each,
    mean of each, energy in J of each channel up to its end]; `series` are the trace's columns but counters,
    and each channel's power. A series without a value in a row is NaN there.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.energy = RunningEnergy(columns)
        measured = [channel.name for channel in self.energy.channels if channel.measures]
        self._measured = [name for name in columns if name != MARKER]
        given = [name for name in self._measured if not name.endswith("_j")]
        self.series = [*given, *(f"{name}_w" for name in measured if f"{name}_w" not in columns)]
        self.channels = [channel.name for channel in self.energy.channels]
        count = len(self.series)
        self._blocks = [slice(FIXED + count * index, FIXED + count * (index + 1)) for index in range(3)]
        self.row_length = FIXED + 3 * count + len(self.channels)
        # half of it to the samples, which no other level can stand in for
        share = BUDGET_BYTES // (2 * 8 * self.row_length)
        depths = [share, *[share // (len(WIDTHS_S) - 1)] * (len(WIDTHS_S) - 1)]
        self._levels = [
            _Level(width_s, max(depth // 2, LEAST_ROWS), self.row_length)
            for width_s, depth in zip(WIDTHS_S, depths)
        ]

    def add(self, chunk: Chunk) -> None:
        """Take samples."""
        rows = self._rows(chunk)
        for level in self._levels:
            level.add(rows, self)

    def columns(self, start_s: float, end_s: float, width_s: float) -> np.ndarray:
        """Return the rows of [start_s, end_s), joined to one for each span of `width_s` (0: as they are).

        The span before and the row after come with them, for lines to the edges. Spans begin at multiples of
        the width. They are joined of the coarsest level that is at least as fine, or of a coarser one where
        that one has forgotten the start.
        """
        fine = [level for level in self._levels if level.width_s <= width_s] or self._levels[:1]
        coarse = self._levels[len(fine) :]
        level = next((one for one in [fine[-1], *coarse] if one.reaches(start_s)), self._levels[-1])
        rows = level.around(start_s, end_s, width_s)
        return self.join(rows, width_s) if width_s > level.width_s else rows.copy()

    def samples(self, start_s: float, end_s: float) -> Tuple[np.ndarray, float]:
        """Return the finest rows that are kept of all of [start_s, end_s), and how wide they are in s."""
        import numpy as np

        level = next((one for one in self._levels if one.reaches(start_s)), self._levels[-1])
        first, last = np.searchsorted(level.rows[:, START], [start_s, end_s])
        return level.rows[first:last].copy(), level.width_s

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Return the block of the rows with each series' means."""
        return rows[:, self._blocks[2]]

    def join(self, rows: np.ndarray, width_s: float) -> np.ndarray:
        """Join neighbouring rows that start in the same span of `width_s`."""
        import numpy as np

        spans = np.floor(rows[:, START] / width_s)
        first = np.flatnonzero(np.diff(spans, prepend=-math.inf))
        if len(first) == len(rows):
            return rows.copy()
        least, greatest, mean = self._blocks
        joined = rows[first]
        joined[:, COUNT] = np.add.reduceat(rows[:, COUNT], first)
        joined[:, LOST] = np.add.reduceat(rows[:, LOST], first)
        joined[:, MARKERS] = np.bitwise_or.reduceat(rows[:, MARKERS].astype(np.uint8), first)
        joined[:, least] = np.fmin.reduceat(rows[:, least], first, axis=0)
        joined[:, greatest] = np.fmax.reduceat(rows[:, greatest], first, axis=0)
        weight = np.where(np.isnan(rows[:, mean]), 0.0, rows[:, COUNT, None] - rows[:, LOST, None])
        total = np.add.reduceat(np.nan_to_num(rows[:, mean]) * weight, first, axis=0)
        with np.errstate(invalid="ignore"):
            joined[:, mean] = total / np.add.reduceat(weight, first, axis=0)
        joined[:, mean.stop :] = rows[np.append(first[1:], len(rows)) - 1, mean.stop :]
        return joined

    def _rows(self, chunk: Chunk) -> np.ndarray:
        """Return a row for each sample."""
        import numpy as np

        energies = self.energy.add(chunk)
        powers = {f"{name}_w": power for name, (power, _) in energies.items()}
        rows = np.empty((len(chunk[TIME]), self.row_length))
        rows[:, START] = chunk[TIME]
        rows[:, COUNT] = 1.0
        rows[:, MARKERS] = chunk.get(MARKER, 0)
        for index, name in enumerate(self.series):
            values = chunk[name] if name in chunk else powers[name]
            for block in self._blocks:
                rows[:, block.start + index] = values
        rows[:, LOST] = np.all([np.isnan(chunk[name]) for name in self._measured], axis=0)
        for index, name in enumerate(self.channels):
            rows[:, self._blocks[2].stop + index] = energies[name][1]
        return rows


class _Level:
    """The newest rows of one width: `depth` at least, twice that at most, side by side in memory."""

    def __init__(self, width_s: float, depth: int, row_length: int) -> None:
        import numpy as np

        self.width_s = width_s
        self._depth = depth
        self._table = np.full((2 * depth, row_length), np.nan)  # filled: memory is taken now, not bit by bit
        self._end = 0
        self._forgot = False

    @property
    def rows(self) -> np.ndarray:
        return self._table[: self._end]

    def reaches(self, start_s: float) -> bool:
        """Whether it still has all that there was from `start_s` on."""
        return not self._forgot or (self._end > 0 and bool(self._table[0, START] <= start_s))

    def around(self, start_s: float, end_s: float, width_s: float) -> np.ndarray:
        """Return the rows of the span, the whole span of `width_s` before it, and the row after it.

        It is a view that the next `add` makes stale.
        """
        import numpy as np

        starts = self.rows[:, START]
        first, last = np.searchsorted(starts, [start_s, end_s])
        if first and width_s:
            first = np.searchsorted(starts, np.floor(starts[first - 1] / width_s) * width_s)
        return self.rows[max(0, first if width_s else first - 1) : last + 1]

    def add(self, rows: np.ndarray, history: History) -> None:
        import numpy as np

        if self.width_s:
            if self._end:  # its last span may still be open
                self._end -= 1
                rows = np.concatenate([self._table[self._end : self._end + 1], rows])
            rows = history.join(rows, self.width_s) if len(rows) else rows
        room = len(self._table) - self._end
        if len(rows) > room:
            kept: List[np.ndarray] = [self.rows[-self._depth :], rows]
            rows = np.concatenate(kept)[-self._depth :]
            self._end, self._forgot = 0, True
        self._table[self._end : self._end + len(rows)] = rows
        self._end += len(rows)
