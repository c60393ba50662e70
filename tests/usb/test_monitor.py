"""The tool `monsoon` with real libusb, beside a simulated HVPM on a USB bus that is real: in a guest."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from host.engines.choose import services
from tests.lab.usb.guest import CACHE, Guest, debian_package
from tests.lab.usb.monitor_in_container import CASES
from tests.usb.conftest import BOOT_LIMIT_S, unpack
from tools import trace

pytestmark = pytest.mark.usb


@pytest.fixture(scope="module")
def folder(
    guest: Guest, tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the tool left of its commands, `NAME.out` each, and of two recordings; one boot for all."""
    shared = tmp_path_factory.mktemp("monitor")
    tool = f"env PYTHONPATH={ROOT} {tool_python('monsoon')} -m tools.monsoon"

    def run(name: str, command: str) -> str:
        return f"{tool} {command} >{shared}/{name}.out 2>{shared}/{name}.err; echo $? >{shared}/{name}.code"

    def beside(*options: str, script: list[str]) -> str:
        argv = [sys.executable, "-m", "tests.lab.usb.monitor", *options]
        return shlex.join([*argv, "sh", "-c", f"sleep 2; cd {shared}; " + "; ".join(script)])

    first = [
        run("on", "power-on --volts 3.9 --run-limit-a 4"),
        run("record", "monsoon --trace whole.parquet --duration-s 2.5"),
        run("again", "monsoon --trace again.parquet --samples 100"),
        run("state", "state"),
    ]
    pulled = [run("pulled", "monsoon --trace pulled.parquet --duration-s 9")]
    script = "\n".join([beside(script=first), beside("--unplugged-s", "1.5", script=pulled)])
    done = guest.run("sh", "-c", script, shared=shared, limit_s=400, cwd=ROOT)
    assert done.code is not None, done.output
    return shared


def said(folder: Path, name: str) -> dict[str, Any]:
    assert (folder / f"{name}.code").read_text() == "0\n", (folder / f"{name}.err").read_text()
    found: dict[str, Any] = json.loads((folder / f"{name}.out").read_text())
    return {**found["metadata"], **found["metrics"]}


def test_the_output_is_set_through_real_transfers(folder: Path) -> None:
    for name in ("on", "state"):
        state = said(folder, name)
        assert (state["device"], state["serial"], state["output_v"]) == ("Monsoon HVPM", "20001", 3.9)
        assert state["run_limit_a"] == pytest.approx(4, abs=1e-3)
        assert state["simulated"]


def test_a_recording_through_libusb_has_every_packet_in_its_order(folder: Path) -> None:
    assert said(folder, "record")["dropped"] == 7  # which the device says, once
    recorded = trace.read(folder / "whole.parquet")
    assert recorded.meta.simulated
    numbers = np.rint(recorded.time_s * 5000).astype(int)
    current = recorded.columns["main_a"] * 1e3
    expected = np.where(numbers % 5000 < 4000, 20, 900)
    there = np.isfinite(current)
    np.testing.assert_allclose(current[there], expected[there], rtol=1e-3)
    assert recorded.time_s[-1] - recorded.time_s[0] == pytest.approx(2.5, abs=0.001)


def test_a_second_recording_begins_after_what_the_first_left_in_the_device(folder: Path) -> None:
    assert said(folder, "again")["dropped"] == 0
    assert trace.read(folder / "again.parquet").time_s[0] < 0.01


def test_a_monitor_that_is_pulled_out_leaves_what_was_sampled(folder: Path) -> None:
    assert (folder / "pulled.code").read_text() == "4\n"
    assert "the meter is gone" in (folder / "pulled.err").read_text()
    recorded = trace.read(folder / "pulled.parquet")
    assert not recorded.meta.complete
    assert 0.5 < recorded.time_s[-1] <= 1.5


@pytest.mark.docker
def test_the_tools_container_records_once_the_udev_rules_are_there(
    guest: Guest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("container")
    shutil.copy(debian_package("udev"), shared / "udev.deb")
    with tempfile.TemporaryDirectory(dir=CACHE) as image:  # not in `shared`, which the guest does not cache
        unpack(services(shared)["monsoon"].image, Path(image))
        argv = [sys.executable, "-m", "tests.lab.usb.monitor_in_container", str(shared), image]
        done = guest.run(*argv, shared=shared, limit_s=BOOT_LIMIT_S, cwd=ROOT)
    assert done.code == 0, done.output
    before, after = (shared / case for case in CASES)
    assert (before / "code").read_text() == "4"
    assert 'ATTR{idVendor}=="2ab9"' in (before / "output").read_text()
    assert (after / "code").read_text() == "0", (after / "output").read_text()
    recorded = trace.read(after / "trace.parquet")
    assert (recorded.meta.dropped, recorded.meta.simulated) == (0, True)
    assert recorded.time_s[-1] - recorded.time_s[0] == pytest.approx(1, abs=0.001)
