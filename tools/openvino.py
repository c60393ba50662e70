"""OpenVINO: conversion of the frozen graph to its IR, other precisions, benchmark on CPU, GPU and NPU."""

from __future__ import annotations

import collections
import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from tools.benchmark import Target, run, write_answers
from tools.stage import (
    DeviceNotFound,
    Input,
    InvalidRequest,
    Output,
    Result,
    StageError,
    Tool,
    Unsupported,
    progress,
)

if TYPE_CHECKING:
    import numpy as np

tool = Tool("openvino", packages=("openvino", "nncf", "numpy"))

HINTS = {
    "CPU": "The openvino package always brings its CPU plugin: reinstall it.",
    "GPU": "Needs an Intel GPU, its OpenCL driver (intel-opencl-icd) and access to /dev/dri.",
    "NPU": "Needs an Intel Core Ultra, its driver (linux-npu-driver) and access to /dev/accel.",
    "MYRIAD": "The Neural Compute Stick needs OpenVINO 2021.4: see the tool ncs.",
}
# What the plugin computes in. Without it a CPU with AVX512-BF16 or AMX takes bf16 for a network of fp32.
ARITHMETIC = {"fp32": "f32", "fp16": "f16"}

# What only turns one type into another, or changes a layout, or is no work at all.
RETYPING = ("Input", "Output", "Const", "Convert", "Reorder", "FakeQuantize")

DEVICES = (
    {"device": "CPU"},
    {"device": "GPU", "precision": "fp16"},
    {"device": "NPU", "precision": "fp16"},
)


