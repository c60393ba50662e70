"""The artifact store: `work/store/<key>/` holds a finished stage, named by what it was made from.

key = hash of (toolchain, tool, command, params, content hashes of the inputs). A stage writes into
`<key>.part/`, which is renamed when its result is complete: a kill at any moment leaves nothing half-made.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.stage import SCHEMA, InvalidRequest, Request, Result, StageError, write_json

MANIFEST = "manifest.json"  # sha256, size and times of each output, written just before the rename
CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished stage: its folder, its result, and each output's sha256 by artifact name.

    `given` says where files come from that no stage made.
    """

    folder: Path
    result: Result
    sha256: Mapping[str, str]
    given: str = ""

    def path(self, artifact: str) -> Path:
        """Return the path of one of its outputs."""
        return self.folder / self.result.outputs[artifact]


class Store:
    """Finished stages below `work/store`, and the view of them for people in `work/models`.

    Without `writes` the user's own files are looked at and not taken in, which is enough to plan.
    """

    def __init__(self, work: Path, *, writes: bool = True) -> None:
        self.work = work
        self._writes = writes
        self._store = work / "store"
        self._models = work / "models"
        try:
            self._store.mkdir(parents=True, exist_ok=True)
            self._models.mkdir(exist_ok=True)
        except OSError as error:
            message = f"the work folder {work} cannot be used: {error.strerror}"
            raise InvalidRequest(message, hint="Choose another with --work") from None
        if not os.access(work, os.W_OK) or not os.access(self._store, os.W_OK):
            message = f"the work folder {work} is not writable"
            raise InvalidRequest(message, hint="Choose another with --work")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the work folder for one runner, and clear what a killed one left half-made.

        Raises:
            StageError: another runner holds it; the message names its process.
        """
        with (self.work / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it, however we end
            except BlockingIOError:
                lock.seek(0)
                message = f"another runner (process {lock.read().strip() or '?'}) is using {self.work}"
                raise StageError(message, hint="Wait for it, or give this one its own --work") from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            for leftover in (*self._store.glob("*.part"), *self.work.glob("runs/*.part")):
                shutil.rmtree(leftover)
            yield

    def find(self, key: str) -> Entry | None:
        """Return the finished stage of that key, None if there is none.

        Raises:
            StageError: one of its files is not what it was when the stage ended.
        """
        folder = self._store / key
        if not (folder / MANIFEST).exists():
            return None
        manifest = json.loads((folder / MANIFEST).read_text())
        entry = Entry(
            folder=folder,
            result=Result.read(folder),
            sha256={artifact: file["sha256"] for artifact, file in manifest.items()},
        )
        for artifact, recorded in manifest.items():
            _check(entry.path(artifact), recorded, key)
        return entry

    def part(self, key: str) -> Path:
        """Return a fresh folder for a stage to work in."""
        folder = self._store / f"{key}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def commit(self, key: str) -> Entry:
        """Make `<key>.part` the finished stage `key`; its files become read-only."""
        part, result = self._store / f"{key}.part", Result.read(self._store / f"{key}.part")
        manifest: dict[str, dict[str, Any]] = {}
        _own(part)
        for artifact, name in result.outputs.items():
            path = part / name
            _own(path)
            path.chmod(0o444)
            manifest[artifact] = {"sha256": sha256(path), **_times(path)}
        write_json(part / MANIFEST, manifest)
        # there only if its manifest is not, or of a stage that is run each time
        shutil.rmtree(self._store / key, ignore_errors=True)
        part.rename(self._store / key)
        return Entry(
            folder=self._store / key,
            result=result,
            sha256={artifact: file["sha256"] for artifact, file in manifest.items()},
        )

    def discard(self, key: str) -> None:
        """Remove what a failed stage left."""
        shutil.rmtree(self._store / f"{key}.part", ignore_errors=True)

    def take_in(self, files: Mapping[str, Path], given: str = "by the user") -> Entry:
        """Copy files in that no stage made, as if one had; `given` says where they come from.

        Raises:
            InvalidRequest: one of them cannot be read.
        """
        try:
            hashes = {artifact: sha256(path) for artifact, path in files.items()}
        except OSError as error:
            message = f"{error.filename} cannot be read: {error.strerror}"
            raise InvalidRequest(message, hint="Check the path.") from None
        key = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
        if entry := self.find(key):
            return dataclasses.replace(entry, given=given)
        result = Result(outputs={artifact: path.name for artifact, path in files.items()})
        if not self._writes:
            return Entry(folder=self._store / key, result=result, sha256=hashes, given=given)
        part = self.part(key)
        for path in files.values():
            shutil.copyfile(path, part / path.name)
        result.write(part)
        return dataclasses.replace(self.commit(key), given=given)

    def show(self, model: str, entry: Entry) -> None:
        """Link an entry's files into `work/models/<model>/` under the names that people know."""
        folder = self._models / model
        folder.mkdir(exist_ok=True)
        for name in entry.result.outputs.values():
            link(folder / name, entry.folder / name)


def link(path: Path, target: Path) -> None:
    """Make `path` a relative symbolic link to `target`, in one step also where there is one already."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(target, path.parent))
    part.replace(path)


def stage_key(toolchain: str, request: Request, inputs: Mapping[str, str]) -> str:
    """Return the key of a stage; `inputs` are the sha256 of its input files by artifact name."""
    parts: list[Any] = [SCHEMA, toolchain, request.tool, request.command, dict(inputs)]
    parts += [dict(request.outputs), dict(request.params)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """Hash a file in chunks, so that memory stays small whatever the model's size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own(path: Path) -> None:
    """Take back what root lent to a container's user, who may not change it any more."""
    if path.stat().st_uid != os.getuid():
        os.chown(path, os.getuid(), os.getgid())


def _times(path: Path) -> dict[str, int]:
    """Size and times of a file; the change time cannot be set back by hand."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}


def _check(path: Path, recorded: Mapping[str, Any], key: str) -> None:
    """Compare a file with its record; it is hashed only if its times differ (a copied work folder)."""
    hint = f"Remove the entry, the next run makes it again: python runner.py clean --key {key}"
    try:
        if _times(path).items() <= recorded.items() or sha256(path) == recorded["sha256"]:
            return
    except OSError as error:
        message = f"the store's {key}/{path.name} cannot be read: {error.strerror}"
        raise StageError(message, hint=hint) from None
    message = f"the store's {key}/{path.name} was changed after it was made (its sha256 differs)"
    raise StageError(message, hint=hint)
