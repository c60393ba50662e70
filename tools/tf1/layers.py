"""Layers over TensorFlow's graph mode, with the variable names and shapes that TF-Slim gives them.

All tensors are NHWC. Names matter: a checkpoint of TF-Slim restores into these graphs. Operations are the
oldest of their kind (`FusedBatchNorm`, `Add`), which every converter since TensorFlow 1.8 reads. Variables
carry the initialisers of their TF-Slim definitions, so that a TensorFlow 1 program can initialise or train
the exported graph, and so that TensorFlow's count of its operations is the published one (see counts.py).
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from tools.tf1.runtime import tf

Activation = Optional[Callable[..., Any]]

EPSILON = 0.001  # of batch normalisation: TF-Slim's default, and what its MobileNets were trained with


def normal(stddev: float) -> Any:
    """Return TensorFlow's truncated normal initialiser."""
    return tf.truncated_normal_initializer(stddev=stddev)


def conv(
    x: Any,
    depth: int,
    kernel: int,
    stride: int = 1,
    *,
    scope: str,
    padding: str = "SAME",
    activation: Activation = tf.nn.relu,
    initializer: Any = None,
    normalise: bool = False,
) -> Any:
    """Convolve with a square kernel; then a bias, or batch normalisation; then the activation.

    `initializer` is Glorot's uniform one (TF-Slim's default) unless given.
    """
    with tf.variable_scope(scope):
        shape = [kernel, kernel, x.shape[3], depth]
        weights = variable("weights", shape, initializer or tf.glorot_uniform_initializer())
        x = tf.nn.conv2d(x, weights, strides=[1, stride, stride, 1], padding=padding, name="Conv2D")
        x = _batch_norm(x) if normalise else _bias(x)
        return activation(x) if activation else x


def depthwise(
    x: Any, kernel: int, stride: int, *, scope: str, activation: Activation, initializer: Any
) -> Any:
    """Convolve every channel with its own square kernel; then batch normalisation and the activation."""
    with tf.variable_scope(scope):
        weights = variable("depthwise_weights", [kernel, kernel, x.shape[3], 1], initializer)
        strides = [1, stride, stride, 1]
        x = tf.nn.depthwise_conv2d_native(x, weights, strides=strides, padding="SAME", name="depthwise")
        x = _batch_norm(x)
        return activation(x) if activation else x


def max_pool(x: Any, kernel: int, stride: int = 2, *, scope: str) -> Any:
    """Take the maximum in square windows, without padding."""
    return tf.nn.max_pool2d(x, kernel, stride, padding="VALID", name=scope)


def global_avg_pool(x: Any, *, scope: str) -> Any:
    """Average over the whole map; an AvgPool, because a Mean is not one to every converter."""
    return tf.nn.avg_pool2d(x, x.shape.as_list()[1:3], 1, padding="VALID", name=scope)


def squeeze(x: Any, *, scope: str) -> Any:
    """Drop height and width of a [1, 1, 1, classes] map, which gives the logits [1, classes]."""
    return tf.squeeze(x, [1, 2], name=scope)


def add(x: Any, y: Any, *, scope: str) -> Any:
    """Add two maps; not `AddV2`, which TensorFlow before 1.15 does not know."""
    return tf.raw_ops.Add(x=x, y=y, name=scope)


def variable(name: str, shape: list[int], initializer: Any, *, trainable: bool = True) -> Any:
    """Return a float32 variable of the scope: a `VariableV2`, the kind that TensorFlow 1 tools freeze."""
    return tf.get_variable(name, shape, tf.float32, initializer, trainable=trainable, use_resource=False)


def _bias(x: Any) -> Any:
    biases = variable("biases", [x.shape[3]], tf.zeros_initializer())
    return tf.nn.bias_add(x, biases, name="BiasAdd")


def _batch_norm(x: Any) -> Any:
    """Normalise with the stored moments, as at inference (Ioffe and Szegedy 2015)."""
    depth = [x.shape[3]]
    with tf.variable_scope("BatchNorm"):
        gamma = variable("gamma", depth, tf.ones_initializer())
        beta = variable("beta", depth, tf.zeros_initializer())
        mean = variable("moving_mean", depth, tf.zeros_initializer(), trainable=False)
        variance = variable("moving_variance", depth, tf.ones_initializer(), trainable=False)
        normalised = tf.raw_ops.FusedBatchNorm(
            x=x,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=EPSILON,
            is_training=False,
            name="FusedBatchNorm",
        )
    return normalised.y
