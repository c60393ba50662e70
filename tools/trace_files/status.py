"""The status packet of Monsoon's white power monitor (LVPM): in each PT4 file, and over its serial line.

The same 58 bytes, little endian in a file and big endian on the line, after the clients of mobly and ACTS
(Apache-2.0); checked on one real file.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

LAYOUT = "BBBhhhHhhhHBBBxBbHBHHHHBbbHHBBBbbbbbbbbbBH"
BYTES = struct.calcsize("<" + LAYOUT)
LIMIT_A, LIMIT_STEPS = 8.0, 1023  # a current limit is 8 A x (1 - raw / 1023)
VOLTAGE_AT_0, VOLTS_PER_SETTING = 2.0, 0.01


class Status(NamedTuple):
    """Its fields, raw. `*_r` are offsets of shunt resistors in 1e-4 ohm, signed: a real unit has -22."""

    packet_type: int
    firmware: int
    protocol: int
    main_fine: int
    usb_fine: int
    aux_fine: int
    voltage1: int
    main_coarse: int
    usb_coarse: int
    aux_coarse: int
    voltage2: int
    output_voltage: int
    temperature: int
    bits: int
    lights: int
    main_fine_r: int
    serial: int
    sample_rate_khz: int
    dac_cal_low: int
    dac_cal_high: int
    power_up_limit: int
    run_limit: int
    power_up_time_ms: int
    usb_fine_r: int
    aux_fine_r: int
    initial_usb_voltage: int
    initial_aux_voltage: int
    hardware_revision: int
    temperature_limit: int
    usb_passthrough: int
    main_coarse_r: int
    usb_coarse_r: int
    aux_coarse_r: int
    default_main_fine_r: int
    default_usb_fine_r: int
    default_aux_fine_r: int
    default_main_coarse_r: int
    default_usb_coarse_r: int
    default_aux_coarse_r: int
    event: int
    event_data: int

    @property
    def supply_v(self) -> float:
        """What the output is set to, V; 0 is off."""
        if not self.output_voltage:
            return 0.0
        return round(VOLTAGE_AT_0 + VOLTS_PER_SETTING * self.output_voltage, 2)


def unpack(data: bytes, order: str) -> Status:
    """Read it; `order` is that of struct, `<` in a file and `>` on the line."""
    return Status(*struct.unpack(order + LAYOUT, data))


def pack(status: Status, order: str) -> bytes:
    """Return its bytes."""
    return struct.pack(order + LAYOUT, *status)


def limit_a(raw: int) -> float:
    """Return a current limit in A."""
    return LIMIT_A * (LIMIT_STEPS - raw) / LIMIT_STEPS


def raw_limit(amperes: float) -> int:
    """Return the field for a current limit in A, 0 to 8."""
    return LIMIT_STEPS - round(amperes / LIMIT_A * LIMIT_STEPS)
