"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360)."""

from __future__ import annotations

from typing import Any

from tools.tf1.layers import conv, global_avg_pool, max_pool, normal, squeeze
from tools.tf1.runtime import tf


def squeezenet(x: Any, classes: int) -> Any:
    """Build SqueezeNet 1.0; its second pool has a 2 x 2 window."""
    with tf.variable_scope("SqueezeNet"):
        x = conv(x, 96, 7, 2, scope="conv1")
        x = max_pool(x, 3, scope="maxpool1")
        x = _fire(x, 16, 64, scope="fire2")
        x = _fire(x, 16, 64, scope="fire3")
        x = _fire(x, 32, 128, scope="fire4")
        x = max_pool(x, 2, scope="maxpool4")
        x = _fire(x, 32, 128, scope="fire5")
        x = _fire(x, 48, 192, scope="fire6")
        x = _fire(x, 48, 192, scope="fire7")
        x = _fire(x, 64, 256, scope="fire8")
        x = max_pool(x, 3, scope="maxpool8")
        x = _fire(x, 64, 256, scope="fire9")
        x = conv(x, classes, 1, scope="conv10", initializer=normal(0.01))
        x = global_avg_pool(x, scope="avgpool10")
        return squeeze(x, scope="logits")


def _fire(x: Any, squeezed: int, expanded: int, *, scope: str) -> Any:
    """Squeeze the channels, then expand them by 1 x 1 and 3 x 3 kernels side by side."""
    with tf.variable_scope(scope):
        x = conv(x, squeezed, 1, scope="squeeze")
        with tf.variable_scope("expand"):
            return tf.concat([conv(x, expanded, 1, scope="1x1"), conv(x, expanded, 3, scope="3x3")], 3)
