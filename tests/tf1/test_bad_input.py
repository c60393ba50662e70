"""What is wrong with the input is said in one line, with the right class of error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tf1.conftest import FREEZE, Prepared, Run, pick, zoo_row
from tools.stage import InvalidRequest, StageError, Unsupported

pytestmark = pytest.mark.tool

FROZEN = ("frozen", "signature")


def damaged(path: Path, folder: Path, keep: float) -> Path:
    """Return a copy of `path`, of the same name, with only its first part."""
    content = path.read_bytes()
    copy = folder / path.name
    copy.write_bytes(content[: int(len(content) * keep)])
    return copy


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        ("mobilenet_v1_1.0", {"network": "mobilnet"}, "no network 'mobilnet'. Did you mean mobilenet_v"),
        ("mobilenet_v1_1.0", {"network": "../../etc"}, "no network"),
        ("mobilenet_v1_1.0", {"depth_multiplier": 0.0}, "have to be positive"),
        ("squeezenet", {"depth_multiplier": 0.5}, "squeezenet has no depth multiplier"),
        ("squeezenet", {"image_size": 8}, "layer 'maxpool4' (max_pool) cannot take 1 x 1 x 256 (from fire4)"),
        ("alexnet_v2", {"image_size": 299}, "layer 'logits' (squeeze) cannot take 4 x 4 x 1001 (from fc8)"),
    ],
)
def test_parameters(tf1: Run, model: str, params: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        tf1("export", "m", {}, **{**zoo_row(model), **params})
    assert said in error.value.one_line()


@pytest.mark.parametrize("keep", [0, 0.3, 0.999])
@pytest.mark.parametrize("command", ["reference", "to-tflite", "to-onnx"])
def test_truncated_frozen_graph(
    tf1: Run, prepared: Prepared, tmp_path: Path, command: str, keep: float
) -> None:
    inputs = pick(prepared("squeezenet"), FROZEN)
    inputs["frozen"] = damaged(inputs["frozen"], tmp_path, keep)
    with pytest.raises(InvalidRequest, match="truncated"):
        tf1(command, "m", inputs)


def test_a_graph_that_is_something_else(tf1: Run, prepared: Prepared, tmp_path: Path) -> None:
    inputs = pick(prepared("squeezenet"), FROZEN)
    inputs["frozen"] = tmp_path / "m.frozen.pb"
    inputs["frozen"].write_text("<html>404</html>")
    with pytest.raises(InvalidRequest, match=r"^m\.frozen\.pb is not a TensorFlow GraphDef"):  # no folder
        tf1("to-tflite", "m", inputs)
    inputs["frozen"].write_bytes(prepared("squeezenet")["graph"].read_bytes().replace(b"Conv2D", b"Conv9D"))
    with pytest.raises(InvalidRequest, match=r"not a valid graph|truncated"):
        tf1("to-tflite", "m", inputs)


@pytest.mark.parametrize("name", ["ckpt_index", "ckpt_data"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_checkpoint(tf1: Run, prepared: Prepared, tmp_path: Path, name: str, keep: float) -> None:
    inputs = pick(prepared("squeezenet"), FREEZE)
    for part in ("ckpt_index", "ckpt_data"):
        inputs[part] = Path(shutil.copy(inputs[part], tmp_path))
    inputs[name] = damaged(inputs[name], tmp_path, keep)
    with pytest.raises(InvalidRequest, match="damaged or truncated") as error:
        tf1("freeze", "m", inputs)
    assert str(tmp_path) not in str(error.value)  # neither in our words nor in TensorFlow's


def test_checkpoint_of_another_network(tf1: Run, prepared: Prepared) -> None:
    inputs = pick(prepared("squeezenet"), FREEZE)
    other = prepared("mobilenet_v1_0.5")
    inputs |= {"ckpt_index": other["ckpt_index"], "ckpt_data": other["ckpt_data"]}
    named = r"^mobilenet_v1_0\.5\.ckpt is a checkpoint of another network: it "
    with pytest.raises(InvalidRequest, match=named + r"lacks 52 of 52 variables: SqueezeNet/conv1/\w+, "):
        tf1("freeze", "m", inputs)


def test_checkpoint_of_other_shapes(tf1: Run, prepared: Prepared) -> None:
    inputs = pick(prepared("squeezenet"), FREEZE)
    inputs |= tf1("export", "m", {}, **{**zoo_row("squeezenet"), "classes": 1000})
    shapes = r"conv10/weights is \[1, 1, 512, 1001\] there and \[1, 1, 512, 1000\] in the graph"
    with pytest.raises(InvalidRequest, match=shapes):
        tf1("freeze", "m", pick(inputs, FREEZE))


def test_a_signature_of_another_graph(tf1: Run, prepared: Prepared, tmp_path: Path) -> None:
    inputs = pick(prepared("squeezenet"), FROZEN)
    signature = json.loads(inputs["signature"].read_text())
    inputs["signature"] = tmp_path / "m.signature.json"
    inputs["signature"].write_text(json.dumps({**signature, "output": "InceptionV1/Predictions"}))
    with pytest.raises(InvalidRequest, match="has no node InceptionV1/Predictions"):
        tf1("to-tflite", "m", inputs)
    inputs["signature"].write_text("{}")
    with pytest.raises(InvalidRequest, match="not a signature"):
        tf1("to-tflite", "m", inputs)


ODD_GRAPH = """
import sys
import tensorflow.compat.v1 as tf
path, kind = sys.argv[1:]
with tf.Graph().as_default() as graph:
    x = tf.reshape(tf.placeholder(tf.float32, [1, 4, 4, 1], name="input"), [1, 16])
    if kind == "betainc":
        x = tf.math.betainc(x, x, x)
    tf.identity({"betainc": x, "constant": 0 * x, "nan": tf.log(x - 9)}[kind], name="output")
