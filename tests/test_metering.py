"""A meter beside measurements: energy in results.json, and a latency that no meter's failure touches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import meters
from tests.lab import meter_trees
from tests.lab.virtual_usb import VirtualHost
from tests.project import LAB, SMALL, Project
from tools import arrays, metered, windows
from tools.recording import Attached
from tools.stage import Command, DeviceNotFound, InvalidRequest, StageError
from tools.usb import SIMULATED_HOST

LOCK = LAB / "meter" / "requirements.txt"
BUSY_W, IDLE_W = 4.0, 2.0  # of the stand-in
SERIAL = str(os.getpid())  # of the stand-in, whose lock is the host's: tests may run in two places at a time
PLUGGED = "MOBILE_ACCELERATOR_LAB_METERS"


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGGED, SERIAL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.copy(tmp_path_factory.mktemp("metering") / "project")
    made.add_tool("labmeter", LAB / "cpu_meter.py", lock=LOCK)
    made.add_tool("spinning", LAB / "spinning.py", lock=LOCK)
    (made.folder / "small.toml").write_text(SMALL)
    answers = np.eye(5, dtype=np.float32)
    arrays.write(made.folder / "reference.npz", inputs={"input": answers}, outputs=answers)
    return made


def argv(project: Project, *more: str, command: str = "benchmark", meter: str = "cpu-model") -> list[str]:
    given = ("--input", f"reference={project.folder / 'reference.npz'}")
    network = ("--model", "small", "--model-file", str(project.folder / "small.toml"))
    return ["run", f"spinning.{command}", *network, *given, "--meter", meter, *more]


HURRIED = ("--set", "hurried=true")


def only_record(project: Project) -> dict[str, Any]:
    [record] = project.results()["records"]
    return record


@pytest.mark.tool
def test_energy_of_the_main_job(project: Project) -> None:
    """What the stand-in draws is known: so many watts for the time that an inference takes."""
    network = ("--model", "small", "--model-file", str(project.folder / "small.toml"))
    done = project.run(
        "all", *network, "--backend", "onnx", "--budget-s", "1", "--threads", "1", "--meter", "auto"
    )
    assert done.returncode == 0, done.stderr
    record = only_record(project)
    energy = record["energy"]
    assert energy, record["energy_reason"]
    assert energy["simulated"]
    assert not record["simulated"]  # the latency is none of the meter's
    assert energy["idle_w"]["before"] == pytest.approx(IDLE_W, rel=0.05)
    inference_ms = record["metadata"]["window_inference_ms"]
    assert energy["net_mj"] < energy["gross_mj"]
    assert energy["net_mj"] == pytest.approx(BUSY_W * inference_ms, rel=0.1)
    assert (energy["gross_mj"] - energy["net_mj"]) == pytest.approx(IDLE_W * inference_ms, rel=0.1)
    low, high = energy["net_ci95_mj"]
    assert low < energy["net_mj"] < high
    assert energy["windows"] == metered.COUNT
    assert energy["meter"]["name"] == "cpu-model"
    assert {"trace", "windows", "energy"} <= record["files"].keys()
    stages = [stage["stage"] for stage in project.results()["run"]["stages"]]
    assert stages[-3:] == [
        "onnx.benchmark",
        "labmeter.cpu-model of onnx.benchmark",
        "energy.per-inference of onnx.benchmark",
    ]
    report = (project.work / "runs" / "latest" / "report.html").read_text()
    assert "SIMULATED" in report
    assert "ok (energy simulated)" in done.stdout
    assert "by CPU model" in done.stdout


@pytest.mark.tool
def test_a_meter_with_a_clock_of_its_own(project: Project) -> None:
    done = project.run(*argv(project, *HURRIED, "--meter-set", "own_clock=true"))
    assert done.returncode == 0, done.stderr
    record = only_record(project)
    energy = record["energy"]
    assert energy, record["energy_reason"]
    assert energy["aligned_by"] == "signature"  # the only thing that can
    inference_ms = record["metadata"]["window_inference_ms"]
    assert energy["net_mj"] == pytest.approx(BUSY_W * inference_ms, rel=0.1)


@pytest.mark.tool
def test_a_simulated_monsoon_found_on_usb(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its load is its own, so there is no energy; but tool, lock, clock and trace are real."""
    shutil.copytree(LAB, project.folder / "tests" / "lab", dirs_exist_ok=True)
    monitor = {"idVendor": "2ab9", "idProduct": "0001", "serial": "20001", "speed": "480"}
    VirtualHost(tmp_path).plug("1-1", monitor)
    monkeypatch.setenv("MOBILE_ACCELERATOR_SIMULATED_HOST", str(tmp_path))
    monkeypatch.setenv("MOBILE_ACCELERATOR_SIMULATED_MONSOON", "tests.lab.monsoon.backend")
    monkeypatch.setenv(PLUGGED, "")
    done = project.run(*argv(project, *HURRIED, meter="auto"))
    record = only_record(project)
    assert record["status"] == "ok", done.stderr
    assert project.results()["run"]["meter"]["serial"] == "20001"
    assert "is not in the trace" in record["energy_reason"], done.stderr
    said = json.loads((project.work / "runs" / "latest" / record["files"]["energy"]).read_text())
    assert said["simulated"]
    assert said["samples"] > 20_000  # of 5 kHz


