"""Pruning does what was asked for, exactly, and nothing else."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host import ROOT
from tests.project import Project
from tests.tf1.conftest import Prepared, Run, pick
from tools.stage import InvalidRequest, StageError

pytestmark = pytest.mark.tool

INPUTS = ("graph", "ckpt_index", "ckpt_data")


def frozen_weights(tf1: Run, made: dict[str, Path], pruned: dict[str, Path]) -> dict[str, np.ndarray]:
    checkpoint = {"ckpt_index": pruned["pruned_index"], "ckpt_data": pruned["pruned_data"]}
    frozen = tf1(
        "freeze", "m.pruned", {**pick(made, ("graph", "signature")), **checkpoint}, save_weights=True
    )
    with np.load(frozen["weights"]) as weights:
        return {"frozen": frozen["frozen"], **{name: weights[name] for name in weights.files}}


def test_a_ratio_is_met_in_each_layer_and_nothing_else_changes(tf1: Run, prepared: Prepared) -> None:
    made = prepared("squeezenet")
    pruned = tf1("prune", "m", pick(made, INPUTS), method="ratio", amount=0.3)
    rows = json.loads(pruned["sparsity"].read_text())
    found = frozen_weights(tf1, made, pruned)
    with np.load(made["weights"]) as before:
        for row in rows:
            assert row["zeros"] == round(0.3 * row["weights"]), row["name"]
            value, original = found[row["name"]], before[row["name"]]
            assert np.count_nonzero(value == 0) == row["zeros"]
            assert np.array_equal(value[value != 0], original[value != 0])
            assert np.abs(original[value == 0]).max() <= np.abs(original[value != 0]).min()
        kernels = {row["name"] for row in rows}
        others = set(before.files) - kernels
        assert len(others) == 26  # biases
        assert all(np.array_equal(found[name], before[name]) for name in others)
    assert pruned["result"].metrics["sparsity"] == pytest.approx(0.3, abs=1e-5)

    ends = {"signature": made["signature"]}
    whole = tf1("reference", "m", {"frozen": made["frozen"], **ends}, n_inputs=2)
    less = tf1("reference", "m", {"frozen": found["frozen"], **ends}, n_inputs=2)
    with np.load(whole["reference"]) as one, np.load(less["reference"]) as other:
        assert not np.allclose(one["outputs"], other["outputs"], rtol=1e-3)


def test_ratio_zero_is_the_same_checkpoint(tf1: Run, prepared: Prepared) -> None:
    made = prepared("squeezenet")
    pruned = tf1("prune", "m", pick(made, INPUTS), method="ratio", amount=0.0)
    assert pruned["pruned_index"].read_bytes() == made["ckpt_index"].read_bytes()
    assert pruned["pruned_data"].read_bytes() == made["ckpt_data"].read_bytes()


def test_a_threshold_in_some_layers(tf1: Run, prepared: Prepared) -> None:
    made = prepared("squeezenet")
    options = {"method": "threshold", "amount": 0.01, "layer": "fire[89]/"}
    pruned = tf1("prune", "m", pick(made, INPUTS), **options)
    with np.load(made["weights"]) as before:
        for row in json.loads(pruned["sparsity"].read_text()):
            small = np.count_nonzero(np.abs(before[row["name"]]) < 0.01)
            assert row["pruned"] == ("fire8" in row["name"] or "fire9" in row["name"])
            assert row["zeros"] == (small if row["pruned"] else 0)


def test_a_global_ratio_takes_more_of_the_layers_with_small_weights(tf1: Run, prepared: Prepared) -> None:
    pruned = tf1(
        "prune", "m", pick(prepared("squeezenet"), INPUTS), method="ratio", amount=0.5, scope="global"
    )
    rows = json.loads(pruned["sparsity"].read_text())
    assert sum(row["zeros"] for row in rows) == round(0.5 * sum(row["weights"] for row in rows))
    assert max(row["sparsity"] for row in rows) > 0.6
    assert min(row["sparsity"] for row in rows) < 0.2


def test_kernels_without_a_weight_left(tf1: Run, prepared: Prepared) -> None:
    made = prepared("squeezenet")
    options = {"method": "threshold", "amount": 100.0, "layer": "conv1/"}
    pruned = tf1("prune", "m", pick(made, INPUTS), **options)
    first, last = pruned["result"].metadata["warnings"]
    assert first == "all 14,112 weights of SqueezeNet/conv1/weights are zero"
    assert "likely dead" in last
    dead = frozen_weights(tf1, made, pruned)["frozen"]
    with pytest.raises(StageError, match="same output for every input") as error:
        tf1("reference", "m", {"frozen": dead, "signature": made["signature"]}, n_inputs=2)
    assert "pruned too much" in error.value.hint


OWN = """
[small]
about = "A small network"
image_size = 16
channels = 1
classes = 3
layers = [
    { name = "conv", op = "conv", filters = 4, kernel = 3, stride = 2 },
    { name = "flat", op = "flatten" },
    { name = "logits", op = "fully_connected", units = "classes", activation = "none" },
]
"""


def test_the_command_that_goes_on(tmp_path: Path) -> None:
    """As it is printed, but for `plan` in the place of `all`, which takes the same and runs nothing."""
    project = Project(ROOT, tmp_path / "a folder")
    own = tmp_path / "my networks.toml"
    own.write_text(OWN)
    named = ("--model", "small", "--model-file", str(own))
    done = project.run("prune", *named, "--threshold", "100")
    assert done.returncode == 0, done.stderr
    assert "warning: all 36 weights of small/conv/weights are zero" in done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("next: ")]
    python, script, command, *options = shlex.split(line.removeprefix("next: "))
    assert (python, script, command) == ("python", "runner.py", "all")
    assert options[-4:] == ["--work", str(project.work), "--engine", "venv"]
    planned = project.call(project.argv("plan", *options, "--json"))
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["weights"]["small"]["name"] == "small.pruned.ckpt"


TIES = """
import numpy as np
from tools.tf1 import pruning
ties = np.array([[0.5, -0.5, 0.5], [-0.5, 0.5, 2.0]], np.float32)
for ratio, zeros in ((0.5, 3), (0.2, 1), (0.99, 6), (0, 0)):
    for scope in pruning.SCOPES:
        found = pruning.prune({"a": ties}, "ratio", ratio, scope)["a"]
        assert np.count_nonzero(found == 0) == zeros and found.dtype == np.float32, (ratio, found)
