"""Folders that stand in for a machine's /sys, /proc and programs, where these show power meters.

A tool takes one for its machine by $MOBILE_ACCELERATOR_SIMULATED_HOST, and labels what it reads there
simulated. Layouts: powercap.rst and ina3221.rst of the Linux kernel; boards as in docs/meters.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

RANGE_UJ = 262143328850


def write(path: Path, text: object) -> Path:
    """Write a file of the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def rapl(root: Path, packages: int = 1, range_uj: int = RANGE_UJ) -> dict[str, Path]:
    """Make RAPL's zones, numbered against their names; return the counters' files by channel."""
    base = root / "sys/class/powercap/intel-rapl"
    write(root / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Simulated processor")
    counters = {}
    for package in range(packages):
        top = base / f"intel-rapl:{packages - 1 - package}"
        zones = {f"package-{package}": top}
        for number, part in enumerate(("core", "dram")):
            zones[f"package-{package}-{part}"] = top / f"{top.name}:{number}"
        for channel, folder in zones.items():
            write(folder / "name", channel if folder == top else channel.rpartition("-")[2])
            write(folder / "max_energy_range_uj", range_uj)
            counters[channel] = write(folder / "energy_uj", 1000)
    return counters


@dataclasses.dataclass(frozen=True)
class Board:
    """A board's monitors: chip -> its rails in the order of channels; whether in the newer files."""

    chips: dict[str, tuple[str, ...]]
    newer: bool = True


BOARDS = {
    "TX2": Board(
        {
            "0-0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"),
            "0-0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
        },
        newer=False,
    ),
    "Nano": Board({"6-0040": ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")}, newer=False),
    "AGX Xavier": Board({"1-0040": ("GPU", "CPU", "SOC"), "1-0041": ("CV", "VDDRQ", "SYS5V")}, newer=False),
    "Xavier NX": Board({"7-0040": ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")}),
    "AGX Orin": Board(
        {"1-0040": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "1-0041": ("NC", "VDDQ_VDD2_1V8AO", "NC")}
    ),
    "Orin Nano": Board({"1-0040": ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")}),
}


def jetson(root: Path, name: str, first_number: int = 0) -> dict[str, tuple[int, int]]:
    """Make a board's files; return mV and mA of each rail, all of them different.

    `first_number` is that of the first chip's hwmon or iio device, which changes from boot to boot.
    """
    write(root / "proc/device-tree/model", f"Simulated {name}\0")
    values = {}
    for index, (chip, labels) in enumerate(BOARDS[name].chips.items()):
        driver = "ina3221" if BOARDS[name].newer else "ina3221x"
        folder = root / "sys/bus/i2c/drivers" / driver / chip
        make = _hwmon if BOARDS[name].newer else _iio
        for channel, label in enumerate(labels):
            mv, ma = 5000 + 100 * index + channel, 1000 * (index + 1) + 10 * channel
            make(folder, first_number + index, channel, label, mv, ma)
            if label != "NC":
                values[label] = (mv, ma)
    return values


def _iio(chip: Path, number: int, channel: int, label: str, mv: int, ma: int) -> None:
    folder = chip / f"iio:device{number}"
    write(folder / f"rail_name_{channel}", label)
    write(folder / f"in_voltage{channel}_input", mv)
    write(folder / f"in_current{channel}_input", ma)
    write(folder / f"in_power{channel}_input", mv * ma // 1000)
    if not (chip / "iio_device").exists():
        (chip / "iio_device").symlink_to(folder)


def _hwmon(chip: Path, number: int, channel: int, label: str, mv: int, ma: int) -> None:
    folder, n = chip / "hwmon" / f"hwmon{number}", channel + 1
    write(folder / f"in{n}_label", label)
    write(folder / f"in{n}_input", mv)
    write(folder / f"curr{n}_input", ma)
    write(folder / f"shunt{n}_resistor", 5000)
    write(folder / f"in{n + 3}_input", ma * 5)  # of the shunt, in uV
    write(folder / "update_interval", 72)
    write(folder / "in7_label", "sum of shunt voltages")
    write(folder / "in7_input", 99999)


def tegrastats(root: Path, lines: list[str], ends: bool = False) -> None:
    """Put a program there that prints these lines over and over, or once; it wants `--interval MS`."""
    repeated = "".join(f"    echo '{line}'; sleep $pause\n" for line in lines)
    loop = "break" if ends else ":"
    script = f"""#!/bin/sh
[ "$1" = --interval ] || exit 2
pause=$(echo "$2" | awk '{{ print $1 / 1000 }}')
while :; do
{repeated}    {loop}
done
"""
    path = write(root / "usr/bin/tegrastats", script)
    path.chmod(0o755)
