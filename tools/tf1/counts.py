"""Operation counts, by TensorFlow's own profiler.

Two counts, both for batch 1 with a multiply-add as two. `inference_flops`, of the frozen graph, is what an
inference costs. `flops`, of the exported graph, is what TensorFlow's `float_operation` says of a TF-Slim
graph, and so what is published: it also holds two operations per weight (and one per kernel, if uniform)
for the random initialisers, and every end point's softmax. For AlexNet that is 6 % more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.tf1 import graphs
from tools.tf1.runtime import tf

WITH_KERNEL = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
MULTIPLY_ADDS = (*WITH_KERNEL, "BatchMatMul")


def count_by_node(graph: Any) -> dict[str, int]:
    """Return node name -> float operations, for the nodes that TensorFlow counts."""
    builder = tf.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    root = tf.profiler.profile(graph, options=options, cmd="scope")
    return {node.name: node.float_ops for node in _walk(root) if node.float_ops}


def params(graph_def: Any) -> int:
    """Return the number of trainable parameters: all variables but the stored moments."""
    shapes = graphs.variables(graph_def)
    trained = [shape for name, shape in shapes.items() if "/moving_" not in name]
    return int(sum(tf.TensorShape(shape).num_elements() for shape in trained))


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _walk(child)
