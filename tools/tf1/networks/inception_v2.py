"""Inception v2, the network of the batch normalisation paper (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

from __future__ import annotations

import functools
from typing import Any, Callable

from tools.tf1.layers import he_normal, normal, predictions, separable
from tools.tf1.networks import inception
from tools.tf1.networks.inception import Layer, avg_pool, chain, classify, max_pool, module
from tools.tf1.runtime import tf

# Of each module that keeps the size of its map: figure 5 of the paper, columns #1x1 to pool proj.
DEPTHS = {
    "Mixed_3b": (64, 64, 64, 64, 96, 32),
    "Mixed_3c": (64, 64, 96, 64, 96, 64),
    "Mixed_4b": (224, 64, 96, 96, 128, 128),
    "Mixed_4c": (192, 96, 128, 96, 128, 128),
    "Mixed_4d": (160, 128, 160, 128, 160, 96),
    "Mixed_4e": (96, 128, 192, 160, 192, 96),
    "Mixed_5b": (352, 192, 320, 160, 224, 128),
    "Mixed_5c": (352, 192, 320, 192, 224, 128),
}

conv = functools.partial(inception.conv, initializer=he_normal())
reduce = functools.partial(conv, "Conv2d_0a_1x1", initializer=normal(0.09))


def inception_v2(x: Any, classes: int) -> Any:
    """Build Inception v2, whose first layer is a separable convolution."""
    with tf.variable_scope("InceptionV2"):
        first = {"scope": "Conv2d_1a_7x7", "initializer": normal(1.0)}
        x = separable(x, 64, 7, 2, multiplier=8, biased=True, **first)
        x = chain(
            tf.nn.relu(x),
            max_pool("MaxPool_2a_3x3", 2),
            conv("Conv2d_2b_1x1", 64, initializer=normal(0.1)),
            conv("Conv2d_2c_3x3", 192),
            max_pool("MaxPool_3a_3x3", 2),
            _module("Mixed_3b"),
            _module("Mixed_3c"),
            _halve("Mixed_4a", (128, 160), (64, 96)),
            _module("Mixed_4b"),
            _module("Mixed_4c"),
            _module("Mixed_4d"),
            _module("Mixed_4e"),
            _halve("Mixed_5a", (128, 192), (192, 256)),
            _module("Mixed_5b"),
            _module("Mixed_5c", pool=lambda: max_pool("MaxPool_0a_3x3")),
        )
        with tf.variable_scope("Logits"):
            logits = classify(x, classes, pool="AvgPool_1a_7x7", name="Conv2d_1c_1x1")
        predictions(logits, scope="Predictions")
        return logits


def _module(name: str, pool: Callable[[], Layer] = lambda: avg_pool("AvgPool_0a_3x3")) -> Layer:
    """Return a module whose 5 x 5 kernels are two layers of 3 x 3."""
    single, reduced, triple, narrowed, double, pooled = DEPTHS[name]
    return module(
        name,
        [conv("Conv2d_0a_1x1", single)],
        [reduce(reduced), conv("Conv2d_0b_3x3", triple)],
        [reduce(narrowed), conv("Conv2d_0b_3x3", double), conv("Conv2d_0c_3x3", double)],
        [pool(), conv("Conv2d_0b_1x1", pooled, initializer=normal(0.1))],
    )


def _halve(name: str, triple: tuple[int, int], double: tuple[int, int]) -> Layer:
    """Return a module that halves the map; the depths are those of the reduction and of the kernels."""
    return module(
        name,
        [reduce(triple[0]), conv("Conv2d_1a_3x3", triple[1], 2)],
        [reduce(double[0]), conv("Conv2d_0b_3x3", double[1]), conv("Conv2d_1a_3x3", double[1], 2)],
        [max_pool("MaxPool_1a_3x3", 2)],
    )
