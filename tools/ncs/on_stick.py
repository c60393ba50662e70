"""A network's measurements on the stick: the row of the main job, and its parts alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tools import arrays, benchmark, gate, myriad_blob, profile
from tools.benchmark import Target
from tools.ncs import compiler, counters, inference_engine, session, shave_sweep, stage_plan, stick
from tools.ncs.session import StickSession
from tools.stage import InvalidRequest, Result, StageError, progress, write_json
from tools.usb import Host

if TYPE_CHECKING:
    import numpy as np

POINTS = 10  # a point of a sweep is measured for a tenth of the sweep's time at most


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured, and on what: the core that holds the stick, and the host that it is plugged into.

    `blob` and `plan`, the plan's content, are what `onnx` was converted to.
    """

    core: Any
    host: Host
    blob: Path
    plan: Mapping[str, Any]
    onnx: Path
    reference: Path
    target: Target


def subject(
    blob: Path,
    plan: Path,
    onnx: Path,
    reference: Path,
    device: str,
    precision: str = stick.PRECISION,
    budget_s: float = 10.0,
    requests: int = 1,
) -> Subject:
    """Look whether there is a stick, and read what is to be measured.

    Raises:
        DeviceNotFound: there is none that can be used.
        InvalidRequest: the device is no stick, or blob and plan do not belong together.
        Unsupported: another precision than float16.
    """
    core, host = ready(device, precision)
    made = stage_plan.read(plan, myriad_blob.read(blob))
    return Subject(
        core, host, blob, made, onnx, reference, Target("ncs", device, precision, 0, budget_s, requests)
    )


def ready(device: str, precision: str = stick.PRECISION) -> tuple[Any, Host]:
    """Return a core and this host, on which there is a stick; raises as `subject` does."""
    stick.check(device, precision)
    host = Host.current()
    stick.find(host)
    return inference_engine.core(), host


def measure(
    subject: Subject, streams: int, shaves: str, samples: Path, profile_json: Path, sweep_json: Path
) -> Result:
    """Measure the latency or the throughput, then count the stages, then sweep; write the three files.

    Raises:
        DeviceNotFound: the stick cannot be opened, or went away in the middle; nothing is kept then.
        WrongOutput: the gate failed.
    """
    shave_sweep.parse(shaves)  # before anything is measured
    opened: list[StickSession] = []

    def load() -> StickSession:
        opened.append(
            session.open_blob(
                subject.core,
                subject.blob,
                subject.target.device,
                subject.host,
                streams=streams,
                requests=subject.target.requests,
                operations=session.count(subject.plan),
            )
        )
        return opened[0]

    try:
        with stick.answering(subject.host):
            result = benchmark.run(load, subject.target, subject.reference, samples)
            after_c = stick.temperature_c(opened.pop().network)
        counted = count(subject, profile_json)
        over_shaves(subject, shaves, sweep_json)
    except StageError:
        if samples.exists():
            samples.unlink()
        raise
    warnings = [*result.metadata.get("warnings", ()), *counted.metadata["warnings"]]
    metadata = {**result.metadata, "chip_after_c": after_c, **counted.metadata, "warnings": warnings}
    return dataclasses.replace(result, metrics={**result.metrics, **counted.metrics}, metadata=metadata)


def count(subject: Subject, profile_json: Path) -> Result:
    """Write the time of each stage, after the gate; return where the time of an inference goes."""
    progress(0.5, "counting the stages")
    inputs, expected = arrays.read_reference(subject.reference)
    with stick.answering(subject.host):
        opened = counters.open_counted(
            subject.core, subject.onnx, subject.blob, subject.plan, subject.target.device, subject.host
        )
        gate.check(benchmark.infer_all(opened, inputs), expected, subject.target.precision)
        inferences = counters.take(opened)
    layers, warnings = counters.layers(inferences, subject.plan)
    profile.write(profile_json, layers, counters.ABOUT.format(n=len(inferences)))
    metrics, about = counters.breakdown(inferences)
    warnings += about.pop("warnings", ())
    return Result(metrics=metrics, metadata={**about, "warnings": warnings})


def over_shaves(subject: Subject, shaves: str, sweep_json: Path) -> Result:
    """Write the sweep over `shaves`, for which it has the target's budget."""
    points = shave_sweep.parse(shaves)
    compiling = inference_engine.core()  # not the one that holds the stick, which would look for another
    network = inference_engine.read_network(compiling, subject.onnx)
    target = dataclasses.replace(subject.target, requests=1, budget_s=subject.target.budget_s / POINTS)

    def point(shaves: int, folder: Path) -> dict[str, Any]:
        blob = folder / "point.blob"
        options = compiler.Options(stick.CHIP, shaves, shave_sweep.SLICES, streams=1)
        compiler.prepare(network, options)
        compiler.compile_network(compiling, network, options, blob)

        def load() -> StickSession:
            return session.open_blob(subject.core, blob, target.device, subject.host)

        with stick.answering(subject.host):
            found = benchmark.run(load, target, subject.reference, folder / "samples.i64").metrics
        return {key: found[f"latency_{key}"] for key in ("p50_ms", "ci95_rel", "n")}

    found = shave_sweep.run(points, point, subject.target.budget_s)
    write_json(sweep_json, found)
    return Result(metadata=found)


def infer(core: Any, host: Host, blob: Path, images: Path, answers: Path, device: str) -> Result:
    """Write the network's answers to all inputs of the file `images`."""
    target = Target("ncs", device, stick.PRECISION, 0)
    with stick.answering(host):
        return benchmark.write_answers(
            lambda: session.open_blob(core, blob, device, host), target, images, answers
        )


def label(
    core: Any, host: Host, blob: Path, images: Path, labels: Optional[Path], top: int, device: str
) -> Result:
    """Return the `top` classes of each image, the highest first."""
    inputs = arrays.read_inputs(images)
    with stick.answering(host):
        opened = session.open_blob(core, blob, device, host)
        outputs = benchmark.infer_all(opened, inputs, "image")
    outputs = outputs.reshape(len(outputs), -1)
    names = labels.read_text(encoding="utf-8").splitlines() if labels else None
    if names and len(names) != outputs.shape[1]:
        message = f"{labels.name} has {len(names)} names, the network has {outputs.shape[1]} classes"
        raise InvalidRequest(message, hint="Give one name a line, that of the background class too.")
    return Result(metadata={"top": [_highest(output, names, top) for output in outputs]})


def _highest(output: np.ndarray, names: Optional[list[str]], top: int) -> list[dict[str, Any]]:
    order = (-output).argsort(kind="stable")[:top].tolist()
    return [
        {"class": index, "name": names[index] if names else "", "score": float(output[index])}
        for index in order
    ]
