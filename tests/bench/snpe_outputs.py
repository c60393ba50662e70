"""What a Snapdragon's HTP makes of every network, on its emulator: float16, int8 and int16 activations.

    python -m tests.bench.snpe_outputs [--model NAME ...] [--work WORK] [--n-inputs 2] [--limit-s 900]

Prints the table of docs/snapdragon.md: of each network and precision what the gate says, the lowest cosine
and the largest absolute error, and the quantised layer that is off most (signal-to-quantisation-noise ratio).
An emulated inference of a large network takes minutes, so it checks few inputs, and a stage that takes longer
than the limit is left out, as such. What is done is kept in the work folder, so it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host import ROOT, zoo

PRECISIONS = ("fp16", "int8", "int16")
Record = Mapping[str, Any]


def measure(model: str, precision: str, options: argparse.Namespace) -> Record:
    """Return the record of one emulation, of an earlier call if there was one."""
    done = options.work / "snpe-outputs" / f"{model}.{precision}.json"
    if not done.exists():
        folder = options.work / "models" / model
        reference = folder / f"{model}.reference.npz"
        run(options, "tf1.reference", model, "--set", f"n_inputs={options.n_inputs}")
        given = ("--set", f"precision={precision}", "--input", f"reference={reference}")
        run(options, "snpe.emulate", model, *given)
        document = json.loads((options.work / "runs" / "latest" / "results.json").read_text())
        made = [(record["model"], record["precision"]) for record in document["records"]]
        if made != [(model, precision)]:
            sys.exit(f"the run of {model} in {precision} did not begin; see above")
        done.parent.mkdir(exist_ok=True)
        done.write_text(json.dumps(document["records"][0], indent=2))
    return dict(json.loads(done.read_text()))


def run(options: argparse.Namespace, stage: str, model: str, *more: str) -> None:
    """Run one stage; a failure is a row of the table."""
    argv = [sys.executable, "runner.py", "run", stage, "--model", model, "--engine", "venv", *more]
    argv += ["--work", str(options.work), "--limit-s", str(options.limit_s), "--weights", "generated"]
    subprocess.run(argv, cwd=ROOT, stdout=sys.stderr, check=False)


def cell(record: Record) -> str:
    """Return what the gate says, cosine and error."""
    found = record["correctness"]
    if not found or found["cosine"] is None:
        return f"{record['status']}"
    text = f"{found['cosine']:.5f} / {found['max_abs']:.1e}"
    return text if record["status"] == "emulated" else f"**{record['status']}** {text}"


def worst(record: Record) -> str:
    """Return the layer that is off most."""
    layer = record["metadata"].get("worst_layer")
    return f"{layer['layer']}, {layer['sqnr_db']:.1f} dB" if layer else "-"


def main() -> None:
    """Print the table, as Markdown, and the reasons of what was not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", action="append", help="a network of the zoo; all if none is named")
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="where its files are, or are made")
    parser.add_argument("--n-inputs", type=int, default=2, help="reference inputs of each network")
    parser.add_argument("--limit-s", type=float, default=900.0, help="seconds for one stage")
    options = parser.parse_args()
    options.work = options.work.resolve()
    models = options.model or [model.name for model in zoo.choose([], None, every=True)]
    print(f"| network | {' | '.join(PRECISIONS)} | worst layer of int8 | worst layer of int16 |")
    print(f"|---|{'---|' * (len(PRECISIONS) + 2)}")
    notes = []
    for model in models:
        records = [measure(model, precision, options) for precision in PRECISIONS]
        cells = [*map(cell, records), *map(worst, records[1:])]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)
        notes += [
            f"- {model}, {record['precision']}: {record['status']}: {record['reason']}"
            for record in records
            if record["status"] != "emulated"
        ]
    print("\n".join(["", *notes]))


if __name__ == "__main__":
    main()
