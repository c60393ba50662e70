"""What a phone is and how it is at a moment: chip, cores, temperatures, battery, screen, in one call.

What a stock phone keeps from adb's user is None, empty or missing, never a guess. Sources: the kernel's ABI
documents for cpufreq and thermal; Android's `dumpsys battery|thermalservice|power|window`, `getprop`,
`settings`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Optional

from tools import shell_output

if TYPE_CHECKING:
    from tools.phone.device import Phone

SIMULATED = "ro.mobile_accelerator.simulated"  # a property that only a stand-in has: what it is
READ = r"""
section() { echo "@@ $1"; }
section properties; getprop
section uid; id -u
section su; command -v su
section cpus; cat /sys/devices/system/cpu/possible
section frequencies; grep -sH . {frequencies}
section zones; grep -sH . /sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp
section thermalservice; dumpsys thermalservice
section battery; dumpsys battery
section power; dumpsys power | grep -E 'mWakefulness=|mStayOn='
section window; dumpsys window | grep -m 1 -oE '(mDreamingLockscreen|isKeyguardShowing)=[a-z]*'
section airplane; settings get global airplane_mode_on
section memory; grep -E 'MemTotal|MemAvailable' /proc/meminfo
section load; cat /proc/loadavg
section disk; df -k {parent}
exit 0
"""
FREQUENCY_FILES = [
    "scaling_governor",
    "scaling_min_freq",
    "scaling_max_freq",
    "cpuinfo_max_freq",
    "related_cpus",
]
# of android.os.Temperature: CPU, GPU, battery, skin, USB port, NPU; the others are no temperatures
TEMPERATURE_TYPES = (0, 1, 2, 3, 4, 9)
PLAUSIBLE_DEGC = (-30.0, 150.0)  # a zone that is switched off reads -40 or -274
CONDITIONS = [
    "throttling",
    "battery_percent",
    "charging",
    "plugged",
    "root",
    "awake",
    "airplane_mode",
    "memory_free_mb",
    "load_1m",
]
CHARGING = {1: "unknown", 2: "charging", 3: "discharging", 4: "not charging", 5: "full"}  # BatteryManager


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Cores that share a clock. `max_khz` is the hardware's limit, `limit_khz` the one that holds now."""

    cpus: tuple[int, ...]
    max_khz: int
    limit_khz: Optional[int]
    min_khz: Optional[int]
    governor: str