assert pruning.prune({"a": ties}, "ratio", 0.5, "layer")["a"].tolist() == [[0, 0, 0], [-0.5, 0.5, 2]]
"""


def test_ties(tool_python: Callable[[str], Path]) -> None:
    subprocess.run([tool_python("tf1"), "-c", TIES], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"method": "ratio", "amount": 1.0}, "the ratio is 1.0, and has to be at least 0 and less than 1"),
        ({"method": "ratio", "amount": -0.1}, "the ratio is -0.1"),
        ({"method": "ratio", "amount": float("nan")}, "the ratio is nan"),
        ({"method": "threshold", "amount": -1.0}, "the threshold is -1.0"),
        ({"method": "threshold", "amount": float("nan")}, "the threshold is nan"),
        ({"method": "threshold", "amount": 0.1, "scope": "global"}, "the scope 'global' is of a ratio"),
        ({"method": "ratio", "amount": 0.5, "scope": "all"}, "no scope 'all'. Choose layer or global"),
        ({"method": "ratio", "amount": 0.5, "layer": "conv99"}, "no kernel's name matches 'conv99'"),
        ({"method": "ratio", "amount": 0.5, "layer": "biases"}, "no kernel's name matches 'biases'"),
        ({"method": "ratio", "amount": 0.5, "layer": "("}, "not a regular expression"),
    ],
)
def test_what_cannot_be_asked_for(tf1: Run, prepared: Prepared, params: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        tf1("prune", "m", pick(prepared("squeezenet"), INPUTS), **params)
    assert said in error.value.one_line()


DIVERGED = """
import sys
from tools.tf1 import checkpoint
from tools.tf1.runtime import tf
reader = tf.train.load_checkpoint(sys.argv[1])
values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
values["SqueezeNet/conv10/weights"][0, 0, 0, 0] = float("nan")
checkpoint.write(sys.argv[2], values)
"""


def test_weights_that_are_not_finite(
    tf1: Run, prepared: Prepared, tmp_path: Path, tool_python: Callable[[str], Path]
) -> None:
    made = pick(prepared("squeezenet"), INPUTS)
    prefixes = str(made["ckpt_index"]).removesuffix(".index"), str(tmp_path / "m.ckpt")
    subprocess.run([tool_python("tf1"), "-c", DIVERGED, *prefixes], check=True, cwd=Path(__file__).parents[2])
    made["ckpt_index"], made["ckpt_data"] = (
        tmp_path / f"m.ckpt{suffix}" for suffix in (".index", ".data-00000-of-00001")
    )
    with pytest.raises(InvalidRequest, match="SqueezeNet/conv10/weights has weights that are not finite"):
        tf1("prune", "m", made, method="ratio", amount=0.5)
