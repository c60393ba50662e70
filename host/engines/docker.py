"""The `docker` engine: a tool's image, run as compose.yaml says. The only importer of Docker's SDK."""

from __future__ import annotations

import contextlib
import functools
import os
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


def connect() -> docker.DockerClient:
    """Return a client of the daemon.

    Raises:
        Unavailable: none answers; the message says what was tried.
    """
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException) as error:
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
        except docker.errors.APIError as error:
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
        stdin = container.attach_socket(params={"stdin": 1, "stream": 1})
        self._stdin = getattr(stdin, "_sock", stdin)
        self._output = container.attach(stdout=True, stderr=True, stream=True)
        try:
            container.start()
        except docker.errors.APIError:
            container.remove(force=True)
            raise

    def send(self, line: str) -> None:
        """Write one line to its standard input."""
        self._stdin.sendall(line.encode() + b"\n")

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
        self._stdin.close()
        try:
            code = self._container.wait(timeout=CLOSE_LIMIT_S)["StatusCode"]
            state = self._container.client.api.inspect_container(self._container.id)["State"]
            return "out of memory" if state["OOMKilled"] else how_it_ended(code)
        except requests.RequestException:
            return f"killed, {CLOSE_LIMIT_S} s after it was told to end"
        finally:
            self._remove()

    def kill(self) -> None:
        """End and remove it."""
        with contextlib.suppress(docker.errors.APIError):
            self._container.kill()
        self._stdin.close()
        self._remove()

    def _remove(self) -> None:
        if not os.environ.get("MOBILE_ACCELERATOR_KEEP"):
            with contextlib.suppress(docker.errors.NotFound):
                self._container.remove(force=True)


def _reason(error: Exception) -> str:
    explanation = getattr(error, "explanation", None) or str(error)
    return " ".join(str(explanation).split())[:300]
