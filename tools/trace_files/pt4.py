"""PT4, the format of PowerTool 4.x: 16 bits per current, 5 kHz.

A current's lowest bit says whether its step is coarse (0.5 mA, to 8191.5 mA) or fine (2 uA, to 32.766 mA);
the two lowest bits of the voltage are those of the digital inputs. A missing sample is a record with the
current 0x8001 and the voltage 0xFFFF (five readers of others agree; the one with 0x7001 takes a legal current
for it), or it is simply not there, counted in the header only: then the time is too short by it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from tools.stage import InvalidRequest
from tools.trace import MARKER, Channel, Meta, Trace, check
from tools.trace_files import powertool, status
from tools.trace_files.powertool import RATE_HZ, Capture

if TYPE_CHECKING:
    import numpy as np

STEP_A = 1e-6  # of a current's word without its lowest bit: 2 uA for what is a step of 2
COARSE = 250  # so many times more where that bit is set
FINE_LIMIT_A = 32766 * STEP_A
COARSE_LIMIT_A = 32766 * STEP_A * COARSE
VOLT = 125e-6  # of the voltage's word without its two lowest bits
VOLTAGE_LIMIT = 0xFFF8 * VOLT  # the next one is that of a missing sample
MISSING_CURRENT, MISSING_VOLTAGE = 0x8001, 0xFFFF
REVISION_D = 4
WHOLE_SAMPLE = 0.1  # of a sample: how far a time may be off the meter's own
KEEP = "Write Parquet, or CSV (-o NAME.csv), which hold every trace."


@functools.lru_cache(maxsize=1)
def _amperes() -> np.ndarray:
    """Amperes of each possible word: looking up is faster than calculating."""
    import numpy as np

    words = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    return (words & ~1) * np.where(words & 1, COARSE * STEP_A, STEP_A)


def _volts(capture: Capture) -> np.ndarray:
    """Volts of each possible word, by the hardware's revision."""
    import numpy as np

    aux = capture.voltage_channel == "aux"
    first = powertool.REVISION_C if aux else powertool.REVISION_B
    volt = VOLT if capture.status.hardware_revision >= first else VOLT / 2
    return (np.arange(1 << 16) & ~3) * volt


def read(capture: Capture) -> Trace:
    """Read the samples of an opened file; `powertool.open_capture` has checked that they can be there.

    Raises:
        InvalidRequest: there are fewer than the header counts, or none.
    """
    import numpy as np

    names = capture.header.channels
    words = capture.samples.view("<u2").reshape(-1, len(names) + 1)
    voltage = np.ascontiguousarray(words[:, -1])
    columns = {f"{name}_a": _amperes().take(words[:, index]) for index, name in enumerate(names)}
    columns[f"{capture.voltage_channel}_v"] = _volts(capture).take(voltage)
    missing = np.flatnonzero((voltage == MISSING_VOLTAGE) & (words[:, 0] == MISSING_CURRENT))
    for column in columns.values():
        column[missing] = np.nan
    if capture.header.mask & powertool.MARKERS:
        columns[MARKER] = (voltage & 3).astype(np.uint8)
        columns[MARKER][missing] = 0
    absent = powertool.undated(capture, len(words), len(missing))
    meta = meta_of(capture, dropped=len(missing) + absent, undated=absent)
    return check(Trace(np.arange(len(words)) / RATE_HZ, columns, meta), capture.path.name)


def meta_of(capture: Capture, *, dropped: int, undated: int, note: str = "") -> Meta:
    """Return what a capture says of itself."""
    header = capture.header
    kind = "PT5" if capture.wide else "PT4"
    captured = " ".join(["captured", header.captured_at]) if header.captured else ""
    origin = f"{kind} of PowerTool {powertool.text(header.software_version)}"
    lost = f"it does not say where {undated} samples ({undated / RATE_HZ:g} s) are missing" if undated else ""
    return Meta(
        meter="monsoon",
        device=f"Monsoon ({powertool.text(header.name)})",
        serial=capture.serial,
        firmware=str(capture.status.firmware),
        rate_hz=RATE_HZ,
        dropped=dropped,
        undated=undated,
        note="; ".join(part for part in (origin, captured, lost, note) if part),
        simulated=powertool.text(header.capture_setting) == powertool.SIMULATED,
        supply_v=round(header.supply_v, 4),
        channels={name: Channel(source="the file does not say how exact it is") for name in header.channels},
    )


