"""What TensorFlow Lite's interpreter knows of a network, for the tools that run such networks."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.stage import InvalidRequest, first_line

if TYPE_CHECKING:
    import numpy as np

RETYPING = ("QUANTIZE", "DEQUANTIZE", "CAST", "DELEGATE")  # DELEGATE stands for others, which are listed too


def quantised(values: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Return values as a tensor holds them: integers of its scale and zero point, or of its type.

    A scale of 0 is none: such integers (token ids) stand for themselves.
    """
    import numpy as np

    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(tensor["dtype"], copy=False)
    span = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero_point, span.min, span.max).astype(tensor["dtype"])


def dequantised(held: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Return the values that a tensor's integers stand for; those of a floating-point tensor as they are."""
    import numpy as np

    scale, zero_point = tensor["quantization"]
    return (held.astype(np.float32) - zero_point) * np.float32(scale) if scale else held


def operations(interpreter: Any) -> dict[str, int]:
    """Count the operators of an `Interpreter` by the type of their first input.

    An operator of float32 whose weights are int8 ("float32 by int8") quantises its input while it runs.
    """
    types = {about["index"]: about["dtype"].__name__ for about in interpreter.get_tensor_details()}
    found: collections.Counter[str] = collections.Counter()
    for operator in interpreter._get_ops_details():
        if operator["op_name"] not in RETYPING:
            first, second = (*(types.get(index) for index in operator["inputs"][:2]), None, None)[:2]
            found[f"{first} by {second}" if (first, second) == ("float32", "int8") else str(first)] += 1
    return dict(found)


def not_loaded(path: Path, error: ValueError) -> InvalidRequest:
    """Return the error for a file that is no network."""
    message = f"{path.name} is not a TensorFlow Lite network: {first_line(error)}"
    return InvalidRequest(message, hint="Convert it again: with tf1.to-tflite, or as you made it.")
