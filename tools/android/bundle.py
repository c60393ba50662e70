"""What a phone measures by itself, without a PC: packed for it, and checked when it comes back.

The phone runs host/phone_bundle/on_phone/run.sh, which runs the scripts that are packed here. They are those
that a phone on a cable is given (tools/android/program.py), with variables of the shell where the phone has
to decide: $pin and $threads by its cores, $flags by the measurement, $out for what it writes. What comes back
is raw: outputs, what benchmark_model printed, what the phone said of itself. So the gate and the times are
computed here as for a phone on a cable; what the phone made of them does not count.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import arrays, gate
from tools.android import record, units
from tools.android.network import Network
from tools.android.program import (
    NAME,
    ONCE,
    Timed,
    answers_script,
    heard,
    no_outputs,
    timed_script,
)
from tools.benchmark import Target, check_last, said_of
from tools.phone import state
from tools.stage import InvalidRequest, Result, StageError, Unsupported

if TYPE_CHECKING:
    import numpy as np

# numpy's type of an output -> od's
FORMATS = {"float32": "f4", "int8": "d1", "uint8": "u1", "int16": "d2", "int32": "d4", "int64": "d8"}
MOST_VALUES = 1_000_000  # of all outputs, up to which a phone's awk is quick enough and has the memory


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is measured of a network: on which unit, its cores and threads; 0 threads: as many as cores."""

    name: str
    unit: units.Unit
    cores: str = "fast"
    threads: int = 0


MEASUREMENTS = {
    each.name: each
    for each in (
        *(Measurement(name.lower(), unit) for name, unit in units.UNITS.items()),
        Measurement("cpu-1", units.UNITS["CPU"], "big", 1),
    )
}
VARIANTS = tuple({"measurement": name} for name in MEASUREMENTS)


def pack(target: Target, tflite: Path, reference: Path, packed: Path, rest_s: int) -> None:
    """Write network, inputs, reference outputs and scripts of `target` into the archive `packed`.

    The phone rests for `rest_s` before each timing.

    Raises:
        InvalidRequest: a file is not what it should be, or they are of different networks.
    """
    network = Network(tflite)
    inputs, expected = arrays.read_reference(reference)
    count = len(expected)
    if expected[0].size != network.output_values:
        message = f"the network has {network.output_values} outputs, the reference {expected[0].size}"
        raise InvalidRequest(message, hint="Network and reference belong to different models.")
    with zipfile.ZipFile(
        packed, "w", zipfile.ZIP_DEFLATED
    ) as archive, tempfile.TemporaryDirectory() as scratch:
        archive.write(tflite, "network.tflite")
        archive.writestr("reference.f32", expected.astype("<f4").tobytes())
        files = [network.write_input(inputs, each, "reference", Path(scratch)) for each in range(count)]
        for name, path in (item for each in files for item in each.items()):
            archive.write(path, f"inputs/{name}")
        given = [network.input_flags([f"inputs/{name}" for name in each]) for each in files]
        answers = [_call(ONCE, str(index), given[index]) for index in range(count)]
        archive.writestr("answers.sh", answers_script(answers))
        timed = timed_script(lambda options, name: _call(options, name, given[0]), target.budget_s)
        archive.writestr("timed.sh", timed)
        archive.writestr("measurements", _measurements(target))
        archive.writestr("plan.sh", _plan(target.precision, network, expected, rest_s))


def _call(options: Sequence[str], output: str, inputs: Sequence[str]) -> str:
    """Return the words of one call; run.sh sets the variables, none of whose values has a word of two."""
    wanted = f"--output_filepath=$out/{output}" if output else ""
    program = f"$pin ../{NAME} --graph=network.tflite $flags --num_threads=$threads"
    return f"{program} {shlex.join(options)} {wanted} {shlex.join(inputs)}"


def _measurements(target: Target) -> str:
    """Return run.sh's lines for what units compute in this precision.

    Words of a line: name, unit, its delegate (- for none), cores, threads, flags.
    """
    lines = []
    for each in MEASUREMENTS.values():
        try:
            flags = each.unit.arguments(target.precision)
        except Unsupported:
            continue
        threads = each.threads or target.threads
        said = (each.name, each.unit.name, each.unit.delegate or "-", each.cores, str(threads), *flags)
        lines.append(" ".join(said) + "\n")
    return "".join(lines)


