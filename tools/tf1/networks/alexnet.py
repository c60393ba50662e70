"""AlexNet v2 (Krizhevsky 2014, arXiv:1404.5997)."""

from __future__ import annotations

from typing import Any

from tools.tf1.layers import conv, max_pool, normal, squeeze
from tools.tf1.runtime import tf


def alexnet_v2(x: Any, classes: int) -> Any:
    """Build AlexNet v2 with its fully connected layers as convolutions; `fc6` fits images of 224."""
    with tf.variable_scope("alexnet_v2"):
        x = conv(x, 64, 11, 4, padding="VALID", scope="conv1")
        x = max_pool(x, 3, scope="pool1")
        x = conv(x, 192, 5, scope="conv2")
        x = max_pool(x, 3, scope="pool2")
        x = conv(x, 384, 3, scope="conv3")
        x = conv(x, 384, 3, scope="conv4")
        x = conv(x, 256, 3, scope="conv5")
        x = max_pool(x, 3, scope="pool5")
        x = conv(x, 4096, 5, padding="VALID", scope="fc6", initializer=normal(0.005))
        x = conv(x, 4096, 1, scope="fc7", initializer=normal(0.005))
        x = conv(x, classes, 1, activation=None, scope="fc8", initializer=normal(0.005))
        return squeeze(x, scope="fc8/squeezed")
