"""Docker's command line: which client can do what, how a command is run and shown."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tools.stage import Unavailable

VENV = "or run with --engine venv"
LAST_LINES = 4  # of a failed command's output, in the message

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """Say nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Console:
    """Where commands and their output go: all into `log`; `note` is told commands, `live` output lines."""

    log: Path
    note: Say
    live: Say = _silent

    def run(self, argv: Sequence[str], *, failed: str, hint: str) -> None:
        """Run a command.

        Raises:
            Unavailable: it failed; the message is `failed` and the last lines of its output.
        """
        self.note(f"$ {shlex.join(argv)}")
        last: list[str] = []
        with (
            self.log.open("a", buffering=1) as log,
            subprocess.Popen(
                argv,
                env={**os.environ, "DOCKER_BUILDKIT": "1"},  # a client before 23 needs it said
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            print(f"$ {shlex.join(argv)}", file=log)
            for line in process.stdout or ():
                log.write(line)
                if line.strip():
                    self.live(line.strip())
                    last = [*last, line.strip()][-LAST_LINES:]
        if process.returncode:
            message = f"{failed}: {' | '.join(last) or f'exit code {process.returncode}'}"
            raise Unavailable(message, hint=f"{hint} (log: {self.log})")


def client() -> str:
    """Return the Docker client that is first on PATH.

    Raises:
        Unavailable: there is none.
    """
    return _clients()[0]


def builder() -> str:
    """Return the first Docker client on PATH that can build with BuildKit.

    It needs the buildx plug-in, or to be older than 23 (until then BuildKit was built in).

    Raises:
        Unavailable: there is none.
    """
    clients = _clients()
    for docker in clients:
        version = re.match(r"Docker version (\d+)", output(docker, "--version"))
        if version and (int(version[1]) < 23 or output(docker, "buildx", "version")):
            return docker
    message = f"{', '.join(clients)} cannot build images: the buildx plug-in is missing"
    raise Unavailable(message, hint=f"Install it (apt-get install docker-buildx), {VENV}")


def _clients() -> list[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = [path for folder in folders if (path := shutil.which("docker", path=folder))]
    if not found:
        message = "there is no docker client on PATH"
        raise Unavailable(message, hint=f"Install Docker (apt-get install docker.io), {VENV}")
    return found


def server_version() -> str:
    """Return the version of the Docker daemon.

    Raises:
        Unavailable: no daemon answers.
    """
    inspect(client(), ["scratch"])  # raises with the client's own words
    return output(client(), "version", "--format", "{{.Server.Version}}").strip()


def inspect(docker: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return what the engine knows of those of the images that it has.

    Raises:
        Unavailable: no engine answers.
    """
    argv = [docker, "image", "inspect", *names]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "no such image" not in line.lower()]
    if said:
        message = f"no Docker engine answers: {said[0]}"  # it says the same for each image
        raise Unavailable(message, hint=f"Start it (as root: dockerd), {VENV}")
    return list(json.loads(done.stdout))


def output(*argv: str) -> str:
    """Return what a command prints, nothing if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
