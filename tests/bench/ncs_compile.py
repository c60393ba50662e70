"""What an offline conversion for the stick costs: `python -m tests.bench.ncs_compile [--json]`.

Prints, from one machine and one sitting, medians of processes in turn, each from reading the ONNX network:
- OpenVINO's own compilation for a chip that is not there, as its users do it: with the 5 s for which the
  plug-in looks for a stick before it compiles, and without them;
- ours: the whole of ncs.convert, with the checks of what came out and the plan;
- the ratios of the two.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from host import ROOT, machine
from host.engines.venv import environment, tool_environment

SEARCH_S = 5.0  # DEVICE_APPEAR_TIMEOUT_ON_OPEN in mvnc_api.c of OpenVINO 2021.4
ROUNDS = 5

PLUGIN = """
import sys, time
from tools.ncs import inference_engine
core = inference_engine.core()
core.set_config({"CACHE_DIR": sys.argv[2]}, "")
begun = time.perf_counter()
network = core.read_network(sys.argv[1])
for described in network.input_info.values():
    described.precision = "FP16"
try:
    core.load_network(network, "MYRIAD", {"VPU_MYRIAD_PLATFORM": "VPU_MYRIAD_2480"})
except RuntimeError as error:
    assert "no available devices with platform" in str(error), error
print(time.perf_counter() - begun)
"""
OURS = """
import pathlib, sys, time
from tools.ncs import convert, inference_engine
inference_engine.core()
folder = pathlib.Path(sys.argv[2])
begun = time.perf_counter()
convert(pathlib.Path(sys.argv[1]), blob=folder / "m.blob", plan=folder / "m.json")
print(time.perf_counter() - begun)
"""


def seconds(script: str, onnx: Path) -> float:
    """Run a script in a new process of the tool's environment; return the seconds that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [environment("ncs", print), "-c", script, onnx, folder]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, env=tool_environment())
    return float(done.stdout.splitlines()[-1])


def measure(model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "runner.py", "run", "tf1.to-onnx", "--model", model, "--work", folder]
        argv += ["--engine", "venv", "--weights", "generated"]
        subprocess.run(argv, check=True, cwd=ROOT, capture_output=True)
        onnx = Path(folder, "models", model, f"{model}.onnx")
        pairs = [(seconds(PLUGIN, onnx), seconds(OURS, onnx)) for _ in range(ROUNDS)]
    plugin_s, ours_s = map(statistics.median, zip(*pairs, strict=True))
    return {
        "machine": {**machine.facts(), "platform": platform.platform()},
        "model": model,
        "rounds": ROUNDS,
        "plugin_s": plugin_s,
        "plugin_without_search_s": plugin_s - SEARCH_S,
        "ours_s": ours_s,
        "ours_to_plugin": ours_s / plugin_s,
        "ours_to_plugin_without_search": ours_s / (plugin_s - SEARCH_S),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="squeezenet", help="a network of the zoo")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.model)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")


if __name__ == "__main__":
    main()
