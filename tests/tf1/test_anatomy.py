"""Layers are counted right, in every format, whatever is not known of the graph."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from tests.conftest import RunStage
from tests.project import Project
from tests.tf1.conftest import GENERATE, NETWORKS, Prepared, Run, pick, zoo_row
from tools.stage import InvalidRequest

pytestmark = pytest.mark.tool

KEYS = ("params", "macs", "operations")


def layers(made: dict[str, Any]) -> dict[str, Any]:
    """Return a description whose layers add up to its totals."""
    described: dict[str, Any] = json.loads(made["described"].read_text())
    for key in KEYS:
        assert sum(layer[key] for layer in described["layers"]) == described[key]
    assert sum(layer["share"] for layer in described["layers"]) == pytest.approx(
        1.0 if described["macs"] else 0.0
    )
    return described


@pytest.fixture(scope="module")
def describe_onnx(run_stage: RunStage) -> Callable[..., dict[str, Any]]:
    def describe(path: Path, **params: Any) -> dict[str, Any]:
        folder, result = run_stage("onnx", "describe", inputs={"onnx": path}, params=params)
        return layers({key: folder / name for key, name in result.outputs.items()})

    return describe


@pytest.mark.parametrize("model", ["squeezenet", "mobilenet_v2_1.0"])
def test_both_formats_agree_with_tensorflows_profiler(
    tf1: Run, prepared: Prepared, describe_onnx: Callable[..., dict[str, Any]], model: str
) -> None:
    made = prepared(model)
    found = layers(tf1("describe", model, pick(made, ("frozen",))))
    profiled = tf1("flops", model, pick(made, ("graph", "frozen", "signature")))["result"].metrics
    assert found["macs"] == profiled["macs"]
    assert found["params"] == profiled["params"] == NETWORKS[model]["params"]
    assert not found["not_counted"]

    other = describe_onnx(tf1("to-onnx", model, pick(made, ("frozen", "signature")))["onnx"])
    assert other["macs"] == found["macs"]
    assert [layer["macs"] for layer in other["layers"] if layer["macs"] > 1e8] == [
        layer["macs"] for layer in found["layers"] if layer["macs"] > 1e8
    ]
    if model == "squeezenet":  # without batch normalisation to fold
        assert other["params"] == found["params"]


def test_a_layer_as_people_say_it(tf1: Run, prepared: Prepared) -> None:
    found = layers(tf1("describe", "m", pick(prepared("squeezenet"), ("frozen",))))
    assert found["layers"][0] == {
        "name": "SqueezeNet/conv1",
        "operation": "Conv2D 7x7/2, BiasAdd, Relu",
        "nodes": [f"SqueezeNet/conv1/{node}" for node in ("Conv2D", "BiasAdd", "Relu")],
        "inputs": ["input:0"],
        "input_shapes": [[1, 224, 224, 3]],
        "output_shape": [1, 112, 112, 96],
        "params": 7 * 7 * 3 * 96 + 96,
        "macs": 112 * 112 * 96 * 7 * 7 * 3,
        "operations": 112 * 112 * 96 * (2 * 7 * 7 * 3 + 2),
        "share": found["layers"][0]["macs"] / found["macs"],
    }


def test_the_published_figures(tf1: Run) -> None:
    """MobileNet v1 at 224: 569 million MACs, 4.2 million parameters (arXiv 1704.04861, table 8)."""
    row = {**zoo_row("mobilenet_v1_1.0"), "classes": 1000}
    made = tf1("export", "m", {}, **row)
    made |= tf1("generate-weights", "m", pick(made, GENERATE))
    made |= tf1("freeze", "m", pick(made, ("graph", "signature", "ckpt_index", "ckpt_data")))
    metrics = tf1("describe", "m", pick(made, ("frozen",)))["result"].metrics
    assert round(metrics["macs"] / 1e6) == 569
    assert round(metrics["params"] / 1e6, 1) == 4.2


GRAPHS = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf

def weights(*shape): return tf.constant(np.ones(shape) / 2, tf.float32)
def image(batch=None, size=8): return tf.placeholder(tf.float32, [batch, size, size, 3], name="image")
def text(n): return tf.placeholder(tf.float32, [None, 4, 6, 8], name=n)

KINDS = {
    "conv": lambda: tf.nn.conv2d(image(), weights(3, 3, 3, 16), 2, "SAME"),
    "grouped": lambda: tf.nn.conv2d(tf.tile(image(1), [1, 1, 1, 2]), weights(3, 3, 2, 9), 1, "SAME"),
    "transposed": lambda: tf.nn.conv2d_transpose(image(1), weights(3, 3, 5, 3), [1, 16, 16, 5], 2),
    "attention": lambda: tf.matmul(text("query"), text("key"), transpose_b=True),
    "einsum": lambda: tf.einsum("bhqd,bhkd->bhqk", text("query"), text("key")),
    "shared": lambda: (lambda x, w: x @ w + (2 * x) @ w)(tf.placeholder(tf.float32, [2, 8]), weights(8, 8)),
    "any_size": lambda: tf.nn.conv2d(image(size=None), weights(3, 3, 3, 16), 1, "SAME"),
    "bessel": lambda: tf.math.betainc(image(1), image(1), image(1)),
    "variables": lambda: image() * tf.get_variable("scale", [3], use_resource=False),
    "no_input": lambda: tf.constant(1.0),
}
for kind, build in KINDS.items():
    with tf.Graph().as_default() as graph:
        tf.identity(build(), name="end")
    open(f"{sys.argv[1]}/{kind}.pb", "wb").write(graph.as_graph_def().SerializeToString())
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tool_python: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    subprocess.run([tool_python("tf1"), "-c", GRAPHS, str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("kind", "shape", "macs", "params"),
    [
        ("conv", "", 4 * 4 * 16 * 27, 27 * 16),
        ("conv", "image=5,8,8,3", 5 * 4 * 4 * 16 * 27, 27 * 16),
        ("grouped", "", 8 * 8 * 9 * 9 * 2, 9 * 2 * 9),
        ("transposed", "", 8 * 8 * 3 * 9 * 5, 9 * 5 * 3),
        ("attention", "", 4 * 6 * 6 * 8, 0),
        ("einsum", "", 4 * 6 * 6 * 8, 0),
        ("shared", "", 2 * 2 * 8 * 8, 64),
        ("any_size", "1,10,10,3", 10 * 10 * 16 * 27, 27 * 16),
        ("bessel", "", 0, 0),
    ],
)
def test_operators(tf1: Run, odd: Path, kind: str, shape: str, macs: int, params: int) -> None:
    found = layers(tf1("describe", "m", {"frozen": odd / f"{kind}.pb"}, input_shape=shape))
    assert (found["macs"], found["params"]) == (macs, params)
    assert found["not_counted"] == ({"Betainc": 1} if kind == "bessel" else {})
    assumed = kind in ("conv", "attention", "einsum") and not shape
    assert bool(found["notes"]) == assumed
    assert found["outputs"][0]["name"] == "end:0"


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("any_size", "", r"the shape of image:0 .* is unknown.*--input-shape NAME=1,224,224,3"),
        ("conv", "pixels=1,8,8,3", "no input 'pixels'; its inputs are image"),
        ("conv", "1,8,eight,3", "'1,8,eight,3' is not the shape of an input"),
        ("conv", "1,8,8,4", "not a valid graph"),
        ("attention", "1,4,6,8", "no input ''; its inputs are query, key"),
        ("variables", "", "not frozen: it has 1 variables, scale the first"),
        ("no_input", "", "has no input: no node is a Placeholder"),
    ],
)
def test_what_cannot_be_counted(tf1: Run, odd: Path, kind: str, shape: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        tf1("describe", "m", {"frozen": odd / f"{kind}.pb"}, input_shape=shape)
    assert re.search(said, error.value.one_line()), error.value.one_line()


@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_a_truncated_file(tf1: Run, prepared: Prepared, tmp_path: Path, keep: float) -> None:
    content = prepared("squeezenet")["frozen"].read_bytes()
    part = tmp_path / "part.pb"
    part.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InvalidRequest, match="damaged or truncated"):
        tf1("describe", "m", {"frozen": part})


ONNX = """
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

