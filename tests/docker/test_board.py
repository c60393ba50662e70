"""A board with a real Docker engine (this host's) behind a real sshd: its image, its files, what is left."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.compose import Service, load
from host.docker_cli import Console
from host.images import OFFLINE_BASE, build
from tests.docker.conftest import TAG
from tests.lab import virtual_board
from tests.lab.virtual_board import VirtualBoard
from tests.project import LAB, Project

MISSING = virtual_board.missing()
pytestmark = [pytest.mark.docker, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

SIZE = 3_000_000
Docker = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, docker: Docker) -> Iterator[Project]:
    project = Project.copy(tmp_path_factory.mktemp("project") / "project")
    project.add_tool("boardtool", LAB / "board_tool.py")
    shutil.copy(LAB / "board" / "Dockerfile", project.folder / "images" / "boardtool")
    compose = project.folder / "compose.yaml"
    build_line = "build: {<<: *build, args: {<<: *args, TOOL: boardtool}}"
    own = "build: {context: ., dockerfile: images/boardtool/Dockerfile, args: {BASE: *base}}"
    text = compose.read_text().replace("  BASE: $", "  BASE: &base $", 1)
    compose.write_text(text.replace(build_line, own))
    yield project
    subprocess.run(["docker", "image", "rm", "--force", service(project).image], check=False)


def service(project: Project) -> Service:
    return load(project.folder / "compose.yaml", {"MOBILE_ACCELERATOR_VERSION": TAG})["boardtool"]


@pytest.fixture
def lab(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch, docker: Docker
) -> Iterator[VirtualBoard]:
    if not docker("image", "ls", "--quiet", f"{OFFLINE_BASE}:bookworm").strip():
        console = Console(log=tmp_path / "build.log", note=print)
        build([dataclasses.replace(service(project))], console, offline_base=True)
        docker("image", "rm", service(project).image)
    with VirtualBoard(tmp_path / "board", docker=True) as lab:
        monkeypatch.setenv("PATH", lab.variables["PATH"])
        monkeypatch.setenv("MOBILE_ACCELERATOR_BASE", f"{OFFLINE_BASE}:bookworm")
        monkeypatch.setenv("MOBILE_ACCELERATOR_VERSION", TAG)
        yield lab
        for name in running(lab, docker):
            docker("rm", "--force", name)


def running(lab: VirtualBoard, docker: Docker) -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", f"label=mobile-accelerator.board={lab.cache}").split()


def arguments(stage: str, network: Path, lab: VirtualBoard) -> list[str]:
    argv = ["run", f"boardtool.{stage}", "--model", "squeezenet", "--input", f"onnx={network}"]
    return [*argv, "--device", lab.destination]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(os.urandom(SIZE))
    return path


def test_an_image_is_built_on_the_board_and_its_containers_do_the_stages(
    project: Project, lab: VirtualBoard, network: Path, docker: Docker
) -> None:
    done = project.run(*arguments("benchmark", network, lab))
    assert done.returncode == 0, done.stderr
    assert f"building {service(project).image} on {lab.destination}" in done.stderr
    (record,) = project.results()["records"]
    assert (record["status"], record["simulated"]) == ("ok", True)
    assert "/work/store/" in str(record["metadata"]["made_by"])  # where it was built, as the container saw it
    assert record["metadata"]["rails"]["rail_name_0"] == ["VDD_IN", "VDD_SYS_GPU"]  # of the board's /sys
    samples = project.work / "runs" / "latest" / record["samples"]
    assert samples.resolve().read_bytes() == network.read_bytes()[:8]
    labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", service(project).image)
    assert '"mobile-accelerator.l4t":"32.7.1"' in labels
    before = lab.relay.passed_bytes
    again = project.run(*arguments("benchmark", network, lab))
    assert again.returncode == 0, again.stderr
    assert "building mobile-accelerator" not in again.stderr
    assert lab.relay.passed_bytes - before < 100_000
    assert running(lab, docker) == []


@pytest.mark.parametrize("how", ["cut", "kill"])
def test_nothing_is_left_running_when_the_way_there_ends(
    project: Project, lab: VirtualBoard, network: Path, docker: Docker, how: str
) -> None:
    argv = [*arguments("build", network, lab), "--set", "seconds=60", "--work", str(project.work)]
    runner = subprocess.Popen(
        project.argv(*argv, "--engine", "venv"),
        cwd=project.folder,
        env={**os.environ, **project.environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 180
    while not list(lab.cache.glob("work/store/*.part/building")):
        assert time.monotonic() < end
        assert runner.poll() is None, runner.communicate()
        time.sleep(0.1)
    assert len(running(lab, docker)) == 1
    if how == "cut":
        lab.relay.cut()
    else:
        os.killpg(runner.pid, signal.SIGKILL)
    out, errors = runner.communicate(timeout=60)
    assert how == "kill" or "was lost" in out + errors
    end = time.monotonic() + 30
    while running(lab, docker) or (lab.cache / "work").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    before = lab.relay.carried_bytes
    done = project.run(*arguments("build", network, lab))
    assert done.returncode == 0, done.stderr
    assert lab.relay.carried_bytes - before < 100_000


def test_its_tegrastats_runs_in_the_container_of_the_meter(
    project: Project, lab: VirtualBoard, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.hide_monitors()
    monkeypatch.delenv("MOBILE_ACCELERATOR_BASE")
    built = project.call(project.argv("images", "build", "meters", "--offline-base"))
    assert built.returncode == 0, built.stderr
    record = ["run", "meters.jetson", "--model", "squeezenet", "--set", "duration_s=0.5"]
    done = project.run(*record, "--device", lab.destination)
    assert done.returncode == 0, done.stderr
    (result,) = (project.work / "runs" / "latest").resolve().rglob("result.json")
    found = json.loads(result.read_text())["metadata"]
    assert (found["meter"], found["board"]["destination"]) == ("tegrastats", lab.destination)
    assert "tegrastats was read instead" in found["note"]
    assert "VDD_SYS_GPU" in found["channels"]
    assert found["simulated"]
    assert running(lab, docker) == []
