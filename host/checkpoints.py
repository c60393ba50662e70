"""Published checkpoints, and programs: which there are, whether they are here, and bringing them here.

`work/downloads/<key>/` holds an unpacked checkpoint, and in `fetched.json` the archive that it came from;
it is there whole or not at all. Beside it lie `<key>.part`, an archive on its way, and `<key>.lock`. The key
is the archive's, not the network's: names that differ in the size of the input share one download.

A file whose digest nobody published is taken only if the user says so, once: the digest is then written into
the user's lock file, and another file under that address is an error from then on. That file is not in
the work folder, because trust is the user's, for all work folders, and has to outlive their removal;
$MOBILE_ACCELERATOR_LOCK names another, for instance one in a repository that a group shares.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import json
import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import platformdirs

from host import ROOT, rows
from host.engines import Note
from host.store import sha256
from tools.phone import check_program
from tools.stage import InvalidRequest, StageError, write_json

if TYPE_CHECKING:  # requests and tarfile take their time, and planning does without
    from host.fetch import Patience

LOCK = "MOBILE_ACCELERATOR_LOCK"
ABOUT = "fetched.json"
INDEX, DATA = ".index", ".data-00000-of-00001"  # of format V2; a checkpoint of format V1 is one file
TRUST = "--trust-on-first-use"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A network's published checkpoint: `checkpoint` is a member of the archive at `url`, or their prefix.

    `sha256` is the archive's, from tools/models.toml; None where nobody published one. What `url` has that is
    no archive but a single file (host/programs.py) has the name `artifact` instead of a `checkpoint`.
    """

    model: str
    url: str
    checkpoint: str = ""
    sha256: str | None = None
    size_bytes: int | None = None
    artifact: str = ""

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return Path(urlsplit(self.url).path).name

    @property
    def key(self) -> str:
        """The download's name: apart from those of other addresses, and of other members of this archive."""
        digest = hashlib.sha256(f"{self.url} {self.checkpoint}".encode()).hexdigest()
        return f"{self.archive}-{digest[:8]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """A checkpoint that is here: its files by the names of the import stage's inputs."""

    sha256: str
    date: str
    files: Mapping[str, Path]


@functools.cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    tables = tomllib.loads((ROOT / "tools" / "models.toml").read_text())
    return {name: table["published"] for name, table in tables.items() if "published" in table}


def published(model: str) -> Published | None:
    """Return the published checkpoint of a network, None if none is known.

    A number after the network's name is the size of its input, which its weights do not depend on.
    """
    for pattern, table in _tables().items():
        said = rows.match(pattern, model)
        if said is None:
            continue
        if "multiplier" not in said:
            return Published(model=model, **table)
        multiplier = str(float(said["multiplier"] or 1))
        if multiplier in table:
            texts = {key: table[key].replace(rows.MULTIPLIER, multiplier) for key in ("url", "checkpoint")}
            return Published(model=model, **texts, **table[multiplier])
    return None


def all_published() -> list[str]:
    """Return the names of all networks with a published checkpoint."""
    names = []
    for pattern, table in _tables().items():
        multipliers = [key for key, value in table.items() if isinstance(value, dict)]
        names += [pattern.replace(rows.MULTIPLIER, multiplier) for multiplier in multipliers] or [pattern]
    return names


def digest(wanted: Published) -> str | None:
    """Return the sha256 that the archive has to have: a recorded one, or one that the user trusted once."""
    return wanted.sha256 or _trusted().get(wanted.url, {}).get("sha256")


def find(wanted: Published, work: Path) -> Fetched | None:
    """Return the checkpoint if it is here, and is the one that is wanted now.

    Raises:
        StageError: a file of it was changed since.
    """
    folder = work / "downloads" / wanted.key
    try:
        about = json.loads((folder / ABOUT).read_text())
    except FileNotFoundError:
        return None
    if digest(wanted) not in (None, about["sha256"]):
        return None
    files = {artifact: folder / name for artifact, name in about["files"].items()}
    for artifact, path in files.items():
        if not path.exists() or sha256(path) != about["sha256_of"][artifact]:
            message = f"{path} was changed after it was fetched"
            raise StageError(message, hint=f"Remove {folder} and fetch it again.")
    return Fetched(sha256=about["sha256"], date=about["date"], files=files)


