"""What TensorRT's parser would not take of every network of the zoo, by its version; no TensorRT is needed.

    python -m tests.bench.trt_operators [--model NAME ...] [--work WORK]

Prints the table of docs/jetson.md. A network that differs from another in its sizes alone (the widths of
MobileNet) has the same operators, so one of each kind is enough: `--model` names them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from host import ROOT, zoo


def check(model: str, work: Path) -> dict[str, Any]:
    """Return what tensorrt.check found of a network, which is made first."""
    path = work / "models" / model / f"{model}.trt-check.json"
    argv = [sys.executable, "runner.py", "run", "tensorrt.check", "--model", model, "--engine", "venv"]
    argv += ["--work", str(work), "--weights", "generated"]
    subprocess.run(argv, cwd=ROOT, stdout=sys.stderr, check=True)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def cell(problems: list[dict[str, str]]) -> str:
    """Return the operators that are not taken, and how many layers each."""
    counts = Counter(each["operator"] or each["why"] for each in problems)
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items()) or "all"


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", action="append", help="a network of the zoo; all if none is named")
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="where its files are, or are made")
    options = parser.parse_args()
    models = options.model or [model.name for model in zoo.choose([], None, every=True)]
    heads = None
    for model in models:
        found = check(model, options.work.resolve())
        if heads is None:
            heads = list(found["versions"])
            print(f"| network | opset | nodes | {' | '.join(heads)} |")
            print(f"|---|---|---|{'---|' * len(heads)}")
        cells = " | ".join(cell(found["versions"][version]) for version in heads)
        print(f"| {model} | {found['opset']} | {found['nodes']} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
