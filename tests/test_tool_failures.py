"""A tool may do anything; the runner says what it did, loses nothing and leaves nothing half-made."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.project import LAB, Project

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.copy(tmp_path_factory.mktemp("naughty") / "project")
    project.add_tool("naughty", LAB / "naughty.py")
    return project


def run(project: Project, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    return project.run("run", f"naughty.{command}", "--model", "squeezenet", *more)


def test_good_is_cached_the_second_time(project: Project) -> None:
    first = run(project, "good", "--set", "text=once")
    again = run(project, "good", "--set", "text=once")
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "cached" not in first.stderr
    assert "cached" in again.stderr
    assert (project.work / "models" / "squeezenet" / "squeezenet.txt").read_text() == "once"


def test_what_is_of_one_place_is_made_again_in_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built_in(place: str) -> tuple[str, bool]:
        monkeypatch.setenv("NAUGHTY_PLACE", place)
        done = run(project, "built")
        assert done.returncode == 0, done.stderr
        assert "naughty.look: cached" not in done.stderr
        text = (project.work / "models" / "squeezenet" / "squeezenet.building.txt").read_text()
        return text, "naughty.built: cached" in done.stderr

    assert built_in("here") == ("built here", False)
    assert built_in("here") == ("built here", True)
    assert built_in("there") == ("built there", False)
    assert built_in("here") == ("built here", True)  # kept, as that of its place


@pytest.mark.parametrize(
    ("command", "settings", "exit_code", "said"),
    [
        ("killed", [], 1, "SIGKILL"),
        ("silent", [], 1, "without writing result.json"),
        ("forgetful", [], 1, "without making squeezenet.forgotten"),
        ("hanging", ["--limit-s", "2"], 1, "time limit of 2 s"),
        ("foreign", [], 2, "has schema 99"),
        ("raising", ["--set", "kind=bug"], 1, "ZeroDivisionError"),
        (
            "raising",
            ["--set", "kind=unsupported"],
            3,
            "operator Sin cannot be converted. Use another network.",
        ),
        ("benchmark", [], 1, "SIGSEGV"),
    ],
)
def test_misbehaviour_is_told_and_leaves_nothing(
    project: Project, command: str, settings: list[str], exit_code: int, said: str
) -> None:
    done = run(project, command, *settings)
    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not project.parts()
    stages = project.results()["run"]["stages"]
    assert stages[-1]["status"] != "ok"
    assert stages[-1]["reason"]


def test_last_words_are_in_the_log(project: Project) -> None:
    run(project, "killed")
    log = project.work / "runs" / "latest" / "logs" / "squeezenet.naughty.killed.log"
    assert log.read_text() == "last words\n"


def test_a_measurement_has_a_process_of_its_own(project: Project) -> None:
    """A fork after the toolchain was used halved OpenVINO's speed: its threads do not come along."""
    done = run(project, "fresh")
    assert done.returncode == 3, done.stderr
    assert "as new" in done.stderr


def test_one_record_for_a_crash_while_measuring(project: Project) -> None:
    run(project, "benchmark")
    [record] = project.results()["records"]
    assert record["status"] == "failed"
    assert record["latency_ms"] is None
    assert "SIGSEGV" in record["reason"]
    assert record["hint"]


def test_tampered_entry_is_refused_until_it_is_removed(project: Project) -> None:
    setting = ("--set", "text=precious")
    run(project, "good", *setting)
    [file] = [path for path in project.work.glob("store/*/squeezenet.txt") if path.read_text() == "precious"]
    file.chmod(0o644)
    file.write_text("PRECIOUS")
    done = run(project, "good", *setting)
    assert done.returncode == 1
    assert "was changed after it was made" in done.stderr
    assert f"clean --key {file.parent.name}" in done.stderr
    cleaned = project.call(project.argv("clean", "--work", str(project.work), "--key", file.parent.name))
    assert cleaned.returncode == 0, cleaned.stderr
    assert run(project, "good", *setting).returncode == 0
    assert file.read_text() == "precious"


