"""What TensorRT and its trtexec say when something is wrong, and what to do about it.

The texts are those of public logs and issues (NVIDIA/TensorRT 1917, 2129, 4255; onnx/onnx-tensorrt 800), of
samples/common of NVIDIA/TensorRT, and of NVIDIA's pages on engines' compatibility. What is not known is
shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unavailable, Unsupported
from tools.tensorrt import operators

REBUILD = (
    "An engine runs only on the GPU and the TensorRT that it was built on. Build it here: "
    "python runner.py run tensorrt.build --model NAME"
)
NO_MEMORY = "Give the builder less (--set workspace_mib=256), or end what else uses the GPU and its memory."
NO_DLA = "This board has no such DLA: a TX2 and a Nano have none."
NO_GPU = "Run it where an NVIDIA GPU is; in a container it needs NVIDIA's container toolkit: docs/jetson.md."
NO_LIBRARY = (
    "TensorRT is not whole here. On a Jetson of JetPack 4 its libraries come from the board: "
    "install nvidia-jetpack there, and let the container have the runtime nvidia."
)
FAILURES: Sequence[tuple[str, type[StageError], str]] = (
    (r"Cuda failure: .*(?:no CUDA-capable device|driver version is insufficient).*", DeviceNotFound, NO_GPU),
    (r"Cannot find any available devices.*|CUDA initialization failure.*", DeviceNotFound, NO_GPU),
    (r"error while loading shared libraries: \S+.*", Unavailable, NO_LIBRARY),
    (
        r"The engine plan file is (?:not compatible|generated on an incompatible device).*",
        InvalidRequest,
        REBUILD,
    ),
    (
        r"(?:Serialization assertion|Version tag does not match|Magic tag does not match).*",
        InvalidRequest,
        REBUILD,
    ),
    (r"Error Code \d+: OutOfMemory.*|[Oo]ut of memory.*", StageError, NO_MEMORY),
    (r"Could not find any implementation for node .*", StageError, NO_MEMORY),
    (r"Cannot create DLA engine.*", DeviceNotFound, NO_DLA),
    (
        r"Saving engine to file failed.*",
        StageError,
        "Is the disk full? An engine is as large as its network.",
    ),
    (r"Calibration table does not match.*", StageError, "Build again; the table is made for each version."),
    (r"Unknown option: .*", StageError, "This version's trtexec has other options; please report it."),
)
UNKNOWN_OPERATOR = re.compile(
    r"(?:No importer registered for op: |getPluginCreator could not find plugin: )(\w+)"
)
PARSED_NODE = re.compile(r'While parsing node number \d+ \[(\w+)(?: -> "([^"]*)")?')
NODE_NAME = re.compile(r'^.*\bname: "([^"]+)"$', flags=re.MULTILINE)


def raise_for(said: str, found: dict[str, Any], code: int) -> None:
    """Raise the error that trtexec's output stands for, if it failed; `found` is what log.parse made of it.

    Raises:
        Unsupported: an operator that the parser does not know; the message names it and the layer.
        DeviceNotFound, Unavailable, InvalidRequest, StageError: with trtexec's own words.
    """
    if code == 0 and found["passed"] is not False:
        return
    raise error_of(said, found, "trtexec", f"trtexec ended with code {code}")


def error_of(said: str, found: dict[str, Any], program: str, what: str) -> StageError:
    """Return the error that a failed program's output stands for; `what` is said where it tells nothing."""
    node = PARSED_NODE.search(said)
    if node:
        return _not_parsed(said, node, found["version"])
    for pattern, error, hint in FAILURES:
        match = re.search(pattern, said)
        if match:
            message = f"{program}: {match[0].strip()[:400]}"
            return error(message, hint=hint)
    errors = found["errors"] or [line for line in said.splitlines() if line.strip()][-1:]
    message = f"{what}: {errors[0][:400] if errors else 'it said nothing'}"
    return StageError(message, hint="The log says more.")


def _not_parsed(said: str, node: Any, version: str) -> Unsupported:
    """Return the error of a node that the parser stopped at."""
    unknown = UNKNOWN_OPERATOR.search(said)
    operator = unknown[1] if unknown else node[1]
    name = NODE_NAME.search(said[node.start() :])
    where = f"layer {name[1]}" if name else f"the layer of {node[2]}" if node[2] else "a layer"
    why = "does not know it" if unknown else _assertion(said[node.start() :])
    message = f"{where} is {operator}, and the ONNX parser of TensorRT {version or 'here'} {why}"
    hint = operators.REWRITES.get(operator, "Write it with other operators, or take a newer TensorRT.")
    return Unsupported(message, hint=hint)


def _assertion(said: str) -> str:
    match = re.search(r"Assertion failed: (.+)", said)
    return f"refuses it: {match[1][:200]}" if match else "refuses it"
