"""Correctness, latency and layers of an engine, by TensorRT's Python module.

Here an engine is measured as every other backend's network is: by tools.benchmark, which feeds, asks the
gate, times each inference by the host's clock until the median is known, and makes a meter's windows. What
CUDA's events tell of the parts, and TensorRT's IProfiler of the layers, is of runs of their own after that.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List

from tools import arrays, gate
from tools import benchmark as shared
from tools import profile as layer_times
from tools.stage import Result, StageError, progress
from tools.tensorrt import building, measuring
from tools.tensorrt.measuring import Subject
from tools.tensorrt.session import Session

SPLIT_S = 1.0
COUNTERS = "of TensorRT's IProfiler, in runs of their own with an event at each layer, which slows them."


def benchmark(subject: Subject, reference: Path, samples: Path, profile: Path) -> Result:
    """Check and measure the engine; write `samples` and `profile`.

    Raises:
        DeviceNotFound, SdkMissing: no GPU, no TensorRT.
        InvalidRequest: the engine is for another GPU or TensorRT.
        WrongOutput: the gate failed, before the timing or after it.
        StageError: TensorRT failed.
    """
    loaded: List[Session] = []

    def load() -> Session:
        loaded.append(_load(subject))
        return loaded[0]

    result = shared.run(load, subject.target, reference, samples)
    progress(0.9, "parts and layers")
    parts = loaded[0].split(SPLIT_S)
    layer_times.write(profile, loaded[0].layer_times(SPLIT_S), COUNTERS)
    found: Dict[str, Any] = {"gpu_compute_cv_rel": measuring.variation(parts)}
    warnings = [*result.metadata.get("warnings", ()), *measuring.unstable(parts)]
    if warnings:
        found["warnings"] = warnings
    return dataclasses.replace(
        result,
        metrics={**result.metrics, **measuring.breakdown(parts)},
        metadata={**result.metadata, **found},
        versions={"tensorrt": result.metadata["tensorrt"]},
    )


def profile(subject: Subject, reference: Path, layers: Path) -> Result:
    """Check the engine and write its layers' times.

    Raises:
        DeviceNotFound, SdkMissing, InvalidRequest, WrongOutput, StageError: as `benchmark`.
    """
    inputs, expected = arrays.read_reference(reference)
    session = _load(subject)
    metadata = {**session.metadata, "tolerance": gate.limits(expected, subject.target.precision)}
    try:
        correctness = gate.check(shared.infer_all(session, inputs), expected, subject.target.precision)
        shared.feed(session, inputs, 0)
        layer_times.write(layers, session.layer_times(SPLIT_S), COUNTERS)
    except StageError as error:
        error.metadata = {**metadata, **error.metadata}
        raise
    return Result(metrics=correctness, metadata={**metadata, "operations": dict(session.operations())})


def infer(subject: Subject, images: Path, answers: Path) -> Result:
    """Write what the engine answers to all inputs of a file, unchecked.

    Raises:
        DeviceNotFound, SdkMissing, InvalidRequest, StageError: as `benchmark`.
    """
    return shared.write_answers(lambda: _load(subject), subject.target, images, answers)


def _load(subject: Subject) -> Session:
    """Return the engine, if it is of this place."""
    built, said = measuring.about(subject)
    try:
        building.require_place(built, subject.api, f"the engine {subject.engine.name}")
        session = Session(
            subject.engine,
            built["dla_core"],
            cuda_graph=subject.cuda_graph,
            transfers=subject.transfers,
            spin_wait=subject.spin_wait,
        )
    except StageError as error:
        error.metadata = {**said, **error.metadata}
        raise
    warnings = [*said["warnings"], *session.metadata["warnings"]]
    session.layers = said.pop("operations")
    session.metadata = {**said, **session.metadata, "warnings": warnings}
    return session
