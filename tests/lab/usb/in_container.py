"""The tool `ncs` in a container of a real Docker engine, with a simulated stick on the bus: runs in the guest, as root.

    python -m tests.lab.usb.in_container FOLDER LIMIT_S

FOLDER has `image.tar` and `udev.deb`. Each of CASES gets a stick of its own, and a folder in FOLDER with what the stick
saw and what the container printed, `output`.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from host import ROOT
from host.compose import Service
from host.engines.choose import services
from host.engines.container import connect
from tests.lab.usb.gadget import beside
from tests.lab.usb.stick import Stick

BUS = Path("/dev/bus/usb/001")
SCRIPT = Path(__file__).with_name("load_network.py")


def as_in_compose(service: Service) -> Service:
    """With the bus folder and the right to open what appears in it."""
    return service


def node_alone(service: Service) -> Service:
    """With the stick's node as it is at the start: `docker run --device`, which is not enough."""
    node = max(BUS.iterdir())
    return dataclasses.replace(service, binds=(), device_cgroup_rules=(), devices=(f"{node}:{node}:rwm",))


CASES: dict[str, Callable[[Service], Service]] = {
    "before-the-udev-rule": as_in_compose,
    "as-in-compose": as_in_compose,
    "node-alone": node_alone,
}


def run_case(name: str, limit_s: str) -> str:
    """Run the plug-in in a container of the image, with the settings of compose.yaml, as the case changes them."""
    work = Path("/run/work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    work.chmod(0o777)  # the container's user is not root
    shutil.copy(SCRIPT, work)
    time.sleep(2)  # for the bus and udev to settle
    service = CASES[name](services(work)["ncs"])
    client = connect()
    container = client.containers.create(
        service.image,
        ["/work/load_network.py", "/work", limit_s],
        entrypoint=["/opt/tool/bin/python"],
        **service.container_options(),
    )
    container.start()
    container.wait(timeout=120)
    output: bytes = container.logs()
    container.remove()
    return output.decode()


def start_udev(package: Path) -> None:
    """Start udev, which a host without a USB bus may not have."""
    unpacked = Path("/run/unpacked")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
    for tree in unpacked.iterdir():  # not straight to /, where it would replace the link /lib by a folder
        shutil.copytree(tree, Path("/") / tree.name, symlinks=True, dirs_exist_ok=True)
    subprocess.run(["/lib/systemd/systemd-udevd", "--daemon"], check=True)


def main() -> None:
    folder, limit_s = Path(sys.argv[1]), sys.argv[2]
    start_udev(folder / "udev.deb")
    with (folder / "dockerd.log").open("w") as log:
        daemon = ["dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        subprocess.Popen(daemon, stdout=log, stderr=log)
    while not Path("/var/run/docker.sock").exists():
        time.sleep(0.5)
    print("dockerd answers", Path("/proc/uptime").read_text().split()[0], flush=True)
    subprocess.run(["docker", "load", "--quiet", "--input", str(folder / "image.tar")], check=True)
    print("image is there", Path("/proc/uptime").read_text().split()[0], flush=True)
    for name in CASES:
        if name == "as-in-compose":
            rules = [sys.executable, str(ROOT / "runner.py"), "doctor", "--install-udev"]
            subprocess.run(rules, input="y\n", text=True, check=True)
        report = folder / name
        report.mkdir()
        beside(Stick(report, "none").live, [sys.executable, "-m", __spec__.name, str(report), limit_s, name])
        print(name, Path("/proc/uptime").read_text().split()[0], flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        (Path(sys.argv[1]) / "output").write_text(run_case(sys.argv[3], sys.argv[2]))
    else:
        main()
