"""`prune`: a checkpoint with the smallest weights set to zero, and what it takes to go on with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host import jobs, show, toolbox
from host.options import Networks, Running
from tools.stage import InvalidRequest

STAGE = "tf1.prune"
COLUMNS = ("kernel", "shape", "weights", "zeros", "sparsity", "")


def plan(
    networks: Networks, *, ratio: float | None, threshold: float | None, layer: str, scope: str
) -> jobs.Plan:
    """Return the plan that prunes by a ratio or by a threshold.

    Raises:
        InvalidRequest: both or none of the two are given, or not exactly one network.
    """
    if (ratio is None) == (threshold is None):
        message = "prune takes either a ratio or a threshold"
        raise InvalidRequest(message, hint="e.g. --ratio 0.5, or --threshold 0.01")
    method, amount = ("threshold", threshold) if ratio is None else ("ratio", ratio)
    params = {"method": method, "amount": amount, "layer": layer, "scope": scope}
    networks.one()
    return jobs.for_each(networks, {}, jobs.only(toolbox.find(STAGE), params))


def prune(planned: jobs.Plan, networks: Networks, running: Running) -> int:
    """Prune, print each kernel's sparsity and the command that goes on; return the exit code."""
    ran = jobs.execute(planned, running)
    for stage, outcome in ran.outcomes.items():
        if outcome.result and outcome.entry and stage.command.full_name == STAGE:
            rows = json.loads(outcome.entry.path("sparsity").read_text())
            name = stage.outputs["pruned_index"].removesuffix(".index")
            made = running.work / "models" / stage.model / name
            if running.as_json:
                show.print_json({**outcome.result.metrics, "weights_prefix": str(made), "kernels": rows})
            else:
                _print(rows, outcome.result.metrics)
                print(f"next: {_next(stage.model, made, networks, running)}")
    return jobs.end(ran)


def _print(rows: list[dict[str, Any]], metrics: Mapping[str, float]) -> None:
    show.table(COLUMNS, [_row(row) for row in rows])
    print(f"\n{metrics['zeros']:,} of {metrics['weights']:,} weights are zero: {metrics['sparsity']:.2%}")


def _next(model: str, made: Path, networks: Networks, running: Running) -> str:
    """Return the command that goes on, with what was given here, ready for a shell."""
    argv = ["python", "runner.py", "all", "--model", model, "--weights", str(made)]
    argv += ["--model-file", str(networks.model_file)] if networks.model_file else []
    for flag, given, usual in (
        ("--work", running.work, Running.work),
        ("--engine", running.engine, Running.engine),
        ("--tensorflow", running.tensorflow, Running.tensorflow),
    ):
        argv += [flag, str(given)] if given != usual else []
    return shlex.join(argv)


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    shape = "x".join(map(str, row["shape"]))
    left_alone = "" if row["pruned"] else "left as it is"
    return (
        row["name"],
        shape,
        f"{row['weights']:,}",
        f"{row['zeros']:,}",
        f"{row['sparsity']:.2%}",
        left_alone,
    )
