"""At which layer do TensorRT's numbers part from ONNX Runtime's? Found by NVIDIA's Polygraphy, where it is.

Polygraphy builds an engine of which every layer's output can be read, runs it and ONNX Runtime on the same
inputs, and has both compared by polygraphy_hooks.py in its own Python; here it is judged, in the graph's
order. What its versions have: tools/Polygraphy of NVIDIA/TensorRT (CHANGELOG.md), the package's 0.48 to
0.53. A script of our own for the comparison is possible since 0.37. From 0.48 on it is for TensorRT 8.5 and
newer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from tools import arrays, gate, onnx_models, vendor_sdk
from tools.stage import (
    DeviceNotFound,
    InvalidRequest,
    Result,
    SdkMissing,
    StageError,
    Unavailable,
    Unsupported,
    WrongOutput,
    progress,
    write_json,
)
from tools.tensorrt import building, failures, measuring, polygraphy_hooks, versions

SCHEMA = 1  # 1: first version
VARIABLE = "MOBILE_ACCELERATOR_POLYGRAPHY"
OLDEST: versions.Version = (0, 37, 0)
STAR: versions.Version = (0, 50, 0)  # "*" says what "mark all" said, which 0.55 is to lose
OPTIONS = {"fp32": "", "fp16": " --set fp16=true"}  # of the command, by precision
WORST = 5  # layers that a record names
COMMAND = "python runner.py run tensorrt.compare --model NAME"
INSTALL = (
    "Install it where TensorRT's Python module is (pip install polygraphy onnx onnxruntime), and name its "
    f"program if it is not on PATH: {VARIABLE}=PATH. docs/jetson.md"
)
FAILURES = (
    (r"CUDA Error: (?:35|100)\b", DeviceNotFound, failures.NO_GPU),  # no driver, no GPU
    (r"CUDA Error: 2\b", StageError, failures.NO_MEMORY),
    (r"Module: '\w+' is required but could not be imported.*", SdkMissing, INSTALL),
    (
        r"Module: 'tensorrt' version '[^']*' is installed, but version '[^']*' is required.*",
        Unsupported,
        "TensorRT older than 8.5 takes Polygraphy 0.37 to 0.47.",
    ),
    (
        r"Could not find the CUDA runtime library.*|libcudart\S*: cannot open shared object file.*",
        Unavailable,
        "Let LD_LIBRARY_PATH name the folder with CUDA's libcudart.so; in NVIDIA's images it is there.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be compared, fp32 or fp16: a network on the first `n_inputs` of the reference's inputs."""

    onnx: Path
    gpu: Path
    reference: Path
    precision: str
    workspace_mib: int
    n_inputs: int


def compare(order: Order, path: Path) -> Result:
    """Compare all tensors that both have, and write them in the graph's order.

    Raises:
        SdkMissing: no Polygraphy, or it has no TensorRT or ONNX Runtime.
        Unsupported: a precision, an operator, or a version that cannot be had.
        InvalidRequest: a file or a parameter is not what it should be.
        DeviceNotFound, Unavailable, StageError: what TensorRT and Polygraphy failed of.
    """
    place = building.read_place(order.gpu)
    about = {"precision": order.precision, "device_name": place["gpu"], "tensorrt": place["tensorrt"]}
    about["simulated"] = bool(place.get("simulated"))
    with measuring.said_in_errors(about):
        _require(order, place)
        model = onnx_models.read(order.onnx)
        return _judged(about, model, _compared(order, model), path)


def find() -> str:
    """Return Polygraphy's program.

    Raises:
        SdkMissing: there is none.
    """
    named = os.environ.get(VARIABLE)
    found = shutil.which(named or "polygraphy")
    if not found:
        message = f"{named or 'polygraphy, a program of NVIDIA,'} is not here, or may not be run"
        raise SdkMissing(message, hint=INSTALL)
    return found


