"""The networks, each a function from an image batch to logits, by the names of TF-Slim's definitions.

Sources: SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360), AlexNet v2 (Krizhevsky 2014,
arXiv:1404.5997), MobileNet v1 (Howard et al. 2017, arXiv:1704.04861), MobileNet v2 (Sandler et al. 2018,
arXiv:1801.04381). Where a paper leaves a choice (padding, a pool's window) it is the one that gives the
operation counts of tests/networks.json.
"""

from __future__ import annotations

import difflib
import functools
from typing import Any, Callable

from tools.stage import InvalidRequest
from tools.tf1.layers import add, conv, depthwise, global_avg_pool, max_pool, normal, squeeze
from tools.tf1.runtime import tf

INPUT = "input"
OUTPUT = "output"

Builder = Callable[..., Any]


@functools.lru_cache(maxsize=4)  # generate-weights and export of one model share a process
def inference_graph(
    network: str, depth_multiplier: float, image_size: int, channels: int, classes: int
) -> Any:
    """Return the inference graph: `input` [1, H, W, C] in, softmax `output` [1, classes] out.

    The batch is one because that is what is measured, and because device compilers want fixed shapes. Every
    graph ends in `output`, whatever the network calls its own end points: one name for every converter.

    Raises:
        InvalidRequest: no such network, or it cannot be built with these parameters.
    """
    build = _builder(network)
    if depth_multiplier <= 0 or min(image_size, channels, classes) < 1:
        message = f"{network}: depth_multiplier, image_size, channels and classes have to be positive"
        raise InvalidRequest(message, hint="Correct the model's row in tools/models.toml.")
    if depth_multiplier != 1.0 and build not in SCALABLE:
        message = f"{network} has no depth multiplier, and {depth_multiplier} was asked for"
        raise InvalidRequest(message, hint="Use 1.0.")
    with tf.Graph().as_default() as graph:
        image = tf.placeholder(tf.float32, [1, image_size, image_size, channels], name=INPUT)
        try:
            logits = build(image, classes, depth_multiplier) if build in SCALABLE else build(image, classes)
        except ValueError as error:  # TensorFlow's shape inference: a window larger than the map
            message = f"{network} cannot take images of {image_size} x {image_size}: {error}"
            raise InvalidRequest(message, hint="Use the network's own image size, mostly 224.") from None
        tf.nn.softmax(logits, name=OUTPUT)
    return graph


def _builder(network: str) -> Builder:
    if network in NETWORKS:
        return NETWORKS[network]
    nearest = difflib.get_close_matches(network, NETWORKS, n=1, cutoff=0)
    message = f"there is no network {network!r}"
    raise InvalidRequest(message, hint=f"Did you mean {nearest[0]}? There are {', '.join(NETWORKS)}.")


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
    """Pool, classify; and TF-Slim's own end point `Predictions`, for those who look for it by name."""
    with tf.variable_scope("Logits"):
        x = global_avg_pool(x, scope="AvgPool_1a")
        x = conv(x, classes, 1, activation=None, scope="Conv2d_1c_1x1", initializer=normal(0.09))
        logits = squeeze(x, scope="SpatialSqueeze")
    with tf.name_scope("Predictions"):
        tf.reshape(tf.nn.softmax(logits, name="Softmax"), [1, classes], name="Reshape_1")
    return logits


NETWORKS: dict[str, Builder] = {
    "squeezenet": squeezenet,
    "alexnet_v2": alexnet_v2,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}
SCALABLE = (mobilenet_v1, mobilenet_v2)
