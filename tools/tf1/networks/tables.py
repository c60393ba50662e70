"""Networks from tables of layers (tools/layer_table.py): what builds each operation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from tools import layer_table
from tools.layer_table import ANY, CLASSES, IMAGE, MAP, OPERATIONS, Layer
from tools.stage import InvalidRequest
from tools.tf1 import layers
from tools.tf1.runtime import tf

ACTIVATIONS: Mapping[str, layers.Activation] = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "sigmoid": tf.nn.sigmoid,
    "tanh": tf.nn.tanh,
    "none": None,
}


def build(image: Any, classes: int, table: str, where: str) -> Any:
    """Build a network and return its logits [1, classes].

    Args:
        image: the batch [1, H, W, C].
        classes: what the table's `"classes"` stands for.
        table: JSON of `{"scope": that of all variables, "layers": [...]}`; with `"end_point"` the graph has
            the probabilities also under this name, for those who look for TF-Slim's.
        where: what errors call the network.

    Raises:
        InvalidRequest: it is no table, or a layer cannot take what it reads.
    """
    try:
        content = json.loads(table)
        scope, raw, end_point = content["scope"], content["layers"], content.get("end_point")
    except (ValueError, TypeError, KeyError):
        message = f"{where}: its layers are not JSON with the keys scope and layers"
        raise InvalidRequest(message, hint=layer_table.MANUAL) from None
    ordered = layer_table.read(raw, where)
    with tf.variable_scope(scope):
        logits = _in_order(ordered, image, classes, where)
    if logits.shape.as_list() != [1, classes]:
        message = f"{where}: its output, layer {ordered[-1].name!r}, is {_shape(logits)}"
        message += f" and not a vector of {classes} classes"
        raise InvalidRequest(message, hint='End with `filters` or `units` = "classes", and a vector.')
    if end_point:
        layers.predictions(logits, scope=end_point)
    return logits


def _in_order(ordered: Iterable[Layer], x: Any, classes: int, where: str) -> Any:
    """Build layers, each after what it reads; return what the last one gives."""
    made = {IMAGE: x}
    for layer in ordered:
        sources = [made[name] for name in layer.inputs]
        if layer.op == "block":
            with tf.variable_scope(layer.name):
                x = _in_order(layer.keys["layers"], sources[0], classes, f"{where}: {layer.name}")
        else:
            x = _layer(layer, sources, classes, where)
        made[layer.name] = x
    return x


def _layer(layer: Layer, sources: Sequence[Any], classes: int, where: str) -> Any:
    """Build one layer.

    Raises:
        InvalidRequest: it cannot take what it reads; the message says which shapes these are, and why not.
    """
    words = _words(layer.keys, classes)
    impossible, hint = _impossible(layer, sources[0])
    if not impossible:
        try:
            return BUILDERS[layer.op](*sources, scope=layer.name, **words)
        except ValueError as error:  # TensorFlow's shape inference
            impossible = str(error).partition(" for '")[0].rstrip(".")
    shapes = " and ".join(f"{_shape(x)} (from {name})" for x, name in zip(sources, layer.inputs))
    message = f"{where}: layer {layer.name!r} ({layer.op}) cannot take {shapes}: {impossible}"
    raise InvalidRequest(message, hint=hint)


def _impossible(layer: Layer, x: Any) -> tuple[str, str]:
    """Say why a layer cannot read `x`, and what to do; for what TensorFlow does not say plainly."""
    reads, kernel = OPERATIONS[layer.op].reads, layer.keys.get("kernel", 0)
    if reads not in (ANY, x.shape.rank):
        if reads == MAP:
            return "it reads a map, not a vector", "Put it before `flatten` or `squeeze`."
        return "it reads a vector, not a map", "Put a `flatten` before it."
    if layer.keys.get("padding") == "valid" and kernel > min(x.shape.as_list()[1:3]):
        return f"its window is {kernel} x {kernel}", "Use a smaller window or stride, or larger images."
    return "", "Change this layer, or the size of the image or of a layer before it."


def _words(keys: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Translate a table's words into the parameters of tools/tf1/layers.py."""
    found = {WORDS.get(key, key): classes if value == CLASSES else value for key, value in keys.items()}
    if "activation" in found:
        found["activation"] = ACTIVATIONS[found["activation"]]
    if "padding" in found:
        found["padding"] = found["padding"].upper()
    if "initializer" in found:
        found["initializer"] = layers.normal(found["initializer"]) if found["initializer"] else None
    return found


def _add(*sources: Any, scope: str, activation: layers.Activation) -> Any:
    with tf.name_scope(scope):
        total = _sum(sources)
        return activation(total) if activation else total


def _average(*sources: Any, scope: str) -> Any:
    with tf.name_scope(scope):
        return tf.multiply(_sum(sources), 1 / len(sources), name="mul")


def _sum(sources: Sequence[Any]) -> Any:
    """Add tensors of one shape; TensorFlow itself would stretch a smaller one."""
    total = sources[0]
    for source in sources[1:]:
        if source.shape.as_list() != total.shape.as_list():
            message = "their shapes differ"
            raise ValueError(message)
        total = layers.add(total, source, scope="add")
    return total


def _shape(x: Any) -> str:
    """`28 x 28 x 64`: without the batch, which is one."""
    return " x ".join(map(str, x.shape.as_list()[1:]))


WORDS = {"filters": "depth", "units": "depth", "stddev": "initializer", "batch_norm": "normalise"}

BUILDERS: Mapping[str, Callable[..., Any]] = {
    "conv": layers.conv,
    "depthwise": layers.depthwise,
    "max_pool": layers.max_pool,
    "avg_pool": layers.avg_pool,
    "global_avg_pool": layers.global_avg_pool,
    "lrn": layers.lrn,
    "flatten": layers.flatten,
    "squeeze": layers.squeeze,
    "fully_connected": layers.dense,
    "concat": layers.concat,
    "add": _add,
    "average": _average,
}
