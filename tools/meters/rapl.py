"""RAPL: the energy that a processor counts of its packages, cores and memory, through Linux' powercap.

Format: Documentation/power/powercap/powercap.rst of the Linux kernel. `energy_uj` counts to
`max_energy_range_uj` and starts again. A zone's number is not its package's: names say what a zone is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from tools.meters import files
from tools.recording import Attached, Polled
from tools.stage import DeviceNotFound
from tools.trace import Channel, Meta

FOLDER = "sys/class/powercap/intel-rapl"  # AMD's processors too, by the same driver
READABLE = (
    "Linux lets only root read it since CVE-2020-8694. Until the next boot, for all users of this machine: "
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
)
NONE_HINT = (
    "RAPL is in Intel's processors since 2011 and in AMD's since Zen; virtual machines and containers "
    "seldom show it. In a container it is hidden by Docker: --engine venv. Else: sudo modprobe intel_rapl_msr"
)
PACKAGE = r"package-\d+(-die-\d+)?"
PLATFORM, TOTAL = "psys", "total"
SOURCE = "no accuracy is stated; the counter is the processor's own"


@dataclasses.dataclass(frozen=True)
class Zone:
    """A counter. `channel` is e.g. `package-0`, or `package-0-core` for a part of it."""

    channel: str
    energy: Path
    range_uj: int


class Counter:
    """A zone's energy since the first reading, over as many wraps of its counter as there are.

    More than one between two readings would go unseen: the smallest range that is known, 65.5 kJ, lasts 655 s
    at 100 W.
    """

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._last_uj: Optional[int] = None
        self._total_uj = 0

    def read_j(self) -> float:
        """Return the energy since the first call, in J.

        Raises:
            DeviceNotFound: the counter cannot be read.
        """
        now_uj = files.number(self._zone.energy, READABLE)
        if self._last_uj is not None:
            step_uj = now_uj - self._last_uj
            self._total_uj += step_uj if step_uj >= 0 else step_uj + self._zone.range_uj
        self._last_uj = now_uj
        return self._total_uj / 1e6


def zones(root: Path) -> list[Zone]:
    """Return all counters: the platform's (`psys`) if there is one, then each package before its parts."""
    found = []
    tops = [(files.optional(top / "name") or top.name, top) for top in (root / FOLDER).glob("intel-rapl:*")]
    for name, top in sorted(tops, key=lambda each: (each[0] != PLATFORM, each[0])):
        found.append(_zone(top, name))
        for part in sorted(top.glob("intel-rapl:*:*")):
            found.append(_zone(part, f"{name}-{files.optional(part / 'name') or part.name}"))
    return found


def _zone(folder: Path, channel: str) -> Zone:
    return Zone(channel, folder / "energy_uj", files.number(folder / "max_energy_range_uj"))


def present(root: Path = Path("/")) -> list[Attached]:
    """Say whether this machine's processor has it."""
    first = next(iter(sorted((root / FOLDER).glob("intel-rapl:*/energy_uj"))), None)
    if first is None:
        return []
    try:
        files.number(first, READABLE)
    except DeviceNotFound as error:
        return [Attached("RAPL", problem=str(error), hint=error.hint)]
    return [Attached("RAPL")]


@contextlib.contextmanager
def opened(root: Path, rate_hz: float) -> Iterator[Polled]:
    """Yield a reader of all counters, `rate_hz` times a second. The processor counts about every 1 ms.

    Raises:
        DeviceNotFound: there are none, or this user may not read them.
    """
    found = zones(root)
    if not found:
        message = f"this machine shows no RAPL counters: no {root / FOLDER}"
        raise DeviceNotFound(message, hint=NONE_HINT)
    counters = [Counter(zone) for zone in found]
    channels = {zone.channel: Channel(scope=f"RAPL {zone.channel}", source=SOURCE) for zone in found}
    packages = [index for index, zone in enumerate(found) if re.fullmatch(PACKAGE, zone.channel)]
    summed = len(packages) > 1 and found[0].channel != PLATFORM
    if summed:
        channels = {TOTAL: Channel(scope=f"RAPL, sum of {len(packages)} packages", source=SOURCE), **channels}

    def ask() -> list[float]:
        values = [counter.read_j() for counter in counters]
        return [sum(values[index] for index in packages)] * summed + values

    ask()  # an error before the recording starts, not in it
    meta = Meta(meter="rapl", device=_processor(root), simulated=root != Path("/"), channels=channels)
    yield Polled(ask, [f"{name}_j" for name in channels], meta, 1 / rate_hz)


def _processor(root: Path) -> str:
    lines = files.optional(root / "proc/cpuinfo").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "processor"
