"""The plan of a compiled network: the stages that the chip executes, in order, and the memory that they take.

The compiler writes it as a graph for Graphviz (MYRIAD_DUMP_INTERNAL_GRAPH_FILE_NAME) whose labels are lines
that end in `\\l`; vpu/utils/dot_io.hpp of OpenVINO 2021.4 says how.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.myriad_blob import Blob
from tools.ncs.nodes import Node, by_layer
from tools.stage import InvalidRequest

HW_STAGE = "MyriadXHwOp"  # runs on the convolution engines, not on SHAVE processors
STAGE = re.compile(r'label="\[(-?\d+) / (\d+)\] Stage (.*?)\\ltype = (\w+)\\l(.*?)"\n', re.DOTALL)
LAYER = re.compile(r"origLayer = \[\\l *name = (.*?)\\l *type = (\w+)\\l")
SHAVES = re.compile(r"numSHAVEs = (\d+)\\l")
HW_OPERATION = re.compile(r"hwOpType = (\w+)\\l")
PLACES = ("BSS", "CMX", "blob", "input", "output")
MEMORY = re.compile(r"usedMemory = \[" + "".join(rf"\\l *{place} = (\d+)" for place in PLACES))
ADDRESS = re.compile(r"-for-0x[0-9a-f]+")  # of the compiler's own objects: another one each time
COUNTER = re.compile(r"_\d+$")  # of layers without a name: how many the process has made before


def parse(dot: str, nodes: Iterable[Node]) -> dict[str, Any]:
    """Return the plan from the compiler's graph: `stages` in the order of execution, and `memory_bytes`.

    A stage has `step` (stages of one step run at the same time), `name`, `type`, `hw` (the operation of the
    convolution engines, or null), `shaves`, `layer` and `layer_type` (the plug-in's), and `node` (the source
    network's, or null where the compiler has added something). `fused_nodes` are those that the
    compiler has fused into others, or found to be nothing but another view of memory.
    """
    nodes = list(nodes)
    known = by_layer(nodes)
    found = [
        (int(step), int(index), _stage(name, kind, rest, known))
        for step, index, name, kind, rest in STAGE.findall(dot)
        if int(step) >= 0  # the others arrange memory at compile time
    ]
    stages = [{"step": step, **stage} for step, _, stage in sorted(found, key=lambda row: row[:2])]
    memory = dict(zip(map(str.lower, PLACES), map(int, MEMORY.search(dot).groups())))
    staged = {stage["node"] for stage in stages}
    fused = [node.name for node in nodes if node.name not in staged]
    return {"memory_bytes": memory, "fused_nodes": fused, "stages": stages}


def read(path: Path, blob: Blob) -> dict[str, Any]:
    """Return the plan that `convert` has written, of this blob.

    Raises:
        InvalidRequest: it is no plan, or that of another blob.
    """
    try:
        plan: dict[str, Any] = json.loads(path.read_text())
        differences = disagreements(plan, blob)
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path.name} is not a plan that ncs.convert has written"
        raise InvalidRequest(message, hint="Convert the network again, with ncs.convert.") from error
    if differences:
        message = f"{path.name} is the plan of another blob: {differences[0]}"
        raise InvalidRequest(message, hint="Give the two files of one conversion.")
    return plan


def disagreements(plan: Mapping[str, Any], blob: Blob) -> list[str]:
    """Say in what a plan and a blob differ; of one conversion they do in nothing."""
    steps, memory = {stage["step"] for stage in plan["stages"]}, plan["memory_bytes"]
    pairs = {
        "steps": (len(steps), blob.stages),
        "bytes of working memory": (memory["bss"], blob.bss_bytes),
        "bytes of input": (memory["input"], blob.input_bytes),
        "bytes of output": (memory["output"], blob.output_bytes),
        "has stages on the convolution engines": (summary(plan)["hw_stages"] > 0, blob.has_hw),
    }
    return [f"{what}: {mine} and {its}" for what, (mine, its) in pairs.items() if mine != its]


def summary(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts of a plan's stages: all, by type, and those on the convolution engines."""
    types = collections.Counter(stage["type"] for stage in plan["stages"])
    return {"hw_stages": types[HW_STAGE], "stage_types": dict(types.most_common())}


def table(plan: Mapping[str, Any]) -> str:
    """Return the plan as text for a person: a line for each stage, then the totals."""
    rows = [("step", "stage", "SHAVEs", "node of the network")]
    for stage in plan["stages"]:
        what = f"{stage['type']} {stage['hw'] or ''}".strip()
        rows.append(
            (str(stage["step"]), what, str(stage["shaves"] or "-"), stage["node"] or f"({stage['name']})")
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows]
    counted = ", ".join(f"{count} {kind}" for kind, count in summary(plan)["stage_types"].items())
    memory = ", ".join(f"{where} {size / 2**20:.2f} MiB" for where, size in plan["memory_bytes"].items())
    return "\n".join([*lines, "", f"stages: {counted}", f"memory: {memory}"])


def _stage(name: str, kind: str, rest: str, known: Mapping[str, Node]) -> dict[str, Any]:
    layer = LAYER.search(rest)
    operation = HW_OPERATION.search(rest)
    layer_name = layer[1] if layer else ""
    node = known.get(layer_name) or known.get(layer_name.rpartition("/")[0])  # a part of one: mean:0/pool
    if layer_name and not node:
        name = name.replace(layer_name, COUNTER.sub("", layer_name))
        layer_name = COUNTER.sub("", layer_name)
    return {
        "name": ADDRESS.sub("", name),
        "type": kind,
        "hw": operation[1] if operation else None,
        "shaves": int(SHAVES.search(rest)[1]),
        "layer": layer_name or None,
        "layer_type": layer[2] if layer else None,
        "node": node.name if node else None,
    }
