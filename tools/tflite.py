"""Benchmark of TensorFlow Lite on the CPU, with two runtimes: tflite-runtime and its successor LiteRT."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict

from tools import benchmark_model
from tools.benchmark import Target, cpu_name, run, write_answers
from tools.stage import Input, InvalidRequest, Output, Result, Tool, Unsupported, first_line
from tools.tflite_model import dequantised, not_loaded, operations, quantised

if TYPE_CHECKING:
    import numpy as np

tool = Tool("tflite", packages=("tflite-runtime", "ai-edge-litert", "numpy"))

INTERPRETERS = {"tflite": "tflite_runtime.interpreter", "litert": "ai_edge_litert.interpreter"}
RUNTIMES = tuple({"runtime": runtime} for runtime in INTERPRETERS)
IDENTIFIER = b"TFL3"  # the file_identifier of TensorFlow Lite's schema.fbs, at byte 4 as FlatBuffers put it


class TfliteSession:
    """An `Interpreter`; XNNPACK is its default delegate for floating point on the CPU."""

    def __init__(self, path: Path, runtime: str, threads: int) -> None:
        module = importlib.import_module(INTERPRETERS[runtime])
        try:
            self._interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except ValueError as error:
            raise not_loaded(path, error) from error
        except RuntimeError as error:  # "Encountered unresolved custom op", "failed to prepare"
            message = f"{runtime} cannot run {path.name}: {first_line(error)}"
            raise Unsupported(message, hint="Convert with operators that TensorFlow Lite has.") from error
        (self._output,) = self._interpreter.get_output_details()
        self._inputs = {wanted["name"]: wanted for wanted in self._interpreter.get_input_details()}
        self.input_shapes = {name: tuple(wanted["shape"].tolist()) for name, wanted in self._inputs.items()}
        self.infer = self._interpreter.invoke
        self.metadata: dict[str, Any] = {
            "device_name": cpu_name(),
            "threads": threads,
            "xnnpack_partitions": self._delegated(),
        }

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs, as the integers that stand for them where the network takes those."""
        for name, batch in batches.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], quantised(batch, self._inputs[name]))

    def output(self) -> np.ndarray:
        """Return a copy of the output, as the numbers that its integers stand for."""
        return dequantised(self._interpreter.get_tensor(self._output["index"]), self._output)

    def operations(self) -> Mapping[str, int]:
        """Count the operators by the type of their first input; see tflite_model.operations."""
        return operations(self._interpreter)

    def _delegated(self) -> int:
        """Partitions of the graph that a delegate runs; 1 = all in one piece, 0 = built-in kernels only."""
        return [op["op_name"] for op in self._interpreter._get_ops_details()].count("DELEGATE")


@tool.command(measures=True, variants=RUNTIMES)
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
    target = Target(runtime, device, precision, threads, budget_s)
    return run(_loader(tflite, target), target, reference, samples)


@tool.command(variants=RUNTIMES)
def infer(
    tflite: Input,
    images: Input,
    answers: Output = "{model}.tflite-answers.npz",
    runtime: str = "tflite",
    device: str = "CPU",
    threads: int = 0,
    precision: str = "fp32",
) -> Result:
    """Run the network on inputs (`inputs/<name>`) and write what it answers (`outputs`)."""
    target = Target(runtime, device, precision, threads)
    return write_answers(_loader(tflite, target), target, images, answers)


@tool.parser
def parse_benchmark(file: Path) -> Dict[str, Any]:
    """Read what benchmark_model printed: times, delegates and fallbacks, memory, operators."""
    return benchmark_model.read(file)


def _loader(tflite: Path, target: Target) -> Callable[[], TfliteSession]:
    """Return what loads the network; the runtime is imported before, so that load_ms is the network's alone.

    Raises:
        InvalidRequest: there is no such runtime or device, or the file is no network.
    """
    if target.runtime not in INTERPRETERS or target.device != "CPU":
        message = f"there is no runtime {target.runtime!r} on device {target.device!r}"
        raise InvalidRequest(message, hint=f"Runtimes: {', '.join(INTERPRETERS)}, on CPU.")
    importlib.import_module(INTERPRETERS[target.runtime])
    if target.runtime == "tflite":
        _verify(tflite)
    return lambda: TfliteSession(tflite, target.runtime, target.cpu_threads)


def _verify(path: Path) -> None:
    """Raise InvalidRequest if the file is no TensorFlow Lite network.

    LiteRT verifies the file; tflite-runtime crashes on one that is cut off, so a child tries it first.
    """
    with path.open("rb") as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise not_loaded(path, ValueError("it does not have the identifier TFL3"))
    child = os.fork()
    if child == 0:
        try:
            TfliteSession(path, "tflite", threads=1)
        finally:
            os._exit(0)  # an exception is raised again where it can be reported
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        raise not_loaded(path, ValueError("it crashes the runtime, so it is cut off or corrupt"))


if __name__ == "__main__":
    tool.main()
