"""Correctness, latency and layers of a network on a phone, by the SDK's programs.

First all reference inputs through the gate, in one run with a detailed profile, which also says what ran each
layer; `profile` ends there. `benchmark` then makes runs with a basic one, until the time is up. A sample is
the mean of a run's inferences by SNPE's own clock (`Total Inference Time`): its log has no single ones. So it
is with Qualcomm's snpe_bench, whose means, minima and maxima are over runs too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import arrays, gate, measure
from tools import profile as layer_times
from tools.benchmark import Target, check_last
from tools.phone import choose
from tools.snpe import converting, diagview, failures
from tools.snpe.net_run import NetRun, Ran, fallback
from tools.snpe.sdk import Sdk
from tools.stage import Result, StageError, progress

if TYPE_CHECKING:
    import numpy as np

RUNS = 8  # wanted in the time that there is; from 6 on the median has an interval
MIN_RUNS = 3
MAX_INFERENCES = 500  # in a run: each leaves a file
COUNTERS = "snpe-diagview's, of a run of its own; what a Hexagon counts in cycles has no time."


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is to be run, where and how; `serial` is the phone's, "" for the only one.

    `dlc_inputs` is what `converting.convert` wrote beside the DLC.
    """

    sdk: Sdk
    dlc: Path
    dlc_inputs: Path
    reference: Path
    target: Target
    perf_profile: str
    serial: str


@dataclasses.dataclass(frozen=True)
class _Checked:
    """A network on the phone that passed the gate: `ran`, with a detailed profile."""

    network: NetRun
    inputs: arrays.Inputs
    expected: np.ndarray
    ran: Ran
    correctness: dict[str, Any]
    metadata: dict[str, Any]


def benchmark(subject: Subject, samples: Path, profile: Path) -> Result:
    """Check and measure the network; write `samples` and `profile`.

    Raises:
        DeviceNotFound: no phone, or it went away.
        WrongOutput: the gate failed, before the timing or after it.
        Unsupported, StageError: SNPE failed; then there is no time.
    """
    budget_s = subject.target.budget_s
    with _checked(subject) as checked:
        runs, per_run = _time(checked, subject.target)
        throughput = checked.network.throughput_per_s(checked.inputs, max(int(budget_s / 5), 1))
        after = checked.network.phone.state()
    measured = _measurement([run.total_ms for run in runs], budget_s)
    measure.write_samples(measured, samples)
    layer_times.write(profile, _layers(checked.ran.found), COUNTERS)
    metrics = {**checked.correctness, **measured.metrics(), **_split(runs), **_start(runs)}
    if throughput:
        metrics["throughput_per_s"] = throughput
    said = (
        f"Each of the {len(runs)} samples is the mean of {per_run} inferences: SNPE's log has no single ones."
    )
    metadata = {
        **checked.metadata,
        **measured.metadata(),
        "conditions_after": after.conditions,
        "inferences_per_sample": per_run,
        "warnings": [*checked.metadata["warnings"], said],
    }
    return Result(metrics=metrics, metadata=metadata)


def profile(subject: Subject, text: Path, layers: Path) -> Result:
    """Check the network in one run, and write what snpe-diagview prints of it, as `text` and as `layers`.

    Raises:
        DeviceNotFound, WrongOutput, Unsupported, StageError: as `benchmark`.
    """
    with _checked(subject) as checked:
        text.write_text(checked.ran.log)
        layer_times.write(layers, _layers(checked.ran.found), COUNTERS)
    said = {key: checked.ran.found[key] for key in ("metrics", "graphs")}
    return Result(metrics=checked.correctness, metadata={**checked.metadata, "diagview": said})


