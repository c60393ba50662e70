"""Archives from the network: takes out the files that are wanted, and refuses whatever tries to do more.

An archive is refused as a whole when any member leads out of its folder, is a link or a device, or when it
is far larger unpacked than packed. Nothing is written but the wanted files, under their own plain names.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tools.stage import StageError

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
MEMBERS = 1000  # published archives have about ten
LIMIT_BYTES = 8 << 30
RATIO = 50  # weights hardly compress; the text of a graph, a small part of an archive, some ten times
SMALL_BYTES = 64 << 20  # below this the ratio says nothing
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)
AGAIN = "It is removed; fetch it again, and if that does not help its publisher changed it."


class _Counted:
    """Reads an unpacked stream, and no further than `limit` bytes: a header can lie, bytes cannot."""

    def __init__(self, stream: Any, limit: int, name: str) -> None:
        self._stream, self._left, self._name = stream, limit, name

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _refused(self._name, "is far larger unpacked than an archive can be")
        return data


def unpack(archive: Path, wanted: Collection[str], folder: Path) -> dict[str, Path]:
    """Write the members named in `wanted`, as far as they are there, into `folder`; return name -> path.

    Args:
        archive: a .tar.gz (.tgz) or .zip file, known by its content, not by its name.
        wanted: paths in the archive, without a leading `./`.
        folder: an empty folder.

    Raises:
        StageError: it is no archive, is damaged, or has a member that no honest archive of weights has.
        OSError: the files cannot be written.
    """
    with archive.open("rb") as file:
        head = file.read(512)
    packed = archive.stat().st_size
    limit = min(LIMIT_BYTES, max(SMALL_BYTES, RATIO * packed))
    try:
        if head.startswith(GZIP):
            return _collect(_tar_members(archive, limit), wanted, folder, archive)
        if head.startswith(ZIP):
            return _collect(_zip_members(archive, limit), wanted, folder, archive)
    except (*BROKEN, gzip.BadGzipFile) as error:
        message = f"{archive.name} is damaged or truncated ({error})"
        raise StageError(message, hint=AGAIN) from None
    if head.lstrip().lower().startswith((b"<", b"\xef\xbb\xbf<")):
        message = f"{archive.name} is a web page, not an archive"
        hint = "A captive portal or a proxy answered in the server's place; log in there, then try again."
        raise StageError(message, hint=hint)
    message = f"{archive.name} is neither a .tar.gz nor a .zip archive"
    raise StageError(message, hint="Is the address right?")


def unpack_all(archive: Path, folder: Path) -> None:
    """Write all of a .tar archive, compressed or not, or a .zip into `folder`: a vendor's SDK.

    Links and modes are kept. Programs get the right to be executed where a .zip was made without modes.

    Raises:
        StageError: it is no such archive, is damaged, or has a member that leads out of the folder, by its
            name or as a link, or that is a device.
        OSError: the files cannot be written.
    """
    with archive.open("rb") as file:
        unpack_to = _unzip if file.read(4) == ZIP else _untar
    try:
        unpack_to(archive, folder)
    except (*BROKEN, gzip.BadGzipFile) as error:
        message = f"{archive.name} is neither a .tar nor a .zip archive, or is damaged or truncated ({error})"
        raise StageError(message, hint="Get it again from where it came from.") from None


def _untar(archive: Path, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):  # Python 3.11.4 brought it
        message = f"this Python cannot unpack {archive.name} safely"
        raise StageError(
            message, hint="Use Python 3.11.4 or newer, or unpack it yourself and give the folder."
        )
    try:
        with tarfile.open(archive) as tar:
            if sum(member.size for member in tar) > LIMIT_BYTES:
                raise _refused(archive.name, "is far larger unpacked than an SDK can be")
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise _refused(archive.name, f"has a member that leads out of its folder ({error})") from None


def _unzip(archive: Path, folder: Path) -> None:
    """Write the files first and the links last, so that no file is written through a link."""
    links: dict[PurePosixPath, str] = {}
    left = LIMIT_BYTES
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            path = PurePosixPath(member.filename)
            if _leads_out(member.filename):
                raise _refused(
                    archive.name, f"has a member {member.filename!r}, which leads out of its folder"
                )
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) or member.flag_bits & 1:
                raise _refused(archive.name, f"has a member {member.filename!r} that is no plain file")
            target = folder / path
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as stream:
                counted = _Counted(stream, left, archive.name)
                if kind == stat.S_IFLNK:
                    links[path] = counted.read(4096).decode(errors="replace")
                    continue
                _write(counted, target)
            left -= target.stat().st_size
            target.chmod(_mode(target, member.external_attr >> 16))
    for path, leads_to in links.items():
        (folder / path).symlink_to(leads_to)
    for path in links:
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise _refused(archive.name, f"has a link {str(path)!r}, which leads out of its folder")


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts


def _mode(path: Path, said: int) -> int:
    """Return the mode of a file from a .zip: for everyone to read, and to execute where it is a program."""
    with path.open("rb") as file:
        head = file.read(4)
    runs = said & 0o111 or head.startswith(b"#!") or head == b"\x7fELF"
    return 0o755 if runs else 0o644


def _collect(
    members: Iterator[tuple[str, Any]], wanted: Collection[str], folder: Path, archive: Path
) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for number, (name, stream) in enumerate(members, start=1):
        if number > MEMBERS:
            raise _refused(archive.name, f"has more than {MEMBERS} members")
        path = PurePosixPath(name)
        if _leads_out(name):
            raise _refused(archive.name, f"has a member {name!r}, which leads out of its folder")
        if stream is None or str(path) not in wanted:
            continue
        if str(path) in found:
            raise _refused(archive.name, f"has two members {name!r}")
        found[str(path)] = _write(stream, folder / path.name)
    return found


def _write(stream: Any, target: Path) -> Path:
    with target.open("xb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    return target


def _tar_members(archive: Path, limit: int) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield each member's name, and its stream if it is a file, in one pass without seeking."""
    with gzip.open(archive) as unpacked:
        counted: Any = _Counted(unpacked, limit, archive.name)
        with tarfile.open(fileobj=counted, mode="r|") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise _refused(archive.name, f"has a member {member.name!r} that is no plain file")
                yield member.name, tar.extractfile(member)
        while counted.read(1 << 20):  # to the checksum at the end, which gzip then compares
            pass


def _zip_members(archive: Path, limit: int) -> Iterator[tuple[str, Any]]:
    """Yield each member's name, and its stream if it is a file."""
    with zipfile.ZipFile(archive) as packed:
        if sum(member.file_size for member in packed.infolist()) > limit:
            raise _refused(archive.name, "is far larger unpacked than an archive of weights can be")
        for member in packed.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive.name, f"has a member {member.filename!r} that is no plain file")
            if member.flag_bits & 1:
                raise _refused(archive.name, f"has an encrypted member {member.filename!r}")
            if member.is_dir():
                yield member.filename, None
                continue
            with packed.open(member) as stream:
                yield member.filename, _Counted(stream, limit, archive.name)


def _refused(name: str, what: str) -> StageError:
    message = f"{name} {what}; nothing of it was used"
    return StageError(message, hint="It is not what it says it is. Do not use it; tell its publisher.")
