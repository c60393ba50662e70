"""Files of arrays (.npz) that cross from tool to tool.

A network's inputs are the arrays `inputs/<name>`, each [n, ...]; what it answered is `outputs`, [n, ...].
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Optional

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
