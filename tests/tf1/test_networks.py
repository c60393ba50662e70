"""Every network is the one that its name promises: variables, parameters, operations."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tf1.conftest import NETWORKS, Prepared, Run, pick, zoo_row

pytestmark = pytest.mark.tool

MODELS = [
    "squeezenet",
    "alexnet_v2",
    "mobilenet_v1_0.5",
    "mobilenet_v1_1.0",
    "mobilenet_v2_1.0",
    "mobilenet_v2_1.3",
    "mobilenet_v2_1.4",
    "nasnet_mobile",
]


@pytest.mark.parametrize("model", MODELS)
def test_variables_parameters_and_operations(model: str, prepared: Prepared, tf1: Run) -> None:
    made = prepared(model)
    with np.load(made["weights"]) as weights:
        assert {name: list(weights[name].shape) for name in weights.files} == NETWORKS[model]["variables"]

    counted = tf1("flops", model, pick(made, ("graph", "frozen", "signature")))
    metrics = counted["result"].metrics
    assert metrics["params"] == NETWORKS[model]["params"]
    assert metrics["flops"] == NETWORKS[model]["flops"]

    table = json.loads(counted["table"].read_text())
    assert sum(node["flops"] for node in table["nodes"]) == metrics["inference_flops"] < metrics["flops"]
    assert metrics["macs"] < metrics["inference_flops"] / 2 < metrics["macs"] * 1.02


def test_a_small_mobilenet_v2_keeps_its_last_layer(tf1: Run, prepared: Prepared) -> None:
    with np.load(prepared("mobilenet_v2_0.35")["weights"]) as weights:
        assert weights["MobilenetV2/Conv/weights"].shape == (3, 3, 3, 16)  # 11.2, rounded up: 8 is too few
        assert weights["MobilenetV2/Conv_1/weights"].shape == (1, 1, 112, 1280)


def test_the_signature_says_where_to_connect(prepared: Prepared) -> None:
    assert json.loads(prepared("squeezenet")["signature"].read_text()) == {
        "input": "input",
        "output": "output",
        "input_shape": [1, 224, 224, 3],
        "output_shape": [1, 1001],
        "output_kind": "probabilities",
    }


def test_another_image_size(tf1: Run) -> None:
    made = tf1("export", "m", {}, **{**zoo_row("mobilenet_v1_1.0"), "image_size": 96, "classes": 10})
    signature = json.loads(made["signature"].read_text())
    assert (signature["input_shape"], signature["output_shape"]) == ([1, 96, 96, 3], [1, 10])


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
    NASNet, osmr/imgclsmob for both large ones. Multiply-adds, and 5.1 M parameters, are the papers'.
    """
    command = [tool_python("tf1"), "-c", COUNT, network, str(image_size)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found_params, found_macs, found_wiring = json.loads(printed)
    assert found_params == pytest.approx(params, rel=0 if network.endswith("large") else 0.01)
    assert found_macs == pytest.approx(macs, rel=0.004)
    assert found_wiring == wiring
