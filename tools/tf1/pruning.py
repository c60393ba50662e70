"""Magnitude pruning of a checkpoint: the smallest weights become zero (Han et al. 2015, arXiv:1506.02626).

Only kernels are pruned: the network's variables of two or more dimensions. Biases, batch normalisation and
its moments are vectors; what else a checkpoint holds (an optimiser's slots, averages) is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.stage import InvalidRequest

METHODS = ("ratio", "threshold")
SCOPES = ("layer", "global")


def kernels(shapes: Mapping[str, Sequence[int]], pattern: str) -> list[str]:
    """Return the names of the kernels that the regular expression is found in.

    Raises:
        InvalidRequest: it is none, or found in no kernel's name.
    """
    names = [name for name, shape in shapes.items() if len(shape) >= 2]
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        message = f"{pattern!r} is not a regular expression: {error}"
        raise InvalidRequest(message, hint="e.g. --layer 'fire[89]/'") from None
    if not found:
        message = f"no kernel's name matches {pattern!r}"
        raise InvalidRequest(
            message, hint=f"The kernels are {', '.join(names[:5])} ... ({len(names)} in all)"
        )
    return found


def check(method: str, amount: float, scope: str) -> None:
    """Check what was asked for.

    Raises:
        InvalidRequest: an unknown method or scope; a ratio outside [0, 1); a threshold below zero, or one
            with a scope.
    """
    for value, known, what in ((method, METHODS, "method"), (scope, SCOPES, "scope")):
        if value not in known:
            message = f"there is no {what} {value!r}"
            raise InvalidRequest(message, hint=f"Choose {' or '.join(known)}")
    if method == "ratio" and not 0 <= amount < 1:
        message = f"the ratio is {amount}, and has to be at least 0 and less than 1"
        raise InvalidRequest(message, hint="0.5 sets half of the weights of each layer to zero.")
    if method == "threshold" and scope != SCOPES[0]:
        message = f"the scope {scope!r} is of a ratio, and a threshold is asked for"
        raise InvalidRequest(message, hint="A threshold is the same for all weights: leave the scope out.")
    if method == "threshold" and not 0 <= amount < np.inf:
        message = f"the threshold is {amount}, and has to be 0 or more"
        raise InvalidRequest(message, hint="Weights of a smaller magnitude become zero.")


def prune(values: Mapping[str, Any], method: str, amount: float, scope: str) -> dict[str, Any]:
    """Return the arrays with their smallest weights set to zero.

    A ratio counts zeros that were there before; of equal magnitudes as many are taken, in order, as it takes
    to meet it exactly. `scope` is what a ratio is of: each array, or all of them together (`global`).

    Raises:
        InvalidRequest: a weight is not finite.
    """
    for name, value in values.items():
        if not np.isfinite(value).all():
            message = f"{name} has weights that are not finite (NaN or infinite)"
            raise InvalidRequest(
                message, hint="A training that diverged leaves these; take another checkpoint."
            )
    if method == "threshold":
        return {name: np.where(np.abs(value) < amount, 0, value) for name, value in values.items()}
    if scope == "layer":
        return {name: _without_smallest(value, amount) for name, value in values.items()}
    together = _without_smallest(np.concatenate([value.ravel() for value in values.values()]), amount)
    ends = np.cumsum([value.size for value in values.values()])[:-1]
    parts = np.split(together, ends)
    return {name: part.reshape(value.shape) for (name, value), part in zip(values.items(), parts)}


def _without_smallest(value: Any, ratio: float) -> Any:
    count = round(ratio * value.size)
    if count == 0:
        return value
    magnitudes = np.abs(value).ravel()
    largest = np.partition(magnitudes, count - 1)[count - 1]  # of those that go
    goes = magnitudes < largest
    ties = np.flatnonzero(magnitudes == largest)
    goes[ties[: count - np.count_nonzero(goes)]] = True
    return np.where(goes.reshape(value.shape), 0, value)


def table(shapes: Mapping[str, Sequence[int]], values: Mapping[str, Any], pruned: Sequence[str]) -> list[Any]:
    """Return a row for each kernel of the network: weights, zeros, sparsity, whether it was pruned."""
    rows = []
    for name, shape in shapes.items():
        if len(shape) >= 2:
            zeros = int(values[name].size - np.count_nonzero(values[name]))
            share = {"weights": int(values[name].size), "zeros": zeros, "sparsity": zeros / values[name].size}
            rows.append({"name": name, "shape": list(shape), **share, "pruned": name in pruned})
    return rows


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what to say of kernels with no weight left, if there are any."""
    empty = [row for row in rows if row["zeros"] == row["weights"]]
    said = [f"all {row['weights']:,} weights of {row['name']} are zero" for row in empty]
    dead = (
        "the network is likely dead: nothing of its input passes such a kernel; prune less, or other layers"
    )
    return [*said, dead] if empty else []
