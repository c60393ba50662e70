"""Networks prepared once for all tests of the tf1 tool, in one process of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunStage

Prepared = Callable[[str], dict[str, Path]]
Run = Callable[..., dict[str, Any]]

NETWORKS: dict[str, Any] = json.loads(Path(__file__, "../../networks.json").resolve().read_text())


def zoo_row(model: str) -> dict[str, Any]:
    """Return the parameters that the model zoo gives for a row of networks.json."""
    network, _, multiplier = model.rpartition("_")
    scalable = "." in multiplier
    row = {"image_size": 224, "channels": 3, "labels_offset": 0, **NETWORKS.get(model, {})}
    return {
        "network": network if scalable else model,
        "depth_multiplier": float(multiplier) if scalable else 1.0,
        "image_size": row["image_size"],
        "channels": row["channels"],
        "classes": 1001 - row["labels_offset"],
    }


@pytest.fixture(scope="session")
def tf1(run_stage: RunStage) -> Run:
    """Run a tf1 command; return its outputs as paths, with `result` beside them for the curious."""

    def run(
        command: str, model: str, inputs: dict[str, Path], *, service: str = "tf1", **params: Any
    ) -> dict[str, Any]:
        folder, result = run_stage("tf1", command, inputs=inputs, params=params, model=model, service=service)
        return {"result": result, **{key: folder / name for key, name in result.outputs.items()}}

    return run


@pytest.fixture(scope="session")
def prepared(tf1: Run) -> Prepared:
    """Return graph, signature, checkpoint, frozen graph and weights of a model with generated weights."""

    @functools.cache
    def prepare(model: str) -> dict[str, Path]:
        made = tf1("generate-weights", model, {}, **zoo_row(model))
        made |= tf1("export", model, {}, **zoo_row(model))
        made |= tf1("freeze", model, pick(made, FREEZE), save_weights=True)
        return made

    return prepare


FREEZE = ("graph", "signature", "ckpt_index", "ckpt_data")


def pick(made: dict[str, Path], names: tuple[str, ...]) -> dict[str, Path]:
    return {name: made[name] for name in names}
