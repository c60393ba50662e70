"""`devices` and `doctor`: every state that a stick can be in, from a stand-in for the kernel's files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host import ROOT, udev
from tests.lab.virtual_usb import BOOTED, NCS1, NCS2, VirtualHost
from tools import movidius
from tools.movidius import Stick, examine
from tools.stage import StageError, Unavailable
from tools.usb import SIMULATED_HOST, Host

OAK = {**BOOTED, "product": "Luxonis Device"}


@pytest.fixture
def virtual(tmp_path: Path) -> VirtualHost:
    return VirtualHost(tmp_path)


@pytest.fixture
def as_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last digit of a node's mode decide, as for a user who is neither root nor in its group."""
    monkeypatch.setattr(os, "access", lambda path, _: bool(Path(path).stat().st_mode & 0o002))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def one(virtual: VirtualHost) -> Stick:
    (stick,) = examine(virtual.host)
    assert stick.simulated
    return stick


def test_what_the_kernel_says_of_a_device(virtual: VirtualHost) -> None:
    node = virtual.plug("1-2.4", NCS2)
    virtual.claim("1-2.4")
    (device,) = [device for device in virtual.host.devices() if device.vendor_id == "03e7"]
    assert (device.ids, device.port, device.bus, device.number) == ("03e7:2485", "1-2.4", 1, 3)
    assert (device.manufacturer, device.product) == ("Movidius Ltd.", "Movidius MyriadX")
    assert (device.speed_mbps, device.usb_version, device.drivers) == (480.0, "2.00", ("usbfs",))
    assert device.node == node
    assert [device.port for device in virtual.host.devices()] == ["1-2.4", "usb1", "usb2"]


def test_a_device_without_strings_of_unknown_speed(virtual: VirtualHost) -> None:
    virtual.plug("1-1", {"idProduct": "2485", "speed": "unknown"})
    device = virtual.host.devices()[0]
    assert (device.product, device.serial, device.speed_mbps) == ("", "", 0.0)


def test_a_device_that_goes_while_it_is_looked_at_is_left_out(virtual: VirtualHost) -> None:
    virtual.plug("1-1", NCS2)
    (virtual.root / "sys/bus/usb/devices/1-1/devnum").unlink()
    assert one(virtual).state == "none"


def test_an_open_file_that_closes_hides_no_other(virtual: VirtualHost) -> None:
    node = virtual.plug("2-2", BOOTED)
    virtual.open(node, 4711, "python3")
    (virtual.root / "proc/4711/fd/0").write_text("not a link, so reading it as one fails")
    assert one(virtual).state == "in use"


@pytest.mark.parametrize(
    ("attributes", "name"), [(NCS1, "Neural Compute Stick"), (NCS2, "Neural Compute Stick 2")]
)
def test_a_stick_in_its_rom_is_ready_and_no_slow_port_is_blamed(
    virtual: VirtualHost, attributes: dict[str, str], name: str
) -> None:
    virtual.plug("1-2", attributes)
    stick = one(virtual)
    assert (stick.name, stick.state, stick.speed_mbps) == (name, "ready", 480)
    assert "boot ROM" in stick.found
    assert "USB 2" not in stick.found
    assert ("no firmware for it" in stick.mend) == (attributes is NCS1)


def test_a_host_that_has_no_usb_3_is_told_of_before_the_stick_boots(tmp_path: Path) -> None:
    virtual = VirtualHost(tmp_path, usb3=False)
    virtual.plug("1-2", NCS2)
    assert one(virtual).state == "ready"
    assert "this host has USB 2 only" in one(virtual).found


def test_a_stick_that_runs_is_in_use_by_whoever_has_it_open(virtual: VirtualHost) -> None:
    virtual.plug("1-2", NCS2)
    node = virtual.boot("1-2", "2-2")
    virtual.open(node, 4711, "python3")
    stick = one(virtual)
    assert (stick.state, stick.found, stick.port) == ("in use", "by 4711 python3", "2-2")


def test_another_users_program_is_seen_by_its_claim(virtual: VirtualHost) -> None:
    virtual.plug("2-2", BOOTED)
    virtual.claim("2-2")
    stick = one(virtual)
    assert stick.state == "in use"
    assert "of another user" in stick.found


