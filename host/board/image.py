"""A tool's image on a board's own Docker engine: found, pulled, built there."""

from __future__ import annotations

import shlex
import tarfile
import tempfile

from host.board.facts import Facts
from host.board.guard import Place
from host.board.ssh import Connection
from host.compose import Service
from host.images import in_registry
from tools.stage import Unavailable

L4T_LABEL = "mobile-accelerator.l4t"  # of an image that was built on a board: for which release
LIMIT_S = 3600.0
CONTEXT = ("tools", "images", ".dockerignore")  # what of a checkout the Dockerfiles read


class Missing(Unavailable):
    """The board has no such image."""


def find(connection: Connection, service: Service, known: Facts) -> str:
    """Return the id of a service's image.

    Raises:
        Missing: it is not there.
        Unavailable: it is there, and was built for another release of L4T.
    """
    to = connection.destination
    template = f'{{{{.Id}}}} {{{{index .Config.Labels "{L4T_LABEL}"}}}}'
    done = connection.run(shlex.join(["docker", "image", "inspect", "--format", template, service.image]))
    if done.code:
        if "no such image" not in done.stderr.lower():
            done.check("looking for its images")
        message = f"the image {service.image} is not on {to.text}"
        raise Missing(message, hint="A run builds it there; by hand: docs/jetson.md")
    id_, _, l4t = done.stdout.strip().partition(" ")
    if l4t not in ("", "<no value>") and _branch(l4t) != _branch(known.l4t):
        message = f"the image {service.image} on {to.text} is for L4T {l4t}, and the board has {known.l4t}"
        hint = "Its TensorRT would not fit, and the next run builds it, after: "
        raise Unavailable(message, hint=f"{hint}{to.by_hand} docker image rm {service.image}")
    return id_


def pull(connection: Connection, service: Service, registry: str) -> bool:
    """Take it from a registry; tell whether that could be done."""
    name = in_registry(service.image, registry)
    commands = (["docker", "pull", name], ["docker", "tag", name, service.image])
    return connection.run(" && ".join(map(shlex.join, commands)), limit_s=LIMIT_S).code == 0


def build(connection: Connection, service: Service, place: Place, known: Facts) -> None:
    """Build it on the board, of this checkout.

    Raises:
        Unavailable: it could not be built; the message has the last that the build said.
    """
    if service.build is None:
        message = f"the image {service.image} cannot be built on the board"
        raise Unavailable(message, hint="compose.yaml says nothing of how.")
    there = f"{place.folder}/work/context"
    argv = ["docker", "build", "--tag", service.image, "--file", f"{there}/{service.build.dockerfile}"]
    argv += ["--label", f"{L4T_LABEL}={known.l4t}"] if known.l4t else []
    argv += [word for key, value in service.build.args.items() for word in ("--build-arg", f"{key}={value}")]
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in (service.build.context / name for name in CONTEXT):
                if path.exists():
                    tar.add(path, path.name, filter=_no_caches)
        archive.seek(0)
        script = f"""mkdir -p {shlex.quote(there)} && tar -xf - -C {shlex.quote(there)} || exit 1
            DOCKER_BUILDKIT=1 {shlex.join([*argv, there])} 2>&1"""
        done = connection.run(script, stdin=archive, limit_s=LIMIT_S)
    if done.code:
        where = connection.destination.text
        said = " | ".join(line.strip() for line in done.stdout.splitlines()[-4:])
        message = f"the image {service.image} could not be built on {where}: {said[-400:]}"
        hint = "Build or pull it there by hand: docs/jetson.md has the commands."
        if "buildx" in said:
            hint = "Install Docker's builder there: sudo apt-get install docker-buildx"
        raise Unavailable(message, hint=hint)


def _branch(l4t: str) -> str:
    """Return what of a release's number stands for one set of libraries: 32.7 of 32.7.1."""
    return ".".join(l4t.split(".")[:2])


def _no_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member
