"""`doctor`: what this host has, what it lacks, and the command that mends it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from host import docker_cli, images, machine
from host.devices import attached, labelled
from host.engines.choose import services
from host.engines.venv import cache_folder, installed_python
from host.findings import print_findings
from host.store import Store
from host.toolbox import builds
from tools.stage import StageError

DISK_NEEDED_GB = 6  # measured: all environments 3.5 GB, all images 4 GB, a network's artifacts below 1 GB
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: `state` is ok, missing (something is off) or absent (can do without)."""

    name: str
    state: str
    found: str
    mend: str = ""


def report(work: Path, boards: Sequence[str] = (), *, as_json: bool) -> int:
    """Print all checks, also of `boards`; return 0 if at least one engine can run, else 1."""
    checks = examine(work, boards)
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print_findings([(check.state, check.name, check.found, check.mend) for check in checks])
    return 1 if any(check.state == "missing" for check in checks) else 0


def examine(work: Path, boards: Sequence[str] = ()) -> list[Check]:
    """Return every check; none of them changes anything. Other programs are asked all at once."""
    with ThreadPoolExecutor() as pool:
        docker, builder, compose = (pool.submit(check) for check in (_docker, _builder, _compose))
        images_, pythons = pool.submit(_images, work), pool.submit(_pythons)
        here = [_disk(work), _work(work), _governor(), _ca_bundle(), *_devices(boards)]
    engine = [docker.result()]
    if engine[0].state == "ok":
        engine += [builder.result(), *images_.result(), compose.result()]
    return [*engine, *pythons.result(), *here]


def _docker() -> Check:
    try:
        return Check(name="docker", state="ok", found=f"daemon {docker_cli.server_version()}")
    except StageError as error:
        mend = "install it (Debian: apt-get install docker.io) and start it; without it --engine venv works"
        return Check(name="docker", state="absent", found=str(error), mend=mend)


def _builder() -> Check:
    try:
        return Check(name="image builder", state="ok", found=docker_cli.builder())
    except StageError as error:
        return Check(name="image builder", state="absent", found=str(error), mend=error.hint)


def _images(work: Path) -> list[Check]:
    """Say which images are here: the usual ones in one line, those that have to be asked for in one each."""
    try:
        known = services(work).values()
        missing = [service.name for service in images.missing(known)]
    except StageError as error:
        return [Check(name="images", state="absent", found=str(error), mend=error.hint)]
    usual = [service.name for service in known if not service.profiles]
    others = [service.name for service in known if service.profiles]
    return [
        _presence("images", [name for name in missing if name in usual], named=""),
        *(
            _presence(f"{name}, if asked for", [name] if name in missing else [], named=f" {name}")
            for name in others
        ),
    ]


def _presence(check: str, missing: Sequence[str], *, named: str) -> Check:
    if not missing:
        return Check(name=check, state="ok", found="all there")
    mend = f"python runner.py images pull{named}, or python runner.py images build{named}"
    return Check(name=check, state="absent", found=f"missing: {', '.join(missing)}", mend=mend)


def _compose() -> Check:
    with contextlib.suppress(StageError):  # there is no client, which another check says
        if version := docker_cli.output(docker_cli.client(), "compose", "version").strip():
            return Check(name="compose", state="ok", found=version)
    mend = "only for running a tool by hand: install the compose plug-in, version 2"
    return Check(name="compose", state="absent", found="no docker compose", mend=mend)


def _pythons() -> list[Check]:
    """Look for the Python that each tool's lock is made for, as the venv engine would."""
    return [
        _python(version, ", ".join(build.service for build in builds().values() if build.python == version))
        for version in sorted({build.python for build in builds().values()}, key=_as_numbers)
    ]


def _python(version: str, users: str) -> Check:
    if python := installed_python(version):
        return Check(name=f"python {version}", state="ok", found=f"{python} (for {users})")
    mend = f"install it (pyenv install {version}; Debian: apt-get install python{version})"
    found = f"not installed; this is {sys.version.split()[0]}; without Docker {users} cannot run"
    return Check(name=f"python {version}", state="absent", found=found, mend=mend)


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


def _devices(boards: Sequence[str]) -> Iterator[Check]:
    for device in attached(boards):
        unusable = "absent" if device.kind == "meter" else "missing"  # energy is an extra
        yield Check(
            name=device.kind,
            state={True: "ok", False: unusable, None: "absent"}[device.usable],
            found=f"{labelled(device.state, device)}: {device.summary}",
            mend=device.mend,
        )
