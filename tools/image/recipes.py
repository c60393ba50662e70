"""From pixels to a network's input, as the networks of TF-Slim were trained and evaluated.

Pixels are [H, W, C] float32, 0 to 255; what comes out is [size, size, C] float32. The constants are those of
TF-Slim's evaluation (github.com/tensorflow/models, research/slim/preprocessing: inception_preprocessing.py,
vgg_preprocessing.py, lenet_preprocessing.py, cifarnet_preprocessing.py).
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np

from tools.stage import InvalidRequest

CENTRAL_FRACTION = 0.875  # inception_preprocessing.preprocess_for_eval
RESIZE_SIDE, VGG_SIZE = 256, 224  # vgg_preprocessing._RESIZE_SIDE_MIN, for images of 224
MEAN_RGB = (123.68, 116.779, 103.939)  # vgg_preprocessing: ImageNet's, as in Simonyan and Zisserman 2014

Prepare = Callable[[Any], Any]


def find(name: str, size: int, channels: int) -> Prepare:
    """Return the function that prepares pixels for a network of this size.

    Raises:
        InvalidRequest: there is none of that name, or it is not for that number of channels.
    """
    if name not in PREPROCESSING:
        message = f"there is no preprocessing {name!r}"
        raise InvalidRequest(message, hint=f"There are: {', '.join(PREPROCESSING)}.")
    if channels not in (1, 3) or (name == "vgg" and channels != 3):
        message = f"the preprocessing {name!r} is not for {channels} channels"
        raise InvalidRequest(message, hint="Pictures have 3 channels or 1; vgg subtracts the mean of 3.")
    prepare = functools.partial(PREPROCESSING[name], size=size)
    return lambda pixels: prepare(pixels).astype(np.float32)


def inception(pixels: Any, size: int) -> Any:
    """The central 87.5 % of each side, stretched to a square, in [-1, 1]."""
    start_y, start_x = (int((length - length * CENTRAL_FRACTION) / 2) for length in pixels.shape[:2])
    central = pixels[start_y : len(pixels) - start_y, start_x : pixels.shape[1] - start_x]
    return _resize(central, size, size) / 127.5 - 1


def vgg(pixels: Any, size: int) -> Any:
    """The middle, after the smaller side was made 256 (for 224; in proportion for other sizes); no mean."""
    return _middle(pixels, size, side=round(RESIZE_SIDE * size / VGG_SIZE)) - np.float32(MEAN_RGB)


def lenet(pixels: Any, size: int) -> Any:
    """The middle, less 128, divided by 128; TF-Slim cuts or pads, the same for a picture of MNIST."""
    return (_middle(pixels, size, side=size) - 128) / 128


def cifarnet(pixels: Any, size: int) -> Any:
    """The middle, less its own mean, divided by its own deviation (tf.image.per_image_standardization)."""
    middle = _middle(pixels, size, side=size)
    return (middle - middle.mean()) / max(middle.std(), middle.size**-0.5)


PREPROCESSING: dict[str, Callable[..., Any]] = {
    "inception": inception,
    "vgg": vgg,
    "lenet": lenet,
    "cifarnet": cifarnet,
}


def _middle(pixels: Any, size: int, side: int) -> Any:
    """Scale so that the smaller side is `side`, then cut out the middle square."""
    scale = side / min(pixels.shape[:2])
    scaled = _resize(pixels, *(max(side, round(length * scale)) for length in pixels.shape[:2]))
    top, left = ((length - size) // 2 for length in scaled.shape[:2])
    return scaled[top : top + size, left : left + size]


def _resize(pixels: Any, height: int, width: int) -> Any:
    """Interpolate as TensorFlow's resize_bilinear does with align_corners=False.

    It takes pixel i from position i * (old / new), not from pixel centres as Pillow and later TensorFlow do;
    the published checkpoints have seen their pictures that way.
    """
    return _interpolate(_interpolate(pixels, 0, height), 1, width)


def _interpolate(pixels: Any, axis: int, length: int) -> Any:
    position = np.arange(length) * (pixels.shape[axis] / length)
    low = position.astype(int)
    high = np.minimum(low + 1, pixels.shape[axis] - 1)
    weight = (position - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    first = pixels.take(low, axis)
    return first + (pixels.take(high, axis) - first) * weight