def fetch(
    wanted: Published, work: Path, *, note: Note, trust: bool = False, patience: Patience | None = None
) -> Fetched:
    """Return the checkpoint; bring it here first if it is not.

    Args:
        wanted: what to fetch.
        work: the work folder.
        note: told what happens.
        trust: take a file with no known digest, and record its own.
        patience: how long to wait for the network, and how often to try.

    Raises:
        InvalidRequest: no digest of it is known, and `trust` does not say to take it all the same.
        Unavailable: the network does not give it.
        StageError: it is not what it should be, or there is no space for it.
    """
    from host.fetch import disk_error, download, locked, mirrored

    downloads = work / "downloads"
    try:
        with locked(downloads / f"{wanted.key}.lock", note):
            if here := find(wanted, work):
                return here
            expected = digest(wanted)
            if expected is None and not trust:
                message = (
                    f"no checksum is known of {wanted.url}, so nothing says whether it is the right file"
                )
                hint = f"Take it as it is, once: python runner.py fetch {wanted.model} {TRUST}"
                raise InvalidRequest(message, hint=hint)
            part = downloads / f"{wanted.key}.part"
            note(f"fetching {mirrored(wanted.url)}{_size(wanted.size_bytes)}")
            download(wanted.url, part, size_bytes=wanted.size_bytes, patience=patience, note=note)
            return _take(wanted, part, expected, note)
    except OSError as error:
        raise disk_error(error, downloads) from None


def _take(wanted: Published, part: Path, expected: str | None, note: Note) -> Fetched:
    """Check the archive, unpack it, and give its folder its name."""
    from host.fetch import discard, mirrored

    found, size_bytes = sha256(part), part.stat().st_size
    if expected and found != expected:
        discard(part)
        address = mirrored(wanted.url)
        message = f"{address} is not the file that it should be: its sha256 is {found}, not {expected}"
        hint = "It is removed. Try again; if it comes again, a proxy, a mirror or the publisher changed it."
        raise StageError(message, hint=hint)
    folder = part.with_name(f"{wanted.key}.unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        files = _file(wanted, part, folder) if wanted.artifact else _checkpoint(wanted, part, folder)
        today = dt.datetime.now(dt.UTC).date().isoformat()
        if not expected:
            _trust(wanted.url, {"sha256": found, "size_bytes": size_bytes, "date": today})
            note(f"trusted on first use: {wanted.archive} has sha256 {found}, now recorded in {lock_file()}")
        about = {
            "url": wanted.url,
            "sha256": found,
            "date": today,
            "files": {artifact: path.name for artifact, path in files.items()},
            "sha256_of": {artifact: sha256(path) for artifact, path in files.items()},
        }
        write_json(folder / ABOUT, about)
        final = folder.with_name(wanted.key)
        shutil.rmtree(final, ignore_errors=True)  # one of another digest
        folder.rename(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    discard(part)
    here = {artifact: final / path.name for artifact, path in files.items()}
    return Fetched(sha256=found, date=today, files=here)


def _checkpoint(wanted: Published, part: Path, folder: Path) -> dict[str, Path]:
    """Unpack the one file of a checkpoint of format V1, or the two of format V2."""
    from host.fetch import discard
    from host.unpack import unpack

    names = {wanted.checkpoint: "checkpoint", wanted.checkpoint + INDEX: "checkpoint"}
    names[wanted.checkpoint + DATA] = "checkpoint_data"
    try:
        found = unpack(part, names, folder)
    except StageError:
        discard(part)  # else the next try would go on from what is no archive
        raise
    if set(found) not in ({wanted.checkpoint}, {wanted.checkpoint + INDEX, wanted.checkpoint + DATA}):
        discard(part)
        message = f"{wanted.archive} does not hold the checkpoint {wanted.checkpoint}"
        raise StageError(
            message, hint="It is removed. Does its table in tools/models.toml name the right one?"
        )
    return {names[name]: path for name, path in found.items()}


def _file(wanted: Published, part: Path, folder: Path) -> dict[str, Path]:
    """Take the file as it is, if it is a program and no page that a captive portal gave."""
    from host.fetch import discard

    path = folder / wanted.archive
    shutil.copyfile(part, path)
    try:
        check_program(path)
    except StageError:
        discard(part)
        raise
    return {wanted.artifact: path}


def lock_file() -> Path:
    """Return the user's lock file."""
    named = os.environ.get(LOCK)
    return Path(named) if named else platformdirs.user_config_path("mobile-accelerator") / "models.lock.toml"


def _trusted() -> dict[str, dict[str, Any]]:
    """Return what the user trusted once, by address.

    Raises:
        InvalidRequest: the lock file is damaged.
    """
    try:
        entries = tomllib.loads(lock_file().read_text())
        for entry in entries.values():
            if not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
                raise ValueError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        message = f"{lock_file()} is not a lock file of this program"
        raise InvalidRequest(message, hint="Mend it, or remove it and trust each file anew.") from None
    return entries


def _trust(url: str, entry: Mapping[str, Any]) -> None:
    """Write a digest into the user's lock file, whole or not at all."""
    from host.fetch import locked

    path = lock_file()
    with locked(path.with_name(path.name + ".lock"), lambda _: None):
        entries = {**_trusted(), url: entry}
        lines = [
            "# Files trusted on first use: another file under one of these addresses is refused.",
            "",
        ]
        for address, values in entries.items():
            lines.append(f"[{json.dumps(address)}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()] + [""]
        part = path.with_name(path.name + ".part")
        part.write_text("\n".join(lines))
        part.replace(path)


def _size(size_bytes: int | None) -> str:
    return f" ({size_bytes / 1e6:.0f} MB)" if size_bytes else ""
