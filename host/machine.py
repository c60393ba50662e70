"""Facts about this host that a measurement depends on; the same words in run.json and in `doctor`."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from tools.usb import Host


def facts() -> dict[str, str | float | None]:
    """Return what the results of this host have to be read with; None where the host does not tell."""
    return {
        "hostname": platform.node(),
        "os": _os_name(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mb": _memory_mb(),
        "governor": governor(),
        "virtual": "yes" if Host().is_virtual_machine else "no",
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def governor() -> str | None:
    """Return the CPU frequency governors in use, None where the host does not tell (virtual machines)."""
    paths = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({path.read_text().strip() for path in paths})) or None


def _cpu_info(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _cpu_name() -> str:
    return _cpu_info("model name") or _cpu_info("Model") or platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.mac_ver()[0]}".strip()


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
