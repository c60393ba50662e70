"""The Neural Compute Stick: what of a network its chip takes, and the file that it executes.

`check`, `convert`, `plan` and `emulate` need no stick.
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
    """Say whether the network compiles for a Myriad X, and if not which of its nodes the chip cannot have.

    `onnx` may also be an IR to version 10, with its weights in `bin`.
    """
    from tools.ncs import conversion

    found = conversion.check(onnx, bin)
    write_json(support, found)
    return Result(metadata=found)


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


@tool.command(measures=True)
def emulate(
    onnx: Input,
    blob: Input,
    plan: Input,
    reference: Input,
    threads: int = 0,
    precision: str = "fp16",
) -> Result:
    """Check the function that was compiled, in float16 on the CPU; no time is taken, and no stick needed.

    Blob and plan have to be of this network: see tools/ncs/emulation.py.
    """
    from tools.ncs import emulation, inference_engine, stick

    stick.check(inference_engine.PLUGIN, precision)
    return emulation.check(onnx, blob, plan, reference, threads)


@tool.command(measures=True)
def benchmark(
    blob: Input,
    plan: Input,
    onnx: Input,
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    profile: Output = "{model}.profile.json",
    sweep: Output = "{model}.sweep.json",
    device: str = "MYRIAD",
    streams: int = 0,
    requests: int = 1,
    shaves: str = "1-16",
    budget_s: float = 10.0,
    precision: str = "fp16",
) -> Result:
    """Check the network on the stick against the reference, then measure, count its stages, sweep `shaves`.

    `streams` are computed at a time (0: as many as fit), `requests` are in flight: 1 measures the
    latency, more the throughput. `device` may name one of several sticks: MYRIAD.<name>.
    """
    from tools.ncs import on_stick

    subject = on_stick.subject(blob, plan, onnx, reference, device, precision, budget_s, requests)
    return on_stick.measure(subject, streams, shaves, samples, profile, sweep)


@tool.command(cached=False)
def profile(
    blob: Input,
    plan: Input,
    onnx: Input,
    reference: Input,
    profile: Output = "{model}.profile.json",
    device: str = "MYRIAD",
) -> Result:
    """Count the time of each stage on the stick, with the node of the network that it belongs to."""
    from tools.ncs import on_stick

    return on_stick.count(on_stick.subject(blob, plan, onnx, reference, device), profile)


@tool.command(cached=False)
def sweep(
    blob: Input,
    plan: Input,
    onnx: Input,
    reference: Input,
    sweep: Output = "{model}.sweep.json",
    device: str = "MYRIAD",
    shaves: str = "1-16",
    budget_s: float = 60.0,
) -> Result:
    """Measure the latency over the number of SHAVE processors; see tools/ncs/shave_sweep.py."""
    from tools.ncs import on_stick

    subject = on_stick.subject(blob, plan, onnx, reference, device, budget_s=budget_s)
    return on_stick.over_shaves(subject, shaves, sweep)


@tool.command()
def infer(
    blob: Input,
    images: Input,
    answers: Output = "{model}.ncs-answers.npz",
    device: str = "MYRIAD",
    precision: str = "fp16",
) -> Result:
    """Run the network on inputs (`inputs/<name>`) and write what it answers (`outputs`)."""
    from tools.ncs import on_stick

    return on_stick.infer(*on_stick.ready(device, precision), blob, images, answers, device)


@tool.command(cached=False)
def label(
    blob: Input,
    images: Input,
    labels: Optional[Input] = None,
    top: int = 5,
    device: str = "MYRIAD",
) -> Result:
    """Say which classes the network rates highest, for each of the `images` that image.preprocess has made.

    `labels` names the classes, one a line.
    """
    from tools.ncs import on_stick

    return on_stick.label(*on_stick.ready(device), blob, images, labels, top, device)


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
