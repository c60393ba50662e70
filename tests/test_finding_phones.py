"""Which phones there are and what keeps one from being used; the host's adb server and the way to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import ROOT
from tests.lab import adb_states, virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tests.project import LAB, Project
from tools.phone import choose, phones
from tools.stage import DeviceNotFound, InvalidRequest, StageError

READY = "R3CN30 device usb:1-2 product:beyond1 model:SM_G973F device:beyond1 transport_id:3"
OTHER = "192.168.1.7:5555 device product:redfin model:Pixel_5 device:redfin transport_id:4"
MISSING = virtual_phone.missing()
needs_adbd = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("R3CN30 unauthorized usb:1-2 transport_id:3", "unauthorized", "tap 'Allow'"),
        ("R3CN30 authorizing usb:1-2 transport_id:3", "authorizing", "tap 'Allow'"),
        ("R3CN30 offline transport_id:3", "offline", "airplane mode off"),
        (
            "R3CN30 no permissions (udev rules wrong?); see [http://adb.html] usb:1-2 transport_id:3",
            "no permissions",
            "udev rules",
        ),
        ("R3CN30 recovery usb:1-2 transport_id:3", "recovery", "start Android"),
    ],
)
def test_a_phone_that_cannot_be_used_says_what_to_do(tmp_path: Path, line: str, said: str, hint: str) -> None:
    with adb_states.server(tmp_path, line) as server:
        (found,) = phones(server)
        assert (found.serial, found.state) == ("R3CN30", said)
        for serial in ("", "R3CN30"):
            with pytest.raises(DeviceNotFound, match=f"R3CN30 cannot be used: {said}") as refused:
                choose(serial, server)
            assert hint in refused.value.hint


def test_of_two_phones_one_has_to_be_chosen(tmp_path: Path) -> None:
    with adb_states.server(tmp_path, READY, OTHER, "X1 offline transport_id:9") as server:
        with pytest.raises(InvalidRequest, match=r"192.168.1.7:5555 \(Pixel 5\), R3CN30 \(SM G973F\)") as two:
            choose("", server)
        assert "--phone 192.168.1.7:5555" in two.value.hint
        assert choose("R3CN30", server).serial == "R3CN30"
        with pytest.raises(DeviceNotFound, match="no phone R4") as none:
            choose("R4", server)
        assert "R3CN30" in none.value.hint
    with adb_states.server(tmp_path, READY, "X1 offline transport_id:9") as server:
        assert choose("", server).serial == "R3CN30"


def test_no_phone_and_no_server(tmp_path: Path) -> None:
    with adb_states.server(tmp_path) as server:
        with pytest.raises(DeviceNotFound, match="no phone is attached") as none:
            choose("", server)
        assert "USB debugging" in none.value.hint
    with pytest.raises(DeviceNotFound, match="no adb server answers"):
        choose("", server)


def devices(**variables: str) -> list[dict[str, object]]:
    argv = [sys.executable, str(ROOT / "runner.py"), "devices", "--json"]
    done = subprocess.run(argv, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return [each for each in json.loads(done.stdout) if each["kind"] == "phone"]


def test_devices_says_where_adb_is_missing(tmp_path: Path) -> None:
    (row,) = devices(ADB_SERVER_SOCKET=f"localfilesystem:{tmp_path}/none", PATH="/nowhere", ANDROID_HOME="")
    assert (row["state"], row["usable"]) == ("unseen", None)
    assert "apt-get install adb" in str(row["mend"])


@needs_adbd
def test_a_server_that_was_started_to_look_is_stopped(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(tmp_path), **virtual_phone.variables()}
    rows = devices(**variables)
    assert rows[0]["state"] != "unseen", rows
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path_factory.mktemp("phone")) as lab:
        yield lab


@needs_adbd
def test_devices_shows_a_phone_in_a_second(lab: VirtualPhone) -> None:
    begun = time.monotonic()
    phones(lab.server)
    assert time.monotonic() - begun < 1
    (row,) = devices(ADB_SERVER_SOCKET=lab.server.address)
    assert (row["state"], row["name"], row["simulated"]) == ("ready", "Example Virtual 4", True)
    assert "SM8150, Android 12, arm64-v8a" in str(row["found"])


@needs_adbd
def test_its_state_is_shown_in_words(lab: VirtualPhone) -> None:
    argv = [sys.executable, "runner.py", "phone", "state"]
    environment = {**os.environ, "ADB_SERVER_SOCKET": lab.server.address}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "to 2841600 kHz, now 300000 to 2841600 kHz, schedutil: cores 7\n" in done.stdout
    assert "temperatures_degc cpu-0-0-usr 31.5\n" in done.stdout


@needs_adbd
@pytest.mark.tool
def test_a_tool_reaches_the_phone_through_the_runner(
    lab: VirtualPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", lab.server.address)
    project = Project.copy(tmp_path / "project")
    project.add_tool("naughty", LAB / "naughty.py")
    lab.server.ask(f"host:disconnect:{virtual_phone.SERIAL}")
    done = project.run("run", "naughty.on-phone", "--model", "squeezenet", "--phone", virtual_phone.SERIAL)
    assert done.returncode == 0, done.stderr
    said = (project.work / "models" / "squeezenet" / "squeezenet.said.txt").read_text()
    assert said.split()[1] == "SM8150"
    assert not (project.work / "adb.socket").exists()
    assert phones(lab.server) == []  # the runner connected, so it disconnected
    with pytest.raises(StageError, match="no phone"):
        choose(virtual_phone.SERIAL, lab.server)
    wrong = project.run("run", "naughty.on-phone", "--model", "squeezenet", "--phone", "127.0.0.1:1")
    assert wrong.returncode == 4
    assert "failed to connect to '127.0.0.1:1'" in wrong.stderr
    lab.server.ask(f"host:connect:{virtual_phone.SERIAL}")
