"""MobileNet v1 (Howard et al. 2017, arXiv:1704.04861) and v2 (Sandler et al. 2018, arXiv:1801.04381)."""

from __future__ import annotations

from typing import Any

from tools.tf1.layers import add, conv, depthwise, global_avg_pool, normal, predictions, squeeze
from tools.tf1.runtime import tf

# (output channels, stride) of each depthwise-separable layer: table 1 of the paper.
MOBILENET_V1 = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
MOBILENET_V1 += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]


def mobilenet_v1(x: Any, classes: int, depth_multiplier: float) -> Any:
    """Build MobileNet v1; the multiplier scales every layer, down to 8 channels."""
    common = {"activation": tf.nn.relu6, "initializer": normal(0.09)}
    scaled = [(max(int(depth * depth_multiplier), 8), stride) for depth, stride in [(32, 2), *MOBILENET_V1]]
    with tf.variable_scope("MobilenetV1"):
        x = conv(x, scaled[0][0], 3, scaled[0][1], scope="Conv2d_0", normalise=True, **common)
        for index, (depth, stride) in enumerate(scaled[1:], start=1):
            x = depthwise(x, 3, stride, scope=f"Conv2d_{index}_depthwise", **common)
            x = conv(x, depth, 1, scope=f"Conv2d_{index}_pointwise", normalise=True, **common)
        return _mobilenet_logits(x, classes)


# (expansion, output channels, repeats, first stride) of the inverted residuals: table 2 of the paper.
MOBILENET_V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
MOBILENET_V2 += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def mobilenet_v2(x: Any, classes: int, depth_multiplier: float) -> Any:
    """Build MobileNet v2; a multiplier below 1 leaves the last 1280 channels as they are (section 6.1)."""
    common = {"activation": tf.nn.relu6, "normalise": True, "initializer": normal(0.09)}
    with tf.variable_scope("MobilenetV2"):
        x = conv(x, make_divisible(32 * depth_multiplier), 3, 2, scope="Conv", **common)
        scopes = (f"expanded_conv_{index}" if index else "expanded_conv" for index in range(17))
        for expansion, channels, repeats, first_stride in MOBILENET_V2:
            depth = make_divisible(channels * depth_multiplier)
            for stride in [first_stride] + [1] * (repeats - 1):
                x = _inverted_residual(x, expansion, depth, stride, scope=next(scopes))
        x = conv(x, make_divisible(1280 * max(depth_multiplier, 1.0)), 1, scope="Conv_1", **common)
        return _mobilenet_logits(x, classes)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, but not below 90 % of `channels`: the MobileNet v2 authors' rule."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def _inverted_residual(x: Any, expansion: int, depth: int, stride: int, *, scope: str) -> Any:
    """Expand, filter each channel, project without activation; add the input where the shapes agree."""
    common = {"initializer": normal(0.09)}
    with tf.variable_scope(scope):
        y, channels = x, x.shape[3]
        if expansion > 1:
            wide = channels * expansion
            y = conv(y, wide, 1, scope="expand", normalise=True, activation=tf.nn.relu6, **common)
        y = depthwise(y, 3, stride, scope="depthwise", activation=tf.nn.relu6, **common)
        y = conv(y, depth, 1, scope="project", normalise=True, activation=None, **common)
        return add(y, x, scope="add") if stride == 1 and channels == depth else y


def _mobilenet_logits(x: Any, classes: int) -> Any:
    """Pool, classify."""
    with tf.variable_scope("Logits"):
        x = global_avg_pool(x, scope="AvgPool_1a")
        x = conv(x, classes, 1, activation=None, scope="Conv2d_1c_1x1", initializer=normal(0.09))
        logits = squeeze(x, scope="SpatialSqueeze")
    predictions(logits, scope="Predictions")
    return logits
