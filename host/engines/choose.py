"""Which engine a run uses, and why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from host import ROOT
from host.engines import Engine, Note, service_of
from host.engines.venv import VenvEngine
from tools import power_monitors
from tools.stage import InvalidRequest, Unavailable
from tools.usb import Host

if TYPE_CHECKING:
    from host.compose import Service

CHOICES = ("auto", "docker", "venv")
SOCKET = Path("/var/run/docker.sock")
USB = Path("/dev/bus/usb")
NVIDIA = Path("/dev/nvidiactl")  # NVIDIA's driver of a PC makes it


def services(work: Path) -> Mapping[str, Service]:
    """Return compose.yaml's services as they are for the work folder, the caller's user and this host."""
    from host import sdks
    from host.compose import load  # YAML takes 0.05 s to import, which the venv engine has no use for

    user = {"MOBILE_ACCELERATOR_UID": os.getuid(), "MOBILE_ACCELERATOR_GID": os.getgid()}
    caller = {key: str(value) for key, value in user.items()} if os.getuid() else {}
    usb = {} if USB.is_dir() else {"MOBILE_ACCELERATOR_USB": os.devnull}  # else Docker would make the folder
    ports = [str(found.port) for found in power_monitors.find(Host()) if found.port]
    serial = {"MOBILE_ACCELERATOR_TTY": ports[0]} if ports else {}
    nvidia = {"MOBILE_ACCELERATOR_NVIDIA": "nvidia"} if NVIDIA.exists() else {}
    program = shutil.which("tegrastats")
    jetson = {"MOBILE_ACCELERATOR_TEGRASTATS": program} if program else {}
    paths = {**sdks.absolute(os.environ), "MOBILE_ACCELERATOR_WORK": str(work.resolve())}
    environment = {**caller, **usb, **serial, **nvidia, **jetson, **os.environ, **paths}
    return load(ROOT / "compose.yaml", environment)


def choose(
    name: str,
    work: Path,
    wanted: Iterable[str],
    *,
    pull: bool,
    note: Note,
    builds: Mapping[str, str] = MappingProxyType({}),
) -> Engine:
    """Return the engine; `auto` takes docker where a daemon answers and all images can be had.

    `wanted` are the tools whose images are built (or pulled, if told so) where they are missing; the engine
    is one for the whole run, because results of different engines are not to be mixed. `builds` names the
    service that runs a tool, where it is not the tool's usual one.

    Raises:
        InvalidRequest: no such engine.
        Unavailable: docker was asked for and cannot be used.
    """
    if name not in CHOICES:
        message = f"there is no engine {name!r}"
        raise InvalidRequest(message, hint=f"Choose one of {', '.join(CHOICES)}")
    if name == "venv":
        return VenvEngine("asked for", builds)
    try:
        why = "asked for" if name == "docker" else "a Docker daemon answers"
        return _docker(work, why, wanted, pull, note, builds)
    except Unavailable as error:
        if name == "docker":
            raise
        return VenvEngine(f"docker cannot be used: {error}", builds)


def _docker(
    work: Path, why: str, wanted: Iterable[str], pull: bool, note: Note, builds: Mapping[str, str]
) -> Engine:
    if not SOCKET.exists() and "DOCKER_HOST" not in os.environ:
        message = f"there is no Docker daemon ({SOCKET} is not there)"
        raise Unavailable(message, hint="Install and start Docker, or use --engine venv")
    from host.engines.docker import DockerEngine

    known = services(work)
    engine = DockerEngine(known, why, builds)
    names = {tool: service_of(tool, builds) for tool in wanted}
    missing = [known[name] for tool, name in names.items() if name in known and not engine.has(tool)]
    if missing:
        _get_images(missing, pull=pull, note=note)
        engine = DockerEngine(known, why, builds)
    return engine


def _get_images(missing: list[Service], *, pull: bool, note: Note) -> None:
    from host import images

    pulled = [service for service in missing if pull and not images.restriction(service)]
    built = [service for service in missing if service not in pulled]
    console = images.Console(log=images.log_file(), note=note)
    if pulled:
        note(f"pulling images: {', '.join(service.name for service in pulled)}")
        images.pull(pulled, console, registry=os.environ.get(images.REGISTRY, ""))
    if built:
        note(f"building images: {', '.join(service.name for service in built)}")
        images.build(built, console)
