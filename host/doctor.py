"""`doctor`: what this host has, what it lacks, and the command that mends it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from host import docker_cli, images, machine, show
from host.compose import Service
from host.engines.choose import services
from host.engines.venv import cache_folder, installed_python
from host.store import Store
from host.toolbox import builds
from tools.stage import StageError

DISK_NEEDED_GB = 6  # measured: all environments 3.5 GB, all images 4 GB, a network's artifacts below 1 GB
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
USB = Path("/dev/bus/usb")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: `state` is ok, missing (something is off) or absent (can do without)."""

    name: str
    state: str
    found: str
    mend: str = ""


def report(work: Path, *, as_json: bool) -> int:
    """Print all checks; return 0 if at least one engine can run, else 1."""
    checks = list(examine(work))
    if as_json:
        show.print_json([dataclasses.asdict(check) for check in checks])
    else:
        show.table(
            ("check", "state", "found", "what to do"),
            [(check.name, check.state, check.found, check.mend) for check in checks],
        )
    return 1 if any(check.state == "missing" for check in checks) else 0


def examine(work: Path) -> Iterator[Check]:
    """Yield every check; none of them changes anything or takes long."""
    yield from _engines(work)
    yield from _interpreters()
    yield _disk(work)
    yield _work(work)
    yield _governor()
    yield _ca_bundle()
    yield _usb()


def _engines(work: Path) -> Iterator[Check]:
    try:
        version = docker_cli.server_version()
        yield Check(name="docker", state="ok", found=f"daemon {version}")
    except StageError as error:
        mend = "install it (Debian: apt-get install docker.io) and start it; without it --engine venv works"
        yield Check(name="docker", state="absent", found=str(error), mend=mend)
        return
    try:
        yield Check(name="image builder", state="ok", found=images.builder())
        known = services(work).values()
        yield _images("images", [service for service in known if not service.profiles], names="")
        for service in known:
            if service.profiles:
                yield _images(f"{service.name}, if asked for", [service], names=f" {service.name}")
    except StageError as error:
        yield Check(name="image builder", state="absent", found=str(error), mend=error.hint)
    yield _compose()


def _images(name: str, wanted: Iterable[Service], *, names: str) -> Check:
    missing = [service.name for service in images.missing(wanted)]
    mend = f"python runner.py images pull{names}, or python runner.py images build{names}"
    return Check(
        name=name,
        state="absent" if missing else "ok",
        found=f"missing: {', '.join(missing)}" if missing else "all there",
        mend=mend if missing else "",
    )


def _compose() -> Check:
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Check(name="compose", state="ok", found=done.stdout.strip())
    mend = "only for running a tool by hand: install the compose plug-in, version 2"
    return Check(name="compose", state="absent", found="no docker compose", mend=mend)


def _interpreters() -> Iterator[Check]:
    """Look for the Python that each tool's lock is made for, as the venv engine would."""
    for version in sorted({build.python for build in builds().values()}, key=_as_numbers):
        users = ", ".join(build.service for build in builds().values() if build.python == version)
        if python := installed_python(version):
            yield Check(name=f"python {version}", state="ok", found=f"{python} (for {users})")
        else:
            mend = f"install it (pyenv install {version}; Debian: apt-get install python{version})"
            found = f"not installed; this is {sys.version.split()[0]}; without Docker {users} cannot run"
            yield Check(name=f"python {version}", state="absent", found=found, mend=mend)


def _as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _disk(work: Path) -> Check:
    folder = next(path for path in (work.resolve(), *work.resolve().parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    state = "ok" if free_gb >= DISK_NEEDED_GB else "missing"
    mend = "" if state == "ok" else "free some: python runner.py clean; or choose another disk with --work"
    return Check(name="disk", state=state, found=f"{free_gb:.0f} GB free at {folder}", mend=mend)


def _work(work: Path) -> Check:
    try:
        Store(work.resolve())
    except StageError as error:
        return Check(name="work folder", state="missing", found=str(error), mend=error.hint)
    return Check(name="work folder", state="ok", found=f"{work} (environments: {cache_folder()})")


def _governor() -> Check:
    governor = machine.governor()
    if governor in (None, "performance"):
        return Check(
            name="CPU governor", state="ok", found=governor or "the host does not tell (virtual machine)"
        )
    mend = "for steadier timings: sudo cpupower frequency-set -g performance"
    return Check(name="CPU governor", state="absent", found=str(governor), mend=mend)


def _ca_bundle() -> Check:
    """Say which certificates tools and image builds trust; a proxy that inspects TLS needs its own."""
    named = {key: os.environ[key] for key in CA_VARIABLES if os.environ.get(key)}
    lost = [f"{key}={path}" for key, path in named.items() if not Path(path).is_file()]
    if lost:
        mend = "point it at a file, or unset it"
        return Check(name="CA bundle", state="missing", found=f"not a file: {', '.join(lost)}", mend=mend)
    return Check(
        name="CA bundle", state="ok", found=", ".join(dict.fromkeys(named.values())) or "the system's"
    )


def _usb() -> Check:
    if not USB.is_dir():
        mend = "only for sticks, phones and meters on USB; in a virtual machine pass the controller through"
        return Check(name="USB bus", state="absent", found=f"{USB} is not there", mend=mend)
    nodes = sorted(USB.glob("*/*"))
    closed = [node for node in nodes if not os.access(node, os.W_OK)]
    found = f"{len(nodes)} devices, {len(closed)} of them not writable by you"
    return Check(name="USB bus", state="ok", found=found)
