"""What the Inception networks share: modules of parallel branches, and the layers in them.

A layer here is a function from map to map that knows its name. The name is the one in TF-Slim's checkpoints
and ends in the size of the window: `Conv2d_0b_1x7`. Where a name is wrong about it, `kernel` says the size.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, Callable, Optional

from tools.tf1 import layers
from tools.tf1.runtime import tf

Layer = Callable[[Any], Any]


def conv(
    name: str,
    depth: int,
    stride: int = 1,
    *,
    kernel: Optional[int] = None,
    padding: str = "SAME",
    initializer: Any = None,
) -> Layer:
    """Return a convolution with batch normalisation, which has no gamma, and ReLU."""
    return functools.partial(
        layers.conv,
        depth=depth,
        kernel=kernel or _window(name),
        stride=stride,
        scope=name,
        padding=padding,
        initializer=initializer,
        normalise=True,
        gamma=False,
    )


def max_pool(name: str, stride: int = 1, *, padding: str = "SAME") -> Layer:
    """Return a max pool."""
    return functools.partial(
        layers.max_pool, kernel=_window(name)[0], stride=stride, padding=padding, scope=name
    )


def avg_pool(name: str) -> Layer:
    """Return an average pool that keeps the size of the map."""
    return functools.partial(layers.avg_pool, kernel=_window(name)[0], stride=1, padding="SAME", scope=name)


halving_pool = functools.partial(max_pool, stride=2, padding="VALID")


def chain(x: Any, *steps: Layer) -> Any:
    """Apply layers one after the other."""
    for step in steps:
        x = step(x)
    return x


def split(*steps: Layer) -> Layer:
    """Return a layer that applies others side by side and stacks their channels."""
    return lambda x: tf.concat([step(x) for step in steps], 3)


def branches(*chains: Sequence[Layer]) -> Layer:
    """Return a layer of parallel chains, in the scopes `Branch_0`, `Branch_1` and so on."""

    def branch(index: int, x: Any) -> Any:
        with tf.variable_scope(f"Branch_{index}"):
            return chain(x, *chains[index])

    return split(*(functools.partial(branch, index) for index in range(len(chains))))


def module(name: str, *chains: Sequence[Layer]) -> Layer:
    """Return an Inception module: parallel chains in the scope `name`."""

    def build(x: Any) -> Any:
        with tf.variable_scope(name):
            return branches(*chains)(x)

    return build


def classify(x: Any, classes: int, *, pool: str, name: str) -> Any:
    """Average over the map and classify, by a 1 x 1 convolution; return the logits [1, classes]."""
    x = layers.global_avg_pool(x, scope=pool)
    x = layers.conv(x, classes, 1, scope=name, activation=None, initializer=layers.he_normal())
    return layers.squeeze(x, scope="SpatialSqueeze")


def classify_by_matrix(x: Any, classes: int, *, pool: str) -> Any:
    """Average over the map and classify; return the logits. `Predictions` is TF-Slim's own end point."""
    with tf.variable_scope("Logits"):
        x = layers.squeeze(layers.global_avg_pool(x, scope=pool), scope="PreLogitsFlatten")
        logits = layers.dense(x, classes, scope="Logits")
        tf.nn.softmax(logits, name="Predictions")
        return logits


def auxiliary_head(
    x: Any, classes: int, conv: Callable[..., Layer], *, pool: str, last: str, matrix: str
) -> None:
    """Add a classifier that is of use in training only; the kernel of `last` is as large as the map."""
    with tf.variable_scope("AuxLogits"):
        x = layers.avg_pool(x, 5, 3, padding="VALID", scope=pool)
        x = conv("Conv2d_1b_1x1", 128)(x)
        x = conv(last, 768, kernel=x.shape[1], padding="VALID")(x)
        x = layers.squeeze(x, scope="Flatten")
        layers.dense(x, classes, scope=matrix)


def _window(name: str) -> tuple[int, int]:
    height, width = re.fullmatch(r".*_(\d)x(\d)", name).groups()
    return int(height), int(width)
