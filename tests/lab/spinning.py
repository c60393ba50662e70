"""A backend that keeps one processor busy, so that what it takes is known, and can be wrong at will."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tools import metered
from tools.benchmark import Target, run
from tools.stage import Input, Output, Result, Tool

tool = Tool("spinning", packages=("numpy",))
INFERENCE_S = 0.004  # of processor time
HURRIED = {"REST_S": 1.0, "WINDOW_S": 0.4, "EDGE_S": 0.4}


class Spinning:
    """Answers with its input."""

    input_shapes: Mapping[str, tuple[Any, ...]] = {"input": (1, 5)}

    def __init__(self, wrong_in_windows: bool) -> None:
        self._wrong = wrong_in_windows
        self.metadata: dict[str, Any] = {"threads": 1}

    def feed(self, batches: Any) -> None:
        """Set the input."""
        self._input = batches["input"].copy()

    def infer(self) -> None:
        """Take processor time, whatever else the processor does meanwhile."""
        until_s = time.thread_time() + INFERENCE_S
        while time.thread_time() < until_s:
            pass
        self._output = self._input * (-1 if self._wrong and metered.SAMPLING.exists() else 1)

    def output(self) -> Any:
        """Return the output."""
        return self._output.copy()

    def operations(self) -> Mapping[str, int]:
        """Return nothing: it is no network."""
        return {}


@tool.command(measures=True)
def benchmark(
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    budget_s: float = 1.0,
    wrong_in_windows: bool = False,
    hurried: bool = False,
) -> Result:
    """Measure; `hurried`: with short windows and rests, for tests."""
    if hurried:
        vars(metered).update(HURRIED)
    target = Target("spinning", "CPU", "fp32", 1, budget_s)
    return run(lambda: Spinning(wrong_in_windows), target, reference, samples)


@tool.command(measures=True)
def elsewhere(reference: Input, samples: Output = "{model}.latency_ns.i64", hurried: bool = True) -> Result:
    """Measure as a phone does: where no windows are made."""
    metered.ASKED.unlink(missing_ok=True)
    return benchmark(reference, samples, 0.5)


if __name__ == "__main__":
    tool.main()