def test_firmware_of_a_program_that_is_gone_is_stale(virtual: VirtualHost) -> None:
    virtual.plug("2-2", BOOTED)
    other = virtual.plug("2-3", {"idVendor": "2ab9", "idProduct": "0001"})  # a Monsoon
    virtual.open(other, 12, "reader")
    stick = one(virtual)
    assert stick.state == "stale"
    assert "replug it" in stick.mend


def test_a_stick_on_a_usb_2_port_is_told_of_once_it_runs(virtual: VirtualHost) -> None:
    node = virtual.plug("1-2", {**BOOTED, "speed": "480"})
    virtual.open(node, 1, "python3")
    assert "at 480 Mb/s: a USB 2 port, hub or cable" in one(virtual).found
    assert "5000 Mb/s on USB 3" in one(virtual).mend


@pytest.mark.usefixtures("as_another_user")
def test_a_node_that_may_not_be_opened_names_the_rule(virtual: VirtualHost) -> None:
    node = virtual.plug("1-2", NCS2, mode=0o664)
    assert one(virtual).state == "no permission"
    assert str(node) in one(virtual).found
    assert "doctor --install-udev" in one(virtual).mend
    node.chmod(0o666)
    assert one(virtual).state == "ready"


def test_root_is_told_that_a_tool_in_a_container_is_not(
    virtual: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    virtual.plug("1-2", NCS2, mode=0o664)
    stick = one(virtual)
    assert stick.state == "host only"
    assert "container" in stick.found
    assert "--install-udev" in stick.mend
    assert "--engine venv" in stick.mend


def test_access_through_a_group_ends_at_the_container(
    virtual: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = virtual.plug("1-2", NCS2, mode=0o660)  # what OpenVINO's own rule makes of it, in group users
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(os, "geteuid", lambda: 4000)
    monkeypatch.setattr(os, "getegid", lambda: 4000)
    assert one(virtual).state == "host only"
    monkeypatch.setattr(os, "getegid", lambda: node.stat().st_gid)
    assert one(virtual).state == "ready"


def test_a_container_without_the_bus_folder(virtual: VirtualHost) -> None:
    virtual.plug("1-2", NCS2).unlink()
    assert one(virtual).state == "no node"
    assert "MOBILE_ACCELERATOR_USB" in one(virtual).mend


def test_two_sticks_are_too_many_for_a_container(virtual: VirtualHost) -> None:
    virtual.plug("1-2", NCS2)
    virtual.plug("1-3", NCS1)
    sticks = examine(virtual.host)
    assert [stick.state for stick in sticks] == ["ready", "ready"]
    assert all("one of 2" in stick.found and "leave one plugged in" in stick.mend for stick in sticks)


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        (OAK, "stale"),
        ({**NCS2, "idProduct": "f63c"}, "ready"),
        ({**BOOTED, "idProduct": "f63d"}, "ready"),
    ],
)
def test_cameras_with_the_same_chip_are_told_apart_once_they_run(
    virtual: VirtualHost, attributes: dict[str, str], state: str
) -> None:
    virtual.plug("2-1", attributes)
    assert (one(virtual).name, one(virtual).state) == ("OAK camera", state)


def test_no_stick_among_other_devices(virtual: VirtualHost) -> None:
    assert one(virtual).state == "none"
    assert "among 2 on USB" in one(virtual).found


def test_a_kernel_without_usb(tmp_path: Path) -> None:
    (stick,) = examine(Host(tmp_path))
    assert stick.state == "no bus"
    assert "modprobe" in stick.mend


def test_only_a_virtual_machine_is_to_be_given_the_stick(virtual: VirtualHost, tmp_path: Path) -> None:
    assert "virtual machine" not in one(virtual).mend
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu aes hypervisor lahf_lm\n")
    assert "give this virtual machine the device, as 03e7:2485 and as 03e7:f63b" in one(virtual).mend
    shutil.rmtree(tmp_path / "sys")
    assert one(virtual).mend.startswith("give this virtual machine the device")


def test_a_system_that_is_not_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movidius.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(Host, "devices", lambda _: [])
    (stick,) = examine(Host())
    assert stick.state == "no bus"
    assert "--engine venv" in stick.mend


