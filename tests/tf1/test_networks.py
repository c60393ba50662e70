"""Every network is the one that its name promises: variables, parameters, operations."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host import ROOT, zoo
from tests.tf1.conftest import NETWORKS, Prepared, Run, pick, zoo_row

pytestmark = pytest.mark.tool

Shapes = dict[str, list[int]]

MODELS = [
    "squeezenet",
    "alexnet_v2",
    "mobilenet_v1_0.5",
    "mobilenet_v1_1.0",
    "mobilenet_v2_1.0",
    "mobilenet_v2_1.3",
    "mobilenet_v2_1.4",
    "inception_v1",
    "inception_v2",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "resnet_v1_50",
    "resnet_v1_101",
    "resnet_v2_50",
]


def without_auxiliary(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if "/AuxLogits/" not in name}


def params(shapes: Shapes, *left_out: str) -> int:
    """Return the number of all numbers but those of variables whose name has one of `left_out` in it."""
    kept = [shape for name, shape in shapes.items() if not any(part in name for part in left_out)]
    return sum(math.prod(shape) for shape in kept)


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


@pytest.mark.parametrize("model", MODELS)
def test_variables_parameters_and_operations(model: str, prepared: Prepared, tf1: Run) -> None:
    made = prepared(model)
    with np.load(made["weights"]) as weights:
        found = {name: list(weights[name].shape) for name in weights.files}
    assert found == without_auxiliary(NETWORKS[model]["variables"])

    counted = tf1("flops", model, pick(made, ("graph", "frozen", "signature")))
    metrics = counted["result"].metrics
    assert metrics["params"] == NETWORKS[model]["params"]
    assert metrics["flops"] == NETWORKS[model]["flops"]

    table = json.loads(counted["table"].read_text())
    assert sum(node["flops"] for node in table["nodes"]) == metrics["inference_flops"] < metrics["flops"]
    assert metrics["macs"] < metrics["inference_flops"] / 2 < metrics["macs"] * 1.01


@pytest.mark.parametrize("model", [model for model in MODELS if "mobilenet" not in model])
def test_the_zoo_has_the_same_row(model: str) -> None:
    row = {**zoo_row(model), "labels_offset": NETWORKS[model]["labels_offset"]}
    del row["depth_multiplier"]
    found = zoo.find(model).params
    assert {"labels_offset": 0, **found, "preprocessing": ""} == {**row, "preprocessing": ""}


def test_auxiliary_heads(prepared: Prepared, variables: Callable[..., list[Shapes]]) -> None:
    models = ["inception_v3", "inception_v4", "inception_resnet_v2"]
    found = variables(*(prepared(model)["graph"] for model in models))
    assert found == [NETWORKS[model]["variables"] for model in models]


# Sources: torchvision 0.20's ResNet152_Weights (num_params); the trainable weights that Keras 2.15 counts.
DEEPER = {"resnet_v1_152": 60_192_808, "resnet_v2_101": 44_577_896, "resnet_v2_152": 60_236_904}


def test_networks_that_the_table_lacks(tf1: Run, variables: Callable[..., list[Shapes]]) -> None:
    v3 = tf1("export", "m", {}, **{**zoo_row("inception_v3"), "image_size": 299})
    deeper = [tf1("export", model, {}, **{**zoo_row(model), "classes": 1000}) for model in DEEPER]
    at_299, *found = variables(*(made["graph"] for made in [v3, *deeper]))
    assert [params(shapes, "/moving_") for shapes in found] == list(DEEPER.values())

    assert without_auxiliary(at_299) == without_auxiliary(NETWORKS["inception_v3"]["variables"])
    assert at_299["InceptionV3/AuxLogits/Conv2d_2a_5x5/weights"] == [5, 5, 128, 768]
    assert params(at_299, "Logits/") == 21_802_784  # Keras 2.15: InceptionV3(include_top=False), all weights


def test_a_small_mobilenet_v2_keeps_its_last_layer(tf1: Run, prepared: Prepared) -> None:
    with np.load(prepared("mobilenet_v2_0.35")["weights"]) as weights:
        assert weights["MobilenetV2/Conv/weights"].shape == (3, 3, 3, 16)  # 11.2, rounded up: 8 is too few
        assert weights["MobilenetV2/Conv_1/weights"].shape == (1, 1, 112, 1280)


def test_the_signature_says_where_to_connect(prepared: Prepared) -> None:
    assert json.loads(prepared("squeezenet")["signature"].read_text()) == {
        "inputs": {"input": {"shape": [1, 224, 224, 3], "dtype": "float32", "kind": "image"}},
        "output": "output",
        "output_shape": [1, 1001],
        "output_kind": "probabilities",
    }


def test_another_image_size(tf1: Run) -> None:
    made = tf1("export", "m", {}, **{**zoo_row("mobilenet_v1_1.0"), "image_size": 96, "classes": 10})
    signature = json.loads(made["signature"].read_text())
    assert signature["inputs"]["input"]["shape"] == [1, 96, 96, 3]
    assert signature["output_shape"] == [1, 10]
