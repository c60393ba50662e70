"""ONNX files: reading one, with an error that helps, and what ONNX Runtime's quantisers take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.stage import InvalidRequest, first_line

if TYPE_CHECKING:
    import numpy as np


def read(path: Path) -> Any:
    """Return a checked graph.

    Raises:
        InvalidRequest: the file is corrupt, or cut off.
    """
    from google.protobuf.message import DecodeError
    from onnx import checker, load

    try:
        model = load(path)
        checker.check_model(model)
    except (DecodeError, checker.ValidationError) as error:
        raise not_onnx(path, error) from error
    return model


def not_onnx(path: Path, error: Exception) -> InvalidRequest:
    """Return the error of a file that is no network."""
    message = f"{path.name} is not an ONNX network, or it is cut off: {first_line(error)}"
    return InvalidRequest(message, hint="Convert it again: with tf1.to-onnx, or as you made it.")


def input_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of its inputs by name; an axis of no fixed length is 1."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: tuple(axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim)
        for value in model.graph.input
        if value.name not in constants
    }


def prepared(onnx: Path, folder: str) -> Path:
    """Return the graph with shapes inferred and batch norms folded, as the quantisers want it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    made = Path(folder, "prepared.onnx")
    quant_pre_process(onnx, made, skip_symbolic_shape=True)  # all of our shapes are fixed
    return made


def reader(batches: Iterable[dict[str, np.ndarray]]) -> Any:
    """Return the batches as ONNX Runtime's quantiser takes them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(batches)

        def get_next(self) -> Any:
            return next(self._rest, None)

    return Reader()
