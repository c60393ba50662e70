"""The INA3221 power monitors of a Jetson board, from the kernel's files: right rail for right name.

Two generations of files (docs/meters.md has what each board shows):

    JetPack 4 and older  /sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/{rail_name_0,in_voltage0_input,..}
    JetPack 5 and newer  /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/{in1_label,in1_input,curr1_input,..}

mV and mA. A rail is found by its label in its own chip's folder: numbers of devices change from boot to boot,
and the same channel number is on every chip. Sources: Documentation/hwmon/ina3221.rst of the Linux kernel,
alumet's and zeus' readers of the older files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from tools.meters import files, rails
from tools.recording import Attached, Polled
from tools.stage import DeviceNotFound
from tools.trace import Channel, Meta

DRIVERS = "sys/bus/i2c/drivers"
SHUNT_SUM = "sum of shunt voltages"  # in7 of the newer files, no rail
NONE_HINT = "INA3221 monitors are on NVIDIA's Jetson boards; is this command running on the board?"
# Limits of the chip, 0.25 % gain each of shunt and bus voltage and 80 uV offset at the shunt, are in its data
# sheet SBOS576; the board's shunts have a tolerance that NVIDIA does not publish, so no gain error is stated.
OFFSET_V = 80e-6 / 3**0.5
SOURCE = "TI SBOS576: offset 80 uV at the shunt at most; the tolerance of the board's shunts is not published"


@dataclasses.dataclass(frozen=True)
class Rail:
    """Where a rail is read. `ohm` is its shunt, `average_s` over what the chip averages, if files say so."""

    name: str
    chip: str
    millivolts: Path
    milliamperes: Path
    ohm: Optional[float] = None
    average_s: float = 0.0

    def read(self) -> tuple[float, float]:
        """Return current in A and voltage in V.

        Raises:
            DeviceNotFound: its files are gone.
        """
        return files.number(self.milliamperes) / 1e3, files.number(self.millivolts) / 1e3


def find(root: Path) -> list[Rail]:
    """Return all rails that are connected to something, the module's input first."""
    found = []
    for driver, read in (("ina3221x", _iio), ("ina3221", _hwmon)):
        for chip in sorted((root / DRIVERS / driver).glob("*-00*")):
            found += [rail for rail in read(chip) if rail.name not in ("", rails.UNUSED, SHUNT_SUM)]
    names = [rail.name for rail in found]
    named = [
        dataclasses.replace(rail, name=f"{rail.name}@{rail.chip}") if names.count(rail.name) > 1 else rail
        for rail in found
    ]
    return sorted(named, key=lambda rail: rail.name not in rails.WHOLE)


def _iio(chip: Path) -> Iterator[Rail]:
    """Yield the rails of a chip in the older files; `iio_device` is another name for `iio:deviceN`."""
    for folder in sorted(chip.glob("iio*device*"))[:1]:
        for label in sorted(folder.glob("rail_name_*")):
            n = label.name.rpartition("_")[2]
            voltage, current = folder / f"in_voltage{n}_input", folder / f"in_current{n}_input"
            yield Rail(files.optional(label), chip.name, voltage, current)


def _hwmon(chip: Path) -> Iterator[Rail]:
    """Yield the rails of a chip in the newer files, which have no power: it is U times I."""
    for folder in sorted(chip.glob("hwmon/hwmon*"))[:1]:
        interval = files.optional(folder / "update_interval")  # ms, for all samples that it averages
        for label in sorted(folder.glob("in*_label")):
            n = label.name[2:].partition("_")[0]
            ohm = files.optional(folder / f"shunt{n}_resistor")
            yield Rail(
                files.optional(label),
                chip.name,
                folder / f"in{n}_input",
                folder / f"curr{n}_input",
                int(ohm) / 1e6 if ohm.isdigit() and int(ohm) else None,
                int(interval) / 1e3 if interval.isdigit() else 0.0,
            )


def present(root: Path = Path("/")) -> list[Attached]:
    """Say whether this is a board with such monitors."""
    return [Attached(f"INA3221 of {board(root)}")] if find(root) else []


@contextlib.contextmanager
def opened(root: Path, rate_hz: float) -> Iterator[Polled]:
    """Yield a reader of all rails, and of their sum where no rail is the input of the module.

    Raises:
        DeviceNotFound: this board shows no rails.
    """
    found = find(root)
    if not found:
        message = f"no INA3221 with named rails is below {root / DRIVERS}"
        raise DeviceNotFound(message, hint=NONE_HINT)
    summed = not rails.whole(rail.name for rail in found)

    def ask() -> list[float]:
        values = [rail.read() for rail in found]
        total_w = [sum(current * voltage for current, voltage in values)] if summed else []
        return total_w + [value for pair in values for value in pair]

    ask()  # an error before the recording starts, not in it
    columns = [f"{rail.name}_{unit}" for rail in found for unit in "av"]
    channels = {rail.name: _channel(rail) for rail in found}
    if summed:
        columns.insert(0, f"{rails.TOTAL}_w")
        average_s = max(rail.average_s for rail in found)
        offset_w = sum(channel.offset_error_w**2 for channel in channels.values()) ** 0.5
        total = Channel(rails.TOTAL_SCOPE, average_s, None, offset_w, source=SOURCE)
        channels = {rails.TOTAL: total, **channels}
    meta = Meta(meter="ina3221", device=board(root), simulated=root != Path("/"), channels=channels)
    yield Polled(ask, columns, meta, 1 / rate_hz)


def _channel(rail: Rail) -> Channel:
    _, voltage = rail.read()
    offset_w = OFFSET_V / rail.ohm * voltage if rail.ohm else 0.0
    return Channel(rails.scope(rail.name), rail.average_s, None, offset_w, source=SOURCE)


def board(root: Path) -> str:
    """Return the board's name, from its device tree."""
    name = re.sub(r"[\0\s]+", " ", files.optional(root / "proc/device-tree/model")).strip()
    return name or "a Jetson board"
