"""GraphDef files and their signatures: read, write, freeze."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from google.protobuf.message import DecodeError

from tools.stage import InvalidRequest
from tools.tf1.runtime import tf

Signature = Mapping[str, Any]

DAMAGED = "Is it whole, and the right file? If a stage made it, delete it and run that stage again."
SIGNATURE_KEYS = ("inputs", "output", "output_shape", "output_kind")

# Attributes that TensorFlow 1.8 does not know (1.15 neither, of batch normalisation's, which only training
# reads): it refuses graphs with them, also where they say nothing.
NEW_ATTRIBUTES = ("explicit_paddings", "exponential_avg_factor")


def signature_of(
    graph: Any, inputs: Mapping[str, Mapping[str, Any]], output: str, output_kind: str
) -> Signature:
    """Return the signature of a graph: tensor names without `:0`, shapes, and what the values mean.

    `inputs` says of each input by name its `kind`, from which tools/tf1/references.py makes values for it.
    """

    def tensor(name: str) -> Any:
        return graph.get_tensor_by_name(f"{name}:0")

    return {
        "inputs": {
            name: {"shape": tensor(name).shape.as_list(), "dtype": tensor(name).dtype.name, **said}
            for name, said in inputs.items()
        },
        "output": output,
        "output_shape": tensor(output).shape.as_list(),
        "output_kind": output_kind,
    }


def read_signature(path: Path) -> Signature:
    """Read a signature file.

    Raises:
        InvalidRequest: it is not one.
    """
    try:
        signature = json.loads(path.read_text())
        missing = [key for key in SIGNATURE_KEYS if key not in signature]
    except (ValueError, TypeError):
        missing = list(SIGNATURE_KEYS)
    if missing:
        message = f"{path} is not a signature: it lacks {', '.join(missing)}"
        raise InvalidRequest(message, hint="Make it again: run tf1.export.")
    return signature


def read(path: Path, *wanted: str) -> Any:
    """Read a binary GraphDef that has the nodes `wanted`.

    Raises:
        InvalidRequest: it is damaged, truncated, another kind of file, or another graph.
    """
    try:
        graph_def = tf.GraphDef.FromString(path.read_bytes())
    except DecodeError:
        graph_def = tf.GraphDef()
    names = {node.name for node in graph_def.node}
    if not names:
        message = f"{path} is not a TensorFlow GraphDef, or it is damaged or truncated"
        raise InvalidRequest(message, hint=DAMAGED)
    missing = [name for name in wanted if name not in names]
    if missing:
        message = f"{path} has no node {', '.join(missing)}; it is of another network, or truncated"
        raise InvalidRequest(message, hint="Use graph and signature of one export.")
    return graph_def


def open_frozen(path: Path, signature: Signature) -> Any:
    """Return the tf.Graph of a frozen graph that has the signature's inputs and output.

    Raises:
        InvalidRequest: it is damaged, or another graph.
    """
    return load(read(path, *signature["inputs"], signature["output"]), path)


def load(graph_def: Any, path: Path) -> Any:
    """Return a tf.Graph of the GraphDef read from `path`.

    Raises:
        InvalidRequest: TensorFlow refuses it.
    """
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(graph_def, name="")
        except (ValueError, tf.errors.OpError) as error:
            message = f"{path} is not a valid graph: {str(error).splitlines()[0][:300]}"
            raise InvalidRequest(message, hint=DAMAGED) from None
    return graph


def variables(graph_def: Any) -> dict[str, list[int]]:
    """Return the name and shape of every variable that the graph holds."""
    return {
        node.name: [dim.size for dim in node.attr["shape"].shape.dim]
        for node in graph_def.node
        if node.op == "VariableV2"
    }


def read_inference_part(path: Path, signature: Signature) -> Any:
    """Return what the output needs: no initialisers, no other end points; in words that TensorFlow 1.8 knows.

    Raises:
        InvalidRequest: the file is damaged, or another graph.

    Constants are written out, because TensorFlow 2 shortens a constant of equal values, and converters
    that read the file themselves (OpenVINO's Model Optimizer to 2022.3) cannot read the short form.
    """
    exported = read(path, *signature["inputs"], signature["output"])
    part = tf.graph_util.extract_sub_graph(exported, [signature["output"]])
    for node in part.node:
        for name in NEW_ATTRIBUTES:
            if name in node.attr and not node.attr[name].list.i:
                del node.attr[name]
        if node.op == "Const":
            tensor = node.attr["value"].tensor
            tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(tensor)))
    return part


def freeze(part: Any, values: Mapping[str, Any]) -> None:
    """Turn the variables of an inference part into constants, in place."""
    for node in part.node:
        if node.op == "VariableV2":
            value = tf.make_tensor_proto(values[node.name])
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = value.dtype
            node.attr["value"].tensor.CopyFrom(value)
