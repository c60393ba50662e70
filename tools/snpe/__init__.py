"""Snapdragon: DLC and context binary for a phone's HTP, that HTP's emulator, and SNPE on a phone.

Without SDK and without phone, by the package onnxruntime-qnn: `qnn` is compiler, emulator and writer of DLCs,
`dlc` reads one, `quantizing` and `comparing` are for int8 and int16. With Qualcomm's SDK: `sdk` finds and
calls it, `converting` is for its converters, `net_run`, `phone_run` and `failures` for its programs on a
phone. `bench` and `diagview` read what it printed.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Optional

from tools import socs
from tools.benchmark import Target, check, said_of
from tools.snpe import bench, comparing, converting, diagview, net_run, phone_run, qnn, quantizing, sdk
from tools.snpe import dlc as containers
from tools.stage import Input, InvalidRequest, Output, Result, Tool, Unsupported, write_json

tool = Tool(
    "snpe",
    packages=("onnxruntime-qnn", "onnxruntime", "onnx", "numpy"),
    builds={"sdk310": "3.10", "sdk38": "3.8"},
    sdk=True,
    sdk_build=sdk.build_for,
    restriction="Qualcomm's AI Stack License lets nobody pass its libraries on by themselves (section 1 of "
    "Qualcomm_LICENSE.pdf in the package onnxruntime-qnn)",
)

PRECISIONS = ("fp16", "int8", "int16")
RUNTIME = "HTP emulator"
# What only turns one type into another, or changes a layout, in QNN's words.
RETYPING = ("Cast", "Convert", "Dequantize", "Quantize", "Reshape", "Transpose")
# The HTP has no float32: compiled for it, a network of floats is one of float16.
COMPUTES_IN = {"float32": "float16", "fixed uint8": "uint8", "fixed uint16": "uint16"}


@tool.command()
def convert(onnx: Input, dlc: Output = "{model}.dlc") -> Result:
    """Write the network as a DLC, in float."""
    return _convert(onnx, dlc)


@tool.command()
def convert_int8(qnn_int8: Input, dlc_int8: Output = "{model}.int8.dlc") -> Result:
    """Write the network of 8-bit activations and weights as a DLC."""
    return _convert(qnn_int8, dlc_int8)


@tool.command()
def convert_int16(qnn_int16: Input, dlc_int16: Output = "{model}.int16.dlc") -> Result:
    """Write the network of 16-bit activations and 8-bit weights as a DLC."""
    return _convert(qnn_int16, dlc_int16)


@tool.command()
def context(
    onnx: Input,
    context: Output = "{model}.ctx.onnx",
    context_bin: Output = "{model}.ctx.bin",
    soc: str = socs.DEFAULT,
) -> Result:
    """Compile the network for the HTP of one chip, in float16."""
    chip = socs.find(soc)
    if not chip.float16:
        message = f"the {chip.htp} has no float16"
        raise Unsupported(message, hint="Take a quantised network: --precision int16.")
    return _context(onnx, context, context_bin, soc)


@tool.command()
def context_int8(
    qnn_int8: Input,
    context_int8: Output = "{model}.int8.ctx.onnx",
    context_bin_int8: Output = "{model}.int8.ctx.bin",
    soc: str = socs.DEFAULT,
) -> Result:
    """Compile the network of 8-bit activations and weights for the HTP of one chip."""
    return _context(qnn_int8, context_int8, context_bin_int8, soc)


@tool.command()
def context_int16(
    qnn_int16: Input,
    context_int16: Output = "{model}.int16.ctx.onnx",
    context_bin_int16: Output = "{model}.int16.ctx.bin",
    soc: str = socs.DEFAULT,
) -> Result:
    """Compile the network of 16-bit activations and 8-bit weights for the HTP of one chip."""
    return _context(qnn_int16, context_int16, context_bin_int16, soc)


@tool.command()
def quantize(onnx: Input, calibration: Input, qnn_int8: Output = "{model}.qnn-int8.onnx") -> Result:
    """Quantise activations and weights to 8 bits as the HTP takes them; a last softmax stays float."""
    return _quantize(onnx, calibration, qnn_int8, 8)


@tool.command()
def quantize_int16(onnx: Input, calibration: Input, qnn_int16: Output = "{model}.qnn-int16.onnx") -> Result:
    """Quantise activations to 16 bits and weights to 8 as the HTP takes them."""
    return _quantize(onnx, calibration, qnn_int16, 16)


@tool.command()
def compare_int8(
    onnx: Input,
    qnn_int8: Input,
    reference: Input,
    noise_int8: Output = "{model}.int8.noise.json",
    n_inputs: int = 2,
) -> Result:
    """Compare the network of 8 bits with the one in float, layer by layer; name the worst."""
    return _compare(onnx, qnn_int8, reference, noise_int8, n_inputs)


@tool.command()
def compare_int16(
    onnx: Input,
    qnn_int16: Input,
    reference: Input,
    noise_int16: Output = "{model}.int16.noise.json",
    n_inputs: int = 2,
) -> Result:
    """Compare the network of 16-bit activations with the one in float, layer by layer; name the worst."""
    return _compare(onnx, qnn_int16, reference, noise_int16, n_inputs)


@tool.command(sdk=True)
def convert_sdk(
    onnx: Input,
    frozen: Input,
    signature: Input,
    dlc_sdk: Output = "{model}.sdk.dlc",
    dlc_sdk_inputs: Output = "{model}.sdk.inputs.json",
) -> Result:
    """Write the network as a DLC by the converter of Qualcomm's SDK; 1.x reads `frozen`, 2.x `onnx`."""
    said = converting.convert(sdk.find(tool.sdk_folder()), onnx, frozen, signature, dlc_sdk, dlc_sdk_inputs)
    return Result(metrics={"size_bytes": dlc_sdk.stat().st_size}, metadata=said)


