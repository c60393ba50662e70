"""The runner's `power` commands for a meter by itself: record it, show it live, say which there are."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from host import meters, show
from host.adb import bridge
from host.engines import Engine
from host.engines.choose import choose
from host.jobs import input_file, note
from host.options import Recording
from host.session import Session
from tools.recording import STOP
from tools.stage import Command, InvalidRequest, Request, Result, StageError, Unavailable

LOOPBACK = "127.0.0.1"
NETWORK, PORT = "MOBILE_ACCELERATOR_LIVE_NETWORK", "MOBILE_ACCELERATOR_LIVE_PORT"  # compose.yaml reads them
ENDINGS = (".parquet", ".csv")
STAGE = "stage"  # the folder in which the tool works, in that of the recording
FOR_EVER_S = 1e8  # a recording has no time limit but its own
QUIET_S = 10.0  # between lines where there is no terminal to write one line anew


def record(recording: Recording, output: Path) -> int:
    """Record a meter to a file until it is told to stop; return the exit code."""
    return _carry_out(recording, output, {})


def live(recording: Recording, output: Path | None, port: int) -> int:
    """Record a meter and show it on a page of this machine meanwhile; return the exit code."""
    return _carry_out(recording, output, {"live_port": _free_port(port)})


def list_meters(*, as_json: bool) -> None:
    """Print every kind of meter that is known, and those of it that are here."""
    found = {name: meters.present(command) or [] for name, command in meters.commands().items()}
    if as_json:
        show.print_json({name: [dataclasses.asdict(one) for one in here] for name, here in found.items()})
        return
    rows = []
    for name, here in found.items():
        what = (meters.commands()[name].function.__doc__ or "").partition("\n")[0]
        rows += [
            ("not usable" if one.problem else "here", name, one.serial, f"{one.name}{_because(one.problem)}")
            for one in here
        ] or [("none", name, "", what)]
    show.table(("state", "meter", "serial", "what"), rows)
    for name, here in found.items():
        for hint in dict.fromkeys(one.hint for one in here if one.problem):
            print(f"{name}: {hint}")


def _because(problem: str) -> str:
    return f": {problem}" if problem else ""


def _carry_out(recording: Recording, output: Path | None, params: Mapping[str, Any]) -> int:
    """Choose, hold and record the meter; keep what was recorded whatever ended it."""
    if output:
        check_output(output, force=recording.force)
    file = output.name if output else f"trace{ENDINGS[0]}"
    meter, settings = recording.meter or meters.AUTO, {**recording.settings, **params}
    with meters.held(meter, recording.meter_serial, recording.sets, settings) as chosen:
        assert chosen
        if chosen.missing:
            raise chosen.missing
        assert chosen.command
        given = _inputs(recording.input or (), chosen.command)
        with _folder(recording.work.resolve() / "power") as folder:
            request = _request(chosen.command, chosen.params, given, file)
            for path in given.values():
                shutil.copyfile(path, folder / path.name)
            result = _run(request, chosen.command, recording, folder)
            kept = _keep(folder / STAGE / file, output, result) if output else None
    _raise_error(result, file, kept)
    _say(result, kept, as_json=recording.as_json)
    return 0


def _request(command: Command, params: Mapping[str, Any], given: Mapping[str, Path], file: str) -> Request:
    """Return the request of a stage that lies in a folder beside the files that it reads."""
    names = {name: f"../{path.name}" for name, path in given.items()}
    return Request(command.tool, command.name, names, {"trace": file}, {**command.params, **params})


def check_output(output: Path, *, force: bool) -> None:
    """See that a file can be written, before anything is recorded for it.

    Raises:
        InvalidRequest: its folder is not there or not writable, the file is there (without `force`) or is no
            plain file, or its name has another ending than .parquet and .csv.
    """
    message, hint = "", ""
    if output.suffix not in ENDINGS:
        message, hint = f"{output} ends in neither of {' and '.join(ENDINGS)}", "The ending says what it is."
    elif not output.parent.is_dir():
        message, hint = f"{output.parent} is not a folder", f"Make it: mkdir -p {output.parent}"
    elif not os.access(output.parent, os.W_OK):
        message, hint = f"{output.parent} is not writable", "Choose another folder."
    elif output.exists() and not output.is_file():
        message, hint = f"{output} is not a plain file", "Choose another name."
    elif output.exists() and not force:
        message, hint = f"{output} is there already", "Choose another name, or replace it with --force."
    if message:
        raise InvalidRequest(message, hint=hint)


def _inputs(texts: Iterable[str], command: Command) -> dict[str, Path]:
    """Return the files that a meter's command reads, by artifact name.

    Raises:
        InvalidRequest: it reads none of that name, or it is not there.
    """
    given = dict(map(input_file, texts))
    for name, path in given.items():
        if name not in command.inputs:
            message = f"the meter {command.meter} reads no {name!r}"
            raise InvalidRequest(message, hint=f"It reads: {', '.join(command.inputs) or 'nothing'}")
        if not path.is_file():
            message = f"{path} is not a file"
            raise InvalidRequest(message, hint="Check the path.")
    return given


def _free_port(port: int) -> int:
    """Return the port if it can be had, any that can for 0.

    Raises:
        Unavailable: another program has it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            message = f"port {port} cannot be had: {error.strerror}"
            raise Unavailable(message, hint="Choose another with --port, or leave it out.") from None
        found: int = probe.getsockname()[1]
    return found


