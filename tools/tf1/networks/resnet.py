"""ResNet v1 (He et al. 2015, arXiv:1512.03385) and v2 (He et al. 2016, arXiv:1603.05027)."""

from __future__ import annotations

from typing import Any, Callable

from tools.tf1.layers import add, batch_norm, conv, global_avg_pool, he_normal, max_pool, predictions, squeeze
from tools.tf1.runtime import tf

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # of conv2_x to conv5_x: table 1 of v1
DEPTHS = (64, 128, 256, 512)

EPSILON = 1e-5  # of batch normalisation, in the networks that TF-Slim's checkpoints come from

Unit = Callable[[Any, int, int], Any]


def resnet_v1(x: Any, classes: int, *, layers: int) -> Any:
    """Build ResNet v1: each unit ends in ReLU."""
    with tf.variable_scope(f"resnet_v1_{layers}"):
        x = _conv(x, 64, 7, 2, scope="conv1")
        x = max_pool(x, 3, 2, padding="SAME", scope="pool1")
        x = _blocks(x, layers, _unit_v1)
        return _logits(x, classes)


def resnet_v2(x: Any, classes: int, *, layers: int) -> Any:
    """Build ResNet v2: each unit begins with batch normalisation and ReLU, and the sum passes untouched."""
    with tf.variable_scope(f"resnet_v2_{layers}"):
        x = _conv(x, 64, 7, 2, scope="conv1", activation=None, normalise=False)
        x = max_pool(x, 3, 2, padding="SAME", scope="pool1")
        x = _blocks(x, layers, _unit_v2)
        x = tf.nn.relu(batch_norm(x, scope="postnorm", epsilon=EPSILON))
        return _logits(x, classes)


def _blocks(x: Any, layers: int, unit: Unit) -> Any:
    """Stack the bottleneck units; the last one of a block halves the map, not the first of the next."""
    for block, (depth, units) in enumerate(zip(DEPTHS, UNITS[layers]), start=1):
        for index in range(1, units + 1):
            stride = 2 if index == units and block < len(DEPTHS) else 1
            with tf.variable_scope(f"block{block}/unit_{index}"):
                x = unit(x, depth, stride)
    return x


def _unit_v1(x: Any, depth: int, stride: int) -> Any:
    with tf.variable_scope("bottleneck_v1"):
        if x.shape[3] == 4 * depth:
            shortcut = _subsample(x, stride)
        else:
            shortcut = _conv(x, 4 * depth, 1, scope="shortcut", activation=None)
        y = _conv(x, depth, 1, scope="conv1")
        y = _conv(y, depth, 3, stride, scope="conv2")
        y = _conv(y, 4 * depth, 1, scope="conv3", activation=None)
        return tf.nn.relu(add(shortcut, y, scope="add"))


def _unit_v2(x: Any, depth: int, stride: int) -> Any:
    with tf.variable_scope("bottleneck_v2"):
        activated = tf.nn.relu(batch_norm(x, scope="preact", epsilon=EPSILON))
        if x.shape[3] == 4 * depth:
            shortcut = _subsample(x, stride)
        else:
            shortcut = _conv(activated, 4 * depth, 1, scope="shortcut", activation=None, normalise=False)
        y = _conv(activated, depth, 1, scope="conv1")
        y = _conv(y, depth, 3, stride, scope="conv2")
        y = _conv(y, 4 * depth, 1, scope="conv3", activation=None, normalise=False)
        return add(shortcut, y, scope="add")


def _conv(x: Any, depth: int, kernel: int, stride: int = 1, *, normalise: bool = True, **options: Any) -> Any:
    """Convolve; where the map is halved, padded alike on all sides, which SAME does not do for even maps."""
    padding = "SAME"
    if stride > 1:
        around = [kernel // 2, kernel // 2]
        x = tf.pad(x, [[0, 0], around, around, [0, 0]])
        padding = "VALID"
    options = {"padding": padding, "initializer": he_normal(), "epsilon": EPSILON, **options}
    return conv(x, depth, kernel, stride, normalise=normalise, **options)


def _subsample(x: Any, stride: int) -> Any:
    """Take every second pixel where the unit halves the map."""
    return max_pool(x, 1, stride, scope="shortcut") if stride > 1 else x


def _logits(x: Any, classes: int) -> Any:
    x = global_avg_pool(x, scope="pool5")
    x = conv(x, classes, 1, activation=None, scope="logits", initializer=he_normal())
    logits = squeeze(x, scope="SpatialSqueeze")
    predictions(logits, scope="predictions")
    return logits
