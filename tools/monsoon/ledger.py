"""Which sample is which, by what was lost between the packets.

A monitor has no timestamp; its time is the number of a sample, lost ones counted, over 5 kHz. Two things tell
of losses, and both are needed:

- the counter in each packet, of samples that the device threw away because the host was late. It is often
  0xFFFF in the first milliseconds; as ACTS does, that is not taken for a count in the first second.
- the sequence number, 0 to 15, by which a whole packet is missed, e.g. on its way. How many samples it had is
  not known: so many as the packet after the hole has. Sixteen lost in a row leave no hole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from tools.monsoon.protocol import RATE_HZ

if TYPE_CHECKING:
    import numpy as np

NUMBERS = 16  # of a sequence
NOT_COUNTING = 0xFFFF
SETTLES_S = 1.0
TURNS = 1 << 16  # of the counter
BACKWARDS = 1 << 15  # a step of the counter from here on is none forward


class Ledger:
    """Keeps the count from one batch of packets to the next.

    Attributes:
        samples: the number of the next sample: all that were there, and those lost.
        lost: how many of them were lost.
        not_forward: how often the counter went backwards, which no loss explains.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.lost = 0
        self.not_forward = 0
        self._sequence: Optional[int] = None
        self._counter: Optional[int] = None

    def enter(
        self, sequence: np.ndarray, counter: Optional[np.ndarray], counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return for packets in their order the number of the first sample, and the losses up to there, [n].

        `counter` None: the protocol has none.
        """
        import numpy as np

        if not len(sequence):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        counts = counts.astype(np.int64)
        missed = self._missed(sequence.astype(np.int64)) * counts
        if counter is not None:
            missed += self._dropped(counter.astype(np.int64), np.cumsum(counts))
        lost = self.lost + np.cumsum(missed)
        ends = self.samples - self.lost + np.cumsum(counts) + lost
        self.samples, self.lost = int(ends[-1]), int(lost[-1])
        return ends - counts, lost

    def _missed(self, sequence: np.ndarray) -> np.ndarray:
        """Return how many packets are missing before each."""
        import numpy as np

        before = int(sequence[0]) - 1 if self._sequence is None else self._sequence
        self._sequence = int(sequence[-1])
        return (np.diff(sequence, prepend=before) - 1) % NUMBERS

    def _dropped(self, counter: np.ndarray, so_far: np.ndarray) -> np.ndarray:
        """Return how many samples the device threw away before each."""
        import numpy as np

        settling = (self.samples + so_far) < SETTLES_S * RATE_HZ
        counts = ~(settling & (counter == NOT_COUNTING))
        dropped = np.zeros(len(counter), np.int64)
        values = counter[counts]
        if len(values):
            before = int(values[0]) if self._counter is None else self._counter
            steps = np.diff(values, prepend=before) % TURNS
            self.not_forward += int(np.count_nonzero(steps >= BACKWARDS))
            dropped[counts] = np.where(steps < BACKWARDS, steps, 0)
            self._counter = int(values[-1])
        return dropped
