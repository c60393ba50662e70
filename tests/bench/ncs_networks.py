"""What compiles for the stick: `python -m tests.bench.ncs_networks [--work FOLDER] [--limit-s S]`.

Converts every network of the zoo for both chips and prints the table of docs/ncs.md. It runs over the
project's store, so what is there is not made again, and a run that was broken off goes on where it was;
`--work` says where that is. Seconds are those of the stage when it was made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host import ROOT, machine

STAGES = {"2480": "ncs.convert", "2450": "ncs.convert-2450"}
COLUMNS = ("network", "nodes", "X: steps (engines)", "DRAM MiB", "CMX MiB", "blob MB", "s")
COLUMNS += ("2: steps", "DRAM MiB", "blob MB", "s")


def convert(models: Sequence[str], work: Path, limit_s: float) -> dict[str, dict[str, Any]]:
    """Convert for both chips; return what is known of each network by chip."""
    found: dict[str, dict[str, Any]] = {}
    for chip, stage in STAGES.items():
        chosen = [word for model in models for word in ("--model", model)] or ["--all-models"]
        argv = [sys.executable, "runner.py", "run", stage, *chosen, "--work", str(work)]
        argv += ["--engine", "venv", "--weights", "generated", "--limit-s", str(limit_s)]
        subprocess.run(argv, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        run = json.loads((work / "runs" / "latest" / "run.json").read_text())
        for ended in run["stages"]:
            if ended["stage"] == stage:
                found.setdefault(ended["model"], {})[chip] = about(ended, work)
    return found


def about(ended: dict[str, Any], work: Path) -> dict[str, Any]:
    """Return what a stage has found out, and how long it took when it was made."""
    if ended["status"] != "ok":
        return {"reason": ended["reason"]}
    entry = work / "store" / ended["key"]
    request, result = entry / "request.json", entry / "result.json"
    seconds = result.stat().st_mtime - request.stat().st_mtime  # also of what an earlier run has made
    return {**json.loads(result.read_text())["metadata"]["compiled"], "seconds": seconds}


def row(model: str, found: dict[str, dict[str, Any]]) -> str:
    """Return a line of the table; what did not compile has its reason there."""
    large, small = (cells(found[chip], chip) for chip in STAGES)
    nodes = next((chip["nodes"] for chip in found.values() if "nodes" in chip), "")
    return f"| {model} | {nodes} | {large} | {small} |"


def cells(found: dict[str, Any], chip: str) -> str:
    if "reason" in found:
        return " | ".join([f"no: {found['reason']}", *[""] * (4 if chip == "2480" else 3)])
    memory = found["memory_bytes"]
    engines = [f"{found['stages']} ({found['hw_stages']})"] if chip == "2480" else [str(found["stages"])]
    fast = [f"{memory['cmx'] / 2**20:.2f}"] if chip == "2480" else []
    dram, blob = f"{memory['bss'] / 2**20:.1f}", f"{found['blob_bytes'] / 1e6:.1f}"
    return " | ".join([*engines, dram, *fast, blob, f"{found['seconds']:.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="a network of the zoo; all if none is named")
    parser.add_argument("--limit-s", type=float, default=300, help="for one network and chip")
    parser.add_argument("--work", type=Path, help="a work folder that stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or Path(folder)).resolve()
        found = convert(options.model or [], work, options.limit_s)
    facts = machine.facts()
    print(f"Made by `python -m tests.bench.ncs_networks` on {facts['cores']} cores of {facts['cpu']}.\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for model, chips in found.items():
        print(row(model, chips))


if __name__ == "__main__":
    main()
