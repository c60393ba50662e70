"""A tool in a container, by Docker's SDK, of which this module is the only importer."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from host.compose import Service
from host.engines.venv import how_it_ended
from tools.stage import Unavailable

WORK_LABEL, RUNNER_LABEL = "mobile-accelerator.work", "mobile-accelerator.runner"
RUNNER = uuid.uuid4().hex  # this process; it may have two tools at a time: one that measures, and a meter
CALL_LIMIT_S, CLOSE_LIMIT_S = 120, 30
ERRORS = (docker.errors.DockerException, requests.RequestException)


def create(service: Service, work: Path) -> ToolContainer:
    """Start a service's image with `serve`; what a killed runner left on this work folder is removed first.

    Raises:
        Unavailable: the daemon does not answer, or does not start it.
    """
    try:
        client = connect()
        _remove_left(client, work)
        name = f"mobile-accelerator-{service.name}-{uuid.uuid4().hex[:12]}"
        try:
            container = client.containers.create(
                service.image,
                ["serve"],
                name=name,
                stdin_open=True,
                labels={WORK_LABEL: str(work), RUNNER_LABEL: RUNNER},
                **service.container_options(),
            )
            remarks = [f"as {container.short_id}", *(f"without {folder}" for folder in service.left_out)]
            return ToolContainer(container, f"docker run {service.image} serve  # {', '.join(remarks)}")
        except BaseException:  # also when the user interrupts in the middle of it
            with contextlib.suppress(docker.errors.NotFound):
                client.containers.get(name).remove(force=True)
            raise
    except ERRORS as error:
        message = f"the container of {service.name} did not start: {_reason(error)}"
        raise Unavailable(message, hint="See python runner.py doctor, or use --engine venv") from None


def _remove_left(client: docker.DockerClient, work: Path) -> None:
    """Remove other runners' containers of this work folder, which is locked: those runners are no more."""
    for container in client.containers.list(all=True, filters={"label": f"{WORK_LABEL}={work}"}):
        if container.labels.get(RUNNER_LABEL) != RUNNER:
            container.remove(force=True)


def connect() -> docker.DockerClient:
    """Return a client of the daemon that the environment names."""
    return docker.from_env(timeout=CALL_LIMIT_S)


class ToolContainer:
    """A tool in a container. It is removed at the end, unless $MOBILE_ACCELERATOR_KEEP is set."""

    def __init__(self, container: Any, command: str) -> None:
        self.command = command
        self._container = container
        # one connection that writes, another that reads: docker-py's stream of the latter undoes the framing
        self._stdin = container.attach_socket(params={"stdin": 1, "stream": 1})
        self._socket: socket.socket = self._stdin._sock  # what docker-py hands out only reads (its issue 983)
        self._output = container.attach(stdout=True, stderr=True, stream=True)
        container.start()

    def send(self, line: str) -> None:
        """Write one line to its standard input."""
        self._socket.sendall(line.encode() + b"\n")

    def share(self, path: str) -> None:
        """Do nothing: it sees the work folder."""

    def lines(self) -> Iterator[str]:
        """Yield what it prints."""
        rest = b""
        for chunk in self._output:
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def close(self) -> str:
        """Close its standard input, wait for its end, say how it ended, remove it."""
        self._end_input()
        try:
            code = self._container.wait(timeout=CLOSE_LIMIT_S)["StatusCode"]
            self._container.reload()
            return "out of memory" if self._container.attrs["State"]["OOMKilled"] else how_it_ended(code)
        except requests.ReadTimeout:
            return f"killed, {CLOSE_LIMIT_S} s after it was told to end"
        except ERRORS as error:
            return f"the Docker daemon does not answer: {_reason(error)}"
        finally:
            self._remove()

    def kill(self) -> None:
        """End and remove it."""
        with contextlib.suppress(*ERRORS):
            self._container.kill()
        self._end_input()
        self._remove()

    def _end_input(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)  # close() alone leaves it open to its other holders
        self._stdin.close()

    def _remove(self) -> None:
        if not os.environ.get("MOBILE_ACCELERATOR_KEEP"):
            with contextlib.suppress(*ERRORS):
                self._container.remove(force=True)


def _reason(error: Exception) -> str:
    explanation = getattr(error, "explanation", None) or str(error)
    return " ".join(str(explanation).split())[:300]