def test_copied_work_folder_is_hashed_and_believed(project: Project, tmp_path: Path) -> None:
    run(project, "good")
    shutil.copytree(project.work, tmp_path / "work", symlinks=True)
    done = Project(project.folder, tmp_path / "work").run("run", "naughty.good", "--model", "squeezenet")
    assert done.returncode == 0, done.stderr
    assert "cached" in done.stderr


def test_second_runner_on_the_same_folder_is_told_who_has_it(project: Project) -> None:
    argv = project.argv("run", "naughty.good", "--model", "squeezenet", "--set", "seconds=5")
    argv += ["--work", str(project.work), "--engine", "venv"]
    with subprocess.Popen(argv, cwd=project.folder, stderr=subprocess.DEVNULL) as first:
        wait_until(lambda: (project.work / "lock").read_text() == str(first.pid))
        second = run(project, "good")
        assert second.returncode == 1
        assert f"another runner (process {first.pid})" in second.stderr
        assert first.wait() == 0


def test_interrupt_ends_the_tool_and_the_next_run_goes_on(project: Project) -> None:
    runner = start(project, "good", "--set", "seconds=30")
    wait_until(lambda: bool(list(project.work.glob("store/*.part/request.json"))))
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=20) == 130
    assert not tool_processes(project)
    assert not project.parts()
    assert project.results()["run"]["stages"][-1]["reason"] == "interrupted by the user"
    assert run(project, "good").returncode == 0


def test_killed_at_ten_random_moments(project: Project) -> None:
    moments = random.Random(1)
    for _ in range(10):
        runner = start(project, "good", "--set", "seconds=1", "--set", f"text={moments.random()}")
        time.sleep(moments.uniform(0.0, 2.5))
        runner.kill()
        runner.wait()
        wait_until(lambda: not tool_processes(project))  # nothing goes on unseen
        for folder in (project.work / "store").iterdir():
            assert folder.suffix == ".part" or (folder / "manifest.json").exists()
    done = run(project, "good", "--set", "text=after")
    assert done.returncode == 0, done.stderr
    assert not project.parts()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; mounting one needs root, which CI is."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "size=8m") as folder:
        yield folder


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "read-only", "ro") as folder:
        yield folder


def test_full_disk(project: Project, small_disk: Path) -> None:
    on_small = Project(project.folder, small_disk / "work")
    done = on_small.run("run", "naughty.filling", "--model", "squeezenet")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert not on_small.parts()
    fits = on_small.run("run", "naughty.filling", "--model", "squeezenet", "--set", "megabytes=2")
    assert fits.returncode == 0, fits.stderr


def test_work_folder_that_is_no_folder(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = Project(project.folder, tmp_path / "file" / "work").run(
        "run", "naughty.good", "--model", "squeezenet"
    )
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert "--work" in done.stderr


def test_work_folder_that_is_not_writable(project: Project, read_only_disk: Path) -> None:
    for work in (read_only_disk, read_only_disk / "work"):
        done = Project(project.folder, work).run("run", "naughty.good", "--model", "squeezenet")
        assert done.returncode == 2
        assert "--work" in done.stderr
        assert "Traceback" not in done.stderr


def start(project: Project, command: str, *more: str) -> subprocess.Popen[bytes]:
    argv = project.argv("run", f"naughty.{command}", "--model", "squeezenet", *more)
    argv += ["--work", str(project.work), "--engine", "venv"]
    return subprocess.Popen(argv, cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def tool_processes(project: Project) -> list[str]:
    """Command lines of this project's tools that run now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_text().split("\0")
            cwd = (process / "cwd").resolve()
        except OSError:  # it ended meanwhile
            continue
        if "tools.naughty" in argv and project.work in (cwd, *cwd.parents):
            found.append(" ".join(argv))
    return found


def wait_until(condition: Callable[[], bool], limit_s: float = 15.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)
