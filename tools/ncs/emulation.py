"""The function that the stick computes, on the CPU: weights, input, output in float16, the rest in float32.

It tells whether float16 weights are enough for a network, and whether what was compiled is the network that
is meant. It cannot tell what the stick's own arithmetic adds: there, tensors between layers are float16 too,
and the plug-in's CPU twin has no such mode (it turns an IR of float16 into float32 as it loads it).
"""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from tools import benchmark, myriad_blob
from tools.benchmark import Target, cpu_name
from tools.myriad_blob import Blob
from tools.ncs import inference_engine, stage_plan
from tools.stage import InvalidRequest, Result

if TYPE_CHECKING:
    import numpy as np

REASON = "a CPU stood in for the stick: weights, input and output were float16, all between them float32"
HINT = "Plug in a Neural Compute Stick 2 to measure, and see what is there: python runner.py doctor"
NOT_COUNTED = ("Input", "Output", "Const", "Reorder", "Convert")


class EmulatedSession:
    """The network on OpenVINO's CPU plug-in, rounded as the stick's compiler rounds it."""

    def __init__(self, core: Any, onnx: Path, compiled: Blob, threads: int) -> None:
        network = inference_engine.read_network(core, onnx)
        _require_same(network, compiled)
        network, constants = rounded(core, network)
        # ENFORCE_BF16: else a CPU with AVX512-BF16 computes in that, which is coarser than float16
        config = {"ENFORCE_BF16": "NO", "CPU_THREADS_NUM": str(threads), "PERF_COUNT": "YES"}
        with inference_engine.known_errors("the CPU plug-in cannot load the network"):
            self._network = core.load_network(network, "CPU", config)
        (self._request,) = self._network.requests
        self._inputs = {name: blob.buffer for name, blob in self._request.input_blobs.items()}
        self.input_shapes = {name: memory.shape for name, memory in self._inputs.items()}
        self.infer = self._request.infer
        self.metadata: dict[str, Any] = {
            "device_name": cpu_name(),
            "threads": threads,
            "emulated": ["weights", "input", "output"],
            "not_emulated": ["tensors between layers", "sums", "the stick's own kernels"],
            "constants": constants,
        }

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs, rounded; tokens are integers."""
        for name, batch in batches.items():
            self._inputs[name][...] = batch.astype("float16") if batch.dtype.kind == "f" else batch

    def output(self) -> np.ndarray:
        """Return the output, rounded."""
        import numpy as np

        (blob,) = self._request.output_blobs.values()
        return blob.buffer.astype(np.float16).astype(np.float32)

    def operations(self) -> Mapping[str, int]:
        """Count the layers by the type that the CPU's kernels compute in, the end of their names."""
        entries = self._request.get_perf_counts().values()
        return collections.Counter(
            entry["exec_type"].rpartition("_")[2]
            for entry in entries
            if entry["status"] == "EXECUTED" and entry["layer_type"] not in NOT_COUNTED
        )


def check(onnx: Path, blob: Path, plan: Path, reference: Path, threads: int) -> Result:
    """Compare the emulated network with the reference; `blob` and `plan` are what it was compiled to.

    Raises:
        WrongOutput: float16 weights are not enough for it, or it is another network.
        InvalidRequest: blob or plan is corrupt or of another network, or a parameter makes no sense.
    """
    target = Target("emulated", "CPU", "fp16", threads)
    compiled = myriad_blob.read(blob)
    stage_plan.read(plan, compiled)
    core = inference_engine.core()

    def load() -> EmulatedSession:
        return EmulatedSession(core, onnx, compiled, target.cpu_threads)

    return benchmark.check(load, target, reference, reason=REASON, hint=HINT)


def rounded(core: Any, network: Any) -> tuple[Any, dict[str, int]]:
    """Return the network with each constant of float32 rounded to float16, and how many that were.

    `beyond_float16` counts the values that became infinite.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder, "network.xml"), Path(folder, "network.bin")
        network.serialize(str(xml), str(weights))
        memory = bytearray(weights.read_bytes())
        counts = {"rounded": 0, "values": 0, "beyond_float16": 0}
        for layer in ET.parse(xml).getroot().iter("layer"):
            data = layer.find("data")
            if layer.get("type") == "Const" and data is not None and data.get("element_type") == "f32":
                offset, size = int(data.attrib["offset"]), int(data.attrib["size"])
                values = np.frombuffer(memory, np.float32, size // 4, offset)
                with np.errstate(over="ignore"):
                    values[...] = values.astype(np.float16)
                counts["rounded"] += 1
                counts["values"] += values.size
                counts["beyond_float16"] += int(np.isinf(values).sum())
        weights.write_bytes(memory)
        return core.read_network(str(xml), str(weights)), counts


def _require_same(network: Any, blob: Blob) -> None:
    """Raise InvalidRequest if inputs and outputs of the blob are not the network's."""
    shapes = {name: tuple(about.input_data.shape) for name, about in network.input_info.items()}
    shapes.update({name: tuple(about.shape) for name, about in network.outputs.items()})
    compiled = {tensor.name: tensor.shape for tensor in (*blob.inputs, *blob.outputs)}
    if shapes != compiled:
        message = f"the blob is that of another network: {compiled} instead of {shapes}"
        raise InvalidRequest(message, hint="Convert the network again, with ncs.convert.")