@dataclasses.dataclass(frozen=True)
class State:
    """A phone at a moment.

    Attributes:
        soc, board, hardware: as ro.soc.model, ro.board.platform and ro.hardware say.
        abis: the best first, e.g. ("arm64-v8a", "armeabi-v7a").
        clusters: the slowest first; empty where the phone does not tell.
        temperatures_degc: sensor -> degrees.
        throttling: Android's thermal status, 0 (none) to 6 (shut down).
        charging, plugged: e.g. "discharging"; "AC", "USB", ..., or "no".
        root, su: whether adb's user is root; whether there is a `su`, which is not tried.
        awake, locked, airplane_mode: screen on; lock screen shown; radios off.
        simulated: what stands in for a phone, "" for a real one.
    """

    model: str
    soc: str
    board: str
    hardware: str
    android: str
    api_level: Optional[int]
    abis: tuple[str, ...]
    n_cpus: int
    clusters: tuple[Cluster, ...]
    temperatures_degc: Mapping[str, float]
    throttling: Optional[int]
    battery_percent: Optional[int]
    charging: Optional[str]
    plugged: Optional[str]
    root: bool
    su: bool
    awake: Optional[bool]
    locked: Optional[bool]
    airplane_mode: Optional[bool]
    memory_mb: Optional[int]
    memory_free_mb: Optional[int]
    disk_free_mb: Optional[int]
    load_1m: Optional[float]
    simulated: str

    @property
    def chip(self) -> str:
        """The best name there is for the system on a chip."""
        return self.soc or self.board or self.hardware or "unknown SoC"

    @property
    def big(self) -> tuple[int, ...]:
        """The cores of the fastest cluster; all, where the phone does not tell."""
        return self.clusters[-1].cpus if self.clusters else tuple(range(self.n_cpus))

    @property
    def little(self) -> tuple[int, ...]:
        """The cores of the slowest cluster; all, where the phone does not tell."""
        return self.clusters[0].cpus if self.clusters else tuple(range(self.n_cpus))

    @property
    def hottest_degc(self) -> Optional[float]:
        """The hottest of the CPU's sensors, else of all; None where there are none."""
        cpu = [degc for name, degc in self.temperatures_degc.items() if "cpu" in name.lower()]
        return max(cpu or self.temperatures_degc.values(), default=None)

    @property
    def identity(self) -> dict[str, Any]:
        """What a record says of the phone itself; `simulated` only where it is a stand-in."""
        said = {
            "device_name": f"{self.model} ({self.chip})",
            "soc": self.chip,
            "android": self.android,
            "abi": self.abis[0] if self.abis else "",
        }
        return {**said, "simulated": True, "stand_in": self.simulated} if self.simulated else said

    @property
    def conditions(self) -> dict[str, Any]:
        """What may change from one measurement to the next, for a record."""
        return {
            **{name: getattr(self, name) for name in CONDITIONS},
            "temperatures_degc": dict(self.temperatures_degc),
            "clusters": [dataclasses.asdict(cluster) for cluster in self.clusters],
        }


def read(phone: Phone) -> State:
    """Ask the phone."""
    files = " ".join(f"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/{name}" for name in FREQUENCY_FILES)
    command = READ.replace("{frequencies}", files).replace("{parent}", str(PurePosixPath(phone.root).parent))
    return parse(phone.shell(command, timeout_s=30).check("looking at its state"))


def parse(text: str) -> State:
    """Return the state that the output of `READ` describes."""
    sections = shell_output.sections(text)
    properties = dict(re.findall(r"^\[([^]]+)\]: \[([^]]*)\]$", sections["properties"], re.MULTILINE))
    said = battery(sections["battery"])
    return State(
        model=" ".join(
            filter(None, (properties.get("ro.product.manufacturer"), properties.get("ro.product.model")))
        )
        or "unknown phone",
        soc=properties.get("ro.soc.model", ""),
        board=properties.get("ro.board.platform", ""),
        hardware=properties.get("ro.hardware", ""),
        android=properties.get("ro.build.version.release", ""),
        api_level=_int(properties.get("ro.build.version.sdk")),
        abis=tuple(filter(None, properties.get("ro.product.cpu.abilist", "").split(","))),
        n_cpus=_last_cpu(sections["cpus"]) + 1,
        clusters=_clusters(sections["frequencies"]),
        temperatures_degc=_temperatures(sections["zones"], sections["thermalservice"]),
        throttling=_int(_found(r"Thermal Status: (\d+)", sections["thermalservice"])),
        battery_percent=_int(said.get("level")),
        charging=CHARGING.get(_int(said.get("status")) or 0),
        plugged=plugged(said),
        root=sections["uid"].strip() == "0",
        su=bool(sections["su"].strip()),
        awake=_is(_found(r"mWakefulness=(\w+)", sections["power"]), "Awake"),
        locked=_is(_found(r"=(\w+)", sections["window"]), "true"),
        airplane_mode=_is(_found(r"^([01])", sections["airplane"]), "1"),
        memory_mb=_kb_to_mb(_found(r"MemTotal:\s+(\d+)", sections["memory"])),
        memory_free_mb=_kb_to_mb(_found(r"MemAvailable:\s+(\d+)", sections["memory"])),
        disk_free_mb=_kb_to_mb(_found(r"\d+\s+\d+\s+(\d+)\s+\d+%", sections["disk"])),
        load_1m=_float(_found(r"^([\d.]+)", sections["load"])),
        simulated=properties.get(SIMULATED, ""),
    )


