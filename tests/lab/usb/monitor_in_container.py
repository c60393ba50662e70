"""The tool `monsoon` in a container of a real Docker engine, beside a simulated monitor: runs in the guest.

    python -m tests.lab.usb.monitor_in_container FOLDER IMAGE

As in_container.py, with which it shares how udev and Docker start. FOLDER/CASE gets the container's `output`,
its exit `code` and the `trace.parquet`, before and after the udev rules are there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from host.engines.choose import services
from host.engines.container import connect
from tests.lab.monsoon.instrument import Setup
from tests.lab.usb.gadget import beside
from tests.lab.usb.in_container import REPLUG_S, RUNNER, SETTLE_S, start_docker, start_udev, with_files
from tests.lab.usb.monitor import Monitor

CASES = ("before the udev rules", "as in compose.yaml")


def run_case(report: Path, image: Path) -> None:
    """Record in a container with the settings of compose.yaml."""
    work = Path("/run/work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    work.chmod(0o777)  # the container's user is not root
    time.sleep(SETTLE_S)  # for the kernel and udev to have seen the monitor
    service = with_files(services(work)["monsoon"], image)
    container = connect().containers.create(
        service.image,
        ["monsoon", "--trace", "trace.parquet", "--duration-s", "1"],
        entrypoint=["/opt/tool/bin/python", "-m", "tools.monsoon"],
        **service.container_options(),
    )
    container.start()
    code = container.wait(timeout=300)["StatusCode"]
    (report / "output").write_bytes(container.logs())
    (report / "code").write_text(str(code))
    container.remove()
    for made in work.glob("trace.parquet"):
        shutil.copy(made, report)


def main(folder: Path, image: Path) -> None:
    start_udev(folder / "udev.deb")
    start_docker(folder / "dockerd.log", image, services(folder)["monsoon"].image)
    for case in CASES:
        if case != CASES[0]:
            subprocess.run([*RUNNER, "doctor", "--install-udev"], input="y\n", text=True, check=True)
            time.sleep(REPLUG_S)
        report = folder / case
        report.mkdir()
        again = [sys.executable, "-m", "tests.lab.usb.monitor_in_container", str(report), str(image), "case"]
        assert beside(Monitor(Setup(speed=0)).live, again) == 0, case


if __name__ == "__main__":
    (run_case if len(sys.argv) > 3 else main)(Path(sys.argv[1]), Path(sys.argv[2]))
