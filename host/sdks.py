"""SDKs that the user supplies, for tools that drive one: given by --sdk or a variable, folder or archive.

A tool finds its SDK by the variable MOBILE_ACCELERATOR_<TOOL>_SDK. The venv engine passes it on; the docker
engine mounts the folder, read-only, as compose.yaml says. Nothing of an SDK is copied into an image or a
record but its version and checksums.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from host.store import sha256
from host.toolbox import tools
from host.unpack import unpack_all
from tools.names import nearest
from tools.stage import InvalidRequest


def give(texts: Sequence[str], work: Path) -> None:
    """Set the variables of the SDKs that `texts` name, each `tool=path`, and of those that are set already.

    An archive is unpacked once, to `work`/sdks/<part of its sha256>.

    Raises:
        InvalidRequest: no tool of that name takes an SDK, or there is nothing at the path.
        StageError: it is an archive that is damaged, or that no honest SDK comes in.
    """
    paths = {variable: os.environ[variable] for variable in variables().values() if os.environ.get(variable)}
    paths |= dict(map(_parsed, texts))
    for variable, path in paths.items():
        os.environ[variable] = str(_folder(Path(path), work))


def identity(tool: str) -> str:
    """Return what identifies the content of a tool's SDK, for the keys of what it makes; "" for none."""
    folder = os.environ.get(variables()[tool])
    return _content(Path(folder)) if folder else ""


@functools.cache
def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def builds() -> dict[str, str]:
    """Return the services for the commands that drive an SDK, where it needs another build of its tool.

    By `Command.runs_as`: `{"snpe:sdk": "snpe-sdk310"}`.
    """
    found = {}
    for name, tool in tools().items():
        folder = os.environ.get(tool.sdk_variable) if tool.sdk_build else None
        if tool.sdk_build and folder and (build := tool.sdk_build(Path(folder))):
            found[f"{name}:sdk"] = f"{name}-{build}"
    return found


def variables() -> dict[str, str]:
    """Return the variable that names the SDK of each tool that takes one."""
    return {name: tool.sdk_variable for name, tool in tools().items() if tool.sdk_variable}


def absolute(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the SDKs' variables that are set, with absolute paths: what Compose takes for a mount."""
    found = {variable: environment.get(variable) for variable in variables().values()}
    return {variable: str(Path(path).absolute()) for variable, path in found.items() if path}


def _parsed(text: str) -> tuple[str, str]:
    tool, equals, path = text.partition("=")
    if not (equals and path):
        message = f"--sdk {text} does not say which tool's SDK that is"
        raise InvalidRequest(message, hint="The form is --sdk tool=path, e.g. --sdk ncs1=NCSDK-2.10.01.01")
    if tool not in variables():
        message = f"there is no tool {tool!r} that takes an SDK"
        raise InvalidRequest(message, hint=nearest(tool, variables()))
    return variables()[tool], path


def _folder(path: Path, work: Path) -> Path:
    if path.is_dir():
        return path.resolve()
    try:
        folder = work / "sdks" / sha256(path)[:16]
        if not folder.is_dir():
            part = folder.with_name(folder.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            unpack_all(path, part)
            part.rename(folder)
        return folder
    except OSError as error:
        message = f"the SDK {path} cannot be read or unpacked: {error.strerror}"
        raise InvalidRequest(message, hint="Give a folder, or an archive (.zip, .tar.gz).") from None