open(path, "wb").write(graph.as_graph_def().SerializeToString())
"""


@pytest.fixture
def odd(tmp_path: Path, tool_python: Callable[[str], Path]) -> Callable[[str], dict[str, Path]]:
    """Make a graph that can be read but not used."""

    def make(kind: str) -> dict[str, Path]:
        frozen, signature = tmp_path / "m.frozen.pb", tmp_path / "m.signature.json"
        subprocess.run([tool_python("tf1"), "-c", ODD_GRAPH, frozen, kind], check=True, capture_output=True)
        ends = {"output": "output", "output_shape": [1, 16], "output_kind": "logits"}
        image = {"shape": [1, 4, 4, 1], "dtype": "float32", "kind": "image"}
        signature.write_text(json.dumps({**ends, "inputs": {"input": image}}))
        return {"frozen": frozen, "signature": signature}

    return make


def test_operators_that_a_format_does_not_have(tf1: Run, odd: Callable[[str], dict[str, Path]]) -> None:
    inputs = odd("betainc")
    for command in ("to-tflite", "to-onnx"):
        with pytest.raises(Unsupported, match=r"cannot be converted to .*: Betainc"):
            tf1(command, "m", inputs)


@pytest.mark.parametrize(("kind", "said"), [("constant", "same output for every"), ("nan", "not finite")])
def test_a_network_that_checks_nothing(
    tf1: Run, odd: Callable[[str], dict[str, Path]], kind: str, said: str
) -> None:
    with pytest.raises(StageError, match=said):
        tf1("reference", "m", odd(kind))


def test_an_opset_that_is_not_there(tf1: Run, prepared: Prepared) -> None:
    with pytest.raises(Unsupported, match="no opset 99"):
        tf1("to-onnx", "m", pick(prepared("squeezenet"), FROZEN), opset=99)


@pytest.mark.parametrize("command", ["infer", "reference"])
def test_pictures_of_another_size(tf1: Run, prepared: Prepared, tmp_path: Path, command: str) -> None:
    np.savez(tmp_path / "images.npz", **{"inputs/input": np.zeros((1, 32, 32, 3), np.float32)})
    inputs = {**pick(prepared("squeezenet"), FROZEN), "images": tmp_path / "images.npz"}
    with pytest.raises(InvalidRequest, match=r"images\.npz has \{'input': \[1, 32, 32, 3\]\}"):
        tf1(command, "squeezenet", inputs)
