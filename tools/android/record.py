"""What a record says of a measurement on a phone, over adb or by the phone alone (`bundle`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools import measure
from tools import profile as layer_times
from tools.android.network import Network
from tools.android.program import Timed
from tools.android.units import Unit
from tools.phone import State

RUNTIME = "tflite"
STEADY_WIDTH = 0.1  # the steady run's mean may be off by so much from the rounds' before it is worth a word
MIB_TO_MB = 1.048576  # benchmark_model's MB are 2^20 bytes


def of_timed(
    timed: Timed, before: State, after: State, samples: Path, profile: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write samples and profile of the timed runs; return metrics and metadata, with `warnings` in it."""
    measure.write_samples(timed.measurement, samples)
    layers = _layers(timed.profile)
    layer_times.write(profile, layers, "benchmark_model's own, of runs apart from the timed ones.")
    metrics = {**timed.measurement.metrics(), **_metrics(timed)}
    metadata = {
        **timed.measurement.metadata(),
        "steady": timed.steady["inference"],
        "load_1m": before.load_1m,
        "conditions_before": before.conditions,
        "conditions_after": after.conditions,
        "warnings": [
            *_slowed(before, after),
            *_unsteady(timed, metrics["latency_p50_ms"]),
            *([] if layers else ["benchmark_model printed no profile of the operators."]),
        ],
    }
    return metrics, metadata


def where(unit: Unit, threads: int, cores: str, kept: tuple[int, ...]) -> dict[str, Any]:
    """What a record says of the unit; threads and cores are the CPU's, which has what a delegate leaves."""
    name = f"CPU {threads} threads" if threads > 1 else "CPU 1 thread"
    device = (
        unit.name if unit.delegate else name + ("" if cores == "fast" or not kept else f", {cores} cores")
    )
    return {"device": device, "threads": threads, "cores": list(kept) or "all"}


def operations(unit: Unit, network: Network) -> Mapping[str, int]:
    """What is computed in which type: known of the CPU; a delegate chooses its own types."""
    return {} if unit.delegate else network.operations


def delegates(said: Mapping[str, Any]) -> dict[str, Any]:
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
