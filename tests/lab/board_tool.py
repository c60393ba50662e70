"""A tool for a board, for tests of the way there: it builds by copying, and measures what it makes up.

So what it says is true of no network; a virtual board, on which alone it runs, labels it as simulated.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tools.stage import Input, Output, Result, StageError, Tool, progress

tool = Tool("boardtool", board_build=lambda l4t: ("", ""))


@tool.command(on_board=True)
def build(onnx: Input, engine: Output = "{model}.engine", seconds: float = 0.0) -> Result:
    """Copy the network, after a while in which a file says that it goes on."""
    if "unsupported" in os.environ.get("BOARDTOOL", ""):
        message = "the layer conv has an operator that is not supported"
        raise StageError(message, hint="Leave it out.")
    Path("building").touch()
    progress(0.5, "building")
    time.sleep(seconds)
    engine.write_bytes(onnx.read_bytes())
    return Result(metadata={"built_in": str(Path.cwd())})


@tool.command(measures=True, on_board=True)
def benchmark(engine: Input, samples: Output = "{model}.latency_ns.i64", budget_s: float = 10.0) -> Result:
    """Say what a benchmark says."""
    samples.write_bytes(engine.read_bytes()[:8].ljust(8, b"\0"))
    latency = dict.fromkeys(("p50", "p90", "p99", "mean", "min", "max"), 1.0)
    correctness = {"max_abs": 0.0, "cosine": 1.0, "top1_match": 1.0, "top5_overlap": 1.0, "n_inputs": 1}
    metrics = {f"latency_{key}_ms": value for key, value in latency.items()}
    metrics.update({f"correctness_{key}": value for key, value in correctness.items()})
    metrics.update({"latency_n": 1, "latency_ci95_rel": 0.0, "throughput_per_s": 1000.0, "load_ms": 1.0})
    rails = Path("/sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_0")
    seen = {"rail_name_0": sorted(path.read_text().strip() for path in rails)}
    return Result(metrics=metrics, metadata={"device": "GPU", "rails": seen})


if __name__ == "__main__":  # not tool.main(), which needs a package, and its image has none
    if sys.argv[1] == "serve":
        sys.exit(tool.serve())
    tool.measure(Path(sys.argv[2]))
