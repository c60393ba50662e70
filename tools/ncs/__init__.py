"""The Neural Compute Stick: what of a network its chip takes, and the file that it executes.

All here works without a stick.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from tools import movidius, myriad_blob, ncsdk
from tools.stage import Input, Output, Result, Tool, write_json
from tools.usb import Host

tool = Tool("ncs", packages=("openvino", "libusb-package", "numpy"), python="3.9")


@tool.command()
def check(
    onnx: Input,
    bin: Optional[Input] = None,  # noqa: A002 - the name of the artifact
    support: Output = "{model}.ncs-support.json",
) -> Result:
    """Say which nodes of the network the stick takes and which it cannot.

    `onnx` may also be an IR to version 10, with its weights in `bin`.
    """
    from tools.ncs import conversion

    found = conversion.query(onnx, bin)
    write_json(support, found)
    metrics = {"nodes": found["nodes"], "unsupported": len(found["unsupported_layers"])}
    return Result(metrics=metrics, metadata=found)


@tool.command()
def convert(
    onnx: Input,
    bin: Optional[Input] = None,  # noqa: A002 - the name of the artifact
    shaves: int = 0,
    cmx_slices: int = 0,
    streams: int = 0,
    input_type: str = "FP16",
    mean: str = "",
    scale: str = "",
    blob: Output = "{model}.blob",
    plan: Output = "{model}.ncs-plan.json",
) -> Result:
    """Compile for the Myriad X of a Neural Compute Stick 2; the options: tools/ncs/compiler.py."""
    from tools.ncs import compiler, conversion

    options = compiler.Options("2480", shaves, cmx_slices, streams, input_type, mean, scale)
    return conversion.convert(onnx, bin, options, blob, plan)


@tool.command()
def convert_2450(
    onnx: Input,
    bin: Optional[Input] = None,  # noqa: A002 - the name of the artifact
    shaves: int = 0,
    cmx_slices: int = 0,
    streams: int = 0,
    input_type: str = "FP16",
    mean: str = "",
    scale: str = "",
    blob_2450: Output = "{model}.2450.blob",
    plan_2450: Output = "{model}.2450.ncs-plan.json",
) -> Result:
    """Compile for the Myriad 2 of the first Neural Compute Stick, which has no convolution engines."""
    from tools.ncs import compiler, conversion

    options = compiler.Options("2450", shaves, cmx_slices, streams, input_type, mean, scale)
    return conversion.convert(onnx, bin, options, blob_2450, plan_2450)


@tool.command(cached=False)
def plan(blob: Input, plan: Input) -> Result:
    """Show a compiled network's stages and memory: a table on standard error, figures on standard output.

    `blob` and `plan` are the two files that `convert` or `convert-2450` has made.
    """
    from tools.ncs import stage_plan

    about = myriad_blob.read(blob)
    found = stage_plan.read(plan, about)
    print(stage_plan.table(found), file=sys.stderr)
    return Result(metadata={**stage_plan.summary(found), "memory_bytes": found["memory_bytes"]})


@tool.command(cached=False)
def devices() -> Result:
    """List the sticks on USB and their states, without the plug-in, which takes 5 s where there is none."""
    return Result(
        metadata={"sticks": [dataclasses.asdict(stick) for stick in movidius.examine(Host.current())]}
    )


@tool.parser
def parse_profile(file: Path) -> Dict[str, Any]:
    """Read what mvNCProfile of the first generation printed: times on the stick and the host, layers."""
    return ncsdk.read(file)
