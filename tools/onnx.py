"""ONNX Runtime: benchmark on the CPU, and what a graph is made of."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.benchmark import Target, cpu_name, run
from tools.stage import (
    Input,
    InvalidRequest,
    Output,
    Result,
    StageError,
    Tool,
    Unsupported,
    first_line,
    write_json,
)

if TYPE_CHECKING:
    import numpy as np

tool = Tool("onnx", packages=("onnxruntime", "onnx", "numpy"))

PROVIDER = "CPUExecutionProvider"


class OnnxSession:
    """An `InferenceSession` whose inputs and output are bound to memory once."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = _load(path, options)
        if session.get_providers() != [PROVIDER]:
            message = f"ONNX Runtime took {', '.join(session.get_providers())} instead of {PROVIDER}"
            raise StageError(message, hint="A fallback is not measured.")
        (given,) = session.get_outputs()
        self.input_shapes = {wanted.name: tuple(wanted.shape) for wanted in session.get_inputs()}
        self._inputs = {wanted.name: _buffer(wanted) for wanted in session.get_inputs()}
        self._binding = session.io_binding()
        for name, buffer in self._inputs.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(buffer))
        self._binding.bind_output(given.name, "cpu")
        self.infer = functools.partial(session.run_with_iobinding, self._binding)  # 3 us less than `run`
        self.metadata: dict[str, Any] = {
            "device_name": cpu_name(),
            "threads": threads,
            "providers": session.get_providers(),
        }

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs, which the binding shares."""
        for name, batch in batches.items():
            self._inputs[name][...] = batch

    def output(self) -> np.ndarray:
        """Return a copy of the output."""
        return self._binding.copy_outputs_to_cpu()[0].copy()


@tool.command(measures=True)
def benchmark(
    onnx: Input,
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    device: str = "CPU",
    threads: int = 0,
    budget_s: float = 10.0,
    precision: str = "fp32",
) -> Result:
    """Check the network against the reference, then measure its single-stream latency at batch 1."""
    import onnxruntime  # noqa: F401 - so that load_ms is the network's alone

    if device != "CPU":
        message = f"ONNX Runtime has no device {device!r} here"
        raise InvalidRequest(message, hint="Its package of this tool runs on CPU only.")
    target = Target("onnxruntime", device, precision, threads, budget_s)
    return run(lambda: OnnxSession(onnx, target.cpu_threads), target, reference, samples)


@tool.command()
def info(onnx: Input, table: Output = "{model}.nodes.json") -> Result:
    """List the graph's nodes; count its operators and parameters."""
    model = _read(onnx)
    nodes = [
        {"name": node.name, "operator": node.op_type, "inputs": [*node.input], "outputs": [*node.output]}
        for node in model.graph.node
    ]
    write_json(table, nodes)
    metadata = {
        "producer": model.producer_name,
        "opset": max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")),
        "inputs": [value.name for value in model.graph.input],
        "outputs": [value.name for value in model.graph.output],
        "operators": dict(collections.Counter(node["operator"] for node in nodes).most_common()),
    }
    parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return Result(metrics={"nodes": len(nodes), "parameters": parameters}, metadata=metadata)


@tool.command()
def describe(onnx: Input, input_shape: str = "", layers: Output = "{model}.onnx.layers.json") -> Result:
    """Count parameters and operations of each layer; see tools/anatomy.py."""
    from tools import anatomy, onnx_graph

    found = anatomy.describe(onnx_graph.read(onnx, _read(onnx), anatomy.parse_shapes(input_shape)))
    write_json(layers, found)
    return anatomy.result(found)


def _read(path: Path) -> Any:
    """Return the `ModelProto`.

    Raises:
        InvalidRequest: the file is corrupt, or cut off.
    """
    from google.protobuf.message import DecodeError
    from onnx import checker, load

    try:
        model = load(path)
        checker.check_model(model)
    except (DecodeError, checker.ValidationError) as error:
        raise _not_onnx(path, error) from error
    return model


def _buffer(wanted: Any) -> np.ndarray:
    """Return memory for an input; its type as ONNX Runtime writes it is `tensor(float)`, `tensor(int32)`."""
    import numpy as np

    shape = [length if isinstance(length, int) else 1 for length in wanted.shape]
    kind = wanted.type[len("tensor(") : -1]
    return np.zeros(shape, {"float": "float32", "double": "float64"}.get(kind, kind))


def _load(path: Path, options: Any) -> Any:
    """Return an `InferenceSession`.

    Raises:
        Unsupported: an operator that ONNX Runtime does not have.
        InvalidRequest: the file is corrupt, or cut off.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    try:
        return ort.InferenceSession(str(path), options, providers=[PROVIDER])
    except errors.NotImplemented as error:
        message = f"ONNX Runtime cannot run {path.name}: {first_line(error)}"
        raise Unsupported(message, hint="Convert with operators that its CPU provider has.") from error
    except (errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument, errors.Fail) as error:
        raise _not_onnx(path, error) from error


def _not_onnx(path: Path, error: Exception) -> InvalidRequest:
    message = f"{path.name} is not an ONNX network, or it is cut off: {first_line(error)}"
    return InvalidRequest(message, hint="Convert it again with tf1.to-onnx.")


if __name__ == "__main__":
    tool.main()