@contextlib.contextmanager
def _checked(subject: Subject) -> Iterator[_Checked]:
    """Yield the network on the phone, checked, while the phone is kept awake.

    Whatever fails in the block says what is known of SDK and phone.
    """
    inputs, expected = arrays.read_reference(subject.reference)
    shapes = converting.read_inputs(subject.dlc_inputs)
    target, phone = subject.target, choose(subject.serial)
    before = phone.state()
    metadata: dict[str, Any] = {
        **target.identity,
        **subject.sdk.describe(),
        **before.identity,
        "perf_profile": subject.perf_profile,
        "tolerance": gate.limits(expected, target.precision),
        "conditions_before": before.conditions,
    }
    try:
        with phone.awake(timeout_s=600 + 2 * target.budget_s):
            progress(0.05, "sending programs and network")
            network = NetRun(
                subject.sdk, phone, before, subject.dlc, shapes, target.device, subject.perf_profile
            )
            progress(0.15, f"checking {len(expected)} outputs on the {target.device}")
            ran = network.run(inputs, range(len(expected)), "detailed", outputs=True)
            metadata["executed_on"] = ran.found["layers_on"]
            metadata["warnings"] = [*fallback(ran.found, target.device), *failures.warnings(ran.said)]
            correctness = gate.check(ran.outputs, expected, target.precision)
            yield _Checked(network, inputs, expected, ran, correctness, metadata)
    except StageError as error:
        error.metadata = {**metadata, **error.metadata}
        raise


def _time(checked: _Checked, target: Target) -> tuple[list[Ran], int]:
    """Run input 0 again and again until the time is up; return the runs, and how many inferences each has.

    A last one, of the same settings, leaves its output for the check.
    """
    share_ms = 1e3 * target.budget_s / RUNS / 2  # the other half is for the program's start
    per_run = min(max(int(share_ms / checked.ran.total_ms), 1), MAX_INFERENCES)
    runs: list[Ran] = []
    start = time.monotonic()
    while len(runs) < MIN_RUNS or time.monotonic() - start < target.budget_s:
        done = (time.monotonic() - start) / target.budget_s
        progress(min(0.2 + 0.7 * done, 0.9), f"run {len(runs) + 1}")
        runs.append(checked.network.run(checked.inputs, [0] * per_run, "basic", outputs=False))
    last = checked.network.run(checked.inputs, [0], "basic", outputs=True)
    check_last(last.outputs, checked.ran.outputs, checked.expected, target.precision)
    return runs, per_run


def _measurement(totals_ms: list[float], budget_s: float) -> measure.Measurement:
    samples = [max(round(total * 1e6), 1) for total in totals_ms]
    return measure.Measurement.told([[sample] for sample in samples], 1, budget_s)


def _split(runs: list[Ran]) -> dict[str, float]:
    """Return where the time of an inference goes, the mean over the runs.

    On the DSP: the Hexagon's own part, the call to it and back (RPC), and the host's; else what the network
    took (Forward Propagate) and what came around it.
    """
    total, forward, rpc, accelerator = (
        sum(_metric(run, name) for run in runs) / len(runs)
        for name in (diagview.TOTAL, "Forward Propagate Time", "RPC Execute Time", "Accelerator Time")
    )
    if rpc and accelerator:
        parts = {"device": accelerator, "transport": rpc - accelerator, "host": total - rpc}
    elif forward:
        parts = {"device": forward, "host": total - forward}
    else:
        parts = {}
    return {f"breakdown_{name}_ms": max(value, 0.0) for name, value in parts.items()}


def _start(runs: list[Ran]) -> dict[str, float]:
    init_ms = sum(_metric(run, "Init") for run in runs) / len(runs)
    return {"load_ms": init_ms} if init_ms else {}


def _metric(run: Ran, name: str) -> float:
    return run.found["metrics"].get(name, {}).get("time_ms") or 0.0


def _layers(found: dict[str, Any]) -> list[layer_times.Layer]:
    """Return the layers that have a time or cycles."""
    return [
        layer_times.Layer(
            row["name"] or f"layer {row['index']}", "", row["ran_on"], row["time_ms"], cycles=row["cycles"]
        )
        for row in found["layers"]
        if row["time_ms"] is not None or row["cycles"] is not None
    ]
