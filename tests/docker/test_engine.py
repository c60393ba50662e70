"""The docker engine: the main job in real containers, and tools that misbehave in one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from host import ROOT
from tests.lab import virtual_phone
from tests.project import LAB, Project
from tests.test_tool_failures import wait_until

pytestmark = pytest.mark.docker
RUNTIMES = {"onnxruntime", "tflite", "litert", "openvino"}
Docker = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with the naughty tool, its image built on the offline base."""
    project = Project.copy(tmp_path_factory.mktemp("docker") / "project")
    project.add_tool("naughty", LAB / "naughty.py")
    compose = project.folder / "compose.yaml"
    compose.write_text(
        compose.read_text().replace("  naughty:\n    <<: *tool", "  naughty:\n    <<: [*usb, *tool]")
    )
    built = project.call(project.argv("images", "build", "naughty", "--offline-base"))
    assert built.returncode == 0, built.stderr
    return project


def run(project: Project, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    return project.run("run", f"naughty.{command}", "--model", "squeezenet", *more, engine="docker")


def containers(docker: Docker, project: Project) -> list[str]:
    """Ids of the containers that there are for this project's work folder, running or not."""
    return docker("ps", "-aq", "--filter", f"label=mobile-accelerator.work={project.work}").split()


def test_the_main_job_in_containers(tmp_path_factory: pytest.TempPathFactory) -> None:
    project = Project(ROOT, tmp_path_factory.mktemp("main") / "work")
    done = project.run("all", "--model", "squeezenet", "--budget-s", "2", engine="docker")
    assert done.returncode == 0, done.stderr + done.stdout
    data = project.results()
    assert data["run"]["engine"] == "docker"
    emulated = [record for record in data["records"] if record["status"] == "emulated"]
    assert "HTP v73 (sm8550)" in {record["device"] for record in emulated}
    assert {record["runtime"] for record in data["records"] if record["status"] == "ok"} == RUNTIMES
    assert (project.work / "runs" / "latest" / "report.html").stat().st_size > 10_000
    again = project.run("all", "--model", "squeezenet", "--budget-s", "1", engine="docker")
    assert again.returncode == 0, again.stderr
    done_again = [stage for stage in project.results()["run"]["stages"] if not stage["cached"]]
    ran = {stage["stage"] for stage in done_again if stage["status"] == "ok"}
    assert all(".benchmark" in name for name in ran)


def test_a_host_without_usb_is_said_and_stays_as_it_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    if had := Path("/dev/bus/usb").is_dir():
        monkeypatch.setenv("MOBILE_ACCELERATOR_USB", os.devnull)
    done = run(project, "good", "--set", "text=without")
    assert done.returncode == 0, done.stderr
    assert "naughty runs without /dev/bus/usb, which this host does not have" in done.stderr
    (process,) = project.results()["run"]["processes"]
    assert process["command"].endswith(", without /dev/bus/usb")
    assert Path("/dev/bus/usb").is_dir() == had


@pytest.mark.skipif(bool(virtual_phone.missing()), reason=virtual_phone.missing())
def test_a_tool_without_a_network_reaches_a_phone(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phone").mkdir()
    with virtual_phone.VirtualPhone(tmp_path / "phone") as lab:
        monkeypatch.setenv("ADB_SERVER_SOCKET", lab.server.address)
        done = run(project, "on-phone", "--phone", virtual_phone.SERIAL)
    assert done.returncode == 0, done.stderr
    said = (project.work / "models" / "squeezenet" / "squeezenet.said.txt").read_text()
    assert said.split()[1] == "SM8150"
    assert not (project.work / "adb.socket").exists()


def test_engines_do_not_share_results(project: Project) -> None:
    run(project, "good", "--set", "text=shared")
    other = project.run("run", "naughty.good", "--model", "squeezenet", "--set", "text=shared", engine="venv")
    assert other.returncode == 0, other.stderr
    assert "cached" not in other.stderr
    assert "cached" in run(project, "good", "--set", "text=shared").stderr


@pytest.mark.parametrize(
    ("command", "settings", "exit_code", "said"),
    [
        ("killed", [], 1, "SIGKILL"),
        ("silent", [], 1, "without writing result.json"),
        ("hanging", ["--limit-s", "2"], 1, "time limit of 2 s"),
        ("foreign", [], 2, "has schema 99"),
        ("raising", [], 1, "ZeroDivisionError"),
        ("benchmark", [], 1, "SIGSEGV"),
    ],
)
def test_misbehaviour_is_told_and_leaves_nothing(
    project: Project, docker: Docker, command: str, settings: list[str], exit_code: int, said: str
) -> None:
    done = run(project, command, *settings)
    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not project.parts()
    assert not containers(docker, project)


def test_interrupt_ends_the_container(project: Project, docker: Docker) -> None:
    runner = start(project)
    wait_until(lambda: bool(containers(docker, project)), 30)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=30) == 130
    assert not containers(docker, project)
    assert not project.parts()


def test_a_killed_runner_leaves_no_container_running(project: Project, docker: Docker) -> None:
    runner = start(project)
    wait_until(lambda: bool(list(project.work.glob("store/*.part/request.json"))), 30)
    runner.kill()
    runner.wait()

    def running() -> str:
        return docker("ps", "-q", "--filter", f"label=mobile-accelerator.work={project.work}")

    wait_until(lambda: not running())
    assert run(project, "good", "--set", "text=after").returncode == 0
    assert not containers(docker, project)  # also the ended one that the killed runner could not remove
    assert not project.parts()


def test_a_missing_image_where_none_can_be_had(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILE_ACCELERATOR_VERSION", "9.9.9")
    monkeypatch.setenv("MOBILE_ACCELERATOR_REGISTRY", "localhost:1")
    done = run(project, "good", "--pull")
    assert done.returncode == 7
    assert "could not be pulled" in done.stderr
    assert "images build" in done.stderr


def test_auto_falls_back_to_venv_and_says_why(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILE_ACCELERATOR_VERSION", "9.9.9")
    monkeypatch.setenv("MOBILE_ACCELERATOR_REGISTRY", "localhost:1")
    done = project.run("run", "naughty.good", "--model", "squeezenet", "--pull", engine="auto")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("engine ")]
    assert line.startswith("engine venv: docker cannot be used: ")
    assert "could not be pulled" in line
    assert project.results()["run"]["engine"] == "venv"


def start(project: Project) -> subprocess.Popen[bytes]:
    argv = project.argv("run", "naughty.good", "--model", "squeezenet", "--set", "seconds=60")
    argv += ["--work", str(project.work), "--engine", "docker"]
    return subprocess.Popen(argv, cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
