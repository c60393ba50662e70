"""What compose.yaml says, for the docker engine: the part of the Compose format that the project uses.

Docker Compose reads the same file, so every setting means what it means there. A key that is not known here
is an error: a setting that the engine would pass over must not stand in the file.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.stage import InvalidRequest

UNIT_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}  # as Docker counts them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """How an image is built. `dockerfile` is relative to `context`; `secrets` are files, by name."""

    context: Path
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, Path] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """How a tool runs. Fields are named as in the Compose format.

    `ports` (`127.0.0.1:host:container`, TCP) are published where the container has a network.
    Host paths in `volumes` (`host:container:mode`) are absolute; /dev/null stands for what this host does
    not have. A service with `profiles` is built, pulled and pushed only by its name, as Compose starts
    it only by its name. What the file does not say is None, False or empty.
    """

    name: str
    image: str
    profiles: tuple[str, ...] = ()
    network_mode: str  # required: without it Compose makes a network, and the tool would have one unasked
    build: Build | None = None
    user: str | None = None
    runtime: str | None = None
    read_only: bool = False
    init: bool = False
    working_dir: str | None = None
    mem_limit_bytes: int | None = None
    pids_limit: int | None = None
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Folders of the container that it goes without, because this host has none."""
        return tuple(volume.split(":")[1] for volume in self.volumes if _is_nothing(volume))

    def container_options(self) -> dict[str, Any]:
        """Return the keyword arguments for `containers.create(image, command, ...)` of Docker's SDK.

        They are all that the file says of the container; the image is not among them, nor is how the engine
        talks to it (command, `stdin_open`).
        """
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for not_of_a_container in ("name", "image", "profiles", "build"):
            del options[not_of_a_container]
        options["ports"] = dict(map(_published, self.ports)) if self.network_mode != "none" else {}
        options["volumes"] = tuple(volume for volume in self.volumes if not _is_nothing(volume))
        options["mem_limit"] = options.pop("mem_limit_bytes")
        options["tmpfs"] = dict(mount.partition(":")[::2] for mount in self.tmpfs)
        lists = {key: list(value) for key, value in options.items() if isinstance(value, tuple)}
        return {key: value for key, value in (options | lists).items() if value not in (None, [], {}, False)}

    def run_arguments(self) -> list[str]:
        """Return the same for Docker's command line: what stands between `docker run` and the image."""
        options: dict[str, Any] = {
            "--network": self.network_mode,
            "--user": self.user,
            "--runtime": self.runtime,
            "--workdir": self.working_dir,
            "--memory": self.mem_limit_bytes,
            "--pids-limit": self.pids_limit,
            "--cap-drop": self.cap_drop,
            "--security-opt": self.security_opt,
            "--tmpfs": self.tmpfs,
            "--volume": [volume for volume in self.volumes if not _is_nothing(volume)],
            "--publish": self.ports if self.network_mode != "none" else (),
            "--device": self.devices,
            "--device-cgroup-rule": self.device_cgroup_rules,
            "--group-add": self.group_add,
            "--env": [f"{name}={value}" for name, value in self.environment.items()],
        }
        listed = {key: each if isinstance(each, list | tuple) else [each] for key, each in options.items()}
        words = [f"{key}={each}" for key, values in listed.items() for each in values if each is not None]
        switches = {"--read-only": self.read_only, "--init": self.init}
        return [*words, *(key for key, wanted in switches.items() if wanted)]


