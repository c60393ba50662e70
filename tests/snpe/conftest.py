"""A small network in ONNX with its reference, made in the tool's environment without TensorFlow."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from host.engines.venv import tool_environment
from tests.conftest import RunStage

Files = dict[str, Path]
# conv - relu - pool - conv - operator - gemm - softmax; `operator` is one that the HTP has, or has not
NETWORKS = """
import sys
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

folder = sys.argv[1]


def network(operator, seed):
    random = np.random.default_rng(seed)
    weights = {"w1": (8, 3, 3, 3), "w2": (16, 8, 3, 3), "w3": (16, 10), "b3": (10,)}
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], "conv2", pads=[1] * 4),
        helper.make_node(operator, ["c2"], ["r2"], "between"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["l"], "classes"),
        helper.make_node("Softmax", ["l"], ["output"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(random.normal(0, 0.5, shape).astype("f"), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


onnx.save(network("Relu", 0), f"{folder}/small.onnx")
onnx.save(network("Relu", 1), f"{folder}/other.onnx")
onnx.save(network("Cosh", 0), f"{folder}/strange.onnx")
random = np.random.default_rng(2)
images = random.uniform(-1, 1, (12, 16, 16, 3)).astype("f") * np.linspace(0.2, 1, 12)[:, None, None, None]
images = images.astype("f")
run = ort.InferenceSession(f"{folder}/small.onnx", providers=["CPUExecutionProvider"]).run
outputs = [run(None, {"input": np.moveaxis(image, -1, 0)[None]})[0] for image in images[:4]]
np.savez(f"{folder}/small.reference.npz", **{"inputs/input": images[:4], "outputs": np.concatenate(outputs)})
np.savez(f"{folder}/small.calibration.npz", **{"inputs/input": images})
"""


@pytest.fixture(scope="session")
def networks(tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with small.onnx, its reference and calibration; other.onnx; strange.onnx, with a Cosh."""
    folder = tmp_path_factory.mktemp("networks")
    argv = [tool_python("snpe"), "-c", NETWORKS, folder]
    subprocess.run(argv, env=tool_environment(), check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def made(run_stage: RunStage, networks: Path) -> Files:
    """Everything that the tool makes of the small network, in every precision, by the artifacts' names."""
    files = {
        "onnx": networks / "small.onnx",
        "reference": networks / "small.reference.npz",
        "calibration": networks / "small.calibration.npz",
    }
    for command, *inputs in (
        ("convert", "onnx"),
        ("context", "onnx"),
        ("quantize", "onnx", "calibration"),
        ("convert-int8", "qnn_int8"),
        ("context-int8", "qnn_int8"),
        ("compare-int8", "onnx", "qnn_int8", "reference"),
        ("quantize-int16", "onnx", "calibration"),
        ("convert-int16", "qnn_int16"),
        ("context-int16", "qnn_int16"),
        ("compare-int16", "onnx", "qnn_int16", "reference"),
    ):
        folder, result = run_stage("snpe", command, inputs={name: files[name] for name in inputs})
        files.update({name: folder / path for name, path in result.outputs.items()})
    return files
