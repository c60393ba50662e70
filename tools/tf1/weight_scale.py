"""What generated weights have to know of a network that is described by a table: depth, and logits.

A kernel of tools/tf1/weights.py keeps the scale of the activations, but not every network does: each residual
block adds to it, and an average over the map takes from it. Behind a few dozen layers the softmax would be
on one class whatever the input, or the same for all classes, and then a conversion that is wrong looks right.
Networks that are code have their gains in weights.py; of a table nothing is known before it has run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tools.tf1 import counts, references
from tools.tf1.graphs import Signature
from tools.tf1.runtime import tf

INPUTS = 4
GOOD = (0.5, 4.0)  # standard deviation of the logits with which a softmax of 1001 classes has a clear winner
AIM = 1.5
DEEP = 24  # kernels behind one another that a rounding passes before it is a tenth of what the gate allows


def is_deep(graph: Any) -> bool:
    """Whether so many kernels are behind one another that weights.py has to hold roundings down."""
    kernels: dict[str, int] = {}
    for operation in graph.get_operations():  # each after what it reads
        before = max((kernels[tensor.op.name] for tensor in operation.inputs), default=0)
        kernels[operation.name] = before + (operation.type in counts.WITH_KERNEL)
    return max(kernels.values()) > DEEP


def scale_logits(graph: Any, signature: Signature, values: dict[str, Any]) -> float:
    """Scale the weights that make the logits if these are too large or too small; return the factor.

    It is a power of two, so that machines whose sums differ in the last digits make the same weights.

    Args:
        graph: the network, which ends in a softmax.
        signature: its signature.
        values: variable name -> array; those of the last kernels are replaced.
    """
    softmax = graph.get_operation_by_name(signature["output"])
    fed = references.inputs(INPUTS, 0, signature)
    weights = {f"{name}/read:0": value for name, value in values.items()}
    spreads = []
    with tf.Session(graph=graph) as session:
        for index in range(INPUTS):
            batch = {f"{name}:0": array[index : index + 1] for name, array in fed.items()}
            spreads.append(session.run(softmax.inputs[0], {**weights, **batch}).std())
    spread = float(np.mean(spreads))
    if GOOD[0] <= spread <= GOOD[1] or not 0 < spread < math.inf:
        return 1.0
    factor = 2.0 ** round(math.log2(AIM / spread))
    for name in _last_weights(softmax):
        values[name] = values[name] * np.float32(factor)
    return factor


def _last_weights(softmax: Any) -> set[str]:
    """Return the variables of the last kernel before the softmax, or of the last ones side by side."""
    waiting, seen, found = [softmax], set(), set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in counts.WITH_KERNEL:
            found.add(operation.inputs[1].op.inputs[0].op.name)
        else:
            waiting += [tensor.op for tensor in operation.inputs]
    return found