class OpenvinoSession:
    """A compiled network and one infer request."""

    def __init__(self, xml: Path, weights: Path, device: str, precision: str, threads: int) -> None:
        import openvino as ov

        core = ov.Core()
        _require(core, device)
        network = _read_ir(core, xml, weights)
        wanted = ARITHMETIC.get(precision, "f32")  # int8: what is not quantised
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": wanted}
        if device == "CPU":
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = core.compile_model(network, device, config)
        except RuntimeError as error:
            message = f"{device} cannot run {xml.name}: {_reason(error)}"
            raise Unsupported(message, hint="Try another precision or device.") from error
        self.metadata = _executed(core, compiled, device, wanted)
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        # the request's own memory, aligned as it likes
        self._inputs = {_name(port): self._request.get_tensor(port).data for port in compiled.inputs}
        self.input_shapes = {name: tuple(memory.shape) for name, memory in self._inputs.items()}
        # The input is set before and the output not copied. compiled(x), the usual call, hands the input over
        # each time: most of the 5 % by which a plain loop over squeezenet is slower than benchmark_app says.
        # What is left, 1 to 2 %, is Python's binding outside the request's own clock (`latency`), which
        # benchmark_app reads; we time the call, as for the other runtimes (tests/bench/fidelity.py).
        self.infer = functools.partial(self._request.infer, share_outputs=True)

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs."""
        for name, batch in batches.items():
            self._inputs[name][...] = batch

    def output(self) -> np.ndarray:
        """Return a copy of the output."""
        return self._request.get_output_tensor().data.copy()

    def operations(self) -> Mapping[str, int]:
        """Count the layers that the plugin executes by its word for their precision."""
        layers = [operation.get_rt_info() for operation in self._compiled.get_runtime_model().get_ops()]
        return collections.Counter(
            layer["runtimePrecision"].astype(str)
            for layer in layers
            if layer["layerType"].astype(str) not in RETYPING
        )


@tool.command()
def convert(
    frozen: Input,
    signature: Input,
    xml: Output = "{model}.xml",
    bin: Output = "{model}.bin",  # noqa: A002 - the name of the artifact
) -> Result:
    """Convert a frozen TensorFlow graph to IR with a fixed input shape, float32."""
    import openvino as ov

    said = _read_signature(signature)
    # Not ov.convert_model: it reads the same, takes a second longer, and imports openvino_telemetry.
    network = _read(ov.Core(), frozen, None, hint="Make it again with tf1.freeze.")
    try:
        ports = {_name(port): port for port in network.inputs}
        network.reshape({ports[name]: shape for name, shape in said["inputs"].items()})
        made = list(network.output().get_shape())
    except (RuntimeError, KeyError) as error:
        message = f"{frozen.name} does not take the inputs {said['inputs']}: {_reason(error)}"
        raise InvalidRequest(message, hint="Graph and signature belong to different models.") from error
    if made != said["output_shape"]:
        message = f"the converted network's output is {made}, the signature says {said['output_shape']}"
        raise InvalidRequest(message, hint="Graph and signature belong to different models.")
    return _save(network, xml, bin, "fp32")


@tool.command()
def to_fp16(
    xml: Input,
    bin: Input,  # noqa: A002 - the name of the artifact
    xml_fp16: Output = "{model}.fp16.xml",
    bin_fp16: Output = "{model}.fp16.bin",
) -> Result:
    """Store the weights as float16."""
    import openvino as ov

    return _save(_read_ir(ov.Core(), xml, bin), xml_fp16, bin_fp16, "fp16")


@tool.command()
def compress(
    xml: Input,
    bin: Input,  # noqa: A002 - the name of the artifact
    xml_int8_dynamic: Output = "{model}.int8-dynamic.xml",
    bin_int8_dynamic: Output = "{model}.int8-dynamic.bin",
) -> Result:
    """Store the weights as int8, the nearest that OpenVINO has to dynamic int8: activations stay float32."""
    import openvino as ov

    network = _nncf().compress_weights(_read_ir(ov.Core(), xml, bin))
    return _save(network, xml_int8_dynamic, bin_int8_dynamic, "int8-dynamic")


@tool.command()
def quantize(
    xml: Input,
    bin: Input,  # noqa: A002 - the name of the artifact
    calibration: Input,
    xml_int8: Output = "{model}.int8.xml",
    bin_int8: Output = "{model}.int8.bin",
) -> Result:
    """Quantise weights and activations to int8; inputs, output and softmax stay float32."""
    import openvino as ov

    from tools.calibration import read

    nncf, network = _nncf(), _read_ir(ov.Core(), xml, bin)
    batches = read(calibration, {_name(port): tuple(port.get_shape()) for port in network.inputs})
    progress(0.1, f"running {len(batches)} representative inputs")
    tensors = [{port.any_name: batch[_name(port)] for port in network.inputs} for batch in batches]
    # The range of all inputs, as the other quantisers take it. NNCF takes the mean of their extremes, which
    # cuts off the strong ones: cosine 0.91 instead of 0.97 in the network of tests/test_precision.py.
    estimator = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
    quantised = nncf.quantize(
        network,
        nncf.Dataset(tensors),
        subset_size=len(tensors),
        advanced_parameters=nncf.AdvancedQuantizationParameters(activations_range_estimator_params=estimator),
    )
    return _save(quantised, xml_int8, bin_int8, "int8")


@tool.command(measures=True, variants=DEVICES)
def benchmark(
    xml: Input,
    bin: Input,  # noqa: A002 - the name of the artifact
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    device: str = "CPU",
    threads: int = 0,
    budget_s: float = 10.0,
    precision: str = "fp32",
) -> Result:
    """Check the network against the reference, then measure its single-stream latency at batch 1."""
    import openvino  # noqa: F401 - so that load_ms is the network's alone

    target = Target("openvino", device, precision, threads, budget_s)
    return run(_loader(xml, bin, target), target, reference, samples)


@tool.command(variants=DEVICES)
def infer(
    xml: Input,
    bin: Input,  # noqa: A002 - the name of the artifact
    images: Input,
    answers: Output = "{model}.openvino-answers.npz",
    device: str = "CPU",
    threads: int = 0,
    precision: str = "fp32",
) -> Result:
    """Run the network on inputs (`inputs/<name>`) and write what it answers (`outputs`)."""
    target = Target("openvino", device, precision, threads)
    return write_answers(_loader(xml, bin, target), target, images, answers)


def _loader(xml: Path, weights: Path, target: Target) -> Callable[[], OpenvinoSession]:
    """Return what loads the network."""
    return lambda: OpenvinoSession(xml, weights, target.device, target.precision, target.cpu_threads)


@tool.command(cached=False)
def devices() -> Result:
    """List the devices that OpenVINO sees on this host."""
    import openvino as ov

    core = ov.Core()
    names = {name: core.get_property(name, "FULL_DEVICE_NAME") for name in core.available_devices}
    return Result(metadata={"devices": names})


def _nncf() -> Any:
    """Return the quantiser's module, which else would send its makers what it is used for."""
    os.environ["NNCF_CI"] = "1"
    import nncf
    import nncf.quantization.range_estimator

    return nncf


