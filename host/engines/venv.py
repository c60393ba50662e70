"""The `venv` engine: a tool's lock file in a cached virtual environment, for machines with no Docker engine.

Environments live in the user's cache folder, one per lock file: `<service>-<hash of the lock>`. They are made
by `uv`, of an interpreter that is installed, or that it fetches where it can.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import platformdirs
import uv

from host import ROOT, adb
from host.engines import Note, name_of, service_of
from host.toolbox import Build, builds, tools
from tools.stage import Unavailable

CACHE = "MOBILE_ACCELERATOR_CACHE"
CLOSE_LIMIT_S = 30  # all results are written by then, so a toolchain that hangs at exit loses nothing
ZOO = "models.toml"
COMPLETE = "complete"  # written last: an environment without it was left half-made and is made again


class VenvEngine:
    """Runs `python -m tools.<tool> serve` in the tool's environment."""

    name = "venv"

    def __init__(self, why: str, builds: Mapping[str, str] = MappingProxyType({})) -> None:
        self.why = why
        self.builds = builds

    @functools.cache  # noqa: B019 - an engine lives as long as the program
    def toolchain(self, tool: str) -> str:
        """Hash of the lock file and of the code that an image of the tool would hold."""
        digest = hashlib.sha256(self._build(tool).lock.read_bytes())
        for path in sources(name_of(tool)):
            digest.update(path.name.encode() + path.read_bytes())
        return f"venv:{digest.hexdigest()}"

    def owner(self, tool: str) -> None:
        """Tools run as the caller."""

    def start(self, tool: str, work: Path, note: Note) -> ToolProcess:
        """Start the tool; make its environment first if it is not there."""
        python = environment(self._build(tool).service, note)
        variables = tool_environment() | {adb.ADDRESS: f"localfilesystem:{work / adb.SOCKET}"}
        return ToolProcess([str(python), "-m", f"tools.{name_of(tool)}", "serve"], work, variables)

    def _build(self, tool: str) -> Build:
        return builds()[service_of(tool, self.builds)]


class ToolProcess:
    """A tool as a child in a process group of its own, so that Ctrl-C and kill reach all or nothing of it."""

    def __init__(self, argv: list[str], work: Path, variables: Mapping[str, str]) -> None:
        self.command = shlex.join(argv)
        self._child = subprocess.Popen(
            argv,
            cwd=work,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def send(self, line: str) -> None:
        """Write one line to its standard input."""
        assert self._child.stdin is not None
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()

    def share(self, path: str) -> None:
        """Do nothing: it sees the work folder."""

    def lines(self) -> Iterator[str]:
        """Yield what it prints."""
        assert self._child.stderr is not None
        with self._child.stderr as stream:
            for line in stream:
                yield line.decode(errors="replace").rstrip("\n")

    def close(self) -> str:
        """Close its standard input, wait for its end, say how it ended."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        try:
            return how_it_ended(self._child.wait(CLOSE_LIMIT_S))
        except subprocess.TimeoutExpired:
            return f"killed, {CLOSE_LIMIT_S} s after it was told to end"
        finally:
            self.kill()  # what it started and left

    def kill(self) -> None:
        """End its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


def how_it_ended(code: int) -> str:
    """'exit code 3' or 'SIGKILL', from a return code in Python's or a shell's convention."""
    number = -code if code < 0 else code - 128
    if code in range(129):
        return f"exit code {code}"
    return signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"


def tool_environment() -> dict[str, str]:
    """The caller's variables, less what would let other Python packages in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}


def sources(tool: str) -> list[Path]:
    """Return the files of a tool's code: the contract, the shared modules and its own.

    The zoo is not code and no tool reads it, so an image does not hold it either (.dockerignore).
    """
    folder = ROOT / "tools"
    others = {*tools(), ZOO} - {tool}
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(
        path for path in files if path.relative_to(folder).parts[0].removesuffix(".py") not in others
    )


def packages(lock: Path) -> list[str]:
    """Return the pins of a lock's direct needs on this kind of machine, e.g. `tensorflow-cpu==2.15.1`."""
    lines = lock.with_suffix(".in").read_text().splitlines()
    pins = [
        re.fullmatch(r"([A-Za-z][^\s;#]*)(?:; platform_machine == \"(\w+)\")?(?: #.*)?", line)
        for line in lines
    ]
    return [pin[1] for pin in pins if pin and pin[2] in (None, platform.machine())]


def cache_folder() -> Path:
    """Return where environments are kept; $MOBILE_ACCELERATOR_CACHE moves it."""
    moved = os.environ.get(CACHE)
    return Path(moved) if moved else platformdirs.user_cache_path("mobile-accelerator")


def installed_python(version: str) -> Path | None:
    """Return an interpreter of that version on this machine: this one, one of pyenv's, or what uv finds.

    uv comes last because it looks on PATH, where pyenv has stand-ins that take 0.1 s each to fail for every
    version that is not chosen with `pyenv global`.
    """
    if platform.python_version().startswith(f"{version}."):
        return Path(sys.executable)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    if found := sorted(root.glob(f"versions/{version}.*/bin/python{version}"), key=_patch_level):
        return found[-1]
    argv = [uv.find_uv_bin(), "python", "find", "--no-config", "--no-python-downloads", version]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _patch_level(python: Path) -> int:
    patch = python.parents[1].name.rpartition(".")[2]
    return int(patch) if patch.isdigit() else -1  # a release candidate


def environment(service: str, note: Note) -> Path:
    """Return the interpreter of a service's environment, which is made first if it is not there.

    Raises:
        Unavailable: no interpreter of the wanted version, or a package could not be installed.
    """
    build = builds()[service]
    lock = build.lock
    name = f"{service}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    folder = cache_folder() / "venvs" / name
    python = folder / "bin" / "python"
    if (folder / COMPLETE).exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # a second runner waits, then finds it made
        if not (folder / COMPLETE).exists():
            note(f"{service}: making its environment (Python {build.python}): {', '.join(packages(lock))}")
            interpreter = str(installed_python(build.python) or build.python)  # which uv then fetches
            _uv(build, "venv", "--quiet", "--clear", "--no-config", "--python", interpreter, str(folder))
            _uv(
                build,
                "pip",
                "install",
                "--quiet",
                "--no-config",
                "--require-hashes",
                "--python",
                str(python),
                "-r",
                str(lock),
            )
            (folder / COMPLETE).touch()
    return python


def _uv(build: Build, *arguments: str) -> None:
    done = subprocess.run([uv.find_uv_bin(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        message = f"the environment of {build.service} could not be made: {' '.join(lines)[:600]}"
        hint = (
            f"It needs Python {build.python} and a package index; python runner.py doctor says what is here"
        )
        raise Unavailable(message, hint=hint)
