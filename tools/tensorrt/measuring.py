"""Correctness, latency and layers of an engine, by trtexec.

Each reference input is one call of it, whose output goes through the gate. Then one call takes the time,
and its last output is checked again; one more takes the layers' times, which would disturb. A sample is
trtexec's `latencyMs` by CUDA's own events: the input's copy, the computing, and the output's copy; what the
host does between two is not in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from tools import arrays, gate, measure, metered
from tools import profile as layer_times
from tools.benchmark import Target, check_last, feed, infer_all, write_answers
from tools.stage import InvalidRequest, Result, StageError, progress
from tools.tensorrt import building, log, trtexec, versions

if TYPE_CHECKING:
    import numpy as np

UNSTABLE = 0.025  # coefficient of variation; trtexec itself warns above it from 11 on, before above 0.01
NO_GRAPH = r"--useCudaGraph flag has been ignored|CUDA graph capture failed|without using CUDA graph"
NOT_FINITE = re.compile(r"(?<=[\[,:\s])(-?)(nan|inf)(?=[\s,\]}])")  # as C++ prints them
COUNTERS = "trtexec's, of a run of its own with an event of CUDA's at each layer, which slows it."


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is to be measured, and how: the engine, what is known of it, the place, and trtexec's settings."""

    engine: Path
    built: Path
    gpu: Path
    target: Target
    cuda_graph: bool = False
    transfers: bool = True
    spin_wait: bool = True

    @property
    def api(self) -> str:
        """By what TensorRT is driven, as tensorrt.gpu chose it.

        Raises:
            InvalidRequest: that is not a file of tensorrt.gpu.
        """
        api: str = building.read_place(self.gpu)["api"]
        return api

    def run(self, seconds: float) -> versions.Run:
        """Return the settings of a run of so many seconds."""
        return versions.Run(self.cuda_graph, self.transfers, self.spin_wait, seconds)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """An engine that passed the gate, the inputs and its answers, and what is said of it."""

    engine: Engine
    inputs: arrays.Inputs
    expected: np.ndarray
    answers: np.ndarray
    correctness: Dict[str, Any]
    metadata: Dict[str, Any]


class Engine:
    """An engine as a session of tools.benchmark; an inference is a call of trtexec, by files in `folder`."""

    def __init__(self, subject: Subject, built: Dict[str, Any], folder: Path) -> None:
        self._subject, self._folder, self._inputs = subject, folder, built["inputs"]
        self._once = dataclasses.replace(subject.run(0), warm_up_ms=0, transfers=True)
        self._dla = [f"--useDLACore={built['dla_core']}"] if built["dla_core"] >= 0 else []
        self.version = versions.parse(built["tensorrt"])
        self.input_shapes = {name: tuple(said["shape"]) for name, said in self._inputs.items()}
        self.metadata: Dict[str, Any] = {}

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Write the inputs as the files that trtexec loads."""
        for name, batch in batches.items():
            self._file(name).write_bytes(batch.astype(self._inputs[name]["type"]).tobytes())

    def infer(self) -> None:
        """Run one inference."""
        self.call(self._once)

    def output(self) -> np.ndarray:
        """Return the last output of the last call."""
        return read_output(self.path("output.json"))

    def operations(self) -> Mapping[str, int]:
        """Say nothing: what is known of the engine's layers was found when it was built."""
        return {}

    def call(self, run: versions.Run, *options: str) -> Dict[str, Any]:
        """Run the engine on what was fed, and return what was printed."""
        with contextlib.suppress(FileNotFoundError):
            self.path("output.json").unlink()  # so that no older one is taken for this call's
        loads = ",".join(f"{name}:{self._file(name)}" for name in self._inputs)
        output = f"--exportOutput={self.path('output.json')}"
        arguments = [f"--loadEngine={self._subject.engine}", f"--loadInputs={loads}", output, *self._dla]
        return trtexec.call([*arguments, *versions.run_options(self.version, run), *options])

    def path(self, name: str) -> Path:
        """Return where trtexec is to write a file."""
        return self._folder / name

    def _file(self, name: str) -> Path:
        return self._folder / f"input-{list(self._inputs).index(name)}.bin"


