"""`runner.py phone import`: a bundle that was on a phone becomes a run like any other.

What the phone's own results.json says does not count: each measurement's raw files go through the gate and
the arithmetic of a phone on a cable (tools/android/bundle.py). Sums of sha256 tell what was cut off, mixed up
or changed on the way. They are no seal: who changes a file can write its sum too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema

from host import jobs, results, toolbox
from host.options import Running
from host.phone_bundle import ENGINE, FORMAT, MANIFEST, RESULTS
from host.plan import PRECISION, Stage
from host.store import Store
from host.unpack import BROKEN
from host.weights import Weights
from tools.stage import InvalidRequest, check_name

LIMIT_BYTES = 8 << 30
AGAIN = "Bring it from the phone again."


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle that came back: its manifest, and all files, by their paths in it."""

    id: str
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]

    def stages(self, store: Store) -> list[Stage]:
        """Return the stages that check what was measured, one for each measurement that was packed."""
        return [
            self._stage(store, network, name)
            for network in self.manifest["networks"]
            for name in network["measurements"]
        ]

    def _stage(self, store: Store, network: Mapping[str, Any], name: str) -> Stage:
        # measured where it ran; to the tool it is a stage like others, which no plan of the main job has
        command = dataclasses.replace(toolbox.find("android.unpack"), measures=True)
        given = f"a phone bundle packed on {self.manifest['packed']}"
        with tempfile.TemporaryDirectory() as scratch:
            tflite, measured = Path(scratch, "network.tflite"), Path(scratch, "measured.zip")
            tflite.write_bytes(self.files[f"{network['folder']}/network.tflite"])
            with zipfile.ZipFile(measured, "w", zipfile.ZIP_DEFLATED) as archive:
                for file, data in self._measured(network, name).items():
                    archive.writestr(zipfile.ZipInfo(file), data)
            files = {"tflite": tflite, "measured": measured}
            inputs = {key: store.take_in({key: path}, given) for key, path in files.items()}
        params = {"measurement": name, PRECISION: network[PRECISION], "budget_s": network["budget_s"]}
        weights = network["weights"]
        known = {field.name for field in dataclasses.fields(Weights)}
        return Stage(
            model=network["model"],
            command=command,
            params={**command.params, **params},
            inputs=inputs,
            weights=weights and Weights(**{key: weights[key] for key in weights if key in known}),
        )

    def _measured(self, network: Mapping[str, Any], name: str) -> dict[str, bytes]:
        """Return the raw files of one measurement; of one that was not ended nothing but what it is of."""
        place = f"{RESULTS}/{network['folder']}.{name}/"
        about = {
            "engine": ENGINE,
            "id": self.id,
            **{key: self.manifest[key] for key in ("packed", "project_version", "program")},
            "made_by": network["made_by"],
        }
        raw = {path.removeprefix(place): data for path, data in self.files.items() if path.startswith(place)}
        return {
            "bundle.json": json.dumps(about).encode(),
            "reference.f32": self.files[f"{network['folder']}/reference.f32"],
            **(raw if "sums" in raw else {}),
        }


def carry_out(path: Path, running: Running) -> int:
    """Make a run of the bundle `path`; return the exit code.

    Raises:
        InvalidRequest: it is no bundle, nothing was measured, or it is not what was packed and measured.
    """
    bundle = read(path)
    return jobs.carry_out(lambda store, _: bundle.stages(store), running, report=True)


def read(path: Path) -> Bundle:
    """Return the bundle in a folder, a .zip or a .tar, checked.

    Raises:
        InvalidRequest: as `carry_out` says.
    """
    files = dict(_rooted(path, _folder(path) if path.is_dir() else _archive(path)))
    manifest = _manifest(path, files)
    _check_sums("it was packed", manifest["files"], files, "")
    bundle_id = hashlib.sha256(files[MANIFEST]).hexdigest()
    measured_by = files.get(f"{RESULTS}/bundle", b"").decode(errors="replace").strip()
    if not measured_by:
        message = f"{path} has no results: it was not run on a phone yet"
        raise InvalidRequest(message, hint="On the phone: sh run.sh (its README.txt says where)")
    if measured_by != bundle_id:
        message = (
            f"{path} has the results of another bundle ({measured_by[:12]}, this one is {bundle_id[:12]})"
        )
        raise InvalidRequest(message, hint="Import the folder that was on the phone, as it is.")
    for name in sorted(files):
        if name.startswith(f"{RESULTS}/") and name.endswith("/sums"):
            place = name.removesuffix("sums")
            sums = _sums(files[name])
            _check_sums("it was measured", sums, files, place)
            _check_no_others(sums, files, place)
    _check_results(files)
    return Bundle(bundle_id, manifest, files)


