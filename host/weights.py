"""Which weights a network gets, `--weights auto|published|generated|PATH`, and why; the result says both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from host import checkpoints
from host.checkpoints import Fetched, Published
from host.engines import Note
from host.store import sha256
from tools.names import similar
from tools.stage import InvalidRequest, StageError

AUTO, PUBLISHED, GENERATED = "auto", "published", "generated"
WORDS = (AUTO, PUBLISHED, GENERATED)
GIVEN = "given"  # by the user, as a file
CONTACT_S = 3.0  # what an unreachable network may cost, once per run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a network's weights come from.

    `files` are the import stage's inputs by artifact name, none for generated weights; `sha256` is the
    digest of the archive or file that they come from. `pending`: they would be fetched by a run.
    """

    source: str
    name: str
    reason: str
    sha256: str | None = None
    hint: str | None = None
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    pending: bool = False

    def record(self) -> dict[str, Any]:
        """Return what results.json says of them."""
        return {key: getattr(self, key) for key in ("source", "name", "sha256", "reason", "hint")}


class Chooser:
    """Chooses the weights of each network of a run.

    `may_fetch` is false where nothing is to be run, only planned: then the network is not asked.
    """

    def __init__(self, wanted: str, work: Path, note: Note, *, may_fetch: bool = True) -> None:
        self._wanted = wanted
        self._work = work
        self._note = note
        self._may_fetch = may_fetch
        self._offline = ""

    def choose(self, model: str) -> Weights:
        """Return the weights of a network.

        Raises:
            InvalidRequest: published ones are asked for and none are known, or the user's file is not there.
            Unavailable: published ones are asked for and the network does not give them.
            StageError: they are not what they should be.
        """
        if self._wanted == GENERATED:
            return _generated("asked for: --weights generated")
        if self._wanted not in (AUTO, PUBLISHED):
            return given(Path(self._wanted))
        wanted = checkpoints.published(model)
        return self._published(model, wanted) if self._wanted == PUBLISHED else self._auto(model, wanted)

    def _published(self, model: str, wanted: Published | None) -> Weights:
        if wanted is None:
            message = f"no published checkpoint of {model} is known"
            known = ", ".join(checkpoints.all_published())
            raise InvalidRequest(message, hint=f"There are those of {known}. Your own: --weights PATH")
        if self._may_fetch or checkpoints.find(wanted, self._work):
            fetched = checkpoints.fetch(wanted, self._work, note=self._note)
            return _trained(wanted, fetched, "asked for: --weights published")
        return _pending(wanted, "asked for: --weights published; a run would fetch them")

    def _auto(self, model: str, wanted: Published | None) -> Weights:
        """Take published weights that are here or can be had safely; else generate, and say why."""
        if wanted is None:
            return _generated("no published checkpoint of it is known", "Your own: --weights PATH")
        command = f"python runner.py fetch {model}"
        try:
            if here := checkpoints.find(wanted, self._work):
                return _trained(wanted, here, f"here since they were fetched on {here.date}")
            if checkpoints.digest(wanted) is None:
                reason = "its published checkpoint is not here, and no checksum of it is known"
                return _generated(reason, f"{command} {checkpoints.TRUST}")
            if not self._may_fetch:
                return _pending(wanted, "a run would fetch them, or generate weights if it cannot")
            return self._fetched(wanted, command)
        except StageError as error:
            return _generated(f"its published checkpoint cannot be used: {error}", error.hint or command)

    def _fetched(self, wanted: Published, command: str) -> Weights:
        """Fetch them if the network answers, which is asked once per run; else generate."""
        from host.fetch import Patience, mirrored, unreachable  # not at the top: planning does without

        self._offline = self._offline or unreachable(wanted.url, CONTACT_S)
        if self._offline:
            host = urlsplit(mirrored(wanted.url)).netloc
            reason = f"its published checkpoint is not here, and {host} cannot be reached: {self._offline}"
            return _generated(reason, command)
        haste = Patience(connect_s=CONTACT_S, waits_s=(1.0,))  # nobody asked for this download by name
        fetched = checkpoints.fetch(wanted, self._work, note=self._note, patience=haste)
        return _trained(wanted, fetched, "fetched now")


def given(path: Path) -> Weights:
    """Return the user's own weights: the prefix of a checkpoint of format V2, or a file of format V1.

    Raises:
        InvalidRequest: there is no such checkpoint, or it has more than one shard.
    """
    prefix = path.with_name(path.name.removesuffix(checkpoints.INDEX))
    index = prefix.with_name(prefix.name + checkpoints.INDEX)
    shards = sorted(prefix.parent.glob(prefix.name + ".data-*"))
    if index.exists() and len(shards) == 1:
        files = {"checkpoint": index, "checkpoint_data": shards[0]}
    elif path.is_file() and path != index:
        files = {"checkpoint": path}
    else:
        message = (
            f"{path} is not the prefix of a checkpoint ({prefix.name}.index and one {prefix.name}.data-*), "
            "nor a checkpoint in one file"
        )
        hint = f"{similar(str(path), WORDS)}Name the part before .index, e.g. --weights model.ckpt"
        raise InvalidRequest(message, hint=hint)
    try:
        digest = sha256(list(files.values())[-1])
    except OSError as error:
        message = f"{error.filename} cannot be read: {error.strerror}"
        raise InvalidRequest(message, hint="Check the path.") from None
    reason = "asked for: --weights PATH"
    return Weights(source=GIVEN, name=path.name, sha256=digest, reason=reason, files=files)


def _trained(wanted: Published, fetched: Fetched, reason: str) -> Weights:
    return Weights(
        source=PUBLISHED, name=wanted.archive, sha256=fetched.sha256, reason=reason, files=fetched.files
    )


def _pending(wanted: Published, reason: str) -> Weights:
    return Weights(
        source=PUBLISHED,
        name=wanted.archive,
        sha256=checkpoints.digest(wanted),
        reason=reason,
        pending=True,
    )


def _generated(reason: str, hint: str | None = None) -> Weights:
    return Weights(source=GENERATED, name="seed 0", reason=reason, hint=hint)
