"""Files to and from a board by content: `store/<sha256>` there, so that what is there is not sent again.

A file is hashed there when it has arrived and each time before it is used, so one that was half sent, or that
changed, is never believed. A stage's folder gets hard links under the names that the stage knows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from host.board.ssh import Connection
from host.store import sha256
from tools import shell_output
from tools.stage import REQUEST, StageError

SPARE_BYTES = 256 * 10**6  # a full root disk is a board that has to be flashed anew
SLOWEST_BYTES_PER_S = 10**6  # USB 2 carries 40 times that; it is for time limits only
SHORT_S, LONG_S = 60.0, 600.0  # time limits: for what is quick, and for files of unknown size
# OpenSSL uses a CPU's instructions for it, which coreutils on Ubuntu does not: 5 times as fast
HASH = 'hash() { openssl dgst -sha256 -r "$@" 2>/dev/null || sha256sum "$@"; }'


def send(connection: Connection, folder: str, files: Mapping[str, Path]) -> int:
    """Bring files (sha256 -> path here) to the store in `folder` of the board; return the bytes sent.

    Raises:
        StageError: there is no space, or a file did not arrive as it was sent.
        ConnectionLost: the board went away.
    """
    missing, free_bytes = _look(connection, folder, files)
    sizes = {key: files[key].stat().st_size for key in missing}
    needed = sum(sizes.values()) + SPARE_BYTES
    if missing and needed > free_bytes:
        where = connection.destination.text
        message = f"{where} has {free_bytes / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed"
        hint = f"What was carried there can go: {connection.destination.by_hand} rm -r {folder}/store"
        raise StageError(message, hint=hint)
    for key in missing:
        script = f"""{HASH}
            cd {shlex.quote(folder)}/store || exit 1
            cat >{key}.part || exit 1
            case $(hash {key}.part) in
                {key}*) chmod 444 {key}.part && mv {key}.part {key} ;;
                *) echo "it arrived as another file" >&2; exit 1 ;;
            esac"""
        with files[key].open("rb") as source:
            limit_s = SHORT_S + sizes[key] / SLOWEST_BYTES_PER_S
            connection.run(script, stdin=source, limit_s=limit_s).check(f"writing {files[key].name}")
    return sum(sizes.values())


def lay_out(connection: Connection, folder: str, stage: str, request: Path, links: Mapping[str, str]) -> None:
    """Make a stage's folder below `folder`/work, with its request.

    Its inputs are files of the store that get names, `links`: path below `folder`/work -> sha256.
    """
    quoted = shlex.quote(stage)
    lines = [f"cd {shlex.quote(folder)}/work && mkdir -p {quoted} && cat >{quoted}/{REQUEST} || exit 1"]
    for path, key in links.items():
        quoted = shlex.quote(path)
        lines.append(f'mkdir -p "$(dirname {quoted})" && ln -f ../store/{key} {quoted} || exit 1')
    with request.open("rb") as source:
        connection.run("\n".join(lines), stdin=source).check("making a stage's folder")


def put(connection: Connection, folder: str, stage: str, path: Path) -> None:
    """Write a file into a stage's folder, of which the tool sees all or nothing."""
    there = shlex.quote(f"{folder}/work/{stage}/{path.name}")
    with path.open("rb") as source:
        done = connection.run(f"cat >{there}.part && mv {there}.part {there}", stdin=source)
        done.check(f"writing {path.name}")


def keep(connection: Connection, folder: str, stage: str, names: Sequence[str]) -> dict[str, str]:
    """Take files that a stage made into the board's store; return their sha256 by name.

    A next stage that reads one does not have it sent back to it.
    """
    quoted = " ".join(map(shlex.quote, names))
    script = f"""{HASH}
        cd {shlex.quote(f"{folder}/work/{stage}")} || exit 1
        hash {quoted} | while read -r key name; do
            ln -f "${{name#\\*}}" {shlex.quote(folder)}/store/$key && echo "$key ${{name#\\*}}" || exit 1
        done"""
    said = connection.run(script, limit_s=LONG_S).check("keeping what a stage made")
    found = {name: key for key, name in re.findall(r"^([0-9a-f]{64}) (.+)$", said, re.MULTILINE)}
    if lost := [name for name in names if name not in found]:
        message = f"{', '.join(lost)} is not on the board, where a stage said to have made it"
        raise StageError(message, hint="Is its disk full?")
    return found


def fetch(connection: Connection, path: str, target: Path, wanted: str = "") -> None:
    """Copy a file of the board here; `target` is whole, with the sha256 `wanted` if one is, or not there."""
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            done = connection.run(f"cat {shlex.quote(path)}", stdout=file, limit_s=LONG_S)
            done.check(f"reading {target.name}")
        if wanted and sha256(part) != wanted:
            message = f"{target.name} did not come back from the board as it was there"
            raise StageError(message, hint="Run it again; is the board's disk failing?")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _look(connection: Connection, folder: str, files: Mapping[str, Path]) -> tuple[list[str], int]:
    """Return which of the files are not there, whole and unchanged, and the free space in bytes."""
    script = f"""{HASH}
        cd {shlex.quote(folder)}/store || exit 1
        df -k . | tail -n 1
        for key in {" ".join(files)}; do [ ! -f $key ] || hash $key; done"""
    limit_s = SHORT_S + sum(path.stat().st_size for path in files.values()) / SLOWEST_BYTES_PER_S
    text = connection.run(script, limit_s=limit_s).check("looking what is there already")
    free_bytes = shell_output.free_bytes(text, "the board")
    whole = {
        found
        for found, name in re.findall(r"^([0-9a-f]{64}) [ *](\w+)$", text, re.MULTILINE)
        if found == name
    }
    return [key for key in files if key not in whole], free_bytes
