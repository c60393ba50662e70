"""An ONNX network as tools/anatomy.py wants it; shapes are inferred by the onnx package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.anatomy import (
    Counted,
    Network,
    Node,
    Shape,
    batch_assumed,
    by_name,
    einsum_macs,
    elements,
    window,
)
from tools.stage import InvalidRequest, first_line


def read(path: Path, model: Any, input_shapes: Mapping[str, Shape]) -> Network:
    """Return what the loaded `model` of the file `path` holds; an unknown batch dimension counts as 1.

    `input_shapes` are the shapes of inputs by name; of the only one, if the name is empty.

    Raises:
        InvalidRequest: shapes that a count needs cannot be inferred.
    """
    from onnx import numpy_helper

    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    notes = _set_inputs(inputs, input_shapes, path)
    shapes = _infer(model, path)
    constants = {name: _parameters(tensor.data_type, tensor.dims) for name, tensor in initializers.items()}
    shapes.update({name: list(tensor.dims) for name, tensor in initializers.items()})
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            value = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
            held = numpy_helper.to_array(value) if value is not None else None
            constants[node.output[0]] = _parameters(value.data_type, held.shape) if value is not None else 0
            continue
        nodes.append(_node(node, shapes, path))
    return Network(
        format=f"ONNX, opset {max(entry.version for entry in model.opset_import)}",
        nodes=nodes,
        shapes=_Shapes(shapes, path),
        constants=constants,
        inputs=[value.name for value in inputs],
        notes=notes,
    )


class _Shapes(dict[str, Shape]):
    """Shapes by tensor; what is not known is an error when it is needed."""

    def __init__(self, shapes: Mapping[str, Shape], path: Path) -> None:
        super().__init__(shapes)
        self._path = path

    def __missing__(self, name: str) -> Shape:
        message = f"the shape of {name} in {self._path.name} is unknown"
        raise InvalidRequest(message, hint="Give the shapes of its inputs: --input-shape NAME=1,3,224,224")


def _set_inputs(inputs: Sequence[Any], wanted: Mapping[str, Shape], path: Path) -> list[str]:
    """Give the inputs, in place, the wanted shapes; return what was assumed."""
    shapes = by_name(wanted, [value.name for value in inputs], path)
    assumed = []
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if value.name in shapes:
            del dims[:]
            for size in shapes[value.name]:
                dims.add().dim_value = size
        elif dims and not dims[0].dim_value:
            dims[0].dim_value = 1
            assumed.append(batch_assumed(value.name))
    return assumed


def _infer(model: Any, path: Path) -> dict[str, Shape]:
    """Return the shapes of all tensors that have a known one."""
    from onnx import shape_inference

    del model.graph.value_info[:]  # what was inferred for the shapes of before
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except (shape_inference.InferenceError, ValueError) as error:
        message = f"the shapes of {path.name} do not fit together: {first_line(error)}"
        raise InvalidRequest(message, hint="Give the input a shape that the network takes.") from None
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        held = value.type.tensor_type
        dims = list(held.shape.dim)
        if held.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = [dim.dim_value for dim in dims]
    return found


def _parameters(data_type: int, dims: Sequence[int]) -> int:
    from onnx import TensorProto

    floats = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE
    weights = *floats, TensorProto.INT8, TensorProto.UINT8
    return elements(dims) if data_type in weights and len(dims) else 0


def _node(node: Any, shapes: Mapping[str, Shape], path: Path) -> Node:
    made = Node(
        name=node.name.strip("/") or f"{node.op_type}.{node.output[0].strip('/')}",
        op=node.op_type,
        inputs=[name for name in node.input if name],
        outputs=[name for name in node.output if name],
    )
    if node.op_type in COUNTERS:
        known = _Shapes(shapes, path)
        attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
        needed = [known[name] for name in (*made.inputs, made.outputs[0])]
        made.macs, made.cost, made.detail = COUNTERS[node.op_type](attributes, *needed)
    return made


def _value(attribute: Any) -> Any:
    from onnx import helper

    return helper.get_attribute_value(attribute)


def _convolution(attributes: Mapping[str, Any], _: Shape, kernel: Shape, *rest: Shape) -> Counted:
    bias, output = rest[:-1], rest[-1]
    groups = attributes.get("group", 1)
    detail = _window(kernel[2:], attributes) + (f", {groups} groups" if groups > 1 else "")
    return elements(output) * elements(kernel[1:]), float(len(bias)), detail


def _transposed(attributes: Mapping[str, Any], given: Shape, kernel: Shape, *rest: Shape) -> Counted:
    return elements(given) * elements(kernel[1:]), float(len(rest[:-1])), _window(kernel[2:], attributes)


def _gemm(attributes: Mapping[str, Any], left: Shape, _: Shape, *rest: Shape) -> Counted:
    bias, output = rest[:-1], rest[-1]
    return elements(output) * left[0 if attributes.get("transA") else 1], float(len(bias)), ""


def _matrices(_: Mapping[str, Any], left: Shape, __: Shape, output: Shape) -> Counted:
    return elements(output) * left[-1], None, ""


def _einsum(attributes: Mapping[str, Any], *shapes: Shape) -> Counted:
    equation = attributes["equation"].decode()
    return einsum_macs(equation, shapes[:-1]), None, equation


def _pool(attributes: Mapping[str, Any], *_: Shape) -> Counted:
    kernel = attributes["kernel_shape"]
    return 0, float(elements(kernel)), _window(kernel, attributes)


def _local_response(attributes: Mapping[str, Any], *_: Shape) -> Counted:
    return 0, float(attributes["size"]), ""


def _window(kernel: Shape, attributes: Mapping[str, Any]) -> str:
    return window(kernel, max(attributes.get("strides") or [1]))


COUNTERS: Mapping[str, Any] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matrices,
    "Einsum": _einsum,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    "LRN": _local_response,
}
