"""Packets of samples to amperes and volts, many at once.

A packet is up to 64 bytes: how many samples were lost so far (16 bits, little endian), flags (a sequence
number in the lowest 4), how many observations follow (1 to 3), and those, nine words each, big endian.
Layout and formulas as in PyMonsoon 0.1.88, which two other clients share; API.pdf has some offsets wrong.
tests/test_monsoon_packets.py has the vectors.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Iterator, Optional, Sequence

from tools.monsoon.protocol import PACKET_BYTES, RATE_HZ, USB_VOLT, Model
from tools.trace import TIME

if TYPE_CHECKING:
    import numpy as np

HEAD_BYTES, OBSERVATION_BYTES, OBSERVATIONS = 4, 18, 3
LENGTHS = {HEAD_BYTES + OBSERVATION_BYTES * count for count in (1, 2, 3)} | {PACKET_BYTES}
SEQUENCE, OVER_CURRENT = 0x0F, 0x10  # of the flags
TYPE_AT, TYPE = 17, 0x30  # of an observation: its last byte, two bits of it
MEASURED, ZERO, REFERENCE = 0x00, 0x10, 0x30
WORDS = {"main": (0, 1), "usb": (2, 3)}  # of an observation: coarse, fine
MAIN_VOLTAGE, USB_VOLTAGE = 6, 7
CURRENT_WORDS = 6
KEPT = 5  # calibrations over which a mean is taken
BLOCK = 4096  # packets at a time: what they become fits into the processor's cache
# Without a row a time is interpolated over. That is right for the few samples in which the meter calibrates
# itself, and wrong for more.
HOLE = 10
LOST = "lost"  # a column of how many samples were lost, 0 but in rows that stand for a gap


@dataclasses.dataclass(frozen=True)
class Scale:
    """What turns a channel's calibrated words into current: mA (coarse) and uA (fine) at the reference."""

    coarse: float
    fine: float
    coarse_zero: float = 0.0
    fine_zero: float = 0.0


@dataclasses.dataclass(frozen=True)
class Packets:
    """Packets [n, bytes] in their order, as they came; `valid` are those that are as long as they say."""

    data: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, received: Sequence[bytes]) -> Packets:
        """Join what transfers brought. Packets of one length, which is what comes, are joined as they are."""
        import numpy as np

        sizes = set(map(len, received))
        if len(sizes) == 1 and sizes <= LENGTHS:
            [size] = sizes
            lengths: Any = size
        else:
            size, lengths = PACKET_BYTES, np.fromiter(map(len, received), np.int64, len(received))
            received = [each.ljust(size, b"\0")[:size] for each in received]
        data = np.frombuffer(b"".join(received), np.uint8).reshape(-1, size)
        fits = lengths >= HEAD_BYTES + OBSERVATION_BYTES * data[:, 3].astype(np.int64)
        return cls(data, fits & (data[:, 3] >= 1) & (data[:, 3] <= OBSERVATIONS))

    @property
    def dropped(self) -> np.ndarray:
        """The counter of lost samples, uint16 [n]."""
        return self.data[:, :2].copy().view("<u2")[:, 0]

    @property
    def flags(self) -> np.ndarray:
        """The flags, uint8 [n]."""
        return self.data[:, 2]

    @property
    def counts(self) -> np.ndarray:
        """How many observations each has, uint8 [n]."""
        return self.data[:, 3]

    def take(self, which: np.ndarray) -> Packets:
        """Return some of them: a mask or an order."""
        return Packets(self.data[which], self.valid[which])


