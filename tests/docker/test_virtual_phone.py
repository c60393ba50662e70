"""The virtual phone as a container, reached as a phone with wireless debugging is: the main job, and faults.

VIRTUAL_PHONE_IMAGE names an image that is here, e.g. one for arm64 (docs/phone.md); else one is built.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import ROOT, images
from host.compose import load
from host.docker_cli import Console
from tests.docker.conftest import TAG
from tests.lab import virtual_phone
from tests.project import LAB, Project

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tool,
    pytest.mark.skipif(not (virtual_phone.ADB / "complete.2").exists(), reason=virtual_phone.missing()),
]
Docker = Callable[..., str]
LENET = ("--model", "lenet", "--backend", "android", "--budget-s", "1")


@pytest.fixture(scope="module")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("VIRTUAL_PHONE_IMAGE"):
        yield given
        return
    base = load(ROOT / "compose.yaml", {**os.environ, "MOBILE_ACCELERATOR_VERSION": TAG})["android"]
    console = Console(log=tmp_path_factory.mktemp("build") / "build.log", note=print)
    images.build([base], console, offline_base=True)
    name = f"mobile-accelerator/virtual-phone:{TAG}"
    given = ("--build-arg", f"BASE={base.image}", "--file", str(LAB / "phone" / "Dockerfile"))
    docker("build", "--tag", name, *given, str(LAB))
    yield name
    docker("image", "rm", name, base.image)


@pytest.fixture
def start(image: str, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """Start a phone with these options of `docker run`; return its address."""
    for name, value in virtual_phone.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{tmp_path}/adb.socket")
    name = f"virtual-phone-{TAG}"

    def run(*options: str) -> str:
        docker("run", "--detach", "--rm", "--init", "--name", name, "-p", "127.0.0.1::5555", *options, image)
        return docker("port", name, "5555").strip()

    yield run
    docker("rm", "--force", name)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(ROOT, tmp_path / "work")


def test_the_main_job_on_a_phone_in_a_container(
    start: Docker, docker: Docker, project: Project, tmp_path: Path
) -> None:
    phone = ("--phone", start())
    program = tmp_path / "benchmark_model"
    docker("cp", f"virtual-phone-{TAG}:/vendor/bin/benchmark_model", str(program))

    def call(*arguments: str) -> str:
        done = project.call(project.argv(*arguments))
        assert done.returncode == 0, done.stderr
        return done.stdout

    state = json.loads(call("phone", "state", *phone, "--json"))
    assert (state["soc"], state["charging"], state["root"]) == ("SM8150", "charging", False)
    assert state["temperatures_degc"]["cpu-1-3-usr"] == 33
    done = project.run("all", *LENET, *phone, "--benchmark-model", str(program))
    assert done.returncode == 0, done.stderr
    rows = {record["device"]: record for record in project.results()["records"]}
    status = {device: row["status"] for device, row in rows.items()}
    assert status == {"CPU 4 threads": "ok", "GPU": "ok", "NNAPI": "ok", "Hexagon": "unsupported"}
    assert all(row["simulated"] for row in rows.values())
    assert rows["CPU 4 threads"]["correctness"]["cosine"] > 0.999
    call("phone", "clean", *phone)
    assert docker("exec", f"virtual-phone-{TAG}", "ls", "/data/local/tmp") == ""


def test_its_faults(start: Docker, docker: Docker, project: Project, tmp_path: Path) -> None:
    phone = ("--phone", start("--tmpfs", "/data/local/tmp:exec,size=6m,uid=2000,gid=2000"))
    name = f"virtual-phone-{TAG}"
    docker("exec", name, "sh", "-c", "echo 95000 >/sys/class/thermal/thermal_zone0/temp")
    docker("exec", name, "pkill", "-9", "-x", "adbd")  # the cable; it is back after a second
    time.sleep(2)
    done = project.call(project.argv("phone", "state", *phone, "--json"))
    assert json.loads(done.stdout)["temperatures_degc"]["cpu-0-0-usr"] == 95
    docker("cp", f"{name}:/vendor/bin/benchmark_model", str(tmp_path / "program"))
    done = project.run("all", *LENET, *phone, "--benchmark-model", str(tmp_path / "program"))
    row = project.results()["records"][0]
    assert row["status"] == "failed"
    assert "MB free at" in row["reason"]
    assert row["latency_ms"] is None