def _plan(precision: str, network: Network, expected: np.ndarray, rest_s: int) -> str:
    """Return the variables that run.sh compares by, as the shell assigns them."""
    import numpy as np

    limit = gate.tolerance(precision)
    tensor = network.output_tensor
    scale, zero = tensor["quantization"]
    kind = tensor["dtype"].__name__
    values: dict[str, Any] = {
        "precision": precision,
        "n": len(expected),
        "k": network.output_values,
        "bytes": network.output_bytes,
        "format": FORMATS.get(kind, "none"),
        "scale": repr(float(scale)),
        "zero": int(zero),
        "classes": int(np.squeeze(expected[0]).ndim <= 1),
        "cosine": limit.cosine,
        "error": limit.error,
        "noise": limit.noise,
        "top1": limit.top1_match,
        "response": gate.RESPONSE,
        "most_values": MOST_VALUES if kind in FORMATS else 0,
        "rest_s": rest_s,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def unpack(
    measured: Path,
    tflite: Path,
    measurement: str,
    precision: str,
    budget_s: float,
    samples: Path,
    profile: Path,
) -> Result:
    """Check one measurement's raw files, in the archive `measured`, as if the phone were here.

    Raises:
        WrongOutput: the outputs are not the reference's; nothing is written.
        Unsupported: the unit did not run the network.
        StageError: it was not measured, or not to its end.
        InvalidRequest: the archive is none, or there is no such measurement.
    """
    if measurement not in MEASUREMENTS:
        message = f"there is no measurement {measurement!r}"
        raise InvalidRequest(message, hint=f"There are {', '.join(MEASUREMENTS)}.")
    what = MEASUREMENTS[measurement]
    target = Target(record.RUNTIME, what.unit.name, precision, what.threads, budget_s)
    with said_of(target):
        try:
            with zipfile.ZipFile(measured) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
        except zipfile.BadZipFile as error:
            message = f"{measured.name} is no archive of a measurement: {error}"
            raise InvalidRequest(message, hint="python runner.py phone import makes it.") from None
        about = json.loads(files["bundle.json"])
        metadata: dict[str, Any] = {**target.identity, "engine": about.pop("engine"), "bundle": about}
        try:
            return _checked(files, tflite, what, target, metadata, samples, profile)
        except StageError as error:
            error.metadata = {**metadata, **error.metadata}
            raise


def _checked(
    files: Mapping[str, bytes],
    tflite: Path,
    what: Measurement,
    target: Target,
    metadata: dict[str, Any],
    samples: Path,
    profile: Path,
) -> Result:
    """See `unpack`. `metadata` gets what becomes known, so that an error has it too."""
    import numpy as np

    if "where" not in files:
        message = f"{what.name} was not measured on the phone, or not to its end"
        raise StageError(message, hint="Run it again there, sh run.sh: it goes on; then import it again.")

    def text(name: str) -> str:
        return files.get(name, b"").decode(errors="replace")

    network = Network(tflite)
    before = state.parse(text("before"))
    threads, *kept = map(int, text("where").split())
    metadata.update(before.identity)
    metadata.update(record.where(what.unit, threads, what.cores, tuple(kept)))
    metadata.update(operations=record.operations(what.unit, network))
    runs = heard(text("answers"), what.unit)
    metadata.update(record.delegates(runs["run"][0]))
    if "0" not in files:
        raise no_outputs()
    shape = network.output_tensor["shape"]
    expected = np.frombuffer(files["reference.f32"], "<f4").reshape(-1, *shape[1:])
    found = [network.output(files.get(str(index), b"")) for index in range(len(expected))]
    answers = np.concatenate(found)
    metadata.update(tolerance=gate.limits(expected, target.precision))
    correctness = gate.check(answers, expected, target.precision)

    runs = heard(text("timed"), what.unit)
    timed = Timed.of(runs, target.budget_s, network.output(files.get("last", b"")))
    check_last(timed.last, answers, expected, target.precision)
    metrics, said = record.of_timed(timed, before, state.parse(text("after")), samples, profile)
    warnings = [*metadata.pop("warnings", ()), *said.pop("warnings")]
    metadata.update(said, **({"warnings": warnings} if warnings else {}))
    versions = {NAME: f"sha256:{metadata['bundle']['program']['sha256']}"}
    return Result(metrics={**correctness, **metrics}, metadata=metadata, versions=versions)
