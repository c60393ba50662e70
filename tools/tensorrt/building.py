"""An engine of a network, for the GPU and the TensorRT that are here, and what is known of it.

Beside the engine a JSON file says what it was built on, of and for; so that a measurement needs neither to
open the network again nor to trust that the engine is of this place.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

from tools import onnx_models
from tools.stage import InvalidRequest, StageError, progress, write_json
from tools.tensorrt import bindings, checking, failures, places, ranges, trtexec, versions

SCHEMA = 1  # 1: first version
PLACE = ("tensorrt", "gpu", "compute_capability", "machine")  # what an engine depends on
# How TensorRT names the types of tensors, which differs by version.
TYPES = {"fp32": r"FP32|Float\b", "fp16": r"FP16|Half\b", "int8": r"(?i:int8)"}
# Layers that only turn one type into another, or change a layout.
RETYPING = ("Reformat", "Constant", "Shuffle", "NoOp", "Reshape", "Signal", "Wait")
LISTED = 8  # warnings of the builder that are kept


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be built; `dla_core` -1: the GPU alone; `ranges`: of tensorrt.calibrate, for int8."""

    onnx: Path
    gpu: Path
    check: Path
    precision: str
    workspace_mib: int
    dla_core: int
    ranges: Optional[Path] = None


def build(order: Order, engine: Path, built: Path) -> Dict[str, Any]:
    """Build the engine and write what is known of it; return that.

    Raises:
        Unsupported: an operator that TensorRT's parser does not take, or a precision that it has not.
        DeviceNotFound: no GPU, or no such DLA.
        StageError: the builder failed, e.g. without memory.
    """
    if order.workspace_mib < 1:
        message = f"workspace_mib is {order.workspace_mib}"
        raise InvalidRequest(message, hint="Give the builder's memory in MiB, e.g. 1024.")
    place = read_place(order.gpu)
    require_place(place, place["api"])
    version = versions.parse(place["tensorrt"])
    inputs = _inputs(onnx_models.read(order.onnx), version)
    layers = engine.with_name("layers.json")
    table = engine.with_name("calibration.cache") if order.ranges else None
    if order.ranges and table:
        table.write_text(ranges.cache(order.ranges, version))
    progress(0.05, f"TensorRT {place['tensorrt']} builds for {place['gpu']}; this takes minutes on a board")
    begun = time.monotonic()
    try:
        if place["api"] == places.PYTHON:
            found = bindings.build(order, engine, layers, table)
        else:
            found = _by_trtexec(order, version, engine, layers, table)
    except StageError as error:
        error.metadata = {**place, "checked": checking.problems(order.check, version), **error.metadata}
        raise
    said = {
        "schema": SCHEMA,
        **{key: value for key, value in place.items() if key != "api"},
        "built_by": place["api"],
        "precision": order.precision,
        "dla_core": order.dla_core,
        "workspace_mib": order.workspace_mib,
        "tf32": False,
        "calibrated": bool(order.ranges),
        "build_s": round(time.monotonic() - begun, 3),
        "inputs": inputs,
        "layers": _layers(layers) if layers.exists() else {},
        "dla_layers": found["dla_layers"],
        "gpu_layers": found["gpu_layers"],
        "warnings": _warnings(found["warnings"], order, found),
    }
    write_json(built, said)
    return said


def _by_trtexec(
    order: Order, version: versions.Version, engine: Path, layers: Path, table: Optional[Path]
) -> Dict[str, Any]:
    options = versions.build_options(version, order.precision, order.workspace_mib, order.dla_core)
    if versions.can_explain_layers(version):
        options.append(f"--exportLayerInfo={layers}")
    if table:
        options.append(f"--calib={table}")
    return trtexec.call([f"--onnx={order.onnx}", f"--saveEngine={engine}", *options])


def read_place(path: Path) -> Dict[str, Any]:
    """Return what tensorrt.gpu wrote of the GPU and the TensorRT.

    Raises:
        InvalidRequest: it is not such a file.
    """
    return _read(path, (*PLACE, "api"), "tensorrt.gpu")


def read(path: Path) -> Dict[str, Any]:
    """Return what is known of an engine.

    Raises:
        InvalidRequest: it is not such a file.
    """
    return _read(path, (*PLACE, "inputs", "precision", "dla_core"), "tensorrt.build")


def require_place(place: Dict[str, Any], api: str, what: str = "the stored look at the GPU") -> None:
    """Raise InvalidRequest if `place` is another than where this runs: an engine is never used elsewhere.

    `api` is by what TensorRT is driven, which is asked.
    """
    here = places.describe(api)
    other = [f"{here[key]} and not {place[key]}" for key in PLACE if here[key] != place[key]]
    if other:
        message = f"{what} is of another place: here is {', '.join(other)}"
        raise InvalidRequest(message, hint=failures.REBUILD)


def _read(path: Path, keys: tuple[str, ...], maker: str) -> Dict[str, Any]:
    try:
        data = json.loads(path.read_text())
        return {**data, **{key: data[key] for key in keys}}
    except (ValueError, LookupError, TypeError) as error:
        message = f"{path.name} is not what {maker} writes"
        raise InvalidRequest(message, hint=f"Make it again with {maker}.") from error


def _inputs(model: Any, version: versions.Version) -> Dict[str, Dict[str, Any]]:
    """Return the engine's inputs: shape, and type as NumPy names it; TensorRT before 10 makes int64 int32."""
    from onnx import helper

    shapes = onnx_models.input_shapes(model)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    found = {}
    for name, shape in shapes.items():
        kind = str(helper.tensor_dtype_to_np_dtype(kinds[name]))
        if kind == "int64" and version < (10, 0, 0):
            kind = "int32"
        found[name] = {"shape": list(shape), "type": kind}
    return found


def _layers(path: Path) -> Dict[str, int]:
    """Count the engine's layers by the type of their output, of what --exportLayerInfo wrote."""
    try:
        listed = json.loads(path.read_text())["Layers"]
    except (ValueError, LookupError, TypeError):
        return {}
    kinds = [_kind(layer) for layer in listed if isinstance(layer, dict)]
    return dict(Counter(kind for kind in kinds if kind))


def _kind(layer: Dict[str, Any]) -> str:
    if layer.get("LayerType") in RETYPING or not layer.get("Outputs"):
        return ""
    said = str(layer["Outputs"][0].get("Format/Datatype", ""))
    return next((name for name, pattern in TYPES.items() if re.search(pattern, said)), "")


def _warnings(said: List[str], order: Order, found: Dict[str, Any]) -> List[str]:
    """Return what a reader should know: what is not on the DLA, and the builder's own warnings, once."""
    fallback = []
    if order.dla_core >= 0 and found["gpu_layers"]:
        text = (
            f"{found['gpu_layers']} layers are on the GPU, {found['dla_layers']} parts on the DLA: fallback."
        )
        fallback.append(text)
    own = list(dict.fromkeys(f"TensorRT's builder: {line}" for line in said if len(line) > 3))
    return [*fallback, *own[:LISTED]]
