"""The protocol of the white monitor (LVPM) as it is sold, over its serial port; and its frames.

A frame is a length, so many bytes less one, and a checksum, and nothing marks where one begins. After the
clients of mobly, Chromium and ACTS (BSD, Apache-2.0), which share one reverse-engineered ancestor; nothing of
it is verified on a device. Their way to set a voltage, int((V - 2) * 100), is one step low for 76 of 255
settings, and switches the output off for 2.01 V; here it is rounded.
"""

from __future__ import annotations

from typing import Iterator, Optional

from tools.trace_files import status

READ_STATUS = bytes([0x01, 0x00, 0x00])
BEFORE_START = bytes([0x01, 0x1B, 0x01])  # what it is for is known to nobody, and all clients send it
START = bytes(
    [0x02, 0xFF, 0xFF, 0xFF, 0xFF, 0x03, 0xE8]
)  # without end, and calibrate each 1000 ms (unverified)
STOP = bytes([0x03, 0x00])
OUTPUT, POWER_UP_LIMIT, RUN_LIMIT, PASSTHROUGH = 0x01, 0x08, 0x0A, 0x10
STATUS_REPLY = 0x10
DATA = (
    0x20  # of the first byte of packets with samples: the upper bits; below, as over USB, flags and sequence
)
DATA_BITS = 0xE0
HEAD_BYTES, OBSERVATION_BYTES, TAIL_BYTES = 4, 8, 1  # of such a packet


def frame(payload: bytes) -> bytes:
    """Return the frame of a payload."""
    counted = bytes([len(payload) + 1]) + payload
    return counted + bytes([sum(counted) & 0xFF])


def setting(register: int, value: int) -> bytes:
    """Return the payload that sets a register."""
    return bytes([0x01, register, value & 0xFF])


def output_setting(volts: float) -> int:
    """Return the register's value for an output in V; 0 is off."""
    return round((volts - status.VOLTAGE_AT_0) / status.VOLTS_PER_SETTING) if volts else 0


class Frames:
    """Finds frames in what comes. What is no frame is passed over byte by byte, and counted."""

    def __init__(self) -> None:
        self._rest = b""
        self.skipped = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that are complete."""
        self._rest += data
        at = 0
        while at < len(self._rest):
            payload = self._at(at)
            if payload is None:
                if at + self._rest[at] + 1 > len(self._rest) and _plausible_length(self._rest[at]):
                    break  # it may be a frame whose end is still to come
                at += 1
                self.skipped += 1
                continue
            at += len(payload) + 2
            yield payload
        self._rest = self._rest[at:]

    def _at(self, at: int) -> Optional[bytes]:
        """Return the payload of the frame that begins here, if one does."""
        length = self._rest[at]
        end = at + length + 1
        if end > len(self._rest) or not _plausible_length(length):
            return None
        counted, checksum = self._rest[at : end - 1], self._rest[end - 1]
        payload = counted[1:]
        known = payload[0] == STATUS_REPLY or payload[0] & DATA_BITS == DATA
        return payload if known and sum(counted) & 0xFF == checksum else None


def _plausible_length(length: int) -> bool:
    """Whether a frame of a status, or of packets with whole observations, is that long."""
    size = length - 1
    samples = size - HEAD_BYTES - TAIL_BYTES
    return size == status.BYTES or (samples > 0 and samples % OBSERVATION_BYTES == 0)
