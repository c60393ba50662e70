"""Reference inputs and outputs: what the frozen graph computes in TensorFlow, for the correctness gate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tools import arrays
from tools.stage import InvalidRequest, StageError, progress
from tools.tf1.runtime import tf

# Of n pictures and a next one each is the strongest with the same chance, so the next one exceeds what was
# found on n with a chance of 1 in n + 1, in every layer: 6 % with 16.
ENOUGH_IMAGES = 16
BROKEN = "Are these the weights of this network? One in training, diverged, or pruned too much gives this."


def inputs(count: int, seed: int, signature: Mapping[str, Any]) -> dict[str, Any]:
    """Return `count` values for each input by name, a pure function of seed and signature.

    Raises:
        InvalidRequest: none are asked for, or a kind of input that nothing is known of.
    """
    if count < 1:
        message = f"n_inputs is {count}, and at least one input is needed"
        raise InvalidRequest(message, hint="Leave it out: the default is enough.")
    makers = {"image": images, "tokens": tokens, "mask": masks}
    unknown = [said["kind"] for said in signature["inputs"].values() if said["kind"] not in makers]
    if unknown:
        message = f"there are no reference inputs of the kind {unknown[0]!r}"
        raise InvalidRequest(message, hint="Make the signature again: run tf1.export.")
    return {name: makers[said["kind"]](count, seed, said) for name, said in signature["inputs"].items()}


def read(path: Path, signature: Mapping[str, Any]) -> arrays.Inputs:
    """Read inputs of the user's own, which image.preprocess makes of pictures.

    Raises:
        InvalidRequest: they are not those that the signature asks for.
    """
    found = arrays.read_inputs(path)
    shapes = {name: [1, *values.shape[1:]] for name, values in found.items()}
    wanted = {name: said["shape"] for name, said in signature["inputs"].items()}
    if shapes != wanted:
        message = f"the network takes {wanted}, {path.name} has {shapes}"
        raise InvalidRequest(message, hint="They belong to different models.")
    kinds = {name: said["kind"] for name, said in signature["inputs"].items()}
    return {
        name: found[name].astype(np.float32 if kind == "image" else np.int32) for name, kind in kinds.items()
    }


def gather(
    count: int, seed: int, own: Optional[Path], signature: Mapping[str, Any]
) -> tuple[arrays.Inputs, dict[str, int]]:
    """Return `count` seeded inputs, after them those of the user's `own` file; and how many of each.

    Raises:
        InvalidRequest: as `inputs` and `read` do.
    """
    found = inputs(count, seed, signature)
    if own:
        then = read(own, signature)
        found = {name: np.concatenate([values, then[name]]) for name, values in found.items()}
    total = len(next(iter(found.values())))
    return found, {"n_seeded": count, "n_images": total - count}


def warnings(n_seeded: int, n_images: int) -> list[str]:
    """Say so if the user's images are too few to calibrate on; none at all is no mistake."""
    if not 0 < n_images < ENOUGH_IMAGES:
        return []
    few = f"calibrated on {n_images} of your images only, and {n_seeded} seeded inputs"
    return [f"{few}: others may exceed the ranges that int8 has; give {ENOUGH_IMAGES} or more"]


def images(count: int, seed: int, said: Mapping[str, Any]) -> Any:
    """Return `count` images [count, H, W, C] float32 in [-1, 1], a pure function of seed and shape.

    Smooth coloured fields of different grain, contrast and tint, plus noise: like photographs they have
    most of their power in the low frequencies, so every layer sees strong and weak signals. The values are
    those of 8-bit pixels, k / 127.5 - 1, as a camera gives them; rounding to them also hides what BLAS
    libraries differ in.
    """
    shape = said["shape"][1:]
    return np.stack([_image(f"{seed}/{index}", 2 << index % 4, shape) for index in range(count)])


def tokens(count: int, seed: int, said: Mapping[str, Any]) -> Any:
    """Return `count` sequences [count, length] int32 of words from the whole vocabulary, padded with 0.

    They begin and end as BERT's do: with [CLS], 101 in its vocabulary, and [SEP], 102.
    """
    found = np.zeros((count, said["shape"][1]), np.int32)
    for index, length in enumerate(_lengths(count, seed, said)):
        words = _stream(f"{seed}/{index}/words").random_raw(length) % said["vocabulary"]
        words[0], words[-1] = 101, 102
        found[index, :length] = words
    return found