def _check_results(files: Mapping[str, bytes]) -> None:
    """See to it that the phone's results.json, if it got to write one, is whole and of the schema."""
    if f"{RESULTS}/sums" not in files:
        return
    _check_sums("it was measured", _sums(files[f"{RESULTS}/sums"]), files, f"{RESULTS}/")
    try:
        schema = json.loads(results.SCHEMA_FILE.read_text())
        jsonschema.validate(json.loads(files[f"{RESULTS}/{results.FILE}"]), schema)
    except (ValueError, jsonschema.ValidationError) as error:
        message = f"{RESULTS}/{results.FILE} is not what run.sh writes: {str(error).splitlines()[0]}"
        raise InvalidRequest(message, hint="Please report it, with the folder.") from None


def _sums(data: bytes) -> dict[str, str]:
    """Return the lines `sha256 path` of a file by path."""
    lines = (line.partition(" ") for line in data.decode(errors="replace").splitlines())
    return {name: digest for digest, _, name in lines}


def _check_sums(since: str, sums: Mapping[str, str], files: Mapping[str, bytes], place: str) -> None:
    for name, digest in sums.items():
        data = files.get(place + name)
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            what = "is missing" if data is None else "was changed"
            message = f"{place}{name} {what} since {since}"
            raise InvalidRequest(message, hint=AGAIN)


def _check_no_others(sums: Mapping[str, str], files: Mapping[str, bytes], place: str) -> None:
    """See to it that a measurement's folder has the files of its sums only."""
    there = {name.removeprefix(place) for name in files if name.startswith(place)}
    if place.count("/") > 1 and (others := there - sums.keys() - {"sums"}):
        message = f"{place}{min(others)} was put there since it was measured"
        raise InvalidRequest(message, hint=AGAIN)


def _manifest(path: Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(files[MANIFEST])
        if (version := manifest["phone_bundle"]) != FORMAT:
            message = f"{path} is a phone bundle of format {version}, and this version reads {FORMAT}"
            raise InvalidRequest(message, hint="Import it with the version that packed it.")
        for network in manifest["networks"]:
            check_name(network["model"], "network")  # files of the run get names of it
            for name in ("network.tflite", "reference.f32"):
                manifest["files"][f"{network['folder']}/{name}"]
    except (ValueError, LookupError, TypeError):
        message = f"{path} is no phone bundle, or its {MANIFEST} is damaged"
        raise InvalidRequest(message, hint="python runner.py phone bundle makes one.") from None
    return manifest


def _rooted(path: Path, files: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the files below the folder that has the manifest, which an archive may have others around."""
    found = dict(files)
    roots = [str(PurePosixPath(name).parent) for name in found if PurePosixPath(name).name == MANIFEST]
    root = min(roots, key=len, default=".")
    for name, data in found.items():
        if PurePosixPath(name).is_relative_to(root):
            yield str(PurePosixPath(name).relative_to(root)), data


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in path.rglob("*"):
        if file.is_file() and not file.is_symlink():
            yield file.relative_to(path).as_posix(), file.read_bytes()


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an archive; nothing is written, so a name can lead nowhere."""
    try:
        with contextlib.ExitStack() as stack:
            if zipfile.is_zipfile(path):
                packed = stack.enter_context(zipfile.ZipFile(path))
                _check_size(path, sum(member.file_size for member in packed.infolist()))
                for member in packed.infolist():
                    if not member.is_dir():
                        yield member.filename, packed.read(member)
                return
            unpacked = stack.enter_context(tarfile.open(path))
            _check_size(path, sum(member.size for member in unpacked))
            for each in unpacked:
                if file := unpacked.extractfile(each) if each.isreg() else None:
                    yield each.name, file.read()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        raise InvalidRequest(
            message, hint="Give the folder that was on the phone, or a .zip or .tar of it."
        ) from None
    except (*BROKEN, KeyError) as error:
        message = f"{path} is no .zip or .tar, or is cut off: {error}"
        raise InvalidRequest(message, hint=AGAIN) from None


def _check_size(path: Path, size_bytes: int) -> None:
    if size_bytes > LIMIT_BYTES:
        message = f"{path} is far larger unpacked than a phone bundle is"
        raise InvalidRequest(message, hint="It is not what it says it is. Do not use it.")
