"""Reference outputs tell inputs apart, and TensorFlow's own conversion agrees with them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tf1.conftest import FREEZE, Prepared, Run, pick, zoo_row

pytestmark = pytest.mark.tool

FROZEN = ("frozen", "signature")


@pytest.mark.parametrize(
    "model",
    [
        "squeezenet",
        "alexnet_v2",
        "two_squeezenet",
        "lenet",
        "cifarnet",
        "mobilenet_v1_1.0",
        "mobilenet_v2_1.4",
        "inception_v2",
        "inception_v4",
        "resnet_v1_50",
        "resnet_v2_50",
        "nasnet_mobile",
    ],
)
def test_outputs_differ_between_inputs_and_have_a_clear_winner(
    model: str, prepared: Prepared, tf1: Run
) -> None:
    made = tf1("reference", model, pick(prepared(model), FROZEN))
    with np.load(made["reference"]) as reference:
        inputs, outputs = reference["inputs/input"], reference["outputs"]
    row = zoo_row(model)
    assert inputs.shape == (8, row["image_size"], row["image_size"], row["channels"])
    assert inputs.dtype == outputs.dtype == np.float32
    assert -1 <= inputs.min() < -0.9
    assert 0.9 < inputs.max() <= 1
    assert outputs.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-4)
    assert outputs.max(axis=1).min() > 0.003
    assert outputs.max() < 0.7

    centred = np.log(outputs) - np.log(outputs).mean(axis=1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert (unit @ unit.T)[np.triu_indices(8, 1)].max() < 0.995
    assert made["result"].metrics["top1_margin_min"] > 1e-3
    assert made["result"].metadata["top1"] == outputs.argmax(axis=1).tolist()


def test_nasnet_is_wired_as_published(prepared: Prepared, tf1: Run) -> None:
    """Counts do not tell which of two equal maps a cell reads; outputs do.

    With these weights Keras' definition gives these classes too, and the same probabilities within 5e-7,
    if its reduction cells' pools pad as TensorFlow's own do and not with zeros (run by hand, Keras 2.15).
    """
    made = tf1("reference", "nasnet_mobile", pick(prepared("nasnet_mobile"), FROZEN))
    assert made["result"].metadata["top1"] == [832, 230, 763, 966, 633, 763, 832, 349]


def test_a_deep_network_does_not_blow_up_a_rounding(prepared: Prepared, tf1: Run, tmp_path: Path) -> None:
    """Else two right runtimes differ, by half a percent if weights only keep the scale (see weights.py)."""
    inputs = {**pick(prepared("inception_v4"), FROZEN), "images": tmp_path / "m.images.npz"}
    with np.load(tf1("reference", "m", pick(inputs, FROZEN), n_inputs=1)["reference"]) as reference:
        image = reference["inputs/input"]
    noise = 1e-6 * np.random.default_rng(0).standard_normal(image.shape)
    np.savez(inputs["images"], **{"inputs/input": (image + noise).astype(np.float32)})
    with np.load(tf1("reference", "m", inputs, n_inputs=1)["reference"]) as reference:
        expected, found = reference["outputs"]
    assert 0 < np.abs(found - expected).max() < 3e-4 * np.ptp(expected)


def test_inputs_are_a_function_of_the_seed(prepared: Prepared, tf1: Run) -> None:
    frozen = pick(prepared("squeezenet"), FROZEN)
    made = [tf1("reference", "s", frozen, n_inputs=2, seed=seed)["reference"] for seed in (3, 3, 4)]
    first, again, other = (np.load(path)["inputs/input"] for path in made)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


READ_BACK = """
import sys
import numpy as np, onnx, tensorflow as tf
tflite, model, reference = sys.argv[1:]
reference = np.load(reference)
interpreter = tf.lite.Interpreter(tflite)
interpreter.allocate_tensors()
for image, expected in zip(reference["inputs/input"], reference["outputs"]):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
graph = onnx.load(model).graph
(source,), (target,) = graph.input, graph.output
print(source.name, [dim.dim_value for dim in source.type.tensor_type.shape.dim], target.name)
"""


@pytest.mark.parametrize("model", ["squeezenet", "mobilenet_v2_1.0"])
def test_conversions(model: str, prepared: Prepared, tf1: Run, tool_python: Callable[[str], Path]) -> None:
    frozen = pick(prepared(model), FROZEN)
    files = [
        tf1("to-tflite", model, frozen)["tflite"],
        tf1("to-onnx", model, frozen)["onnx"],
        tf1("reference", model, frozen)["reference"],
    ]
    command = [tool_python("tf1"), "-c", READ_BACK, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "input [1, 3, 224, 224] output"


def test_text_form(prepared: Prepared, tf1: Run) -> None:
    made = tf1("freeze", "s", pick(prepared("squeezenet"), FREEZE), text=True)
    assert made["frozen_text"].name == "s.frozen.pbtxt"
    assert 'name: "SqueezeNet/conv10/weights"' in made["frozen_text"].read_text()
