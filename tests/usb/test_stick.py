"""OpenVINO's own boot code against a simulated stick, up to where the stick's firmware would take over."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.usb.conftest import Run

pytestmark = pytest.mark.usb

Runs = Mapping[str, Run]
# two commands that the plug-in puts into the firmware: OpenVINO 2021.4, mvnc/src/mvnc_data.c, patchFirmware
INSERTED = re.compile(rb"\x98\x00(?:\x00\x20\x80|\x0c\x20\x70).", re.DOTALL)
NOT_INITIALISED = "Can not init Myriad device: NC_ERROR"
NOT_SENT = "XLinkBootRemote returned error"
NOT_BACK = "Failed to find booted device after boot"


def test_the_stick_gets_the_whole_firmware_comes_back_and_is_spoken_to(
    beside_stick: Runs, tool_python: Callable[[str], Path]
) -> None:
    run = beside_stick["none"]
    assert run.products == ["2485", "f63b"]
    [file] = tool_python("ncs").parents[1].rglob("usb-ma2x8x.mvcmd")
    assert len(run.firmware) == file.stat().st_size + 12
    assert INSERTED.sub(b"", run.firmware) == file.read_bytes()
    assert run.asked == [("ping", ""), ("create stream", "deviceMonitor")]


def test_a_stick_that_needs_long_to_come_back_is_waited_for(beside_stick: Runs) -> None:
    assert beside_stick["late"].asked[0] == ("ping", "")


def test_what_the_plugin_says_of_a_stick_that_does_not_come_back(beside_stick: Runs) -> None:
    run = beside_stick["stays-away"]
    assert run.products == ["2485"]
    assert run.error == NOT_INITIALISED
    assert NOT_BACK in run.output
    assert NOT_SENT not in run.output


def test_what_the_plugin_says_of_a_stick_that_is_pulled_out_in_the_middle_of_the_upload(
    beside_stick: Runs,
) -> None:
    run = beside_stick["unplugged"]
    assert 0 < len(run.firmware) < len(beside_stick["none"].firmware)
    # it tells of the broken transfer only if libusb notices the error before the absence
    assert run.error == NOT_INITIALISED
    assert NOT_BACK in run.output


def test_the_plugin_waits_without_end_for_a_stick_that_does_not_answer(beside_stick: Runs) -> None:
    assert beside_stick["silent"].asked == [("ping", "")]
    assert beside_stick["silent"].silent


def test_what_the_plugin_says_of_a_booted_stick_that_vanishes(beside_stick: Runs) -> None:
    run = beside_stick["vanishes"]
    assert run.asked == [("ping", "")]
    assert run.error.endswith("Cannot get a revision from not booted device")
    assert "Failed to read data, rc: X_LINK_ERROR" in run.output
