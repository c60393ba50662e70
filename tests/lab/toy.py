"""The toy backend of docs/adding-a-backend.md: ONNX Runtime with all of its graph optimisations off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.benchmark import Target, run
from tools.stage import Input, Output, Result, Tool

tool = Tool("toy", packages=("onnxruntime",))


class ToySession:
    """A network as ONNX Runtime runs it unoptimised."""

    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input_shapes = {wanted.name: tuple(wanted.shape) for wanted in self._session.get_inputs()}
        self.metadata: dict[str, Any] = {"threads": threads}

    def feed(self, batches: Any) -> None:
        """Set the inputs."""
        self._feed = batches

    def infer(self) -> None:
        """Run one inference."""
        self._outputs = self._session.run(None, self._feed)

    def output(self) -> Any:
        """Return the output."""
        return self._outputs[0]

    def operations(self) -> Mapping[str, int]:
        """Return nothing: what ONNX Runtime computes in is the business of the tool onnx."""
        return {}


@tool.command(measures=True)
def benchmark(
    onnx: Input,
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    threads: int = 0,
    budget_s: float = 10.0,
) -> Result:
    """Check the network against the reference, then measure its latency."""
    target = Target("toy", "CPU", "fp32", threads, budget_s)
    return run(lambda: ToySession(str(onnx), target.cpu_threads), target, reference, samples)


if __name__ == "__main__":
    tool.main()
