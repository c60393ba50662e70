"""Benchmark of TensorFlow Lite on the CPU, with two runtimes: tflite-runtime and its successor LiteRT."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.benchmark import Target, cpu_name, run
from tools.stage import Input, InvalidRequest, Output, Result, Tool, Unsupported, first_line

if TYPE_CHECKING:
    import numpy as np

tool = Tool("tflite", packages=("tflite-runtime", "ai-edge-litert", "numpy"))

INTERPRETERS = {"tflite": "tflite_runtime.interpreter", "litert": "ai_edge_litert.interpreter"}
IDENTIFIER = b"TFL3"  # the file_identifier of TensorFlow Lite's schema.fbs, at byte 4 as FlatBuffers put it


class TfliteSession:
    """An `Interpreter`; XNNPACK is its default delegate for floating point on the CPU."""

    def __init__(self, path: Path, runtime: str, threads: int) -> None:
        module = importlib.import_module(INTERPRETERS[runtime])
        try:
            self._interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except ValueError as error:
            raise _not_loaded(path, error) from error
        except RuntimeError as error:  # "Encountered unresolved custom op", "failed to prepare"
            message = f"{runtime} cannot run {path.name}: {first_line(error)}"
            raise Unsupported(message, hint="Convert with operators that TensorFlow Lite has.") from error
        (given,) = self._interpreter.get_output_details()
        self._inputs = {wanted["name"]: wanted for wanted in self._interpreter.get_input_details()}
        self._output = given["index"]
        self.input_shapes = {name: tuple(wanted["shape"].tolist()) for name, wanted in self._inputs.items()}
        self.infer = self._interpreter.invoke
        self.metadata: dict[str, Any] = {
            "device_name": cpu_name(),
            "threads": threads,
            "xnnpack_partitions": self._delegated(),
        }

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs."""
        for name, batch in batches.items():
            wanted = self._inputs[name]
            self._interpreter.set_tensor(wanted["index"], batch.astype(wanted["dtype"], copy=False))

    def output(self) -> np.ndarray:
        """Return a copy of the output."""
        return self._interpreter.get_tensor(self._output)

    def _delegated(self) -> int:
        """Partitions of the graph that a delegate runs; 1 = all in one piece, 0 = built-in kernels only."""
        return [op["op_name"] for op in self._interpreter._get_ops_details()].count("DELEGATE")


@tool.command(measures=True, variants=({"runtime": "tflite"}, {"runtime": "litert"}))
def benchmark(
    tflite: Input,
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    runtime: str = "tflite",
    device: str = "CPU",
    threads: int = 0,
    budget_s: float = 10.0,
    precision: str = "fp32",
) -> Result:
    """Check the network against the reference, then measure its single-stream latency at batch 1."""
    if runtime not in INTERPRETERS or device != "CPU":
        message = f"there is no runtime {runtime!r} on device {device!r}"
        raise InvalidRequest(message, hint=f"Runtimes: {', '.join(INTERPRETERS)}, on CPU.")
    importlib.import_module(INTERPRETERS[runtime])  # so that load_ms is the network's alone
    if runtime == "tflite":
        _verify(tflite)
    target = Target(runtime, device, precision, threads, budget_s)
    return run(lambda: TfliteSession(tflite, runtime, target.cpu_threads), target, reference, samples)


def _verify(path: Path) -> None:
    """Raise InvalidRequest if the file is no TensorFlow Lite network.

    LiteRT verifies the file; tflite-runtime crashes on one that is cut off, so a child tries it first.
    """
    with path.open("rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise _not_loaded(path, ValueError("it does not have the identifier TFL3"))
    child = os.fork()
    if child == 0:
        try:
            TfliteSession(path, "tflite", threads=1)
        finally:
            os._exit(0)  # an exception is raised again where it can be reported
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        raise _not_loaded(path, ValueError("it crashes the runtime, so it is cut off or corrupt"))


def _not_loaded(path: Path, error: ValueError) -> InvalidRequest:
    message = f"{path.name} is not a TensorFlow Lite network: {first_line(error)}"
    return InvalidRequest(message, hint="Convert it again with tf1.to-tflite.")


if __name__ == "__main__":
    tool.main()
