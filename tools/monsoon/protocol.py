"""The USB protocol of Monsoon's power monitors: requests, values and limits. Standard library only.

The black one (HVPM), and the white one (LVPM) once it has the firmware for USB. After Monsoon's own PyMonsoon
0.1.88 (MIT) and API.pdf of the same package; where they contradict each other as two other clients have it.
All requests are vendor requests to the device (USB 2.0, 9.3).
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Sequence

SAMPLES = 0x81  # the bulk endpoint that they come from
PACKET_BYTES = 64  # at most
RATE_HZ = 5000
QUEUE = 16  # samples that wait in the device at most, 3.2 ms: what is later is lost
TO_DEVICE, FROM_DEVICE = 0x40, 0xC0
VALUE, START, STOP = 0x01, 0x02, 0x03
ENDLESS = 0xFFFFFFFF
CALIBRATE_MS = 1250  # how often it calibrates itself while it samples: PyMonsoon's choice
BUSY = 0xFFFFFFFE  # the answer to a value while it samples
VOLT = 1 << 20  # of the value for the output
SAMPLING = 0x80  # of START_STATUS, from firmware 26 on


class Op(enum.IntEnum):
    """What a value request is about. Reading one that sets something returns what was set last."""

    MAIN_FINE_R, MAIN_COARSE_R = 0x02, 0x11
    USB_FINE_R, USB_COARSE_R = 0x0D, 0x12
    POWER_UP_TIME_MS = 0x0C
    USB_PASSTHROUGH = 0x10
    MAIN_FINE_SCALE, MAIN_COARSE_SCALE = 0x1A, 0x1B
    USB_FINE_SCALE, USB_COARSE_SCALE = 0x1C, 0x1D
    VOLTAGE_CHANNEL = 0x23
    MAIN_FINE_ZERO, MAIN_COARSE_ZERO = 0x25, 0x26
    USB_FINE_ZERO, USB_COARSE_ZERO = 0x27, 0x28
    TEMPERATURE_LIMIT = 0x29
    MAIN_VOLTAGE = 0x41
    SERIAL = 0x42
    POWER_UP_LIMIT, RUN_LIMIT = 0x43, 0x44
    MODEL = 0x45
    DAC_LOW, DAC_HIGH = 0x88, 0x89
    FIRMWARE, PROTOCOL = 0xC0, 0xC1
    START_STATUS = 0xC4


PASSTHROUGH = ("off", "on", "auto")  # by their number


@dataclasses.dataclass(frozen=True)
class Model:
    """What one kind of power monitor can do, and how its words are to be read.

    Attributes:
        number: its answer to Op.MODEL.
        volts: the lowest and the highest output, V.
        limit_a: the highest current limit, A; `limit_raw` are the values for 0 A and for `limit_a`.
        signed: whether words of currents have a sign.
        fine_below: raw fine words from here on are to be replaced by the coarse ones.
        volt: V per step of the main voltage.
    """

    name: str
    number: int
    volts: tuple[float, float]
    limit_a: float
    limit_raw: tuple[int, int]
    signed: bool
    fine_below: int
    volt: float

    def raw_limit(self, amperes: float) -> int:
        """Return the value for a current limit in A."""
        none, most = self.limit_raw
        return round(none + (most - none) * amperes / self.limit_a)

    def limit(self, raw: int) -> float:
        """Return a current limit in A."""
        none, most = self.limit_raw
        return self.limit_a * (raw - none) / (most - none)


# API.pdf has 15.625 * (1 - raw / 65535) for the HVPM's limits, which contradicts PyMonsoon, followed here.
HVPM = Model("HVPM", 2, (0.8, 13.5), 15.625, (3840, 65535), False, 64000, 250e-6)
LVPM = Model("LVPM", 1, (2.01, 4.55), 8.0, (1023, 0), True, 30000, 125e-6)
MODELS: Sequence[Model] = (HVPM, LVPM)
USB_VOLT = 125e-6  # per step of the USB voltage, of both
# The HVPM's output was wrong on units whose two calibration values are outside of these (PyMonsoon 0.1.88).
DAC_LOW_BETWEEN, DAC_HIGH_BETWEEN = (0xD000, 0xF000), (0xC000, 0xD000)


def write_request(op: int, value: int) -> tuple[int, int, int, int, bytes]:
    """Return the request that sets a value: type, request, value, index, data."""
    data = (value & 0xFFFFFFFF).to_bytes(4, "little")
    return TO_DEVICE, VALUE, data[0] | data[1] << 8, op | data[2] << 8, data


def start_request() -> tuple[int, int, int, int, bytes]:
    """Return the request that starts sampling, until it is told to stop."""
    return TO_DEVICE, START, CALIBRATE_MS, 0, ENDLESS.to_bytes(4, "little")


def signed(value: int, bits: int) -> int:
    """Return the lowest `bits` of a value as a number with sign."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
