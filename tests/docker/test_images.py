"""Images by real Docker: built, pushed to a real registry, pulled, run as compose.yaml says."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT, images
from host.compose import Build, Service, load
from host.docker_cli import Console, builder, client
from tests.docker.conftest import TAG, Index
from tools.stage import InvalidRequest, Unavailable

pytestmark = pytest.mark.docker

Docker = Callable[..., str]
RunProbe = Callable[[Service], dict[str, Any]]

# What either adds that compose.yaml does not say: Compose its labels, docker-py the target of each bind as a
# volume, which the bind then covers.
NO_SETTING = {
    "Config": {"AttachStderr", "AttachStdout", "Hostname", "Labels", "Volumes"},
    "HostConfig": set(),
}
ALL_SETTINGS = """
name: probe
services:
  probe:
    image: mobile-accelerator/probe:${MOBILE_ACCELERATOR_VERSION}
    network_mode: none
    user: "7:8"
    read_only: true
    init: true
    working_dir: /work
    mem_limit: 512m
    pids_limit: 9
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    tmpfs: [/run, "/tmp:size=1g,mode=1777"]
    volumes:
      - ./work:/work:rw
      - /dev/shm:/shared:ro
      - /dev/shm:/dev/bus/usb:rw
    devices: ["/dev/null:/dev/dri/null:rwm"]
    device_cgroup_rules: ["c 189:* rmw"]
    group_add: ["44"]
    environment: {A: "1", B: "two words"}
"""


def test_container_may_do_what_compose_says(probe: Service, run_probe: RunProbe) -> None:
    assert run_probe(probe) == {
        "user": [1000, 1000],
        "capabilities": 0,
        "no_new_privileges": 1,
        "interfaces": ["lo"],
        "writable": ["/tmp", "/work"],
        "folder": "/work",
        "package": "from the index",
        "usb": "ENOENT",
        "secrets": [],
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device nodes")
def test_a_tool_that_talks_to_usb_may_open_nodes_that_all_users_may(
    probe: Service, run_probe: RunProbe, tmp_path: Path
) -> None:
    """The node is of no device: ENODEV or ENXIO is the kernel's answer after it let us pass."""
    node = tmp_path / "001" / "001"
    node.parent.mkdir()
    tmp_path.chmod(0o755)
    os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(189, 4095))
    usb = dataclasses.replace(probe, volumes=(*probe.volumes, f"{tmp_path}:/dev/bus/usb:rw"))
    allowed = dataclasses.replace(usb, device_cgroup_rules=("c 189:* rmw",))
    assert run_probe(allowed)["usb"] == "EACCES"  # root's
    node.chmod(0o666)
    assert run_probe(usb)["usb"] == "EPERM"  # not in the container's cgroup
    found = run_probe(allowed)
    assert found["usb"] in ("ENODEV", "ENXIO")
    assert (found["user"], found["capabilities"], found["interfaces"]) == ([1000, 1000], 0, ["lo"])