@contextlib.contextmanager
def named_in_hint(precision: str) -> Iterator[None]:
    """Name the command that finds the layer in the hint of an engine that the gate refuses."""
    try:
        yield
    except WrongOutput as error:
        if precision in OPTIONS:
            error.hint += f" NVIDIA's Polygraphy may find the layer: {COMMAND}{OPTIONS[precision]}"
        raise


def _compared(order: Order, model: Any) -> List[Dict[str, Any]]:
    """Run Polygraphy; return what polygraphy_hooks.compare_outputs wrote of each input."""
    program = find()
    version = _version(program)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.jsonl")
        variables = _write_order(order, onnx_models.input_shapes(model), found)
        progress(0.05, "TensorRT builds the network with every layer's output among its own")
        argv = [program, *_arguments(order.onnx, version)]
        code, said = vendor_sdk.run(argv, Path(folder), variables)
        if code:
            raise _failed(said, code)
        lines = found.read_text().splitlines() if found.exists() else []
    if not lines:
        message = "Polygraphy ended without an error, and compared nothing"
        raise StageError(message, hint="The log has what it printed.")
    return [json.loads(line) for line in lines]


def _require(order: Order, place: Dict[str, Any]) -> None:
    """Raise what is wrong with an order, before anything is started."""
    if order.workspace_mib < 1 or order.n_inputs < 1:
        message = f"workspace_mib is {order.workspace_mib}, n_inputs {order.n_inputs}"
        raise InvalidRequest(message, hint="Give the builder's memory in MiB and how many inputs, e.g. 2.")
    version = versions.parse(place["tensorrt"])
    if order.precision == "fp16" and version >= (11, 0, 0):
        raise versions.no_precision(version, order.precision)


def _version(program: str) -> versions.Version:
    """Return Polygraphy's version.

    Raises:
        Unsupported: it is too old.
        StageError: it does not start.
    """
    code, said = vendor_sdk.run([program, "--version"], Path.cwd(), vendor_sdk.environment({}))
    match = re.search(r"Version: ([\d.]+)", said)
    if code or not match:
        raise _failed(said, code)
    version = versions.parse(match[1])
    if version < OLDEST:
        message = f"Polygraphy {match[1]} is too old: it takes no script for the comparison"
        raise Unsupported(message, hint=f"From {versions.text(OLDEST)} on it can be used.")
    return version


def _write_order(order: Order, shapes: Dict[str, Any], found: Path) -> Dict[str, str]:
    """Write what polygraphy_hooks.py reads; return the variable that tells it where."""
    import numpy as np

    every, _ = arrays.read_reference(order.reference)
    count = min(order.n_inputs, len(next(iter(every.values()))))
    fed = [arrays.fit(every, shapes, index) for index in range(count)]
    inputs, written = found.with_name("inputs.npz"), found.with_name("order.json")
    arrays.write(inputs, inputs={name: np.concatenate([each[name] for each in fed]) for name in shapes})
    settings = {"precision": order.precision, "workspace_mib": order.workspace_mib}
    write_json(written, {**settings, "inputs": str(inputs), "found": str(found)})
    return vendor_sdk.environment({polygraphy_hooks.VARIABLE: str(written), "PYTHONUNBUFFERED": "1"})


def _arguments(onnx: Path, version: versions.Version) -> List[str]:
    every = ["*"] if version >= STAR else ["mark", "all"]
    hooks = str(Path(polygraphy_hooks.__file__).resolve())
    scripts = ("--trt-config-script", "--data-loader-script", "--compare-func-script")
    return [
        *("run", str(onnx.resolve()), "--trt", "--onnxrt"),
        *("--trt-outputs", *every, "--onnx-outputs", *every),
        *(argument for option in scripts for argument in (option, hooks)),
    ]


def _failed(said: str, code: int) -> StageError:
    """Return the error that Polygraphy's output stands for; TensorRT's own are in it."""
    for pattern, error, hint in FAILURES:
        match = re.search(pattern, said)
        if match:
            message = f"Polygraphy: {match[0].strip()[:400]}"
            return error(message, hint=hint)
    told = re.findall(r"^\s*(?:\[[E!]\] (?!FAILED \|)|(?=\w+Error: ))(.+)$", said, flags=re.MULTILINE)
    found = {"errors": told, "version": ""}
    return failures.error_of(said, found, "Polygraphy", f"Polygraphy ended with code {code}")


