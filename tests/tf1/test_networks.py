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
import sys
from tools.tf1 import counts, graphs, networks
for network, size in zip(sys.argv[1::2], sys.argv[2::2]):
    graph = networks.inference_graph(network, 1.0, int(size), 3, 1001)
    definition = graph.as_graph_def()
    operations = {operation.name: operation.type for operation in graph.get_operations()}
    by_node = counts.count_by_node(graph).items()
    macs = sum(count for name, count in by_node if operations[name] in counts.MULTIPLY_ADDS) // 2
    print(network, len(graphs.variables(definition)), counts.params(definition), macs)
"""


def test_searched_networks_that_the_table_lacks(tool_python: Callable[[str], Path]) -> None:
    """Multiply-adds are the papers'. Parameters, without auxiliary head, are those of two independent
    definitions (Keras for NASNet, osmr/imgclsmob for both large ones), and Keras has as many variables.
    """
    command = [tool_python("tf1"), "-c", COUNT]
    command += ["nasnet_large", "331", "pnasnet_large", "331", "pnasnet_mobile", "224"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {
        network: [int(count) for count in counts] for network, *counts in map(str.split, printed.splitlines())
    }
    large, progressive, mobile = (found[name] for name in ("nasnet_large", "pnasnet_large", "pnasnet_mobile"))
    another_class = 4032 + 1, 4320 + 1  # they have 1000 classes
    assert large[:2] == [1546, 88_753_150 + another_class[0]]
    assert progressive[1] == 86_057_668 + another_class[1]
    assert round(mobile[1] / 1e6, 1) == 5.1
    macs = [network[2] for network in (large, progressive, mobile)]
    assert macs == pytest.approx([23.8e9, 25.0e9, 588e6], rel=0.004)
