"""THE CONTRACT between the runner (host) and the tools (containers).

Standard library only, Python 3.7 syntax: this is the one module both sides import. Two things that Python
3.7 lacks, the `typing` of 3.9 and `importlib.metadata`, come from their backports there.

A *stage* is one command of one tool: it reads `inputs` (files), creates `outputs` (files) and takes
`params` (plain values). It works in a folder of its own: the host puts `request.json` there, the tool
leaves `result.json`, written last and atomically. Every path is relative to that folder, so no engine
translates paths. A tool declares itself with `Tool` and one typed function per command:

    tool = Tool("onnx", packages=("onnxruntime",))

    @tool.command()
    def info(onnx: Input, table: Output = "{model}.nodes.json", top: int = 10) -> Result: ...

The signature is the declaration: the host plans from it (which command makes the artifact `onnx`, what
`info` leaves behind), `tools/cli.py` makes a command line of it, and a request calls it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gc
import inspect
import json
import os
import platform
import queue
import re
import signal
import subprocess
import sys
import threading
import traceback
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Optional

if sys.version_info >= (3, 9):
    from importlib import metadata
    from typing import Annotated, get_args, get_type_hints
else:
    import importlib_metadata as metadata
    from typing_extensions import Annotated, get_args, get_type_hints

SCHEMA = 1  # 1: first version

REQUEST = "request.json"
RESULT = "result.json"

Input = Annotated[Path, "input"]
Output = Annotated[Path, "output"]
Parser = Callable[[Path], "Mapping[str, Any]"]


class StageError(Exception):
    """A failure the user can act on: what happened, why, and (`hint`) what to do next.

    `exit_code` names the class of error to a shell, `status` names it in results.json. `metrics` and
    `metadata` carry what was found out before the failure, e.g. how far a wrong output is off.
    """

    exit_code = 1
    status = "failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        metrics: Optional[Mapping[str, float]] = None,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.metrics = dict(metrics or {})
        self.metadata = dict(metadata or {})

    def one_line(self) -> str:
        """What happened and what to do, as one line for a terminal or a log."""
        text = f"{self}. {self.hint}" if self.hint else str(self)
        return " ".join(text.split())


class InvalidRequest(StageError):
    """The request itself is wrong: a name, a parameter, a file that is not what it should be."""

    exit_code = 2


class Unsupported(StageError):
    """The toolchain cannot do it (operator, precision, device)."""

    exit_code = 3
    status = "unsupported"


class DeviceNotFound(StageError):
    """The device that the stage needs is not there."""

    exit_code = 4
    status = "no_device"


class SdkMissing(StageError):
    """A licensed SDK that the user has to supply is not there."""

    exit_code = 5
    status = "no_sdk"


class WrongOutput(StageError):
    """The backend computes something else than the reference; it gets no latency and no energy."""

    exit_code = 6
    status = "wrong_output"


class Unavailable(StageError):
    """The tool itself cannot run here: no image, no interpreter, no package index."""

    exit_code = 7
    status = "unavailable"


ERRORS: Mapping[int, type[StageError]] = {
    error.exit_code: error
    for error in (
        StageError,
        InvalidRequest,
        Unsupported,
        DeviceNotFound,
        SdkMissing,
        WrongOutput,
        Unavailable,
    )
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What the host asks for. `inputs` and `outputs` map artifact names to paths relative to the folder."""

    tool: str
    command: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    params: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write `folder`/request.json."""
        write_json(folder / REQUEST, {"schema": SCHEMA, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Request:
        """Read `folder`/request.json."""
        return cls(**_read_json(folder / REQUEST))


@dataclasses.dataclass(frozen=True)
class Result:
    """What a tool leaves in result.json. Units are part of a metric's name: `latency_p90_ms`.

    `outputs` maps artifact names to file names in the stage folder. `error` is set instead of raising
    across the border: `{"exit_code", "message", "hint"}`. `emulated` is set where the network was checked
    on an emulator, where time means nothing: `{"reason", "hint"}`.
    """

    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    error: Optional[Mapping[str, Any]] = None
    emulated: Optional[Mapping[str, str]] = None

    def write(self, folder: Path) -> None:
        """Write `folder`/result.json, atomically."""
        write_json(folder / RESULT, {"schema": SCHEMA, **dataclasses.asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> Result:
        """Read `folder`/result.json.

        Raises:
            StageError: there is none, because the tool ended before it wrote one.
            InvalidRequest: it is not JSON of this schema, so image and runner are of different versions.
        """
        return cls(**_read_json(folder / RESULT))

    @classmethod
    def of_error(cls, error: StageError, versions: Mapping[str, str]) -> Result:
        """Return the result that carries `error` across the border."""
        what = {"exit_code": error.exit_code, "message": str(error), "hint": error.hint}
        return cls(metrics=error.metrics, metadata=error.metadata, versions=versions, error=what)

    def raise_error(self) -> None:
        """Raise the error that the tool reported, as the class that its exit code names."""
        if self.error is None:
            return
        error_class = ERRORS.get(self.error["exit_code"], StageError)
        raise error_class(
            self.error["message"],
            hint=self.error.get("hint", ""),
            metrics=self.metrics,
            metadata=self.metadata,
        )


@dataclasses.dataclass(frozen=True)
class Command:
    """One command of a tool, as its function's signature declares it.

    Attributes:
        inputs: names of the artifacts it reads; `optional` are those it can do without.
        outputs: artifact name -> file name, in which `{model}` stands for the model's name.
        params: parameter name -> default; `inspect.Parameter.empty` where there is none, then the model
            zoo's row or `--set` has to supply it.
        measures: it takes a measurement, so it runs alone, in a process of its own, and is never cached.
        cached: its result may be taken from the store (never true of a command that measures).
        fresh: it looks at the machine, so it is run each time; what it makes is kept, and by its content it
            is part of the keys of those that read it.
        sdk: it drives the user's SDK, whose content is then a part of its result's key.
        on_board: it has to run where the accelerator is: on the board that --device names, if one is.
        meter: its name for `--meter`, if it records a power trace (tools/recording.py); never cached.
        variants: parameter sets that the main job runs this command with, one stage each.
    """

    tool: str
    name: str
    function: Callable[..., Result]
    inputs: tuple[str, ...]
    optional: tuple[str, ...]
    outputs: Mapping[str, str]
    params: Mapping[str, Any]
    measures: bool
    cached: bool
    fresh: bool
    sdk: bool
    on_board: bool
    meter: str
    variants: tuple[Mapping[str, Any], ...]

    @property
    def full_name(self) -> str:
        """`tool.command`, as a person names the stage."""
        return f"{self.tool}.{self.name}"

    @property
    def runs_as(self) -> str:
        """What an engine is asked to start: the tool, or `tool:sdk`, which may be another build of it."""
        return f"{self.tool}:sdk" if self.sdk else self.tool


class Tool:
    """A toolchain's commands.

    Attributes:
        packages: the distributions whose versions go into every result.
        python: the Python version that its lock file is made for (the venv engine looks for it).
        builds: its other builds, of the same code with other packages: name -> Python version. The build
            `legacy` of `tf1` is the service `tf1-legacy`, with the lock requirements-legacy.txt.
        restriction: the licence of a package that forbids passing its images on, if one does; they are then
            built where they are needed, and never pushed or pulled.
        sdk: it drives an SDK that the user supplies; its folder is in the variable `sdk_variable`.
        sdk_build: from an SDK's folder to the build that its programs need for commands with `sdk=True`, ""
            for the usual one.
        board_build: from a board's L4T release, e.g. `32.7.1`, "" where it has none, to the build that runs
            there and the base of its image; the usual build and base where either is "".
    """

    def __init__(
        self,
        name: str,
        *,
        packages: Iterable[str] = (),
        python: str = "3.11",
        builds: Optional[Mapping[str, str]] = None,
        restriction: str = "",
        sdk: bool = False,
        sdk_build: Optional[Callable[[Path], str]] = None,
        board_build: Optional[Callable[[str], tuple[str, str]]] = None,
    ) -> None:
        self.name = name
        self.packages = tuple(packages)
        self.python = python
        self.builds = dict(builds or {})
        self.restriction = restriction
        self.sdk_variable = f"MOBILE_ACCELERATOR_{name.upper()}_SDK" if sdk else ""
        self.sdk_build = sdk_build
        self.board_build = board_build
        self.commands: dict[str, Command] = {}
        self.parsers: dict[str, Parser] = {}

    def command(
        self,
        *,
        measures: bool = False,
        cached: bool = True,
        fresh: bool = False,
        sdk: bool = False,
        on_board: bool = False,
        meter: str = "",
        variants: Iterable[Mapping[str, Any]] = ({},),
    ) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
        """Register a function as a command; its name, with dashes, is the command's name."""

        def register(function: Callable[..., Result]) -> Callable[..., Result]:
            name = _command_name(function)
            hints = get_type_hints(function, include_extras=True)
            fields = inspect.signature(function).parameters
            marks = {key: _mark(hints.get(key)) for key in fields}
            inputs = [key for key in fields if marks[key] == "input"]
            self.commands[name] = Command(
                tool=self.name,
                name=name,
                function=function,
                inputs=tuple(inputs),
                optional=tuple(key for key in inputs if fields[key].default is None),
                outputs={key: fields[key].default for key in fields if marks[key] == "output"},
                params={key: fields[key].default for key in fields if marks[key] is None},
                measures=measures,
                cached=cached and not (measures or meter),
                fresh=fresh,
                sdk=sdk,
                on_board=on_board,
                meter=meter,
                variants=tuple(variants),
            )
            return function

        return register

    def parser(self, function: Parser) -> Parser:
        """Register a function that reads a file which a vendor's program printed.

        It is a command for a person, FILE in and a table or JSON out, and no stage: no plan has it. What it
        returns has `status`, `ok` or `failed`, and with the latter `reason` and `hint`.
        """
        self.parsers[_command_name(function)] = function
        return function

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that make this toolchain."""
        found = {"python": platform.python_version()}
        for package in self.packages:
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(package)
        return found

    def sdk_folder(self) -> Optional[Path]:
        """Return the folder of the SDK that the user supplies, None if none was given."""
        folder = os.environ.get(self.sdk_variable)
        return Path(folder) if folder else None

    def main(self) -> None:
        """The last line of every tool: its command line for people and for the host."""
        from tools import cli

        cli.main(self)

    def serve(self) -> int:
        """Run the stage folders that the host names on standard input, until it closes it."""
        return self.batch(_folders_from_host())

    def batch(self, folders: Iterable[str]) -> int:
        """Run several stage folders in this process; return the first error's exit code, else 0."""
        os.dup2(2, 1)  # what a toolchain prints belongs to the log, which is standard error
        start, exit_code = os.getcwd(), 0
        for folder in folders:
            result = self._run(Path(start, folder))
            if result.error and not exit_code:
                exit_code = result.error["exit_code"]
            _give_memory_back()
            emit({"done": folder})
        return exit_code

    def _run(self, folder: Path) -> Result:
        """Run one stage folder and leave its result.json, whatever happens."""
        home = os.getcwd()
        os.chdir(folder)  # contextlib.chdir starts at Python 3.11
        try:
            request = Request.read(Path())
            command = self._find(request)
            if command.measures:
                self._run_apart(command)
            else:
                self._call(command, request).write(Path())
            return Result.read(Path())
        except StageError as error:
            result = Result.of_error(error, self.versions())
            result.write(Path())
            return result
        finally:
            os.chdir(home)

    def _find(self, request: Request) -> Command:
        if request.tool != self.name or request.command not in self.commands:
            message = f"this is {self.name}, which has no {request.tool}.{request.command}"
            hint = f"Its commands: {', '.join(self.commands)}. Is the image older than the runner?"
            raise InvalidRequest(message, hint=hint)
        return self.commands[request.command]

    def _call(self, command: Command, request: Request) -> Result:
        """Call the command's function; every failure becomes a result with `error`."""
        files = {key: Path(path) for key, path in {**request.inputs, **request.outputs}.items()}
        try:
            result = command.function(**files, **request.params)
            missing = [path for path in request.outputs.values() if not Path(path).exists()]
            if missing:
                message = f"{command.full_name} ended without making {', '.join(missing)}"
                raise StageError(message, hint="This is a defect of the tool; please report it.")
        except StageError as error:
            return self._failed(error, request)
        except MemoryError:
            hint = "Free some memory. A container's limit is the tool's mem_limit in compose.yaml."
            return self._failed(StageError(f"{command.full_name} ran out of memory", hint=hint), request)
        except Exception as error:  # noqa: BLE001 - a toolchain may raise anything; the host must hear of it
            traceback.print_exc()  # into the log; the user sees the line below
            return self._failed(StageError(first_line(error), hint="See the log."), request)
        return dataclasses.replace(
            result,
            outputs={**request.outputs, **result.outputs},
            versions={**self.versions(), **result.versions},
        )

    def _failed(self, error: StageError, request: Request) -> Result:
        """Return the failure's result. It names input files without their folders, which are the store's."""
        result = Result.of_error(error, self.versions())
        message = str(error)
        for folder in {Path(path).parent for path in request.inputs.values()} - {Path()}:
            message = message.replace(f"{folder}/", "")
        return dataclasses.replace(result, error={**(result.error or {}), "message": message})

    def _run_apart(self, command: Command) -> None:
        """Measure in a new process: its peak memory is this model's alone, its crash ends only itself.

        New, not forked: a toolchain that was used before (OpenVINO to convert) has threads that a fork does
        not take along, and then runs on one thread without saying so.
        """
        argv = [sys.executable, "-m", f"tools.{self.name}", "measure", "."]
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
        if code < 0:
            name = signal.Signals(-code).name
            message = f"{command.full_name} was ended by {name} while it measured"
            why = "The kernel ran out of memory" if name == "SIGKILL" else "The runtime crashed on this file"
            raise StageError(message, hint=f"{why}; the log says more.")

    def measure(self, folder: Path) -> None:
        """Run one stage folder in this process, which `serve` and `batch` start for it."""
        os.chdir(folder)
        request = Request.read(Path())
        self._call(self._find(request), request).write(Path())


