"""What a network is made of: layers with shapes, parameters and operations, alike for every file format.

A format's reader (tools/tf1/anatomy.py, tools/onnx_graph.py) lists nodes and shapes; here they are counted
and joined into layers: a convolution with its bias, batch normalisation and activation is one, as people say.

- MACs: multiplications of an activation by a weight, or of two activations in a product of matrices, each
  with its addition: what papers state. A reader counts them, since formats order their shapes differently.
- Operations: two for each MAC; beyond that one for each element of an output, or as `COSTS` and windows say.
- Parameters: the elements of constants of floats (or 8-bit numbers) with at least one dimension, each once,
  where it is used first. Stored moments and the scales of quantisation are none: nothing trains them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional, Sequence, Tuple

from tools.stage import InvalidRequest, Result


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operators by what they cost, under their names in TensorFlow and in ONNX.
BATCH_NORM = _words("FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 BatchNormalization")
QUANTISE = _words("QuantizeLinear DequantizeLinear")
ACTIVATIONS = _words("""
    Relu Relu6 Elu Selu LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Clip Softplus Gelu""")
ARITHMETIC = _words("""
    Add AddV2 AddN Sub Mul Div RealDiv Maximum Minimum Max Min Pow SquaredDifference""")
FUNCTIONS = _words("""
    Exp Log Sqrt Rsqrt Square Neg Abs Erf Reciprocal Floor Round Sin Cos Sign
    Equal NotEqual Greater GreaterEqual Less LessEqual GreaterOrEqual LessOrEqual
    And Or Not LogicalAnd LogicalOr LogicalNot Select SelectV2 Where""")
REDUCTIONS = _words("""
    Mean Sum Prod ArgMax ArgMin GlobalAveragePool GlobalMaxPool
    ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL2""")
COUNTED_BY_READER = _words("""
    Conv2D Conv3D DepthwiseConv2dNative Conv2DBackpropInput MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3
    Einsum Conv ConvTranspose Gemm MaxPool AvgPool AveragePool LRN""")
RESHAPES = _words("""
    Identity Reshape Squeeze Unsqueeze ExpandDims Flatten Cast Transpose Dropout StopGradient""")
MOVES = RESHAPES | _words("""
    Concat ConcatV2 Pad PadV2 MirrorPad Split SplitV Slice StridedSlice Gather GatherV2 Pack Unpack Tile
    Expand BroadcastTo Shape Size Fill Range OneHot EyeLike ZerosLike ConstantOfShape PlaceholderWithDefault
    SpaceToBatchND BatchToSpaceND SpaceToDepth DepthToSpace""")

COSTS: Mapping[str, float] = {  # operations for each element of the output
    **dict.fromkeys({*ACTIVATIONS, *ARITHMETIC, *FUNCTIONS, "BiasAdd"}, 1.0),
    **dict.fromkeys(BATCH_NORM, 2.0),  # a scale and an offset
    **dict.fromkeys(("Softmax", "LogSoftmax"), 5.0),  # as TensorFlow's profiler counts it
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization"), 8.0),  # moments, a root, scale, offset
    **dict.fromkeys(QUANTISE, 2.0),
}

# Inputs, by position, that hold no parameters although they are constants of floats.
NO_PARAMETERS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(BATCH_NORM, (3, 4)),  # stored mean and variance
    **dict.fromkeys(QUANTISE, (1, 2)),  # scale and zero point
}

# What a person calls an operator, where a file's name for it says more than that.
CALLED: Mapping[str, str] = {
    **dict.fromkeys(BATCH_NORM, "BatchNorm"),
    "DepthwiseConv2dNative": "DepthwiseConv2D",
    "Conv2DBackpropInput": "Conv2DTranspose",
}

# What belongs to the layer in front of it, if that layer feeds nothing else.
FOLLOWERS = {"BiasAdd", *BATCH_NORM, *ACTIVATIONS, *RESHAPES, *ARITHMETIC, *QUANTISE}

Shape = Sequence[int]
Counted = Tuple[int, Optional[float], str]  # what a reader counts of a node: its `macs`, `cost` and `detail`


@dataclasses.dataclass
class Node:
    """One operation. `inputs` and `outputs` are tensors' names; `detail` is its window: `3x3/2`.

    `cost` is the operations for each element of the output beyond the MACs, where `COSTS` does not say it.
    """

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    detail: str = ""
    macs: int = 0
    cost: Optional[float] = None
    params: int = 0


@dataclasses.dataclass
class Network:
    """What a reader finds. Nodes are in an order in which each comes after those that it reads.

    `constants` maps the constants in the file to the number of parameters in each, zero for one that is an
    index, a shape or a scalar.
    """

    format: str
    nodes: list[Node]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, int]
    inputs: Sequence[str]
    notes: list[str] = dataclasses.field(default_factory=list)


def elements(shape: Iterable[int]) -> int:
    """Return the number of elements of a shape."""
    return functools.reduce(operator.mul, shape, 1)  # math.prod starts at Python 3.8


def parse_shapes(text: str) -> dict[str, list[int]]:
    """Return shapes by input from `1,224,224,3` (the name is empty) or `ids=1,128 mask=1,128`.

    Raises:
        InvalidRequest: it is not of that form.
    """
    shapes = {}
    for part in text.split():
        name, _, sizes = part.rpartition("=")
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", sizes):
            message = f"{part!r} is not the shape of an input"
            raise InvalidRequest(message, hint="The form is 1,224,224,3 or NAME=1,224,224,3")
        shapes[name] = [int(size) for size in sizes.split(",")]
    return shapes


def by_name(wanted: Mapping[str, Shape], inputs: Sequence[str], path: Path) -> dict[str, Shape]:
    """Return the wanted shapes by the names of the inputs of the file `path`.

    Raises:
        InvalidRequest: one is of an input that there is not.
    """
    named = {name or (inputs[0] if len(inputs) == 1 else ""): shape for name, shape in wanted.items()}
    unknown = [name for name in named if name not in inputs]
    if unknown:
        message = f"{path.name} has no input {unknown[0]!r}; its inputs are {', '.join(inputs)}"
        raise InvalidRequest(message, hint="Name it: --input-shape NAME=1,224,224,3")
    return named


def batch_assumed(name: str) -> str:
    """Return the note that an input's unknown batch dimension was taken for 1."""
    return f"the batch dimension of {name} is unknown and counted as 1"


