"""From a network to a blob that is known to be right as far as that can be known without a stick."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from tools import myriad_blob
from tools.myriad_blob import CHIPS, Blob
from tools.ncs import compiler, inference_engine, nodes, stage_plan
from tools.ncs.compiler import Options
from tools.ncs.nodes import Node
from tools.stage import Result, StageError, Unsupported, progress, write_json

# Operators with weights. A plan without a layer for each of them would be one of another network.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution")
WEIGHTED_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "GEMM", "Gemm")


def query(path: Path, weights: Optional[Path]) -> dict[str, Any]:
    """Return how many nodes a network has, and those that the stick has no layer for.

    Raises:
        Unsupported, InvalidRequest: as `inference_engine.read_network`.
    """
    core = inference_engine.core()
    network = inference_engine.read_network(core, path, weights)
    found = nodes.read(path)
    return {"nodes": len(found), "unsupported_layers": _unsupported(core, network, found)}


def convert(path: Path, weights: Optional[Path], options: Options, blob: Path, plan: Path) -> Result:
    """Compile a network, check what came out, and write `blob` and `plan`.

    Raises:
        Unsupported: the chip has no layer for a node; `compiled` in the error's metadata names all of them.
        InvalidRequest: an option makes no sense, or the file is no network.
    """
    options.check()
    core = inference_engine.core()
    network = inference_engine.read_network(core, path, weights)
    source = nodes.read(path)
    compiler.prepare(network, options)
    progress(0.2, f"compiling for {CHIPS[options.chip]}")
    try:
        graph = compiler.compile_network(core, network, options, blob)
    except Unsupported as error:
        raise _naming_nodes(error, _unsupported(core, network, source), options) from error
    about = myriad_blob.read(blob)
    made = {**stage_plan.parse(graph, source), "chip": options.chip, "streams": options.used_streams}
    _verify(made, about, network, source, options)
    write_json(plan, made)
    return Result(
        metrics={"size_bytes": about.size_bytes},
        metadata={"precision": "fp16", "compiled": _describe(made, about, source, options)},
    )


def _unsupported(core: Any, network: Any, source: Iterable[Node]) -> list[dict[str, str]]:
    with inference_engine.known_errors("the stick's plug-in does not say what it supports"):
        taken = core.query_network(network, inference_engine.PLUGIN)
    return [
        {"node": node.name, "operator": node.operator}
        for node in source
        if not taken.keys() >= set(node.outputs or [node.name])
    ]


def _naming_nodes(error: Unsupported, missing: list[dict[str, str]], options: Options) -> Unsupported:
    """Return the compiler's error, or one that names all nodes instead of the first, as the network does."""
    message = str(error)
    if missing:
        names = ", ".join(f"{found['node']} ({found['operator']})" for found in missing)
        message = f"{CHIPS[options.chip]} has no layer for {names}"
    about = {"compiled": {"chip": options.chip, "unsupported_layers": missing}}
    return Unsupported(message, hint="Replace these nodes, or end the network before them.", metadata=about)


def _describe(made: dict[str, Any], about: Blob, source: list[Node], options: Options) -> dict[str, Any]:
    """Return what a record and the report say of a compiled network."""
    staged = {stage["node"] for stage in made["stages"]}
    fused = collections.Counter(node.operator for node in source if node.name not in staged)
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
        "fused_nodes": dict(fused.most_common()),
        "unsupported_layers": [],
    }


def _verify(
    made: dict[str, Any], about: Blob, network: Any, source: Iterable[Node], options: Options
) -> None:
    """Raise StageError if blob, plan, network and options do not belong together in every respect."""
    inputs = {
        name: (options.input_type, tuple(described.input_data.shape))
        for name, described in network.input_info.items()
    }
    outputs = {
        name: (compiler.OUTPUT_TYPE, tuple(described.shape)) for name, described in network.outputs.items()
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
    layers = {stage["layer"] for stage in made["stages"] if stage["layer_type"] in WEIGHTED_LAYERS}
    weighted = [node for node in source if node.operator in WEIGHTED]
    if len(layers) < len(weighted):
        wrong += [f"{len(layers)} layers with weights instead of {len(weighted)}"]
    if wrong:
        message = f"the compiler made something else than was asked for: {'; '.join(wrong)}"
        raise StageError(message, hint="Please report it, with the network.")
