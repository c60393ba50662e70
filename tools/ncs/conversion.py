"""From a network to a blob that is known to be right as far as that can be known without a stick."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

from tools import myriad_blob
from tools.myriad_blob import CHIPS, Blob
from tools.ncs import compiler, inference_engine, nodes, stage_plan
from tools.ncs.compiler import Options
from tools.ncs.nodes import Node
from tools.stage import Result, StageError, Unsupported, progress, write_json

# Operators that multiply matrices. A plan with fewer layers of that kind would be one of another network.
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution")
MOST_NAMES = 5  # in a message; the error's metadata has all
MULTIPLYING_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "GEMM", "Gemm")


def check(path: Path, weights: Optional[Path]) -> dict[str, Any]:
    """Return whether a network compiles for a Myriad X, and if not why, and which nodes it cannot have.

    Raises:
        Unsupported, InvalidRequest: it cannot be read.
    """
    core, network, source = _read(path, weights)
    options = Options("2480")
    found = {"chip": options.chip, "nodes": len(source), "compiles": True, "unsupported_layers": []}
    with tempfile.TemporaryDirectory() as folder:
        try:
            _compile(core, network, source, options, Path(folder, "blob"))
        except Unsupported as error:
            found.update(error.metadata["compiled"], compiles=False, reason=str(error))
    return found


def convert(path: Path, weights: Optional[Path], options: Options, blob: Path, plan: Path) -> Result:
    """Compile a network, check what came out, and write `blob` and `plan`.

    Raises:
        Unsupported: the chip has no layer for a node; `compiled` in the error's metadata says for which.
        InvalidRequest: an option makes no sense, or the file is no network.
    """
    options.check()
    core, network, source = _read(path, weights)
    graph = _compile(core, network, source, options, blob)
    about = myriad_blob.read(blob)
    made = stage_plan.parse(graph, source)
    _verify(made, about, network, source, options)
    write_json(plan, made)
    return Result(
        metrics={"size_bytes": about.size_bytes},
        metadata={"precision": "fp16", "compiled": _describe(made, about, source, options)},
    )


def _read(path: Path, weights: Optional[Path]) -> tuple[Any, Any, list[Node]]:
    """Return core, network, and the nodes of its file."""
    core = inference_engine.core()
    try:
        return core, inference_engine.read_network(core, path, weights), nodes.read(path)
    except Unsupported as error:
        unknown = [node for node in nodes.read(path) if re.search(rf"\b{node.operator}\b", str(error))]
        if not unknown:
            raise
        message = f"{error}: {_list(unknown)}"
        raise Unsupported(message, hint=error.hint) from error


def _compile(core: Any, network: Any, source: list[Node], options: Options, blob: Path) -> str:
    """Compile; on failure name the nodes of the network that the chip has no layer for.

    The compiler names one layer. The plug-in has a list of what it takes, which leaves out nodes that the
    compiler rewrites and then takes (a subtraction in a BERT). So it only adds to what the compiler says, and
    only operators that it takes nowhere.
    """
    compiler.prepare(network, options)
    progress(0.2, f"compiling for {CHIPS[options.chip]}")
    try:
        return compiler.compile_network(core, network, options, blob)
    except Unsupported as error:
        with inference_engine.known_errors("the plug-in does not say what it takes"):
            taken = core.query_network(network, inference_engine.PLUGIN)
        layer = error.metadata.get("layer")
        first = [node for node in source if layer in node.layers]
        known = {node.operator for node in source if taken.keys() >= set(node.layers)}
        others = [node for node in source if node not in first and node.operator not in known]
        message = f"{error}, for {_list(first) or layer}" if layer else str(error)
        if others:
            message += f"; by the plug-in's own list it also has none for {_list(others)}"
        layers = [{"node": node.name, "operator": node.operator} for node in [*first, *others]]
        about = {"compiled": {"chip": options.chip, "unsupported_layers": layers}}
        hint = "Replace these nodes, or end the network before them."
        raise Unsupported(message, hint=hint, metadata=about) from error


def _list(found: Sequence[Node]) -> str:
    names = [f"{node.name} ({node.operator})" for node in found[:MOST_NAMES]]
    return ", ".join(names) + (f" and {len(found) - MOST_NAMES} more" if found[MOST_NAMES:] else "")


def _describe(made: dict[str, Any], about: Blob, source: list[Node], options: Options) -> dict[str, Any]:
    """Return what a record and the report say of a compiled network."""
    fused = set(made["fused_nodes"])
    operators = collections.Counter(node.operator for node in source if node.name in fused)
    return {
        "chip": options.chip,
        "shaves": about.shaves,
        "cmx_slices": about.cmx_slices,
        "streams": options.used_streams,
        "input_type": options.input_type,
        "stages": about.stages,
        **stage_plan.summary(made),
        "memory_bytes": made["memory_bytes"],
        "blob_bytes": about.size_bytes,
        "nodes": len(source),
        "fused_nodes": dict(operators.most_common()),
        "unsupported_layers": [],
    }


def _verify(
    made: dict[str, Any], about: Blob, network: Any, source: Iterable[Node], options: Options
) -> None:
    """Raise StageError if blob, plan, network and options do not belong together in every respect."""
    inputs = {
        name: (described.precision, tuple(described.input_data.shape))
        for name, described in network.input_info.items()
    }
    outputs = {
        name: (described.precision, tuple(described.shape)) for name, described in network.outputs.items()
    }
    pairs = {
        "inputs": ({tensor.name: (tensor.precision, tensor.shape) for tensor in about.inputs}, inputs),
        "outputs": ({tensor.name: (tensor.precision, tensor.shape) for tensor in about.outputs}, outputs),
        "SHAVE processors and CMX slices": ((about.shaves, about.cmx_slices), options.units),
        "convolution engines": (about.has_hw and options.chip == "2450", False),
    }
    wrong = [
        f"{what}: {found} instead of {asked}" for what, (found, asked) in pairs.items() if found != asked
    ]
    wrong += stage_plan.disagreements(made, about)
    layers = {stage["layer"] for stage in made["stages"] if stage["layer_type"] in MULTIPLYING_LAYERS}
    wanted = sum(node.operator in MULTIPLYING for node in source)
    if len(layers) < wanted:
        wrong += [f"{len(layers)} layers that multiply matrices instead of {wanted}"]
    if wrong:
        message = f"the compiler made something else than was asked for: {'; '.join(wrong)}"
        raise StageError(message, hint="Please report it, with the network.")
