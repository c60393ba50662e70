"""OpenVINO: conversion of the frozen graph to its IR, and benchmark on CPU, GPU and NPU."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.benchmark import Target, run
from tools.stage import DeviceNotFound, Input, InvalidRequest, Output, Result, StageError, Tool, Unsupported

if TYPE_CHECKING:
    import numpy as np

tool = Tool("openvino", packages=("openvino", "numpy"))

HINTS = {
    "CPU": "The openvino package always brings its CPU plugin: reinstall it.",
    "GPU": "Needs an Intel GPU, its OpenCL driver (intel-opencl-icd) and access to /dev/dri.",
    "NPU": "Needs an Intel Core Ultra, its driver (linux-npu-driver) and access to /dev/accel.",
    "MYRIAD": "The Neural Compute Stick needs OpenVINO 2021.4: see the tool ncs.",
}
# What the plugin computes in. Without it a CPU with AVX512-BF16 or AMX takes bf16 for a network of fp32.
ARITHMETIC = {"fp32": "f32", "fp16": "f16"}


class OpenvinoSession:
    """A compiled network and one infer request."""

    def __init__(self, xml: Path, weights: Path, device: str, precision: str, threads: int) -> None:
        import openvino as ov

        core = ov.Core()
        _require(core, device)
        network = _read(core, xml, weights, hint="Convert it again with openvino.convert.")
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


@tool.command()
def convert(
    frozen: Input,
    signature: Input,
    xml: Output = "{model}.xml",
    bin: Output = "{model}.bin",  # noqa: A002 - the name of the artifact
    precision: str = "fp32",
) -> Result:
    """Convert a frozen TensorFlow graph to IR with a fixed input shape; weights as fp32, or as fp16."""
    import openvino as ov

    if precision not in ARITHMETIC:
        message = f"there are no weights of precision {precision!r}"
        raise InvalidRequest(message, hint=f"Precisions: {', '.join(ARITHMETIC)}.")
    if bin != xml.with_suffix(".bin"):
        message = f"OpenVINO writes the weights of {xml} to {xml.with_suffix('.bin')}, not to {bin}"
        raise InvalidRequest(message, hint="Give both the same name.")
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
    ov.save_model(network, str(xml), compress_to_fp16=precision == "fp16")
    return Result(metadata={"precision": precision, "operations": len(network.get_ops())})


@tool.command(
    measures=True,
    variants=(
        {"device": "CPU"},
        {"device": "GPU", "precision": "fp16"},
        {"device": "NPU", "precision": "fp16"},
    ),
)
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
    return run(
        lambda: OpenvinoSession(xml, bin, device, precision, target.cpu_threads), target, reference, samples
    )


@tool.command(cached=False)
def devices() -> Result:
    """List the devices that OpenVINO sees on this host."""
    import openvino as ov

    core = ov.Core()
    names = {name: core.get_property(name, "FULL_DEVICE_NAME") for name in core.available_devices}
    return Result(metadata={"devices": names})


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
