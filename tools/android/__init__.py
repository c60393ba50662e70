"""TensorFlow Lite on a phone, by its own program `benchmark_model`, over adb.

The modules: `units` is what a phone has to compute on, `network` the inputs and outputs as files, `program`
the program on the phone. See docs/phone.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from tools import arrays, gate, measure
from tools import profile as layer_times
from tools.android import units
from tools.android.network import Network
from tools.android.program import FOLDER, GIVE, NAME, Program, Timed
from tools.benchmark import Target, check_last, said_of
from tools.phone import Phone, State, check_program, choose
from tools.stage import Input, Output, Result, StageError, Tool, Unavailable, progress

tool = Tool("android", packages=("ai-edge-litert", "numpy"))

RUNTIME = "tflite"
VARIANTS = tuple({"device": name} for name in units.UNITS)
AWAKE_LIMIT_S = 1800.0
COOL_LIMIT_S = 180.0
STEADY_WIDTH = 0.1  # the steady run's mean may be off by so much from the rounds' before it is worth a word
MIB_TO_MB = 1.048576  # benchmark_model's MB are 2^20 bytes


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
    target = Target(RUNTIME, device, precision, threads, budget_s)
    with said_of(target), _opened(target, tflite, benchmark_model, phone, cores) as opened:
        inputs, expected = arrays.read_reference(reference)
        progress(0.1, f"checking {len(expected)} outputs")
        answers, first = opened.program.answers(inputs, "reference")
        opened.metadata.update(_delegates(first), tolerance=gate.limits(expected, precision))
        correctness = gate.check(answers, expected, precision)

        cooled = opened.phone.cool_down(cool_to_degc, COOL_LIMIT_S)
        progress(0.3, f"measuring for {budget_s:g} s")
        before = opened.phone.state()
        timed = opened.program.timed(inputs, budget_s)
        after = opened.phone.state()
        check_last(timed.last, answers, expected, precision)

        measure.write_samples(timed.measurement, samples)
        layers = _layers(timed.profile)
        layer_times.write(profile, layers, "benchmark_model's own, of runs apart from the timed ones.")
        metrics = {**correctness, **timed.measurement.metrics(), **_metrics(timed)}
        warnings = [
            *opened.metadata.pop("warnings", ()),
            *cooled.pop("warnings"),
            *_slowed(before, after),
            *_unsteady(timed, metrics["latency_p50_ms"]),
            *([] if layers else ["benchmark_model printed no profile of the operators."]),
        ]
        metadata = {
            **opened.metadata,
            **timed.measurement.metadata(),
            "steady": timed.steady["inference"],
            "cooled": cooled,
            "load_1m": before.load_1m,
            "conditions_before": before.conditions,
            "conditions_after": after.conditions,
            "connection_lost": timed.lost,
            **({"warnings": warnings} if warnings else {}),
        }
    return Result(metrics=metrics, metadata=metadata, versions=opened.versions)


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
    target = Target(RUNTIME, device, precision, threads)
    with said_of(target), _opened(target, tflite, benchmark_model, phone, cores) as opened:
        outputs, first = opened.program.answers(arrays.read_inputs(images), "image")
        arrays.write(answers, outputs=outputs)
        metadata = {**opened.metadata, **_delegates(first)}
    return Result(metrics={"n_inputs": len(outputs)}, metadata=metadata, versions=opened.versions)


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
        metadata.update(_where(unit, n_threads, cores, kept), operations=_operations(unit, network))
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


def _where(unit: units.Unit, threads: int, cores: str, kept: tuple[int, ...]) -> dict[str, Any]:
    """What a record says of the unit; threads and cores are the CPU's, which has what a delegate leaves."""
    name = f"CPU {threads} threads" if threads > 1 else "CPU 1 thread"
    device = unit.name if unit.delegate else name + ("" if cores == "fast" else f", {cores} cores")
    return {"device": device, "threads": threads, "cores": list(kept) or "all"}


def _operations(unit: units.Unit, network: Network) -> Mapping[str, int]:
    """What is computed in which type: known of the CPU; a delegate chooses its own types."""
    return {} if unit.delegate else network.operations


def _delegates(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of the units that really ran."""
    found = {"delegates": said["delegates"]}
    return {**found, "warnings": said["warnings"]} if said["warnings"] else found


def _metrics(timed: Timed) -> dict[str, Any]:
    """Times and memory that benchmark_model tells of a process."""
    peak_mb = timed.profile["memory_peak_mb"]
    known = {
        "load_ms": timed.steady["init_ms"],
        "first_inference_ms": timed.steady["first_inference_ms"],
        "peak_rss_mb": peak_mb * MIB_TO_MB if peak_mb else None,
    }
    return {name: value for name, value in known.items() if value}


def _layers(said: Mapping[str, Any]) -> list[layer_times.Layer]:
    """The operators of an inference; a Hexagon's have cycles, and no time."""
    return [
        layer_times.Layer(row["name"], row["type"], row["executed_by"], row["time_ms"], cycles=row["cycles"])
        for row in said["operators"]
    ]


def _slowed(before: State, after: State) -> list[str]:
    """Say where heat or Android held the phone back, before or during the measurement."""
    said = []
    if after.throttling:
        said.append(f"Android throttled the phone: thermal status {after.throttling} of 6 at the end.")
    limits = {cluster.cpus: cluster.limit_khz for cluster in before.clusters}
    for cluster in after.clusters:
        was, now = limits.get(cluster.cpus), cluster.limit_khz
        name = f"cores {cluster.cpus[0]} to {cluster.cpus[-1]}"
        if was and now and now < was:
            mhz = f"from {was // 1000} to {now // 1000} MHz"
            said.append(f"The clock's limit of {name} fell {mhz} during the measurement: it throttled.")
        elif was and was < cluster.max_khz:
            mhz = f"{was // 1000} MHz, not to their {cluster.max_khz // 1000}"
            said.append(f"The clock of {name} was limited to {mhz}, before the measurement began.")
    return said


def _unsteady(timed: Timed, median_ms: float) -> list[str]:
    """Warn if the program's own summary of many runs in one process is another than the rounds'."""
    mean_ms = timed.steady["inference"]["mean_ms"]
    if abs(mean_ms / median_ms - 1) <= STEADY_WIDTH:
        return []
    text = f"The steady run's mean is {mean_ms:.4g} ms, the rounds' median {median_ms:.4g} ms"
    return [f"{text}: clock or load changed meanwhile."]
