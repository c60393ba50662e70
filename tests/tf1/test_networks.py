"""Every network is the one that its name promises: variables, parameters, operations."""

from __future__ import annotations

import json

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
