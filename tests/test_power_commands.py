"""`power record`, `power live`, `power list` with a simulated meter: what is kept, however it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from host import power
from tests.lab import wave
from tests.lab.wave import RATE_HZ, current_a
from tests.project import LAB, Project
from tools import trace
from tools.stage import InvalidRequest

pytestmark = pytest.mark.tool


SERIAL = f"W-{os.getpid()}"  # of the stand-in, whose lock is the host's


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wave.SERIAL, SERIAL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.copy(tmp_path_factory.mktemp("power") / "project")
    project.add_tool("wave", LAB / "wave.py", LAB / "meter" / "requirements.txt", "[*meter, *tool]")
    return project


def call(project: Project, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    wave = () if command == "list" else ("--meter", "wave", "--engine", "venv")
    return project.call(project.argv("power", command, *map(str, (*wave, *arguments))))


def start(
    project: Project, command: str, *arguments: object, errors: int = subprocess.PIPE, engine: str = "venv"
) -> subprocess.Popen[str]:
    argv = project.argv("power", command, "--meter", "wave", "--engine", engine, *map(str, arguments))
    environment = {**os.environ, **project.environment}
    return subprocess.Popen(
        argv, cwd=project.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors
    )


def left(project: Project) -> list[Path]:
    return list((project.folder / "work" / "power").glob("*.part"))


def test_record_and_list(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "trace.parquet"
    done = call(project, "record", "-o", file, "--duration-s", "1.5")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        rf"{file}: 1\.5 s, 7500 samples, 0 dropped; Wave {SERIAL} \(simulated\)\n", done.stdout
    )
    kept = trace.read(file)
    np.testing.assert_allclose(kept.columns["main_a"], current_a(np.arange(7500)), rtol=1e-6)
    assert (kept.meta.complete, kept.meta.simulated) == (True, True)
    again = call(project, "record", "-o", file, "--duration-s", "1")
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    assert len(trace.read(file).time_s) == 7500
    forced = call(project, "record", "-o", file, "--duration-s", "1", "--force", "--json")
    assert json.loads(forced.stdout)["samples"] == 5000
    assert len(trace.read(file).time_s) == 5000
    assert not left(project)
    listed = {name: here for name, here in json.loads(call(project, "list", "--json").stdout).items() if here}
    assert listed["wave"] == [{"name": "Wave", "serial": SERIAL, "problem": "", "hint": ""}]
    assert re.search(rf"^here +wave +{SERIAL} +Wave *$", call(project, "list").stdout, re.MULTILINE)


def test_csv(project: Project, tmp_path: Path) -> None:
    done = call(project, "record", "-o", tmp_path / "trace.csv", "--duration-s", "0.5")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "trace.csv").read_text().splitlines()
    assert lines[0] == "Time(s),Main(mA),Main Voltage(V)"
    assert len(lines) == 1 + RATE_HZ // 2
    assert list(tmp_path.glob("*")) == [tmp_path / "trace.csv"]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_what_was_sampled_before_the_meter_was_lost_is_kept(
    project: Project, tmp_path: Path, ending: str
) -> None:
    mine = tmp_path / "trace.parquet"
    if ending == ".csv":
        mine.write_text("mine")
    done = call(project, "record", "-o", tmp_path / f"trace{ending}", "--meter-set", "lost_after_s=1.5")
    assert done.returncode == 4
    kept = tmp_path / ("trace-1.parquet" if ending == ".csv" else "trace.parquet")
    assert f"samples are kept in {kept}, marked incomplete" in done.stderr
    assert "Traceback" not in done.stderr
    found = trace.read(kept)
    assert not found.meta.complete
    assert "unplugged" in found.meta.note
    assert len(found.time_s) > 5000
    assert ending == ".parquet" or mine.read_text() == "mine"
    assert not left(project)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_keeps_it(project: Project, tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "trace.parquet"
    runner = start(project, "record", "-o", file)
    assert runner.stderr
    until_it_says(runner.stderr, "waiting for the first sample")
    time.sleep(1.0)
    runner.send_signal(number)
    said, errors = runner.communicate(timeout=30)
    assert runner.returncode == 0, errors
    assert str(file) in said
    assert len(trace.read(file).time_s) > 2000
    assert trace.read(file).meta.complete
    assert not left(project)


def test_live(project: Project, tmp_path: Path) -> None:
    """The page is there before the first sample, on loopback, and its samples are those of the file."""
    file = tmp_path / "trace.parquet"
    runner = start(project, "live", "-o", file)
    assert runner.stderr
    url = re.search(r"http://127\.0\.0\.1:\d+/", until_it_says(runner.stderr, "live view:"))
    assert url
    with urllib.request.urlopen(url[0]) as page:
        assert b"<canvas" in page.read()
    port = url[0].rpartition(":")[2].strip("/")
    listening = subprocess.check_output(["ss", "-Hltn", f"sport = :{port}"], text=True).split()
    assert listening[3] == f"127.0.0.1:{port}"
    other = call(project, "record", "-o", tmp_path / "other.parquet")
    assert (other.returncode, "in use" in other.stderr) == (4, True)
    with urllib.request.urlopen(f"{url[0]}stream?span=1&columns=100") as stream:
        events = (json.loads(line[6:]) for line in stream if line.startswith(b"data: "))
        assert next(event for event in events if event["samples"] > 1000)
        runner.send_signal(signal.SIGINT)
        *_, last = events
    said, _ = runner.communicate(timeout=30)
    assert runner.returncode == 0
    assert last["ended"]
    assert last["samples"] == len(trace.read(file).time_s)
    assert "samples" in said


def test_live_without_a_file_keeps_none(project: Project) -> None:
    done = call(project, "live", "--meter-set", "lost_after_s=0.5")
    assert done.returncode == 4
    assert "kept in" not in done.stderr
    assert "unplugged" in done.stderr
    assert not left(project)


def test_one_line_in_a_terminal(project: Project, tmp_path: Path) -> None:
    """Time, samples, dropped and power, written anew, on standard error."""
    mine, its = pty.openpty()
    runner = start(project, "record", "-o", tmp_path / "trace.parquet", "--duration-s", "2", errors=its)
    os.close(its)
    shown = b""
    while True:
        try:
            piece = os.read(mine, 4096)
        except OSError:
            break
        shown += piece
    os.close(mine)
    assert runner.wait(30) == 0
    assert runner.stdout
    runner.stdout.close()
    lines = shown.decode().split("\r\x1b[K")
    assert len(lines) > 3
    assert re.match(r"[12]\.\d s, \d+ samples, 0 dropped, (0\.5|1\.|2\.)\S* W", lines[-1])
    assert lines[-1].endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["-o", "missing/trace.parquet"], 2, "mkdir -p"),
        (["-o", "a.parquet", "--meter-serial", "W-9"], 4, "no meter wave with the serial number W-9"),
        (["-o", "a.parquet", "--samples", "5"], 2, "has no 'samples'"),
        (["-o", "a.parquet", "--meter", "wav"], 2, "Did you mean wave"),
        (["-o", "a.parquet", "--engine", "nix"], 2, "no engine"),
        (["-o", "a.parquet", "--work", "runner.py"], 2, "cannot be used"),
    ],
)
def test_what_is_refused_before_anything_is_recorded(
    project: Project, arguments: list[str], exit_code: int, said: str
) -> None:
    done = call(project, "record", *arguments)
    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "a.parquet").exists()
    assert not left(project)


def test_where_a_trace_cannot_go(tmp_path: Path) -> None:
    (tmp_path / "there.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, said in (
        ("trace.txt", "ends in neither"),
        ("there.csv", "is there already"),
        ("there.csv/x.csv", "is not a folder"),
        ("folder.csv", "is not a plain file"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            power.check_output(tmp_path / name, force=False)
    power.check_output(tmp_path / "there.csv", force=True)


def test_a_port_in_use(project: Project) -> None:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        mine.listen()
        port = mine.getsockname()[1]
        done = call(project, "live", "--port", port)
    assert (done.returncode, f"port {port}" in done.stderr) == (7, True)


def until_it_says(stream: Iterator[str], text: str) -> str:
    said = []
    for line in stream:
        said.append(line)
        if text in line:
            return line
    pytest.fail(f"it never said {text}, but {said}")
