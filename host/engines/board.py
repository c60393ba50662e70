"""The engine of a board: a tool's image on the board's own Docker engine, over SSH.

Docker's SDK and command line can speak to a remote engine by themselves (DOCKER_HOST=ssh://), which logs in
for every call, needs the docker client on the board as well, and says nothing when the way there is lost in
the middle. So the board's own client is called, over the one connection that carries the files too. The tool
reads stage folders on its standard input and ends with it, as everywhere: a lost connection ends it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from host import ROOT, images, sdks
from host.board import carry, facts, guard, image, state
from host.board.ssh import Connection, ConnectionLost, Destination
from host.compose import Service, load
from host.engines import Note, name_of, service_of
from host.engines.venv import how_it_ended
from host.session import event_in
from host.store import sha256
from host.toolbox import tools
from tools.metered import ASKED
from tools.recording import SAMPLING, STARTED
from tools.stage import (
    REQUEST,
    RESULT,
    Request,
    Result,
    StageError,
    Unavailable,
    Unsupported,
    check_name,
)

NOT_STARTED = 125  # docker run's code for a container that never ran


class BoardEngine:
    """Runs tools on one board. What keeps it from that is raised by each stage that it is asked for."""

    name = "docker over ssh"

    def __init__(
        self, device: str, builds: Mapping[str, str], power_mode: int | None = None, *, looks: bool = False
    ) -> None:
        """Take a destination as the user gave it. With `looks` the board is asked, and nothing runs there."""
        self.why = f"--device {device}"
        self.builds = builds
        self._destination = Destination.parse(device)
        self._power_mode = power_mode
        self._looks = looks
        self._failed: dict[str, StageError] = {}  # by tool; by "" what keeps all of them from running
        self._connection: Connection | None = None

    def open(self, wanted: Collection[str], note: Note, *, pull: bool = False) -> BoardEngine:
        """Connect, and get the images of the `wanted` tools there; stages raise what failed in it."""
        self._note = note
        steps: dict[str, Callable[[], None]] = {"": self._connect}
        steps |= {tool: partial(self._get_image, tool, pull=pull) for tool in wanted}
        for cause, step in steps.items():
            try:
                step()
            except StageError as error:
                self._failed[cause] = error
                if not cause:
                    break
        return self

    def close(self) -> None:
        """Leave the board as it was."""
        if self._connection:
            said = self._connection.close()
            self._connection = None
            for line in said.splitlines():
                if line.startswith(guard.COMPLAINT):
                    self._note(f"{self._destination.text}: {line}")

    def toolchain(self, tool: str) -> str:
        """Return the id of the tool's image there, and what board that is: an engine is for one GPU."""
        self._check(tool)
        name = self._service(tool).image
        if name not in self._ids:
            self._ids[name] = self._image_id(tool)
        return f"docker:{self._ids[name]} board:{self.facts.identity}"

    def owner(self, tool: str) -> None:
        """Stage folders here stay the caller's."""

    def start(self, tool: str, work: Path, note: Note) -> BoardProcess:
        """Start a container of the tool on the board; more than one may run."""
        if self._connection and not self._connection.alive:
            self._connection.close()
            note(f"connecting to {self._destination.text} again")
            try:
                self._connect()
            except StageError as error:
                self._failed[""] = error
        self.toolchain(tool)
        return BoardProcess(self, self._service(tool), work, note)

    @property
    def connection(self) -> Connection:
        """The connection; there is one unless `start` and `toolchain` say why not."""
        assert self._connection
        return self._connection

    def _check(self, tool: str) -> None:
        """Raise what keeps the tool from running, if anything does."""
        for cause in ("", tool):
            if error := self._failed.get(cause):
                raise error

    def _connect(self) -> None:
        if self._looks:
            self._connection, self.place = guard.look(self._destination), guard.Place("/", "1000:1000")
        else:
            self._connection, self.place = guard.take(self._destination)
        self.facts = facts.read(self._connection)
        self._services = _services(self.place, self.facts)
        self._ids: dict[str, str] = {}
        self._note(f"{self._destination.text} is {self.facts.model}, L4T {self.facts.l4t or 'unknown'}")
        if self._power_mode is not None and not self._looks:
            state.set_power_mode(self._connection, self._power_mode)

    def _service(self, tool: str) -> Service:
        """Return the service that runs a tool on the board: its build for boards, or its usual one."""
        name = name_of(tool)
        if name in sdks.variables() and os.environ.get(sdks.variables()[name]):
            message = f"{name} drives an SDK of yours, which is not carried to a board"
            raise Unsupported(message, hint="Run it here, without --device.")
        build, base = "", ""
        if hook := tools()[name].board_build:
            build, base = hook(self.facts.l4t)
        service = self._services[f"{name}-{build}" if build else service_of(tool, self.builds)]
        if base and service.build and f"{images.BASE}_{build.upper()}" not in os.environ:
            args = {**service.build.args, "BASE": base}
            return dataclasses.replace(service, build=dataclasses.replace(service.build, args=args))
        return service

    def _image_id(self, tool: str) -> str:
        service = self._service(tool)
        if error := self.facts.docker_error(self._destination, service.runtime):
            raise error
        return image.find(self.connection, service, self.facts)

    def _get_image(self, tool: str, *, pull: bool) -> None:
        """See to it that the board has the tool's image: pulled from the user's registry, or built there."""
        try:
            self.toolchain(tool)
            return
        except image.Missing:
            if self._looks:
                raise
        service, where = self._service(tool), self._destination.text
        registry = os.environ.get(images.REGISTRY, "")
        if (pull or registry) and not images.restriction(service):
            self._note(f"{where} pulls {service.image}")
            if image.pull(self.connection, service, registry):
                return
        self._note(f"building {service.image} on {where}, which may take long")
        image.build(self.connection, service, self.place, self.facts)


