"""Inception v1, also known as GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), with batch normalisation."""

from __future__ import annotations

import functools
from typing import Any

from tools.tf1 import layers
from tools.tf1.networks import inception
from tools.tf1.networks.inception import chain, max_pool, module
from tools.tf1.runtime import tf

# Of each module: table 1 of the paper, columns #1x1 to pool proj.
DEPTHS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
POOLS = {"Mixed_4b": "MaxPool_4a_3x3", "Mixed_5b": "MaxPool_5a_2x2"}  # in front of these modules

conv = functools.partial(inception.conv, initializer=layers.normal(0.01))


def inception_v1(x: Any, classes: int) -> Any:
    """Build Inception v1 without its two auxiliary heads, as published."""
    with tf.variable_scope("InceptionV1"):
        x = chain(
            x,
            conv("Conv2d_1a_7x7", 64, 2),
            max_pool("MaxPool_2a_3x3", 2),
            conv("Conv2d_2b_1x1", 64),
            conv("Conv2d_2c_3x3", 192),
            max_pool("MaxPool_3a_3x3", 2),
        )
        for name, depths in DEPTHS.items():
            if name in POOLS:
                x = max_pool(POOLS[name], 2)(x)
            x = _module(name, *depths)(x)
        with tf.variable_scope("Logits"):
            logits = inception.classify(x, classes, pool="MaxPool_0a_7x7", name="Conv2d_0c_1x1")
            layers.predictions(logits, scope="Predictions")
        return logits


def _module(
    name: str, single: int, reduced: int, triple: int, narrowed: int, quintuple: int, pooled: int
) -> inception.Layer:
    """Return the module of figure 2b; its 5 x 5 kernels have always been 3 x 3 in TensorFlow."""
    last = "Conv2d_0a_3x3" if name == "Mixed_5b" else "Conv2d_0b_3x3"  # a slip that checkpoints keep
    return module(
        name,
        [conv("Conv2d_0a_1x1", single)],
        [conv("Conv2d_0a_1x1", reduced), conv("Conv2d_0b_3x3", triple)],
        [conv("Conv2d_0a_1x1", narrowed), conv(last, quintuple)],
        [max_pool("MaxPool_0a_3x3"), conv("Conv2d_0b_1x1", pooled)],
    )
