"""Runs with --device: a tool in a container on a board, which is a real sshd with a stand-in for Docker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import virtual_board
from tests.lab.virtual_board import VirtualBoard
from tests.project import LAB, Project

MISSING = virtual_board.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

IMAGE = "mobile-accelerator/boardtool:0.1.0"
SIZE = 3_000_000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.copy(tmp_path_factory.mktemp("project") / "project")
    project.add_tool("boardtool", LAB / "board_tool.py")
    return project


@contextlib.contextmanager
def board(folder: Path, project: Project) -> Iterator[VirtualBoard]:
    with VirtualBoard(folder) as lab:
        command = ["env", f"PYTHONPATH={project.folder}", sys.executable, "-m", "tools.boardtool"]
        lab.add_image(IMAGE, command)
        yield lab


@pytest.fixture
def lab(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualBoard]:
    with board(tmp_path / "board", project) as lab:
        monkeypatch.setenv("PATH", lab.variables["PATH"])
        yield lab


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network of new content, so that no test finds another's in the store."""
    path = tmp_path / "net.onnx"
    path.write_bytes(os.urandom(SIZE))
    return path


def arguments(stage: str, network: Path, *labs: VirtualBoard) -> list[str]:
    argv = ["run", f"boardtool.{stage}", "--model", "squeezenet", "--input", f"onnx={network}"]
    return argv + [word for lab in labs for word in ("--device", lab.destination)]


