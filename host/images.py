"""The tools' images: build, pull, push, list. The command line does it; the engine runs containers by SDK.

An image has one name on this machine, as compose.yaml gives it. A registry is an address that images come
from or go to: `pull` leaves an image under its own name, `push` takes it from there.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from host import toolbox
from host.docker_cli import Console, builder, client, inspect, output
from tools.stage import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from host.compose import Service

__all__ = ["Console", "Image", "build", "list_images", "log_file", "missing", "pull", "push"]

BASE = "MOBILE_ACCELERATOR_BASE"
REGISTRY = "MOBILE_ACCELERATOR_REGISTRY"
OFFLINE_BASE = "mobile-accelerator/base"
DEBIAN_BASE = re.compile(r"debian:(\w+)-slim")
BUILD = "python runner.py images build"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """An image that is here: its tool, name, id (`sha256:...`), size, and when it was made (ISO 8601)."""

    tool: str
    name: str
    id: str
    size_bytes: int
    created: str


def log_file() -> Path:
    """Return a new file for what image commands print."""
    handle, name = tempfile.mkstemp(prefix="mobile-accelerator-images-", suffix=".log")
    os.close(handle)
    return Path(name)


def build(
    services: Iterable[Service], console: Console, *, base: str | None = None, offline_base: bool = False
) -> None:
    """Build the images of the services.

    Args:
        services: those with a `build` section.
        console: where commands and output go.
        base: the image to build on instead of the one that compose.yaml names.
        offline_base: make the base from Debian's archive with mmdebstrap; needs no registry.

    Raises:
        Unavailable: no Docker client that can build, no base image, or a build failed.
    """
    docker = builder()
    for service in services:
        if service.build is None:
            continue
        args = dict(service.build.args)
        if "BASE" in args:
            args["BASE"] = base or args["BASE"]
            if offline_base:
                args["BASE"] = _offline_base(docker, args["BASE"], console)
            _need_base(docker, args["BASE"], console, service.name, args.get("PYTHON"))
        argv = [docker, "build", "--progress", "plain", "--tag", service.image]
        argv += ["--file", str(service.build.context / service.build.dockerfile)]
        argv += _options("--build-arg", (f"{key}={value}" for key, value in args.items()))
        argv += _options("--build-arg", (name for name in PROXIES if os.environ.get(name)))
        argv += _options("--secret", _secrets(service.build.secrets))
        argv += [str(service.build.context)]
        failed = f"the image of {service.name} could not be built"
        console.run(argv, failed=failed, hint="Read what the build says")


def pull(services: Iterable[Service], console: Console, *, registry: str) -> None:
    """Take the images of the services from a registry (with an empty name, Docker's own).

    Raises:
        InvalidRequest: a vendor's licence forbids to pass one of them on.
        Unavailable: no Docker client, or the registry does not give one of them.
    """
    services = _allowed(services)
    docker = client()
    for service in services:
        name = in_registry(service.image, registry)
        failed = f"the image of {service.name} could not be pulled"
        hint = f"Name the registry with --registry or {REGISTRY}, or build: {BUILD}"
        console.run([docker, "pull", name], failed=failed, hint=hint)
        if name != service.image:
            console.run([docker, "tag", name, service.image], failed=failed, hint=hint)


def push(services: Iterable[Service], console: Console, *, registry: str) -> None:
    """Put the images of the services into a registry.

    Raises:
        InvalidRequest: no registry is named, or a vendor's licence forbids to pass one of them on.
        Unavailable: no Docker client, an image is not here, or the registry does not take it.
    """
    if not registry:
        message = "no registry is named to push to"
        raise InvalidRequest(message, hint=f"Name it with --registry or {REGISTRY}, e.g. localhost:5000")
    services = _allowed(services)
    docker = client()
    for service in services:
        name = in_registry(service.image, registry)
        failed = f"the image of {service.name} could not be pushed"
        console.run([docker, "tag", service.image, name], failed=failed, hint=f"Build it first: {BUILD}")
        console.run([docker, "push", name], failed=failed, hint="Does it need `docker login`?")


def restriction(service: Service) -> str:
    """Return why an image may not be passed on, empty if it may."""
    build = toolbox.builds().get(service.name)
    return toolbox.tools()[build.tool].restriction if build else ""


def _allowed(services: Iterable[Service]) -> list[Service]:
    """Return the services.

    Raises:
        InvalidRequest: a vendor's licence forbids to pass one of their images on.
    """
    services = list(services)
    for service in services:
        if why := restriction(service):
            message = f"the image of {service.name} is not for a registry: {why}"
            raise InvalidRequest(message, hint=f"Build it where it is needed: {BUILD} {service.name}")
    return services


def list_images(services: Iterable[Service]) -> list[Image]:
    """Return the images of the services that are here.

    Raises:
        Unavailable: no Docker client, or no Docker engine answers it.
    """
    tools = {service.image: service.name for service in services}
    return [
        Image(tool=tools[name], name=name, id=data["Id"], size_bytes=data["Size"], created=data["Created"])
        for data in (inspect(client(), tools) if tools else ())
        for name in data["RepoTags"]
        if name in tools
    ]


def missing(services: Iterable[Service]) -> list[Service]:
    """Return the services whose image is not here; raises as `list_images` does."""
    services = list(services)
    here = {image.tool for image in list_images(services)}
    return [service for service in services if service.name not in here]


def in_registry(image: str, registry: str) -> str:
    """Return an image's name in a registry, Docker's own if that is empty."""
    return f"{registry.rstrip('/')}/{image}" if registry else image


def _options(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _secrets(files: Mapping[str, Path]) -> list[str]:
    """A secret whose file is not there is left out, and so is one that is /dev/null."""
    return [f"id={name},src={path}" for name, path in files.items() if path.is_file()]


def _need_base(docker: str, base: str, console: Console, service: str, python: str | None) -> None:
    """Pull the base if it is not here; `python` is the version that it has to bring, if one is wanted."""
    if not inspect(docker, [base]):
        failed = f"the base image {base} is not here and could not be pulled"
        hint = f"Make one from Debian's archive, which needs no registry: {BUILD} --offline-base"
        if python:
            failed = f"no base with Python {python} could be had for {service}: {failed}"
        if python and not DEBIAN_BASE.fullmatch(base):
            hint = f"Name an image that has it: {BUILD} {service} --base IMAGE"
        console.run([docker, "pull", base], failed=failed, hint=hint)


def _offline_base(docker: str, base: str, console: Console) -> str:
    """Return the name of an image that stands in for `debian:<suite>-slim`; make it if it is not here."""
    match = DEBIAN_BASE.fullmatch(base)
    if match is None:
        message = f"a base like {base} cannot be made from Debian's archive"
        raise Unavailable(
            message, hint="Only debian:<suite>-slim can; give it an image that is here: --base IMAGE"
        )
    suite = match[1]
    name = f"{OFFLINE_BASE}:{suite}"
    if inspect(docker, [name]):
        console.note(f"{name} is here already; to renew it: docker image rm {name}")
        return name
    if not shutil.which("mmdebstrap"):
        message = "mmdebstrap, which makes a base image, is not installed"
        raise Unavailable(message, hint="Install it: apt-get install mmdebstrap")
    with tempfile.TemporaryDirectory() as folder:
        tar = str(Path(folder, "base.tar"))
        argv = ["mmdebstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
        argv += [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("man", "locale", "doc")]
        argv += [suite, tar, *_debian_sources(suite)]
        hint = "It needs Debian's archive, or a mirror of it among this machine's apt sources"
        console.run(argv, failed=f"{name} could not be made", hint=hint)
        console.run([docker, "import", tar, name], failed=f"{name} could not be imported", hint=hint)
    return name


def _debian_sources(suite: str) -> list[str]:
    """Source lines for the Debian mirrors that this machine's apt uses; none for mmdebstrap's default."""
    lines = []
    for label, release in (("Debian", suite), ("Debian-Security", f"{suite}-security")):
        argv = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
        argv += ["Created-By: Packages", "Origin: Debian", f"Label: {label}"]
        mirrors = output(*argv).split() if shutil.which("apt-get") else []
        lines += [f"deb {mirrors[0]} {release} main"] if mirrors else []
    return lines
