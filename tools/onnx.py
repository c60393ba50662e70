"""ONNX Runtime: benchmark on the CPU, and what a graph is made of."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

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

tool = Tool("onnx", packages=("onnxruntime", "numpy"))

PROVIDER = "CPUExecutionProvider"


class OnnxSession:
    """An `InferenceSession` whose input and output are bound to memory once."""

    def __init__(self, path: Path, threads: int) -> None:
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = _load(path, options)
        if session.get_providers() != [PROVIDER]:
            message = f"ONNX Runtime took {', '.join(session.get_providers())} instead of {PROVIDER}"
            raise StageError(message, hint="A fallback is not measured.")
        (wanted,), (given,) = session.get_inputs(), session.get_outputs()
        self.input_shape = tuple(wanted.shape)
        shape = [length if isinstance(length, int) else 1 for length in wanted.shape]
        self._input = np.zeros(shape, np.float32)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(wanted.name, ort.OrtValue.ortvalue_from_numpy(self._input))
        self._binding.bind_output(given.name, "cpu")
        self.infer = functools.partial(session.run_with_iobinding, self._binding)  # 3 us less than `run`
        self.metadata: dict[str, Any] = {
            "device_name": cpu_name(),
            "threads": threads,
            "providers": session.get_providers(),
        }

    def feed(self, batch: np.ndarray) -> None:
        """Set the input, which the binding shares."""
        self._input[...] = batch

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
    try:
        model = _message(onnx.read_bytes())
        graph = _message(model[7][-1])
        nodes = [_node(_message(node)) for node in graph[1]]
        weights = [_message(tensor) for tensor in graph[5]]
        opsets = [_message(opset) for opset in model[8]]
        metadata = {
            "producer": _text(model[2]),
            "opset": max(opset[2][-1] for opset in opsets if _text(opset[1]) in ("", "ai.onnx")),
            "inputs": [_text(_message(value)[1]) for value in graph[11]],
            "outputs": [_text(_message(value)[1]) for value in graph[12]],
            "operators": dict(collections.Counter(node["operator"] for node in nodes).most_common()),
        }
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise _not_onnx(onnx, error) from error
    write_json(table, nodes)
    parameters = sum(math.prod(_integers(tensor[1])) for tensor in weights)
    return Result(metrics={"nodes": len(nodes), "parameters": parameters}, metadata=metadata)


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


# The file is one protobuf message, ModelProto. These lines read its wire format (described at
# protobuf.dev/programming-guides/encoding), so that the image needs no `onnx` package; the numbers of the
# fields are those of onnx/onnx.proto3, which never change.
Field = Union[int, memoryview]


def _message(data: Union[bytes, Field]) -> collections.defaultdict[int, list[Field]]:
    """Return a message's values by field number; ValueError if it is cut off."""
    values: collections.defaultdict[int, list[Field]] = collections.defaultdict(list)
    if isinstance(data, int):
        message = "a number stands where a message is due"
        raise TypeError(message)
    for number, value in _fields(memoryview(data)):
        values[number].append(value)
    return values


def _fields(data: memoryview) -> Iterator[tuple[int, Field]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, position = _varint(data, position)
        if length is None or position + length > len(data):
            message = f"no field of {length} bytes and kind {kind} fits at byte {position}"
            raise ValueError(message)
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return the number at `position`, 7 bits a byte, and the position after it."""
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position


def _integers(values: list[Field]) -> list[int]:
    """A repeated integer, which is written one by one or packed."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        position = 0
        while position < len(value):
            number, position = _varint(value, position)
            numbers.append(number)
    return numbers


def _text(values: list[Field]) -> str:
    return bytes(values[-1]).decode() if values and not isinstance(values[-1], int) else ""


def _node(node: collections.defaultdict[int, list[Field]]) -> dict[str, Any]:
    inputs, outputs = ([_text([name]) for name in node[key]] for key in (1, 2))
    return {"name": _text(node[3]), "operator": _text(node[4]), "inputs": inputs, "outputs": outputs}


if __name__ == "__main__":
    tool.main()