def window(kernel: Shape, stride: int) -> str:
    """Show a window as `3x3/2`, without a stride of 1."""
    return "x".join(map(str, kernel)) + (f"/{stride}" if stride > 1 else "")


def einsum_macs(equation: str, shapes: Sequence[Shape]) -> int:
    """Return the products that an Einsum of two tensors needs: every combination of its indices."""
    terms = re.sub(r"->.*|\s|\.\.\.", "", equation).split(",")
    pairs = list(zip(terms, shapes))  # dimensions in front of a term's indices are its `...`
    lengths = {index: size for term, shape in pairs for index, size in zip(term[::-1], shape[::-1])}
    batch = max(elements(shape[: len(shape) - len(term)]) for term, shape in pairs)
    return elements(lengths.values()) * batch


def describe(network: Network) -> dict[str, Any]:
    """Return totals and layers as JSON; what the layers hold adds up to the totals.

    Raises:
        KeyError: a node's tensor is not in `shapes`.
    """
    nodes = _own_parameters(network)
    layers = _layers(network, nodes)
    totals = {key: sum(layer[key] for layer in layers) for key in ("params", "macs", "operations")}
    for layer in layers:
        layer["share"] = layer["macs"] / totals["macs"] if totals["macs"] else 0.0
    used = {tensor for node in nodes for tensor in node.inputs}
    ends = [tensor for node in nodes for tensor in node.outputs[:1] if tensor not in used]
    return {
        "format": network.format,
        **totals,
        "nodes": len(nodes),
        "inputs": [{"name": name, "shape": list(network.shapes[name])} for name in network.inputs],
        "outputs": [{"name": name, "shape": list(network.shapes[name])} for name in ends],
        "not_counted": dict(collections.Counter(node.op for node in nodes if not _is_known(node))),
        "notes": network.notes,
        "layers": layers,
    }


