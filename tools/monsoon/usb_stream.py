"""What comes over USB: packets, decoded, with what was lost between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

from tools.monsoon.host_clock import HostClock
from tools.monsoon.ledger import Ledger
from tools.monsoon.packets import OVER_CURRENT, SEQUENCE, Decoder, Packets
from tools.monsoon.protocol import RATE_HZ
from tools.stage import StageError
from tools.trace import Clock

if TYPE_CHECKING:
    import numpy as np

    from tools.trace import Chunk


class UsbStream:
    """As `acquisition.Stream` says."""

    def __init__(self, decoder: Decoder) -> None:
        self.columns = decoder.columns
        self.failure: Optional[StageError] = None
        self._decoder = decoder
        self._ledger = Ledger()
        self._clock = HostClock()
        self._damaged = 0

    @property
    def calibrated(self) -> bool:
        """Whether currents are known by now."""
        return self._decoder.calibrated

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
        notes = []
        if self._damaged:
            notes.append(f"{self._damaged} packets were damaged and are counted as lost")
        if self._ledger.not_forward:
            notes.append(f"the counter of lost samples went backwards {self._ledger.not_forward} times")
        return notes

    def feed(self, times: list[float], received: list[bytes]) -> Chunk:
        """Return the samples of what came."""
        import numpy as np

        packets = Packets.of(received)
        self._damaged += int(np.count_nonzero(~packets.valid))
        arrivals = np.array(times)[packets.valid]
        packets = packets.take(packets.valid)
        first, lost = self._ledger.enter(packets.flags & SEQUENCE, packets.dropped, packets.counts)
        if len(first):
            self._clock.arrived((first + packets.counts - 1) / RATE_HZ, arrivals)
        self._look_at_flags(packets, first)
        return self._decoder.decode(packets, first, lost)

    def _look_at_flags(self, packets: Packets, first: np.ndarray) -> None:
        """See whether the output was cut off; what was sampled up to there is still to be recorded."""
        import numpy as np

        cut = np.flatnonzero(packets.flags & OVER_CURRENT)
        if len(cut) and not self.failure:
            self.failure = cut_off(float(first[cut[0]] / RATE_HZ))


def cut_off(time_s: float) -> StageError:
    """Return the error for an output that the meter itself has switched off."""
    message = f"the meter cut its output off at {time_s:.3f} s: too much current or heat"
    hint = "Look at what is connected, raise the limit (power-on --run-limit-a), and switch it on again."
    return StageError(message, hint=hint)
