"""Do we measure what the vendor's own benchmark measures? The same file, the same threads, in turn A B A B.

    python -m tests.bench.fidelity --json [--model NAME ...]

Ours is the session and the timing loop of the tool's `benchmark` command, in the tool's environment. Theirs:

- openvino: `benchmark_app -hint latency`, in f32 as ours (its default on a CPU with AVX512-BF16 is bf16,
  which is twice as fast and another arithmetic). It presets the input, as we do, and reads the request's own
  clock (`request.latency`); ours is what the call took.
- litert: `litert-benchmark`, which times `CompiledModel.run_by_name`; ours times `Interpreter.invoke`. Both
  run the graph on the same XNNPACK of the same package with as many threads, so they compare. It prints two
  decimals of a millisecond: below 0.5 ms a pair says nothing to 2 %, and is marked `coarse`.
  (tflite-runtime brings no benchmark of its own.)

Run it on an idle machine: the sides take turns, but a neighbour that comes and goes is in one side only.
Both sides of a pair take the same number of inferences: ours counts how many fit into `--budget-s`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from host import ROOT
from host.engines.venv import environment, tool_environment
from tools.benchmark import cpu_name
from tools.measure import usable_cpus

COARSE_MS = 0.5
OURS = """
import json, sys
from pathlib import Path
import numpy as np
from tools import measure, openvino, tflite

path, threads, budget_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
if path.suffix == ".xml":
    session = openvino.OpenvinoSession(path, path.with_suffix(".bin"), "CPU", "fp32", threads)
else:
    session = tflite.TfliteSession(path, "litert", threads)
random = np.random.default_rng(0)
session.feed({name: random.uniform(-1, 1, shape).astype("f") for name, shape in session.input_shapes.items()})
measurement = measure.measure(session.infer, budget_s=budget_s, width=0)
print(json.dumps(measurement.metrics()))
"""


def ours(tool: str, path: Path, threads: int, budget_s: float) -> dict[str, float]:
    """Return the metrics of our measurement."""
    argv = [str(environment(tool, note)), "-c", OURS, str(path), str(threads), str(budget_s)]
    return dict(json.loads(output(argv).splitlines()[-1]))


def benchmark_app(path: Path, threads: int, count: int) -> float:
    """Return the median in ms that OpenVINO's benchmark_app prints; its unit changes with the size."""
    tool = environment("openvino", note).with_name("benchmark_app")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")  # -nthreads is refused together with -hint latency
        config.write_text(json.dumps({"CPU": {"INFERENCE_NUM_THREADS": str(threads)}}))
        options = f"-d CPU -hint latency -infer_precision f32 -niter {count} -load_config {config}"
        text = output([str(tool), "-m", str(path), *options.split()])
    found = re.search(r"Median:\s+([\d.]+) (us|ms|s)\b", text)
    if found is None:
        sys.exit(f"benchmark_app printed no median:\n{text}")
    return float(found[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[found[2]]


def litert_benchmark(path: Path, threads: int, count: int) -> float:
    """Return the median in ms that litert-benchmark writes."""
    tool = environment("tflite", note).with_name("litert-benchmark")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        options = f"--num_threads {threads} --num_runs {count} --warmup_runs {max(count // 10, 5)}"
        output([str(tool), "--model", str(path), "--result_json", str(result), *options.split()])
        return float(json.loads(result.read_text())["latency"]["median_ms"])


VENDORS = {"openvino": ("openvino", benchmark_app), "litert": ("tflite", litert_benchmark)}


def pair(backend: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run both in turn; return the median of each side's medians, and their ratio."""
    tool, theirs = VENDORS[backend]
    turns = []
    for turn in range(options.turns):
        metrics = ours(tool, path, options.threads, options.budget_s)
        our_ms = metrics["latency_p50_ms"]
        their_ms = theirs(path, options.threads, int(metrics["latency_n"]))
        note(f"{backend} {path.name} turn {turn + 1}: ours {our_ms:.3f} ms, theirs {their_ms:.3f} ms")
        turns.append((our_ms, their_ms))
    ours_ms, theirs_ms = (statistics.median(side) for side in zip(*turns, strict=True))
    return {
        "backend": backend,
        "model": path.stem,
        "ours_ms": round(ours_ms, 4),
        "theirs_ms": round(theirs_ms, 4),
        "ratio": round(ours_ms / theirs_ms, 4),
        "turns_ms": [[round(value, 4) for value in turn] for turn in turns],
        "coarse": backend == "litert" and theirs_ms < COARSE_MS,
    }


def artifact(model: str, stage: str, suffix: str, work: Path) -> Path:
    """Return a network's file, made by the runner or taken from its store."""
    argv = ["runner.py", "run", stage, "--model", model, "--work", str(work), "--engine", "venv"]
    subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, stdout=sys.stderr)
    return (work / "models" / model / f"{model}.{suffix}").resolve()


def output(argv: list[str]) -> str:
    """Run a command in a tool's environment; return what it prints, and stop if it fails."""
    done = subprocess.run(argv, env=tool_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv[:2])} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def note(text: str) -> None:
    """Say what goes on, beside the result."""
    print(text, file=sys.stderr)


def main() -> None:
    """Measure every file that was named and print the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", action="append", help="a network of the zoo; squeezenet if none is named")
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="where its files are, or are made")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--turns", type=int, default=15, help="A B pairs, of which the medians are taken")
    parser.add_argument("--budget-s", type=float, default=1.5, help="seconds of our side in one turn")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    pairs = []
    for model in options.model or ["squeezenet"]:
        pairs.append(pair("openvino", artifact(model, "openvino.convert", "xml", options.work), options))
        pairs.append(pair("litert", artifact(model, "tf1.to-tflite", "tflite", options.work), options))
    machine = {
        "cpu": cpu_name(),
        "cpus": usable_cpus(),
        "threads": options.threads,
        "system": platform.platform(),
        "load_1m": round(os.getloadavg()[0], 2),
    }
    if options.json:
        print(json.dumps({"pairs": pairs, "machine": machine}, indent=2))
        return
    line = "{backend:10} {model:20} ours {ours_ms:8.3f} ms  theirs {theirs_ms:8.3f} ms  ratio {ratio:.3f}"
    for row in pairs:
        print(line.format(**row))


if __name__ == "__main__":
    main()
