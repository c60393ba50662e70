"""The `docker` engine: a tool's image, run as compose.yaml says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from host import docker_cli
from host.compose import Service
from host.engines import Note, Process, service_of
from tools.stage import DeviceNotFound, Unavailable


class DockerEngine:
    """Runs a tool's image with `serve`; settings come from compose.yaml alone."""

    name = "docker"

    def __init__(self, services: Mapping[str, Service], why: str, builds: Mapping[str, str]) -> None:
        """Ask the daemon for the images that it has, by the command line.

        Raises:
            Unavailable: no daemon answers.
        """
        self.why = why
        self.builds = builds
        self._services = services
        found = docker_cli.inspect(docker_cli.client(), [service.image for service in services.values()])
        self._ids = {tag: image["Id"] for image in found for tag in image["RepoTags"]}

    def has(self, tool: str) -> bool:
        """Tell whether the tool's image is here."""
        return self._service(tool).image in self._ids

    def toolchain(self, tool: str) -> str:
        """Return the id of the tool's image."""
        image = self._service(tool).image
        if not self.has(tool):
            message = f"the image {image} is not here"
            name = service_of(tool, self.builds)
            named = "" if name == tool else f" {name}"
            hint = f"python runner.py images pull{named}, or python runner.py images build{named}"
            raise Unavailable(message, hint=hint)
        return f"docker:{self._ids[image]}"

    def owner(self, tool: str) -> tuple[int, int] | None:
        """Return the service's user if we are root, who can give a folder away; else it runs as us."""
        if os.getuid() != 0:
            return None
        user, _, group = (self._service(tool).user or "0").partition(":")
        return int(user), int(group or user)

    def start(self, tool: str, work: Path, note: Note) -> Process:
        """Start a container of the tool; what a killed runner left running on this folder goes first."""
        self.toolchain(tool)
        service = self._service(tool)
        if missing := [device for device in service.devices if not Path(device.split(":")[0]).exists()]:
            message = f"{tool} asks for {', '.join(missing)}, which this host does not have"
            raise DeviceNotFound(message, hint="Plug the device in; python runner.py doctor explains")
        for folder in service.left_out:
            note(f"{tool} runs without {folder}, which this host does not have")
        from host.engines.container import create  # Docker's SDK takes 0.3 s to import; `plan` does without

        return create(service, work)

    def _service(self, tool: str) -> Service:
        name = service_of(tool, self.builds)
        if name not in self._services:
            message = f"compose.yaml has no service {name}"
            raise Unavailable(message, hint="Every tool needs one; see docs/adding-a-backend.md")
        return self._services[name]
