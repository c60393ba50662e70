"""Archives, honest and malicious ones; each of these is a real file that does harm where nobody looks."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from host import unpack as unpacking
from host.unpack import unpack
from tools.stage import StageError

WANTED = ("net.ckpt.index", "net.ckpt.data-00000-of-00001")
WEIGHTS = {"net.ckpt.index": b"index", "net.ckpt.data-00000-of-00001": os.urandom(200_000)}
OTHERS = {"net_frozen.pb": b"graph" * 1000, "net_info.txt": b"input: input"}


def tar(folder: Path, files: dict[str, bytes], *special: tarfile.TarInfo) -> Path:
    path = folder / "net.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for member in special:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(folder: Path, files: dict[str, bytes], *special: zipfile.ZipInfo) -> Path:
    path = folder / "net.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in special:
            archive.writestr(member, b"/etc/passwd")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def out(folder: Path) -> Path:
    target = folder / "out"
    target.mkdir()
    return target


def refused(archive: Path, folder: Path) -> str:
    """Unpack, which has to fail and to leave nothing, neither inside nor outside."""
    before = sorted(folder.rglob("*"))
    target = out(folder)
    with pytest.raises(StageError) as error:
        unpack(archive, WANTED, target)
    left = [path for path in folder.rglob("*") if path not in before and path.name not in ("out", *WANTED)]
    assert not left
    return error.value.one_line()


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_only_the_wanted_files(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], prefix: str
) -> None:
    files = {prefix + name: content for name, content in {**OTHERS, **WEIGHTS}.items()}
    found = unpack(make(tmp_path, files), WANTED, out(tmp_path))
    assert {name: path.read_bytes() for name, path in found.items()} == WEIGHTS
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(WEIGHTS)


def test_a_file_in_a_folder(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("deep")
    folder.type = tarfile.DIRTYPE
    found = unpack(tar(tmp_path, {"deep/net.ckpt": b"x"}, folder), ["deep/net.ckpt"], out(tmp_path))
    assert found["deep/net.ckpt"] == tmp_path / "out" / "net.ckpt"


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil-of-test", "..\\evil", "a/../b"])
def test_a_path_that_leads_out(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    assert "leads out of its folder" in refused(make(tmp_path, {name: b"evil", **WEIGHTS}), tmp_path)
    assert not Path("/tmp/evil-of-test").exists()


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE],
)
@pytest.mark.parametrize("name", ["harmless", WANTED[0]])
def test_what_is_no_plain_file(tmp_path: Path, kind: bytes, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    if kind == tarfile.CONTTYPE:  # a "contiguous file", which every tar takes for a plain one
        assert unpack(tar(tmp_path, OTHERS, member), ["net_info.txt"], out(tmp_path))
    else:
        assert "no plain file" in refused(tar(tmp_path, WEIGHTS, member), tmp_path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_what_is_no_plain_file_in_a_zip(tmp_path: Path, mode: int) -> None:
    member = zipfile.ZipInfo("link")
    member.create_system, member.external_attr = 3, (mode | 0o777) << 16
    assert "no plain file" in refused(zipped(tmp_path, WEIGHTS, member), tmp_path)


def test_a_link_and_then_a_file_through_it(tmp_path: Path) -> None:
    link = tarfile.TarInfo("deep")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    refused(tar(tmp_path, {"deep/evil": b"evil"}, link), tmp_path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("make", [tar, zipped])
def test_a_bomb(tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]) -> None:
    files = {WANTED[0]: bytes(100_000_000)}
    archive = make(tmp_path, files)
    assert archive.stat().st_size < 200_000
    assert "far larger unpacked" in refused(archive, tmp_path)


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {WANTED[0]: bytes(100_000_000)})
    size, small = (100_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(size, small))
    assert "damaged" in refused(archive, tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 1000


def test_a_bomb_behind_the_end(tmp_path: Path) -> None:
    archive = tar(tmp_path, WEIGHTS)
    with archive.open("ab") as file:
        file.write(gzip.compress(bytes(200_000_000)))
    assert "far larger unpacked" in refused(archive, tmp_path)


def test_a_sparse_file_that_is_all_hole(tmp_path: Path) -> None:
    """GNU's sparse format: 100 TB in one block, which the limits on real bytes would not see."""
    header = bytearray(tarfile.TarInfo(WANTED[0]).tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % 0
    header[483:495] = b"\x80" + (100 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive = tmp_path / "net.tgz"
    archive.write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    assert "no plain file" in refused(archive, tmp_path)


def test_too_many_members(tmp_path: Path) -> None:
    files = {f"f{number}": b"" for number in range(unpacking.MEMBERS + 1)}
    assert "more than 1000 members" in refused(tar(tmp_path, files), tmp_path)


def test_two_of_one_name(tmp_path: Path) -> None:
    again = tarfile.TarInfo("./" + WANTED[0])
    assert "has two members" in refused(tar(tmp_path, WEIGHTS, again), tmp_path)


@pytest.mark.parametrize("keep", [20, 0.5, -20])
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_truncated_archive(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], keep: float
) -> None:
    archive = make(tmp_path, WEIGHTS)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "damaged or truncated" in refused(archive, tmp_path)


def test_a_flipped_bit(tmp_path: Path) -> None:
    archive = tar(tmp_path, WEIGHTS)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    assert "damaged or truncated" in refused(archive, tmp_path)


def test_what_is_no_archive(tmp_path: Path) -> None:
    page = tmp_path / "net.tgz"
    page.write_text("\n<!DOCTYPE html><html>Please log in</html>")
    assert "is a web page" in refused(page, tmp_path)
    (tmp_path / "out").rmdir()
    page.write_bytes(b"")
    assert "neither a .tar.gz nor a .zip" in refused(page, tmp_path)
