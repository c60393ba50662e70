"""Every network is the one that its name promises: variables, parameters, operations."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import zoo
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
    assert metrics["macs"] < metrics["inference_flops"] / 2 < metrics["macs"] * 1.01


TABLES = [name for name in zoo.names() if zoo.find(name).table]
# vgg_19 is not in networks.json; its parameters are those of the published network (arXiv 1409.1556)
VGG_19 = {"params": 143_667_240}
COUNT = """
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
    argv = [tool_python("tf1"), "-c", COUNT, *graphs]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
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
    if model in NETWORKS:
        params, row = zoo.find(model).params, NETWORKS[model]
        assert params["classes"] == 1001 - row["labels_offset"]
        assert (params["image_size"], params["channels"]) == (row["image_size"], row["channels"])


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