def benchmark(subject: Subject, reference: Path, samples: Path, profile: Path) -> Result:
    """Check and measure the engine; write `samples` and `profile`.

    Raises:
        DeviceNotFound, Unavailable: no GPU, no TensorRT.
        InvalidRequest: the engine is for another GPU or TensorRT.
        WrongOutput: the gate failed, before the timing or after it.
        StageError: trtexec failed.
    """
    target = subject.target
    with tempfile.TemporaryDirectory() as folder:
        checked = _check(subject, reference, Path(folder))
        engine = checked.engine
        progress(0.4, f"measuring for {target.budget_s:g} s")
        feed(engine, checked.inputs, 0)
        before = measure.conditions()
        found = engine.call(
            subject.run(max(target.budget_s, 1.0)), f"--exportTimes={engine.path('times.json')}"
        )
        after = measure.conditions()
        times = log.times(_rows(engine.path("times.json")))
        check_last(engine.output(), checked.answers, checked.expected, target.precision)
        kept, warm_ups = _without_warm_up(times, subject, engine.version)
        measured = _measurement(kept, warm_ups, target.budget_s)
        windows = _make_windows(checked, subject, kept)
        progress(0.95, "layers")
        _profile(checked, subject, profile)
    measure.write_samples(measured, samples)
    metrics = {**checked.correctness, **measured.metrics(), **breakdown(kept)}
    if found["throughput_qps"]:
        metrics["throughput_per_s"] = found["throughput_qps"]
    if found["load_s"]:
        metrics["load_ms"] = 1e3 * found["load_s"]
    said = [*checked.metadata.pop("warnings"), *found["warnings"], *unstable(kept)]
    said += windows.pop("warnings", ())
    ignored = any(re.search(NO_GRAPH, text) for text in found["warnings"])
    metadata = {
        **checked.metadata,
        "cuda_graph": subject.cuda_graph and not ignored,
        **measured.metadata(),
        **windows,
        "load_1m": before["load_1m"],
        "conditions_before": before,
        "conditions_after": after,
        "gpu_compute_cv_rel": variation(kept),
    }
    if said:
        metadata["warnings"] = said
    return Result(
        outputs={"windows": str(metered.WINDOWS)} if windows else {},
        metrics=metrics,
        metadata=metadata,
        versions={"tensorrt": checked.metadata["tensorrt"]},
    )


def profile(subject: Subject, reference: Path, layers: Path) -> Result:
    """Check the engine and write its layers' times.

    Raises:
        DeviceNotFound, Unavailable, InvalidRequest, WrongOutput, StageError: as `benchmark`.
    """
    with tempfile.TemporaryDirectory() as folder:
        checked = _check(subject, reference, Path(folder))
        feed(checked.engine, checked.inputs, 0)
        _profile(checked, subject, layers)
    return Result(metrics=checked.correctness, metadata=checked.metadata)


def infer(subject: Subject, images: Path, answers: Path) -> Result:
    """Write what the engine answers to all inputs of a file, unchecked.

    Raises:
        DeviceNotFound, Unavailable, InvalidRequest, StageError: as `benchmark`.
    """
    with tempfile.TemporaryDirectory() as folder:
        return write_answers(lambda: _load(subject, Path(folder)), subject.target, images, answers)


def _check(subject: Subject, reference: Path, folder: Path) -> _Checked:
    """Run all reference inputs and ask the gate."""
    inputs, expected = arrays.read_reference(reference)
    engine = _load(subject, folder)
    metadata = {**engine.metadata, "tolerance": gate.limits(expected, subject.target.precision)}
    with said_in_errors(metadata):
        progress(0.05, f"checking {len(expected)} outputs, a start of trtexec each")
        answers = infer_all(engine, inputs)
        correctness = gate.check(answers, expected, subject.target.precision)
    return _Checked(engine, inputs, expected, answers, correctness, metadata)