def _judged(about: Dict[str, Any], model: Any, lines: List[Dict[str, Any]], path: Path) -> Result:
    """Write what was found, and return what a record says of it; `about` is of tensorrt.gpu."""
    limit, versions_of = gate.tolerance(about["precision"]), lines[0]["versions"]
    tensors = _in_order(model, [line["tensors"] for line in lines], limit)
    beyond = [each for each in tensors if each["beyond"]]
    said = {
        **about,
        "tensorrt": versions_of["tensorrt"],
        "simulated": about["simulated"] or lines[0]["simulated"],
        "n_inputs": len(lines),
        "limit": {"error": limit.error, "noise": limit.noise},
        "first_beyond": beyond[0] if beyond else None,
        "worst": sorted(tensors, key=_badness, reverse=True)[:WORST],
    }
    only = {key: lines[0][key] for key in ("only_in_tensorrt", "only_in_onnxruntime")}
    write_json(path, {"schema": SCHEMA, "versions": versions_of, **said, **only, "tensors": tensors})
    counts = {key: len(names) for key, names in only.items()}
    return Result(
        metrics={"tensors": len(tensors), "tensors_beyond": len(beyond), **counts},
        metadata={**said, "warnings": _warnings(beyond, about["tensorrt"], versions_of["tensorrt"])},
        versions=versions_of,
    )


def _in_order(
    model: Any, inputs: List[Dict[str, Dict[str, Any]]], limit: gate.Tolerance
) -> List[Dict[str, Any]]:
    """Return each tensor that was compared, as on its worst input, in the order in which nodes make them."""
    found = []
    for node in model.graph.node:
        for name in node.output:
            judged = [_judge(each[name], limit) for each in inputs if name in each]
            if judged:
                made_by = {"tensor": name, "node": node.name or name, "operator": node.op_type}
                found.append({**made_by, **max(judged, key=_badness)})
    return found


def _judge(found: Dict[str, Any], limit: gate.Tolerance) -> Dict[str, Any]:
    """Return a tensor's distance with `error_rel` and whether it is beyond the limit.

    Layers have other scales than the output, so an error is relative to the tensor's own range: `limit.error`
    of that, as the gate has it, and what rounding alone explains of the values' size (`limit.noise`), which
    for a tensor of large and nearly equal values is more. A range of 0 is taken for the size, or 1.
    """
    scale = found["range"] or found["largest"] or 1.0
    allowed = limit.error * scale + limit.noise * found["largest"]
    off: Optional[float] = found["max_abs"]
    return {
        "max_abs": off,
        "error_rel": None if off is None else off / scale,
        "cosine": found["cosine"],
        "times_limit": None if off is None else off / allowed,
        "beyond": off is None or off > allowed,
    }


def _badness(tensor: Dict[str, Any]) -> Tuple[bool, float]:
    """Return by what tensors are ordered: those that could not be compared are the worst."""
    return tensor["times_limit"] is None, tensor["times_limit"] or 0.0


def _warnings(beyond: List[Dict[str, Any]], of_engines: str, of_polygraphy: str) -> List[str]:
    """Return what a reader should know: the layer that is asked for, and a TensorRT that is another."""
    said = []
    for each in beyond[:1]:
        off = each["error_rel"]
        how = "of another size or not finite" if off is None else f"off by {off:.2%} of its range"
        first = f"the first layer beyond the limit is {each['node']} ({each['operator']})"
        said.append(f"{first}, whose output {each['tensor']} is {how}.")
    if versions.parse(of_polygraphy) != versions.parse(of_engines):
        said.append(f"Polygraphy's Python has TensorRT {of_polygraphy}, engines are built by {of_engines}.")
    return said
