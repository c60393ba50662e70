"""Names of classes: ImageNet's, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tools.stage import InvalidRequest

# The 1000 classes of ILSVRC 2012 in the order of their WordNet ids, which is the order of all published
# checkpoints. The short names are those of torchvision 0.29.1 (torchvision/models/_meta.py, BSD licence).
IMAGENET = Path(__file__).with_name("imagenet_classes.txt")
BACKGROUND = "background"  # class 0 of the networks with 1001 classes


def for_classes(count: int, labels: Optional[Path], labels_offset: int) -> tuple[list[str], list[str]]:
    """Return the names of a network's classes, and warnings.

    `labels_offset` is TF-Slim's: 0, the network has a background class first; 1, it has none.

    Raises:
        InvalidRequest: `labels` is not text, or does not have `count` names.
    """
    if labels:
        return _read(labels, count, labels_offset), []
    names = [BACKGROUND, *IMAGENET.read_text().splitlines()][labels_offset:]
    if len(names) == count:
        return names, []
    warning = (
        f"{count} classes are not ImageNet's {len(names)} (labels_offset {labels_offset}), "
        "so classes have numbers only; --labels FILE names them, one a line"
    )
    return [f"class {index}" for index in range(count)], [warning]


def _read(path: Path, count: int, labels_offset: int) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        message = f"{path.name} is not text in UTF-8: {error}"
        raise InvalidRequest(message, hint="Give one name a line.") from None
    if len(names) != count:
        message = f"{path.name} has {len(names)} names, the network has {count} classes"
        first = (
            "the first line names the background class" if labels_offset == 0 else "there is no background"
        )
        hint = f"One name a line; labels_offset is {labels_offset} for this network, so {first}."
        raise InvalidRequest(message, hint=hint)
    return names


def highest(outputs: Any, classes: Sequence[str], top: int) -> list[list[dict[str, Any]]]:
    """Return for each row of outputs [n, classes] its `top` classes, the highest first.

    Raises:
        InvalidRequest: an output is not a finite number.
    """
    if not np.isfinite(outputs).all():
        message = "the network's answers are not finite numbers"
        raise InvalidRequest(message, hint="Its weights are broken, or its arithmetic overflows.")
    order = np.argsort(-outputs, axis=1, kind="stable")[:, :top]
    return [
        [{"class": int(i), "name": classes[i], "score": float(row[i])} for i in first]
        for row, first in zip(outputs, order)
    ]