@tool.command(sdk=True)
def quantize_sdk(
    dlc_sdk: Input,
    calibration: Input,
    dlc_sdk_int8: Output = "{model}.sdk.int8.dlc",
    soc: str = socs.DEFAULT,
) -> Result:
    """Quantise the SDK's DLC to 8 bits by the SDK's quantiser; 2.x also prepares it for a chip's HTP."""
    return _quantize_sdk(dlc_sdk, calibration, dlc_sdk_int8, soc, 8)


@tool.command(sdk=True)
def quantize_sdk_int16(
    dlc_sdk: Input,
    calibration: Input,
    dlc_sdk_int16: Output = "{model}.sdk.int16.dlc",
    soc: str = socs.DEFAULT,
) -> Result:
    """Quantise the SDK's DLC to activations of 16 bits and weights of 8; an SDK 1.x cannot."""
    return _quantize_sdk(dlc_sdk, calibration, dlc_sdk_int16, soc, 16)


@tool.command(
    measures=True,
    variants=(
        {"device": "CPU", "precision": "fp32"},
        {"device": "GPU", "precision": "fp16"},
        {"device": "GPU_FP16", "precision": "fp16"},
        {"device": "DSP", "precision": "int8"},
    ),
)
def benchmark(
    dlc_sdk: Input,
    dlc_sdk_inputs: Input,
    reference: Input,
    samples: Output = "{model}.snpe-latency_ns.i64",
    profile: Output = "{model}.snpe-profile.json",
    device: str = "CPU",
    precision: str = "fp32",
    perf_profile: str = "high_performance",
    phone: str = "",
    budget_s: float = 10.0,
) -> Result:
    """Check the SDK's DLC on a phone against the reference, then measure its latency and its layers."""
    target = _target(device, precision, budget_s)
    with said_of(target):
        return phone_run.benchmark(
            _subject(dlc_sdk, dlc_sdk_inputs, reference, target, perf_profile, phone), samples, profile
        )


@tool.command(cached=False)
def profile(
    dlc_sdk: Input,
    dlc_sdk_inputs: Input,
    reference: Input,
    diagview_text: Output = "{model}.diagview.txt",
    layer_times: Output = "{model}.snpe-layers.json",
    device: str = "CPU",
    precision: str = "fp32",
    perf_profile: str = "high_performance",
    phone: str = "",
) -> Result:
    """Check the SDK's DLC on a phone, and leave each layer's unit and time as snpe-diagview prints them."""
    target = _target(device, precision, 1.0)
    with said_of(target):
        subject = _subject(dlc_sdk, dlc_sdk_inputs, reference, target, perf_profile, phone)
        return phone_run.profile(subject, diagview_text, layer_times)


@tool.command()
def info(dlc: Input, table: Output = "{model}.dlc.json") -> Result:
    """List what a DLC holds: its parts, operations and tensors."""
    found = containers.read(dlc)
    write_json(table, dataclasses.asdict(found))
    return Result(
        metrics={"size_bytes": dlc.stat().st_size, "nodes": len(found.nodes), "parameters": found.parameters},
        metadata=_said(found),
    )


