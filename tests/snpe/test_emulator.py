"""From ONNX to the emulator of a Snapdragon's HTP, by Qualcomm's own compiler and emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RunStage
from tests.snpe.conftest import Files
from tools.stage import InvalidRequest, Result, Unsupported, WrongOutput

pytestmark = pytest.mark.tool


def emulate(run_stage: RunStage, made: Files, precision: str = "fp16", **params: Any) -> Result:
    suffix = "" if precision == "fp16" else f"_{precision}"
    inputs = {name: made[name + suffix] for name in ("context", "context_bin", "dlc")}
    if suffix:
        inputs["noise"] = made[f"noise{suffix}"]
    inputs["reference"] = made["reference"]
    return run_stage("snpe", "emulate", inputs=inputs, params={"precision": precision, **params})[1]


@pytest.mark.parametrize(
    ("precision", "operations"),
    # rounded, a Relu is part of the range, and so of the layer before it
    [("fp16", {"float16": 8}), ("int8", {"uint8": 5, "float16": 1}), ("int16", {"uint16": 6})],
)
def test_what_was_compiled_is_right_on_the_emulator_and_has_no_time(
    run_stage: RunStage, made: Files, precision: str, operations: dict[str, int]
) -> None:
    result = emulate(run_stage, made, precision)
    assert result.metrics["correctness_cosine"] > 0.98
    assert not [name for name in result.metrics if not name.startswith("correctness_")]
    assert result.emulated is not None
    assert "HTP v73 (sm8550)" in result.emulated["reason"]
    assert "phone" in result.emulated["hint"]
    assert result.metadata["device"] == "HTP v73 (sm8550)"
    assert result.metadata["operations"] == operations
    assert result.metadata["executed_on"]["HTP"] >= sum(operations.values())


def test_the_worst_layer_is_named(run_stage: RunStage, made: Files) -> None:
    layers = {
        precision: json.loads(made[f"noise_{precision}"].read_text()) for precision in ("int8", "int16")
    }
    for precision, rows in layers.items():
        worst = min(rows, key=lambda row: row["sqnr_db"])
        assert emulate(run_stage, made, precision).metadata["worst_layer"] == worst
        assert {"relu1", "pool1", "between"} <= {row["layer"] for row in rows}
    for coarse, fine in zip(layers["int8"], layers["int16"], strict=False):
        # 8 bits more are 48 dB more, less what the tensor does not use of its range
        assert coarse["layer"] == fine["layer"]
        assert fine["own_sqnr_db"] - coarse["own_sqnr_db"] == pytest.approx(48, abs=4)


def test_another_network_is_a_wrong_output(run_stage: RunStage, made: Files, networks: Path) -> None:
    folder, result = run_stage("snpe", "context", inputs={"onnx": networks / "other.onnx"})
    other = {name: folder / path for name, path in result.outputs.items()}
    with pytest.raises(WrongOutput) as caught:
        emulate(run_stage, {**made, **other})
    assert caught.value.metadata["executed_on"]["HTP"] > 0


@pytest.mark.parametrize("command", ["context", "convert"])
def test_an_operator_that_qnn_has_not_is_named_with_its_node(
    run_stage: RunStage, networks: Path, command: str
) -> None:
    with pytest.raises(Unsupported, match=r"cannot run Cosh \(between\) of strange\.onnx") as caught:
        run_stage("snpe", command, inputs={"onnx": networks / "strange.onnx"})
    assert "nothing runs on the CPU instead" in caught.value.hint


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_a_precision_that_the_htp_has_not(run_stage: RunStage, made: Files, precision: str) -> None:
    files = {**made, **{f"{name}_{precision}": made[name] for name in ("context", "context_bin", "dlc")}}
    files[f"noise_{precision}"] = made["noise_int8"]
    with pytest.raises(Unsupported, match=precision) as caught:
        emulate(run_stage, files, precision)
    assert "fp16, int8, int16" in caught.value.hint


def test_an_unknown_chip_suggests_the_nearest(run_stage: RunStage, made: Files) -> None:
    for command, inputs in (
        ("context", {"onnx": made["onnx"]}),
        ("context-int8", {"qnn_int8": made["qnn_int8"]}),
    ):
        with pytest.raises(InvalidRequest, match="sm8559") as caught:
            run_stage("snpe", command, inputs=inputs, params={"soc": "sm8559"})
        assert "Did you mean sm8550?" in caught.value.hint


@pytest.mark.parametrize("command", ["convert", "context", "quantize"])
@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_a_damaged_network(
    run_stage: RunStage, made: Files, tmp_path: Path, command: str, damage: str
) -> None:
    bad = tmp_path / "bad.onnx"
    whole = made["onnx"].read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"garbage" * 1000)
    inputs = {"onnx": bad, **({"calibration": made["calibration"]} if command == "quantize" else {})}
    with pytest.raises(InvalidRequest, match=r"bad\.onnx"):
        run_stage("snpe", command, inputs=inputs)


def test_a_damaged_context(run_stage: RunStage, made: Files, tmp_path: Path) -> None:
    for name in ("context", "context_bin"):
        bad = tmp_path / made[name].name
        bad.write_bytes(made[name].read_bytes()[:100])
        with pytest.raises(InvalidRequest, match=rf"{bad.name} is not .+ or it is cut off") as caught:
            emulate(run_stage, {**made, name: bad})
        assert "snpe.context" in caught.value.hint


def test_a_context_of_another_chip(run_stage: RunStage, made: Files) -> None:
    with pytest.raises(InvalidRequest, match=r"m\.ctx\.onnx is for sm8550, not for sm8450"):
        emulate(run_stage, made, soc="sm8450")


@pytest.mark.parametrize("command", ["quantize", "quantize-int16"])
def test_no_calibration_data(run_stage: RunStage, made: Files, tmp_path: Path, command: str) -> None:
    nothing = tmp_path / "nothing.npz"
    np.savez(nothing, **{"inputs/input": np.zeros((0, 16, 16, 3), np.float32)})
    with pytest.raises(InvalidRequest, match="holds no inputs") as caught:
        run_stage("snpe", command, inputs={"onnx": made["onnx"], "calibration": nothing})
    assert "tf1.calibration" in caught.value.hint


def test_layers_of_two_networks_are_not_compared(run_stage: RunStage, made: Files) -> None:
    inputs = {"onnx": made["onnx"], "qnn_int8": made["onnx"], "reference": made["reference"]}
    with pytest.raises(InvalidRequest, match="no rounded layer"):
        run_stage("snpe", "compare-int8", inputs=inputs)
    with pytest.raises(InvalidRequest, match="n_inputs is 0"):
        run_stage("snpe", "compare-int8", inputs=inputs, params={"n_inputs": 0})
