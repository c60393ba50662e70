"""Tables of layers: what they mean, and that a wrong one says which layer is wrong and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tf1.conftest import FREEZE, GENERATE, Run, blown_up, pick
from tools import layer_table
from tools.stage import InvalidRequest

SQUEEZED = [{"name": "pool", "op": "global_avg_pool"}, {"name": "logits", "op": "squeeze"}]


def conv(name: str, filters: Any = 8, kernel: Any = 3, **keys: Any) -> dict[str, Any]:
    return {"name": name, "op": "conv", "filters": filters, "kernel": kernel, **keys}


def names(*layers: dict[str, Any]) -> list[str]:
    return [layer.name for layer in layer_table.read(list(layers), "mine")]


def test_a_range_is_a_chain() -> None:
    layers = layer_table.read([conv("a"), conv("b"), conv("c{2..4}", input="a"), *JOIN], "mine")
    assert {layer.name: layer.inputs for layer in layers} == {
        "a": ("input",),
        "b": ("a",),
        "c2": ("a",),
        "c3": ("c2",),
        "c4": ("c3",),
        "sum": ("b", "c4"),
    }


JOIN = [{"name": "sum", "op": "add", "inputs": ["b", "c4"]}]


def test_layers_may_come_in_any_order() -> None:
    given = [conv("c", input="b"), conv("a", input="input"), conv("b", input="a")]
    assert names(*given) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([], "mine has no layers"),
        ("conv", "mine has no layers"),
        ([{"op": "conv"}], "mine has a layer without a name"),
        (["conv"], "mine has a layer without a name: conv"),
        ([{"name": "a"}], "layer 'a' lacks the key 'op'"),
        ([conv("a", op="attention")], "layer 'a' has no operation 'attention'. There are conv"),
        ([conv("a", op="con")], "layer 'a' has no operation 'con'. Did you mean conv?"),
        ([conv("a", op="Conv")], "layer 'a' has no operation 'Conv'. Did you mean conv?"),
        ([conv("a", filter=3)], "layer 'a' (conv) has no key 'filter'. Did you mean filters?"),
        ([{"name": "a", "op": "conv", "kernel": 3}], "layer 'a' (conv) lacks the key 'filters'"),
        ([conv("a", "many")], "layer 'a' (conv) has filters = \"many\". It has to be a whole number from 1"),
        ([conv("a", kernel=0)], "layer 'a' (conv) has kernel = 0."),
        ([conv("a", kernel=2.5)], "layer 'a' (conv) has kernel = 2.5."),
        ([conv("a", stride=True)], "layer 'a' (conv) has stride = true."),
        ([conv("a", 3.0)], "layer 'a' (conv) has filters = 3.0."),
        ([conv("A"), conv("a")], "mine has layers 'A' and 'a'. TensorFlow takes these for one name"),
        ([{"name": "b", "op": "block", "layers": [conv("A"), conv("a")]}], "mine has layers 'b/A' and 'b/a'"),
        ([{"name": "b", "op": "block", "layers": [conv("x")]}, conv("B/x")], "layers 'b/x' and 'B/x'"),
        (SQUEEZED, "mine has no weights"),
        ([{"name": "b", "op": "block", "layers": SQUEEZED}], "mine has no weights"),
        ([conv("a", padding="none")], 'has padding = "none". It has to be one of same, valid'),
        (
            [conv("a"), {"name": "b", "op": "add", "inputs": ["a", "input"], "activation": "relu7"}],
            "layer 'b' (add) has activation = \"relu7\". It has to be one of relu, relu6, sigmoid, tanh",
        ),
        ([conv("a"), conv("b"), conv("a")], "mine has two layers named 'a'"),
        ([conv("a{1..3}"), conv("a2")], "mine has two layers named 'a2'"),
        ([conv("a{3..1}")], "mine: layer 'a{3..1}' is a range of none"),
        ([conv("a{1..999999999}")], "or of more than 10000 layers"),
        ([conv("input")], "layer 'input' has the name of what goes into the table"),
        ([conv("a b")], "layer 'a b' cannot be called that"),
        ([conv("/a")], "layer '/a' cannot be called that"),
        ([conv("one"), conv("b", input="on")], "layer 'b' reads 'on', which is no layer. Did you mean one?"),
        ([conv("a", input=["input"])], "layer 'a' (conv) has input = "),
        ([conv("a"), {"name": "b", "op": "add"}], "layer 'b' (add) needs `inputs`"),
        ([conv("a"), {"name": "b{1..2}", "op": "add", "inputs": ["a", "input"]}], "each of a range reads"),
        ([conv("a", input="c"), conv("b"), conv("c")], "goes round in a circle: a -> b -> c -> a"),
        ([conv("a", input="a")], "goes round in a circle: a -> a"),
        ([conv("a"), conv("b"), conv("c", input="a")], "mine has 2 ends: nothing reads b, c"),
        ([{"name": "a", "op": "block", "layers": [conv("x", stride=0)]}], "mine: a: layer 'x' (conv) has"),
        ([{"name": "a", "op": "block", "layers": []}], "mine: a has no layers"),
        (
            [{"name": "a{1..9999}", "op": "block", "layers": [conv("b{1..9999}")]}],
            "mine has more than 10000 layers, those in blocks counted",
        ),
    ],
)
def test_wrong_tables(layers: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        layer_table.read(layers, "mine")
    assert said in error.value.one_line()


def mine(*layers: dict[str, Any], **params: Any) -> dict[str, Any]:
    table = {"scope": "Mine", "layers": list(layers)}
    return {"network": "mine", "image_size": 16, "channels": 3, "classes": 10, "table": table, **params}


@pytest.mark.tool
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            [conv("a", stride=4), conv("b", kernel=5, padding="valid"), *SQUEEZED],
            "mine: layer 'b' (conv) cannot take 4 x 4 x 8 (from a): its window is 5 x 5",
        ),
        (
            [conv("a"), {"name": "flat", "op": "flatten"}, conv("b")],
            "layer 'b' (conv) cannot take 2048 (from flat): it reads a map, not a vector",
        ),
        (
            [conv("a"), {"name": "fc", "op": "fully_connected", "units": "classes"}],
            "layer 'fc' (fully_connected) cannot take 16 x 16 x 8 (from a): it reads a vector, not a map",
        ),
        (
            [conv("a"), conv("b", stride=2), {"name": "join", "op": "concat", "inputs": ["a", "b"]}],
            "layer 'join' (concat) cannot take 16 x 16 x 8 (from a) and 8 x 8 x 8 (from b): ",
        ),
        (
            [conv("a"), conv("b", 1), {"name": "sum", "op": "add", "inputs": ["a", "b"]}],
            "layer 'sum' (add) cannot take 16 x 16 x 8 (from a) and 16 x 16 x 1 (from b): their shapes ",
        ),
        (
            [{"name": "one", "op": "block", "layers": [conv("a"), {"name": "flat", "op": "squeeze"}]}],
            "mine: one: layer 'flat' (squeeze) cannot take 16 x 16 x 8 (from a): Can not squeeze",
        ),
        ([conv("a")], "mine: its output, layer 'a', is 16 x 16 x 8 and not a vector of 10 classes"),
        ([conv("a", 9), *SQUEEZED], "mine: its output, layer 'logits', is 9 and not a vector of 10 classes"),
    ],
)
def test_impossible_shapes(tf1: Run, layers: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        tf1("export", "mine", {}, **mine(*layers))
    assert said in error.value.one_line()
    assert "{{node" not in error.value.one_line()


@pytest.mark.tool
def test_every_operation_in_one_network(tf1: Run) -> None:
    """A table that uses them all is built, gets weights, and its outputs tell inputs apart."""
    row = mine(
        conv("stem", stride=2, batch_norm=True, activation="relu6", stddev=0.1),
        {"name": "norm", "op": "lrn", "radius": 2},
        {"name": "filter", "op": "depthwise", "kernel": 3, "activation": "none"},
        {"name": "filter2", "op": "depthwise", "kernel": 3, "padding": "valid", "batch_norm": True},
        {"name": "left", "op": "max_pool", "kernel": 3, "stride": 1, "padding": "same"},
        {"name": "right", "op": "avg_pool", "kernel": 3, "stride": 1, "padding": "same", "input": "filter2"},
        {"name": "sum", "op": "add", "inputs": ["left", "right"], "activation": "relu"},
        {"name": "mean", "op": "average", "inputs": ["left", "right"]},
        {"name": "both", "op": "concat", "inputs": ["sum", "mean"]},
        {
            "name": "block{1..2}",
            "op": "block",
            "layers": [conv("a"), conv("b", 16, activation="tanh"), RESIDUAL],
        },
        {"name": "pool", "op": "global_avg_pool"},
        {"name": "flat", "op": "flatten"},
        {"name": "hidden", "op": "fully_connected", "units": 20, "activation": "sigmoid"},
        {"name": "out", "op": "fully_connected", "units": "classes", "activation": "none"},
    )
    used = {layer["op"] for layer in row["table"]["layers"]}
    assert used == layer_table.OPERATIONS.keys() - {"squeeze"}
    made = tf1("export", "mine", {}, **row)
    made |= tf1("generate-weights", "mine", pick(made, GENERATE), table=row["table"])
    made |= tf1("freeze", "mine", pick(made, FREEZE), text=True)
    found = tf1("reference", "mine", pick(made, ("frozen", "signature")))
    assert found["result"].metrics["output_spread"] > 1e-3
    text = made["frozen_text"].read_text()
    for name in ("Mine/block2/a/weights", "Mine/filter/depthwise_weights", "Mine/hidden/biases"):
        assert f'name: "{name}"' in text


RESIDUAL = {"name": "sum", "op": "add", "inputs": ["b", "input"]}


@pytest.mark.tool
@pytest.mark.parametrize(("blocks", "scaled"), [(2, False), (16, True)])
def test_weights_of_a_deep_network_leave_no_class_alone(tf1: Run, blocks: int, scaled: bool) -> None:
    """Each residual block adds to the scale; unscaled, 16 of them give probability 1 to one class."""
    block = [conv("a", batch_norm=True), conv("b", activation="none", batch_norm=True), RESIDUAL]
    row = mine(
        conv("stem"),
        {"name": f"block{{1..{blocks}}}", "op": "block", "layers": block},
        {"name": "pool", "op": "global_avg_pool"},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "fully_connected", "units": "classes", "activation": "none"},
        image_size=32,
        classes=1001,
    )
    made = tf1("export", "mine", {}, **row)
    made |= tf1("generate-weights", "mine", pick(made, GENERATE), table=row["table"])
    assert (made["result"].metadata["logits_scale"] != 1) is scaled
    made |= tf1("freeze", "mine", pick(made, FREEZE))
    metrics = tf1("reference", "mine", pick(made, ("frozen", "signature")))["result"].metrics
    assert 0.003 < metrics["top1_value_max"] < 0.9
    assert metrics["top1_margin_min"] > 1e-3


@pytest.mark.tool
def test_a_long_chain_does_not_blow_up_a_rounding(tf1: Run, tmp_path: Path) -> None:
    """As AlexNet with 38 convolutions did: every backend was off by some tenths of a percent, none wrong."""
    row = mine(
        conv("stem"),
        conv("conv{1..40}", 32),
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "fully_connected", "units": "classes", "activation": "none"},
    )
    made = tf1("export", "mine", {}, **row)
    made |= tf1("generate-weights", "mine", pick(made, GENERATE), table=row["table"])
    assert made["result"].metadata["deep"]
    made |= tf1("freeze", "mine", pick(made, FREEZE))
    assert 0 < blown_up(tf1, pick(made, ("frozen", "signature")), tmp_path) < 3e-4


@pytest.mark.tool
@pytest.mark.parametrize("text", ["layers", "[]", "{}", '{"scope": "x"}'])
def test_a_file_that_is_no_table(tf1: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "layers.json").write_text(text)
    params = {key: value for key, value in mine().items() if key != "table"}
    with pytest.raises(InvalidRequest, match="not JSON with the keys scope and layers"):
        tf1("export", "mine", {"layers": tmp_path / "layers.json"}, **params)