def progress(fraction: float, message: str = "") -> None:
    """Tell the host how far the stage is (0 to 1); it shows as a bar."""
    emit({"progress": round(fraction, 4), "message": message})


def emit(event: Mapping[str, Any]) -> None:
    """Write one event line for the host; all other lines on standard error are the log."""
    os.write(2, (json.dumps(event) + "\n").encode())  # one write: lines of threads do not mix


def write_json(path: Path, data: object) -> None:
    """Write atomically: a process that is killed leaves the old file or none, never half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=2) + "\n")
    part.replace(path)


def first_line(error: BaseException) -> str:
    """The first line of an exception that says something, with its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:400]}" if lines else type(error).__name__


def check_name(name: str, what: str) -> str:
    """Return `name` if it is one plain path component, so that it cannot lead out of its folder.

    Raises:
        InvalidRequest: it holds a separator, starts with a dot, or is empty.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        message = f"{name!r} is not a name for a {what}"
        raise InvalidRequest(message, hint="Use letters, digits, '.', '_', '+' and '-' only.")
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        message = f"the tool ended without writing {path.name}"
        raise StageError(message, hint="Its log says more.") from None
    except ValueError:
        message = f"{path.name} is not JSON"
        raise InvalidRequest(message, hint="Rebuild the image: python runner.py images build") from None
    found = data.pop("schema", None) if isinstance(data, dict) else None
    if found != SCHEMA:
        message = f"{path.name} has schema {found}, this side has schema {SCHEMA}"
        raise InvalidRequest(message, hint="Rebuild the image: python runner.py images build")
    return typing.cast("dict[str, Any]", data)


def _command_name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", "-")


def _mark(hint: Any) -> Optional[str]:
    """`input` or `output` for a parameter annotated `Input` or `Output`, else None."""
    for candidate in (hint, *get_args(hint)):  # Optional[Input] wraps it once more
        for extra in getattr(candidate, "__metadata__", ()):
            if extra in ("input", "output"):
                return typing.cast("str", extra)
    return None


def _give_memory_back() -> None:
    """Leave the next stage a small process: graphs are in cycles, and the C library keeps what is freed.

    Without it TensorFlow's process holds 2 GB of one large network for all that follow.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc does it by itself
        ctypes.CDLL(None).malloc_trim(0)


def _folders_from_host() -> Iterator[str]:
    """Yield stage folders as the host sends them, a line each, until it closes standard input.

    A thread reads, so that a host that died is seen in the middle of a stage too: then this process
    group is killed, and nothing goes on unseen (the same in a container and in a plain process).
    """
    lines: queue.SimpleQueue[Optional[str]] = queue.SimpleQueue()
    ended = threading.Event()

    def read() -> None:
        rest = b""
        # not sys.stdin, whose lock this thread would hold at exit
        for chunk in iter(functools.partial(os.read, 0, 4096), b""):
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                lines.put(line.decode())
        lines.put(None)
        if not ended.wait(timeout=1):
            os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=read, daemon=True).start()
    yield from iter(lines.get, None)
    ended.set()
