"""Luxonis' library: how it is loaded, and what it reads in a blob."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tools.myriad_blob import Blob
from tools.stage import InvalidRequest, first_line

TYPES = {"FP16": "FP16", "U8F": "U8", "FP32": "FP32", "INT": "I32", "I8": "I8"}  # depthai's, and a blob's


def load() -> Any:
    """Return the module `depthai`, told to send nothing to its makers and to print nothing.

    It would send them the dump of a crashed device, and pipelines where that is switched on (depthai-core
    2, LogCollection.cpp); its log would go to standard output, where a command's result is.
    """
    os.environ.pop("DEPTHAI_ENABLE_ANALYTICS_COLLECTION", None)
    os.environ["DEPTHAI_DISABLE_CRASHDUMP_COLLECTION"] = "1"
    os.environ["DEPTHAI_LEVEL"] = "off"
    os.environ["DEPTHAI_PROTOCOL"] = "usb"  # else it looks for cameras on the network too, for 0.5 s
    import depthai

    return depthai


def read_blob(path: Path) -> dict[str, Any]:
    """Return what depthai reads in a blob.

    Raises:
        InvalidRequest: it cannot read it.
    """
    try:
        blob = load().OpenVINO.Blob(path)
    except (RuntimeError, ValueError, IndexError) as error:
        message = f"depthai cannot read {path.name}: {first_line(error)}"
        raise InvalidRequest(message, hint="Convert the network again, with ncs.convert.") from error
    tables = {"inputs": blob.networkInputs, "outputs": blob.networkOutputs}
    return {
        "shaves": blob.numShaves,
        "cmx_slices": blob.numSlices,
        "stages": blob.stageCount,
        **{
            key: {
                # dims begin with the innermost axis
                name: {"shape": tensor.dims[::-1], "type": TYPES[tensor.dataType.name]}
                for name, tensor in sorted(table.items())
            }
            for key, table in tables.items()
        },
    }


def same_form(about: Blob) -> dict[str, Any]:
    """Return what this project's reader has read, as `read_blob` returns it."""
    return {
        "shaves": about.shaves,
        "cmx_slices": about.cmx_slices,
        "stages": about.stages,
        **{
            key: {tensor.name: {"shape": list(tensor.shape), "type": tensor.precision} for tensor in tensors}
            for key, tensors in (("inputs", about.inputs), ("outputs", about.outputs))
        },
    }
