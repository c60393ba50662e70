"""Power meters other than Monsoon's, each a module: what it measures, how it is read, what it says.

    rapl, nvml                           of the machine that this runs on
    jetson                               of a Jetson board, by one of the ways ina3221 and tegrastats
    battery, odpm                        of a phone, over adb
    joulescope, lpm01a, ptdaemon         instruments
    replay                               a trace that was recorded

All record into the one trace (tools/trace.py). A channel's place says what to take: the first one stands for
all. A module's function `present` says which of its kind are here without a word to them; those without one
are chosen by name only. docs/meters.md says what each needs, how good it is, and what was never tried.
"""

from __future__ import annotations

from collections.abc import Mapping

from tools.meters import (
    battery,
    ina3221,
    jetson,
    joulescope,
    lpm01a,
    nvml,
    odpm,
    ptdaemon,
    rapl,
    replay,
    tegrastats,
)
from tools.meters.commands import tool

__all__ = [
    "HOST_ONLY",
    "WAYS",
    "battery",
    "ina3221",
    "jetson",
    "joulescope",
    "lpm01a",
    "nvml",
    "odpm",
    "ptdaemon",
    "rapl",
    "replay",
    "tegrastats",
    "tool",
]

# Meters that a container does not reach, and why; for these the tool needs the engine venv.
HOST_ONLY: Mapping[str, str] = {
    "rapl": "newer Docker versions hide powercap from containers",
    "nvml": "its library is part of the host's driver",
    "lpm01a": "containers get no serial ports",
    "ptdaemon": "containers of tools have no network",
}

# Meters that are a way to another one, by whose name `auto` takes them.
WAYS: Mapping[str, str] = {"ina3221": "jetson", "tegrastats": "jetson"}
