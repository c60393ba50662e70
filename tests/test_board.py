"""A board over a real sshd: what is carried, what it tells, what a broken run leaves, what goes wrong."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import devices
from host.board import carry, facts, guard, ssh, state
from host.board.ssh import Connection, ConnectionLost, Destination
from host.compose import Build, Service
from host.engines.board import BoardEngine
from host.session import Session
from host.store import sha256
from tests.lab import virtual_board
from tests.lab.virtual_board import VirtualBoard
from tests.project import soon
from tools.stage import DeviceNotFound, InvalidRequest, Request, StageError, Unavailable

MISSING = virtual_board.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

BOARD = Destination.parse("jetson@board:2222")
Take = Callable[[], tuple[Connection, guard.Place]]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualBoard]:
    with VirtualBoard(tmp_path / "board") as lab:
        for name, value in lab.variables.items():
            monkeypatch.setenv(name, value)
        yield lab


@pytest.fixture
def take(lab: VirtualBoard) -> Iterator[Take]:
    """Take the board; all are let go at the end."""
    taken = []

    def take() -> tuple[Connection, guard.Place]:
        taken.append(guard.take(Destination.parse(lab.destination)))
        return taken[-1]

    yield take
    for connection, _ in taken:
        connection.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(os.urandom(2_000_000))
    return path


def send(taken: tuple[Connection, guard.Place], *paths: Path) -> int:
    return carry.send(taken[0], taken[1].folder, {sha256(path): path for path in paths})


def test_what_is_there_is_not_sent_again_and_what_changed_is(
    lab: VirtualBoard, take: Take, model: Path
) -> None:
    taken = take()
    assert send(taken, model) == 2_000_000
    before = lab.relay.passed_bytes
    assert send(taken, model) == 0
    assert lab.relay.passed_bytes - before < 20_000
    there = lab.cache / "store" / sha256(model)
    assert there.read_bytes() == model.read_bytes()
    there.chmod(0o644)
    there.write_bytes(b"other" + there.read_bytes()[5:])
    assert send(taken, model) == 2_000_000


def test_a_connection_that_is_cut_leaves_no_half_file_that_is_believed(
    lab: VirtualBoard, take: Take, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(20_000_000))
    taken = take()
    lab.relay.cut_after(10_000_000)
    with pytest.raises(ConnectionLost, match="was lost"):
        send(taken, large)
    again = take()  # waits for the guard of the lost one
    assert list((lab.cache / "store").iterdir()) == []
    assert send(again, large) == 20_000_000
    assert sha256(lab.cache / "store" / sha256(large)) == sha256(large)


def test_a_board_without_space_is_not_filled(lab: VirtualBoard, take: Take, model: Path) -> None:
    df = lab.folder / "bin" / "df"
    df.write_text("#!/bin/sh\necho '/dev/mmcblk0p1 28768292 28500000 250000 100% /'\n")
    df.chmod(0o755)
    with pytest.raises(StageError, match="has 256 MB free, and 258 MB are needed") as raised:
        send(take(), model)
    assert "rm -r" in raised.value.hint


def test_what_a_stage_made_goes_to_the_store_and_comes_back(
    lab: VirtualBoard, take: Take, tmp_path: Path, model: Path
) -> None:
    connection, place = taken = take()
    send(taken, model)
    links = {"store/k/it's a model.onnx": sha256(model)}
    carry.lay_out(connection, place.folder, "store/other.part", model, links)
    found = carry.keep(connection, place.folder, "store/k", ["it's a model.onnx"])
    assert found == {"it's a model.onnx": sha256(model)}
    carry.fetch(connection, f"{place.folder}/store/{sha256(model)}", tmp_path / "back", sha256(model))
    assert (tmp_path / "back").read_bytes() == model.read_bytes()
    with pytest.raises(StageError, match="did not come back"):
        carry.fetch(connection, f"{place.folder}/store/{sha256(model)}", tmp_path / "other", "0" * 64)
    assert not list(tmp_path.glob("other*"))
    with pytest.raises(StageError, match="lost is not on the board"):
        carry.keep(connection, place.folder, "store/k", ["lost"])


def test_the_fast_cipher_is_taken_where_the_users_configuration_has_it(lab: VirtualBoard) -> None:
    config = lab.folder / "client" / "config"
    for ciphers, first in (("", ssh.FAST_CIPHER), ("Ciphers aes256-ctr,aes128-ctr\n", "aes256-ctr")):
        config.write_text(config.read_text() + ciphers)
        option, value = ssh._ciphers(Destination.parse(lab.destination))
        assert (option, value.split(",")[0]) == ("-o", f"Ciphers={first}")
        guard.look(Destination.parse(lab.destination)).close()


def test_what_a_board_is(lab: VirtualBoard, take: Take) -> None:
    known = facts.read(take()[0])
    assert (known.model, known.chip) == ("NVIDIA Jetson TX2 Developer Kit", "tegra186")
    assert (known.l4t, known.jetpack, known.tensorrt) == ("32.7.1", "4.6.1-b110", "8.2.1.9")
    assert (known.compute_capability, known.memory_mb) == ("6.2", 8229)
    assert known.runtimes == ("runc", "io.containerd.runc.v2", "nvidia")
    assert known.simulated == str(lab.root)
    lab.write("proc/device-tree/compatible", "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0")
    lab.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    orin = facts.read(take_again := guard.look(Destination.parse(lab.destination)))
    take_again.close()
    assert (orin.compute_capability, orin.l4t) == ("8.7", "36.4.3")
    assert orin.identity != known.identity


def test_a_machine_that_is_no_jetson_is_named_so(lab: VirtualBoard, take: Take) -> None:
    for path in ("proc/device-tree/model", "proc/device-tree/compatible", "etc/nv_tegra_release"):
        (lab.root / path).unlink()
    known = facts.read(take()[0])
    assert known.model.startswith("unknown board (")
    assert (known.chip, known.compute_capability, known.l4t) == ("", "", "")


def test_how_a_board_is(lab: VirtualBoard, take: Take) -> None:
    connection, _ = take()
    before = state.read(connection)
    assert before["power_mode"] == {"id": 0, "name": "MAXN"}
    assert before["clocks_khz"]["17000000.gp10b"] == [114750, 140250, 1300500]
    assert before["clocks_locked"] is False
    assert before["temperatures_degc"] == {"BCPU-therm": 41.0, "GPU-therm": 39.5}  # PMIC-Die is no sensor
    assert (before["throttling"], before["over_current_events"]) == ({}, {"oc1": 0})  # a fan is no throttling
    lab.write("sys/class/thermal/cooling_device1/cur_state", "2\n")
    lab.write("sys/class/hwmon/hwmon1/oc1_event_cnt", "5\n")
    lab.write("nvpmodel", "1\n")
    said = " ".join(state.warnings(before, state.read(connection)))
    assert "throttling: gpu-balanced" in said
    assert "oc1 5 times" in said
    assert "changed the board's power mode" in said
    assert "clocks were not locked" in said


def test_locked_clocks_are_seen_without_rights(lab: VirtualBoard, take: Take) -> None:
    for folder in lab.root.glob("sys/devices/system/cpu/cpu*/cpufreq"):
        (folder / "scaling_min_freq").write_text((folder / "scaling_max_freq").read_text())
    lab.write("sys/class/devfreq/17000000.gp10b/min_freq", "1300500000\n")
    locked = state.read(take()[0])
    assert locked["clocks_locked"] is True
    assert state.warnings(locked, locked) == []


CPU0_MIN = "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq"


def set_mode_and(lab: VirtualBoard, then: str) -> subprocess.Popen[bytes]:
    """Let another process take the board, set its power mode to 1 and do something."""
    code = (
        "import time; from host.board import guard, state; from host.board.ssh import Destination\n"
        f"connection, _ = guard.take(Destination.parse({lab.destination!r}))\n"
        f"state.set_power_mode(connection, 1); {then}"
    )
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def test_the_power_mode_is_set_back_with_the_clocks_that_were_locked(lab: VirtualBoard, take: Take) -> None:
    lab.write(CPU0_MIN, "2035200\n")
    connection, _ = take()
    state.set_power_mode(connection, 1)
    assert (lab.read("nvpmodel"), lab.read(CPU0_MIN)) == ("1\n", "345600\n")
    connection.close()
    assert (lab.read("nvpmodel"), lab.read(CPU0_MIN)) == ("0\n", "2035200\n")
    assert sorted(path.name for path in lab.cache.iterdir()) == ["lock", "store"]


def test_the_power_mode_is_set_back_when_the_runner_is_killed(lab: VirtualBoard) -> None:
    runner = set_mode_and(lab, "time.sleep(60)")
    assert soon(lambda: lab.read("nvpmodel") == "1\n")
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    assert soon(lambda: lab.read("nvpmodel") == "0\n")
    assert soon(lambda: not (lab.cache / "work").exists())


def test_a_connection_that_goes_silent_ends_the_run_on_both_sides(
    lab: VirtualBoard, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SILENCE_S", 2.0)
    monkeypatch.setitem(ssh.OPTIONS, "ServerAliveInterval", "1")
    lab.add_image("image", ["sh", "-c", "sleep 60"])
    connection, place = take()
    state.set_power_mode(connection, 1)
    argv = ["docker", "run", "--name=n", f"--label={guard.LABEL}={place.folder}"]
    argv += [f"--volume={place.folder}/work:/work:rw", "image", "serve"]
    container = connection.popen(shlex.join(argv), stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert soon(lambda: lab.containers() == ["n"])
    lab.relay.hold()
    assert soon(lambda: lab.read("nvpmodel") == "0\n")
    assert lab.containers() == []
    with pytest.raises(ConnectionLost):
        connection.run("true")
    container.communicate()
    lab.relay.release()


def test_the_power_mode_of_a_board_that_lost_its_power_is_set_back_by_the_next_run(
    lab: VirtualBoard, take: Take
) -> None:
    connection, place = take()
    state.set_power_mode(connection, 1)
    pid = connection.run(
        f"fuser {place.folder}/lock 2>/dev/null || lsof -t {place.folder}/lock"
    ).stdout.split()
    for each in pid:
        os.kill(int(each), signal.SIGKILL)
    assert connection.is_lost()
    assert lab.read("nvpmodel") == "1\n"
    again, _ = take()
    assert lab.read("nvpmodel") == "0\n"
    again.close()


@pytest.mark.parametrize(
    ("mode", "sudoers", "error", "said"),
    [
        (2, "nopasswd", InvalidRequest, "Reboot required"),
        (7, "nopasswd", InvalidRequest, "invalid mode 7"),
        (1, "password", Unavailable, "sudo asks for a password"),
    ],
)
def test_a_power_mode_that_cannot_be_set(
    lab: VirtualBoard, take: Take, mode: int, sudoers: str, error: type[StageError], said: str
) -> None:
    lab.write("etc/sudoers.d/user", sudoers)
    connection, _ = take()
    with pytest.raises(error, match=said) as raised:
        state.set_power_mode(connection, mode)
    assert raised.value.hint
    assert lab.read("nvpmodel") == "0\n"
    assert not (lab.cache / "power_mode").exists()


def test_a_power_mode_that_cannot_be_set_back_is_said(lab: VirtualBoard, take: Take) -> None:
    connection, _ = take()
    state.set_power_mode(connection, 1)
    lab.write("etc/sudoers.d/user", "password")
    assert f"{guard.COMPLAINT}: sudo nvpmodel -m 0" in connection.close()
    lab.write("etc/sudoers.d/user", "nopasswd")
    take()
    assert lab.read("nvpmodel") == "0\n"


def test_devices_and_what_they_lack(lab: VirtualBoard) -> None:
    found = devices.board(lab.destination)
    assert (found.name, found.state, found.usable, found.simulated) == (
        "NVIDIA Jetson TX2 Developer Kit",
        "ready",
        True,
        True,
    )
    assert "L4T 32.7.1, TensorRT 8.2.1.9, compute capability 6.2, power mode 0 MAXN" in found.found
    lab.write("etc/docker/down", "")
    found = devices.board(lab.destination)
    assert (found.state, found.usable) == ("no docker", False)
    assert "systemctl start docker" in found.mend
    (lab.root / "etc/docker/down").unlink()
    lab.write("etc/docker/runtimes", '["runc"]')
    found = devices.board(lab.destination)
    assert (found.state, found.usable) == ("no nvidia runtime", False)
    assert "nvidia-container-toolkit" in found.mend
    found = devices.board("127.0.0.1:9")
    assert (found.state, found.usable) == ("unseen", False)
    assert not lab.cache.exists()


def test_two_tools_run_on_a_board_at_once(lab: VirtualBoard, tmp_path: Path) -> None:
    image = "mobile-accelerator/image:0.1.0"
    lab.add_image(image, virtual_board.python_image("image", Path(sys.executable)))
    engine = BoardEngine(lab.destination, {}).open(["image"], print)
    (tmp_path / "stage").mkdir()
    Request("image", "label", inputs={}, outputs={}, params={"none": 0}).write(tmp_path / "stage")
    processes = [engine.start("image", tmp_path, print) for _ in range(2)]
    sessions = [Session(process, tmp_path) for process in processes]
    assert soon(lambda: len(lab.containers()) == 2)
    for session in sessions:
        with session, (tmp_path / "log").open("w") as log:
            done = session.run(tmp_path / "stage", log=log, on_progress=lambda *_: None, limit_s=60)
            assert done.error, "a stage with a wrong parameter does nothing else than to say so"
    engine.close()
    assert lab.containers() == []


def test_one_run_at_a_time(lab: VirtualBoard, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    take()
    monkeypatch.setattr(guard, "LOCK_WAIT_S", 0.3)
    with pytest.raises(StageError, match="another run is using the board"):
        take()
    looking = guard.look(Destination.parse(lab.destination))  # which a run does not mind
    assert facts.read(looking).l4t == "32.7.1"
    looking.close()


def refusal(destination: str) -> StageError:
    with pytest.raises(StageError) as raised:
        guard.take(Destination.parse(destination))
    assert "\n" not in raised.value.one_line()
    return raised.value


def test_a_board_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = refusal(f"127.0.0.1:{free.getsockname()[1]}")
    assert isinstance(error, DeviceNotFound)
    assert "Connection refused" in str(error)
    assert "192.168.55.1" in error.hint


def test_a_host_key_that_changed(lab: VirtualBoard) -> None:
    lab.change_host_key()
    error = refusal(lab.destination)
    assert isinstance(error, DeviceNotFound)
    assert "IDENTIFICATION HAS CHANGED" in str(error)
    assert f"ssh-keygen -R '[127.0.0.1]:{lab.relay.port}'" in error.hint


def test_a_host_key_that_is_not_known(lab: VirtualBoard) -> None:
    lab.known_hosts(set())
    error = refusal(lab.destination)
    assert "Host key verification failed" in str(error)
    assert f"connect once by hand, and compare: ssh -p {lab.relay.port}" in error.hint


def test_a_wrong_user(lab: VirtualBoard) -> None:
    error = refusal(f"nobody-there@{lab.destination.partition('@')[2]}")
    assert "Permission denied" in str(error)
    assert "ssh-copy-id" in error.hint


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "a b", "user@", "host:port", "host:65536", "jetson@host:22:1", "$(x)"]
)
def test_what_is_no_place_for_a_board(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not where a board can be"):
        Destination.parse(text)


def test_places_for_a_board() -> None:
    found = Destination.parse("jetson@192.168.55.1:2222")
    assert (found.argv, found.known_as) == (["-p", "2222", "jetson@192.168.55.1"], "[192.168.55.1]:2222")
    assert Destination.parse("orin").argv == ["orin"]  # a name of the user's ~/.ssh/config
    assert Destination.parse("me@[fe80::1%usb0]:22").argv == ["-p", "22", "me@fe80::1%usb0"]


@pytest.mark.parametrize(
    ("fault", "hint"), [("down", "systemctl start docker"), ("forbidden", "usermod -aG docker")]
)
def test_a_board_whose_docker_does_not_answer(lab: VirtualBoard, take: Take, fault: str, hint: str) -> None:
    lab.write(f"etc/docker/{fault}", "")
    error = facts.read(take()[0]).docker_error(BOARD)
    assert isinstance(error, Unavailable)
    assert "no Docker engine answers" in str(error)
    assert hint in error.hint


def test_a_board_without_docker_or_nvidia_runtime(lab: VirtualBoard, take: Take) -> None:
    lab.write("etc/docker/runtimes", '["runc"]')
    connection, _ = take()
    known = facts.read(connection)
    assert known.docker_error(BOARD) is None
    assert "has no runtime 'nvidia'" in str(known.docker_error(BOARD, "nvidia"))
    none = facts.parse(connection.run(facts.READ.replace("docker info", "dockerless info")).stdout)
    error = none.docker_error(BOARD)
    assert "command not found" in str(error)
    assert error
    assert "apt-get install docker.io" in error.hint


def test_a_shell_that_talks_at_login_is_named() -> None:
    with pytest.raises(StageError, match="cannot be read") as raised:
        facts.parse("Welcome to Ubuntu\n")
    assert "silent" in raised.value.hint


def test_every_setting_of_a_service_is_in_docker_s_command_line() -> None:
    texts = {
        field.name: (f"x-{field.name}",)
        for field in dataclasses.fields(Service)
        if field.type.startswith("tuple") and field.name != "volumes"
    }
    service = Service(
        name="tool",
        image="image",
        build=Build(context=Path()),
        network_mode="bridge",
        user="1:1",
        read_only=True,
        init=True,
        runtime="nvidia",
        working_dir="/work",
        mem_limit_bytes=1024,
        pids_limit=7,
        environment={"A": "b"},
        volumes=("/sys:/sys:ro", "/dev/null:/left/out:rw"),
        **texts,
    )
    words = service.run_arguments()
    for text in (*texts.values(), ("--runtime=nvidia",), ("--env=A=b",), ("--init",), ("--read-only",)):
        if text != ("x-profiles",):
            assert [word for word in words if word.endswith(text[0])], text
    shown = {field.name for field in dataclasses.fields(Service)} - {"name", "image", "build", "profiles"}
    assert len([word for word in words if "left" not in word]) == len(shown)
