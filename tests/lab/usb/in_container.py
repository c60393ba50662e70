"""The tool `ncs` in containers of a real Docker engine, beside a simulated stick: runs in the guest.

    python -m tests.lab.usb.in_container FOLDER IMAGE LIMIT_S

IMAGE has the files of the image `ncs`, which are mounted: loading them takes an emulated processor minutes.
FOLDER has `udev.deb`. Each of CASES gets a stick of its own, and a folder in FOLDER: what the stick saw,
the `output` of the container, and `states`, what `runner.py devices` calls the stick before and after it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from host import ROOT
from host.compose import Service
from host.docker_cli import client
from host.engines.choose import services
from host.engines.container import connect
from tests.lab.usb.gadget import beside
from tests.lab.usb.stick import Stick

BUS = Path("/dev/bus/usb/001")
UDEV = Path("/lib/systemd/systemd-udevd")
SCRIPT = Path(__file__).with_name("load_network.py")
RUNNER = [sys.executable, str(ROOT / "runner.py")]
OTHERS = ("dev", "proc", "sys", "sbin")  # folders that the kernel fills, and Docker with its init
SETTLE_S = 2
# udev looks for changed rules at most every 3 s, and `udevadm control --reload`, which would be at once, is
# now and then lost on udev 252 ("Invalid sender uid 65534, ignoring message"); a person takes longer to
# replug a stick
REPLUG_S = 4


def as_in_compose(service: Service) -> Service:
    """Leave it with the bus folder, and the right to open what appears in it."""
    return service


def node_alone(service: Service) -> Service:
    """Give it the stick's node as it is at the start, like `docker run --device`."""
    node = max(BUS.iterdir())
    others = tuple(volume for volume in service.volumes if ":/dev/bus/usb:" not in volume)
    assert others != service.volumes, service.volumes
    return dataclasses.replace(
        service, volumes=others, device_cgroup_rules=(), devices=(f"{node}:{node}:rwm",)
    )


CASES: dict[str, Callable[[Service], Service]] = {
    "before the udev rules": as_in_compose,
    "as in compose.yaml": as_in_compose,
    "the node alone": node_alone,
}


def with_files(service: Service, image: Path) -> Service:
    """Give it the folders of the image, but OTHERS."""
    folders = [path for path in image.iterdir() if path.is_dir() and not path.is_symlink()]
    full = [path for path in folders if path.name not in OTHERS and any(path.iterdir())]
    mounts = tuple(f"{path}:/{path.name}:ro" for path in full)
    return dataclasses.replace(service, volumes=(*service.volumes, *mounts))


def run_case(name: str, report: Path, image: Path, limit_s: str) -> None:
    """Run the plug-in in a container with the settings of compose.yaml, as the case changes them."""
    work = Path("/run/work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    work.chmod(0o777)  # the container's user is not root
    shutil.copy(SCRIPT, work)
    time.sleep(SETTLE_S)  # for the kernel and udev to have seen the stick
    before = stick_state()
    service = with_files(CASES[name](services(work)["ncs"]), image)
    container = connect().containers.create(
        service.image,
        ["/work/load_network.py", "/work", limit_s],
        entrypoint=["/opt/tool/bin/python"],
        **service.container_options(),
    )
    container.start()
    container.wait(timeout=120)
    (report / "output").write_bytes(container.logs())
    container.remove()
    (report / "states").write_text(f"{before}\n{stick_state()}\n")


def stick_state() -> str:
    """Return the runner's word for it."""
    done = subprocess.run([*RUNNER, "devices", "--json"], check=True, capture_output=True, text=True)
    [state] = [device["state"] for device in json.loads(done.stdout) if device["kind"] == "stick"]
    return str(state)


def start_udev(package: Path) -> None:
    """Start udev, which a host without a USB bus may not have."""
    if not UDEV.exists():
        unpacked = Path("/run/unpacked")
        subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
        for tree in unpacked.iterdir():  # not straight to /, where it would replace the link /lib by a folder
            shutil.copytree(tree, Path("/") / tree.name, symlinks=True, dirs_exist_ok=True)
    subprocess.run([str(UDEV), "--daemon"], check=True)


def start_docker(log: Path, image: Path, name: str) -> None:
    """Start an engine whose containers can have no network, and give it the image, its folders empty."""
    daemon = ["dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    with log.open("w") as file:
        subprocess.Popen(daemon, stdout=file, stderr=file)
    while not Path("/var/run/docker.sock").exists():
        time.sleep(0.2)
    archive = Path("/run/image.tar")
    with tarfile.open(archive, "w") as tar:
        for path in image.iterdir():
            entry = tar.gettarinfo(path, path.name)
            if path.name in OTHERS:
                entry.type = tarfile.DIRTYPE  # also where it is a link
            tar.addfile(entry)
    settings = ["--change", "ENV PYTHONPATH=/opt/src"]
    subprocess.run([client(), "import", *settings, str(archive), name], check=True)


def main(folder: Path, image: Path, limit_s: str) -> None:
    start_udev(folder / "udev.deb")
    start_docker(folder / "dockerd.log", image, services(folder)["ncs"].image)
    note("Docker runs")
    for name in CASES:
        if name != "before the udev rules":
            subprocess.run([*RUNNER, "doctor", "--install-udev"], input="y\n", text=True, check=True)
            time.sleep(REPLUG_S)
        report = folder / name
        report.mkdir()
        stick = Stick(report, "none")
        again = [sys.executable, "-m", "tests.lab.usb.in_container", name, str(report), str(image), limit_s]
        assert beside(stick.live, again) == 0, name
        note(name)


def note(what: str) -> None:
    uptime_s = Path("/proc/uptime").read_text().split()[0]
    print(f"{uptime_s} s: {what}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] in CASES:
        run_case(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
