"""The `docker` engine: a tool's image, run as compose.yaml says. The only importer of Docker's SDK."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from host.compose import Service
from host.engines import Note
from host.engines.venv import how_it_ended
from tools.stage import DeviceNotFound, Unavailable

WORK_LABEL = "mobile-accelerator.work"
CLOSE_LIMIT_S = 30
ERRORS = (docker.errors.DockerException, requests.RequestException)


def connect() -> docker.DockerClient:
    """Return a client of the daemon.

    Raises:
        Unavailable: none answers; the message says what was tried.
    """
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except ERRORS as error:
        message = f"no Docker daemon answers ({_reason(error)})"
        raise Unavailable(message, hint="Install and start Docker, or use --engine venv") from None
    return client


class DockerEngine:
    """Runs a tool's image with `serve`; settings come from compose.yaml alone."""

    name = "docker"

    def __init__(self, client: docker.DockerClient, services: Mapping[str, Service], why: str) -> None:
        self.why = why
        self._client = client
        self._services = services

    @functools.cache  # noqa: B019 - an engine lives as long as the program
    def toolchain(self, tool: str) -> str:
        """Return the id of the tool's image."""
        image = self._service(tool).image
        try:
            return f"docker:{self._client.images.get(image).id}"
        except docker.errors.ImageNotFound:
            message = f"the image {image} is not here"
            hint = "python runner.py images pull, or python runner.py images build"
            raise Unavailable(message, hint=hint) from None

    def owner(self, tool: str) -> tuple[int, int] | None:
        """Return the service's user if we are root, who can give a folder away; else it runs as us."""
        if os.getuid() != 0:
            return None
        user, _, group = (self._service(tool).user or "0").partition(":")
        return int(user), int(group or user)

    def start(self, tool: str, work: Path, note: Note) -> ToolContainer:
        """Start a container of the tool; what a killed runner left running on this folder goes first."""
        self.toolchain(tool)
        service = self._service(tool)
        if missing := [device for device in service.devices if not Path(device.split(":")[0]).exists()]:
            message = f"{tool} asks for {', '.join(missing)}, which this host does not have"
            raise DeviceNotFound(message, hint="Plug the device in; python runner.py doctor explains")
        for leftover in self._client.containers.list(all=True, filters={"label": f"{WORK_LABEL}={work}"}):
            leftover.remove(force=True)
        try:
            container = self._client.containers.create(
                service.image,
                ["serve"],
                stdin_open=True,
                labels={WORK_LABEL: str(work)},
                **service.container_options(),
            )
            return ToolContainer(container, f"docker run {service.image} serve  # as {container.short_id}")
        except ERRORS as error:
            message = f"the container of {tool} did not start: {_reason(error)}"
            raise Unavailable(
                message, hint="python runner.py doctor explains; or use --engine venv"
            ) from None

    def _service(self, tool: str) -> Service:
        if tool not in self._services:
            message = f"compose.yaml has no service {tool}"
            raise Unavailable(message, hint="Every tool needs one; see docs/adding-a-backend.md")
        return self._services[tool]


class ToolContainer:
    """A tool in a container. It is removed at the end, unless $MOBILE_ACCELERATOR_KEEP is set."""

    def __init__(self, container: Any, command: str) -> None:
        self.command = command
        self._container = container
        # one connection that writes, another that reads: docker-py's stream of the latter undoes the framing
        self._stdin = container.attach_socket(params={"stdin": 1, "stream": 1})
        self._output = container.attach(stdout=True, stderr=True, stream=True)
        try:
            container.start()
        except docker.errors.APIError:
            container.remove(force=True)
            raise

    def send(self, line: str) -> None:
        """Write one line to its standard input."""
        self._socket.sendall(line.encode() + b"\n")

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

    @property
    def _socket(self) -> socket.socket:
        """The socket itself: what docker-py hands out reads only (docker-py issue 983)."""
        raw: socket.socket = self._stdin._sock
        return raw

    def _end_input(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.shutdown(
                socket.SHUT_RDWR
            )  # close() alone leaves the connection to its other holders
        self._stdin.close()

    def _remove(self) -> None:
        if not os.environ.get("MOBILE_ACCELERATOR_KEEP"):
            with contextlib.suppress(*ERRORS):
                self._container.remove(force=True)


def _reason(error: Exception) -> str:
    explanation = getattr(error, "explanation", None) or str(error)
    return " ".join(str(explanation).split())[:300]