def test_build_secrets_are_not_in_the_image(
    probe: Service, index: Index, docker: Docker, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    docker("save", "--output", str(archive), probe.image)
    certificate = index.certificate.read_bytes().splitlines()[1]
    secrets = (certificate, index.url.encode())
    packages = []
    with tarfile.open(archive) as image:
        for member in image.getmembers():
            file = image.extractfile(member)
            content = file.read() if file else b""
            assert not any(secret in content for secret in secrets), member.name
            packages += [b"from the index" in content]
    assert any(packages), "the layers are not searched as they should be"


def test_build_without_the_certificate_fails(
    probe: Service, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")  # also passes a proxy variable into the build
    assert probe.build is not None
    secrets = {**probe.build.secrets, "ca": Path("/dev/null")}
    lock = probe.build.context / "images" / "untrusting" / "requirements.txt"
    lock.parent.mkdir()
    lock.write_text("# no layer of this one is in the cache\nprobe-package==1.0 --hash=sha256:" + "0" * 64)
    args = {**probe.build.args, "TOOL": "untrusting"}
    service = dataclasses.replace(
        probe,
        image=f"mobile-accelerator/untrusting:{TAG}",
        build=dataclasses.replace(probe.build, secrets=secrets, args=args),
    )
    with pytest.raises(Unavailable, match="could not be built") as caught:
        images.build([service], console, offline_base=True)
    assert str(console.log) in caught.value.hint
    assert "\n" not in caught.value.one_line()
    assert "CERTIFICATE_VERIFY_FAILED" in console.log.read_text()
    assert images.missing([service]) == [service]


def test_a_change_elsewhere_leaves_the_image_as_it_is(probe: Service, console: Console) -> None:
    assert probe.build is not None
    (before,) = images.list_images([probe])
    for name in ("other", "package"):
        (probe.build.context / "images" / name).mkdir()
    (probe.build.context / "tools" / "package").mkdir()
    for name in ("other.py", "package/__init__.py", "models.toml"):
        (probe.build.context / "tools" / name).write_text("")
    (probe.build.context / "tools" / "stage.py").touch()
    images.build([probe], console, offline_base=True)
    assert [image.id for image in images.list_images([probe])] == [before.id]
    with (probe.build.context / "tools" / "probe.py").open("a") as code:
        code.write("# changed\n")
    images.build([probe], console, offline_base=True)
    assert [image.id for image in images.list_images([probe])] != [before.id]


def test_push_and_pull(
    probe: Service, registry: str, docker: Docker, console: Console, run_probe: RunProbe
) -> None:
    images.push([probe], console, registry=registry)
    (pushed,) = images.list_images([probe])
    docker("image", "rm", "--force", pushed.id)
    assert images.missing([probe]) == [probe]
    images.pull([probe], console, registry=f"{registry}/")
    (pulled,) = images.list_images([probe])
    assert (pulled.id, pulled.name, pulled.tool) == (pushed.id, probe.image, "probe")
    assert run_probe(probe)["package"] == "from the index"


def test_push_and_pull_of_what_is_not_there(probe: Service, registry: str, console: Console) -> None:
    absent = dataclasses.replace(probe, image=f"mobile-accelerator/absent:{TAG}")
    with pytest.raises(Unavailable, match="could not be pulled") as caught:
        images.pull([absent], console, registry=registry)
    assert "--registry" in caught.value.hint
    with pytest.raises(Unavailable, match="could not be pushed") as caught:
        images.push([absent], console, registry=registry)
    assert "images build" in caught.value.hint
    with pytest.raises(InvalidRequest, match="no registry is named"):
        images.push([absent], console, registry="")


def test_base_that_cannot_be_had(
    probe: Service, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="could not be pulled") as caught:
        images.build([probe], console, base="127.0.0.1:1/nobody/base:1")
    assert "images build --offline-base" in caught.value.hint
    with pytest.raises(Unavailable, match="cannot be made from Debian's archive"):
        images.build([probe], console, base="fedora:40", offline_base=True)
    legacy = load(ROOT / "compose.yaml", {"MOBILE_ACCELERATOR_BASE37": "127.0.0.1:1/nobody/python:3.7"})
    with pytest.raises(Unavailable, match=r"no base with Python 3\.7 could be had for tf1-legacy") as caught:
        images.build([legacy["tf1-legacy"]], console)
    assert "images build tf1-legacy --base IMAGE" in caught.value.hint
    (tmp_path / "docker").symlink_to(builder())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="mmdebstrap") as caught:
        images.build([probe], console, base="debian:potato-slim", offline_base=True)
    assert "apt-get install mmdebstrap" in caught.value.hint


def test_base_with_another_python(probe: Service, console: Console) -> None:
    assert probe.build is not None
    build = dataclasses.replace(probe.build, args={**probe.build.args, "PYTHON": "9.9"})
    service = dataclasses.replace(probe, image=f"mobile-accelerator/newer:{TAG}", build=build)
    with pytest.raises(Unavailable, match="could not be built"):
        images.build([service], console, offline_base=True)
    assert "and Python 9.9 is needed" in console.log.read_text()


def test_no_engine_answers(probe: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(Unavailable, match="no Docker engine answers") as caught:
        images.missing([probe])
    assert "--engine venv" in caught.value.hint


@pytest.mark.parametrize("file", ["compose.yaml", "all settings"])
def test_engine_and_compose_make_the_same_container(
    probe: Service, file: str, docker: Docker, tmp_path: Path
) -> None:
    """`docker inspect` shows no difference between what either makes of the file."""
    from host.engines.container import connect

    path = ROOT / file
    if file == "all settings":
        path = tmp_path / "compose.yaml"
        path.write_text(ALL_SETTINGS)
    environment = {
        "MOBILE_ACCELERATOR_VERSION": TAG,
        "MOBILE_ACCELERATOR_WORK": str(tmp_path),
        # of a meter that is shown live: else Compose takes over what means nothing, the engine leaves it out
        "MOBILE_ACCELERATOR_LIVE_NETWORK": "bridge",
        "MOBILE_ACCELERATOR_TTY": "/dev/tty",
        "MOBILE_ACCELERATOR_TEGRASTATS": "/bin/true",
    }
    found = load(path, environment).values()
    services = [service for service in found if service.runtime != "nvidia"]  # which this engine lacks
    for service in services:
        docker("tag", probe.image, service.image)
    compose = [client(), "compose", "--file", str(path), "--project-name", TAG]
    for profile in {profile for service in services for profile in service.profiles}:
        compose += ["--profile", profile]
    sdk, made = connect(), []
    try:
        argv = [*compose, "create", "--no-build", "--pull", "never"]
        subprocess.run(argv, env={**os.environ, **environment}, check=True, capture_output=True)
        for service in services:
            container = sdk.containers.create(service.image, **service.container_options())
            made.append(container)
            by_compose = f"{TAG}-{service.name}-1"
            assert _settings(docker, str(container.id)) == _settings(docker, by_compose)
    finally:
        for container in made:
            container.remove(force=True)
        sdk.close()
        subprocess.run([*compose, "down"], env={**os.environ, **environment}, check=True, capture_output=True)
        for service in services:
            if service.image != probe.image:
                docker("image", "rm", service.image)


def _settings(docker: Docker, container: str) -> dict[str, Any]:
    """A container's settings as Docker tells them: only those that say something, in one order."""
    (data,) = json.loads(docker("inspect", container))
    data["Config"]["Env"].sort()
    data["HostConfig"]["Binds"].sort()
    return {
        f"{section}.{key}": value
        for section, not_compared in NO_SETTING.items()
        for key, value in data[section].items()
        if key not in not_compared and value not in (None, [], {}, "", False, 0, -1)
    }


def test_a_tool_of_ours(docker: Docker, console: Console, tmp_path: Path) -> None:
    """The smallest, from its lock file and this machine's package index, whoever inspects its TLS."""
    environment = {
        **os.environ,
        "MOBILE_ACCELERATOR_VERSION": TAG,
        "MOBILE_ACCELERATOR_WORK": str(tmp_path),
    }
    service = load(ROOT / "compose.yaml", environment)["tflite"]
    assert isinstance(service.build, Build)
    images.build([service], console, offline_base=True)
    argv = [client(), "compose", "--file", str(ROOT / "compose.yaml")]
    argv += ["run", "--rm", service.name, "benchmark", "--help"]
    done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)
    labels = json.loads(docker("image", "inspect", service.image))[0]["Config"]["Labels"]
    docker("image", "rm", service.image)
    assert done.returncode == 0, done.stderr
    assert "--reference" in done.stdout
    assert labels["mobile-accelerator.tool"] == "tflite"
    assert labels["org.opencontainers.image.version"] == TAG