def _load(subject: Subject, folder: Path) -> Engine:
    """Return the engine, if it is of this place."""
    built, said = about(subject)
    engine = Engine(subject, built, folder)
    engine.metadata.update({**said, "warnings": [*said["warnings"], *_no_such_type(built)]})
    with said_in_errors(engine.metadata):
        building.require_place(built, subject.api, f"the engine {subject.engine.name}")
    return engine


@contextlib.contextmanager
def said_in_errors(metadata: Dict[str, Any]) -> Iterator[None]:
    """Name in every error what is known of the engine."""
    try:
        yield
    except StageError as error:
        error.metadata = {**metadata, **error.metadata}
        raise


def about(subject: Subject) -> tuple[Dict[str, Any], Dict[str, Any]]:
    """Return what is known of the engine, and what a record says of it and of how it is run.

    Raises:
        InvalidRequest: a file is not what it should be.
    """
    built, place = building.read(subject.built), building.read_place(subject.gpu)
    core = built["dla_core"]
    return built, {
        **subject.target.identity,
        "device": f"DLA{core}" if core >= 0 else subject.target.device,
        "device_name": place["gpu"],
        **{key: place[key] for key in building.PLACE if key != "gpu"},
        "simulated": bool(place.get("simulated") or built.get("simulated")),
        "timed_by": place["api"],
        "cuda_graph": subject.cuda_graph,
        "transfers": subject.transfers,
        "spin_wait": subject.spin_wait,
        "operations": built.get("layers", {}),
        "executed_on": {unit: built.get(f"{unit.lower()}_layers") for unit in ("DLA", "GPU")},
        "warnings": list(built.get("warnings", ())),
    }


def _no_such_type(built: Dict[str, Any]) -> List[str]:
    """Warn if no layer computes in what the precision is called: TensorRT takes what is fastest."""
    found, precision = built.get("layers", {}), built["precision"]
    if not found or precision in found:
        return []
    counts = ", ".join(f"{count} in {kind}" for kind, count in found.items())
    return [f"The precision is {precision}, but TensorRT chose no layer of it: {counts}."]


def _profile(checked: _Checked, subject: Subject, path: Path) -> None:
    """Take the layers' times in a run of their own, without a CUDA graph, and write them."""
    run = dataclasses.replace(subject.run(1), cuda_graph=False)
    written = checked.engine.path("profile.json")
    checked.engine.call(run, f"--exportProfile={written}")
    rows = log.layers(written.read_text()) if written.exists() else []
    if not rows:
        raise _cut_off(written)
    layer_times.write(
        path, [layer_times.Layer(row["name"], "", "", row["mean_ms"]) for row in rows], COUNTERS
    )


def _make_windows(checked: _Checked, subject: Subject, kept: Sequence[Dict[str, float]]) -> Dict[str, Any]:
    """Make a meter's windows of one more run, and check its last output; return what to record of them."""
    inference_s = (kept[-1]["start_ms"] - kept[0]["start_ms"]) / (len(kept) - 1) / 1e3
    engine = checked.engine

    def run(seconds: float) -> metered.Told:
        run = dataclasses.replace(subject.run(math.ceil(seconds)), warm_up_ms=0)
        found = engine.call(run, f"--exportTimes={engine.path('windows.json')}")
        return told(log.times(_rows(engine.path("windows.json"))), *found["loop_s"])

    made = metered.make_told(run, inference_s, simulated=checked.metadata["simulated"])
    if not made:
        return {}
    check_last(engine.output(), checked.answers, checked.expected, subject.target.precision)
    return {"windows_of": "one run of trtexec, at rest before it starts and after it has ended", **made}


