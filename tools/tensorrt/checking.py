"""Would TensorRT's parser take the network? Its operators against the table of a version, without TensorRT.

Beside the operator's name these restrictions of the table are looked at: zero points of QDQ (0, of int8),
the output `Indices` of MaxPool, and the lowest and highest opset. What else it restricts only the parser
finds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, List

from tools.stage import InvalidRequest, write_json
from tools.tensorrt import operators, versions

SCHEMA = 1  # 1: first version
DOMAINS = ("", "ai.onnx")
QDQ = ("QuantizeLinear", "DequantizeLinear")


def check(model: Any) -> Dict[str, Any]:
    """Return what each version of the table would not take of a loaded ONNX model.

    Returns:
        opset, nodes: of the network.
        versions: `8.2` -> problems: node, operator, why, rewrite; none means that it takes it.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=0)
    nodes = list(_nodes(model.graph))
    unsigned = _unsigned(model.graph)
    found = {
        ".".join(map(str, version)): _problems(version, nodes, opset, unsigned)
        for version in operators.OPERATORS
    }
    return {"schema": SCHEMA, "opset": opset, "nodes": len(nodes), "versions": found}


def write(path: Path, found: Dict[str, Any]) -> None:
    """Write what `check` found."""
    write_json(path, found)


def problems(path: Path, version: versions.Version) -> List[Dict[str, str]]:
    """Return the problems of a version of TensorRT, of the file that `write` wrote.

    Raises:
        InvalidRequest: it is not such a file.
    """
    try:
        listed: List[Dict[str, str]] = json.loads(path.read_text())["versions"][table_name(version)]
    except (ValueError, LookupError, TypeError) as error:
        message = f"{path.name} is not what tensorrt.check writes"
        raise InvalidRequest(message, hint="Make it again with tensorrt.check.") from error
    return listed


def table_name(version: versions.Version) -> str:
    """Return the name of the table's version that holds for a version of TensorRT."""
    return ".".join(map(str, operators.table(version)))


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the graph's nodes, and those of the graphs in their attributes (If, Loop, Scan)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _unsigned(graph: Any) -> frozenset[str]:
    """Return the names of constants of uint8."""
    from onnx import TensorProto

    return frozenset(tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.UINT8)


def _problems(
    version: tuple[int, int], nodes: List[Any], opset: int, unsigned: frozenset[str]
) -> List[Dict[str, str]]:
    known, found = operators.supported(version), []
    for node in nodes:
        why = _why(node, known, unsigned)
        if why:
            rewrite = operators.REWRITES.get(node.op_type, "") if node.op_type not in known else ""
            name = node.name or (node.output[0] if node.output else "")
            found.append({"node": name, "operator": node.op_type, "why": why, "rewrite": rewrite})
    if opset > operators.MAX_OPSET[version]:
        why = f"opset {opset}, and the parser knows {operators.MAX_OPSET[version]} at most"
        found.append({"node": "", "operator": "", "why": why, "rewrite": "Export with an older opset."})
    return found


def _why(node: Any, known: frozenset[str], unsigned: frozenset[str]) -> str:
    if node.domain not in DOMAINS:
        return f"of the domain {node.domain}, of which the parser has none without a plug-in"
    if node.op_type not in known:
        return "the parser does not know it"
    if node.op_type in QDQ and len(node.input) > 2 and node.input[2] in unsigned:
        return "its zero point is of uint8; the parser takes int8 and zero"
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        return "its output Indices is not supported"
    return ""
