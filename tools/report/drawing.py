"""Draws a network on one page: a box for each layer, laid out in the browser, and a table of the same.

The layout is dagre, in JavaScript, as the Netron package carries it; it goes into the page whole, with its
licence, so that the page opens without a network. It runs in the browser because groups of layers open and
close there.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from tools.report import text
from tools.report.page import HERE, environment
from tools.stage import InvalidRequest

KINDS: Mapping[str, str] = {  # how an operator's box is coloured; the first that is in its name
    "Depthwise": "depthwise",
    "Conv": "product",
    "MatMul": "product",
    "Gemm": "product",
    "Einsum": "product",
    "Pool": "pool",
    "Mean": "pool",
    "Concat": "join",
    "Add": "join",
}
NEEDED = ("format", "params", "macs", "operations", "inputs", "outputs", "notes", "not_counted", "layers")


def read(content: str, name: str) -> dict[str, Any]:
    """Return the description of a network that `describe` of tf1 or onnx made.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        described = json.loads(content)
        missing = [key for key in NEEDED if key not in described]
    except (ValueError, TypeError):
        missing = list(NEEDED)
    if missing:
        message = f"{name} is not a description of a network: it lacks {', '.join(missing)}"
        raise InvalidRequest(message, hint="Make it with tf1.describe or onnx.describe.")
    return dict(described)


def page(described: Mapping[str, Any], title: str) -> str:
    """Return the page as HTML."""
    boxes = _boxes(described)
    layers = boxes[len(described["inputs"]) :]
    template = environment().get_template("drawing.html.j2")
    return template.render(
        title=title,
        network=described,
        layers=layers,
        css=Markup("\n".join((HERE / name).read_text("utf-8") for name in ("page.css", "drawing.css"))),
        # in a script element only `<` could end it
        data=Markup(json.dumps({"boxes": boxes}, separators=(",", ":")).replace("<", "\\u003c")),
        dagre=Markup(importlib.resources.files("netron").joinpath("dagre.js").read_text("utf-8")),
        script=Markup((HERE / "drawing.js").read_text("utf-8")),
    )


def _boxes(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn, inputs first; `inputs` of a box are positions in this list."""
    boxes = [
        {
            "name": text.tensor(value["name"]),
            "operation": "input",
            "kind": "end",
            "output": text.shape(value["shape"]),
            "inputs": [],
            "share": 0.0,
            "facts": [["shape", text.shape(value["shape"])]],
            "nodes": [],
        }
        for value in described["inputs"]
    ]
    keys = [value["name"] for value in described["inputs"]] + [layer["name"] for layer in described["layers"]]
    position = {key: index for index, key in enumerate(keys)}
    for layer in described["layers"]:
        boxes.append(
            {
                "name": layer["name"],
                "operation": layer["operation"],
                "kind": _kind(layer["operation"]),
                "output": text.shape(layer["output_shape"]),
                "inputs": [position[name] for name in layer["inputs"] if name in position],
                "share": layer["share"],
                "params": layer["params"],
                "macs": layer["macs"],
                "facts": _facts(layer),
                "nodes": layer["nodes"],
            }
        )
    return boxes


def _kind(operation: str) -> str:
    first = operation.partition(",")[0]
    return next((kind for word, kind in KINDS.items() if word in first), "other")


def _facts(layer: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["operation", layer["operation"]],
        ["input", ", ".join(map(text.shape, layer["input_shapes"]))],
        ["output", text.shape(layer["output_shape"])],
        ["parameters", f"{layer['params']:,}"],
        ["MACs", f"{layer['macs']:,} ({layer['share']:.1%} of all)"],
        ["operations", f"{layer['operations']:,}"],
    ]
