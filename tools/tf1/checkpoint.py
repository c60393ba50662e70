"""TensorFlow 1 checkpoints: format V2 (`PREFIX.index` and `PREFIX.data-00000-of-00001`), reading V1 too.

A published checkpoint holds more than the network: the step, the optimiser's slots (`.../RMSProp`), and of
some each trained variable's moving average over the last steps (`.../ExponentialMovingAverage`). Where there
are averages they are the weights that were meant to be used: TF-Slim's own MobileNet example restores them,
for 1.5 to 2 % more accuracy (tensorflow/models, research/slim/nets/mobilenet/mobilenet_example.ipynb). Batch
normalisation's moments are moving averages themselves and are taken as they are, as in that example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping

from tools.stage import InvalidRequest
from tools.tf1.runtime import tf

INDEX_SUFFIX = ".index"
DATA_SUFFIX = ".data-00000-of-00001"

NAMES = 5  # of variables, in a message: enough to see which network it is
AVERAGE = "/ExponentialMovingAverage"
MOMENTS = ("/moving_mean", "/moving_variance")

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
    return extract(name, wanted, moving_averages=False)[0]


def extract(name: str, wanted: Shapes, moving_averages: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the wanted variables as float32 arrays, and what was taken of the checkpoint and what was not.

    Raises:
        InvalidRequest: the checkpoint is damaged, lacks variables, or has them in other shapes.
    """
    try:
        reader = tf.train.load_checkpoint(name)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        averages = [key for key in wanted if key + AVERAGE in shapes and not key.endswith(MOMENTS)]
        sources = {key: key for key in wanted}
        if moving_averages:
            sources.update((key, key + AVERAGE) for key in averages)
        _check(name, wanted, sources, shapes, dtypes)
        values = {key: reader.get_tensor(source) for key, source in sources.items()}
        left_out = sorted(shapes.keys() - set(sources.values()))
        for key in left_out:  # its checksum: a truncated file is an error wherever it ends
            reader.get_tensor(key)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:  # IndexError: too short
        what = str(error).splitlines()[0][:200]
        message = f"checkpoint {name} cannot be read: it is damaged or truncated ({what})"
        raise InvalidRequest(message, hint="Copy, fetch or generate its files again.") from None
    return values, {
        "variables": len(values),
        "moving_averages": len(averages) if moving_averages else 0,
        "left_out": len(left_out),
        "left_out_first": left_out[:NAMES],
    }


def _check(
    name: str, wanted: Shapes, sources: Mapping[str, str], shapes: Shapes, dtypes: Mapping[str, Any]
) -> None:
    missing = [source for source in sources.values() if source not in shapes]
    if missing:
        message = f"{name} is a checkpoint of another network: it lacks {len(missing)} of {len(wanted)} "
        message += f"variables: {_first(missing)}; it has {_first(sorted(shapes))}"
        raise InvalidRequest(message, hint="Is it a checkpoint of this network?")
    misfits = [
        f"{source} is {shapes[source]} there and {wanted[variable]} in the graph"
        for variable, source in sources.items()
        if shapes[source] != wanted[variable]
    ]
    if misfits:
        message = f"checkpoint {name} has {len(misfits)} variables of other shapes: {_first(misfits)}"
        hint = "Give the depth_multiplier, channels and classes it was made with (classes is often 1000)."
        raise InvalidRequest(message, hint=hint)
    others = [source for source in sources.values() if dtypes[source] != tf.float32]
    if others:
        message = f"checkpoint {name} has variables that are not float32: {_first(others)}"
        raise InvalidRequest(message, hint="Convert them to float32.")


def _first(items: list[str], count: int = NAMES) -> str:
    rest = len(items) - count
    return ", ".join(items[:count]) + (f" and {rest} more" if rest > 0 else "")
