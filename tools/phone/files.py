"""Files on the phone by content: what is there is not sent again, what is half there is never believed.

A folder of ours on the phone has a list, `.pushed`: of every file its sha256 and, as the phone's kernel said
when the file was whole, its size, inode and time of last change. A file counts as there if content and all
of these still agree; a change on the phone, however made, changes the last one, which nobody can set.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tools import shell_output
from tools.stage import InvalidRequest, StageError, Unsupported, check_name

if TYPE_CHECKING:
    from tools.phone.device import Phone

LIST = ".pushed"
PART = ".part"
STAT = "TZ=UTC stat -c 'is %n %s %i %z'"  # the same in Android's toybox and in coreutils
SPARE_BYTES = 64 * 2**20  # Android misbehaves on a full disk
MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}  # e_machine of the ELF header -> ABI

ANY = "any"  # the ABI of a script


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
    wanted = [_file(_checked(name), source) for name, source in files.items()]
    listed, free_bytes = _look(phone, place)
    missing = [
        file for file in wanted if file.name not in listed or listed[file.name] != _sha256(file.source)
    ]
    if missing:
        _check_space(phone, missing, free_bytes)
        _keep(phone, place, missing, {**listed, **_send(phone, place, missing)})
    return Pushed(
        paths={file.name: f"{place}/{file.name}" for file in wanted},
        sent=tuple(file.name for file in missing),
        sent_bytes=sum(file.size for file in missing),
    )


def check_program(path: Path, abis: tuple[str, ...] = tuple(MACHINES.values())) -> None:
    """See to it that a program or library can run on a phone with these ABIs, by its ELF header.

    A script runs on any.

    Raises:
        InvalidRequest: it is neither.
        Unsupported: it is for another ABI.
    """
    abi = program_abi(path)
    if abi not in (ANY, *abis):
        message = f"{path.name} is for {abi}, and the phone runs {', '.join(abis)}"
        raise Unsupported(message, hint=f"Give the one that is made for {abis[0]}.")


def program_abi(path: Path) -> str:
    """Return the ABI that a program or library is for, by its ELF header; `any` for a script.

    Raises:
        InvalidRequest: it is neither.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if header[:2] == b"#!":
        return ANY
    if header[:4] != b"\x7fELF":
        message = f"{path.name} is no program for Android (neither ELF nor a script)"
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


def _file(name: str, source: Path) -> _File:
    if not source.is_file():
        message = f"{source} was to be sent to the phone, and is no file"
        raise InvalidRequest(message, hint="Is the path right?")
    return _File(name, source, source.stat().st_size)


def _sha256(path: Path) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 18))
    with path.open("rb", buffering=0) as file:
        for size in iter(lambda: file.readinto(buffer), 0):
            digest.update(buffer[:size])
    return digest.hexdigest()


def _look(phone: Phone, place: str) -> tuple[Mapping[str, str], int]:
    """Return what of the folder is whole and unchanged (name -> sha256), and the free space in bytes.

    What was half sent before goes: it would take space, and nobody may want the same file again.
    """
    lines = f"""
        cd {PurePosixPath(phone.root).parent} || exit 1
        for part in {place}/*{PART} {place}/*/*{PART}; do [ -e "$part" ] && rm -f "$part"; done
        df -k .
        cd {place} 2>/dev/null || exit 0
        [ -e {LIST} ] || exit 0
        while read -r kind name rest; do
            echo "was $kind $name $rest"
            [ $kind = is ] && set -- "$@" "$name"
        done <{LIST}
        {STAT} "$@" 2>/dev/null
        exit 0"""
    hint = "A stock phone lets adb write below /data/local/tmp; is its storage encrypted and still locked?"
    text = phone.shell(lines, timeout_s=30).check(f"looking into {place}", hint)
    free_bytes = shell_output.free_bytes(text, "the phone")
    said = text.splitlines()
    whole = {line.split(" ")[1] for line in said if line.startswith("is ") and f"was {line}" in said}
    hashes = (line.split(" ")[2:] for line in said if line.startswith("was sha256 "))
    return {name: sha256 for name, sha256 in hashes if name in whole}, free_bytes


def _check_space(phone: Phone, missing: list[_File], free_bytes: int) -> None:
    needed = sum(file.size for file in missing) + SPARE_BYTES
    if needed > free_bytes:
        message = (
            f"the phone {phone.serial} has {free_bytes / 1e6:.0f} MB free at {phone.root}, "
            f"and {needed / 1e6:.0f} MB are needed"
        )
        hint = "Free some; python runner.py phone clean removes what this project left there."
        raise StageError(message, hint=hint)


def _send(phone: Phone, place: str, missing: list[_File]) -> Mapping[str, str]:
    """Send files to temporary names; return name -> sha256 of what was sent."""
    sent = {}
    with phone.sync() as sync:
        for file in missing:
            with file.source.open("rb", buffering=0) as source:
                sent[file.name] = sync.send(source, f"{place}/{file.name}{PART}")
    return sent


def _keep(phone: Phone, place: str, missing: list[_File], listed: Mapping[str, str]) -> None:
    """Give what was sent its names, then list it; a cut in between leaves files that are not listed."""
    moves = "\n".join(f"mv -f {file.name}{PART} {file.name} || exit 1" for file in missing)
    hashes = "\n".join(f"sha256 {name} {sha256}" for name, sha256 in listed.items())
    command = f"""
cd {place} || exit 1
{moves}
is=$({STAT} {" ".join(listed)})
echo "$is"
echo "{hashes}
$is" >{LIST} # half of it believes nothing that is not so"""
    arrived = phone.shell(command, timeout_s=60).check("keeping the files")
    wrong = [file.name for file in missing if f"is {file.name} {file.size} " not in arrived]
    if wrong:
        phone.shell(f"rm -f {place}/{LIST}")
        message = f"{', '.join(wrong)} did not arrive whole on the phone"
        raise StageError(message, hint="Try again; is its storage full, or failing?")