def error(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed run says, which is no traceback."""
    assert done.returncode, done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_stage_runs_on_a_board_and_the_second_run_carries_nothing(
    project: Project, lab: VirtualBoard, network: Path
) -> None:
    done = project.run(*arguments("benchmark", network, lab), "--power-mode", "1")
    assert done.returncode == 0, done.stderr
    (record,) = project.results()["records"]
    assert (record["status"], record["engine"], record["simulated"]) == ("ok", "docker over ssh", True)
    assert record["device"] == f"GPU, NVIDIA Jetson TX2 Developer Kit ({lab.destination})"
    assert record["metadata"]["board"]["compute_capability"] == "6.2"
    assert record["metadata"]["board_before"]["power_mode"]["id"] == 1
    assert record["metadata"]["board_after"]["temperatures_degc"]["GPU-therm"] == 39.5
    samples = project.work / "runs" / "latest" / record["samples"]
    assert samples.resolve().read_bytes() == network.read_bytes()[:8]
    engine = project.work / "models" / "squeezenet" / "squeezenet.engine"
    assert engine.read_bytes() == network.read_bytes()
    assert lab.read("nvpmodel") == "0\n"
    assert not (lab.cache / "work").exists()

    assert lab.relay.passed_bytes < 2.1 * SIZE  # the network there, the engine back, and not there again
    before = lab.relay.passed_bytes
    again = project.run(*arguments("benchmark", network, lab))
    assert "boardtool.build" in again.stderr
    assert "cached" in again.stderr
    assert lab.relay.passed_bytes - before < 100_000


def test_an_engine_is_built_anew_for_another_gpu(project: Project, lab: VirtualBoard, network: Path) -> None:
    for expected, chip in (("", "tegra186"), ("", "tegra234"), ("cached", "tegra186")):
        lab.write("proc/device-tree/compatible", f"nvidia,{chip}\0")
        done = project.run(*arguments("build", network, lab))
        assert done.returncode == 0, done.stderr
        assert ("cached" in done.stderr) == bool(expected)


def test_each_board_has_its_record_and_one_that_is_not_there_says_why(
    project: Project, lab: VirtualBoard, network: Path, tmp_path: Path
) -> None:
    with board(tmp_path / "second", project) as second:
        known = lab.folder / "known_hosts"
        known.write_text(known.read_text() + (second.folder / "known_hosts").read_text())
        second.write("proc/device-tree/model", "NVIDIA Jetson Nano\0")
        # one key opens both
        (second.folder / "identity.pub").write_text((lab.folder / "identity.pub").read_text())
        argv = [*arguments("benchmark", network, lab, second), "--device", "127.0.0.1:9"]
        done = project.run(*argv)
    assert done.returncode == 4
    records = {record["device"]: record for record in project.results()["records"]}
    assert {name: record["status"] for name, record in records.items()} == {
        f"GPU, NVIDIA Jetson TX2 Developer Kit ({lab.destination})": "ok",
        f"GPU, NVIDIA Jetson Nano ({second.destination})": "ok",
        "127.0.0.1:9": "no_device",
    }
    assert "Connection refused" in records["127.0.0.1:9"]["reason"]


def start(project: Project, network: Path, lab: VirtualBoard) -> subprocess.Popen[str]:
    """Start a long build, and return when it is under way."""
    argv = [*arguments("build", network, lab), "--set", "seconds=60"]
    runner = subprocess.Popen(
        project.argv(*argv, "--work", str(project.work), "--engine", "venv"),
        cwd=project.folder,
        env={**os.environ, **project.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 30
    while not building(lab):
        assert time.monotonic() < end
        assert runner.poll() is None, runner.communicate()
        time.sleep(0.05)
    return runner


def building(lab: VirtualBoard) -> list[str]:
    """The folders in which something is being built on the board."""
    return [path.name for path in (lab.cache / "work").glob("store/*.part/building")]


def processes(lab: VirtualBoard) -> list[str]:
    """What works in the board's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if str(folder.readlink()).startswith(str(lab.cache / "work")):
                found.append(folder.parent.name)
    return found


def nothing_left(lab: VirtualBoard) -> bool:
    end = time.monotonic() + 20
    while processes(lab) or lab.containers() or (lab.cache / "work").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_connection_lost_in_a_build_leaves_nothing_and_is_gone_on_from(
    project: Project, lab: VirtualBoard, network: Path
) -> None:
    runner = start(project, network, lab)
    lab.relay.cut()
    out, errors = runner.communicate(timeout=60)
    assert runner.returncode == 4
    assert f"the connection to {lab.destination} was lost" in out + errors
    assert "not sent again" in out + errors
    assert nothing_left(lab)
    assert project.parts() == []
    before = lab.relay.carried_bytes
    done = project.run(*arguments("build", network, lab))
    assert done.returncode == 0, done.stderr
    assert lab.relay.carried_bytes - before < 100_000


def test_a_killed_runner_leaves_nothing_on_the_board(
    project: Project, lab: VirtualBoard, network: Path
) -> None:
    runner = start(project, network, lab)
    assert processes(lab)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.communicate()
    assert nothing_left(lab)


def test_an_interrupt_leaves_nothing_on_the_board(project: Project, lab: VirtualBoard, network: Path) -> None:
    runner = start(project, network, lab)
    os.kill(runner.pid, signal.SIGINT)
    out, errors = runner.communicate(timeout=60)
    assert runner.returncode == 130, (out, errors)
    assert nothing_left(lab)
    assert project.parts() == []


def test_a_build_that_fails_there_says_what_the_tool_said(
    project: Project, lab: VirtualBoard, network: Path
) -> None:
    command = ["env", f"PYTHONPATH={project.folder}", "BOARDTOOL=unsupported", sys.executable, "-m"]
    lab.add_image(IMAGE, [*command, "tools.boardtool"])
    done = project.run(*arguments("benchmark", network, lab))
    assert "the layer conv has an operator that is not supported" in error(done)
    (record,) = project.results()["records"]
    assert record["device"] == lab.destination
    assert record["latency_ms"] is None


@pytest.mark.parametrize(
    ("path", "text", "said", "hint"),
    [
        ("etc/docker/down", "", "no Docker engine answers", "systemctl start docker"),
        ("etc/docker/broken", "", "failed to create task", "docs/jetson.md"),
        ("images/mobile-accelerator_boardtool_0.1.0", "", "", ""),
    ],
)
def test_a_docker_that_cannot(
    project: Project, lab: VirtualBoard, network: Path, path: str, text: str, said: str, hint: str
) -> None:
    lab.write(path, text)
    if not said:  # no image, and no way to make one
        (lab.root / path).unlink()
        said, hint = "could not be built", "by hand"
    done = project.run(*arguments("build", network, lab))
    assert done.returncode == 7
    assert said in error(done)
    assert hint in error(done)


def test_a_board_that_cannot_have_the_meter_costs_no_latency(
    project: Project, lab: VirtualBoard, network: Path
) -> None:
    project.run(*arguments("benchmark", network, lab), "--meter", "auto")
    (record,) = project.results()["records"]
    assert (record["status"], record["energy"]) == ("ok", None)
    assert record["latency_ms"]
    assert "the image mobile-accelerator/meters:0.1.0 could not be built" in record["energy_reason"]
    refused = project.run(*arguments("benchmark", network, lab), "--meter", "rapl")
    assert "rapl does not record on a board" in error(refused)
    assert refused.returncode == 3


def test_an_image_for_another_l4t_is_not_used(project: Project, lab: VirtualBoard, network: Path) -> None:
    lab.add_image(IMAGE, ["false"], l4t="35.4.1")
    done = project.run(*arguments("build", network, lab))
    assert done.returncode == 7
    assert f"{IMAGE} on {lab.destination} is for L4T 35.4.1, and the board has 32.7.1" in error(done)
    assert "docker image rm" in error(done)


def test_bad_options_are_one_line(project: Project, network: Path) -> None:
    said = error(project.run(*arguments("build", network), "--device", "a b"))
    assert said.startswith("error: 'a b' is not where a board can be. The form is --device USER@HOST[:PORT]")
    assert said.count("\n") == 1
    said = error(project.run(*arguments("build", network), "--power-mode", "1"))
    assert "--power-mode is for boards, and none is named" in said
    said = error(project.run("plan", "--model", "squeezenet", "--backend", "onnx", "--device", "board"))
    assert "nothing of this runs on a board" in said
    assert "boardtool" in said


def test_a_plan_looks_at_the_board_only(project: Project, lab: VirtualBoard, network: Path) -> None:
    argv = ["plan", "--model", "squeezenet", "--backend", "boardtool", "--device", lab.destination]
    done = project.run(*argv)
    assert done.returncode == 0, done.stderr
    assert f"boardtool.build[{lab.destination}]" in done.stdout
    assert "tf1.freeze " in done.stdout  # made here
    assert not lab.cache.exists()
