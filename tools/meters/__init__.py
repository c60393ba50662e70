"""Power meters other than Monsoon's, each a module: what it measures, how it is read, what it says.

    rapl, nvml, ina3221, tegrastats      of the machine that this runs on
    battery, odpm                        of a phone, over adb
    joulescope, lpm01a, ptdaemon         instruments
    replay                               a trace that was recorded

All record into the one trace (tools/trace.py). A channel's place says what to take: the first one stands for
all. docs/meters.md says what each needs, how good it is, and what was never tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from tools.meters import battery, ina3221, joulescope, lpm01a, nvml, odpm, ptdaemon, rapl, replay, tegrastats
from tools.meters.commands import tool

if TYPE_CHECKING:
    from tools.recording import Attached

__all__ = ["HOST_ONLY", "PRESENT", "odpm", "ptdaemon", "replay", "tool"]

# Meters that can be looked for without a word to them, the better ones first. `root` as for tools.usb.Host.
PRESENT: Mapping[str, Callable[[Path], list[Attached]]] = {
    "joulescope": joulescope.present,
    "lpm01a": lpm01a.present,
    "ina3221": ina3221.present,
    "nvml": nvml.present,
    "rapl": rapl.present,
    "tegrastats": tegrastats.present,
    "battery": battery.present,
}
# Meters that a container does not reach, and why; for these the tool needs the engine venv.
HOST_ONLY: Mapping[str, str] = {
    "rapl": "Docker hides powercap from containers",
    "nvml": "its library is part of the host's driver",
    "tegrastats": "the program is the host's",
    "lpm01a": "containers get no serial ports",
    "ptdaemon": "containers of tools have no network",
}