class BoardProcess:
    """A tool in a container on the board. Stage folders go there before it hears of them, and come back."""

    def __init__(self, engine: BoardEngine, service: Service, work: Path, note: Note) -> None:
        self._engine = engine
        self._connection = engine.connection
        self._work = work
        self._note = note
        self._before: dict[str, dict[str, Any]] = {}  # how the board was before a measurement, by its folder
        self._carried: set[str] = set()  # stage folders that are there; no other one is brought back
        self._error: StageError | None = None
        self._stage = ""  # the one that it was told of last
        self._said = ""  # Docker's own word, else the last that was printed
        self._name = f"mobile-accelerator-{uuid.uuid4().hex[:12]}"
        label = f"{guard.LABEL}={engine.place.folder}"
        argv = ["docker", "run", "--rm", "--interactive", "--name", self._name, "--label", label]
        argv += [*service.run_arguments(), service.image, "serve"]
        self.command = f"ssh {self._connection.destination.text} docker run {service.image} serve"
        self._channel = self._connection.popen(
            f"exec {shlex.join(argv)}", stdin=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def send(self, line: str) -> None:
        """Carry a stage's folder to the board, then tell the tool of it."""
        assert self._channel.stdin
        try:
            self._carry(line)
        except ConnectionLost as error:
            self._error = error
            self._channel.kill()
            raise BrokenPipeError from error  # the session asks how it ended, and hears of it from close()
        except OSError as error:
            message = f"what {line} reads cannot be read here: {error.strerror}"
            raise StageError(message, hint="Is something of the work folder gone?") from None
        self._stage = line
        self._channel.stdin.write(line.encode() + b"\n")
        self._channel.stdin.flush()

    def share(self, path: str) -> None:
        """Carry a file to the board; the tool, which may wait for it, is ended if that fails."""
        stage = str(Path(path).parent)
        try:
            carry.put(self._connection, self._engine.place.folder, stage, self._work / path)
        except StageError as error:
            self._error = error
            self._channel.kill()

    def lines(self) -> Iterator[str]:
        """Yield what it prints; before it is said that a stage is done its files are here."""
        assert self._channel.stdout
        with self._channel.stdout as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                if not self._is_here(line):
                    self._channel.kill()
                    return
                if line and not self._said.startswith("docker:"):
                    self._said = line
                yield line

    def close(self) -> str:
        """Close its standard input, wait for its end, say how it ended.

        Raises:
            StageError: the connection was lost, or the container never started.
        """
        assert self._channel.stdin
        with contextlib.suppress(OSError):
            self._channel.stdin.close()
        try:
            code = self._channel.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            return "killed, 30 s after it was told to end"
        if self._error:
            raise self._error
        if code == 255 and self._connection.is_lost():
            raise self._connection.lost()
        if code == NOT_STARTED:
            where = self._connection.destination.text
            message = f"the container did not start on {where}: {self._said[:300]}"
            raise Unavailable(message, hint="docs/jetson.md has what it needs; try docker run there by hand.")
        return how_it_ended(code)

    def kill(self) -> None:
        """End it, and its container; where the board cannot be told, its guard does that."""
        self._channel.kill()
        self._channel.wait()
        if self._channel.stdin:
            with contextlib.suppress(OSError):
                self._channel.stdin.close()
        if self._connection.alive:
            with contextlib.suppress(StageError):
                self._connection.run(f"docker rm --force {self._name} >/dev/null 2>&1")

    def _is_here(self, line: str) -> bool:
        """Bring the files here that a line speaks of; tell whether that could be done."""
        event = event_in(line) or {}
        try:
            if (folder := event.get("done")) in self._carried:
                self._bring_back(folder)
            elif event.get("meter") == SAMPLING:
                there = f"{self._engine.place.folder}/work/{self._stage}/{STARTED}"
                carry.fetch(self._connection, there, self._work / self._stage / STARTED)
        except StageError as error:
            self._error = error
        except OSError as error:
            message = f"what {self._stage} made cannot be written here: {error.strerror}"
            self._error = StageError(message, hint="Is this disk full?")
        return self._error is None

    def _carry(self, stage: str) -> None:
        """Bring the request and its inputs to the board, under the same paths below its work folder."""
        folder = self._work / stage
        request = Request.read(folder)
        paths = {os.path.normpath(Path(stage, path)): folder / path for path in request.inputs.values()}
        hashes = {name: sha256(path) for name, path in paths.items()}
        place = self._engine.place.folder
        sent = carry.send(self._connection, place, {hashes[name]: path for name, path in paths.items()})
        if sent > 10**6:
            self._note(f"{sent / 1e6:.0f} MB carried to {self._connection.destination.text}")
        carry.lay_out(self._connection, place, stage, folder / REQUEST, hashes)
        if (folder / ASKED).exists():
            carry.put(self._connection, place, stage, folder / ASKED)
        self._carried.add(stage)
        if tools()[request.tool].commands[request.command].measures:
            self._before[stage] = state.read(self._connection)

    def _bring_back(self, stage: str) -> None:
        """Copy what a stage made, its result last, with what is known of the board."""
        place, folder = self._engine.place.folder, self._work / stage
        after = state.read(self._connection) if stage in self._before else None
        there = f"{place}/work/{stage}"
        with tempfile.TemporaryDirectory() as name:
            carry.fetch(self._connection, f"{there}/{RESULT}", Path(name, RESULT))
            result = Result.read(Path(name))
        if result.error is None and result.outputs:
            names = [check_name(file, "file that a stage made") for file in result.outputs.values()]
            for file, key in carry.keep(self._connection, place, stage, names).items():
                carry.fetch(self._connection, f"{place}/store/{key}", folder / file, key)
        metadata = self._about(result, self._before.pop(stage, None), after)
        dataclasses.replace(result, metadata=metadata).write(folder)

    def _about(
        self, result: Result, before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return a result's metadata with the board's: what it is, and how it was around a measurement."""
        known, where = self._engine.facts, self._connection.destination.text
        said = {**result.metadata, "board": {"destination": where, **known.record()}}
        if known.simulated:
            said |= {"simulated": True, "stand_in": "the virtual board of the tests"}
        if before is None or after is None:
            return said
        said |= {"engine": self._engine.name, "board_before": before, "board_after": after}
        device = f"{known.model} ({where})"
        said["device"] = f"{result.metadata['device']}, {device}" if "device" in result.metadata else device
        said["warnings"] = [*result.metadata.get("warnings", ()), *state.warnings(before, after)]
        return said


def _services(place: guard.Place, known: facts.Facts) -> Mapping[str, Service]:
    """Return compose.yaml's services as they are on the board.

    Docker shows every container its host's /sys, read-only; that of a stand-in for a board is its own.
    """
    uid, gid = place.user.split(":")
    hers = {"MOBILE_ACCELERATOR_UID": uid, "MOBILE_ACCELERATOR_GID": gid}
    hers["MOBILE_ACCELERATOR_WORK"] = f"{place.folder}/work"
    if "nvidia" in known.runtimes:
        hers["MOBILE_ACCELERATOR_NVIDIA"] = "nvidia"
    hers["MOBILE_ACCELERATOR_TEGRASTATS"] = known.tegrastats or os.devnull
    given = {key: value for key, value in os.environ.items() if key not in sdks.variables().values()}
    services = load(ROOT / "compose.yaml", {**given, **hers})
    if not known.simulated:
        return services
    sysfs = f"{known.simulated}/sys:/sys:ro"
    return {
        name: dataclasses.replace(service, volumes=(*service.volumes, sysfs))
        for name, service in services.items()
    }