class Gaps:
    """Puts a row of NaN where samples are missing, from one batch of rows to the next."""

    def __init__(self) -> None:
        self._last: Optional[int] = None  # the number of the last row, and the losses up to it
        self._lost = 0

    def fill(
        self, columns: dict[str, np.ndarray], numbers: np.ndarray, losses: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the columns of the samples `numbers` [n], with the gaps and the column LOST.

        `losses` [n]: how many samples were lost up to each.
        """
        import numpy as np

        columns[LOST] = np.zeros(len(numbers), np.int64)
        before, lost_before = self._last, self._lost
        self._last, self._lost = int(numbers[-1]), int(losses[-1])
        if before is None:
            before, lost_before = int(numbers[0]) - 1, int(losses[0])
        whole = self._last - int(numbers[0]) == len(numbers) - 1  # then only the first may follow a gap
        some = slice(0, 1) if whole else slice(None)
        steps = np.diff(numbers[some], prepend=before)
        lost = np.diff(losses[some], prepend=lost_before)
        at = np.flatnonzero((lost > 0) | (steps > HOLE + 1))
        if not len(at):
            return columns
        known = {TIME: (numbers[at] - steps[at] + 1) / RATE_HZ, LOST: lost[at]}
        return {name: np.insert(column, at, known.get(name, np.nan)) for name, column in columns.items()}


@dataclasses.dataclass(frozen=True)
class Line:
    """A straight line from words to A, for the coarse and the fine range."""

    coarse_zero: float
    coarse_a: float
    fine_zero: float
    fine_a: float


class Decoder:
    """Turns packets into columns. It keeps the calibrations, of which each channel needs five of each kind.

    Before they are there no current is known and no row comes out; `calibrated` tells. A reference that
    equals the zero gives NaN, not 0 A as with PyMonsoon; a calibration word of 0 counts, which it leaves out.
    """

    def __init__(self, model: Model, scales: dict[str, Scale]) -> None:
        self._model = model
        self._scales = scales
        self._zeros: collections.deque[np.ndarray] = collections.deque(maxlen=KEPT)
        self._references: collections.deque[np.ndarray] = collections.deque(maxlen=KEPT)
        self._lines: dict[str, Line] = {}
        self._gaps = Gaps()
        self.columns = [f"{channel}_{unit}" for channel in scales for unit in "av"]

    @property
    def calibrated(self) -> bool:
        """Whether currents are known by now."""
        return len(self._zeros) == KEPT and len(self._references) == KEPT

    def decode(self, packets: Packets, first: np.ndarray, lost: np.ndarray) -> dict[str, np.ndarray]:
        """Return columns: `time_s`, those in `columns`, and LOST.

        `first` [n] is the number of each packet's first sample on the meter's clock, `lost` [n] how many
        samples were lost up to there. All packets have to be valid.
        """
        import numpy as np

        parts = [
            part
            for start in range(0, len(packets.data), BLOCK)
            for part in self._block(*(each[start : start + BLOCK] for each in (packets.data, first, lost)))
        ]
        if not parts:
            return {name: np.empty(0) for name in [TIME, *self.columns, LOST]}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _block(
        self, data: np.ndarray, first: np.ndarray, lost: np.ndarray
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the columns of the samples between one calibration and the next."""
        import numpy as np

        count = (data.shape[1] - HEAD_BYTES) // OBSERVATION_BYTES
        body = data[:, HEAD_BYTES : HEAD_BYTES + count * OBSERVATION_BYTES].reshape(-1, OBSERVATION_BYTES)
        numbers = (first[:, None] + np.arange(count)).reshape(-1)
        if (data[:, 3] < count).any():  # padding looks like samples
            there = (np.arange(count) < data[:, 3, None]).reshape(-1)
            body, numbers = body[there], numbers[there]
        words, kinds, losses = body.view(">u2"), body[:, TYPE_AT] & TYPE, np.repeat(lost, data[:, 3])
        start = 0
        for at in [*np.flatnonzero((kinds == ZERO) | (kinds == REFERENCE)), len(kinds)]:
            measured = kinds[start:at] == MEASURED
            if self.calibrated and measured.any():
                which = slice(start, at) if measured.all() else start + np.flatnonzero(measured)
                yield self._rows(words[which], numbers[which], losses[which])
            if at < len(kinds):
                self._calibrate(words[at], int(kinds[at]))
            start = at + 1

    def _calibrate(self, words: np.ndarray, kind: int) -> None:
        """Take a calibration, of which there is one for all channels and both ranges."""
        import numpy as np

        row = self._currents(words[:CURRENT_WORDS]).astype(np.float64)
        (self._zeros if kind == ZERO else self._references).append(row)
        if self.calibrated:
            zero, reference = np.mean(self._zeros, axis=0), np.mean(self._references, axis=0)
            for channel, scale in self._scales.items():
                coarse, fine = WORDS[channel]
                self._lines[channel] = Line(
                    *_line(zero[coarse] + scale.coarse_zero, reference[coarse], scale.coarse * 1e-3),
                    *_line(zero[fine] + scale.fine_zero, reference[fine], scale.fine * 1e-6),
                )

    def _currents(self, words: np.ndarray) -> np.ndarray:
        return words.view(">i2") if self._model.signed else words

    def _rows(self, words: np.ndarray, numbers: np.ndarray, losses: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of samples that one calibration holds for, with a row in each gap."""
        columns = {TIME: numbers / RATE_HZ}
        for channel, line in self._lines.items():
            columns[f"{channel}_a"] = self._amperes(words, *WORDS[channel], line)
            at, volt = (MAIN_VOLTAGE, self._model.volt) if channel == "main" else (USB_VOLTAGE, USB_VOLT)
            columns[f"{channel}_v"] = words[:, at] * volt
        return self._gaps.fill(columns, numbers, losses)

    def _amperes(self, words: np.ndarray, coarse_at: int, fine_at: int, line: Line) -> np.ndarray:
        """Return currents: by the fine word, or by the coarse one where that is at its end."""
        import numpy as np

        currents = self._currents(words)
        native = np.int16 if self._model.signed else np.uint16
        fine, coarse = currents[:, fine_at].astype(native), currents[:, coarse_at].astype(native)
        use_fine = fine < self._model.fine_below
        raw = np.where(use_fine, fine, coarse).astype(np.float64)
        raw -= np.where(use_fine, line.fine_zero, line.coarse_zero)
        raw *= np.where(use_fine, line.fine_a, line.coarse_a)
        return raw


def _line(zero: float, reference: float, scale_a: float) -> tuple[float, float]:
    return float(zero), float(scale_a / (reference - zero)) if reference != zero else float("nan")
