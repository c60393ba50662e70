"""Every network is the one that its name promises: variables, parameters, operations."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT, zoo
from tests.tf1.conftest import NETWORKS, Prepared, Run, Shapes, pick, zoo_row

pytestmark = pytest.mark.tool


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
    "nasnet_mobile",
]


def without_auxiliary(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if "/AuxLogits/" not in name}


def params(shapes: Shapes, *left_out: str) -> int:
    """Return the number of all numbers but those of variables whose name has one of `left_out` in it."""
    kept = [shape for name, shape in shapes.items() if not any(part in name for part in left_out)]
    return sum(math.prod(shape) for shape in kept)


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
    assert metrics["macs"] < metrics["inference_flops"] / 2 < metrics["macs"] * 1.02


TABLES = [name for name in zoo.names() if zoo.find(name).table]
# vgg_19 is not in networks.json; its parameters are those of the published network (arXiv 1409.1556)
VGG_19 = {"params": 143_667_240}
COUNT_EXPORTED = """
import json, pathlib, sys
from tools.tf1 import counts, graphs
for path in map(pathlib.Path, sys.argv[1:]):
    graph_def = graphs.read(path)
    flops = sum(counts.count_by_node(graphs.load(graph_def, path)).values())
    variables = graphs.variables(graph_def)
    print(json.dumps({"variables": variables, "params": counts.params(graph_def), "flops": flops}))
"""


@pytest.fixture(scope="module")
def counted(tf1: Run, tool_python: Callable[[str], Path]) -> dict[str, dict[str, Any]]:
    """Count in the exported graphs of all tables; without weights, of which VGG has half a gigabyte."""
    graphs = [tf1("export", name, {}, **zoo_row(name))["graph"] for name in TABLES]
    argv = [tool_python("tf1"), "-c", COUNT_EXPORTED, *graphs]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(zip(TABLES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("model", TABLES)
def test_tables_are_the_networks_that_their_names_promise(
    model: str, counted: dict[str, dict[str, Any]]
) -> None:
    expected = {**NETWORKS, "vgg_19": VGG_19}[model]
    assert (
        counted[model].items()
        >= {key: value for key, value in expected.items() if key in ("variables", "params", "flops")}.items()
    )


@pytest.mark.parametrize("model", NETWORKS)
def test_the_zoo_has_the_same_row(model: str) -> None:
    params, row = zoo.find(model).params, NETWORKS[model]
    keys = ("image_size", "channels", "labels_offset")
    assert {"labels_offset": 0, **params}.items() >= {key: row[key] for key in keys}.items()
    assert params["classes"] == 1001 - row["labels_offset"]


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


COUNT = """
import json, sys
from tools.tf1 import counts, networks
graph = networks.inference_graph(sys.argv[1], 1.0, int(sys.argv[2]), 3, 1001)
operations = {operation.name: operation for operation in graph.get_operations()}
by_node = counts.count_by_node(graph).items()
macs = sum(count for name, count in by_node if operations[name].type in counts.MULTIPLY_ADDS) // 2
halving = [name for name in operations if name.endswith("path1_pool")]  # of the stem, and of cell_0, first
cell = halving[2]
read = operations[cell].inputs[0].op.inputs[0].op.name
print(json.dumps([counts.params(graph.as_graph_def()), macs, f"{cell} reads {read}"]))
"""


@pytest.mark.parametrize(
    ("network", "image_size", "params", "macs", "wiring"),
    [
        ("nasnet_large", 331, 88_753_150 + 4033, 23.8e9, "cell_6/path1_pool reads cell_4/cell_output"),
        ("pnasnet_large", 331, 86_057_668 + 4321, 25.0e9, "cell_5/path1_pool reads cell_3/cell_output"),
        ("pnasnet_mobile", 224, 5.1e6, 588e6, "cell_4/path1_pool reads cell_2/cell_output"),
    ],
)
def test_published_networks_that_the_table_lacks(
    tool_python: Callable[[str], Path], network: str, image_size: int, params: float, macs: float, wiring: str
) -> None:
    """Parameters (of 1000 classes, without auxiliary head) are those of independent definitions: Keras for
    NASNet, osmr/imgclsmob for both large ones. NASNet's multiply-adds are those of TF-Slim's README.
    PNASNet's, and its 5.1 M parameters, were written down as the paper's without the paper at hand.
    """
    command = [tool_python("tf1"), "-c", COUNT, network, str(image_size)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found_params, found_macs, found_wiring = json.loads(printed)
    assert found_params == pytest.approx(params, rel=0 if network.endswith("large") else 0.01)
    assert found_macs == pytest.approx(macs, rel=0.004)
    assert found_wiring == wiring