def told(times: Sequence[Dict[str, float]], before_s: float, after_s: float) -> metered.Told:
    """Return when the inferences of a run without a warm-up ran.

    trtexec's times count from an event that it records between the lines that it printed at `before_s` and
    `after_s` (NVIDIA/TensorRT, samples/common/sampleInference.cpp, runInference). Where in between is open by
    what is left of that time: a rectangular distribution.
    """
    last = times[-1]
    end_ms = last["start_ms"] + last["compute_ms"] + last["d2h_ms"]
    left_s = after_s - before_s - end_ms / 1e3
    zero_s = before_s + left_s / 2
    starts_s = [zero_s + (each["start_ms"] - each["h2d_ms"]) / 1e3 for each in times]
    return metered.Told(starts_s, zero_s + end_ms / 1e3, abs(left_s) / 12**0.5)


def _without_warm_up(
    times: List[Dict[str, float]], subject: Subject, version: versions.Version
) -> tuple[List[Dict[str, float]], int]:
    """Return the inferences after the warm-up, as trtexec counts them, and how many were before."""
    if not versions.exports_warm_up(version):
        return times, 0
    kept = [each for each in times if each["start_ms"] >= subject.run(0).warm_up_ms]
    return kept, len(times) - len(kept)


def _measurement(kept: Sequence[Dict[str, float]], warm_ups: int, budget_s: float) -> measure.Measurement:
    """Return the samples in rounds.

    Raises:
        StageError: there are too few.
    """
    samples = [max(round(each["latency_ms"] * 1e6), 1) for each in kept]
    if len(samples) < measure.MIN_SAMPLES:
        message = f"trtexec left {len(samples)} times after its warm-up"
        raise StageError(message, hint="Give it more time: --budget-s 30")
    size = max(len(samples) // measure.ROUNDS, 1)
    rounds = [samples[at : at + size] for at in range(0, len(samples), size)]
    return measure.Measurement.told(rounds, warm_ups, budget_s)


def breakdown(kept: Sequence[Dict[str, float]]) -> Dict[str, float]:
    """Return where the time of an inference goes, the mean over all."""
    parts = ("h2d", "compute", "d2h")
    return {f"breakdown_{part}_ms": sum(each[f"{part}_ms"] for each in kept) / len(kept) for part in parts}


def variation(kept: Sequence[Dict[str, float]]) -> float:
    """Return the computing's standard deviation over mean: of the whole, as trtexec takes it."""
    values = [each["compute_ms"] for each in kept]
    mean = sum(values) / len(values)
    spread: float = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    return spread / mean if mean else 0.0


def unstable(kept: Sequence[Dict[str, float]]) -> List[str]:
    """Warn if the time of the computing varies by more than UNSTABLE."""
    found = variation(kept)
    if found <= UNSTABLE:
        return []
    text = f"The GPU's compute time varies by {found:.1%} (coefficient of variation; 2.5 % is much)"
    return [f"{text}: its clock may not be fixed. On a Jetson: jetson_clocks."]


def read_output(path: Path) -> np.ndarray:
    """Return the only output of what --exportOutput wrote, [1, ...] float32.

    Raises:
        StageError: it is not whole, or there are several.
    """
    import numpy as np

    rows = _rows(path)
    try:
        if len(rows) != 1:
            message = f"the engine has {len(rows)} outputs, and one can be compared"
            raise InvalidRequest(message, hint="Convert a network of one output.")
        shape = [int(size) for size in rows[0]["dimensions"].split("x")]
        return np.asarray(rows[0]["values"], np.float32).reshape(shape)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _cut_off(path) from error


def _rows(path: Path) -> List[Dict[str, Any]]:
    try:
        rows: List[Dict[str, Any]] = json.loads(NOT_FINITE.sub(_as_json, path.read_text()))
        return rows
    except (OSError, ValueError) as error:
        raise _cut_off(path) from error


def _as_json(match: Any) -> str:
    return "NaN" if match[2] == "nan" else f"{match[1]}Infinity"


def _cut_off(path: Path) -> StageError:
    message = f"trtexec did not write a whole {path.name}"
    return StageError(message, hint="Was it killed, or is the disk full? The log says more.")
