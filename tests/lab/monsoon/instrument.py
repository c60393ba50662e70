"""A simulated Monsoon power monitor: what it answers and which packets it sends, whatever carries them.

It speaks the USB protocol of tools/monsoon/protocol.py, written anew from the layouts, without the tool's
code. What no source says is made up and of no weight: it calibrates itself five times when it begins, then at
the rhythm that it is told, a zero and a reference each.

Its load: 20 mA, and 900 mA for the last fifth of each second, at what the output is set to; nothing if that
is off. In real time it loses what the host fetches too late, beyond the 16 samples that it keeps and the
transfers that the kernel has.
"""

from __future__ import annotations

import dataclasses
import math
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

RATE_HZ, QUEUE = 5000, 16
IN_KERNEL = 16  # transfers that wait there, as of the tool with libusb
IDLE_MA, BUSY_MA, PERIOD, BUSY = 20.0, 900.0, 5000, 1000
USB_MA, USB_V = 100.0, 5.0
BURST = 5  # calibrations of each kind at the start
MEASURED, ZERO, REFERENCE = 0x00, 0x10, 0x30
SET, GET, START, STOP = (0x40, 1), (0xC0, 1), (0x40, 2), (0x40, 3)
BUSY_ANSWER = 0xFFFFFFFE

ZEROS = {"hvpm": (100, 1200, 90, 1100, 80, 1000), "lvpm": (-100, -200, 90, 110, 80, 100)}
REFERENCES = {
    "hvpm": (20000, 50000, 20000, 50000, 20000, 28000),
    "lvpm": (20000, 28000, 20000, 28000, 20000, 28000),
}
VOLT = {"hvpm": 250e-6, "lvpm": 125e-6}
SHUNTS = ((0x02, 0x11), (0x0D, 0x12))  # fine and coarse, of main and USB
COMMON = {0xC0: 32, 0xC1: 1, 0x10: 2, 0x0C: 20, 0x41: 0}
HVPM_SCALES = {0x1A: 36500, 0x1B: 6400, 0x1C: 14000, 0x1D: 600, 0x25: 15, 0x26: 15, 0x27: 0, 0x28: 0}
HVPM_LIMITS = {0x88: 0xE100, 0x89: 0xC800, 0x29: 0x3C00, 0x43: 65535, 0x44: 65535}
LVPM_SHUNTS = {0x02: 69, 0x11: 50, 0x0D: 0xEA, 0x12: 0}  # 0xEA: -22, as a real unit has
LVPM_LIMITS = {0x88: 0, 0x89: 0, 0x29: 0, 0x43: 0, 0x44: 0}
VALUES = {
    "hvpm": {**COMMON, **HVPM_SCALES, **HVPM_LIMITS, 0x45: 2},
    "lvpm": {**COMMON, **LVPM_SHUNTS, **LVPM_LIMITS, 0x45: 1},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What kind of monitor it is, and what goes wrong with it: times in s after it began to sample.

    `drops` are (time, samples) that the device throws away and counts, `skips` (time, packets) that are lost
    on their way. `counts_from_s`: until then the counter is 0xFFFF. `may_open`, `free`: else the host is
    refused. `left_on`: it samples for a program that was killed. `speed` 1 is real time, 0 as fast as it is
    read. `samples` of a packet, 1 to 3.
    """

    model: str = "hvpm"
    serial: str = "20001"
    output_v: float = 4.2
    speed: float = 1.0
    samples: int = 3
    drops: Sequence[tuple[float, int]] = ()
    skips: Sequence[tuple[float, int]] = ()
    counts_from_s: float = 0.003
    unplugged_s: float = float("inf")
    over_current_s: float = float("inf")
    silent_s: float = float("inf")
    bad_reference: bool = False
    bad_dac: bool = False
    calibrates: bool = True
    may_open: bool = True
    free: bool = True
    left_on: bool = False


class Gone(Exception):
    """It was pulled out."""


class Instrument:
    """A monitor that is plugged in."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.values = dict(VALUES[setup.model])
        self.values[0x41] = round(setup.output_v * (1 << 20))
        self.values[0x42] = int(setup.serial)
        if setup.bad_dac:
            self.values[0x88] = 0x1000
        self.gone = False
        self._lock = threading.Lock()
        self.sampling = False
        if setup.left_on:
            self._start(1250)

    def control(self, kind: int, request: int, value: int, index: int, data: bytes) -> bytes | None:
        """Answer a vendor request; None refuses it."""
        if self.gone:
            raise Gone
        if (kind, request) == GET:
            answer = BUSY_ANSWER if self.sampling else self.values.get(index & 0xFF)
            return None if answer is None else struct.pack("<I", answer & 0xFFFFFFFF)
        if (kind, request) == SET:
            number = int.from_bytes(data, "little")
            if (value, index >> 8) != (number & 0xFFFF, number >> 16 & 0xFF):
                return None
            self.values[index & 0xFF] = number
        elif (kind, request) == START:
            self._start(value)
        elif (kind, request) == STOP:
            self.sampling = False
        else:
            return None
        return b""

    def fetch(self, timeout_s: float) -> bytes | None:
        """Return the next packet when it is there, None if it is not in time: what a bulk read gets."""
        with self._lock:
            if self.gone:
                raise Gone
            packet, due_s = next(self._packets) if self.sampling else (None, 0.0)
        if packet is None:
            time.sleep(timeout_s)
            return None
        time.sleep(max(0.0, due_s - time.monotonic()))
        return packet

    def _start(self, calibrate_ms: int) -> None:
        self._calibrate_every = calibrate_ms * RATE_HZ // 1000
        length = math.lcm(PERIOD, self._calibrate_every)
        self._rounds = [self._observations(start, length) for start in (0, length)]
        self._length = length
        self._lost = 0
        self._begun_s = time.monotonic()
        self._packets = self._send()
        self.sampling = True

    def _send(self) -> Iterator[tuple[bytes | None, float]]:
        """Yield packets, and when each is complete."""
        setup, number, sequence, count = self.setup, 0, 0, self.setup.samples
        drops, skips = list(setup.drops), list(setup.skips)
        while True:
            now_s = number / RATE_HZ
            if now_s >= setup.unplugged_s:
                self.gone = True
                raise Gone
            if now_s >= setup.silent_s:
                yield None, 0.0
                continue
            late = self._late(number + count)
            if drops and now_s >= drops[0][0]:
                late += drops.pop(0)[1]
            self._lost, number = self._lost + late, number + late
            if skips and now_s >= skips[0][0]:
                _, packets = skips.pop(0)
                sequence, number = sequence + packets, number + packets * count
            counter = self._lost if now_s >= setup.counts_from_s else 0xFFFF
            flags = 0x30 if now_s >= setup.over_current_s else 0x20
            head = struct.pack("<HBB", counter & 0xFFFF, flags | sequence & 15, count)
            at = number % self._length * 18
            body = self._rounds[number >= self._length][at : at + count * 18]
            number, sequence = number + count, sequence + 1
            yield head + body, self._due_s(number)

    def _due_s(self, number: int) -> float:
        return self._begun_s + number / RATE_HZ / self.setup.speed if self.setup.speed else 0.0

    def _late(self, number: int) -> int:
        """Return how many samples were thrown away because nobody fetched them."""
        if not self.setup.speed:
            return 0
        waiting = (time.monotonic() - self._due_s(number)) * RATE_HZ * self.setup.speed
        return max(0, int(waiting) - QUEUE - IN_KERNEL * self.setup.samples)

    def _observations(self, start: int, length: int) -> bytes:
        """Return the observations from sample `start` on, and two more: a packet may cross the end."""
        numbers = start + np.arange(length + 2)
        words = self._words(numbers)
        kinds = np.zeros(len(numbers), np.uint8)
        if self.setup.calibrates:
            phase = np.where(numbers < 2 * BURST, numbers % 2, numbers % self._calibrate_every)
            kinds[phase == 0], kinds[phase == 1] = ZERO, REFERENCE
        zero = np.array([*ZEROS[self.setup.model], 0, 0])
        reference = zero if self.setup.bad_reference else np.array([*REFERENCES[self.setup.model], 0, 0])
        words[kinds == ZERO], words[kinds == REFERENCE] = zero, reference
        table = np.zeros((len(numbers), 18), np.uint8)
        table[:, :16] = (words & 0xFFFF).astype(">u2").view(np.uint8)
        table[:, 17] = kinds
        return table.tobytes()

    def _words(self, numbers: np.ndarray) -> np.ndarray:
        """Return the eight words of each sample, int64 [n, 8]."""
        volts = self.values[0x41] / (1 << 20)
        main_ma = load_ma(numbers) if volts else np.zeros(len(numbers))
        words = np.zeros((len(numbers), 8), np.int64)
        for channel, milliamperes in enumerate((main_ma, np.full(len(numbers), USB_MA))):
            *per_steps, offsets = self._per_step(channel)
            low, high = (0, 65535) if self.setup.model == "hvpm" else (-32768, 32767)
            for place, per_step in enumerate(per_steps):
                at = 2 * channel + place
                zero = ZEROS[self.setup.model][at] + offsets[place]
                words[:, at] = np.clip(np.rint(zero + milliamperes / per_step), low, high)
        words[:, 6], words[:, 7] = round(volts / VOLT[self.setup.model]), round(USB_V / 125e-6)
        return words

    def _per_step(self, channel: int) -> tuple[float, float, tuple[int, int]]:
        """Return mA per step of the coarse and the fine range, and the offsets of their zeros."""
        references, zeros = REFERENCES[self.setup.model], ZEROS[self.setup.model]
        if self.setup.model == "hvpm":
            fine, coarse = self.values[0x1A + 2 * channel], self.values[0x1B + 2 * channel]
            offsets = (self.values[0x26 + 2 * channel], self.values[0x25 + 2 * channel])
        else:
            ohms = [0.05 + 1e-4 * struct.unpack("b", bytes([self.values[op]]))[0] for op in SHUNTS[channel]]
            fine_ohm, coarse_ohm = ohms
            fine, coarse, offsets = 35946 * 0.05 / fine_ohm, 3103.4 * 0.05 / coarse_ohm, (0, 0)
        spans = [
            references[2 * channel + place] - zeros[2 * channel + place] - offsets[place] for place in (0, 1)
        ]
        return coarse / spans[0], fine / 1000 / spans[1], offsets


def load_ma(numbers: np.ndarray) -> np.ndarray:
    """Return the current in mA at each sample."""
    return np.where(numbers % PERIOD < PERIOD - BUSY, IDLE_MA, BUSY_MA)
