"""Energy of a board's row: its rails recorded there beside trtexec; a meter's failure costs no latency.

The virtual board's rails follow what the stand-in for trtexec says that it does, so the energy is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT, meters
from tests.lab import virtual_board
from tests.lab.tensorrt_lab import API, COMPILER, build_library, inputs_of_small_network, write_small_network
from tests.lab.virtual_board import VirtualBoard, meters_image, tensorrt_image
from tests.project import LAB, NOWHERE, SMALL, Project, soon
from tools import energy, metered
from tools.stage import InvalidRequest, Unsupported
from tools.tensorrt import log, measuring
from tools.trace import Channel, Clock, Meta, Trace
from tools.windows import Window, Windows

on_a_board = pytest.mark.skipif(bool(virtual_board.missing()), reason="no sshd")
IDLE_W = 0.2 * 19.152  # VDD_IN of the virtual board at rest
LOADS = {"loading": 1.4, "inferring": 2.0, "computing": 2.0}  # times that
METER = ("--meter", "auto")
HURRIED = f"PYTHONPATH={LAB / 'hurried'}:{ROOT}"
LIMIT_S = 60.0


def add_tensorrt(lab: VirtualBoard, folder: Path, python: Path, *settings: str) -> None:
    """Give the board TensorRT's image; its rails follow what that does by the file `load` in `folder`."""
    image = tensorrt_image(folder, python, f"TRTEXEC_LOAD={folder / 'load'}", HURRIED, *settings)
    lab.add_image("mobile-accelerator/tensorrt-l4t:0.1.0", image)


@pytest.fixture
def lab(
    tmp_path: Path, tool_python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[VirtualBoard]:
    load = tmp_path / "load"
    with VirtualBoard(tmp_path / "board") as lab, lab.rails_that_follow(load, LOADS):
        add_tensorrt(lab, tmp_path, tool_python("tensorrt"))
        lab.add_image(
            "mobile-accelerator/meters:0.1.0", meters_image(lab.root, tool_python("meters"), HURRIED)
        )
        monkeypatch.setenv("PATH", lab.variables["PATH"])
        yield lab


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "small.toml").write_text(SMALL)
    return Project(ROOT, tmp_path / "work", NOWHERE)


@pytest.fixture
def argv(tmp_path: Path, lab: VirtualBoard, tool_python: Callable[[str], Path]) -> list[str]:
    """A measurement on the board, of a network whose files are given, so that no TensorFlow is needed."""
    write_small_network(tmp_path, tool_python("tensorrt"), 3)
    given = inputs_of_small_network(tmp_path)
    network = ["--model", "small", "--model-file", str(tmp_path / "small.toml")]
    return ["run", "tensorrt.benchmark", *network, *given, "--set", "budget_s=1", "--device", lab.destination]


def only_record(project: Project) -> dict[str, Any]:
    [record] = project.results()["records"]
    return record


