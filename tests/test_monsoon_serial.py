"""The white monitor over its serial port: frames byte by byte, and the tool on a pseudo-terminal."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host import ROOT
from tests.lab.monsoon.serial_lvpm import SerialMonitor
from tools import trace
from tools.monsoon import serial_line
from tools.monsoon.serial_line import Frames, frame, output_setting, setting
from tools.stage import DeviceNotFound, InvalidRequest
from tools.trace_files import status


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (serial_line.READ_STATUS, "0401000005"),
        (setting(serial_line.OUTPUT, output_setting(4.2)), "040101dce2"),
        (setting(serial_line.OUTPUT, output_setting(0)), "0401010006"),
        (setting(serial_line.PASSTHROUGH, 2), "0401100217"),
        (serial_line.BEFORE_START, "04011b0121"),
        (serial_line.START, "0802ffffffff03e8f1"),
        (serial_line.STOP, "03030006"),
    ],
)
def test_frames(payload: bytes, expected: str) -> None:
    assert frame(payload).hex() == expected


def test_every_voltage_is_set_to_itself() -> None:
    """What truncates is one step low for 76 of them, and off for 2.01 V."""
    volts = [round(2 + step / 100, 2) for step in range(1, 256)]
    assert [output_setting(each) for each in volts] == list(range(1, 256))
    assert sum(int((each - 2.0) * 100) != output_setting(each) for each in volts) == 76


def test_limits_of_current() -> None:
    assert [status.raw_limit(amperes) for amperes in (0, 4, 8)] == [1023, 511, 0]
    assert status.limit_a(status.raw_limit(4.6)) == pytest.approx(4.6, abs=0.005)


def test_frames_are_found_in_pieces_and_among_rubbish() -> None:
    good = frame(bytes([0x25, 0, 0, 0]) + bytes(range(8)) + b"\x84")
    data = b"\x00\xff\x07" + good + good[:-1] + b"\x00" + good
    whole = Frames()
    found = list(whole.feed(data))
    assert found.count(good[1:-1]) == 2
    assert whole.skipped == 3 + len(good)
    pieces = Frames()
    assert [each for at in range(len(data)) for each in pieces.feed(data[at : at + 1])] == found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_crash_the_search_for_frames(pieces: list[bytes]) -> None:
    frames = Frames()
    for data in pieces:
        for payload in frames.feed(data):
            assert len(payload) < 256
    assert len(frames._rest) < 256


@pytest.fixture
def run(
    tmp_path: Path, tool_python: Callable[[str], Path]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {"PYTHONPATH": str(ROOT), "MOBILE_ACCELERATOR_SIMULATED_HOST": str(tmp_path / "host")}
        return subprocess.run(
            [str(tool_python("monsoon")), "-m", "tools.monsoon", *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return call


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found["metadata"], **found["metrics"]}


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.tool
def test_settings_over_the_serial_line(run: Run, tmp_path: Path) -> None:
    with SerialMonitor(tmp_path / "host") as monitor:
        state = said(run("state"))
        assert (state["serial"], state["firmware"], state["output_v"]) == ("4742", "20", 4.2)
        assert state["shunt_offsets"] == [69, 50, 65, 48]
        assert state["simulated"]
        done = said(run("power-on", "--volts", "4.35", "--run-limit-a", "4", "--usb-passthrough", "off"))
        assert (done["output_v"], done["usb_passthrough"]) == (4.35, "off")
        assert done["run_limit_a"] == pytest.approx(4, abs=0.01)
        refused = run("power-on", "--volts", "4.6")
        assert refused.returncode == InvalidRequest.exit_code
        assert "2.01 to 4.55 V" in refused.stderr
        assert said(run("power-off"))["output_v"] == 0
        assert monitor.registers[0x01] == 0


@pytest.mark.tool
def test_a_recording_over_the_serial_line(run: Run, tmp_path: Path) -> None:
    noise = b"\x07\x20\x00"
    with SerialMonitor(tmp_path / "host", lost=(1.5, 3), noise=noise):
        meta = said(run("monsoon", "--trace", "a.parquet", "--duration-s", "3"))
    recorded = trace.read(tmp_path / "a.parquet")
    assert (meta["dropped"], meta["serial"], meta["simulated"]) == (15, "4742", True)
    assert "not verified on a device" in recorded.meta.note
    assert "3 bytes" in recorded.meta.note
    numbers = np.rint(recorded.time_s * 5000).astype(int)
    expected = np.where(numbers % 5000 < 4000, 20, 900)
    there = np.isfinite(recorded.columns["main_a"])
    np.testing.assert_allclose(recorded.columns["main_a"][there] * 1e3, expected[there], rtol=2e-3)
    np.testing.assert_allclose(recorded.columns["main_v"][there], 4.2, atol=5e-4)
    assert recorded.time_s[~there] == pytest.approx([1.5], abs=0.002)


@pytest.mark.tool
def test_one_of_each_kind_is_one_too_many(run: Run, tmp_path: Path) -> None:
    with SerialMonitor(tmp_path / "host") as monitor:
        monitor.host.plug("1-1", {"idVendor": "2ab9", "idProduct": "0001", "serial": "12345"})
        refused = run("state")
        assert refused.returncode == InvalidRequest.exit_code
        assert "2 power monitors: 12345, ttyACM0" in refused.stderr
        assert said(run("state", "--meter-serial", "ttyACM0"))["serial"] == "4742"


@pytest.mark.tool
def test_a_serial_port_that_goes_leaves_what_was_sampled(run: Run, tmp_path: Path) -> None:
    with SerialMonitor(tmp_path / "host", unplugged_s=2.0):
        done = run("monsoon", "--trace", "a.parquet")
    assert done.returncode == DeviceNotFound.exit_code, done.stderr
    assert "the meter is gone" in done.stderr
    assert trace.read(tmp_path / "a.parquet").time_s[-1] > 1.5
