"""What a network is made of, node by node: names that a person knows from where it was trained.

The plug-in calls a layer by the tensor that it makes, so a layer of the stick is traced to its node by the
node's outputs. Read without the package `onnx`, which the image does without.

Sources of the formats: onnx.proto3 of ONNX (field numbers), protobuf's wire format (keys, varints), IR v10 of
OpenVINO (layers of the .xml).
"""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

GRAPH_OF_MODEL, NODE_OF_GRAPH = 7, 1
OUTPUT, NAME, OPERATOR = 2, 3, 4  # of a node
NO_WORK = ("Constant", "Const", "Parameter", "Result")


@dataclasses.dataclass(frozen=True)
class Node:
    """A node that computes: its name (or that of its first output), operator, and the layers' names of it."""

    name: str
    operator: str
    layers: tuple[str, ...]


def read(path: Path) -> list[Node]:
    """Return the nodes of an ONNX network or IR that `inference_engine.read_network` has read."""
    nodes = _of_ir(path) if path.suffix == ".xml" else _of_onnx(path)
    return [node for node in nodes if node.operator not in NO_WORK]


def by_layer(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the node of each layer's name that the plug-in may use."""
    return {layer: node for node in nodes for layer in node.layers}


def _of_ir(path: Path) -> Iterator[Node]:
    for layer in ET.parse(path).getroot().iter("layer"):
        yield Node(layer.attrib["name"], layer.attrib["type"], (layer.attrib["name"],))


def _of_onnx(path: Path) -> Iterator[Node]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for field, start, end in _fields(data, 0, len(data)):
            if field == GRAPH_OF_MODEL:
                for inner, node_start, node_end in _fields(data, start, end):
                    if inner == NODE_OF_GRAPH:
                        yield _node(data, node_start, node_end)


def _node(data: Any, start: int, end: int) -> Node:
    texts: dict[int, list[str]] = {OUTPUT: [], NAME: [], OPERATOR: []}
    for field, text_start, text_end in _fields(data, start, end):
        if field in texts:
            texts[field].append(data[text_start:text_end].decode())
    outputs = tuple(texts[OUTPUT])
    return Node("".join(texts[NAME]) or outputs[0], "".join(texts[OPERATOR]), outputs)


def _fields(data: Any, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields that have a length; pass over the others."""
    while offset < end:
        key, offset = _varint(data, offset)
        kind = key & 7
        if kind == 2:
            length, offset = _varint(data, offset)
            yield key >> 3, offset, offset + length
            offset += length
        elif kind == 0:
            _, offset = _varint(data, offset)
        else:
            offset += {1: 8, 5: 4}[kind]


def _varint(data: Any, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[offset]
        value |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return value, offset
