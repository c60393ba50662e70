"""The guest and its devices, with neither a stick nor a vendor's software."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from host import ROOT
from tests.lab.usb.guest import Guest

pytestmark = pytest.mark.usb


def test_a_program_in_the_guest_says_how_it_ended_and_leaves_the_host_as_it_is(
    guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    script = f"touch {tmp_path}/shared/kept {ROOT}/thrown-away; ls {ROOT}/thrown-away; exit 3"
    done = guest.run("sh", "-c", script, shared=tmp_path / "shared", limit_s=120, cwd=ROOT)
    assert (done.code, done.output) == (3, f"{ROOT}/thrown-away\n")
    assert (tmp_path / "shared" / "kept").exists()
    assert not (ROOT / "thrown-away").exists()


def test_a_simulated_device_answers_every_kind_of_transfer(guest: Guest, tmp_path: Path) -> None:
    echo = [sys.executable, "-m", "tests.lab.usb.echo"]
    done = guest.run(*echo, shared=tmp_path, limit_s=120, cwd=ROOT)
    assert done.code == 0, done.output
    assert json.loads(done.output) == {
        "manufacturer": "Nobody",
        "product": "Echo (simulated)",
        "serial": "12345",
        "kept": "33334143" + b"data".hex(),
        "kept without data": "33334143",
        "unknown": "Broken pipe",
        "bulk": "bat",
    }