@contextlib.contextmanager
def _folder(work: Path) -> Iterator[Path]:
    """Give a fresh folder of our own, locked while we live; those that killed runners left go first."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        for left in work.glob("*.part"):
            with contextlib.suppress(BlockingIOError), _lock(left):
                shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(suffix=".part", dir=work))
    except OSError as error:
        message = f"the work folder {work} cannot be used: {error.strerror}"
        raise InvalidRequest(message, hint="Choose another with --work") from None
    folder.chmod(0o755)  # a container's user has to come in
    with _lock(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _run(request: Request, command: Command, recording: Recording, folder: Path) -> Result:
    """Run the meter's command in its tool until it ends by itself or is told to stop; return its result."""
    port = request.params.get("live_port")
    if port:
        os.environ.update({NETWORK: "bridge", PORT: str(port)})
    engine = _engine(command, recording, folder)
    note(f"engine {engine.name}: {engine.why}")
    stage = folder / STAGE
    stage.mkdir()
    request.write(stage)
    if owner := engine.owner(command.runs_as):
        os.chown(stage, *owner)
    with contextlib.ExitStack() as stack:
        if "phone" in command.params:
            stack.enter_context(bridge(folder, recording.phone))
        log = stack.enter_context((folder.parent / f"{command.meter}.log").open("w"))
        session = stack.enter_context(_session(engine, command, folder))
        line = stack.enter_context(_Line(f"http://{LOOPBACK}:{port}/" if port else ""))
        stack.enter_context(_stopped_by_signals(lambda: (stage / STOP).touch()))
        try:
            return session.run(stage, log=log, on_progress=line.progress, limit_s=FOR_EVER_S)
        except StageError as error:
            error.hint = f"{error.hint} Its log: {log.name}"
            raise
        except KeyboardInterrupt:
            message = "interrupted a second time, before the recording was written"
            raise StageError(message, hint="The first Ctrl-C ends a recording; give it a moment.") from None


def _engine(command: Command, recording: Recording, folder: Path) -> Engine:
    """Return what runs the meter: as asked, but venv where no container reaches it."""
    contained = [] if meters.host_only(command) else [command.runs_as]
    engine = choose(recording.engine, folder, contained, pull=recording.pull, note=note)
    return meters.engine_for(command, engine)


def _session(engine: Engine, command: Command, folder: Path) -> Session:
    return Session(engine.start(command.runs_as, folder, note), folder)


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM of the block; the second interrupts, as it usually does."""

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Line:
    """What a person sees meanwhile: a line that is written anew in a terminal, one now and then elsewhere."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._said_s = 0.0
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            print(file=sys.stderr)

    def progress(self, _: float, message: str) -> None:
        """Show how far it is; the first time, where the page is and how to stop."""
        if not self._said_s:
            note(f"live view: {self._url}" if self._url else "recording")
            note("Ctrl-C ends it, and keeps what is recorded")
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{message[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said_s >= QUIET_S:
            note(message)
        else:
            return
        self._said_s = time.monotonic()


def _keep(made: Path, output: Path, result: Result) -> Path | None:
    """Move what was recorded to where it is wanted; return where it is, None if there is nothing.

    A recording that failed is Parquet, which can say that it is incomplete, whatever was wanted.

    Raises:
        StageError: it cannot be moved; the message says where it is.
    """
    if result.error and output.suffix != ENDINGS[0]:
        made, output = made.with_suffix(ENDINGS[0]), _unused(output)
    if not made.exists() or not result.metrics.get("samples"):
        return None
    try:
        part = output.with_name(f".{output.name}.part")
        shutil.copyfile(made, part)
        part.replace(output)
    except OSError as error:
        safe = made.replace(made.parents[2] / f"{made.parents[1].stem}-{made.name}")
        message = f"{output} could not be written: {error.strerror}; the recording is {safe}"
        raise StageError(message, hint="Move it to where there is room.") from None
    return output


def _unused(output: Path) -> Path:
    """Return a name for Parquet where another kind of file was asked for, so that nothing is replaced."""
    stems = itertools.chain([output.stem], (f"{output.stem}-{number}" for number in itertools.count(1)))
    return next(path for stem in stems if not (path := output.with_name(f"{stem}{ENDINGS[0]}")).exists())


def _raise_error(result: Result, file: str, kept: Path | None) -> None:
    """Raise what the tool reported; say where the samples are that it kept."""
    try:
        result.raise_error()
    except StageError as error:
        name = Path(file).with_suffix(ENDINGS[0]).name
        what = str(error).removesuffix(f"; {result.metrics.get('samples', 0):.0f} samples are kept in {name}")
        if kept:
            mark = "" if result.metadata["complete"] else ", marked incomplete"
            what += f"; {result.metrics['samples']:.0f} samples are kept in {kept}{mark}"
        raise type(error)(what, hint=error.hint) from None


def _say(result: Result, kept: Path | None, *, as_json: bool) -> None:
    """Print what was recorded."""
    metrics, facts = result.metrics, result.metadata
    if as_json:
        show.print_json({"trace": str(kept) if kept else None, **metrics, "meter": facts})
        return
    name = " ".join(filter(None, (facts["device"] or facts["meter"], facts["serial"])))
    label = " (simulated)" if facts["simulated"] else ""
    counts = (
        f"{metrics['recorded_s']:.1f} s, {metrics['samples']:.0f} samples, {metrics['dropped']:.0f} dropped"
    )
    print(f"{kept or 'not kept (no -o)'}: {counts}; {name}{label}")
