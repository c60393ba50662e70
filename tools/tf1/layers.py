"""Layers over TensorFlow's graph mode, with the variable names and shapes that TF-Slim gives them.

All tensors are NHWC. Names matter: a checkpoint of TF-Slim restores into these graphs. Operations are the
oldest of their kind (`FusedBatchNorm`, `Add`), which every converter since TensorFlow 1.8 reads. Variables
carry the initialisers of their TF-Slim definitions, so that a TensorFlow 1 program can initialise or train
the exported graph, and so that TensorFlow's count of its operations is the published one (see counts.py).
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from tools.tf1.runtime import tf

Activation = Optional[Callable[..., Any]]

EPSILON = 0.001  # of batch normalisation: TF-Slim's default, and what its MobileNets were trained with


def normal(stddev: float) -> Any:
    """Return TensorFlow's truncated normal initialiser."""
    return tf.truncated_normal_initializer(stddev=stddev)


def he_normal() -> Any:
    """Return the initialiser for layers before ReLU (He et al. 2015, arXiv:1502.01852), as TF-Slim has it."""
    return tf.variance_scaling_initializer(scale=2.0)


def conv(
    x: Any,
    depth: int,
    kernel: Union[int, tuple[int, int]],
    stride: int = 1,
    *,
    scope: str,
    padding: str = "SAME",
    activation: Activation = tf.nn.relu,
    initializer: Any = None,
    normalise: bool = False,
    gamma: bool = True,
    epsilon: float = EPSILON,
    biased: bool = True,
) -> Any:
    """Convolve; then a bias, or batch normalisation (see `batch_norm`); then the activation.

    `kernel` is the side of a square, or height and width. `initializer` is Glorot's uniform one
    (TF-Slim's default) unless given.
    """
    with tf.variable_scope(scope):
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = [height, width, x.shape[3], depth]
        weights = variable("weights", shape, initializer or tf.glorot_uniform_initializer())
        x = tf.nn.conv2d(x, weights, strides=[1, stride, stride, 1], padding=padding, name="Conv2D")
        if normalise:
            x = batch_norm(x, gamma=gamma, epsilon=epsilon)
        elif biased:
            x = _bias(x)
        return activation(x) if activation else x


def depthwise(
    x: Any,
    kernel: int,
    stride: int,
    *,
    scope: str,
    padding: str = "SAME",
    activation: Activation,
    initializer: Any,
    normalise: bool = True,
) -> Any:
    """Convolve every channel with its own square kernel; then as `conv` does."""
    with tf.variable_scope(scope):
        shape = [kernel, kernel, x.shape[3], 1]
        weights = variable("depthwise_weights", shape, initializer or tf.glorot_uniform_initializer())
        strides = [1, stride, stride, 1]
        x = tf.nn.depthwise_conv2d_native(x, weights, strides=strides, padding=padding, name="depthwise")
        x = batch_norm(x) if normalise else _bias(x)
        return activation(x) if activation else x


def separable(
    x: Any,
    depth: int,
    kernel: int,
    stride: int,
    *,
    scope: str,
    initializer: Any,
    multiplier: int = 1,
    biased: bool = False,
) -> Any:
    """Convolve every channel with `multiplier` square kernels of its own, then across channels."""
    with tf.variable_scope(scope):
        shape = [kernel, kernel, x.shape[3], multiplier]
        depthwise_weights = variable("depthwise_weights", shape, initializer)
        pointwise_weights = variable("pointwise_weights", [1, 1, x.shape[3] * multiplier, depth], initializer)
        strides = [1, stride, stride, 1]
        x = tf.nn.depthwise_conv2d_native(x, depthwise_weights, strides, padding="SAME", name="depthwise")
        x = tf.nn.conv2d(x, pointwise_weights, strides=1, padding="SAME", name="pointwise")
        return _bias(x) if biased else x


