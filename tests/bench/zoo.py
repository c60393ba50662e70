"""What preparing the zoo costs: `python -m tests.bench.zoo [--model NAME ...] [--json]`.

Prints, all from one machine and one sitting:
- for each network of one `prepare` run (every network of the zoo if none is named): seconds in the tool, the
  peak memory of the one tf1 process while it was at this network, and what the process held after it;
- for five networks, the same stages in one process against one process for each stage, which is how the
  scripts of the study (export, generate weights, freeze) were run.

The kernel keeps a process's peak memory; it is set back after each network, for which Linux is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from host import ROOT, machine
from host.engines.venv import environment, tool_environment

FIVE = ("squeezenet", "mobilenet_v1_1.0", "mobilenet_v2_1.0", "inception_v1", "resnet_v1_50")
LIMIT_S = 7200
STAGE_LINE = re.compile(r"\[\d+/\d+\] (\S+) (\S+): ")  # what the runner prints when a stage has ended


def prepare(models: Sequence[str], work: Path) -> list[dict[str, Any]]:
    """Prepare networks in one run and return a row for each."""
    chosen = [word for model in models for word in ("--model", model)] or ["--all-models"]
    options = ["--work", str(work), "--engine", "venv", "--limit-s", str(LIMIT_S), "--weights", "generated"]
    argv = [sys.executable, "runner.py", "prepare", *chosen, *options]
    memory: dict[str, dict[str, float]] = {}
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        for line in run.stderr:
            print(line, end="", file=sys.stderr)
            if ended := STAGE_LINE.match(line):
                measure(run.pid, memory.setdefault(ended[1], {"peak_mb": 0.0, "held_mb": 0.0}))
    return [{**row, **memory.get(row["model"], {})} for row in rows(work)]


def measure(runner: int, into: dict[str, float]) -> None:
    """Add to a network's figures what the tf1 process took at most since the last call, and holds now."""
    for process in children(runner):
        try:
            status = Path("/proc", str(process), "status").read_text()
            peak, held = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1024 for key in ("VmHWM", "VmRSS"))
            Path("/proc", str(process), "clear_refs").write_text("5")  # sets the peak back: proc(5)
        except (OSError, TypeError):  # it has just ended
            continue
        into["peak_mb"] = max(into["peak_mb"], peak)
        into["held_mb"] = held


def children(parent: int) -> Iterable[int]:
    """Yield the tf1 processes that the runner started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_tool = b"tools.tf1\0" in (folder / "cmdline").read_bytes()
            if is_tool and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(folder.name)
        except OSError:
            continue


def rows(work: Path) -> list[dict[str, Any]]:
    """Return what the newest run says of each network."""
    run = json.loads((work / "runs" / "latest" / "run.json").read_text())
    found: dict[str, dict[str, Any]] = {}
    for stage in run["stages"]:
        row = found.setdefault(stage["model"], {"model": stage["model"], "seconds": 0.0, "status": "ok"})
        row["seconds"] += stage["seconds"]
        if stage["status"] != "ok":
            row["status"] = f"{stage['stage']}: {stage['status']}: {stage['reason']}"
    return list(found.values())


def compare(work: Path) -> dict[str, Any]:
    """Prepare five networks, then do their stages again both ways."""
    prepare(FIVE, work)
    run = json.loads((work / "runs" / "latest" / "run.json").read_text())
    keys = [stage["key"] for stage in run["stages"]]
    one_s = replay(work, [keys])
    each_s = replay(work, [[key] for key in keys])
    return {
        "models": FIVE,
        "stages": len(keys),
        "one_process_s": one_s,
        "process_per_stage_s": each_s,
        "ratio": each_s / one_s,
    }


def replay(work: Path, processes: Iterable[Sequence[str]]) -> float:
    """Do stages of the store again, each list of keys in a process of its own; return the seconds."""
    python = environment("tf1", print)
    with tempfile.TemporaryDirectory(dir=work) as copies:
        argvs = [
            [
                str(python),
                "-m",
                "tools.tf1",
                "batch",
                *(copy(work / "store" / key, Path(copies)) for key in keys),
            ]
            for keys in processes
        ]
        begun = time.monotonic()
        for argv in argvs:
            subprocess.run(argv, check=True, capture_output=True, cwd=ROOT, env=tool_environment())
        return time.monotonic() - begun


def copy(entry: Path, into: Path) -> str:
    """Make a stage folder that asks for what a store's entry was asked for."""
    folder = into / entry.name
    folder.mkdir()
    request = json.loads((entry / "request.json").read_text())
    request["inputs"] = {
        name: os.path.relpath((entry / path).resolve(), folder) for name, path in request["inputs"].items()
    }
    (folder / "request.json").write_text(json.dumps(request))
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="a network of the zoo; all if none is named")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        networks = prepare(options.model or [], Path(folder, "zoo"))
        found = {
            "machine": {**machine.facts(), "platform": platform.platform()},
            "networks": networks,
            "peak_mb": max(row.get("peak_mb", 0.0) for row in networks),
            "seconds": sum(row["seconds"] for row in networks),
            "five": compare(Path(folder, "five")),
        }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for row in found["networks"]:
        print(
            "{model:24} {seconds:8.1f} s  peak {peak_mb:6.0f} MB  after {held_mb:6.0f} MB  {status}".format(
                **row
            )
        )
    print("all {seconds:.1f} s, peak {peak_mb:.0f} MB".format(**found))
    line = "{stages} stages: one process {one_process_s:.1f} s, one each {process_per_stage_s:.1f} s, "
    line += "{ratio:.1f} x"
    print(line.format(**found["five"]))
    print(found["machine"])


if __name__ == "__main__":
    main()
