"""Files of arrays (.npz) that cross from tool to tool, and how their inputs become a network's.

A network's inputs are the arrays `inputs/<name>`, each [n, ...]; what it answered is `outputs`, [n, ...].
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tools.stage import InvalidRequest

if TYPE_CHECKING:
    import numpy as np

    Inputs = Mapping[str, np.ndarray]

INPUTS = "inputs/"  # before an input's name


def write(path: Path, *, inputs: Optional[Inputs] = None, outputs: Optional[np.ndarray] = None) -> None:
    """Write inputs by the network's names, what it answered, or both."""
    import numpy as np

    answered = {} if outputs is None else {"outputs": outputs}
    np.savez(path, **answered, **{INPUTS + name: array for name, array in (inputs or {}).items()})


def read(path: Path, what: str, hint: str) -> dict[str, np.ndarray]:
    """Return all arrays of a file by name; `what` and `hint` are for the error.

    Raises:
        InvalidRequest: it is not such a file.
    """
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file) as data:
            return {name: data[name] for name in data.files}
    except (
        *(OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error),
        *(TypeError, AttributeError),  # an array alone, which is no context manager
    ) as error:
        message = f"{path.name} is not {what}, or it is cut off: {error}"
        raise InvalidRequest(message, hint=hint) from error


def inputs_of(arrays: Mapping[str, np.ndarray]) -> Inputs:
    """Return the inputs among the arrays, by the network's names."""
    return {name[len(INPUTS) :]: array for name, array in arrays.items() if name.startswith(INPUTS)}


def read_inputs(path: Path, hint: str = "image.preprocess makes one of pictures.") -> Inputs:
    """Return a network's inputs by name, each [n, ...].

    Raises:
        InvalidRequest: it is not such a file, or the inputs are not of one length.
    """
    inputs = inputs_of(read(path, "a file of a network's inputs", hint))
    lengths = {array.shape[:1] for array in inputs.values()}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        message = f"{path.name} holds no inputs, or not as many of each: {INPUTS}<name>, [n, ...]"
        raise InvalidRequest(message, hint=hint)
    return inputs


def read_reference(path: Path) -> tuple[Inputs, np.ndarray]:
    """Return the reference's inputs by name, each [n, ...], and outputs [n, ...] float32.

    Raises:
        InvalidRequest: it is not such a file.
    """
    import numpy as np

    hint = "Make it again with tf1.reference."
    found = read(path, "a reference of inputs and outputs", hint)
    inputs, outputs = inputs_of(found), found.get("outputs")
    lengths = {array.shape[:1] for array in (*inputs.values(), outputs) if array is not None}
    if outputs is None or not inputs or len(lengths) != 1 or lengths & {(), (0,)}:
        counts = ", ".join(f"{name} {list(array.shape)}" for name, array in found.items())
        message = f"{path.name} does not hold as many inputs as outputs: {counts or 'nothing'}"
        raise InvalidRequest(message, hint=hint)
    return inputs, outputs.astype(np.float32)


def read_outputs(path: Path) -> np.ndarray:
    """Return what a network answered, [n, classes].

    Raises:
        InvalidRequest: it is not such a file, or it holds no classes.
    """
    hint = "The `infer` of a backend makes one."
    outputs = read(path, "a file of a network's answers", hint).get("outputs")
    if outputs is None or outputs.ndim != 2 or 0 in outputs.shape:
        found = "none" if outputs is None else list(outputs.shape)
        message = f"{path.name} does not hold `outputs` of [n, classes], but {found}"
        raise InvalidRequest(message, hint=hint)
    return outputs


def fit(
    inputs: Inputs, wanted: Mapping[str, tuple[Any, ...]], index: int, source: str = "reference"
) -> dict[str, np.ndarray]:
    """Return the `index`-th of `inputs` by the names and in the layouts that a network wants.

    A network of one input takes it by whatever name, which in a file of the user's own may be another.
    `source` is what the inputs are of, for the error.

    Raises:
        InvalidRequest: the network has other inputs.
    """
    batches = {name: values[index : index + 1] for name, values in inputs.items()}
    if len(wanted) == len(batches) == 1:
        batches = dict(zip(wanted, batches.values()))
    if batches.keys() != wanted.keys():
        message = f"the network takes {', '.join(wanted)}, the {source} has {', '.join(batches)}"
        raise InvalidRequest(message, hint=f"Network and {source} belong to different models.")
    return {name: to_layout(batches[name], shape, source) for name, shape in wanted.items()}


def to_layout(batch: np.ndarray, shape: tuple[Any, ...], source: str = "reference") -> np.ndarray:
    """Return a batch as the network's input shape wants it: as it is, or NCHW instead of NHWC.

    Raises:
        InvalidRequest: it fits neither.
    """
    import numpy as np

    for candidate in (batch, np.moveaxis(batch, -1, 1)):
        fits = [not isinstance(want, int) or want == have for want, have in zip(shape, candidate.shape)]
        if len(shape) == candidate.ndim and all(fits):
            return np.ascontiguousarray(candidate)
    message = f"the network takes {list(shape)}, the {source} inputs are {list(batch.shape)}"
    raise InvalidRequest(message, hint=f"Network and {source} belong to different models.")
