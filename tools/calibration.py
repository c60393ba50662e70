"""Representative inputs: what a network is run on to find the ranges of its activations before quantising."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import arrays

if TYPE_CHECKING:
    import numpy as np


def read(path: Path, input_shapes: Mapping[str, tuple[Any, ...]]) -> list[dict[str, np.ndarray]]:
    """Return the inputs of a calibration file one by one, by the network's names and in its layouts.

    Raises:
        InvalidRequest: it holds none, or those of another network.
    """
    inputs = arrays.read_inputs(path, hint="Make it again with tf1.calibration.")
    count = len(next(iter(inputs.values())))
    return [arrays.fit(inputs, input_shapes, index, "calibration") for index in range(count)]
