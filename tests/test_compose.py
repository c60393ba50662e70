"""compose.yaml as the docker engine reads it: the same as Compose reads it, and nothing passed over."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from host import ROOT, catalog
from host.compose import Build, Service, interpolate, load
from host.toolbox import builds
from host.version import VERSION
from tools.stage import InvalidRequest

COMPOSE_FILE = ROOT / "compose.yaml"
MINIMAL = "services: {toy: {image: toy, network_mode: none%s}}"
NO_COMPOSE = "Compose v2 is not installed: tests/docker/install-compose.sh"

ENVIRONMENTS = {
    "defaults": {},
    "everything set": {
        "MOBILE_ACCELERATOR_BASE": "debian:trixie-slim",
        "MOBILE_ACCELERATOR_BASE37": "mine:python3.7",
        "MOBILE_ACCELERATOR_BASE39": "mine:python3.9",
        "MOBILE_ACCELERATOR_BASE_L4T": "mine:l4t",
        "MOBILE_ACCELERATOR_NVIDIA": "nvidia",
        "MOBILE_ACCELERATOR_VERSION": "9.9",
        "MOBILE_ACCELERATOR_UID": "4",
        "MOBILE_ACCELERATOR_GID": "5",
        "MOBILE_ACCELERATOR_WORK": "/srv/bench/work",
        "MOBILE_ACCELERATOR_NCS1_SDK": "/opt/movidius",
        "MOBILE_ACCELERATOR_USB": "/dev/bus/usb",
        "MOBILE_ACCELERATOR_TTY": "/dev/ttyACM0",
        "REQUESTS_CA_BUNDLE": "/srv/ca.pem",
        "PIP_CONFIG_FILE": "/srv/pip.conf",
        "MOBILE_ACCELERATOR_LIVE_NETWORK": "bridge",
        "MOBILE_ACCELERATOR_LIVE_PORT": "9000",
    },
    "set but empty": {"MOBILE_ACCELERATOR_WORK": "", "SSL_CERT_FILE": "", "MOBILE_ACCELERATOR_UID": ""},
    "relative": {"MOBILE_ACCELERATOR_WORK": "../elsewhere/./work", "SSL_CERT_FILE": "/srv/other.pem"},
}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$$HOME and $${X}", "$HOME and ${X}"),
        ("${SET}", "value"),
        ("a$SET/b", "avalue/b"),
        ("${SET:-other}", "value"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${UNSET:-other}", "other"),
        ("${UNSET-}", ""),
        ("${SET:+other}", "other"),
        ("${EMPTY:+other}", ""),
        ("${EMPTY+other}", "other"),
        ("${UNSET:+other}", ""),
        ("${SET:?needed}", "value"),
        ("${UNSET:-${EMPTY:-${SET}}}!", "value!"),
        ("${SET:+${SET}/}x", "value/x"),
        ("${UNSET:-a:b-c?d}", "a:b-c?d"),
        ("${DOLLAR}", "${SET}"),  # what a variable holds is not expanded again
    ],
)
def test_variables(text: str, expanded: str) -> None:
    environment = {"SET": "value", "EMPTY": "", "DOLLAR": "${SET}"}
    assert interpolate(text, environment) == expanded


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("${UNSET}", "UNSET is not set"),
        ("$UNSET", "UNSET is not set"),
        ("${UNSET:?say where it is}", "say where it is"),
        ("${SET", "not closed"),
        ("${SET:-${SET}", "not closed"),
        ("100 $", r"written \$\$"),
        ("${}", r"written \$\$"),
    ],
)
def test_bad_variables(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        interpolate(text, {"SET": "value"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MINIMAL % ", privileged: true", "unknown key privileged"),
        (MINIMAL % ", build: {context: ., target: final}", "unknown key target"),
        (MINIMAL % ", mem_limit: much", "not a size"),
        (MINIMAL % ", read_only: 'yes'", "not of type bool"),
        (MINIMAL % ", cap_drop: ALL", "not of type list"),
        (MINIMAL % ", environment: {A: 1}", "not of type str"),
        (MINIMAL % ", environment: [A=1]", "not of type dict"),
        (MINIMAL % ", volumes: ['named:/work:rw']", "not a host:container:mode"),
        (MINIMAL % ", volumes: ['/work']", "not a host:container:mode"),
        (MINIMAL % ", volumes: [{type: bind, source: /a, target: /b}]", "not of type str"),
        (MINIMAL % ", build: {context: ., secrets: [ca]}", "ca"),
        (MINIMAL % ", ports: ['8765:8765']", "others may not reach it"),
        (MINIMAL % ", ports: ['0.0.0.0:8765:8765']", "others may not reach it"),
        (MINIMAL % ", user: '${WHO:?say who}'", "say who"),
        (MINIMAL % "" + "\nvolumes: {}", "unknown key volumes"),
        ("services: {toy: {image: toy}}", "network_mode"),
        ("services: {toy: {network_mode: none}}", "image"),
        ("services: {toy}: {", "not a compose file"),
        ("[]", "not a compose file"),
        ("name: empty", "services"),
    ],
)
def test_what_the_engine_cannot_follow_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        load(path, {})
    assert caught.value.hint
    assert "\n" not in caught.value.one_line()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        load(tmp_path / "compose.yaml", {})


def test_every_setting_reaches_the_container(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(
        MINIMAL
        % """, user: "7:8", runtime: nvidia,
        read_only: true, init: true, working_dir: /work, mem_limit: 512M, pids_limit: 9,
        profiles: [some],
        cap_drop: [ALL], security_opt: ["no-new-privileges:true"], tmpfs: [/run, "/tmp:size=1g"],
        volumes: ["./w:/work:rw", "/dev/null:/dev/bus/usb:rw"], devices: ["/dev/dri:/dev/dri:rwm"],
        device_cgroup_rules: ["c 189:* rmw"], group_add: ["44"], environment: {A: "1"}"""
    )
    service = load(path, {})["toy"]
    assert service.image == "toy"
    assert service.profiles == ("some",)
    assert service.left_out == ("/dev/bus/usb",)  # /dev/null: this host has none
    assert service.container_options() == {
        "network_mode": "none",
        "user": "7:8",
        "runtime": "nvidia",
        "read_only": True,
        "init": True,
        "working_dir": "/work",
        "mem_limit": 512 * 1024 * 1024,
        "pids_limit": 9,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": {"/run": "", "/tmp": "size=1g"},
        "volumes": [f"{tmp_path}/w:/work:rw"],
        "devices": ["/dev/dri:/dev/dri:rwm"],
        "device_cgroup_rules": ["c 189:* rmw"],
        "group_add": ["44"],
        "environment": {"A": "1"},
    }


def test_a_meter_has_no_network_but_for_its_page() -> None:
    usual = load(COMPOSE_FILE, {})["meters"].container_options()
    assert usual["network_mode"] == "none"
    assert "ports" not in usual
    live = {"MOBILE_ACCELERATOR_LIVE_NETWORK": "bridge", "MOBILE_ACCELERATOR_LIVE_PORT": "9000"}
    shown = load(COMPOSE_FILE, live)
    assert shown["meters"].container_options()["ports"] == {"9000/tcp": ("127.0.0.1", 9000)}
    assert {name for name, service in shown.items() if service.network_mode != "none"} <= {
        "meters",
        "monsoon",
    }


def test_what_is_not_set_is_left_to_docker(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(MINIMAL % "")
    assert load(path, {})["toy"].container_options() == {"network_mode": "none"}


def test_every_tool_has_a_service_that_gives_it_nothing() -> None:
    services = load(COMPOSE_FILE, {})
    assert services.keys() == builds().keys()
    for name, service in services.items():
        assert service.image == f"mobile-accelerator/{name}:{VERSION}"
        assert service.build is not None
        build = builds()[name]
        assert service.build.args["TOOL"] == build.tool
        assert service.build.args.get("LOCK", "requirements.txt") == build.lock.name
        assert service.build.args.get("PYTHON", "3.11") == build.python
        assert build.lock.is_file()
        assert (service.build.context / service.build.dockerfile).is_file()
        assert service.user == "1000:1000"
        assert (service.read_only, service.network_mode, service.cap_drop) == (True, "none", ("ALL",))
        assert service.security_opt == ("no-new-privileges=true",)
        assert service.mem_limit_bytes
        assert service.pids_limit


def test_another_build_of_a_tool_is_there_only_by_its_name() -> None:
    chosen = [service.name for service in catalog.chosen([])]
    assert "tf1" in chosen
    assert "tf1-legacy" not in chosen
    assert [service.name for service in catalog.chosen(["tf1-legacy"])] == ["tf1-legacy"]
    with pytest.raises(InvalidRequest, match="no tool 'tf1-lgacy'") as caught:
        catalog.chosen(["tf1-lgacy"])
    assert "Did you mean tf1-legacy" in caught.value.hint


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_compose_reads_the_same(environment: Mapping[str, str]) -> None:
    expected = {name: _service(name, data) for name, data in _compose_config(environment).items()}
    assert load(COMPOSE_FILE, environment) == expected


def _compose_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """The services as Compose reads them, with each build's secrets as {name: file}."""
    needed = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in os.environ}
    argv = ["docker", "compose", "--file", str(COMPOSE_FILE), "--profile", "*"]
    argv += ["config", "--format", "json"]
    try:
        subprocess.run([*argv[:2], "version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(NO_COMPOSE)
    done = subprocess.run(argv, env={**needed, **environment}, check=True, capture_output=True, text=True)
    config = json.loads(done.stdout)
    for service in config["services"].values():
        sources = [secret["source"] for secret in service["build"].pop("secrets")]
        service["build"]["secrets"] = {name: Path(config["secrets"][name]["file"]) for name in sources}
    services: dict[str, Any] = config["services"]
    return services


def _service(name: str, data: dict[str, Any]) -> Service:
    """A service from Compose's own normal form; a key that Service does not have fails."""
    build = data.pop("build")
    volumes = data.pop("volumes")
    ports = [f"{p['host_ip']}:{p['published']}:{p['target']}" for p in data.pop("ports", ())]
    lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    plain = {key: value for key, value in data.items() if value is not None and key not in lists}
    return Service(
        name=name,
        build=Build(**{**build, "context": Path(build["context"])}),
        volumes=tuple(f"{v['source']}:{v['target']}:{'ro' if v.get('read_only') else 'rw'}" for v in volumes),
        mem_limit_bytes=int(plain.pop("mem_limit")),
        ports=tuple(ports),
        **lists,
        **plain,
    )
