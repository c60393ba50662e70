"""Inception-ResNet v2 (Szegedy et al. 2016, arXiv:1602.07261)."""

from __future__ import annotations

import functools
from typing import Any

from tools.tf1 import layers
from tools.tf1.networks import inception
from tools.tf1.networks.inception import Layer, avg_pool, branches, chain, conv, halving_pool, module
from tools.tf1.runtime import tf

valid = functools.partial(conv, padding="VALID")
halve = functools.partial(conv, stride=2, padding="VALID")


def inception_resnet_v2(x: Any, classes: int) -> Any:
    """Build Inception-ResNet v2 (figure 15), with Inception v3's stem, and its auxiliary head."""
    with tf.variable_scope("InceptionResnetV2"):
        x = chain(
            x,
            halve("Conv2d_1a_3x3", 32),
            valid("Conv2d_2a_3x3", 32),
            conv("Conv2d_2b_3x3", 64),
            halving_pool("MaxPool_3a_3x3"),
            valid("Conv2d_3b_1x1", 80),
            valid("Conv2d_4a_3x3", 192),
            halving_pool("MaxPool_5a_3x3"),
            _before_residuals("Mixed_5b"),
            *(_block35(f"Repeat/block35_{index}") for index in range(1, 11)),
            _reduction_a("Mixed_6a"),
            *(_block17(f"Repeat_1/block17_{index}") for index in range(1, 21)),
        )
        head = {"pool": "Conv2d_1a_3x3", "last": "Conv2d_2a_5x5", "matrix": "Logits"}
        inception.auxiliary_head(x, classes, conv, **head)
        x = chain(
            x,
            _reduction_b("Mixed_7a"),
            *(_block8(f"Repeat_2/block8_{index}") for index in range(1, 10)),
            _block8("Block8", scale=1.0, activate=False),
            conv("Conv2d_7b_1x1", 1536),
        )
        return inception.classify_by_matrix(x, classes, pool="AvgPool_1a_8x8")


def _before_residuals(name: str) -> Layer:
    """Return the one module without a residual."""
    return module(
        name,
        [conv("Conv2d_1x1", 96)],
        [conv("Conv2d_0a_1x1", 48), conv("Conv2d_0b_5x5", 64)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96), conv("Conv2d_0c_3x3", 96)],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 64)],
    )


def _block35(name: str) -> Layer:
    """Return a residual module for maps of 35 (figure 16)."""
    body = branches(
        [conv("Conv2d_1x1", 32)],
        [conv("Conv2d_0a_1x1", 32), conv("Conv2d_0b_3x3", 32)],
        [conv("Conv2d_0a_1x1", 32), conv("Conv2d_0b_3x3", 48), conv("Conv2d_0c_3x3", 64)],
    )
    return _residual(name, body, scale=0.17)


def _block17(name: str) -> Layer:
    """Return a residual module for maps of 17 (figure 17)."""
    body = branches(
        [conv("Conv2d_1x1", 192)],
        [conv("Conv2d_0a_1x1", 128), conv("Conv2d_0b_1x7", 160), conv("Conv2d_0c_7x1", 192)],
    )
    return _residual(name, body, scale=0.1)


def _block8(name: str, scale: float = 0.2, *, activate: bool = True) -> Layer:
    """Return a residual module for maps of 8 (figure 19)."""
    body = branches(
        [conv("Conv2d_1x1", 192)],
        [conv("Conv2d_0a_1x1", 192), conv("Conv2d_0b_1x3", 224), conv("Conv2d_0c_3x1", 256)],
    )
    return _residual(name, body, scale=scale, activate=activate)


def _residual(name: str, body: Layer, *, scale: float, activate: bool = True) -> Layer:
    """Return a layer that adds to a map what `body` makes of it, scaled down (section 3.3)."""

    def build(x: Any) -> Any:
        with tf.variable_scope(name):
            y = layers.conv(body(x), x.shape[3], 1, activation=None, scope="Conv2d_1x1")
            x = layers.add(x, tf.multiply(y, scale, name="mul"), scope="add")
            return tf.nn.relu(x) if activate else x

    return build


def _reduction_a(name: str) -> Layer:
    """Return the module from maps of 35 to 17 (figure 7, with the depths of table 1)."""
    return module(
        name,
        [halve("Conv2d_1a_3x3", 384)],
        [conv("Conv2d_0a_1x1", 256), conv("Conv2d_0b_3x3", 256), halve("Conv2d_1a_3x3", 384)],
        [halving_pool("MaxPool_1a_3x3")],
    )


def _reduction_b(name: str) -> Layer:
    """Return the module from maps of 17 to 8 (figure 18)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 256), halve("Conv2d_1a_3x3", 384)],
        [conv("Conv2d_0a_1x1", 256), halve("Conv2d_1a_3x3", 288)],
        [conv("Conv2d_0a_1x1", 256), conv("Conv2d_0b_3x3", 288), halve("Conv2d_1a_3x3", 320)],
        [halving_pool("MaxPool_1a_3x3")],
    )
