"""Writes a small network, small.onnx, and its reference, small.npz; the tool `onnx` has what it needs.

    python tests/lab/small_network.py FOLDER

It has what the Neural Compute Stick's compiler treats apart: convolutions for its engines, one by channel,
a concatenation (which becomes copies), pooling, a matrix, a softmax.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
SHAPE = (1, 3, 32, 32)
WEIGHTS = {
    "w1": (16, 3, 3, 3),
    "w2": (16, 1, 3, 3),
    "w3": (32, 16, 1, 1),
    "w4": (32, 16, 3, 3),
    "w5": (64, 10),
}


def network() -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(
            (RANDOM.normal(size=shape) / np.sqrt(np.prod(shape) / shape[0])).astype("f"), name
        )
        for name, shape in WEIGHTS.items()
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"], "first", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "by_channel", group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c2", "w3"], ["c3"], "narrow"),
        helper.make_node("Conv", ["c2", "w4"], ["c4"], "wide", pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["c3", "c4"], ["both"], "both", axis=1),
        helper.make_node("GlobalAveragePool", ["both"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("MatMul", ["flat", "w5"], ["logits"], "classes"),
        helper.make_node("Softmax", ["logits"], ["prob"], "prob", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("prob", TensorProto.FLOAT, (1, 10))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.checker.check_model(model)
    return model


def main(folder: Path) -> None:
    path = folder / "small.onnx"
    onnx.save(network(), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    gains = np.linspace(0.5, 4, 8).reshape(8, 1, 1, 1)  # else all answers are alike
    inputs = (RANDOM.normal(size=(8, *SHAPE[1:])) * gains + RANDOM.normal(size=(8, 3, 1, 1))).astype("f")
    outputs = np.concatenate([session.run(None, {"input": one[None]})[0] for one in inputs])
    np.savez(folder / "small.npz", outputs=outputs, **{"inputs/input": np.moveaxis(inputs, 1, -1)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
