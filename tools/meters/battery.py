"""An Android phone's own fuel gauge, over adb: what comes out of its battery.

The files of Documentation/ABI/testing/sysfs-class-power give uA and uV, and since 2020 a negative current
while the battery is discharged. Many phones give mA, or the other sign, or none: home-assistant/android#2846,
google/perfetto#1441. So unit and sign are worked out, or told by the user, and the trace says which and why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tools.meters.steps import Steps
from tools.phone import Phone, choose, phones
from tools.phone.state import battery, plugged
from tools.recording import Attached, Polled
from tools.stage import InvalidRequest, StageError, Unsupported
from tools.trace import Channel, Meta

FOLDER = "/sys/class/power_supply/battery"
READ = f"cd {FOLDER} && cat current_now voltage_now status"
UNITS_A = {"uA": 1e-6, "mA": 1e-3}
MILLIAMPERES_BELOW = 10_000  # the largest reading of several: a phone that is awake takes more than 10 mA
DISCHARGING = "Discharging"
LOOKS = 5
SOURCE = "the phone's own gauge; no accuracy is stated"


@dataclasses.dataclass(frozen=True)
class Rule:
    """How readings become A and V. `sign` is that of a reading while the battery is discharged: 1 or -1."""

    unit: str
    sign: int
    volts: float
    why: Mapping[str, str]

    def of(self, current: int, voltage: int) -> tuple[float, float]:
        """Return what flows out of the battery in A, and its voltage in V."""
        return self.sign * UNITS_A[self.unit] * current, self.volts * voltage


def present(_: Path = Path("/")) -> list[Attached]:
    """Return the phones that adb's server sees, if one runs; none is asked anything."""
    try:
        found = phones()
    except StageError:
        return []
    return [
        Attached(
            f"battery of {phone.model or 'a phone'}",
            phone.serial,
            "" if phone.ready else phone.state,
            phone.hint,
        )
        for phone in found
    ]


def parse(text: str) -> tuple[int, int, str]:
    """Return current, voltage and status as the phone's files give them.

    Raises:
        StageError: they say something else.
    """
    lines = text.split("\n")
    try:
        return int(lines[0]), int(lines[1]), lines[2].strip()
    except (IndexError, ValueError):
        message = f"the phone's battery says {text[:80]!r}, which is no current, voltage and status"
        raise StageError(message, hint=f"Look at it: adb shell '{READ}'") from None


def rule(
    readings: Sequence[tuple[int, int, str]], dump_mv: Optional[int], unit: str, discharge_sign: str
) -> Rule:
    """Work out units and sign; what the user says (`auto` if nothing) goes before.

    The voltage's unit is the one that agrees with `dumpsys battery`, which is in mV.
    """
    why = {"unit": "told by the user", "sign": "told by the user"}
    largest = max(abs(current) for current, _, _ in readings)
    if unit == "auto":
        unit = "mA" if largest < MILLIAMPERES_BELOW else "uA"
        why["unit"] = f"the largest of {len(readings)} readings was {largest}"
    middle = statistics.median(current for current, _, _ in readings)
    status = readings[-1][2]
    if discharge_sign != "auto":
        sign = 1 if discharge_sign == "+" else -1
    elif status == DISCHARGING:
        sign = 1 if middle > 0 else -1
        why["sign"] = f"it read {middle:g} while discharging"
    else:
        sign = -1
        why["sign"] = f"as Android's API has it; its status was {status}"
    voltage = readings[-1][1]
    scales = (1e-6, 1e-3)
    volts = min(scales, key=lambda scale: abs(voltage * scale - (dump_mv or 3800) / 1e3))
    return Rule(unit, sign, volts, why)


@contextlib.contextmanager
def opened(serial: str, rate_hz: float, current_unit: str, discharge_sign: str) -> Iterator[Polled]:
    """Yield a reader of one phone's battery.

    Raises:
        InvalidRequest: another unit or sign than there are.
        DeviceNotFound: there is no phone, or it cannot be used.
        Unsupported: adb's user may not read the files.
    """
    if current_unit not in ("auto", *UNITS_A) or discharge_sign not in ("auto", "+", "-"):
        message = f"no such unit or sign: {current_unit}, {discharge_sign}"
        raise InvalidRequest(message, hint="current_unit: auto, uA, mA; discharge_sign: auto, +, -")
    phone = choose(serial)
    state = phone.state()
    said = battery(phone.shell("dumpsys battery").check("asking for its battery"))
    millivolts = said.get("voltage", "")
    dump_mv = int(millivolts) if millivolts.isdigit() else None
    readings = [_ask(phone) for _ in range(LOOKS)]
    found = rule(readings, dump_mv, current_unit, discharge_sign)
    meta = Meta(
        meter="battery",
        device=f"battery of {state.model}",
        serial=phone.serial,
        simulated=bool(state.simulated),
        note=powered(plugged(said) or "no", readings[-1][2]),
        calibration=_calibration(found),
        channels={"battery": Channel("battery of the phone", source=SOURCE)},
    )
    yield _reader(phone, found, meta, rate_hz)


def _ask(phone: Phone) -> tuple[int, int, str]:
    done = phone.shell(READ)
    if done.code:
        reason = (done.stderr.strip() or "no such files").splitlines()[-1]
        message = f"the phone {phone.serial} does not show its battery's current: {reason}"
        raise Unsupported(message, hint="Often only root may read it: adb root, or use another meter.")
    return parse(done.stdout)


def _reader(phone: Phone, found: Rule, meta: Meta, rate_hz: float) -> Polled:
    steps = Steps()

    def ask() -> tuple[float, float]:
        current, voltage, status = _ask(phone)
        steps.saw(current)
        now = reader.meta
        average_s = round(steps.period_s, 3)
        if average_s != now.channels["battery"].average_s:
            channel = dataclasses.replace(now.channels["battery"], average_s=average_s)
            reader.meta = now = dataclasses.replace(now, channels={"battery": channel})
        if status != DISCHARGING and not now.note:
            reader.meta = dataclasses.replace(now, note=powered("something", status))
        return found.of(current, voltage)

    reader = Polled(ask, ("battery_a", "battery_v"), meta, 1 / rate_hz)
    return reader


def powered(by: str, status: str) -> str:
    """Return what the trace says where the battery is not all that feeds the phone, else ""."""
    if by == "no" and status == DISCHARGING:
        return ""
    return (
        f"The phone was powered by {by} ({status}): what its battery gives is not what it takes. "
        "Unplug it (adb over Wi-Fi) to measure."
    )


def _calibration(found: Rule) -> dict[str, Any]:
    return {
        "current_unit": found.unit,
        "current_unit_from": found.why["unit"],
        "discharge_sign": "+" if found.sign > 0 else "-",
        "discharge_sign_from": found.why["sign"],
        "voltage_unit": "uV" if found.volts == 1e-6 else "mV",
    }