def write_pt4(path: Path, trace: Trace) -> None:
    """Write the channel main as PT4, which holds 5 kHz, 8.19 A and 8.19 V, in the steps named above.

    Raises:
        InvalidRequest: the trace does not fit into the format.
    """
    import numpy as np

    current, voltage = trace.column("main", "a"), trace.column("main", "v")
    if current is None or voltage is None:
        message = f"PT4 needs current and voltage of a channel main; there are {', '.join(trace.columns)}"
        raise InvalidRequest(message, hint=KEEP)
    places = _places(trace.time_s)
    there = np.isfinite(current) & np.isfinite(voltage)
    count = int(places[-1]) + 1
    words = np.empty((count, 2), "<u2")
    words[:] = (MISSING_CURRENT, MISSING_VOLTAGE)
    bits = trace.columns.get(MARKER, np.zeros(len(places), np.uint8))
    words[places[there], 0] = _current_words(current[there])
    words[places[there], 1] = _voltage_words(voltage[there]) | (bits[there] & 3)
    head = _head(trace, count, count - int(there.sum()), MARKER in trace.columns)
    with path.open("wb") as file:
        file.write(head)
        words.tofile(file)


def _places(time_s: np.ndarray) -> np.ndarray:
    """Return the number of each row's sample, from the first on."""
    import numpy as np

    exact = (time_s - time_s[0]) * RATE_HZ
    places = np.rint(exact).astype(np.int64)
    if (np.abs(exact - places) > WHOLE_SAMPLE).any() or (np.diff(places) <= 0).any():
        message = f"PT4 holds {RATE_HZ} samples per second, and the trace has others"
        raise InvalidRequest(message, hint=KEEP)
    if places[-1] > 2 * len(places):
        message = "PT4 has a record for each missing sample, and more of the trace is missing than is there"
        raise InvalidRequest(message, hint=KEEP)
    return places


def _current_words(amperes: np.ndarray) -> np.ndarray:
    import numpy as np

    if (np.abs(amperes) > COARSE_LIMIT_A).any():
        message = f"PT4 holds currents to {COARSE_LIMIT_A:g} A, and the trace has {np.abs(amperes).max():g} A"
        raise InvalidRequest(message, hint=KEEP)
    coarse = np.abs(amperes) > FINE_LIMIT_A
    steps = np.rint(amperes / np.where(coarse, 2 * STEP_A * COARSE, 2 * STEP_A)).astype(np.int32)
    return (steps * 2 | coarse).astype(np.int16).view(np.uint16)


def _voltage_words(volts: np.ndarray) -> np.ndarray:
    import numpy as np

    if (volts < 0).any() or (volts > VOLTAGE_LIMIT).any():
        message = f"PT4 holds voltages to {VOLTAGE_LIMIT:g} V, and the trace has {volts.max():g} V"
        raise InvalidRequest(message, hint=KEEP)
    return (np.rint(volts / (4 * VOLT)) * 4).astype(np.uint16)


def _head(trace: Trace, count: int, missing: int, markers: bool) -> bytes:
    """Return all that precedes the samples. Sums, initial voltages and the date are left 0."""
    meta = trace.meta
    serial = int(meta.serial) if meta.serial.isdigit() else 0
    packet = status.Status(*[0] * len(status.Status._fields))._replace(
        packet_type=0x10,
        firmware=int(meta.firmware) & 0xFF if meta.firmware.isdigit() else 0,
        serial=serial & 0xFFFF,
        sample_rate_khz=RATE_HZ // 1000,
        hardware_revision=REVISION_D,
    )
    header = powertool.Header(*[0] * len(powertool.Header._fields))._replace(
        head_size=powertool.HEADER_BYTES,
        name=_string("Power Tool", powertool.NAME),
        serial=_string(meta.serial, powertool.SERIAL),
        voltage_setting=3,  # none of PowerTool's own
        supply_v=meta.supply_v or 0.0,
        hardware_rate_hz=RATE_HZ,
        software_rate_hz=RATE_HZ,
        capture_setting=_string(powertool.SIMULATED if meta.simulated else "", powertool.SETTING),
        software_version=_string("4.0.5.2", powertool.VERSION),
        total_count=count + meta.undated,
        status_offset=powertool.STATUS_AT,
        status_size=powertool.STATUS_BYTES,
        sample_offset=powertool.SAMPLES_AT,
        sample_size=4,
        mask=powertool.CHANNELS["main"] | (powertool.MARKERS if markers else 0) | 0x07FF,
        sample_count=count + meta.undated,
        missing_count=missing + meta.undated,
    )
    counted = bytes([status.BYTES + 1]) + status.pack(packet, "<")
    head = powertool.HEADER.pack(*header).ljust(powertool.STATUS_AT, b"\0")
    head += counted + bytes([sum(counted) & 0xFF])
    return head.ljust(powertool.SAMPLES_AT, b"\0")


def _string(value: str, size: int) -> bytes:
    """Return a string as .NET writes it, cut to its field."""
    return bytes([size - 1]) + value.encode("ascii", errors="replace")[: size - 1].ljust(size - 1)
