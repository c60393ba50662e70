"""Generated weights: a pure function of a seed, the variable's name and its shape.

They stand in for trained ones where only speed and faithful conversion matter. So that a conversion that
drops or mixes up any variable is noticed, no variable is neutral: biases and betas are not zero, gammas and
variances not one. So that the outputs still tell the inputs apart at depth, kernels keep the scale of the
activations (He et al. 2015, arXiv:1502.01852) and have weights that add up to zero over their inputs: ReLU's
positive mean, which would make all outputs of a deep random network alike, does not pass (Brock et al. 2021,
arXiv:2101.08692, section 4).

Two machines make the same bytes: numpy guarantees the raw stream of PCG64 for a seed (its distributions are
not guaranteed), and what follows is integer operations and single IEEE 754 operations on each value. Hence
uniform distributions: a normal one would need the logarithm of some C library.
"""

from __future__ import annotations

import functools
import hashlib
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

VECTORS: Mapping[str, tuple[float, float]] = {  # centre and half width of the uniform distribution
    "biases": (0.0, 0.1),
    "bias": (0.0, 0.1),
    "beta": (0.0, 0.1),
    "gamma": (1.0, 0.2),
    "moving_mean": (0.0, 0.1),
    "moving_variance": (1.0, 0.2),
}

HE_GAIN = 2.0  # variance of a kernel times its fan-in: ReLU halves the mean square of its input
CENTRED_GAIN = 2.0 / (1.0 - 1.0 / math.pi)  # the same, where the mean of ReLU's output does not pass
IMAGE_GAIN = 16.0  # an image in [-1, 1] has a small mean square; behind this layer it is about one

# Factors on the variance of what matches. Layers without ReLU behind them, and logits: scaled so that a
# softmax of 1001 classes has a clear winner but is not all on one class, and so that a sum of residual
# branches does not outgrow ReLU6, or double in each of 50 units. Measured.
#
# Inception: kernels that pass no mean part two inputs that differ little by 1 / (1 - 1 / pi) in the square
# with each layer, and with 70 layers that makes half a percent of a rounding in float32 (seen). Betas are
# the same for all inputs and hold them together; so some of the variance comes from these (Schoenholz et al.
# 2017, arXiv:1611.01232). ResNets need none of it.
GAINS: Mapping[str, float] = {
    r"/project/weights": 0.25,
    r"/conv10/weights": 4.0,
    r"/fc8/weights": 0.2,
    r"Inception\w+/.*/weights": 0.82,
    r"Inception\w+/.*/beta": 54.0,
    r"InceptionV[234]/Logits/.*/weights": 6.0,
    r"/bottleneck_v[12]/conv3/weights": 0.05,
    r"/output/bottleneck/dense/kernel": 0.01,
    r"/separable_.*/pointwise_weights": 0.25,  # no ReLU between depthwise and pointwise
    r"cell_.*(1x1|path[12]_conv)/weights": 0.56,  # what goes into the sums of a NASNet's cell
}


def generate(seed: int, name: str, shape: Sequence[int]) -> Any:
    """Return the float32 array of the variable `name`."""
    key = f"{seed}/{name}/{'x'.join(map(str, shape))}"
    kind = name.rpartition("/")[2]
    factor = _product(gain for pattern, gain in GAINS.items() if re.search(pattern, name))
    if kind in VECTORS:
        centre, half_width = VECTORS[kind]
        return uniform(key, shape, math.sqrt(factor) * half_width) + np.float32(centre)
    if kind == "depthwise_weights":
        return uniform(key, shape, _half_width(HE_GAIN / _product(shape[:2])))
    if kind.endswith("_embeddings"):
        return uniform(key, shape, _half_width(1.0))
    if kind == "kernel":  # behind a normalisation, and so without a mean to keep out
        return uniform(key, shape, _half_width(factor / shape[0]))
    fan_in = _product(shape[:-1])
    if len(shape) == 4 and shape[2] <= 4:  # reads an image
        return uniform(key, shape, _half_width(IMAGE_GAIN / fan_in))
    return _zero_sum(uniform(key, shape, _half_width(factor * CENTRED_GAIN / fan_in / 2)))


def uniform(key: str, shape: Sequence[int], half_width: float) -> Any:
    """Return float32 values in [-half_width, half_width), the same for the same key everywhere."""
    count = _product(shape)
    digest = hashlib.sha256(key.encode()).digest()
    stream = np.random.PCG64(int.from_bytes(digest, "little"))
    bits = stream.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
    bits >>= 9  # 23 bits, then the mantissa of a float in [1, 2): exact, in place, and fast
    bits |= 0x3F800000
    values = bits.view("<f4")
    values -= np.float32(1.5)
    values *= np.float32(2 * half_width)
    return values.reshape(shape)


def _zero_sum(values: Any) -> Any:
    """Take from each input channel's weights its neighbour's: the variance doubles, the sum vanishes."""
    result = np.empty_like(values)
    np.subtract(values[..., 1:, :], values[..., :-1, :], out=result[..., 1:, :])
    np.subtract(values[..., 0, :], values[..., -1, :], out=result[..., 0, :])
    return result


def _product(factors: Iterable[Any]) -> Any:
    """Do what math.prod does, which starts at Python 3.8."""
    return functools.reduce(operator.mul, factors, 1)


def _half_width(variance: float) -> float:
    """Of the uniform distribution around zero with this variance."""
    return math.sqrt(3 * variance)