@pytest.mark.tool
def test_a_trace_without_the_load_is_refused(project: Project) -> None:
    done = project.run(*argv(project, *HURRIED, "--meter-set", "busy_w=0"))
    record = only_record(project)
    assert record["status"] == "ok", done.stderr
    assert record["latency_ms"]["p50"] >= 4
    assert "is not in the trace" in record["energy_reason"]
    assert record["energy"] is None
    assert record["energy_reason"]
    assert record["energy_hint"]
    assert "no energy of spinning" in done.stdout
    assert "trace" in record["files"]  # to look at


@pytest.mark.tool
def test_meter_lost_in_the_middle(project: Project) -> None:
    done = project.run(*argv(project, *HURRIED, "--meter-set", "lose_after_s=1"))
    record = only_record(project)
    assert done.returncode == 4, done.stderr
    assert record["status"] == "ok"
    assert record["latency_ms"]
    assert record["energy"] is None
    assert "pulled out" in record["energy_reason"]
    assert record["energy_hint"] == "Plug it in."


@pytest.mark.tool
def test_a_meter_that_does_not_start_costs_no_latency(project: Project) -> None:
    done = project.run(*argv(project, *HURRIED, "--meter-set", "lose_after_s=0.000001"))
    record = only_record(project)
    assert record["status"] == "ok", done.stderr
    assert record["latency_ms"]
    assert "windows" not in record["files"]
    assert "pulled out" in record["energy_reason"]


@pytest.mark.tool
def test_wrong_output_in_the_windows_has_no_energy_and_no_latency(project: Project) -> None:
    done = project.run(*argv(project, *HURRIED, "--set", "wrong_in_windows=true"))
    record = only_record(project)
    assert done.returncode == 6, done.stderr
    assert record["status"] == "wrong_output"
    assert record["latency_ms"] is None
    assert record["energy"] is None


@pytest.mark.tool
def test_a_measurement_without_windows_says_so(project: Project) -> None:
    project.run(*argv(project, command="elsewhere"))
    record = only_record(project)
    assert record["status"] == "ok"
    assert "makes no windows" in record["energy_reason"]
    assert record["energy_hint"]


@pytest.mark.tool
def test_auto_without_a_meter_goes_on_and_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGGED, "")
    done = project.run(*argv(project, *HURRIED, meter="auto"))
    assert done.returncode == 0, done.stderr
    record = only_record(project)
    assert record["latency_ms"]
    assert record["energy_reason"] == "no meter: there is no meter here"
    assert record["energy_hint"]
    assert "no meter" in done.stdout


