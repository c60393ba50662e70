"""TensorFlow Lite on a phone, by its own program `benchmark_model`, over adb.

The modules: `units` is what a phone has to compute on, `network` the inputs and outputs as files, `program`
the program on the phone, `record` what is said of its times, `metering` its windows for a meter, `bundle`
what a phone measures by itself. See docs/phone.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from tools import arrays, gate, metered
from tools.android import bundle, metering, record, units
from tools.android.network import Network
from tools.android.program import FOLDER, GIVE, NAME, Program
from tools.benchmark import Target, check_last, said_of
from tools.phone import Phone, State, check_program, choose
from tools.stage import Input, Output, Result, StageError, Tool, Unavailable, progress

tool = Tool("android", packages=("ai-edge-litert", "numpy"))

VARIANTS = tuple({"device": name} for name in units.UNITS)
AWAKE_LIMIT_S = 1800.0
COOL_LIMIT_S = 180.0


@tool.command(measures=True, variants=VARIANTS)
def benchmark(
    tflite: Input,
    reference: Input,
    benchmark_model: Optional[Input] = None,
    samples: Output = "{model}.latency_ns.i64",
    profile: Output = "{model}.android-profile.json",
    device: str = "CPU",
    phone: str = "",
    cores: str = "fast",
    threads: int = 0,
    cool_to_degc: float = 45.0,
    precision: str = "fp32",
    budget_s: float = 10.0,
) -> Result:
    """Check the network on the phone against the reference, then measure its latency and profile it."""
    target = Target(record.RUNTIME, device, precision, threads, budget_s)
    with said_of(target), _opened(target, tflite, benchmark_model, phone, cores) as opened:
        inputs, expected = arrays.read_reference(reference)
        progress(0.1, f"checking {len(expected)} outputs")
        answers, first = opened.program.answers(inputs, "reference")
        opened.metadata.update(record.delegates(first), tolerance=gate.limits(expected, precision))
        correctness = gate.check(answers, expected, precision)

        cooled = opened.phone.cool_down(cool_to_degc, COOL_LIMIT_S)
        progress(0.3, f"measuring for {budget_s:g} s")
        before = opened.phone.state()
        timed = opened.program.timed(inputs, budget_s)
        after = opened.phone.state()
        check_last(timed.last, answers, expected, precision)

        metrics, said = record.of_timed(timed, before, after, samples, profile)
        inference_s = timed.measurement.wall_ns / len(timed.measurement.samples) / 1e9
        windows = metering.make(
            opened.program,
            inputs,
            inference_s,
            after,
            lambda output: check_last(output, answers, expected, precision),
        )
        sources = (opened.metadata, cooled, said, windows)
        warnings = [text for source in sources for text in source.pop("warnings", ())]
        metadata = {
            **opened.metadata,
            **said,
            **windows,
            "cooled": cooled,
            "connection_lost": timed.lost,
            **({"warnings": warnings} if warnings else {}),
        }
    return Result(
        outputs={"windows": str(metered.WINDOWS)} if windows else {},
        metrics={**correctness, **metrics},
        metadata=metadata,
        versions=opened.versions,
    )


@tool.command(variants=VARIANTS)
def infer(
    tflite: Input,
    images: Input,
    benchmark_model: Optional[Input] = None,
    answers: Output = "{model}.android-answers.npz",
    device: str = "CPU",
    phone: str = "",
    cores: str = "fast",
    threads: int = 0,
    precision: str = "fp32",
) -> Result:
    """Run the network on the phone on inputs (`inputs/<name>`) and write what it answers (`outputs`)."""
    target = Target(record.RUNTIME, device, precision, threads)
    with said_of(target), _opened(target, tflite, benchmark_model, phone, cores) as opened:
        outputs, first = opened.program.answers(arrays.read_inputs(images), "image")
        arrays.write(answers, outputs=outputs)
        metadata = {**opened.metadata, **record.delegates(first)}
    return Result(metrics={"n_inputs": len(outputs)}, metadata=metadata, versions=opened.versions)


@tool.command()
def pack(
    tflite: Input,
    reference: Input,
    packed: Output = "{model}.phone-bundle.zip",
    threads: int = 0,
    precision: str = "fp32",
    budget_s: float = 10.0,
    rest_s: int = 10,
) -> Result:
    """Pack the network for a phone that measures by itself; `runner.py phone bundle` does the rest."""
    target = Target(record.RUNTIME, "CPU", precision, threads, budget_s)
    with said_of(target):
        bundle.pack(target, tflite, reference, packed, rest_s)
    return Result()


@tool.command(cached=False, variants=bundle.VARIANTS)
def unpack(
    tflite: Input,
    measured: Input,
    samples: Output = "{model}.latency_ns.i64",
    profile: Output = "{model}.android-profile.json",
    measurement: str = "cpu",
    precision: str = "fp32",
    budget_s: float = 10.0,
) -> Result:
    """Check what a phone measured by itself; `runner.py phone import` gives it the files."""
    return bundle.unpack(measured, tflite, measurement, precision, budget_s, samples, profile)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A phone that is ready: awake, with program and network on it."""

    phone: Phone
    program: Program
    metadata: dict[str, Any]
    versions: Mapping[str, str]


@contextlib.contextmanager
def _opened(
    target: Target, tflite: Path, benchmark_model: Optional[Path], serial: str, cores: str
) -> Iterator[_Opened]:
    """Yield the phone, ready; an error in the block carries what is known of the phone.

    Raises:
        DeviceNotFound: there is no phone, or it cannot be used.
        Unavailable: there is no program to run on it.
        Unsupported: the program is for another processor, or the unit for other networks.
    """
    progress(0.0, "looking for the phone")
    unit = units.find(target.device)
    phone = choose(serial)
    state = phone.state()
    metadata: dict[str, Any] = {**target.identity, **state.identity}
    try:
        flags = unit.arguments(target.precision)
        path = _program(benchmark_model, state)
        network = Network(tflite)
        kept = units.cores(state, cores)
        n_threads = target.threads or len(kept) or state.n_cpus
        metadata.update(
            record.where(unit, n_threads, cores, kept), operations=record.operations(unit, network)
        )
        pushed = phone.push({NAME: path, "network.tflite": tflite}, FOLDER)
        program = Program(
            phone=phone,
            network=network,
            unit=unit,
            flags=[*flags, f"--num_threads={n_threads}"],
            prefix=phone.pinned(kept),
            path=pushed.paths[NAME],
            graph=pushed.paths["network.tflite"],
        )
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        with phone.awake(AWAKE_LIMIT_S) as awake:
            metadata["kept_awake"] = awake
            yield _Opened(phone, program, metadata, {NAME: f"sha256:{sha256}"})
    except StageError as error:
        error.metadata = {**metadata, **error.metadata}
        raise


def _program(path: Optional[Path], state: State) -> Path:
    if path is None:
        message = f"there is no {NAME} here to run on the phone"
        raise Unavailable(message, hint=f"Get it once: {GIVE}")
    check_program(path, state.abis)
    return path
