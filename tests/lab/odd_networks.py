"""ONNX networks, one that a stick takes and some that it cannot: `python odd_networks.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION, OPSET = 6, 11


def network(name: str, *nodes: Any, shape: tuple[Any, ...] = (1, 3, 16, 16)) -> onnx.ModelProto:
    """Return a network from `data` through a convolution `c` and the nodes to `out`."""
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((4, 3, 3, 3)), "b": random.standard_normal(4)}
    convolution = helper.make_node("Conv", ["data", "w", "b"], ["c"], name="first/conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [convolution, *nodes],
        name,
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return model


def node(operator: str, source: str, made: str, name: str, **attributes: Any) -> Any:
    return helper.make_node(operator, [source], [made], name=name, **attributes)


def main(folder: Path) -> None:
    relu = node("Relu", "c", "r", "first/relu")
    networks = {
        "good": network("good", node("Relu", "c", "out", "last")),
        "waves": network("waves", relu, node("Sin", "r", "s", "wave"), node("Cos", "s", "out", "other/wave")),
        "decomposed": network("decomposed", node("Softsign", "c", "out", "sign")),
        "unknown": network("unknown", relu, node("Det", "r", "out", "determinant")),
        "foreign": network("foreign", node("Mine", "c", "out", "own", domain="my.domain")),
        "dynamic": network("dynamic", node("Relu", "c", "out", "last"), shape=("N", 3, 16, 16)),
        "undefined": network("undefined", helper.make_node("CumSum", ["c", "axis"], ["out"], name="sum")),
    }
    for name, model in networks.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    whole = (folder / "good.onnx").read_bytes()
    for name, data in {
        "cut_off": whole[: len(whole) // 2],
        "garbage": b"garbage " * 50,
        "empty": b"",
    }.items():
        (folder / f"{name}.onnx").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