def _read_ir(core: Any, xml: Path, weights: Path) -> Any:
    return _read(core, xml, weights, hint="Convert it again: with openvino.convert, or as you made it.")


def _save(network: Any, xml: Path, weights: Path, precision: str) -> Result:
    import openvino as ov

    if weights != xml.with_suffix(".bin"):
        message = f"OpenVINO writes the weights of {xml} to {xml.with_suffix('.bin')}, not to {weights}"
        raise InvalidRequest(message, hint="Give both the same name.")
    ov.save_model(network, str(xml), compress_to_fp16=precision == "fp16")
    metadata = {"precision": precision, "operations": len(network.get_ops())}
    return Result(metrics={"size_bytes": weights.stat().st_size}, metadata=metadata)


def _require(core: Any, device: str) -> None:
    """Raise DeviceNotFound if OpenVINO does not list the device; several GPUs are GPU.0, GPU.1."""
    if not any(name.split(".")[0] == device or name == device for name in core.available_devices):
        message = f"OpenVINO sees no {device} here, only {', '.join(core.available_devices)}"
        raise DeviceNotFound(message, hint=HINTS.get(device, f"Devices it knows: {', '.join(HINTS)}."))


def _executed(core: Any, compiled: Any, device: str, wanted: str) -> dict[str, Any]:
    """Return what the network really runs on, and in; raise if that is not what was asked for."""
    ran_on = list(compiled.get_property("EXECUTION_DEVICES"))
    if not all(name == device or name.startswith(f"{device}.") for name in ran_on):
        message = f"OpenVINO put the network on {', '.join(ran_on)} instead of {device}"
        raise StageError(message, hint="A fallback is not measured; use a network that the device can run.")
    arithmetic = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if arithmetic != wanted:
        message = f"{device} computes in {arithmetic}, not in {wanted}"
        raise Unsupported(message, hint="Use another precision on this device.")
    found = {"device_name": core.get_property(device, "FULL_DEVICE_NAME"), "execution_devices": ran_on}
    if device == "CPU":
        found["threads"] = compiled.get_property("INFERENCE_NUM_THREADS")
    return {**found, "arithmetic": arithmetic}


def _read(core: Any, path: Path, weights: Any, *, hint: str) -> Any:
    """Read a network.

    Raises:
        Unsupported: it has operations that OpenVINO cannot convert; the message names them.
        InvalidRequest: it is corrupt, or cut off.
    """
    try:
        return core.read_model(path, weights) if weights else core.read_model(path)
    except RuntimeError as error:
        unknown = re.search(r"No conversion rule found for operations: (.+)", str(error))
        if unknown:
            message = f"OpenVINO has no conversion for the operations {unknown[1]}"
            raise Unsupported(message, hint="See docs.openvino.ai, Frontend Extensions.") from error
        message = f"{path.name} cannot be read as a network: {_reason(error)}"
        raise InvalidRequest(message, hint=hint) from error


def _name(port: Any) -> str:
    """Return the name of an input: TensorFlow's, which may end in the number of an output."""
    return str(port.any_name).partition(":")[0]


def _reason(error: Exception) -> str:
    """The last line of an OpenVINO error, which says what is wrong; those before say where in its source."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1][:300]


def _read_signature(path: Path) -> dict[str, Any]:
    try:
        signature = json.loads(path.read_text())
        shapes = {name: list(said["shape"]) for name, said in signature["inputs"].items()}
        return {"inputs": shapes, "output_shape": list(signature["output_shape"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path.name} is not a signature with inputs and output_shape"
        raise InvalidRequest(message, hint="Make it again with tf1.export.") from error


if __name__ == "__main__":
    tool.main()
