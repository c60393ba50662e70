"""Trained checkpoints of either format become a clean one of just the network's variables."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tf1.conftest import FREEZE, Prepared, Run, pick, zoo_row
from tools.stage import InvalidRequest

pytestmark = pytest.mark.tool

MODEL = "mobilenet_v1_0.5"
# Writes checkpoints as training with TF-Slim leaves them: step, slots, averages (variable + 1).
TRAINED = """
import sys
from pathlib import Path
import numpy as np
import tensorflow.compat.v1 as tf
values, folder = dict(np.load(sys.argv[1])), Path(sys.argv[2])
slots = {name + "/RMSProp": value for name, value in values.items()} | {"global_step": np.int64(7)}
averages = {name + "/ExponentialMovingAverage": value + 1 for name, value in values.items()}
trained = {name: value for name, value in averages.items() if "/moving_" not in name}
first = list(values)[0]
for name, version, saved in (
    ("v1", "V1", values | slots | trained),
    ("v2", "V2", values | slots | trained),
    ("averaged_moments", "V2", values | slots | averages),
    ("plain", "V1", values),
    ("lacking", "V2", {name: value for name, value in values.items() if name != first}),
):
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = {name: tf.Variable(value, use_resource=False) for name, value in saved.items()}
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(tensors, write_version=getattr(tf.train.SaverDef, version))
        saver.save(session, str(folder / f"{name}.ckpt"), write_meta_graph=False)
"""

Inputs = Callable[[str], dict[str, Path]]


@pytest.fixture(scope="module")
def trained(
    prepared: Prepared, tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Inputs:
    """Return the inputs of import-weights by the name of a checkpoint above."""
    folder = tmp_path_factory.mktemp("trained")
    argv = [tool_python("tf1"), "-c", TRAINED, prepared(MODEL)["weights"], folder]
    subprocess.run(argv, check=True, capture_output=True)

    def inputs(name: str) -> dict[str, Path]:
        path = folder / f"{name}.ckpt"
        if path.exists():
            return {"checkpoint": path}
        data = folder / f"{name}.ckpt.data-00000-of-00001"
        return {"checkpoint": folder / f"{name}.ckpt.index", "checkpoint_data": data}

    return inputs


GRAPH = ("graph", "signature")


@pytest.fixture(scope="module")
def network(prepared: Prepared) -> Inputs:
    """Return the other inputs of import-weights: what the network is."""
    return lambda model: pick(prepared(model), GRAPH)


def frozen_weights(tf1: Run, prepared: Prepared, made: dict[str, Path]) -> dict[str, np.ndarray]:
    inputs = {**pick(prepared(MODEL), FREEZE), **pick(made, ("ckpt_index", "ckpt_data"))}
    with np.load(tf1("freeze", MODEL, inputs, save_weights=True)["weights"]) as weights:
        return dict(weights)


@pytest.mark.parametrize("form", ["v1", "v2"])
@pytest.mark.parametrize("moving_averages", [True, False])
def test_weights_arrive(
    tf1: Run, prepared: Prepared, trained: Inputs, network: Inputs, form: str, moving_averages: bool
) -> None:
    made = tf1("import-weights", MODEL, network(MODEL) | trained(form), moving_averages=moving_averages)
    found = frozen_weights(tf1, prepared, made)
    with np.load(prepared(MODEL)["weights"]) as original:
        for name in original.files:
            averaged = moving_averages and not name.endswith(("moving_mean", "moving_variance"))
            assert np.array_equal(found[name], original[name] + averaged), name
    about = made["result"].metadata
    assert about["format"] == form.upper()
    assert about["variables"] == len(found)
    assert about["moving_averages"] == (
        sum("moving_" not in name for name in found) if moving_averages else 0
    )
    assert about["left_out"] > len(found)
    assert made["ckpt_data"].stat().st_size < 4 * sum(value.size for value in found.values()) + 10_000


def test_moments_are_taken_as_they_are(
    tf1: Run, prepared: Prepared, trained: Inputs, network: Inputs
) -> None:
    made = tf1("import-weights", MODEL, network(MODEL) | trained("averaged_moments"))
    found = frozen_weights(tf1, prepared, made)
    name = "MobilenetV1/Conv2d_0/BatchNorm/moving_mean"
    with np.load(prepared(MODEL)["weights"]) as original:
        assert np.array_equal(found[name], original[name])


def test_a_generated_checkpoint_is_imported_as_it_is(
    tf1: Run, prepared: Prepared, trained: Inputs, network: Inputs
) -> None:
    made = tf1("import-weights", MODEL, network(MODEL) | trained("plain"))
    assert made["ckpt_data"].read_bytes() == prepared(MODEL)["ckpt_data"].read_bytes()
    assert made["result"].metadata["left_out"] == 0


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_another_network(tf1: Run, trained: Inputs, network: Inputs, form: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        tf1("import-weights", "squeezenet", network("squeezenet") | trained(form))
    said = str(error.value)
    assert "is a checkpoint of another network: it lacks 52 of 52 variables: " in said
    assert said.count("SqueezeNet/") == 5  # the first five
    assert said.count("MobilenetV1/") == 5


def test_a_variable_that_is_missing(tf1: Run, trained: Inputs, network: Inputs) -> None:
    said = "lacks 1 of 137 variables: MobilenetV1/Conv2d_0/weights; it has"
    with pytest.raises(InvalidRequest, match=said):
        tf1("import-weights", MODEL, network(MODEL) | trained("lacking"))


def test_other_shapes(tf1: Run, trained: Inputs, network: Inputs) -> None:
    exported = tf1("export", MODEL, {}, **{**zoo_row(MODEL), "classes": 1000})
    with pytest.raises(InvalidRequest, match=r"2 variables of other shapes: .* in the graph") as error:
        tf1("import-weights", MODEL, pick(exported, GRAPH) | trained("v1"))
    assert "classes is often 1000" in error.value.hint


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
@pytest.mark.parametrize("form", ["v1", "v2"])
def test_a_truncated_checkpoint(
    tf1: Run, trained: Inputs, network: Inputs, tmp_path: Path, form: str, keep: float
) -> None:
    inputs = {key: Path(shutil.copy(path, tmp_path)) for key, path in trained(form).items()}
    victim = list(inputs.values())[-1]
    victim.write_bytes(victim.read_bytes()[: int(victim.stat().st_size * keep)])
    with pytest.raises(InvalidRequest, match="damaged or truncated"):
        tf1("import-weights", MODEL, network(MODEL) | inputs)


def test_something_else(tf1: Run, network: Inputs, tmp_path: Path) -> None:
    page = tmp_path / "trained.ckpt"
    page.write_text(json.dumps({"not": "a checkpoint"}) * 1000)
    with pytest.raises(InvalidRequest, match="damaged or truncated"):
        tf1("import-weights", MODEL, network(MODEL) | {"checkpoint": page})
