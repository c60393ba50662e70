"""The correctness gate: every class of fault is caught, and what the arithmetic explains is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools import gate
from tools.arrays import to_layout
from tools.benchmark import Session, Target, check_last, feed, run
from tools.stage import InvalidRequest, StageError, Unsupported, WrongOutput

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def flat(spread: float = 0.05, response: float = 0.02) -> Array:
    """Softmax outputs as generated weights give them: all near 0.001, and nearly the same for every input."""
    common = RANDOM.normal(size=(1, 1000)) * spread
    return softmax(common + RANDOM.normal(size=(8, 1000)) * spread * response)


def peaked() -> Array:
    return softmax(RANDOM.normal(size=(8, 1000)) * 3)


def disturb(outputs: Array, relative: float) -> Array:
    spread = np.ptp(outputs, axis=1, keepdims=True)
    return outputs + RANDOM.normal(size=outputs.shape) * spread * relative


REFERENCES = {"flat": flat(), "peaked": peaked(), "logits": RANDOM.normal(size=(8, 1000)) * 4 - 7}
# rms error relative to the spread that is to pass
ARITHMETIC = {"fp32": 1e-6, "fp16": 1e-3, "int8-dynamic": 0.01, "int8": 0.02, "int16": 0.01}


@pytest.mark.parametrize("precision", gate.TOLERANCES)
@pytest.mark.parametrize("kind", ["flat", "logits"])
def test_what_the_arithmetic_explains_passes(kind: str, precision: str) -> None:
    expected = REFERENCES[kind]
    metrics = gate.check(disturb(expected, ARITHMETIC[precision]), expected, precision)
    assert tuple(metrics) == gate.METRICS
    assert metrics["correctness_n_inputs"] == 8
    assert metrics["correctness_top1_match"] >= gate.TOLERANCES[precision].top1_match
    assert metrics["correctness_max_abs"] < gate.limits(expected, precision)["max_abs"] * 1.5


@pytest.mark.parametrize("kind", REFERENCES)
def test_the_same_outputs_are_perfect(kind: str) -> None:
    metrics = gate.check(REFERENCES[kind], REFERENCES[kind], "fp32")
    assert metrics["correctness_cosine"] == pytest.approx(1)
    assert metrics["correctness_max_abs"] == 0
    assert metrics["correctness_top1_match"] == metrics["correctness_top5_overlap"] == 1


def constant(outputs: Array) -> Array:
    return np.repeat(outputs[:1], len(outputs), axis=0)


FAULTS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "other weights": (lambda y: softmax(RANDOM.normal(size=y.shape) * 0.05), "cosine|follow"),
    "scaled logits": (lambda y: softmax(np.log(y) * 0.9), "off by|cosine"),
    "classes shifted by one": (lambda y: np.roll(y, 1, axis=1), "cosine|follow"),
    "one class wrong": (lambda y: y + np.eye(1000)[17] * y.max(), "cosine|off by"),
    "no softmax": (np.log, "cosine|off by"),
    "same answer always": (constant, "same output for every input"),
    "answers the input before": (lambda y: np.roll(y, 1, axis=0), "cosine|follow the input"),
}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught_in_flat_softmax_outputs(fault: str, precision: str) -> None:
    expected = REFERENCES["flat"]
    make, message = FAULTS[fault]
    with pytest.raises(WrongOutput, match=message) as caught:
        gate.check(make(expected), expected, precision)
    assert tuple(caught.value.metrics) == gate.METRICS
    assert caught.value.metrics["correctness_n_inputs"] == 8


def test_late_answers_are_caught_in_fp16_where_they_are_within_every_other_tolerance() -> None:
    expected = REFERENCES["flat"]
    with pytest.raises(WrongOutput, match="does not follow the input: correlation") as caught:
        gate.check(np.roll(expected, 1, axis=0), expected, "fp16")
    assert caught.value.metrics["correctness_cosine"] > gate.TOLERANCES["fp16"].cosine


def test_plain_cosine_would_not_catch_other_weights() -> None:
    """Why the mean is taken off first."""
    mine, expected = softmax(RANDOM.normal(size=(1, 1000)) * 0.05)[0], REFERENCES["flat"][0]
    assert mine @ expected / np.linalg.norm(mine) / np.linalg.norm(expected) > 0.99


def test_values_that_are_not_finite() -> None:
    outputs = REFERENCES["peaked"].copy()
    outputs[3, :10] = np.nan
    with pytest.raises(WrongOutput, match=r"0\.1% of the output values are not finite") as caught:
        gate.check(outputs, REFERENCES["peaked"], "fp32")
    assert caught.value.metrics["correctness_cosine"] is None  # NaN is no JSON


def test_wrong_shape() -> None:
    with pytest.raises(WrongOutput, match=r"shape \[8, 1001\], the reference \[8, 1000\]"):
        gate.check(np.zeros((8, 1001)), REFERENCES["peaked"], "fp32")


def test_axes_of_length_one_do_not_matter() -> None:
    expected = REFERENCES["peaked"]
    assert gate.check(expected.reshape(8, 1, 1, 1000), expected, "fp32")["correctness_top1_match"] == 1


def test_first_classes_that_tie_in_the_reference_may_swap() -> None:
    expected = REFERENCES["logits"].copy()
    first = expected.argmax(axis=1)
    rival = (first + 1) % 1000
    rows = np.arange(8)
    expected[rows, rival] = expected[rows, first] - 1e-7
    found = expected.copy()
    found[rows, rival] += 2e-7
    assert (found.argmax(axis=1) != expected.argmax(axis=1)).all()
    assert gate.check(found, expected, "fp32")["correctness_top1_match"] == 1


def test_first_class_that_differs_is_a_fault_even_within_the_error() -> None:
    expected = REFERENCES["logits"].copy()
    rows, first = np.arange(8), expected.argmax(axis=1)
    rival = (first + 1) % 1000
    expected[rows, rival] = expected[rows, first] - np.ptp(expected, axis=1) * 5e-4
    found = expected.copy()
    found[rows, rival] += np.ptp(expected, axis=1) * 7e-4
    with pytest.raises(WrongOutput, match="first class is the reference's on 0%") as caught:
        gate.check(found, expected, "fp32")
    assert caught.value.metrics["correctness_top5_overlap"] > 0.9


def test_same_answer_is_right_where_the_reference_gives_it_too() -> None:
    expected = constant(REFERENCES["peaked"])
    assert gate.check(expected, expected, "fp32")["correctness_cosine"] == pytest.approx(1)
    assert gate.check(np.ones((2, 5)), np.ones((2, 5)), "fp32")["correctness_cosine"] == 1


def test_broken_reference_and_unknown_precision_are_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest, match="reference outputs are not finite"):
        gate.check(np.ones((2, 5)), np.full((2, 5), np.inf), "fp32")
    with pytest.raises(InvalidRequest, match="no precision 'fp8'") as caught:
        gate.check(np.ones((2, 5)), np.ones((2, 5)), "fp8")
    assert "int8-dynamic" in caught.value.hint


class Runtime:
    """A stand-in for a runtime, right until `fault` is put on what it does from inference `at` on."""

    def __init__(self, weights: Array, at: int, fault: Callable[[Runtime], None]) -> None:
        self.input_shapes = {"input": (1, 3, 4, 4)}
        self.metadata: dict[str, Any] = {"threads": 1}
        self._weights, self._at, self._fault = weights, at, fault
        self._count = 0

    def feed(self, batches: Mapping[str, Array]) -> None:
        (self.batch,) = batches.values()

    def infer(self) -> None:
        self._count += 1
        if self._count <= self._at:
            self.answer = self.batch.reshape(1, -1) @ self._weights
        else:
            self._fault(self)

    def output(self) -> Array:
        return self.answer.copy()

    def operations(self) -> Mapping[str, int]:
        return {"float32": 3, "int32": 1}


def benchmark(folder: Path, at: int, fault: Callable[[Runtime], None], **changes: Any) -> Any:
    inputs = RANDOM.normal(size=(8, 4, 4, 3)).astype("f")
    weights = RANDOM.normal(size=(48, 10)).astype("f")
    outputs = np.moveaxis(inputs, -1, 1).reshape(8, -1) @ weights
    np.savez(folder / "r.npz", outputs=outputs, **{"inputs/image": inputs})
    target = Target(
        **{"runtime": "r", "device": "D", "precision": "fp32", "threads": 0, "budget_s": 0.1, **changes}
    )

    def load() -> Session:
        return Runtime(weights, at, fault)

    return run(load, target, folder / "r.npz", folder / "samples.i64")


def nothing(runtime: Runtime) -> None:
    pass


def test_benchmark_of_a_right_runtime(tmp_path: Path) -> None:
    result = benchmark(tmp_path, at=10**9, fault=nothing)
    assert (tmp_path / "samples.i64").stat().st_size == 8 * result.metrics["latency_n"]
    assert result.metadata["tolerance"]["cosine"] == 0.99999
    assert (result.metadata["runtime"], result.metadata["device"], result.metadata["threads"]) == (
        "r",
        "D",
        1,
    )
    assert result.metrics["load_ms"] > 0


@pytest.mark.parametrize(("precision", "bits"), [("fp32", None), ("fp16", 16), ("int8", 8)])
def test_a_precision_that_nothing_is_computed_in_is_warned_of(
    tmp_path: Path, precision: str, bits: int | None
) -> None:
    metadata = benchmark(tmp_path, at=10**9, fault=nothing, precision=precision).metadata
    assert metadata["operations"] == {"float32": 3, "int32": 1}
    said = f"nothing is computed in {bits} bits here: 3 in float32, 1 in int32" if bits else ""
    assert said in "".join(metadata.get("warnings", []))
    assert ("warnings" in metadata) == bool(bits)


def test_runtime_that_stops_computing_after_the_gate(tmp_path: Path) -> None:
    with pytest.raises(WrongOutput, match="right before the timing, but not in the timed runs") as caught:
        benchmark(tmp_path, at=9, fault=nothing)
    assert not (tmp_path / "samples.i64").exists()
    assert "latency_p50_ms" not in caught.value.metrics


def test_output_of_an_earlier_input_is_caught_even_where_all_outputs_are_alike() -> None:
    answers = flat(response=1e-3)
    check_last(answers[:1], answers, answers, "fp16")
    with pytest.raises(WrongOutput, match="given input 0 and answered as to input 7"):
        check_last(answers[7:], answers, answers, "fp16")


def test_another_first_class_of_one_input_is_no_fault_of_the_timed_runs_if_it_was_none_before() -> None:
    expected = REFERENCES["logits"].copy()
    first, rival = expected[0].argsort()[[-1, 0]]
    expected[0, rival] = expected[0, first] - 0.1 * np.ptp(expected[0])
    answers = expected.copy()
    answers[0, rival] += 0.2 * np.ptp(expected[0])
    with pytest.raises(WrongOutput, match="first class"):
        gate.check(answers[:1], expected[:1], "int8")
    check_last(answers[:1], answers, expected, "int8")


def test_runtime_that_breaks_while_it_is_timed(tmp_path: Path) -> None:
    def overflow(runtime: Runtime) -> None:
        runtime.answer = runtime.answer * np.nan

    with pytest.raises(WrongOutput, match="right before the timing, but not in the timed runs") as caught:
        benchmark(tmp_path, at=30, fault=overflow)
    assert caught.value.metadata["runtime"] == "r"
    assert not (tmp_path / "samples.i64").exists()


def test_runtime_that_is_wrong_from_the_start_is_not_timed(tmp_path: Path) -> None:
    def zero(runtime: Runtime) -> None:
        runtime.answer = np.zeros((1, 10))

    with pytest.raises(WrongOutput, match="same output for every input") as caught:
        benchmark(tmp_path, at=0, fault=zero)
    assert caught.value.metrics["correctness_n_inputs"] == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget_s": 0}, "budget_s is 0"),
        ({"budget_s": float("nan")}, "budget_s is nan"),
        ({"threads": -1}, "threads is -1"),
        ({"precision": "fp8"}, "no precision"),
    ],
)
def test_parameters_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        benchmark(tmp_path, at=0, fault=nothing, **changes)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(200)])
def test_reference_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(data)
    with pytest.raises(StageError, match=r"r\.npz is not a reference"):
        run(
            lambda: Runtime(np.eye(48), 0, nothing),
            Target("r", "D", "fp32", 0, 1),
            tmp_path / "r.npz",
            tmp_path,
        )


def test_reference_that_is_cut_off(tmp_path: Path) -> None:
    benchmark(tmp_path, at=10**9, fault=nothing)
    data = (tmp_path / "r.npz").read_bytes()
    (tmp_path / "r.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidRequest, match="cut off"):
        run(
            lambda: Runtime(np.eye(48), 0, nothing),
            Target("r", "D", "fp32", 0, 1),
            tmp_path / "r.npz",
            tmp_path,
        )


class TwoInputs:
    """A session that takes two inputs by name."""

    def __init__(self) -> None:
        self.input_shapes = {"ids": (1, 4), "mask": (1, 4)}

    def feed(self, batches: Mapping[str, Array]) -> None:
        self.fed = batches


def test_several_inputs_go_by_their_names() -> None:
    session = TwoInputs()
    inputs = {"mask": np.ones((2, 4), "i4"), "ids": np.arange(8, dtype="i4").reshape(2, 4)}
    feed(session, inputs, 1)  # type: ignore[arg-type]
    assert session.fed["ids"].tolist() == [[4, 5, 6, 7]]
    assert session.fed["mask"].tolist() == [[1, 1, 1, 1]]
    with pytest.raises(InvalidRequest, match="takes ids, mask, the reference has image"):
        feed(session, {"image": inputs["ids"]}, 0)  # type: ignore[arg-type]


def test_an_output_of_several_axes_has_no_classes() -> None:
    features = RANDOM.normal(size=(8, 6, 16))
    metrics = gate.check(features, features, "fp32")
    assert metrics["correctness_top1_match"] is metrics["correctness_top5_overlap"] is None
    with pytest.raises(WrongOutput, match="differs from the reference"):
        gate.check(features[:, ::-1], features, "fp32")


def test_layouts() -> None:
    batch = RANDOM.normal(size=(1, 4, 5, 3)).astype("f")
    assert to_layout(batch, (1, 4, 5, 3)) is not None
    assert to_layout(batch, ("N", 3, 4, 5)).shape == (1, 3, 4, 5)
    assert to_layout(batch, (1, 3, 4, 5))[0, 2, 1, 4] == batch[0, 1, 4, 2]
    with pytest.raises(
        InvalidRequest, match=r"takes \[1, 3, 8, 8\], the reference inputs are \[1, 4, 5, 3\]"
    ):
        to_layout(batch, (1, 3, 8, 8))


def test_a_precision_that_a_runtime_has_no_networks_of() -> None:
    with pytest.raises(Unsupported, match="no networks of int16 for onnxruntime") as caught:
        Target("onnxruntime", "CPU", "int16", threads=1).check()
    assert "fp32, fp16, int8-dynamic, int8" in caught.value.hint