def masks(count: int, seed: int, said: Mapping[str, Any]) -> Any:
    """Return [count, length] int32: 1 for each word of the sequences that `tokens` makes, 0 for padding."""
    return np.array(
        [np.arange(said["shape"][1]) < length for length in _lengths(count, seed, said)], np.int32
    )


def _lengths(count: int, seed: int, said: Mapping[str, Any]) -> list[int]:
    """Return lengths from half of what there is room for to all of it; the first sequence is full."""
    room = said["shape"][1]
    shorter = [
        int(_stream(f"{seed}/{index}/length").random_raw() % (room // 2 + 1)) for index in range(count)
    ]
    return [room, *(room - less for less in shorter[1:])][:count]


def _image(key: str, cells: int, shape: Sequence[int]) -> Any:
    height, width, channels = shape
    stream = _stream(f"{key}/{height}x{width}x{channels}")

    def uniform(*size: int) -> Any:  # in [-1, 1); numpy guarantees the raw stream only
        return (stream.random_raw(int(np.prod(size))) >> 11).reshape(size) * 2.0**-52 - 1.0

    field = np.zeros((height, width, channels))
    for octave, amplitude in ((cells, 1.0), (4 * cells, 0.5)):
        grid = uniform(octave + 1, octave + 1, channels)
        rows = np.tensordot(_lerp(height, octave), grid, 1)
        field += amplitude * np.tensordot(rows, _lerp(width, octave), (1, 1)).transpose(0, 2, 1)
    contrast = 0.7 + 0.3 * uniform(1)
    image = contrast * field + 0.4 * uniform(channels) + 0.1 * uniform(height, width, channels)
    return (np.round((np.clip(image, -1, 1) + 1) * 127.5) / 127.5 - 1).astype(np.float32)


def _stream(key: str) -> Any:
    return np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest(), "little"))


def _lerp(size: int, cells: int) -> Any:
    """Return the matrix [size, cells + 1] of linear interpolation from a grid to pixels."""
    position = np.linspace(0, cells, size)[:, None]
    return np.maximum(0, 1 - np.abs(position - np.arange(cells + 1)))


def outputs(graph: Any, signature: Mapping[str, Any], fed: Mapping[str, Any]) -> Any:
    """Return the graph's outputs [count, ...] float32 for the inputs (name -> [count, ...]), one at a time.

    Raises:
        StageError: an output is not finite.
    """
    config = tf.ConfigProto()  # the graph as it is written; and rewriting takes longer than eight inferences
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    with tf.Session(graph=graph, config=config) as session:
        run = session.make_callable(signature["output"] + ":0", [f"{name}:0" for name in fed])
        rows, count = [], len(next(iter(fed.values())))
        for index in range(count):
            rows.append(run(*(values[index : index + 1] for values in fed.values()))[0])
            progress((index + 1) / count, f"input {index + 1} of {count}")
    found = np.stack(rows)
    if not np.isfinite(found).all():
        message = "the network's outputs are not finite"
        raise StageError(message, hint=BROKEN)
    return found


def require_response(found: Any) -> None:
    """Raise StageError if all outputs [count, ...] are the same; such a network checks nothing."""
    if len(found) > 1 and np.ptp(found, axis=0).max() == 0:
        message = "the network gives the same output for every input"
        raise StageError(message, hint=BROKEN)


def describe(found: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Return metrics (how different the outputs are) and metadata (the classes) for people to look at."""
    metrics: dict[str, float] = {}
    metadata: dict[str, Any] = {"n_inputs": len(found)}
    if found.ndim == 2:  # more axes are features, which have no classes
        ordered = np.sort(found, axis=1)[:, ::-1]
        margins = (ordered[:, 0] - ordered[:, 1]) / np.abs(ordered[:, 0])
        metrics = {"top1_margin_min": float(margins.min()), "top1_value_max": float(ordered[:, 0].max())}
        metadata["top1"] = found.argmax(axis=1).tolist()
    if len(found) > 1:
        flat = found.reshape(len(found), -1)
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        metrics["output_cosine_max"] = float((unit @ unit.T)[np.triu_indices(len(found), 1)].max())
        metrics["output_spread"] = float(np.ptp(flat, axis=0).max())
    return metrics, metadata