def _clusters(text: str) -> tuple[Cluster, ...]:
    """Cores that share a clock, from /sys/devices/system/cpu/cpu*/cpufreq."""
    of_cpu: dict[int, dict[str, str]] = {}
    for cpu, name, value in re.findall(r"/cpu(\d+)/cpufreq/(\w+):(.*)", text):
        of_cpu.setdefault(int(cpu), {})[name] = value.strip()
    found: dict[tuple[int, ...], Cluster] = {}
    for cpu, said in of_cpu.items():
        if not said.get("cpuinfo_max_freq", "").isdigit():
            continue
        cpus = tuple(int(each) for each in said.get("related_cpus", str(cpu)).split())
        found[cpus] = Cluster(
            cpus=cpus,
            max_khz=int(said["cpuinfo_max_freq"]),
            limit_khz=_int(said.get("scaling_max_freq")),
            min_khz=_int(said.get("scaling_min_freq")),
            governor=said.get("scaling_governor", ""),
        )
    return tuple(sorted(found.values(), key=lambda cluster: (cluster.max_khz, cluster.cpus)))


def _temperatures(zones: str, service: str) -> Mapping[str, float]:
    """Degrees Celsius of the kernel's zones, or of Android's service where those are closed to adb's user."""
    types = dict(re.findall(r"/thermal_zone(\d+)/type:(.+)", zones))
    found = {}
    for number, value in re.findall(r"/thermal_zone(\d+)/temp:(-?\d+)", zones):
        found[types.get(number, f"zone{number}")] = _degc(int(value))
    if not found:
        current = service.partition("Current temperatures from HAL")[2] or service
        for value, kind, name in re.findall(
            r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+), mName=([^,]+)",
            current.partition("Current cooling")[0],
        ):
            if int(kind) in TEMPERATURE_TYPES:
                found[name] = float(value)
    low, high = PLAUSIBLE_DEGC
    return {name: degc for name, degc in found.items() if low <= degc <= high}


def _degc(value: int) -> float:
    """A zone's value in degrees: thousandths by the kernel's ABI; some vendors' are tenths, or degrees."""
    if abs(value) >= 1000:
        return value / 1000
    return value / 10 if abs(value) > PLAUSIBLE_DEGC[1] else float(value)


def battery(text: str) -> Mapping[str, str]:
    """Return the first block of `dumpsys battery`; newer Androids append a log that looks like it."""
    block = text.partition("state:")[2] or text
    fields: dict[str, str] = {}
    for name, value in re.findall(r"^  ([A-Za-z ]+): (\S+)$", block, flags=re.MULTILINE):
        fields.setdefault(name, value)
    return fields


def plugged(said: Mapping[str, str]) -> Optional[str]:
    """Return what powers the phone by `battery`, e.g. "AC", or "no"; None where it does not tell."""
    if not said:
        return None
    powered = [name for name in ("AC", "USB", "Wireless", "Dock") if said.get(f"{name} powered") == "true"]
    return ", ".join(powered) or "no"


def _last_cpu(text: str) -> int:
    return max((int(number) for number in re.findall(r"\d+", text)), default=0)


def _found(pattern: str, text: str) -> Optional[str]:
    match = re.search(pattern, text, flags=re.MULTILINE)
    return match[1] if match else None


def _is(value: Optional[str], wanted: str) -> Optional[bool]:
    return None if value is None else value == wanted


def _int(value: Optional[str]) -> Optional[int]:
    return int(value) if value is not None and value.strip().isdigit() else None


def _float(value: Optional[str]) -> Optional[float]:
    return None if value is None else float(value)


def _kb_to_mb(value: Optional[str]) -> Optional[int]:
    return None if value is None else int(value) // 1024
