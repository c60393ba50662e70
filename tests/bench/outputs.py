"""How far outputs are from the reference: `python -m tests.bench.outputs [WORK] > docs/outputs.md`.

Prints a page of the newest run in the work folder (default: work): for every network and backend the cosine
and the largest absolute error of the correctness gate, and the limits of it. The run is one command:
`python runner.py all --model A --model B ... --weights generated --budget-s 0.2`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


def columns(records: Sequence[Record]) -> list[str]:
    """Return what some network ran on: runtime, device and precision."""
    tried = [record for record in records if record["status"] not in ("no_device", "no_sdk")]
    return list(dict.fromkeys(_column(record) for record in tried))


def _column(record: Record) -> str:
    return f"{record['runtime']} {record['device']} {record['precision']}"


def cell(record: Record | None) -> str:
    """Return `cosine / largest absolute error`, or the status of what was not right or not tried."""
    found = record and record["correctness"]
    if not record or not found or found["cosine"] is None:
        return record["status"] if record else "-"
    text = f"{found['cosine']:.6f} / {found['max_abs']:.1e}"
    return text if record["status"] == "ok" else f"**{record['status']}** {text}"


def page(document: Mapping[str, Any]) -> str:
    """Return the page of a results.json."""
    run, records = document["run"], document["records"]
    host, names = run["host"], columns(records)
    models = list(dict.fromkeys(record["model"] for record in records))
    cells = {(record["model"], _column(record)): cell(record) for record in records}
    where = f"{host.get('cores')} cores of {host.get('cpu')}, {host.get('os')}, engine {run['engine']}"
    lines = [
        "# Outputs of every network on every backend",
        "",
        "Cosine similarity (the lowest) and absolute error (the largest) of all reference inputs against the",
        "frozen graph in TensorFlow; docs/measuring.md says how they are taken and what is allowed.",
        "",
        f"Made by `python -m tests.bench.outputs` from one run of {len(models)} networks on {where}.",
        "",
        f"| network | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for model in models:
        lines.append(f"| {model} | {' | '.join(cells.get((model, name), '-') for name in names)} |")
    reasons = dict.fromkeys(
        f"- {record['model']}, {_column(record)}: {record['status']}: {record['reason']}"
        for record in records
        if record["status"] != "ok" and _column(record) in names
    )
    return "\n".join([*lines, *(["", "Not right, or not run:", "", *reasons] if reasons else [])])


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "work")
    print(page(json.loads((folder / "runs" / "latest" / "results.json").read_text())))
