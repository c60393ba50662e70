"""Inception v4 (Szegedy et al. 2016, arXiv:1602.07261)."""

from __future__ import annotations

import functools
from typing import Any

from tools.tf1 import layers
from tools.tf1.networks import inception
from tools.tf1.networks.inception import Layer, avg_pool, chain, halving_pool, module, split
from tools.tf1.runtime import tf

conv = functools.partial(inception.conv, initializer=layers.he_normal())
valid = functools.partial(conv, padding="VALID")
halve = functools.partial(conv, stride=2, padding="VALID")


def inception_v4(x: Any, classes: int) -> Any:
    """Build Inception v4 (figure 9) with its auxiliary head."""
    with tf.variable_scope("InceptionV4"):
        x = chain(
            x,
            halve("Conv2d_1a_3x3", 32),
            valid("Conv2d_2a_3x3", 32),
            conv("Conv2d_2b_3x3", 64),
            *_stem(),
            *(_inception_a(f"Mixed_5{letter}") for letter in "bcde"),
            _reduction_a("Mixed_6a"),
            *(_inception_b(f"Mixed_6{letter}") for letter in "bcdefgh"),
        )
        head = {"pool": "AvgPool_1a_5x5", "last": "Conv2d_2a", "matrix": "Aux_logits"}
        inception.auxiliary_head(x, classes, conv, **head)
        x = chain(
            x,
            _reduction_b("Mixed_7a"),
            *(_inception_c(f"Mixed_7{letter}") for letter in "bcd"),
        )
        return inception.classify_by_matrix(x, classes, pool="AvgPool_1a")


def _stem() -> list[Layer]:
    """Return the three modules of figure 3."""
    seventh = [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_1x7", 64), conv("Conv2d_0c_7x1", 64)]
    return [
        module("Mixed_3a", [halving_pool("MaxPool_0a_3x3")], [halve("Conv2d_0a_3x3", 96)]),
        module(
            "Mixed_4a",
            [conv("Conv2d_0a_1x1", 64), valid("Conv2d_1a_3x3", 96)],
            [*seventh, valid("Conv2d_1a_3x3", 96)],
        ),
        module("Mixed_5a", [halve("Conv2d_1a_3x3", 192)], [halving_pool("MaxPool_1a_3x3")]),
    ]


def _inception_a(name: str) -> Layer:
    """Return a module for maps of 35 (figure 4)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 96)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96), conv("Conv2d_0c_3x3", 96)],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 96)],
    )


def _inception_b(name: str) -> Layer:
    """Return a module for maps of 17 (figure 5)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 384)],
        [conv("Conv2d_0a_1x1", 192), conv("Conv2d_0b_1x7", 224), conv("Conv2d_0c_7x1", 256)],
        [
            conv("Conv2d_0a_1x1", 192),
            conv("Conv2d_0b_7x1", 192),
            conv("Conv2d_0c_1x7", 224),
            conv("Conv2d_0d_7x1", 224),
            conv("Conv2d_0e_1x7", 256),
        ],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 128)],
    )


def _inception_c(name: str) -> Layer:
    """Return a module for maps of 8 (figure 6)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 256)],
        [conv("Conv2d_0a_1x1", 384), split(conv("Conv2d_0b_1x3", 256), conv("Conv2d_0c_3x1", 256))],
        [
            conv("Conv2d_0a_1x1", 384),
            conv("Conv2d_0b_3x1", 448),
            conv("Conv2d_0c_1x3", 512),
            split(conv("Conv2d_0d_1x3", 256), conv("Conv2d_0e_3x1", 256)),
        ],
        [avg_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 256)],
    )


def _reduction_a(name: str) -> Layer:
    """Return the module from maps of 35 to 17 (figure 7)."""
    return module(
        name,
        [halve("Conv2d_1a_3x3", 384)],
        [conv("Conv2d_0a_1x1", 192), conv("Conv2d_0b_3x3", 224), halve("Conv2d_1a_3x3", 256)],
        [halving_pool("MaxPool_1a_3x3")],
    )


def _reduction_b(name: str) -> Layer:
    """Return the module from maps of 17 to 8 (figure 8)."""
    return module(
        name,
        [conv("Conv2d_0a_1x1", 192), halve("Conv2d_1a_3x3", 192)],
        [
            conv("Conv2d_0a_1x1", 256),
            conv("Conv2d_0b_1x7", 256),
            conv("Conv2d_0c_7x1", 320),
            halve("Conv2d_1a_3x3", 320),
        ],
        [halving_pool("MaxPool_1a_3x3")],
    )