def dense(x: Any, depth: int, *, scope: str, activation: Activation = None, initializer: Any = None) -> Any:
    """Multiply [1, n] with a matrix (Glorot's uniform initialiser unless given) and add a bias."""
    with tf.variable_scope(scope):
        weights = variable("weights", [x.shape[1], depth], initializer or tf.glorot_uniform_initializer())
        x = _bias(tf.matmul(x, weights, name="MatMul"))
        return activation(x) if activation else x


def max_pool(x: Any, kernel: int, stride: int = 2, *, scope: str, padding: str = "VALID") -> Any:
    """Take the maximum in square windows."""
    return tf.nn.max_pool2d(x, kernel, stride, padding=padding, name=scope)


def avg_pool(x: Any, kernel: int, stride: int = 1, *, scope: str, padding: str = "SAME") -> Any:
    """Average over square windows; at a border, over what of the window is inside."""
    return tf.nn.avg_pool2d(x, kernel, stride, padding=padding, name=scope)


def global_avg_pool(x: Any, *, scope: str) -> Any:
    """Average over the whole map; an AvgPool, because a Mean is not one to every converter."""
    return tf.nn.avg_pool2d(x, x.shape.as_list()[1:3], 1, padding="VALID", name=scope)


def squeeze(x: Any, *, scope: str) -> Any:
    """Drop height and width of a [1, 1, 1, classes] map, which gives the logits [1, classes]."""
    return tf.squeeze(x, [1, 2], name=scope)


def flatten(x: Any, *, scope: str) -> Any:
    """Make a vector [1, H * W * C] of a map."""
    return tf.reshape(x, [1, x.shape[1:].num_elements()], name=scope)


def lrn(x: Any, radius: int, bias: float, alpha: float, beta: float, *, scope: str) -> Any:
    """Divide by (bias + alpha * sum of squares over 2 * radius + 1 channels) ** beta (Krizhevsky 2012)."""
    return tf.nn.lrn(x, radius, bias=bias, alpha=alpha, beta=beta, name=scope)


def concat(*sources: Any, scope: str) -> Any:
    """Put the channels of several maps, or vectors, behind one another."""
    return tf.concat(sources, sources[0].shape.rank - 1, name=scope)


def add(x: Any, y: Any, *, scope: str) -> Any:
    """Add two maps; not `AddV2`, which TensorFlow before 1.15 does not know."""
    return tf.raw_ops.Add(x=x, y=y, name=scope)


def predictions(logits: Any, *, scope: str) -> None:
    """Add TF-Slim's own end point, `SCOPE/Reshape_1`, for those who look for it by name."""
    with tf.name_scope(scope):
        tf.reshape(tf.nn.softmax(logits, name="Softmax"), logits.shape, name="Reshape_1")


def batch_norm(x: Any, *, scope: str = "BatchNorm", gamma: bool = True, epsilon: float = EPSILON) -> Any:
    """Normalise with the stored moments, as at inference (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Without `gamma` nothing is scaled afterwards, which is enough before ReLU and another kernel; the
    operation then gets ones, and the checkpoint has no such variable.
    """
    depth = [x.shape[3]]
    with tf.variable_scope(scope):
        ones = tf.ones_initializer()
        scale = variable("gamma", depth, ones) if gamma else tf.constant(1.0, shape=depth, name="ones")
        beta = variable("beta", depth, tf.zeros_initializer())
        mean = variable("moving_mean", depth, tf.zeros_initializer(), trainable=False)
        variance = variable("moving_variance", depth, ones, trainable=False)
        normalised = tf.raw_ops.FusedBatchNorm(
            x=x,
            scale=scale,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=epsilon,
            is_training=False,
            name="FusedBatchNorm",
        )
    return normalised.y


def variable(name: str, shape: list[int], initializer: Any, *, trainable: bool = True) -> Any:
    """Return a float32 variable of the scope: a `VariableV2`, the kind that TensorFlow 1 tools freeze."""
    return tf.get_variable(name, shape, tf.float32, initializer, trainable=trainable, use_resource=False)


def _bias(x: Any) -> Any:
    biases = variable("biases", [x.shape[-1]], tf.zeros_initializer())
    return tf.nn.bias_add(x, biases, name="BiasAdd")
