"""A frozen graph as tools/anatomy.py wants it; no signature needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Mapping, Sequence

from tools.anatomy import (
    BATCH_NORM,
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
from tools.stage import InvalidRequest
from tools.tf1 import graphs
from tools.tf1.runtime import tf

VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
WEIGHT_TYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int8, tf.uint8)


def read(path: Path, input_shapes: Mapping[str, Shape]) -> Network:
    """Read a frozen graph; an unknown batch dimension counts as 1.

    `input_shapes` are the shapes of inputs by name; of the only one, if the name is empty.

    Raises:
        InvalidRequest: it is not a graph, not frozen, has no inputs, or its shapes cannot be found.
    """
    graph_def = graphs.read(path)
    variables = [node.name for node in graph_def.node if node.op in VARIABLES]
    if variables:
        message = f"{path.name} is not frozen: it has {len(variables)} variables, {variables[0]} the first"
        raise InvalidRequest(message, hint="Freeze it with its checkpoint: python runner.py prepare")
    notes = _set_inputs(graph_def, input_shapes, path)
    graph = graphs.load(graph_def, path)
    operations = [op for op in graph.get_operations() if op.type not in ("Const", "Placeholder", "NoOp")]
    constants = {op.outputs[0].name: op for op in graph.get_operations() if op.type == "Const"}
    weights = {name: _parameters(op.outputs[0]) for name, op in constants.items()}
    for scale in _untrained_scales(operations, constants):
        weights[scale] = 0
    return Network(
        format="TensorFlow frozen graph",
        nodes=[_node(op, path) for op in operations if op.outputs],
        shapes=_Shapes(graph, path),
        constants=weights,
        inputs=[op.outputs[0].name for op in graph.get_operations() if op.type == "Placeholder"],
        notes=notes,
    )


class _Shapes(Mapping[str, Shape]):
    """The shapes of a graph's tensors, looked up when they are needed; then they have to be known."""

    def __init__(self, graph: Any, path: Path) -> None:
        self._graph, self._path = graph, path

    def __getitem__(self, name: str) -> list[int]:
        return _shape(self._graph.get_tensor_by_name(name), self._path)

    def __iter__(self) -> Iterator[str]:
        return (tensor.name for op in self._graph.get_operations() for tensor in op.outputs)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _set_inputs(graph_def: Any, wanted: Mapping[str, Shape], path: Path) -> list[str]:
    """Give the placeholders, in place, the wanted shapes; return what was assumed."""
    inputs = {node.name: node for node in graph_def.node if node.op == "Placeholder"}
    if not inputs:
        message = f"{path.name} has no input: no node is a Placeholder"
        raise InvalidRequest(message, hint="Name a graph that was exported for inference.")
    shapes = by_name(wanted, list(inputs), path)
    assumed = []
    for name, node in inputs.items():
        held = node.attr["shape"].shape
        dims = [dim.size for dim in held.dim]
        if name in shapes:
            dims = list(shapes[name])
        elif not held.unknown_rank and dims[:1] == [-1]:
            dims[0] = 1
            assumed.append(batch_assumed(name))
        if not held.unknown_rank or name in shapes:
            held.CopyFrom(tf.TensorShape([None if dim < 0 else dim for dim in dims]).as_proto())
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)  # what was inferred for the shapes of before
    return assumed


def _shape(tensor: Any, path: Path) -> list[int]:
    if not tensor.shape.is_fully_defined():
        message = f"the shape of {tensor.name} in {path.name} is unknown: {tensor.shape}"
        inputs = {op.name: op for op in tensor.graph.get_operations() if op.type == "Placeholder"}
        known = ", ".join(f"{name} {op.outputs[0].shape}" for name, op in inputs.items())
        hint = f"Give the shape of the input: --input-shape NAME=1,224,224,3. Its inputs: {known}"
        raise InvalidRequest(message, hint=hint)
    return list(tensor.shape.as_list())


def _parameters(constant: Any) -> int:
    return constant.shape.num_elements() if constant.dtype in WEIGHT_TYPES and constant.shape.rank else 0


def _untrained_scales(operations: Sequence[Any], constants: Mapping[str, Any]) -> list[str]:
    """Return the scales of batch normalisations that are made without: a constant of ones, not a variable."""
    scales = {op.inputs[1].name for op in operations if op.type in BATCH_NORM}
    found = []
    for name in scales & constants.keys():
        if (tf.make_ndarray(constants[name].get_attr("value")) == 1).all():
            found.append(name)
    return found


def _node(op: Any, path: Path) -> Node:
    node = Node(
        name=op.name,
        op=op.type,
        inputs=[tensor.name for tensor in op.inputs],
        outputs=[tensor.name for tensor in op.outputs],
    )
    if op.type in COUNTERS:
        shapes = [_shape(tensor, path) for tensor in (*op.inputs, op.outputs[0])]
        node.macs, node.cost, node.detail = COUNTERS[op.type](op, *shapes)
    return node


def _convolution(op: Any, _: Shape, kernel: Shape, output: Shape) -> Counted:
    return elements(output) * elements(kernel[:-1]), None, _window(kernel[:-2], op)


def _depthwise(op: Any, _: Shape, kernel: Shape, output: Shape) -> Counted:
    return elements(output) * elements(kernel[:2]), None, _window(kernel[:2], op)


def _transposed(op: Any, _: Shape, kernel: Shape, given: Shape, __: Shape) -> Counted:
    return elements(given) * elements(kernel[:-1]), None, _window(kernel[:2], op)


def _matrices(op: Any, left: Shape, _: Shape, output: Shape) -> Counted:
    turned = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
    return elements(output) * left[-2 if turned else -1], None, ""


def _einsum(op: Any, *shapes: Shape) -> Counted:
    equation = op.get_attr("equation").decode()
    return einsum_macs(equation, shapes[:-1]), None, equation


def _pool(op: Any, *_: Shape) -> Counted:
    sizes = op.get_attr("ksize")
    return 0, float(elements(sizes)), _window([size for size in sizes if size > 1] or [1], op)


def _local_response(op: Any, *_: Shape) -> Counted:
    return 0, 2.0 * op.get_attr("depth_radius") + 1, ""


def _window(kernel: Shape, op: Any) -> str:
    return window(kernel, max(op.get_attr("strides")))


COUNTERS: Mapping[str, Any] = {
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution),
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matrices),
    "Einsum": _einsum,
    **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
    "LRN": _local_response,
}
