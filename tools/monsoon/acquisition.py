"""A monitor that samples, as the reader that tools/recording.py records."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Optional, Protocol, Sequence

from tools.monsoon.packets import LOST
from tools.monsoon.protocol import RATE_HZ
from tools.monsoon.transfers import Transfers
from tools.monsoon.trigger import Gate
from tools.stage import StageError
from tools.trace import Clock, Meta

if TYPE_CHECKING:
    from tools.trace import Chunk

GATHER_S = 0.1  # between two looks at what came
CALIBRATES_S = 30.0  # it has to be calibrated by then; its own rhythm is 1.25 s, five times


class Stream(Protocol):
    """What a monitor sends, turned into samples.

    Attributes:
        columns: of its chunks, without the time.
        calibrated: whether currents are known by now; before that no sample comes out.
        samples: how many the meter took so far, lost ones too.
        notes: what is to be said of it.
        clock: where the meter's clock is on the host's.
        failure: why nothing that comes later is to be recorded, None as long as all is well.
    """

    columns: Sequence[str]
    calibrated: bool
    samples: int
    notes: Sequence[str]
    clock: Optional[Clock]
    failure: Optional[StageError]

    def feed(self, times: list[float], received: list[bytes]) -> Chunk:
        """Return the samples of what came, with a column LOST."""


class Acquisition:
    """Reads a monitor that was told to sample. `meta` is what is known by now."""

    def __init__(self, transfers: Transfers, stream: Stream, gate: Gate, meta: Meta) -> None:
        self.columns = stream.columns
        self._transfers = transfers
        self._stream = stream
        self._gate = gate
        self._meta = meta
        self._dropped = 0
        self._failure: Optional[StageError] = None

    @property
    def meta(self) -> Meta:
        """What the trace says of itself."""
        note = "; ".join([*filter(None, [self._meta.note]), *self._stream.notes])
        return dataclasses.replace(self._meta, dropped=self._dropped, note=note, clock=self._stream.clock)

    def read(self) -> Optional[Chunk]:
        """Return what was sampled since the last call; None once the trigger has ended the recording.

        Raises:
            DeviceNotFound: the meter is gone.
            StageError: its output was cut off, it does not calibrate itself, or it sends nothing.
        """
        if self._failure:
            raise self._failure
        if self._gate.closed:
            return None
        time.sleep(GATHER_S)
        try:
            times, received = self._transfers.take()
        except StageError as error:
            times, received, self._failure = [], [], error
        chunk = dict(self._gate.take(self._stream.feed(times, received)))
        self._failure = self._failure or self._stream.failure
        self._dropped += int(chunk.pop(LOST).sum())
        if not self._stream.calibrated and self._stream.samples > CALIBRATES_S * RATE_HZ:
            message = (
                f"the meter did not calibrate itself within {CALIBRATES_S:g} s, so its words mean nothing"
            )
            raise StageError(message, hint="Unplug it from USB and from its supply, and plug it in again.")
        return chunk