def save(kind, nodes, inputs, weights):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    held = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    end = helper.make_tensor_value_info("end", TensorProto.FLOAT, list("abcd")[:len(inputs["x"])])
    graph = helper.make_graph(nodes, "g", values, [end], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, f"{sys.argv[1]}/{kind}.onnx")

def node(kind, *inputs, **attributes): return helper.make_node(kind, inputs, ["end"], **attributes)

image = {"x": ["batch", 4, 8, 8]}
save("conv", [node("Conv", "x", "w", "b", group=2)], image, {"w": [6, 2, 3, 3], "b": [6]})
save("depthwise", [node("Conv", "x", "w", group=4)], image, {"w": [4, 1, 3, 3]})
save("transposed", [node("ConvTranspose", "x", "w", strides=[2, 2])], image, {"w": [4, 5, 2, 2]})
save("gemm", [node("Gemm", "x", "w", "b", transB=1)], {"x": [None, 10]}, {"w": [7, 10], "b": [7]})
save("batched", [node("MatMul", "x", "y")], {"x": [1, 4, 6, 8], "y": [1, 4, 8, 6]}, {})
save("any_size", [node("Conv", "x", "w")], {"x": ["batch", 4, "h", "w"]}, {"w": [6, 4, 3, 3]})
"""


@pytest.fixture(scope="module")
def odd_onnx(tmp_path_factory: pytest.TempPathFactory, tool_python: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    subprocess.run([tool_python("onnx"), "-c", ONNX, str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("kind", "shape", "macs", "params"),
    [
        ("conv", "", 6 * 6 * 6 * 2 * 9, 6 * 2 * 9 + 6),
        ("depthwise", "", 6 * 6 * 4 * 9, 4 * 9),
        ("transposed", "", 8 * 8 * 4 * 5 * 4, 4 * 5 * 4),
        ("gemm", "", 7 * 10, 77),
        ("batched", "", 4 * 6 * 6 * 8, 0),
        ("any_size", "2,4,5,5", 2 * 3 * 3 * 6 * 4 * 9, 6 * 4 * 9),
    ],
)
def test_onnx_operators(
    describe_onnx: Callable[..., dict[str, Any]],
    odd_onnx: Path,
    kind: str,
    shape: str,
    macs: int,
    params: int,
) -> None:
    found = describe_onnx(odd_onnx / f"{kind}.onnx", input_shape=shape)
    assert (found["macs"], found["params"]) == (macs, params)
    assert math.prod(found["outputs"][0]["shape"]) > 0


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("any_size", "", r"the shape of x in any_size\.onnx is unknown"),
        ("gemm", "1,9", r"the shapes of gemm\.onnx do not fit together"),
        ("conv", "y=1,4,8,8", "no input 'y'; its inputs are x"),
    ],
)
def test_onnx_shapes_that_do_not_do(
    describe_onnx: Callable[..., dict[str, Any]], odd_onnx: Path, kind: str, shape: str, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        describe_onnx(odd_onnx / f"{kind}.onnx", input_shape=shape)


def test_the_command_line(odd: Path, odd_onnx: Path, tmp_path: Path) -> None:
    project = Project(ROOT, tmp_path / "work")
    done = project.run("flops", str(odd_onnx / "gemm.onnx"))
    assert done.returncode == 0, done.stderr
    assert "77 parameters, 70 MACs, 147 operations" in done.stdout
    assert "note: the batch dimension of x is unknown and counted as 1" in done.stdout
    done = project.run("flops", str(odd_onnx / "any_size.onnx"), "--input-shape", "2,4,5,5", "--json")
    assert json.loads(done.stdout)["any_size"]["macs"] == 3888

    done = project.run("flops", str(odd_onnx / "any_size.onnx"))
    assert done.returncode == 2
    assert "--input-shape" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flops"], "takes either a file or a model"),
        (["flops", "x.pb", "--model", "squeezenet"], "takes either a file or a model"),
        (["flops", "x.tflite"], "neither a frozen TensorFlow graph (.pb) nor an ONNX network (.onnx)"),
        (["flops", "nowhere.pb"], "nowhere.pb cannot be read"),
        (["flops", "--model", "squeezenet", "--artifact", "tflite"], "cannot be read layer by layer"),
        (["prune", "--model", "squeezenet"], "either a ratio or a threshold"),
        (["prune", "--model", "squeezenet", "--ratio", "0.5", "--threshold", "1"], "either a ratio or"),
    ],
)
def test_a_wrong_command_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = Project(ROOT, tmp_path / "work").run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
