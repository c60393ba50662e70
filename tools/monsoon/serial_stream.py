"""What comes over the serial line: samples of eight bytes, and calibrations of the same form.

Formulas as in ACTS (Apache-2.0), reverse-engineered, not verified here. A current's lowest bit says that it
is coarse; a calibration's samples are fine and coarse in turn; five of each kind are kept, as over USB.
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, Optional, Sequence

from tools.monsoon.host_clock import HostClock
from tools.monsoon.ledger import Ledger
from tools.monsoon.packets import KEPT, LOST, OVER_CURRENT, SEQUENCE, Gaps
from tools.monsoon.protocol import RATE_HZ
from tools.monsoon.serial_line import DATA, DATA_BITS, HEAD_BYTES, OBSERVATION_BYTES, TAIL_BYTES, Frames
from tools.monsoon.usb_stream import cut_off
from tools.stage import StageError
from tools.trace import TIME, Clock

if TYPE_CHECKING:
    import numpy as np

    from tools.trace import Chunk

MEASURED, ZERO, REFERENCE = 0, 1, 2  # the second byte of a packet
FINE_A, COARSE_A = 0.0332, 2.88  # at the reference
VOLT, OLD_VOLT = (
    125e-6,
    62.5e-6,
)  # per step of the voltage, without its two lowest bits; hardware A has the other
CHANNELS = {"main": 0, "usb": 1}


class SerialStream:
    """As `acquisition.Stream` says."""

    def __init__(self, channels: Sequence[str], hardware_revision: int) -> None:
        self.columns = [f"{channel}_a" for channel in channels] + ["main_v"]
        self.failure: Optional[StageError] = None
        self._channels = channels
        self._volt = OLD_VOLT if hardware_revision == 1 else VOLT
        self._frames = Frames()
        self._ledger = Ledger()
        self._clock = HostClock()
        self._gaps = Gaps()
        # by kind and range: fine 0, coarse 1; rows of three currents
        self._calibrations: dict[tuple[int, int], collections.deque[np.ndarray]] = {
            (kind, scale): collections.deque(maxlen=KEPT) for kind in (ZERO, REFERENCE) for scale in (0, 1)
        }

    @property
    def calibrated(self) -> bool:
        """Whether currents are known by now."""
        return all(len(kept) == KEPT for kept in self._calibrations.values())

    @property
    def samples(self) -> int:
        """How many samples the meter took so far."""
        return self._ledger.samples

    @property
    def clock(self) -> Optional[Clock]:
        """Where the meter's clock is on the host's."""
        return self._clock.clock

    @property
    def notes(self) -> Sequence[str]:
        """What is to be said of the recording."""
        skipped = self._frames.skipped
        lost = [f"{skipped} bytes on the serial line were part of no frame"] if skipped else []
        return [*lost, "over the serial line, whose protocol was not verified on a device"]

    def feed(self, times: list[float], received: list[bytes]) -> Chunk:
        """Return the samples of what came."""
        import numpy as np

        packets, came = [], []
        for came_s, data in zip(times, received):
            for payload in self._frames.feed(data):
                if payload[0] & DATA_BITS == DATA:
                    packets.append(payload)
                    came.append(came_s)
        counts = np.array([(len(each) - HEAD_BYTES - TAIL_BYTES) // OBSERVATION_BYTES for each in packets])
        sequence = np.array([each[0] & SEQUENCE for each in packets])
        first, lost = self._ledger.enter(sequence, None, counts)
        if packets:
            self._clock.arrived((first + counts - 1) / RATE_HZ, np.array(came))
        cut = [at for at, each in enumerate(packets) if each[0] & OVER_CURRENT]
        if cut and not self.failure:
            self.failure = cut_off(float(first[cut[0]] / RATE_HZ))
        rows = []
        for kind, group in itertools.groupby(range(len(packets)), lambda at: packets[at][1]):
            run = list(group)
            if kind in (ZERO, REFERENCE):
                for at in run:
                    self._calibrate(kind, _table(packets[at : at + 1]))
            elif kind == MEASURED and self.calibrated:
                which = slice(run[0], run[-1] + 1)
                rows.append(self._rows(packets[which], first[which], lost[which], counts[which]))
        if not rows:
            return {name: np.empty(0) for name in [TIME, *self.columns, LOST]}
        return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}

    def _calibrate(self, kind: int, table: np.ndarray) -> None:
        import numpy as np

        for index, row in enumerate(table):
            self._calibrations[kind, index % 2].append(row[:3].astype(np.float64))

    def _rows(
        self, packets: Sequence[bytes], first: np.ndarray, lost: np.ndarray, counts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the columns of measured samples."""
        import numpy as np

        table = _table(packets)
        numbers = np.arange(len(table)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        columns = {TIME: numbers / RATE_HZ}
        for channel in self._channels:
            columns[f"{channel}_a"] = self._amperes(table[:, CHANNELS[channel]], CHANNELS[channel])
        columns["main_v"] = (table[:, 3].astype(np.uint16) & 0xFFFC) * self._volt
        return self._gaps.fill(columns, numbers, np.repeat(lost, counts))

    def _amperes(self, raw: np.ndarray, place: int) -> np.ndarray:
        import numpy as np

        coarse = raw & 1
        scales = []
        for scale, amperes in ((0, FINE_A), (1, COARSE_A)):
            zero, reference = (
                np.mean(self._calibrations[kind, scale], axis=0)[place] for kind in (ZERO, REFERENCE)
            )
            scales.append((zero, amperes / (reference - zero) if reference != zero else np.nan))
        (fine_zero, fine_a), (coarse_zero, coarse_a) = scales
        return np.where(coarse, ((raw & ~1) - coarse_zero) * coarse_a, (raw - fine_zero) * fine_a)


def _table(packets: Sequence[bytes]) -> np.ndarray:
    """Return the words of the packets' samples, int16 [n, 4]: three currents, and the voltage."""
    import numpy as np

    body = b"".join([each[HEAD_BYTES : len(each) - TAIL_BYTES] for each in packets])
    return np.frombuffer(body, ">i2").reshape(-1, OBSERVATION_BYTES // 2).astype(np.int16)