def run(project: Project, argv: list[str]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run with the meter; return how it ended, and the record."""
    done = project.run(*argv, *METER)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, only_record(project)


def the_truth_is_inside(record: dict[str, Any], factor: float) -> None:
    """Assert that a record's net energy is that of a load of `factor` times the idle power."""
    true_mj = (factor - 1) * IDLE_W * record["metadata"]["window_inference_ms"]
    low, high = record["energy"]["net_ci95_mj"]
    assert low <= true_mj <= high
    assert high - low < 0.5 * true_mj


def nothing_left(lab: VirtualBoard) -> bool:
    return soon(lambda: not lab.containers() and not (lab.cache / "work").exists(), LIMIT_S)


def start(project: Project, argv: list[str]) -> subprocess.Popen[str]:
    """Start a run."""
    return subprocess.Popen(
        project.argv(*argv, *METER, "--work", str(project.work), "--engine", "venv"),
        cwd=project.folder,
        env={**os.environ, **project.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_windows(lab: VirtualBoard) -> list[Path]:
    """The stage folders on the board in which windows are being made."""
    return list((lab.cache / "work").glob(f"runs/*/stages/*/{metered.SAMPLING}"))


@pytest.mark.tool
@on_a_board
def test_its_row_has_an_energy(project: Project, lab: VirtualBoard, argv: list[str]) -> None:
    _, record = run(project, argv)
    found = record["energy"]
    assert found, record["energy_reason"]
    assert record["latency_ms"]
    assert (found["simulated"], found["meter"]["name"]) == (True, "ina3221")
    assert (found["aligned_by"], found["windows"]) == ("clock", metered.COUNT)
    assert found["idle_w"]["before"] == pytest.approx(IDLE_W, rel=0.01)  # not that of starting trtexec
    assert found["idle_w"]["after"] == pytest.approx(IDLE_W, rel=0.01)
    the_truth_is_inside(record, LOADS["inferring"])
    assert found["channels_w"]["VDD_IN"] == pytest.approx(2 * IDLE_W, rel=0.02)
    assert {"VDD_SYS_GPU", "VDD_SYS_CPU", "VDD_SYS_SOC"} <= found["channels_w"].keys()
    assert {"trace", "windows", "energy"} <= record["files"].keys()
    assert "trtexec" in record["metadata"]["windows_of"]
    assert project.results()["run"]["meter"]["name"] == "jetson"
    assert nothing_left(lab)


@pytest.mark.tool
@on_a_board
@pytest.mark.skipif(not shutil.which(COMPILER), reason="the stand-in for libcuda.so.1 takes a C compiler")
def test_a_row_of_the_python_module_has_an_energy(
    project: Project, lab: VirtualBoard, argv: list[str], tmp_path: Path, tool_python: Callable[[str], Path]
) -> None:
    build_library(tmp_path, "libcuda.c", "libcuda.so.1")
    here = [f"LD_LIBRARY_PATH={tmp_path}", f"MOBILE_ACCELERATOR_TENSORRT_PYTHON={API}"]
    add_tensorrt(lab, tmp_path, tool_python("tensorrt"), *here, "TRTEXEC_VERSION=8201")
    _, record = run(project, argv)
    assert record["metadata"]["timed_by"] == "tensorrt-python"
    found = record["energy"]
    assert found, record["energy_reason"]
    assert found["simulated"]
    assert found["idle_w"]["before"] == pytest.approx(IDLE_W, rel=0.01)
    the_truth_is_inside(record, LOADS["computing"])
    assert nothing_left(lab)


@pytest.mark.tool
@on_a_board
def test_a_board_without_monitors_is_measured_by_tegrastats(
    project: Project, lab: VirtualBoard, argv: list[str]
) -> None:
    lab.hide_monitors()
    done, record = run(project, argv)
    found = record["energy"]
    assert found, record["energy_reason"]
    assert (found["simulated"], found["meter"]["name"], found["channel"]) == (True, "tegrastats", "VDD_IN")
    assert "no INA3221 with named rails" in found["meter"]["note"]
    assert "tegrastats was read instead" in found["meter"]["note"]
    assert found["meter"]["note"] in done.stdout
    the_truth_is_inside(record, LOADS["inferring"])
    assert nothing_left(lab)


@pytest.mark.tool
@on_a_board
def test_a_meter_that_ends_costs_no_latency(project: Project, lab: VirtualBoard, argv: list[str]) -> None:
    runner = start(project, argv)
    assert soon(lambda: in_windows(lab), LIMIT_S), runner.communicate()
    os.killpg(next(iter(recorders(lab))), signal.SIGKILL)
    runner.communicate(timeout=60)
    record = only_record(project)
    assert record["status"] == "ok"
    assert record["latency_ms"]
    assert record["energy"] is None
    assert "SIGKILL" in record["energy_reason"]
    assert nothing_left(lab)


@pytest.mark.tool
@on_a_board
def test_a_connection_lost_in_the_windows(project: Project, lab: VirtualBoard, argv: list[str]) -> None:
    runner = start(project, argv)
    assert soon(lambda: in_windows(lab), LIMIT_S), runner.communicate()
    lab.relay.cut()
    runner.communicate(timeout=60)
    record = only_record(project)
    assert record["status"] == "no_device"
    assert f"the connection to {lab.destination} was lost" in record["reason"]
    assert record["latency_ms"] is None
    assert record["energy"] is None
    assert nothing_left(lab)
    assert not recorders(lab)


def recorders(lab: VirtualBoard) -> list[int]:
    """Process groups of recorders on the board."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_its = str((folder / "cwd").readlink()).startswith(str(lab.cache))
            if is_its and b"tools.meters" in (folder / "cmdline").read_bytes():
                found.append(os.getpgid(int(folder.name)))
    return found


def test_which_meter_a_board_gets() -> None:
    command, params = meters.choose("auto", boards=True)
    assert (command.full_name, params) == ("meters.jetson", {"meter_serial": ""})
    with pytest.raises(Unsupported, match="rapl does not record on a board: newer Docker"):
        meters.choose("rapl", boards=True)
    with pytest.raises(InvalidRequest, match="there is no meter 'ina3222'"):
        meters.choose("ina3222", boards=True)


def test_a_plan_shows_where_the_meter_is(tmp_path: Path) -> None:
    network = ["--model", "squeezenet", "--backend", "tensorrt", "--backend", "onnx"]
    project = Project(ROOT, tmp_path / "work", NOWHERE)
    done = project.run("plan", *network, "--meter", "auto", "--device", "127.0.0.1:9", "--json")
    stages = [stage["stage"] for stage in json.loads(done.stdout)["stages"]]
    assert "meters.jetson of tensorrt.benchmark[fp32,127.0.0.1:9]" in stages
    assert not any("of onnx.benchmark" in stage for stage in stages)  # a board's meter is none of this host


def test_the_times_of_trtexec_on_the_clock_of_the_host() -> None:
    rows = [{"start_ms": 10.0 * at + 1, "h2d_ms": 1.0, "compute_ms": 8.0, "d2h_ms": 0.5} for at in range(100)]
    lines = [(4.0, "[I] Selected Device: X\n"), (5.0, "[11/01/2023-10:00:00] [I] Starting inference\n")]
    assert log.loop_s(lines) is None
    loop_s = log.loop_s([*lines, (6.0195, "[I] Warmup completed 0 queries over 0 ms\n")])
    assert loop_s == (5.0, 6.0195)
    told = measuring.told(rows, *loop_s)
    assert told.starts_s[0] == pytest.approx(5.01)  # 20 ms are left, half of them before
    assert told.end_s == pytest.approx(6.0095)
    assert told.error_s == pytest.approx(0.02 / 12**0.5)
    windows = told.windows()
    assert sum(window.inferences for window in windows) == 100
    assert [window.start_s for window in windows[1:]] == [window.end_s for window in windows[:-1]]
    assert (windows[0].start_s, windows[-1].end_s) == (told.starts_s[0], told.end_s)


def test_what_starts_and_ends_beside_the_windows_is_no_idle_power() -> None:
    time_s = np.arange(0, 30, 0.01)
    power_w = np.full(len(time_s), 2.0)
    power_w[(time_s > 5) & (time_s < 25)] = 5.0  # a program is there, and infers from 10 to 20 s
    power_w[(time_s > 10) & (time_s < 20)] = 6.0
    channels = {"total": Channel(), "gpu": Channel()}
    meta = Meta("ina3221", channels=channels, clock=Clock("board", 100.0, 0.0))
    trace = Trace(time_s, {"total_w": power_w, "gpu_w": power_w / 2}, meta)
    made = [Window(110.0 + 2 * at, 112.0 + 2 * at, 100) for at in range(5)]
    busy = [(105.0, 110.0), (120.0, 125.0)]
    said = energy.describe(trace, Windows(made, "board", busy=busy, error_s=0.01), 0, "")
    assert said["status"] == "ok", said["reason"]
    assert said["energy_per_inference_mj"]["net"] == pytest.approx(4.0 * 20, rel=0.001)
    assert said["channels_w"] == pytest.approx({"total": 6.0, "gpu": 3.0}, rel=0.001)
    assert said["alignment"]["error_s"] == 0.01
    unsaid = energy.describe(trace, Windows(made, "board"), 0, "")
    assert unsaid["status"] == "refused" or unsaid["energy_per_inference_mj"]["net"] < 40
