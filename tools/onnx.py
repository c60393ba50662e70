"""ONNX Runtime: benchmark on the CPU, other precisions, and what a graph is made of."""

from __future__ import annotations

import collections
import functools
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from tools import onnx_models
from tools.benchmark import Target, cpu_name, run, write_answers
from tools.stage import (
    Input,
    InvalidRequest,
    Output,
    Result,
    StageError,
    Tool,
    Unsupported,
    first_line,
    progress,
    write_json,
)

if TYPE_CHECKING:
    import numpy as np

tool = Tool("onnx", packages=("onnxruntime", "onnx", "numpy"))

PROVIDER = "CPUExecutionProvider"
# What only turns one type into another, or changes a layout.
RETYPING = (
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ReorderInput",
    "ReorderOutput",
)
# A quantised softmax has steps of 1/256, too coarse for a thousand classes; see tools/tf1/convert.py.
FLOATING = ("Softmax",)


class OnnxSession:
    """An `InferenceSession` whose inputs and output are bound to memory once."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        self._path = path
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

    def operations(self) -> Mapping[str, int]:
        """Count the kernels by the type of their first input, as the profile of one inference has them."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder, "profile"))
            session = _load(self._path, options)
            session.run(None, self._inputs)
            events = json.loads(Path(session.end_profiling()).read_text())
        kernels = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
        return collections.Counter(
            _numpy_type(next(iter(kernel["input_type_shape"][0])))
            for kernel in kernels
            if kernel["op_name"] not in RETYPING and kernel["input_type_shape"]
        )


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

    target = Target("onnxruntime", device, precision, threads, budget_s)
    return run(_loader(onnx, target), target, reference, samples)


@tool.command()
def infer(
    onnx: Input,
    images: Input,
    answers: Output = "{model}.onnx-answers.npz",
    device: str = "CPU",
    threads: int = 0,
    precision: str = "fp32",
) -> Result:
    """Run the network on inputs (`inputs/<name>`) and write what it answers (`outputs`)."""
    target = Target("onnxruntime", device, precision, threads)
    return write_answers(_loader(onnx, target), target, images, answers)


@tool.command()
def to_fp16(onnx: Input, onnx_fp16: Output = "{model}.fp16.onnx") -> Result:
    """Convert weights and arithmetic to float16; inputs and output stay float32."""
    from onnx import save
    from onnxruntime.transformers.float16 import convert_float_to_float16

    save(convert_float_to_float16(onnx_models.read(onnx), keep_io_types=True), onnx_fp16)
    return _made(onnx_fp16, "fp16")


@tool.command()
def quantize_dynamic(onnx: Input, onnx_int8_dynamic: Output = "{model}.int8-dynamic.onnx") -> Result:
    """Quantise weights to 8 bits; activations are quantised while it runs."""
    from onnxruntime import quantization

    onnx_models.read(onnx)
    with tempfile.TemporaryDirectory() as folder:
        # uint8, because ConvInteger of int8 weights takes twice as long on x86
        quantization.quantize_dynamic(
            onnx_models.prepared(onnx, folder),
            onnx_int8_dynamic,
            per_channel=True,
            weight_type=quantization.QuantType.QUInt8,
        )
    return _made(onnx_int8_dynamic, "int8-dynamic")


@tool.command()
def quantize(onnx: Input, calibration: Input, onnx_int8: Output = "{model}.int8.onnx") -> Result:
    """Quantise weights (int8) and activations (uint8); inputs, output and softmax stay float32."""
    from onnxruntime import quantization

    from tools.calibration import read

    model = onnx_models.read(onnx)
    batches = read(calibration, onnx_models.input_shapes(model))
    progress(0.1, f"running {len(batches)} representative inputs")
    with tempfile.TemporaryDirectory() as folder:
        prepared = onnx_models.prepared(onnx, folder)
        nodes = onnx_models.read(prepared).graph.node
        quantization.quantize_static(
            prepared,
            onnx_int8,
            onnx_models.reader(batches),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # uint8 by int8 is what its CPU kernels have; of int8 by int8 most convolutions stay in float32
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=[node.name for node in nodes if node.op_type in FLOATING],
        )
    return _made(onnx_int8, "int8")


@tool.command()
def info(onnx: Input, table: Output = "{model}.nodes.json") -> Result:
    """List the graph's nodes; count its operators and parameters."""
    model = onnx_models.read(onnx)
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
def describe(onnx: Input, input_shape: str = "", described: Output = "{model}.onnx.layers.json") -> Result:
    """Count parameters and operations of each layer; see tools/anatomy.py."""
    from tools import anatomy, onnx_graph

    found = anatomy.describe(onnx_graph.read(onnx, onnx_models.read(onnx), anatomy.parse_shapes(input_shape)))
    write_json(described, found)
    return anatomy.result(found)


def _made(path: Path, precision: str) -> Result:
    return Result(metrics={"size_bytes": path.stat().st_size}, metadata={"precision": precision})


def _loader(onnx: Path, target: Target) -> Callable[[], OnnxSession]:
    """Return what loads the network.

    Raises:
        InvalidRequest: there is no such device.
    """
    if target.device != "CPU":
        message = f"ONNX Runtime has no device {target.device!r} here"
        raise InvalidRequest(message, hint="Its package of this tool runs on CPU only.")
    return lambda: OnnxSession(onnx, target.cpu_threads)


def _buffer(wanted: Any) -> np.ndarray:
    """Return memory for an input; its type as ONNX Runtime writes it is `tensor(float)`, `tensor(int32)`."""
    import numpy as np

    shape = [length if isinstance(length, int) else 1 for length in wanted.shape]
    return np.zeros(shape, _numpy_type(wanted.type[len("tensor(") : -1]))


def _numpy_type(kind: str) -> str:
    return {"float": "float32", "double": "float64"}.get(kind, kind)


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
        raise onnx_models.not_onnx(path, error) from error


if __name__ == "__main__":
    tool.main()