def load(path: Path, environment: Mapping[str, str]) -> dict[str, Service]:
    """Return the services of a compose file by name, with variables taken from `environment`.

    Raises:
        InvalidRequest: it is not a compose file, holds a key or form that is not known here, or needs a
            variable that is not set.
    """
    try:
        data = yaml.safe_load(path.read_text())
        data = {key: value for key, value in data.items() if not key.startswith("x-")}
        data = _interpolated(data, environment)
        _only(data, {"name", "services", "secrets"})
        secrets = {key: _secret(value, path.parent) for key, value in data.get("secrets", {}).items()}
        return {name: _service(name, table, path.parent, secrets) for name, table in data["services"].items()}
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise InvalidRequest(message, hint="Run from a complete checkout of the project.") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path.name} is not a compose file that the runner can follow: {error}"
        raise InvalidRequest(message, hint="host/compose.py lists the keys that it knows.") from None


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$$`, `$X`, `${X}`, `${X:-default}`, `${X:+other}` and `${X:?message}` as Compose does.

    Without the colon a variable that is set but empty counts as set. Replacements may nest. Unlike Compose,
    which makes it an empty text, a plain `${X}` that is not set is an error.

    Raises:
        ValueError: a variable is not set, or the text is malformed.
    """
    done, rest = _expand(text, environment, nested=False)
    return done + rest


def _expand(text: str, environment: Mapping[str, str], *, nested: bool) -> tuple[str, str]:
    """Expand up to the end, or up to the `}` that closes this level; return that and what follows."""
    done = ""
    while text:
        if nested and text[0] == "}":
            return done, text[1:]
        if text[0] != "$":
            done, text = done + text[0], text[1:]
            continue
        match = re.match(r"\$(?:(\$)|(\w+)|\{(\w+)(:?[-+?])?)", text)
        if match is None:
            message = f"{text!r}: a lone $ is written $$"
            raise ValueError(message)
        dollar, plain, braced, operator = match.groups()
        text = text[match.end() :]
        word = ""
        if braced:
            word, text = _expand(text, environment, nested=True)
        done += dollar or _value(plain or braced, operator or "", word, environment)
    if nested:
        message = "a ${ is not closed"
        raise ValueError(message)
    return done, ""


def _value(name: str, operator: str, word: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name)
    is_set = bool(value) if operator.startswith(":") else value is not None
    if operator.endswith("+"):
        return word if is_set else ""
    if is_set:
        return value or ""
    if operator.endswith("-"):
        return word
    message = f"the variable {name} is not set {word}".strip()
    raise ValueError(message)


def _interpolated(data: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(data, str):
        return interpolate(data, environment)
    if isinstance(data, dict):
        return {key: _interpolated(value, environment) for key, value in data.items()}
    return [_interpolated(item, environment) for item in data] if isinstance(data, list) else data


def _service(name: str, table: Mapping[str, Any], folder: Path, secrets: Mapping[str, Path]) -> Service:
    _only(table, READERS.keys() | {"build", "volumes", "mem_limit"}, f"services.{name}")
    fields = {key: read(table[key]) for key, read in READERS.items() if key in table}
    if "mem_limit" in table:
        fields["mem_limit_bytes"] = _bytes(table["mem_limit"])
    if "volumes" in table:
        fields["volumes"] = tuple(_volume(volume, folder) for volume in _texts(table["volumes"]))
    if "build" in table:
        fields["build"] = _build(table["build"], folder, secrets, f"services.{name}.build")
    return Service(name=name, **fields)


def _build(table: Mapping[str, Any], folder: Path, secrets: Mapping[str, Path], where: str) -> Build:
    _only(table, {"context", "dockerfile", "args", "secrets"}, where)
    return Build(
        context=_path(table["context"], folder),
        dockerfile=table.get("dockerfile", Build.dockerfile),
        args=_variables(table.get("args", {})),
        secrets={name: secrets[name] for name in table.get("secrets", ())},
    )


def _only(table: Mapping[str, Any], known: Collection[str], where: str = "the file") -> None:
    if unknown := table.keys() - set(known):
        message = f"{where} has the unknown key {', '.join(sorted(unknown))}"
        raise ValueError(message)


def _secret(table: Mapping[str, Any], folder: Path) -> Path:
    _only(table, {"file"}, "a secret")
    return _path(table["file"], folder)


def _path(text: str, folder: Path) -> Path:
    # not Path.resolve(): Compose leaves links in the path as they are
    return Path(os.path.abspath(folder / Path(text).expanduser()))  # noqa: PTH100


def _volume(text: str, folder: Path) -> str:
    match = re.fullmatch(r"([./~][^:]*)(:/[^:]*:r[ow])", text)
    if match is None:
        message = f"the volume {text!r} is not a host:container:mode with a folder of the host"
        raise ValueError(message)
    return f"{_path(match[1], folder)}{match[2]}"


def _is_nothing(volume: str) -> bool:
    return volume.startswith(f"{os.devnull}:")


def _ports(value: Any) -> tuple[str, ...]:
    """Read ports that are published on this host's loopback, and refuse any other."""
    for text in _texts(value):
        if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", text):
            message = f"the port {text!r} is not a 127.0.0.1:host:container: others may not reach it"
            raise ValueError(message)
    return _texts(value)


def _published(port: str) -> tuple[str, tuple[str, int]]:
    """Return a port as Docker's SDK takes it: `{"8765/tcp": ("127.0.0.1", 8765)}`."""
    address, host, container = port.split(":")
    return f"{container}/tcp", (address, int(host))


def _of(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            message = f"{value!r} is not of type {kind.__name__}"
            raise ValueError(message)
        return value

    return read


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_of(str)(item) for item in _of(list)(value))


def _variables(value: Any) -> dict[str, str]:
    return {key: _of(str)(item) for key, item in _of(dict)(value).items()}


def _bytes(value: Any) -> int:
    match = re.fullmatch(r"(\d+)([bkmg]?)", str(value).lower())
    if match is None:
        message = f"{value!r} is not a size such as 512m"
        raise ValueError(message)
    return int(match[1]) * UNIT_BYTES[match[2]]


READERS: Mapping[str, Callable[[Any], Any]] = {  # a key whose value a Service holds as it stands
    **dict.fromkeys(("image", "network_mode", "user", "runtime", "working_dir"), _of(str)),
    **dict.fromkeys(("read_only", "init"), _of(bool)),
    "pids_limit": _of(int),
    **dict.fromkeys(("profiles", "cap_drop", "security_opt", "tmpfs"), _texts),
    **dict.fromkeys(("devices", "device_cgroup_rules", "group_add"), _texts),
    "ports": _ports,
    "environment": _variables,
}