def result(described: Mapping[str, Any]) -> Result:
    """Return the totals as a stage's result, and what they leave out as its metadata."""
    metrics = {key: described[key] for key in ("params", "macs", "operations")}
    metadata = {key: described[key] for key in ("inputs", "outputs", "not_counted", "notes")}
    return Result(metrics={**metrics, "layers": len(described["layers"])}, metadata=metadata)


def _own_parameters(network: Network) -> list[Node]:
    """Return the nodes that an input reaches, each with the parameters that it is the first to use.

    What is made of constants only (a weight's Identity, its dequantisation) is itself a constant.
    """
    sources: dict[str, set[str]] = {name: {name} for name in network.constants}
    taken: set[str] = set()
    live = []
    for node in network.nodes:
        without = NO_PARAMETERS.get(node.op, ())
        found: set[str] = set()
        for position, tensor in enumerate(node.inputs):
            if position not in without:
                found |= sources.get(tensor, set())
        if all(tensor in sources for tensor in node.inputs):
            sources.update(dict.fromkeys(node.outputs, found))
            continue
        node.params = sum(network.constants[name] for name in found - taken)
        node.inputs = [tensor for tensor in node.inputs if tensor not in sources]
        taken |= found
        live.append(node)
    return live


def _layers(network: Network, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    consumers = collections.Counter(tensor for node in nodes for tensor in node.inputs)
    groups: dict[str, list[Node]] = {}  # the tensor that a group ends in -> its nodes
    for node in nodes:
        group: list[Node] = []
        if node.op in FOLLOWERS and len(node.inputs) == 1:
            before = groups.get(node.inputs[0])
            if before and sum(consumers[tensor] for tensor in before[-1].outputs) == 1:
                group = groups.pop(node.inputs[0])
        groups[node.outputs[0]] = [*group, node]
    order = {id(node): position for position, node in enumerate(nodes)}
    ordered = sorted(groups.values(), key=lambda group: order[id(group[0])])
    names = _names(ordered)
    maker = {tensor: name for name, group in names.items() for node in group for tensor in node.outputs}
    return [
        {
            "name": name,
            "operation": ", ".join(f"{CALLED.get(node.op, node.op)} {node.detail}".strip() for node in group),
            "nodes": [node.name for node in group],
            "inputs": list(dict.fromkeys(maker.get(tensor, tensor) for tensor in group[0].inputs)),
            "input_shapes": [list(network.shapes[tensor]) for tensor in group[0].inputs],
            "output_shape": list(network.shapes[group[-1].outputs[0]]),
            "params": sum(node.params for node in group),
            "macs": sum(node.macs for node in group),
            "operations": sum(_operations(node, network.shapes) for node in group),
        }
        for name, group in names.items()
    ]


def _names(groups: Sequence[Sequence[Node]]) -> dict[str, Sequence[Node]]:
    """Name each group by its scope, if that holds nothing else, or by its first node."""
    within = collections.Counter(scope for group in groups for node in group for scope in _scopes(node.name))
    named: dict[str, Sequence[Node]] = {}
    for group in groups:
        own = collections.Counter(scope for node in group for scope in _scopes(node.name))
        scopes = [scope for scope, count in own.items() if count == len(group) == within[scope]]
        name = min(scopes, key=len) if scopes else group[0].name
        while name in named:  # a file may use a name twice
            name += "'"
        named[name] = group
    return named


def _scopes(name: str) -> list[str]:
    """Return what encloses a name, below the outermost scope, and the name: a/b, a/b/c for a/b/c."""
    parts = name.split("/")
    return ["/".join(parts[: length + 1]) for length in range(min(1, len(parts) - 1), len(parts))]


def _operations(node: Node, shapes: Mapping[str, Shape]) -> int:
    size = elements(shapes[node.outputs[0]])
    if node.op in REDUCTIONS:
        return elements(shapes[node.inputs[0]])
    cost = COSTS.get(node.op, 0.0) if node.cost is None else node.cost
    return round(2 * node.macs + cost * size)


def _is_known(node: Node) -> bool:
    return any(node.op in group for group in (COSTS, REDUCTIONS, COUNTED_BY_READER, MOVES))
