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
from tools.stage import Result, progress
from tools.tensorrt import building, measuring
from tools.tensorrt.measuring import Subject, said_in_errors
from tools.tensorrt.session import Session

SPLIT_S = 1.0
COUNTERS = (
    "TensorRT's IProfiler's, of runs of their own with an event of CUDA's at each layer, which slows them."
)


def benchmark(subject: Subject, reference: Path, samples: Path, profile: Path) -> Result:
    """Check and measure the engine; write `samples` and `profile`.

    Raises:
        DeviceNotFound, SdkMissing: no GPU, no TensorRT.
        InvalidRequest: the engine is for another GPU or TensorRT.
        WrongOutput: the gate failed, before the timing or after it.
        StageError: TensorRT failed.
    """
    loaded: List[Session] = []
    _require_place(subject)  # before, so that CUDA's start is not in the time of loading

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
    _require_place(subject)
    session = _load(subject)
    metadata = {**session.metadata, "tolerance": gate.limits(expected, subject.target.precision)}
    with said_in_errors(metadata):
        correctness = gate.check(shared.infer_all(session, inputs), expected, subject.target.precision)
        shared.feed(session, inputs, 0)
        layer_times.write(layers, session.layer_times(SPLIT_S), COUNTERS)
    return Result(metrics=correctness, metadata={**metadata, "operations": dict(session.operations())})


def infer(subject: Subject, images: Path, answers: Path) -> Result:
    """Write what the engine answers to all inputs of a file, unchecked.

    Raises:
        DeviceNotFound, SdkMissing, InvalidRequest, StageError: as `benchmark`.
    """
    _require_place(subject)
    return shared.write_answers(lambda: _load(subject), subject.target, images, answers)


def _require_place(subject: Subject) -> None:
    """Raise InvalidRequest if the engine is of another place."""
    built, said = measuring.about(subject)
    with said_in_errors(said):
        building.require_place(built, subject.api, f"the engine {subject.engine.name}")


def _load(subject: Subject) -> Session:
    built, said = measuring.about(subject)
    with said_in_errors(said):
        session = Session(
            subject.engine,
            built["dla_core"],
            cuda_graph=subject.cuda_graph,
            transfers=subject.transfers,
            spin_wait=subject.spin_wait,
        )
    warnings = [*said["warnings"], *session.metadata["warnings"]]
    session.layers = said.pop("operations")
    session.metadata = {**said, **session.metadata, "warnings": warnings}
    return session
