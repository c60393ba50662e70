"""OpenVINO's own boot code against a simulated stick, up to where the stick's firmware would take over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from host import ROOT
from tests.usb.conftest import BesideStick, Run

pytestmark = pytest.mark.usb

PATIENCE_S = 20  # longer than the plug-in's own limit for a stick that boots, 15 s
NO_ANSWER = f"Timeout (0:00:{PATIENCE_S})!"
INSERTED = re.compile(
    rb"\x98\x00(?:\x00\x20\x80|\x0c\x20\x70).", re.DOTALL
)  # mvnc/src/mvnc_data.c: patchFirmware

Load = Callable[..., Run]


@pytest.fixture
def load(beside_stick: BesideStick, tool_python: Callable[[str], Path], tmp_path: Path) -> Load:
    """Load a network onto a stick with that fault."""
    script = ROOT / "tests" / "lab" / "usb" / "load_network.py"
    command = ["env", f"PYTHONPATH={ROOT}", tool_python("ncs"), script, tmp_path, PATIENCE_S]
    return lambda fault: beside_stick(*command, fault=fault)


def error(run: Run) -> str:
    assert run.code == 0, run.output
    return str(json.loads(run.output.splitlines()[-1])["error"])


def test_the_stick_gets_the_whole_firmware_comes_back_and_is_spoken_to(
    load: Load, tool_python: Callable[[str], Path]
) -> None:
    run = load("none")
    assert run.products == ["2485", "f63b"]
    [file] = tool_python("ncs").parents[1].rglob("usb-ma2x8x.mvcmd")
    assert len(run.firmware) == file.stat().st_size + 12
    assert INSERTED.sub(b"", run.firmware) == file.read_bytes()
    assert run.asked == [("ping", ""), ("create stream", "deviceMonitor")]
    assert NO_ANSWER in run.output  # a real stick's firmware would open the stream


def test_a_stick_that_needs_long_to_come_back_is_waited_for(load: Load) -> None:
    assert load("late").asked[0] == ("ping", "")


def test_what_the_plugin_says_of_a_stick_that_does_not_come_back(load: Load) -> None:
    run = load("stays-away")
    assert run.products == ["2485"]
    assert error(run) == "Can not init Myriad device: NC_ERROR"


def test_what_the_plugin_says_of_a_stick_that_is_pulled_out_in_the_middle_of_the_upload(load: Load) -> None:
    run = load("unplugged")
    assert 0 < len(run.firmware) < 2_000_000
    assert error(run) == "Can not init Myriad device: NC_ERROR"


def test_the_plugin_waits_without_end_for_a_stick_that_is_silent(load: Load) -> None:
    run = load("silent")
    assert run.asked == [("ping", "")]
    assert NO_ANSWER in run.output


def test_what_the_plugin_says_of_a_booted_stick_that_vanishes(load: Load) -> None:
    run = load("vanishes")
    assert run.asked == [("ping", "")]
    print(run.output)
