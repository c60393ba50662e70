"""What the runner itself costs: `python -m tests.bench.runner_overhead [--engine docker] [--json]`.

Prints, all from one machine and one sitting:
- seconds of `--help` and `plan` (median of several starts);
- the main job on a cold store, environments or images warm: wall time, what of it was in tools, the rest;
- the same with everything but the measurements cached;
- whole-process seconds of preparing squeezenet (weights, export, freeze, TFLite) in one tf1 process;
- the runner's own peak memory with a network of 50 million parameters (alexnet_v2).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from host import ROOT, machine
from host.engines.venv import environment, tool_environment

PREPARING = {"tf1.generate-weights", "tf1.export", "tf1.freeze", "tf1.to-tflite"}
STARTS = 7


def seconds(*argv: str, **more: Any) -> float:
    begun = time.monotonic()
    subprocess.run(argv, check=True, capture_output=True, cwd=ROOT, **more)
    return time.monotonic() - begun


def runner(*arguments: str) -> list[str]:
    return [sys.executable, "runner.py", *arguments]


def main_job(work: Path, engine: str, model: str = "squeezenet") -> dict[str, float]:
    """Wall time of `all`, what of it was inside tool processes, and what was not."""
    wall_s = seconds(
        *runner("all", "--model", model, "--work", str(work), "--engine", engine, "--budget-s", "2")
    )
    run = json.loads((work / "runs" / "latest" / "run.json").read_text())
    tools_s = sum(process["seconds"] for process in run["processes"])
    return {
        "wall_s": wall_s,
        "tools_s": tools_s,
        "rest_s": wall_s - tools_s,
        "rest_share": (wall_s - tools_s) / wall_s,
        "report_s": sum(p["seconds"] for p in run["processes"] if p["tool"] == "report"),
    }


def preparing(work: Path) -> float:
    """Replay the stage folders of an earlier run in one new tf1 process."""
    run = json.loads((work / "runs" / "latest" / "run.json").read_text())
    keys = [stage["key"] for stage in run["stages"] if stage["stage"] in PREPARING]
    with tempfile.TemporaryDirectory(dir=work) as copies:
        folders = []
        for key in keys:
            folder = Path(copies, key)
            folder.mkdir()
            request = json.loads((work / "store" / key / "request.json").read_text())
            request["inputs"] = {
                name: os.path.relpath((work / "store" / key / path).resolve(), folder)
                for name, path in request["inputs"].items()
            }
            (folder / "request.json").write_text(json.dumps(request))
            folders.append(str(folder))
        argv = [str(environment("tf1", print)), "-m", "tools.tf1", "batch", *folders]
        return min(seconds(*argv, env=tool_environment()) for _ in range(3))


def peak_mb(work: Path, engine: str) -> float:
    """Peak memory of the runner's own process, tools not counted."""
    script = (
        "import os, resource, runner, sys; sys.argv = sys.argv[1:]\n"
        "try: runner.main()\n"
        "except SystemExit: pass\n"
        "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    arguments = ["runner.py", "prepare", "--model", "alexnet_v2", "--work", str(work), "--engine", engine]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split("PEAK")[1])


def measure(engine: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        main_job(Path(folder) / "warm", engine)  # environments, images, file cache
        cold = main_job(work, engine)
        prepare_s = preparing(work)
        cached = main_job(work, engine)
        plan = runner("plan", "--model", "squeezenet", "--work", str(work), "--engine", engine)
        return {
            "machine": {**machine.facts(), "platform": platform.platform()},
            "engine": engine,
            "help_s": statistics.median(seconds(*runner("--help")) for _ in range(STARTS)),
            "plan_s": statistics.median(seconds(*plan) for _ in range(STARTS)),
            "cold_store": cold,
            "all_but_measurements_cached": cached,
            "prepare_squeezenet_in_one_process_s": prepare_s,
            "runner_peak_mb": peak_mb(work, engine),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="venv", choices=("venv", "docker"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.engine)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            shown = f"{number:.3f}" if isinstance(number, float) else number
            print(f"{name} {part}: {shown}".replace(" :", ":"))


if __name__ == "__main__":
    main()
