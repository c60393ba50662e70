"""A stick that is simulated, on a USB bus that is real: in a guest, once for all tests of a kind."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from host.docker_cli import client
from host.engines.choose import services
from tests.lab.usb.guest import CACHE, Guest, debian_package
from tests.lab.usb.in_container import CASES
from tests.lab.usb.stick import FAULTS

LOAD = ROOT / "tests" / "lab" / "usb" / "load_network.py"
PATIENCE_S = 20  # the plug-in itself waits 15 s for a stick that boots
BOOT_LIMIT_S = 900


@dataclasses.dataclass(frozen=True)
class Run:
    """What the plug-in said beside a stick, and what the stick saw."""

    output: str
    events: list[dict[str, Any]]
    firmware: bytes
    states: list[str]

    @classmethod
    def read(cls, folder: Path) -> Run:
        def text(name: str) -> str:
            return (folder / name).read_text() if (folder / name).exists() else ""

        return cls(
            output=text("output"),
            events=[json.loads(line) for line in text("events.jsonl").splitlines()],
            firmware=(folder / "firmware").read_bytes() if (folder / "firmware").exists() else b"",
            states=text("states").splitlines(),
        )

    @property
    def products(self) -> list[str]:
        """The ids under which the stick was on the bus, in that order."""
        return [event["product"] for event in self.events if event["event"] == "plugged in"]

    @property
    def asked(self) -> list[tuple[str, str]]:
        """What the plug-in wanted of the booted stick: kinds of XLink events, and streams."""
        return [(e["kind"], e["stream"]) for e in self.events if e["event"] == "xlink event"]

    @property
    def silent(self) -> bool:
        """Whether the plug-in was still waiting when its time was up."""
        return f"Timeout (0:00:{PATIENCE_S})!" in self.output

    @property
    def error(self) -> str:
        """The exception's text; what the plug-in's libraries print is in `output` too."""
        [line] = [line for line in self.output.splitlines() if line.startswith("{")]
        return str(json.loads(line)["error"])


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return Guest.make(tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="session")
def beside_stick(
    guest: Guest, tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Run]:
    """The plug-in loads a network, as root in the guest, beside a stick with each of FAULTS."""
    folder = tmp_path_factory.mktemp("stick")
    script = []
    for fault in FAULTS:
        report = folder / fault
        report.mkdir()
        stick = [sys.executable, "-m", "tests.lab.usb.stick", f"--report={report}", f"--fault={fault}"]
        load = ["env", f"PYTHONPATH={ROOT}", str(tool_python("ncs")), str(LOAD), str(report), str(PATIENCE_S)]
        script.append(f"{shlex.join(stick + load)} > {report}/output 2>&1")
    done = guest.run("sh", "-c", "\n".join(script), shared=folder, limit_s=BOOT_LIMIT_S, cwd=ROOT)
    assert done.code is not None, done.output
    return {fault: Run.read(folder / fault) for fault in FAULTS}


def unpack(image: str, folder: Path) -> None:
    """Write the files of an image of this host's engine into a folder."""
    create = [client(), "create", image]
    container = subprocess.run(create, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    try:
        with subprocess.Popen([client(), "export", container], stdout=subprocess.PIPE) as export:
            tar = ["tar", "--extract", "--same-permissions", "--directory", str(folder)]
            subprocess.run(tar, stdin=export.stdout, check=True)
        assert export.returncode == 0
    finally:
        subprocess.run([client(), "rm", container], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def in_container(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """The plug-in loads a network in the container of `ncs`, beside a stick, in each of CASES."""
    folder = tmp_path_factory.mktemp("container")
    shutil.copy(debian_package("udev"), folder / "udev.deb")
    with tempfile.TemporaryDirectory(dir=CACHE) as image:  # not in `folder`, which the guest does not cache
        unpack(services(folder)["ncs"].image, Path(image))
        argv = [sys.executable, "-m", "tests.lab.usb.in_container", str(folder), image, str(PATIENCE_S)]
        done = guest.run(*argv, shared=folder, limit_s=BOOT_LIMIT_S, cwd=ROOT)
    assert done.code == 0, done.output
    return {case: Run.read(folder / case) for case in CASES}
