"""Files on the phone by content: what is there is not sent again, what is half there is never believed.

A folder of ours on the phone has a list, `.pushed`: of every file its sha256 and, as the phone's kernel said
when the file was whole, its size, inode and time of last change. A file counts as there if content and all
of these still agree; a change on the phone, however made, changes the last one, which nobody can set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tools.stage import InvalidRequest, StageError, Unsupported, check_name

if TYPE_CHECKING:
    from tools.phone.device import Phone

LIST = ".pushed"
STAT = "stat -c '%s %i %z'"  # the same in Android's toybox and in coreutils
SPARE_BYTES = 64 * 2**20  # Android misbehaves on a full disk
MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}  # e_machine of the ELF header -> ABI


@dataclasses.dataclass(frozen=True)
class Pushed:
    """`paths`: name -> path on the phone; `sent`: names that were not there yet; `sent_bytes`: their size."""

    paths: Mapping[str, str]
    sent: tuple[str, ...]
    sent_bytes: int


@dataclasses.dataclass(frozen=True)
class _File:
    name: str
    source: Path
    sha256: str
    size: int


def push(phone: Phone, files: Mapping[str, Path], folder: str) -> Pushed:
    """Bring `files` (name in the folder, which may have folders of its own -> file here) to the phone.

    All are executable there. `folder` is below the phone's `root`.

    Raises:
        InvalidRequest: a name would lead out of the folder, or a file is not there.
        StageError: there is no space, or the phone could not write.
        ConnectionLost: the phone went away; what was half sent is not believed later.
    """
    place = f"{phone.root}/{_checked(folder)}"
    wanted = [_read(_checked(name), source) for name, source in files.items()]
    listed, free_bytes = _look(phone, place)
    missing = [file for file in wanted if listed.get(file.name) != file.sha256]
    if missing:
        _check_space(phone, missing, free_bytes)
        _send(phone, place, missing)
        kept = {name: sha256 for name, sha256 in listed.items() if name not in files}
        _keep(phone, place, missing, {**kept, **{file.name: file.sha256 for file in wanted}})
    return Pushed(
        paths={file.name: f"{place}/{file.name}" for file in wanted},
        sent=tuple(file.name for file in missing),
        sent_bytes=sum(file.size for file in missing),
    )


def check_program(path: Path, abis: tuple[str, ...] = tuple(MACHINES.values())) -> None:
    """See to it that a program or library can run on a phone with these ABIs, by its ELF header.

    Raises:
        InvalidRequest: it is no ELF file.
        Unsupported: it is for another ABI.
    """
    abi = program_abi(path)
    if abi not in abis:
        message = f"{path.name} is for {abi}, and the phone runs {', '.join(abis)}"
        raise Unsupported(message, hint=f"Give the one that is made for {abis[0]}.")


def program_abi(path: Path) -> str:
    """Return the ABI that a program or library is for, by its ELF header.

    Raises:
        InvalidRequest: it is no ELF file.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if header[:4] != b"\x7fELF":
        message = f"{path.name} is no program for Android (not an ELF file)"
        raise InvalidRequest(message, hint="Is it an archive, or a page that a download gave instead?")
    machine = int.from_bytes(header[18:20], "little")
    return MACHINES.get(machine, f"ELF machine {machine}")


def pull(phone: Phone, source: str, target: Path) -> None:
    """Copy a file of the phone here; `target` is whole or not there."""
    part = target.with_name(target.name + ".part")
    try:
        with phone.sync() as sync, part.open("wb") as file:
            for chunk in sync.receive(source):
                file.write(chunk)
        part.replace(target)
    finally:
        if part.exists():
            part.unlink()


def _checked(name: str) -> str:
    return "/".join(check_name(part, "file on the phone") for part in name.split("/"))


def _read(name: str, source: Path) -> _File:
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        message = f"{source}: {error.strerror}"
        raise InvalidRequest(message, hint="It was to be sent to the phone.") from None
    return _File(name, source, digest.hexdigest(), size)


def _look(phone: Phone, place: str) -> tuple[Mapping[str, str], int]:
    """Return what of the folder is whole and unchanged (name -> sha256), and the free space in bytes."""
    lines = f"""
        mkdir -p {place} && cd {place} || exit 1
        df -k . | tail -n 1
        [ -e {LIST} ] || exit 0
        export TZ=UTC
        while read -r sha256 name was; do
            [ "$({STAT} "$name" 2>/dev/null)" = "$was" ] && echo "$sha256 $name"
        done <{LIST}
        exit 0"""
    hint = "A stock phone lets adb write below /data/local/tmp; is its storage encrypted and still locked?"
    said = phone.shell(lines, timeout_s=30).check(f"looking into {place}", hint).splitlines()
    # Filesystem 1K-blocks Used Available Use% Mounted; a long name of the first has a line of its own
    sizes = re.search(r"(\d+)\s+(\d+)\s+(\d+)\s+\d+%", said[0])
    if sizes is None:
        message = f"the phone's df cannot be read: {said[0]!r}"
        raise StageError(message, hint="Please report this line.")
    entries = (line.split(" ", 1) for line in said[1:])
    return {name: sha256 for sha256, name in entries}, int(sizes[3]) * 1024


def _check_space(phone: Phone, missing: list[_File], free_bytes: int) -> None:
    needed = sum(file.size for file in missing) + SPARE_BYTES
    if needed > free_bytes:
        message = (
            f"the phone {phone.serial} has {free_bytes / 1e6:.0f} MB free at {phone.root}, "
            f"and {needed / 1e6:.0f} MB are needed"
        )
        hint = "Free some; python runner.py phone clean removes what this project left there."
        raise StageError(message, hint=hint)


def _send(phone: Phone, place: str, missing: list[_File]) -> None:
    """Send to temporary names."""
    folders = sorted({shlex.quote(str(Path(file.name).parent)) for file in missing})
    # what was half sent before goes: it would take space, and another run may not want the same file
    prepare = f"cd {place} && find . -name '*.part' -exec rm -f {{}} + ; mkdir -p {' '.join(folders)}"
    phone.shell(prepare, timeout_s=30).check(f"making folders in {place}")
    with phone.sync() as sync:
        for file in missing:
            with file.source.open("rb") as source:
                sync.send(source, f"{place}/{file.name}.part")


def _keep(phone: Phone, place: str, missing: list[_File], listed: Mapping[str, str]) -> None:
    """Give what was sent its names, then list it; a cut in between leaves files that are not listed."""
    lines = [f"cd {place} && export TZ=UTC || exit 1"]
    for file in missing:
        said = f"{file.name} has another size there than here"
        lines.append(
            f'[ "$(stat -c %s {file.name}.part)" = {file.size} ] && mv -f {file.name}.part {file.name}'
            f" || {{ echo {shlex.quote(said)} >&2; exit 1; }}"
        )
    lines += ["{"]
    lines += [f'echo "{sha256} {name} $({STAT} {name})"' for name, sha256 in listed.items()]
    lines += [f"}} >{LIST}.part && mv -f {LIST}.part {LIST}"]
    phone.shell("\n".join(lines), timeout_s=60).check("keeping the files")