def test_what_to_do_when_the_firmware_does_not_come_back(
    virtual: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual.plug("1-2", NCS2)
    assert "fell back to its boot ROM" in movidius.why_not_back(virtual.host)
    virtual.boot("1-2", "2-2")
    assert "did not hear of it" in movidius.why_not_back(virtual.host)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "--install-udev" in movidius.why_not_back(virtual.host)
    virtual.unplug("2-2")
    assert "It left the bus" in movidius.why_not_back(virtual.host)


def run(virtual: VirtualHost, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "runner.py"), *arguments]
    environment = {**os.environ, SIMULATED_HOST: str(virtual.root)}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def test_devices_follows_a_stick_through_its_ids(virtual: VirtualHost) -> None:
    """Unbooted, booted on another bus, gone; each is labelled simulated."""

    def stick() -> dict[str, Any]:
        done = run(virtual, "devices", "--json")
        assert done.returncode == 0, done.stderr
        (device,) = [each for each in json.loads(done.stdout) if each["kind"] == "stick"]
        assert device["simulated"]
        return dict(device)

    virtual.plug("1-2", NCS2)
    found = stick()
    assert (found["state"], found["where"], found["usable"]) == ("ready", "USB 1-2", True)
    assert found["details"] == {"ids": "03e7:2485", "serial": "03e72485", "speed_mbps": 480.0}
    virtual.boot("1-2", "2-2")
    assert (stick()["state"], stick()["where"], stick()["usable"]) == ("stale", "USB 2-2", False)
    virtual.unplug("2-2")
    assert (stick()["state"], stick()["usable"]) == ("none", None)


def test_devices_and_doctor_say_what_is_simulated(virtual: VirtualHost, tmp_path: Path) -> None:
    virtual.plug("2-2", BOOTED)
    shown = run(virtual, "devices").stdout
    assert "stale (simulated)" in shown
    assert SIMULATED_HOST in shown
    doctor = run(virtual, "doctor", "--work", str(tmp_path / "work"), "--json")
    (row,) = [check for check in json.loads(doctor.stdout) if check["name"] == "stick"]
    assert row["state"] == "missing"
    assert row["found"].startswith("stale (simulated): Neural Compute Stick, USB 2-2")
    assert doctor.returncode == 1


def test_the_tool_itself_lists_them_without_its_toolchain(virtual: VirtualHost) -> None:
    virtual.plug("1-2", NCS2)
    argv = [sys.executable, "-m", "tools.ncs", "devices"]
    environment = {**os.environ, SIMULATED_HOST: str(virtual.root)}
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    (stick,) = json.loads(done.stdout)["metadata"]["sticks"]
    assert (stick["state"], stick["ids"], stick["simulated"]) == ("ready", "03e7:2485", True)


def test_rules_are_written_after_asking_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no udevadm
    asked: list[str] = []
    path = tmp_path / udev.FILE
    assert udev.install(lambda text: bool(asked.append(text)), tmp_path) == "nothing was written"
    assert asked[0].endswith(f"Write {path}?")
    path.write_text("# another's\n")
    udev.install(lambda text: bool(asked.append(text)), tmp_path)
    assert asked[1].endswith(f"{path} says otherwise. Replace it?")
    assert path.read_text() == "# another's\n"
    assert "replug" in udev.install(lambda _: True, tmp_path)
    lines = [line for line in path.read_text().splitlines() if '"03e7"' in line]
    for line, product in zip(lines, ("2150", "2485", "f63b", "f63c", "f63d"), strict=True):
        assert f'ATTR{{idVendor}}=="03e7", ATTR{{idProduct}}=="{product}", MODE="0666"' in line
    assert "is there already" in udev.install(lambda _: pytest.fail("asked again"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [udev.FILE]


def test_rules_that_only_root_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StageError, match="only root may write") as caught:
        udev.install(lambda _: True, tmp_path)
    assert caught.value.hint.startswith("sudo ")
    assert caught.value.hint.endswith("runner.py doctor --install-udev")
    assert not list(tmp_path.iterdir())


def test_rules_where_there_is_no_udev(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="has no udev"):
        udev.install(lambda _: True, tmp_path / "none")
