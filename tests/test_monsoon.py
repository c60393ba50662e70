"""The tool `monsoon` beside simulated monitors, through pyusb with another backend: tests/lab/monsoon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT, udev
from tests.lab.virtual_usb import VirtualHost
from tools import power_monitors, trace
from tools.stage import DeviceNotFound, InvalidRequest, StageError
from tools.trace import Trace

pytestmark = pytest.mark.tool

FAST = {"speed": 0}  # time as fast as it is read: no sample is late


class Bench:
    """A folder, and the tool beside simulated monitors."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.variables: dict[str, str] = {}

    def start(
        self, *arguments: str, monitors: list[Mapping[str, Any]] | None = None
    ) -> subprocess.Popen[str]:
        lab = {
            "PYTHONPATH": str(ROOT),
            "MOBILE_ACCELERATOR_SIMULATED_MONSOON": "tests.lab.monsoon.backend",
            "MONSOON_LAB": json.dumps([FAST] if monitors is None else monitors),
        }
        return subprocess.Popen(
            [str(self.python), "-m", "tools.monsoon", *arguments],
            cwd=self.folder,
            env={**os.environ, **lab, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, monitors: list[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Return what a command finds out."""
        code, output, errors = self.end(self.start(*arguments, monitors=monitors))
        assert code == 0, errors
        found: dict[str, Any] = json.loads(output)
        return {**found["metadata"], **found["metrics"]}

    def fail(self, *arguments: str, error: type[StageError], **more: Any) -> str:
        """Return the line with which a command fails."""
        code, _, errors = self.end(self.start(*arguments, **more))
        assert code == error.exit_code, errors
        assert "Traceback" not in errors
        return errors.splitlines()[-1]

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def record(self, *arguments: str, monitors: list[Mapping[str, Any]] | None = None) -> Trace:
        self.run("monsoon", "--trace", "a.parquet", *arguments, monitors=monitors)
        return self.trace

    @property
    def trace(self) -> Trace:
        return trace.read(self.folder / "a.parquet")


@pytest.fixture
def bench(tmp_path: Path, tool_python: Callable[[str], Path]) -> Bench:
    return Bench(tmp_path, tool_python("monsoon"))


def mean_ma(recorded: Trace, start_s: float, end_s: float) -> float:
    inside = (recorded.time_s >= start_s) & (recorded.time_s < end_s)
    return float(np.nanmean(recorded.columns["main_a"][inside])) * 1e3


@pytest.mark.parametrize(("model", "samples"), [("hvpm", 3), ("hvpm", 1), ("lvpm", 3)])
def test_a_recording_is_what_the_monitors_output_carried(bench: Bench, model: str, samples: int) -> None:
    monitor = {**FAST, "model": model, "samples": samples}
    recorded = bench.record("--duration-s", "8", "--usb", monitors=[monitor])
    assert mean_ma(recorded, 1, 1.8) == pytest.approx(20, rel=1e-3)
    assert mean_ma(recorded, 1.8, 2) == pytest.approx(900, rel=1e-3)
    np.testing.assert_allclose(recorded.columns["usb_a"], 0.1, rtol=2e-3)
    np.testing.assert_allclose(recorded.columns["main_v"], 4.2, atol=2e-4)
    meta = recorded.meta
    assert (meta.device, meta.serial, meta.rate_hz) == (f"Monsoon {model.upper()}", "20001", 5000)
    assert (meta.dropped, meta.complete, meta.simulated, meta.supply_v) == (0, True, True, 4.2)
    assert recorded.time_s[-1] - recorded.time_s[0] == pytest.approx(8, abs=1e-3)
    assert np.diff(recorded.time_s).max() < 0.001  # no calibration leaves more than two samples out


def test_losses_are_gaps_and_the_clock_counts_them(bench: Bench) -> None:
    monitor = {**FAST, "drops": [[2.0, 70], [3.0, 5]], "skips": [[4.5, 4]], "counts_from_s": 0.5}
    recorded = bench.record("--duration-s", "8", monitors=[monitor])
    assert recorded.meta.dropped == 70 + 5 + 4 * 3
    gaps = np.flatnonzero(np.isnan(recorded.columns["main_a"]))
    assert recorded.time_s[gaps] == pytest.approx([2.0, 3.0, 4.5], abs=0.001)
    assert recorded.time_s[gaps[0] + 1] - recorded.time_s[gaps[0] - 1] == pytest.approx(0.0142)
    assert mean_ma(recorded, 5.8, 6) == pytest.approx(900, rel=1e-3)  # in its place by the clock


def test_in_real_time_the_hosts_clock_is_found(bench: Bench) -> None:
    before_s = time.monotonic()
    recorded = bench.record("--duration-s", "2", monitors=[{}])
    clock = recorded.meta.clock
    assert clock is not None
    assert before_s < clock.monotonic_s < time.monotonic() - 2
    assert clock.error_s < 0.5  # of milliseconds on an idle machine


def test_a_threshold_begins_and_ends_a_recording(bench: Bench) -> None:
    recorded = bench.record("--start-ma", "500", "--stop-ma", "100")
    first = recorded.time_s[0]
    assert first % 1 == pytest.approx(0.8)
    assert recorded.time_s[-1] == pytest.approx(first + 0.3, abs=0.001)
    assert len(bench.record("--samples", "1234").time_s) == 1234


def test_an_interrupt_ends_a_recording_and_keeps_it(bench: Bench) -> None:
    process = bench.start("monsoon", "--trace", "a.parquet", monitors=[{}])
    while not (bench.folder / "recording.json").exists():
        time.sleep(0.05)
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, _, errors = bench.end(process)
    assert code == 0, errors
    assert bench.trace.meta.complete


def test_a_monitor_that_is_pulled_out_leaves_what_was_sampled(bench: Bench) -> None:
    monitor = {**FAST, "unplugged_s": 3.0}
    arguments = ("monsoon", "--trace", "a.parquet")
    line = bench.fail(*arguments, error=DeviceNotFound, monitors=[monitor])
    assert "the meter is gone: No such device" in line
    assert "samples are kept in a.parquet" in line
    assert bench.trace.time_s[-1] == pytest.approx(3.0, abs=0.01)
    assert not bench.trace.meta.complete


def test_an_output_that_is_cut_off_ends_the_recording(bench: Bench) -> None:
    monitor = {**FAST, "over_current_s": 3.0}
    line = bench.fail("monsoon", "--trace", "a.parquet", error=StageError, monitors=[monitor])
    assert "cut its output off at 3.0" in line
    assert not bench.trace.meta.complete
    assert bench.trace.time_s[-1] > 2.9


@pytest.mark.parametrize(
    ("monitor", "complaint"),
    [({"calibrates": False}, "did not calibrate itself"), ({"silent_s": 0.5}, "sent nothing for 5 s")],
)
def test_a_monitor_that_gives_nothing_to_record(
    bench: Bench, monitor: dict[str, Any], complaint: str
) -> None:
    line = bench.fail("monsoon", "--trace", "a.parquet", error=StageError, monitors=[{**FAST, **monitor}])
    assert complaint in line


@pytest.mark.parametrize(
    ("arguments", "monitors", "error", "complaint"),
    [
        ((), [], DeviceNotFound, "no Monsoon power monitor on USB"),
        ((), [FAST, {"serial": "30002"}], InvalidRequest, "20001, 30002. Say which: --meter-serial 20001"),
        (("--meter-serial", "7"), [FAST], DeviceNotFound, "no power monitor 7; there is 20001"),
        ((), [{"may_open": False}], DeviceNotFound, 'ATTR{idVendor}=="2ab9"'),
        ((), [{"free": False}], DeviceNotFound, "is in use"),
        (("--volts", "13.6"), [FAST], InvalidRequest, "the HVPM gives 0.8 to 13.5 V"),
        (("--volts", "5"), [{"model": "lvpm"}], InvalidRequest, "the LVPM gives 2.01 to 4.55 V"),
        (("--volts", "5"), [FAST], InvalidRequest, "--i-know"),
        (("--volts", "4.2", "--run-limit-a", "16"), [FAST], InvalidRequest, "15.625 A"),
        (("--volts", "4.2", "--usb-passthrough", "maybe"), [FAST], InvalidRequest, "off, on, auto"),
        (("--volts", "4.2"), [{"bad_dac": True}], StageError, "it stays as it is"),
    ],
)
def test_what_is_refused_before_anything_is_switched(
    bench: Bench,
    arguments: tuple[str, ...],
    monitors: list[dict[str, Any]],
    error: type[StageError],
    complaint: str,
) -> None:
    volts = () if "--volts" in arguments else ("--volts", "4.2")
    assert complaint in bench.fail("power-on", *volts, *arguments, error=error, monitors=monitors)


def test_power_on_and_off(bench: Bench) -> None:
    limits = ("--run-limit-a", "4.6", "--power-up-limit-a", "8", "--usb-passthrough", "on")
    done = bench.run("power-on", "--volts", "4.35", *limits)
    assert (done["output_v"], done["usb_passthrough"]) == (4.35, "on")
    assert (done["run_limit_a"], done["power_up_limit_a"]) == pytest.approx((4.6, 8.0), abs=1e-3)
    assert bench.run("power-on", "--volts", "5", "--i-know")["output_v"] == 5
    assert bench.run("power-off")["output_v"] == 0


def test_a_monitor_that_still_samples_for_a_killed_program_is_stopped_first(bench: Bench) -> None:
    assert bench.run("state", monitors=[{**FAST, "left_on": True}])["device"] == "Monsoon HVPM"


def test_two_monitors_have_states_of_their_own(bench: Bench) -> None:
    """PyMonsoon keeps the calibration of all monitors in one place."""
    two = [{**FAST, "output_v": 3.8}, {"serial": "30002", "model": "lvpm"}]
    first = bench.run("state", "--meter-serial", "20001", monitors=two)
    other = bench.run("state", "--meter-serial", "30002", monitors=two)
    assert (first["device"], first["output_v"]) == ("Monsoon HVPM", 3.8)
    assert (other["device"], other["output_v"]) == ("Monsoon LVPM", 4.2)
    assert other["simulated"]


def test_which_monitors_are_here_by_the_kernels_files(tmp_path: Path) -> None:
    host = VirtualHost(tmp_path)
    assert power_monitors.present(tmp_path) == []
    plain = {"idVendor": "2ab9", "idProduct": "0001", "serial": "12345"}
    host.plug("1-1", plain)
    host.plug("1-2", {"idVendor": "04d8", "idProduct": "fe23"})
    (tmp_path / "sys/bus/usb/devices/1-2:1.0/tty/ttyACM0").mkdir(parents=True)
    first, other = power_monitors.present(tmp_path)
    assert (first.name, first.serial, first.problem) == ("Monsoon (simulated)", "12345", "")
    assert (other.name, other.serial) == ("Monsoon (serial port) (simulated)", "ttyACM0")
    assert "ttyACM0 is not there" in other.problem


def test_the_rules_for_udev_are_those_that_the_error_names() -> None:
    for rule in power_monitors.RULES:
        assert rule in udev.rules().splitlines()


def test_people_without_a_monitor_record_a_simulated_one_by_the_runner(tmp_path: Path) -> None:
    lab = [sys.executable, "-m", "tests.lab.monsoon", "--setup", '{"speed": 0, "serial": "30002"}']
    record = ["power", "record", "--meter", "monsoon", "--engine", "venv", "--samples", "5000"]
    where = ["--work", str(tmp_path / "work"), "-o", str(tmp_path / "trace.parquet")]
    done = subprocess.run(
        [*lab, sys.executable, str(ROOT / "runner.py"), *record, *where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    recorded = trace.read(tmp_path / "trace.parquet")
    assert (len(recorded.time_s), recorded.meta.serial, recorded.meta.simulated) == (5000, "30002", True)
