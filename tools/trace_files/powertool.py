"""What PT4 and PT5 have in common: the header, the status packet, and where the samples lie.

Monsoon's PowerTool 4.x and 5.x write these files, little endian throughout. Layout: "Mobile Device Power
Monitor Manual" (Monsoon Solutions), on the file format; what it leaves out as other readers have it. All
offsets were checked on one real PT4; a real PT5 was not to be had.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Sequence

from tools.stage import InvalidRequest
from tools.trace_files import status as status_packet
from tools.trace_files.status import Status

if TYPE_CHECKING:
    import numpy as np

HEADER_BYTES, STATUS_AT, SAMPLES_AT = 144, 272, 1024
STATUS_BYTES = 60  # a byte that counts the rest, the packet, a checksum
CHANNELS = {"main": 0x1000, "usb": 0x2000, "aux": 0x4000}  # bits of the capture's mask
MARKERS = 0x8000
AUX_VOLTAGE = 0x08  # of the lights: the voltage is that of the channel aux
REVISION_B, REVISION_C = 2, 3  # of the hardware; before them the voltage's step is half as large
RATE_HZ = 5000
SIMULATED = "simulated"  # as capture setting, of a file that was written here
HINT = "Copy it anew from where it was captured; PowerTool can export it as CSV too."

# .NET's BinaryWriter writes a string as its length in a byte and so many characters, here padded with spaces
NAME, SERIAL, SETTING, VERSION = 20, 20, 30, 10
HEADER = struct.Struct(f"<i{NAME}siq{SERIAL}siififiii{SETTING}s{VERSION}siiq8H2Q9f")
START = struct.pack("<iB", HEADER_BYTES, NAME - 1)
TICKS_PER_S = 10_000_000  # .NET, DateTime.ToBinary: 62 bits of them since year 1, above them what clock it is
TICK_BITS = (1 << 62) - 1


class Header(NamedTuple):
    """All fields, in the file's order. The sums are of no use: the power's is a product of two others."""

    head_size: int
    name: bytes
    battery_mah: int
    captured: int
    serial: bytes
    calibration_status: int
    voltage_setting: int
    supply_v: float
    hardware_rate_hz: int
    software_rate_hz: float
    power_field: int
    current_field: int
    voltage_field: int
    capture_setting: bytes
    software_version: bytes
    run_mode: int
    exit_code: int
    total_count: int
    status_offset: int
    status_size: int
    sample_offset: int
    sample_size: int
    initial_main_voltage: int
    initial_usb_voltage: int
    initial_aux_voltage: int
    mask: int
    sample_count: int
    missing_count: int
    sum_main_voltage: float
    sum_main_current: float
    sum_main_power: float
    sum_usb_voltage: float
    sum_usb_current: float
    sum_usb_power: float
    sum_aux_voltage: float
    sum_aux_current: float
    sum_aux_power: float

    @property
    def channels(self) -> Sequence[str]:
        """The channels whose current was captured."""
        return [name for name, bit in CHANNELS.items() if self.mask & bit]

    @property
    def captured_at(self) -> str:
        """When it was captured, by the clock of its computer; empty if the field holds no time."""
        since = dt.timedelta(seconds=(self.captured & TICK_BITS) // TICKS_PER_S)
        try:
            return (dt.datetime(1, 1, 1) + since).isoformat()
        except OverflowError:
            return ""


@dataclasses.dataclass(frozen=True)
class Capture:
    """An open file: `samples` are its bytes from the first sample on, mapped, a whole number of samples.

    `wide`: currents have 32 bits, as in PT5.
    """

    path: Path
    header: Header
    status: Status
    wide: bool
    samples: np.ndarray

    @property
    def serial(self) -> str:
        """The meter's serial number."""
        return text(self.header.serial)

    @property
    def voltage_channel(self) -> str:
        """The channel to which the voltages belong."""
        return "aux" if self.status.lights & AUX_VOLTAGE else "main"


def is_capture(head: bytes) -> bool:
    """Whether a file that starts like this is PT4 or PT5."""
    return head.startswith(START)


def text(field: bytes) -> str:
    """Return a string's field without its length and its padding."""
    return field[1:].decode("ascii", errors="replace").rstrip(" \0")


def open_capture(path: Path) -> Capture:
    """Map a file and read what precedes its samples. No memory is taken by what the header claims.

    Raises:
        InvalidRequest: it is cut off, or its header says what no PowerTool writes.
    """
    import numpy as np

    size = path.stat().st_size
    if size < SAMPLES_AT:
        message = f"{path.name} is cut off: it ends before its first sample"
        raise InvalidRequest(message, hint=HINT)
    data = np.memmap(path, np.uint8, mode="r")
    header = Header(*HEADER.unpack(data[: HEADER.size].tobytes()))
    wide = _check(header, path.name)
    packet = data[STATUS_AT + 1 : STATUS_AT + 1 + status_packet.BYTES].tobytes()
    left_over = (size - SAMPLES_AT) % header.sample_size
    if left_over:
        message = f"{path.name} is cut off in the middle of a sample"
        raise InvalidRequest(message, hint=HINT)
    return Capture(path, header, status_packet.unpack(packet, "<"), wide, data[SAMPLES_AT:])


def _check(header: Header, name: str) -> bool:
    """Return whether the samples are wide; their size says so: n currents and a word."""
    count = len(header.channels)
    sizes = {2 * count + 2: False, 4 * count + 2: True}
    offsets = (header.head_size, header.status_offset, header.sample_offset)
    if offsets != (HEADER_BYTES, STATUS_AT, SAMPLES_AT) or not count or header.sample_size not in sizes:
        message = f"{name} is damaged: its header describes no samples that PowerTool writes"
        raise InvalidRequest(message, hint=HINT)
    if header.hardware_rate_hz != RATE_HZ:
        message = f"{name} was captured at {header.hardware_rate_hz} Hz, and only {RATE_HZ} Hz is known"
        raise InvalidRequest(message, hint=HINT)
    return sizes[header.sample_size]


def undated(capture: Capture, records: int, marked: int) -> int:
    """Return how many samples are missing without a mark where: the time is too short by them.

    `marked` are those records that mark a missing sample.

    Raises:
        InvalidRequest: the file holds fewer records than its header counts.
    """
    header = capture.header
    absent = max(0, header.missing_count - marked)
    if records + absent < header.sample_count:
        message = (
            f"{capture.path.name} is cut off: {records} of {header.sample_count - absent} samples are there"
        )
        raise InvalidRequest(message, hint=HINT)
    return absent
