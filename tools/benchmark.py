"""What all runtimes share: load, first inference, gate, timing, and the check after it; or less of it.

Where a meter is there, the timing is followed by its windows (tools/metered.py) and one more check.

A runtime supplies a `Session`; `run` does the rest and makes the result for the host. `check` is for an
emulator, whose time means nothing; `write_answers` for inference alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, cast

from tools import arrays, gate, measure, metered
from tools.stage import InvalidRequest, Result, StageError, Unsupported, WrongOutput, progress

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs


class Session(Protocol):
    """A network that a runtime has loaded, at batch 1.

    Attributes:
        input_shapes: of the network's inputs by name, e.g. {"input": (1, 3, 224, 224)}; an axis of no fixed
            length is not an int.
        infer: one inference on the input that `feed` set; the call that is timed, so nothing else is in it.
        metadata: what is known only now: `device_name`, `threads` really used, delegates, `warnings`.
    """

    input_shapes: Mapping[str, tuple[Any, ...]]
    infer: Callable[[], object]
    metadata: dict[str, Any]

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs, of the names and shapes of `input_shapes`."""

    def output(self) -> np.ndarray:
        """Return a copy of the last inference's output, which starts with the batch axis."""

    def operations(self) -> Mapping[str, int]:
        """Count what the runtime executes by the type that it computes in, as it names types: {"int8": 26}.

        Left out is what only turns one type into another, or changes a layout.
        """


