"""Inception v3 (Szegedy et al. 2015, arXiv:1512.00567)."""

from __future__ import annotations

import functools
from typing import Any

from tools.tf1 import layers
from tools.tf1.layers import normal
from tools.tf1.networks import inception
from tools.tf1.networks.inception import Layer, avg_pool, chain, classify, halving_pool, module, split
from tools.tf1.runtime import tf

conv = functools.partial(inception.conv, initializer=layers.he_normal())
valid = functools.partial(conv, padding="VALID")
halve = functools.partial(conv, stride=2, padding="VALID")


def inception_v3(x: Any, classes: int) -> Any:
    """Build Inception v3 with its auxiliary head; images of 299 are its own, smaller ones do.

    The window of the auxiliary head's second kernel is the map's: 5 x 5 for images of 299, 3 x 3 for 224.
    Its variable has the size in its name, as in TF-Slim. The inference part does not have it.
    """
    with tf.variable_scope("InceptionV3"):
        x = chain(
            x,
            halve("Conv2d_1a_3x3", 32),
            valid("Conv2d_2a_3x3", 32),
            conv("Conv2d_2b_3x3", 64),
            halving_pool("MaxPool_3a_3x3"),
            valid("Conv2d_3b_1x1", 80),
            valid("Conv2d_4a_3x3", 192),
            halving_pool("MaxPool_5a_3x3"),
            _square("Mixed_5b", 32),
            _square("Mixed_5c", 64, "Conv2d_0b_1x1", "Conv_1_0c_5x5"),
            _square("Mixed_5d", 64),
            _first_halving("Mixed_6a"),
            _factorised("Mixed_6b", 128),
            _factorised("Mixed_6c", 160),
            _factorised("Mixed_6d", 160),
            _factorised("Mixed_6e", 192),
        )
        _auxiliary_head(x, classes)
        x = chain(
            x,
            _second_halving("Mixed_7a"),
            _widened("Mixed_7b", "Conv2d_0b_3x1"),
            _widened("Mixed_7c", "Conv2d_0c_3x1"),
        )
        with tf.variable_scope("Logits"):
            logits = classify(x, classes, pool="AvgPool_1a_8x8", name="Conv2d_1c_1x1")
        layers.predictions(logits, scope="Predictions")
        return logits


def _square(name: str, pooled: int, narrow: str = "Conv2d_0a_1x1", wide: str = "Conv2d_0b_5x5") -> Layer:
    """Return a module of square kernels (figure 5); `narrow` and `wide` are irregular in one of them."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 64)],
        [conv(narrow, 48), conv(wide, 64)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96), conv("Conv2d_0c_3x3", 96)],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", pooled)],
    )


def _first_halving(name: str) -> Layer:
    """Return the module from maps of 35 to 17 (figure 10); its `1a_1x1` are kernels of 3 x 3."""
    return module(
        name,
        [halve("Conv2d_1a_1x1", 384, kernel=3)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96), halve("Conv2d_1a_1x1", 96, kernel=3)],
        [halving_pool("MaxPool_1a_3x3")],
    )


def _factorised(name: str, depth: int) -> Layer:
    """Return a module whose 7 x 7 kernels are a row and a column (figure 6)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 192)],
        [conv("Conv2d_0a_1x1", depth), conv("Conv2d_0b_1x7", depth), conv("Conv2d_0c_7x1", 192)],
        [
            conv("Conv2d_0a_1x1", depth),
            conv("Conv2d_0b_7x1", depth),
            conv("Conv2d_0c_1x7", depth),
            conv("Conv2d_0d_7x1", depth),
            conv("Conv2d_0e_1x7", 192),
        ],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 192)],
    )


def _second_halving(name: str) -> Layer:
    """Return the module from maps of 17 to 8."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 192), halve("Conv2d_1a_3x3", 320)],
        [
            conv("Conv2d_0a_1x1", 192),
            conv("Conv2d_0b_1x7", 192),
            conv("Conv2d_0c_7x1", 192),
            halve("Conv2d_1a_3x3", 192),
        ],
        [halving_pool("MaxPool_1a_3x3")],
    )


def _widened(name: str, column: str) -> Layer:
    """Return a module whose branches end in a row and a column side by side (figure 7)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 320)],
        [conv("Conv2d_0a_1x1", 384), split(conv("Conv2d_0b_1x3", 384), conv(column, 384))],
        [
            conv("Conv2d_0a_1x1", 448),
            conv("Conv2d_0b_3x3", 384),
            split(conv("Conv2d_0c_1x3", 384), conv("Conv2d_0d_3x1", 384)),
        ],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 192)],
    )


def _auxiliary_head(x: Any, classes: int) -> None:
    """Add the classifier that is of use in training only (section 4)."""
    with tf.variable_scope("AuxLogits"):
        x = layers.avg_pool(x, 5, 3, padding="VALID", scope="AvgPool_1a_5x5")
        x = conv("Conv2d_1b_1x1", 128)(x)
        height, width = x.shape.as_list()[1:3]
        x = valid(f"Conv2d_2a_{height}x{width}", 768, initializer=normal(0.01))(x)
        x = layers.conv(x, classes, 1, activation=None, scope="Conv2d_2b_1x1", initializer=normal(0.001))
        layers.squeeze(x, scope="SpatialSqueeze")
