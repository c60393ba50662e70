"""TensorFlow 1 checkpoints (format V2: `PREFIX.index` and `PREFIX.data-00000-of-00001`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping

from tools.stage import InvalidRequest
from tools.tf1.runtime import tf

INDEX_SUFFIX = ".index"
DATA_SUFFIX = ".data-00000-of-00001"

Shapes = Mapping[str, List[int]]


def prefix(index: Path, data: Path) -> str:
    """Return what TensorFlow calls the checkpoint: the common beginning of its two files.

    Raises:
        InvalidRequest: the two names do not belong together.
    """
    name = str(index)[: -len(INDEX_SUFFIX)]
    if str(index) != name + INDEX_SUFFIX or str(data) != name + DATA_SUFFIX:
        message = f"{index} and {data} are not the two files of one checkpoint"
        raise InvalidRequest(message, hint=f"Name them PREFIX{INDEX_SUFFIX} and PREFIX{DATA_SUFFIX}.")
    return name


def write(name: str, values: Mapping[str, Any]) -> None:
    """Write arrays as the checkpoint `name`; needs no session and no graph."""
    tensors = [tf.convert_to_tensor(value) for value in values.values()]
    tf.raw_ops.SaveV2(
        prefix=name, tensor_names=list(values), shape_and_slices=[""] * len(values), tensors=tensors
    )


def read(name: str, wanted: Shapes) -> dict[str, Any]:
    """Return the wanted variables (name -> shape) as float32 arrays.

    Raises:
        InvalidRequest: the checkpoint is damaged, lacks variables, or has them in other shapes.
    """
    try:
        reader = tf.train.load_checkpoint(name)
        _check(name, wanted, reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map())
        return {variable: reader.get_tensor(variable) for variable in wanted}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:  # IndexError: too short
        what = str(error).splitlines()[0][:200]
        message = f"checkpoint {name} cannot be read: it is damaged or truncated ({what})"
        raise InvalidRequest(message, hint="Copy or generate both of its files again.") from None


def _check(name: str, wanted: Shapes, shapes: Shapes, dtypes: Mapping[str, Any]) -> None:
    missing = [variable for variable in wanted if variable not in shapes]
    if missing:
        message = f"checkpoint {name} lacks {len(missing)} of {len(wanted)} variables: {_first(missing)}"
        message += f"; it has {_first(sorted(shapes))}"
        raise InvalidRequest(message, hint="Is it a checkpoint of this network?")
    misfits = [
        f"{variable} is {shapes[variable]} there and {shape} in the graph"
        for variable, shape in wanted.items()
        if shapes[variable] != shape
    ]
    if misfits:
        message = f"checkpoint {name} has {len(misfits)} variables of other shapes: {_first(misfits)}"
        hint = "Give the depth_multiplier, channels and classes it was made with (classes is often 1000)."
        raise InvalidRequest(message, hint=hint)
    others = [variable for variable in wanted if dtypes[variable] != tf.float32]
    if others:
        message = f"checkpoint {name} has variables that are not float32: {_first(others)}"
        raise InvalidRequest(message, hint="Convert them to float32.")


def _first(items: list[str], count: int = 3) -> str:
    rest = len(items) - count
    return ", ".join(items[:count]) + (f" and {rest} more" if rest > 0 else "")