@pytest.mark.tool
def test_a_meter_that_is_not_here_is_told_before_anything_runs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGGED, "")
    done = project.run(*argv(project))
    assert done.returncode == 4, done.stderr
    assert "there is no meter cpu-model here" in done.stderr
    assert "engine" not in done.stderr


@pytest.mark.tool
def test_a_meter_in_use_names_its_holder(project: Project) -> None:
    with meters.locked("cpu-model", SERIAL):
        done = project.run(*argv(project))
    assert done.returncode == 4
    assert f"in use by process {Path('/proc/self').resolve().name}" in done.stderr


@pytest.mark.tool
def test_plan_shows_recording_and_energy(project: Project) -> None:
    network = ("--model", "small", "--model-file", str(project.folder / "small.toml"))
    done = project.run("plan", *network, "--backend", "onnx", "--meter", "cpu-model", "--json")
    actions = [(stage["stage"], stage["action"]) for stage in json.loads(done.stdout)["stages"]]
    assert ("labmeter.cpu-model of onnx.benchmark", "record") in actions
    assert actions[-1][0] == "energy.per-inference of onnx.benchmark"


@pytest.mark.tool
def test_interrupt_stops_the_meter(project: Project) -> None:
    command = project.argv(*argv(project), "--work", str(project.work), "--engine", "venv")
    with subprocess.Popen(
        command, cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as runner:
        wait_until(lambda: bool(list(project.work.glob("runs/*.part/stages/*/recording.json"))))
        time.sleep(1)
        runner.send_signal(signal.SIGINT)
        assert runner.wait(timeout=30) == 130
    assert not processes(project.work)
    [trace] = project.work.glob("runs/latest/stages/*cpu-model*/trace.parquet")
    assert trace.read_bytes()[-4:] == b"PAR1"  # told to stop, not killed
    reasons = {stage["reason"] for stage in project.results()["run"]["stages"]}
    assert reasons == {"interrupted by the user"}
    with meters.locked("cpu-model", SERIAL):
        pass


def processes(work: Path) -> list[str]:
    """Command lines of what runs in the work folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(work):
                found.append((process / "cmdline").read_text())
        except OSError:  # it ended meanwhile
            continue
    return found


def wait_until(condition: Any, limit_s: float = 60.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


def test_the_same_meter_is_not_held_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "LOCKS", (tmp_path / "nowhere", tmp_path))
    with meters.locked("test-meter", "a/b"):
        with pytest.raises(DeviceNotFound, match="in use by process"), meters.locked("test-meter", "a/b"):
            pass
        with meters.locked("test-meter", "c"):
            pass
    with meters.locked("test-meter", "a/b"):
        pass


RAPL, NVML = "rapl", "nvml"


@pytest.mark.parametrize(
    ("here", "name", "serial", "error", "said"),
    [
        ({}, "auto", "", DeviceNotFound, "there is no meter here"),
        ({}, NVML, "G-9", DeviceNotFound, "no meter nvml with the serial number G-9 here"),
        ({NVML: ["G-1"]}, NVML, "G-9", DeviceNotFound, "no meter nvml with the serial number G-9 here"),
        (
            {NVML: ["G-1", "G-2"]},
            NVML,
            "",
            InvalidRequest,
            "more than one meter nvml here: nvml G-1, nvml G-2",
        ),
        ({RAPL: [""], NVML: ["G-1"]}, "auto", "", InvalidRequest, "more than one meter here: rapl, nvml G-1"),
        ({RAPL: ["!"]}, "auto", "", DeviceNotFound, "cannot be used: locked"),
        ({}, "nvlm", "", InvalidRequest, "there is no meter 'nvlm'"),
        ({RAPL: [""], NVML: ["G-1"]}, "auto", "G-1", None, NVML),
        ({RAPL: ["!"], NVML: ["G-1"]}, "auto", "", None, NVML),
        ({}, "ptdaemon", "", None, "ptdaemon"),  # in the network: it cannot be looked for
    ],
)
def test_which_meter(
    monkeypatch: pytest.MonkeyPatch,
    here: dict[str, list[str]],
    name: str,
    serial: str,
    error: type[StageError] | None,
    said: str,
) -> None:
    def present(command: Command) -> list[Attached] | None:
        if command.meter == "ptdaemon":
            return None
        found = here.get(command.meter, [])
        return [Attached("it", "" if one == "!" else one, "locked" if one == "!" else "") for one in found]

    monkeypatch.setattr(meters, "present", present)
    if error is None:
        command, params = meters.choose(name, serial)
        assert command.meter == said
        assert params == {"meter_serial": (here.get(said) or [""])[-1]}
        return
    with pytest.raises(error, match=said):
        meters.choose(name, serial)


def test_a_jetson_with_two_ways_to_its_rails_is_one_meter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIMULATED_HOST, str(tmp_path))
    meter_trees.jetson(tmp_path, "Nano")
    meter_trees.tegrastats(tmp_path, ["POM_5V_IN 933/933"])
    command, params = meters.choose("auto")
    assert (command.full_name, params) == ("meters.jetson", {"meter_serial": ""})
    assert [meters.choose(name)[0].meter for name in ("ina3221", "tegrastats")] == ["ina3221", "tegrastats"]


@pytest.mark.parametrize("requests", [1, 3])
def test_windows_hold_all_inferences_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seconds in {"CHIP_S": 0.02, "REST_S": 0.05, "WINDOW_S": 0.05, "EDGE_S": 0.01}.items():
        monkeypatch.setattr(metered, name, seconds)
    metered.ASKED.write_text("{}")
    monkeypatch.setattr(metered, "emit", lambda event: said.append(event) or sampling(event))
    said: list[dict[str, str]] = []

    def sampling(event: dict[str, str]) -> None:
        if event == {"meter": "start"}:
            metered.SAMPLING.write_text(json.dumps({"resolution_s": 0.0002}))
        else:
            threading.Timer(0.2, metered.STOPPED.touch).start()

    ran: list[float] = []
    waiting: list[int] = []

    def infer() -> None:
        time.sleep(0.002)
        ran.append(time.monotonic())

    def wait() -> int:
        infer()
        return waiting.pop(0)

    load = metered.one_by_one(infer) if requests == 1 else metered.in_flight(waiting.append, wait, requests)
    found = metered.make(load, 0.002, simulated=True)
    assert [event["meter"] for event in said] == ["start", "stop"]
    assert metered.STOPPED.exists()  # until then nothing runs that would be in the trace
    made = windows.read(metered.WINDOWS)
    assert made.simulated
    assert len(made.windows) == metered.COUNT
    assert not waiting
    for window in made.windows:
        assert window.inferences == sum(window.start_s < at <= window.end_s for at in ran)
    spans = [(window.start_s, window.end_s) for window in made.windows]
    spans += [span for signature in made.signatures for span in signature]
    assert all(any(start <= at <= end for start, end in spans) for at in ran)  # the rests are rests
    long, short = made.signatures[0]
    assert (long[1] - long[0]) / (short[1] - short[0]) == pytest.approx(3, rel=0.4)
    assert found["window_inference_ms"] >= 2
    assert metered.make(load, 0.002, simulated=False) == {}  # once in a stage


def test_without_a_meter_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert metered.make(lambda _: 1 / 0, 1.0, simulated=False) == {}


@pytest.mark.parametrize(
    ("inference_s", "resolution_s", "window_s", "most_s"),
    [(0.001, 0.0002, 2.0, 30), (1.5, 0.0002, 7.5, 110), (0.01, 0.1, 10.0, 80), (0.01, 1.0, 60.0, 440)],
)
def test_slow_networks_and_slow_meters_take_longer(
    inference_s: float, resolution_s: float, window_s: float, most_s: float
) -> None:
    schedule = metered.Schedule.of(inference_s, resolution_s)
    assert schedule.window_s == window_s
    assert schedule.chip_s >= 2 * max(inference_s, resolution_s)
    assert schedule.total_s < most_s