@tool.command(measures=True, variants=({"precision": "fp16"}, {"precision": "int8"}))
def emulate(
    context: Input,
    context_bin: Input,
    dlc: Input,
    reference: Input,
    noise: Optional[Input] = None,
    runtime: str = RUNTIME,
    device: str = "HTP",
    soc: str = socs.DEFAULT,
    precision: str = "fp16",
) -> Result:
    """Run what was compiled for a chip on the emulator of its HTP, and check it against the reference.

    The DLC tells what each layer computes in. No time is taken: the emulator's means nothing.
    """
    chip = socs.find(soc)
    if (runtime, device) != (RUNTIME, "HTP"):
        message = f"there is no emulator of {device!r} under the name {runtime!r}"
        raise InvalidRequest(message, hint="Only the HTP has one; choose its chip by --soc.")
    target = Target(RUNTIME, chip.htp, precision, threads=0, precisions=PRECISIONS)

    def load() -> qnn.HtpSession:
        session = qnn.HtpSession(context, context_bin, chip, _computes_in(containers.read(dlc)))
        if noise:
            session.metadata.update(comparing.worst(comparing.read(noise)))
        return session

    return check(
        load,
        target,
        reference,
        reason=f"Qualcomm's emulator computed it on this machine's processor; no {chip.htp} was here",
        hint=f"A time takes a phone with that chip: docs/snapdragon.md. {context_bin.name} is made for it.",
    )


@tool.parser
def parse_bench(file: Path) -> Dict[str, Any]:
    """Read a benchmark_stats file of snpe_bench: each run combination's times, units and layers."""
    return bench.read(file)


@tool.parser
def parse_diagview(file: Path) -> Dict[str, Any]:
    """Read what snpe-diagview printed: times, and the layers with the units that ran them."""
    return diagview.read(file)


def _convert(network: Path, dlc: Path) -> Result:
    qnn.write_dlc(network, dlc)
    found = containers.read(dlc)
    return Result(metrics={"size_bytes": dlc.stat().st_size}, metadata=_said(found))


def _said(found: containers.Dlc) -> dict[str, Any]:
    """What is said of a DLC in a result."""
    ends = {role: [tensor for tensor in found.tensors if tensor.role == role] for role in ("input", "output")}
    return {
        "version": found.version,
        "converter": found.converter,
        "operators": dict(Counter(node.operator for node in found.nodes).most_common()),
        **{
            f"{role}s": {tensor.name: f"{tensor.type} {list(tensor.shape)}" for tensor in tensors}
            for role, tensors in ends.items()
        },
        "constants": dict(Counter(tensor.type for tensor in found.tensors if tensor.role == "constant")),
    }


def _computes_in(found: containers.Dlc) -> dict[str, str]:
    """Return what each layer computes in; "" for one that computes nothing."""
    types = {tensor.name: COMPUTES_IN.get(tensor.type, tensor.type) for tensor in found.tensors}
    return {
        node.name: "" if node.operator in RETYPING else types.get(node.outputs[0], "unknown")
        for node in found.nodes
        if node.outputs
    }


def _context(network: Path, context: Path, context_bin: Path, soc: str) -> Result:
    chip = socs.find(soc)
    nodes = qnn.compile_context(network, chip, context, context_bin)
    metadata = {"soc": chip.name, "soc_model": chip.soc_model, "htp_arch": chip.htp_arch, "nodes": nodes}
    return Result(metrics={"size_bytes": context_bin.stat().st_size}, metadata=metadata)


def _quantize(onnx: Path, calibration: Path, made: Path, bits: int) -> Result:
    quantizing.quantize(onnx, calibration, made, bits)
    return Result(metrics={"size_bytes": made.stat().st_size}, metadata={"precision": f"int{bits}"})


def _target(device: str, precision: str, budget_s: float) -> Target:
    if device not in net_run.DEVICES:
        message = f"SNPE has no device {device!r}"
        raise InvalidRequest(message, hint=f"Devices: {', '.join(net_run.DEVICES)}.")
    return Target("snpe", device, precision, 0, budget_s, precisions=net_run.DEVICES[device].precisions)


def _subject(
    dlc: Path, dlc_inputs: Path, reference: Path, target: Target, perf_profile: str, serial: str
) -> phone_run.Subject:
    return phone_run.Subject(
        sdk.find(tool.sdk_folder()), dlc, dlc_inputs, reference, target, perf_profile, serial
    )


def _quantize_sdk(dlc: Path, calibration: Path, made: Path, soc: str, bits: int) -> Result:
    found = sdk.find(tool.sdk_folder())
    said = converting.quantize(found, dlc, calibration, made, bits=bits, socs=[socs.find(soc).name])
    return Result(metrics={"size_bytes": made.stat().st_size}, metadata=said)


def _compare(onnx: Path, quantised: Path, reference: Path, noise: Path, n_inputs: int) -> Result:
    layers = comparing.compare(onnx, quantised, reference, n_inputs)
    comparing.write(noise, layers)
    return Result(metrics={"layers": len(layers), "n_inputs": n_inputs}, metadata=comparing.worst(layers))