class ParallelSession(Session, Protocol):
    """A session that can have several requests in flight; `feed` sets the inputs of all of them."""

    def start(self, request: int) -> None:
        """Start a request."""

    def wait(self) -> int:
        """Return the next request that has ended, each once; raise if it failed."""

    def output_of(self, request: int) -> np.ndarray:
        """Return a copy of a request's last output; that of request 0 is `output`."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What the user asked to measure; part of every record, also of one that failed.

    Attributes:
        threads: CPU threads of the runtime; 0 = all CPUs that this process may use.
        budget_s: time for warm-up and rounds; unused without a measurement.
        requests: inferences in flight: 1 is the scenario single-stream, more are throughput.
        precisions: those that the tool has networks of.
    """

    runtime: str
    device: str
    precision: str
    threads: int
    budget_s: float = 10.0
    requests: int = 1
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8-dynamic", "int8")

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its records from those of other targets."""
        return {"runtime": self.runtime, "device": self.device, "precision": self.precision}

    @property
    def cpu_threads(self) -> int:
        """The number of threads to ask the runtime for."""
        return self.threads or measure.usable_cpus()

    def check(self) -> None:
        """Raise InvalidRequest if a number makes no sense, Unsupported if there are no such networks."""
        gate.tolerance(self.precision)
        if self.precision not in self.precisions:
            message = f"there are no networks of {self.precision} for {self.runtime}"
            raise Unsupported(message, hint=f"Those that there are: {', '.join(self.precisions)}.")
        if self.threads < 0:
            message = f"threads is {self.threads}"
            raise InvalidRequest(message, hint="Give a number of threads, or 0 for all CPUs.")
        if self.requests < 1:
            message = f"requests is {self.requests}"
            raise InvalidRequest(
                message, hint="Give the inferences in flight: 1 for latency, 4 for throughput."
            )
        if not (self.budget_s > 0 and math.isfinite(self.budget_s)):
            message = f"budget_s is {self.budget_s}"
            raise InvalidRequest(message, hint="Give the seconds that the measurement may take, e.g. 10.")


def run(load: Callable[[], Session], target: Target, reference: Path, samples: Path) -> Result:
    """Load the network, check it against `reference`, time it, check again; write `samples`.

    With a meter: then make its windows, check once more, and write them too.

    With more than one request in flight `load` returns a `ParallelSession`.

    Raises:
        WrongOutput: the gate failed, before the timing or after it; nothing is written.
        InvalidRequest: a file or a parameter is not what it should be.
    """
    with said_of(target):
        return _run(load, target, reference, samples)


def check(load: Callable[[], Session], target: Target, reference: Path, *, reason: str, hint: str) -> Result:
    """Load the network on an emulator and check it against `reference`; no time is taken.

    `reason` says what stood in for the device, `hint` what it takes to measure.

    Raises:
        WrongOutput: the gate failed.
        InvalidRequest: a file or a parameter is not what it should be.
    """
    with said_of(target):
        inputs, expected = arrays.read_reference(reference)
        progress(0.0, f"loading on {target.device}")
        session = load()
        progress(0.1, f"checking {len(expected)} outputs")
        answers = infer_all(session, inputs)
        metadata = {**session.metadata, "tolerance": gate.limits(expected, target.precision)}
        try:
            metrics = gate.check(answers, expected, target.precision)
        except WrongOutput as error:
            error.metadata = {**metadata, **error.metadata}
            raise
    return Result(
        metrics=metrics,
        metadata={**target.identity, **metadata, "operations": dict(session.operations())},
        emulated={"reason": reason, "hint": hint},
    )


def write_answers(load: Callable[[], Session], target: Target, images: Path, answers: Path) -> Result:
    """Load the network and write its `answers` to all inputs of the file `images`, unchecked.

    Raises:
        InvalidRequest: a file or a parameter is not what it should be.
    """
    with said_of(target):
        inputs = arrays.read_inputs(images)
        progress(0.0, f"loading on {target.device}")
        session = load()
        outputs = infer_all(session, inputs, "image")
        arrays.write(answers, outputs=outputs)
    return Result(metrics={"n_inputs": len(outputs)}, metadata={**target.identity, **session.metadata})


@contextlib.contextmanager
def said_of(target: Target) -> Iterator[None]:
    """Check the target, and name it in every error."""
    try:
        target.check()
        yield
    except StageError as error:
        error.metadata = {**target.identity, **error.metadata}
        raise


def _run(load: Callable[[], Session], target: Target, reference: Path, samples: Path) -> Result:
    inputs, expected = arrays.read_reference(reference)
    progress(0.0, f"loading on {target.device}")
    session, load_ms = _timed_ms(load)
    feed(session, inputs, 0)
    _, first_inference_ms = _timed_ms(session.infer)

    progress(0.1, f"checking {len(expected)} outputs")
    limits = gate.limits(expected, target.precision)
    metadata = {**target.identity, **session.metadata, "tolerance": limits}
    answers = infer_all(session, inputs)
    try:
        correctness = gate.check(answers, expected, target.precision)
        progress(0.2, f"measuring for {target.budget_s:g} s at most")
        feed(session, inputs, 0)
        before = measure.conditions()
        measurement = _measure(session, target)
        after = measure.conditions()
        for output in _last_outputs(session, target):
            check_last(output, answers, expected, target.precision)
        windows = _make_windows(session, target, measurement)
        for output in _last_outputs(session, target) if windows else ():
            check_last(output, answers, expected, target.precision)
    except WrongOutput as error:
        error.metadata = {**metadata, **_computed_in(session, target.precision), **error.metadata}
        raise

    measure.write_samples(measurement, samples)
    conditions = {"load_1m": before["load_1m"], "conditions_before": before, "conditions_after": after}
    metrics = {
        "load_ms": load_ms,
        "first_inference_ms": first_inference_ms,
        "peak_rss_mb": measure.peak_rss_mb(),
        **correctness,
        **measurement.metrics(),
    }
    computed_in = _computed_in(session, target.precision)  # may load the network once more: memory is read
    measured = measurement.metadata()
    sources = (metadata, computed_in, measured, windows)
    warnings = [text for source in sources for text in source.pop("warnings", ())]
    found = {**metadata, **computed_in, **measured, **windows, **conditions}
    return Result(
        outputs={"windows": str(metered.WINDOWS)} if windows else {},
        metrics=metrics,
        metadata={**found, "warnings": warnings} if warnings else found,
    )


def _measure(session: Session, target: Target) -> measure.Measurement:
    if target.requests == 1:
        return measure.measure(session.infer, budget_s=target.budget_s)
    parallel = cast("ParallelSession", session)
    return measure.saturate(parallel.start, parallel.wait, requests=target.requests, budget_s=target.budget_s)


def _make_windows(session: Session, target: Target, measurement: measure.Measurement) -> dict[str, Any]:
    """Make windows for a meter of the load that was timed; see metered.make."""
    if target.requests == 1:
        load = metered.one_by_one(session.infer)
    else:
        parallel = cast("ParallelSession", session)
        load = metered.in_flight(parallel.start, parallel.wait, target.requests)
    inference_s = measurement.wall_ns / len(measurement.samples) / 1e9
    return metered.make(load, inference_s, simulated=bool(session.metadata.get("simulated")))


def _last_outputs(session: Session, target: Target) -> list[np.ndarray]:
    """Return the last output of each request."""
    if target.requests == 1:
        return [session.output()]
    return [cast("ParallelSession", session).output_of(request) for request in range(target.requests)]


def _computed_in(session: Session, precision: str) -> dict[str, Any]:
    """Say what the runtime really computes in, and warn if that is nowhere what the precision is called."""
    found = dict(session.operations())
    bits = re.sub(r"\D", "", precision)
    if not found or any(bits in kind for kind in found):
        return {"operations": found}
    counts = ", ".join(f"{count} in {kind}" for kind, count in found.items())
    text = f"The precision is {precision}, but nothing is computed in {bits} bits here: {counts}."
    return {"operations": found, "warnings": [text]}


def _timed_ms(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter_ns()
    value = call()
    return value, (time.perf_counter_ns() - start) / 1e6


def infer_all(session: Session, inputs: Inputs, source: str = "reference") -> np.ndarray:
    """Return the network's outputs [n, ...] for all inputs, one inference each; `source` as in arrays.fit."""
    import numpy as np

    answers = []
    for index in range(len(next(iter(inputs.values())))):
        feed(session, inputs, index, source)
        session.infer()
        answers.append(session.output())
    return np.concatenate(answers)


def feed(session: Session, inputs: Inputs, index: int, source: str = "reference") -> None:
    """Set the session's inputs to the `index`-th of `inputs`.

    Raises:
        InvalidRequest: the network has other inputs.
    """
    session.feed(arrays.fit(inputs, session.input_shapes, index, source))


def check_last(last: np.ndarray, answers: np.ndarray, expected: np.ndarray, precision: str) -> None:
    """Check `last`, the output of the timed runs, which was that of input 0.

    A runtime that stopped computing would still hold the output of the last input it was given before, so the
    output must also be nearer to its own answer to input 0 than to any other.
    """
    import numpy as np

    try:
        # beside the other answers: of a single input, int8 may well name another first class
        gate.check(np.concatenate([last, answers[1:]]), expected, precision)
    except WrongOutput as error:
        message = f"it was right before the timing, but not in the timed runs: {error}"
        raise WrongOutput(message, hint=error.hint, metrics=error.metrics) from error
    distance = np.abs(answers - last).reshape(len(answers), -1).max(axis=1)
    if distance.min() < distance[0]:
        message = f"the timed runs were given input 0 and answered as to input {distance.argmin()}"
        raise WrongOutput(message, hint="The runtime returns outputs of earlier inferences.")


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as its maker writes it, else its architecture."""
    found: Optional[re.Match[str]] = None
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), flags=re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()
