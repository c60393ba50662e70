"""`runner.py phone bundle`: networks, reference, program and scripts, in one folder or .zip."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host import jobs, programs, results, toolbox
from host.options import Measuring, Networks, Running
from host.phone_bundle import ENGINE, FORMAT, MANIFEST, ON_PHONE
from host.plan import PRECISION, Planner, Stage
from host.store import Store, sha256
from host.version import VERSION
from tools.phone import program_abi
from tools.phone.state import READ
from tools.stage import InvalidRequest, Unavailable, write_json

PROGRAM = programs.BENCHMARK_MODEL
GIVE = f"Get it once: python runner.py fetch {PROGRAM} --trust-on-first-use, or give --benchmark-model PATH"
README = """\
What the phone needs to measure these networks by itself: {networks}.

Put this folder on the phone where Android lets programs run, which is not /sdcard, and start run.sh:

    adb push FOLDER /data/local/tmp/bundle        then, by adb shell, or detached, so that the cable can go:
    cd /data/local/tmp/bundle && sh run.sh        setsid nohup sh run.sh >run.log 2>&1 &

or in Termux, without a PC:

    cp -r FOLDER ~/bundle && cd ~/bundle && sh run.sh

Charge the phone, close other apps, and keep its screen on (Termux's wake lock is taken, if Termux:API is
there): Android slows down what runs in the dark. It goes on where it was ended when it is started again.
Then bring the folder back (adb pull, or tar -cf bundle.tar bundle) to a PC with MobileAccelerator:

    python runner.py phone import FOLDER|.zip|.tar

benchmark_model is TensorFlow Lite's, not this project's. Licence: Apache-2.0 (TensorFlow's authors).
From: {source}
sha256: {sha256} ({abi})
"""


def make(networks: Networks, measuring: Measuring, running: Running, output: Path, rest_s: int) -> Path:
    """Make the bundle `output`, a folder, or a file if its name ends in .zip; return it.

    The phone rests for `rest_s` before each timing.

    Raises:
        InvalidRequest: it is there already, or the program is none.
        Unavailable: there is no program to run on the phone.
        StageError: a network could not be prepared.
    """
    if output.exists():
        message = f"{output} is there already"
        raise InvalidRequest(message, hint="Remove it, or give another name: -o NAME")
    program = _program(measuring, Store(running.work.resolve()))
    ran = jobs.execute(
        _plan(networks, {**measuring.settings, "rest_s": rest_s}, measuring.precisions), running
    )
    for stage in ran.stages:
        if error := ran.outcomes[stage].error:
            raise error
    packs = [stage for stage in ran.stages if stage.command.full_name == "android.pack"]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        folder = Path(scratch, output.stem if output.suffix == ".zip" else output.name)
        _fill(folder, packs, ran, program)
        (_zipped(folder) if output.suffix == ".zip" else folder).rename(output)
    return output


def _plan(networks: Networks, settings: Mapping[str, Any], precisions: Sequence[str]) -> jobs.Plan:
    command = toolbox.find("android.pack")

    def target(planner: Planner) -> list[Stage]:
        for precision in dict.fromkeys(precisions or ["fp32"]):
            planner.add(command, {PRECISION: precision})
        return planner.stages

    return jobs.for_each(networks, settings, target)


def _program(measuring: Measuring, store: Store) -> dict[str, Any]:
    """Return what is known of benchmark_model: `path`, `source`, `sha256`, `abi`."""
    path, source = measuring.benchmark_model, "the user's own file"
    if path is None and (entry := programs.fetched(store).get(PROGRAM)):
        path, source = entry.path(PROGRAM), entry.given
    if path is None:
        message = f"there is no {PROGRAM} here for the phone to run"
        raise Unavailable(message, hint=GIVE)
    try:
        return {"path": path, "source": source, "sha256": sha256(path), "abi": program_abi(path)}
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise InvalidRequest(message, hint="It was to be the program for the phone.") from None


def _fill(folder: Path, packs: Sequence[Stage], ran: jobs.Ran, program: Mapping[str, Any]) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    for path in ON_PHONE.iterdir():
        shutil.copy(path, folder / path.name)
    (folder / "state.sh").write_text(f"state() (\n{READ.replace('{root}', '.')})\n")
    shutil.copyfile(program["path"], folder / PROGRAM)
    (folder / PROGRAM).chmod(0o755)
    (folder / "abi").write_text(f"{program['abi']}\n")
    networks = [_network(folder, stage, ran, program["sha256"]) for stage in packs]
    names = ", ".join(network["folder"] for network in networks)
    (folder / "README.txt").write_text(README.format(networks=names, **program))
    (folder / "run.part").write_text(_members(_run(networks)))
    hashes = {str(path.relative_to(folder)): sha256(path) for path in _files(folder)}
    about = {
        "phone_bundle": FORMAT,
        "packed": dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        "project_version": VERSION,
        "program": {key: str(value) for key, value in program.items() if key != "path"},
        "networks": networks,
        "files": hashes,
    }
    write_json(folder / MANIFEST, about)
    listed = {**hashes, MANIFEST: sha256(folder / MANIFEST)}
    (folder / "files.sha256").write_text("".join(f"{sum_} {name}\n" for name, sum_ in listed.items()))


def _network(folder: Path, stage: Stage, ran: jobs.Ran, program_sha256: str) -> dict[str, Any]:
    """Unpack what a stage packed; return what the manifest says of it."""
    precision = stage.params[PRECISION]
    place = folder / f"{stage.model}.{precision}"
    entry = ran.outcomes[stage].entry
    assert entry is not None
    with zipfile.ZipFile(entry.path("packed")) as archive:  # our own tool's
        archive.extractall(place)
    weights = results.weights(stage, ran.outcomes)
    record = {
        "model": stage.model,
        "backend": stage.command.tool,
        "runtime": "tflite",
        "precision": precision,
        "weights": weights,
        "artifacts": {},
        "versions": {PROGRAM: f"sha256:{program_sha256}"},
    }
    (place / "record.part").write_text(_members(record))
    return {
        "folder": place.name,
        "model": stage.model,
        PRECISION: precision,
        "budget_s": stage.params["budget_s"],
        "measurements": [line.split()[0] for line in (place / "measurements").read_text().splitlines()],
        "weights": weights,
        "made_by": results.made_by(stage, ran.outcomes),
    }


def _run(networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What results.json says of the run, but for what the phone knows."""
    return {
        "argv": ["sh", "run.sh"],
        "engine": ENGINE,
        "engine_reason": "a phone measured by itself, with no PC attached",
        "project_version": VERSION,
        "models": list(dict.fromkeys(network["model"] for network in networks)),
        "weights": {network["model"]: network["weights"] for network in networks if network["weights"]},
        "processes": [],
        "stages": [],
    }


def _members(data: Mapping[str, Any]) -> str:
    """Return the members of a JSON object, for a shell that puts others behind them."""
    return "".join(f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in data.items())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _zipped(folder: Path) -> Path:
    target = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            archive.write(path, path.relative_to(folder.parent))
    return target
