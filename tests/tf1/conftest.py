"""Networks prepared once for all tests of the tf1 tool, in one process of it."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT, toolbox, zoo
from tests.conftest import RunStage

Prepared = Callable[[str], dict[str, Path]]
Run = Callable[..., dict[str, Any]]
Shapes = dict[str, list[int]]

NETWORKS: dict[str, Any] = json.loads(Path(__file__, "../../networks.json").resolve().read_text())


def zoo_row(model: str) -> dict[str, Any]:
    """Return what the tf1 tool takes of a network of the zoo: its parameters and, if it is one, its table."""
    found = zoo.find(model)
    known = toolbox.find("tf1.export").params
    params = {key: value for key, value in found.params.items() if key in known}
    return {**params, **({"table": found.table} if found.table else {})}


@pytest.fixture(scope="session")
def tf1(run_stage: RunStage, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a tf1 command; return its outputs as paths, with `result` beside them for the curious.

    `table`, a network's layers, is handed over in a file, as the runner does.
    """

    def run(
        command: str,
        model: str,
        inputs: dict[str, Path],
        *,
        service: str = "tf1",
        table: Any = None,
        **params: Any,
    ) -> dict[str, Any]:
        if table:
            path = tmp_path_factory.mktemp("table") / "layers.json"
            path.write_text(json.dumps(table))
            inputs = {**inputs, "layers": path}
        folder, result = run_stage("tf1", command, inputs=inputs, params=params, model=model, service=service)
        return {"result": result, **{key: folder / name for key, name in result.outputs.items()}}

    return run


@pytest.fixture(scope="session")
def prepared(tf1: Run) -> Prepared:
    """Return graph, signature, checkpoint, frozen graph and weights of a model with generated weights."""

    @functools.cache
    def prepare(model: str) -> dict[str, Path]:
        made = tf1("export", model, {}, **zoo_row(model))
        made |= tf1("generate-weights", model, pick(made, GENERATE), table=zoo_row(model).get("table"))
        made |= tf1("freeze", model, pick(made, FREEZE), save_weights=True)
        return made

    return prepare


GENERATE = ("graph", "signature")
FREEZE = ("graph", "signature", "ckpt_index", "ckpt_data")


def pick(made: dict[str, Path], names: tuple[str, ...]) -> dict[str, Path]:
    return {name: made[name] for name in names}


def blown_up(tf1: Run, frozen: dict[str, Path], folder: Path) -> float:
    """Return what a rounding of the input makes of the output, as a part of the output's spread."""
    inputs = {**frozen, "images": folder / "m.images.npz"}
    with np.load(tf1("reference", "m", frozen, n_inputs=1)["reference"]) as reference:
        image = reference["inputs/input"]
    noise = 1e-6 * np.random.default_rng(0).standard_normal(image.shape)
    np.savez(inputs["images"], **{"inputs/input": (image + noise).astype(np.float32)})
    with np.load(tf1("reference", "m", inputs, n_inputs=1)["reference"]) as reference:
        expected, found = reference["outputs"]
    return float(np.abs(found - expected).max() / np.ptp(expected))


VARIABLES = """
import json, pathlib, sys
from tools.tf1 import graphs
print(json.dumps([graphs.variables(graphs.read(pathlib.Path(path))) for path in sys.argv[1:]]))
"""


@pytest.fixture(scope="session")
def variables(tool_python: Callable[[str], Path]) -> Callable[..., list[Shapes]]:
    """Return what variables exported graphs have, in one process for all of them."""

    def read(*graphs: Path) -> list[Shapes]:
        command = [tool_python("tf1"), "-c", VARIABLES, *graphs]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        shapes: list[Shapes] = json.loads(done.stdout)
        return shapes

    return read
