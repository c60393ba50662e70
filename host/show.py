"""What the runner prints at the end: tables for people on standard output, or JSON for machines."""

from __future__ import annotations

import collections
import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from host.engines import Engine
from host.pipeline import Outcome
from host.plan import Stage
from tools import metered

PIPE_WIDTH = (
    200  # characters; a table in a pipe is not to be folded to the 80 of a terminal that is not there
)
STYLES = {"ok": "green", "cached": "cyan", "emulated": "yellow", "no_device": "yellow", "no_sdk": "yellow"}
COLUMNS = (
    "backend",
    "device",
    "precision",
    "p50 ms",
    "p90 ms",
    "inferences/s",
    "load ms",
    "peak MB",
    "correctness",
    "status",
)
ENERGY = "net mJ (95 %)"  # a column more, where a meter was asked for


def print_json(data: object) -> None:
    """Print for a machine."""
    print(json.dumps(data, indent=2))


def table(columns: Iterable[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print a plain table, as wide as it needs where nobody's terminal limits it."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*row)
    console.print(made)


def outcomes(
    document: Mapping[str, Any], known: Mapping[Stage, Outcome], folder: Path, *, as_json: bool
) -> None:
    """Show how a run ended: its result table if it measured, else what each stage found, and its folder."""
    if as_json:
        print_json({**document, "folder": str(folder)})
        return
    records = document["records"]
    if records:
        _results(records)
    else:
        _findings(known)
    run = document["run"]
    for line in (*weight_lines(run["weights"]), *_builds(run["builds"]), *reasons(known), *warnings(known)):
        print(line)
    report = folder / "report.html"
    print(f"\nrun: {folder}" + (f"\nreport: {report}" if report.exists() else ""))


def _builds(builds: Mapping[str, str]) -> Iterable[str]:
    """Yield which tools did not run in their usual service."""
    for tool, service in builds.items():
        yield f"\n{tool} ran as {service}; the stages' versions are in the records (made_by)."


def _results(records: Sequence[Mapping[str, Any]]) -> None:
    for model in dict.fromkeys(record["model"] for record in records):
        print(f"\n{model}")
        mine = [record for record in records if record["model"] == model]
        has_energy = any(record["energy"] or record["energy_reason"] for record in mine)
        columns = (*COLUMNS[:-2], ENERGY, *COLUMNS[-2:]) if has_energy else COLUMNS
        table(columns, [_row(record, has_energy=has_energy) for record in mine])
        lines = itertools.chain(*map(_beside, mine), _without_energy(mine))
        for line in dict.fromkeys(lines):  # records share their conversions
            print(line)


def _row(record: Mapping[str, Any], *, has_energy: bool) -> list[str | Text]:
    latency = record["latency_ms"] or {}
    status = record["status"] + (" (simulated)" if record["simulated"] else "")
    if record["energy"] and record["energy"]["simulated"] and not record["simulated"]:
        status += " (energy simulated)"
    if record["metadata"].get("scenario") == "throughput":
        status += f" ({record['metadata']['requests']} requests in flight)"
    return [
        backend(record),
        record["device"],
        record["precision"],
        _number(latency.get("p50")),
        _number(latency.get("p90")),
        _number(record["throughput_per_s"]),
        _number(record["load_ms"]),
        _number(record["peak_rss_mb"]),
        *([_energy(record["energy"])] if has_energy else ()),
        _correctness(record["correctness"]),
        Text(status, style=STYLES.get(record["status"], "red")),
    ]


def _energy(found: Mapping[str, Any] | None) -> str:
    """Return the net energy and half of its interval."""
    if found is None:
        return "-"
    low, high = found["net_ci95_mj"]
    half = (high - low) / 2
    return f"{_number(found['net_mj'])} ±{half:.{2 if half < 10 else 3}g}"


def _without_energy(records: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield why measurements have no energy, those with the same reason together."""
    names: dict[str, list[str]] = {}
    for record in records:
        if reason := record["energy_reason"]:
            text = f"{' '.join(reason.split())}. {record['energy_hint']}"
            names.setdefault(text, []).append(backend(record))
    for text, without in names.items():
        yield f"no energy of {', '.join(dict.fromkeys(without))}: {text}"


def _beside(record: Mapping[str, Any]) -> Iterable[str]:
    """Yield where time and energy went, what it warns of or, if it was not timed, what it was compiled to."""
    if parts := record["breakdown_ms"]:
        took = ", ".join(f"{part} {_number(value)} ms" for part, value in parts.items())
        yield f"{_row_name(record)}: {took}"
    if energy := record["energy"]:
        idle = (f"{_number(energy['idle_w'][side])} W {side}" for side in ("before", "after"))
        meter = energy["meter"].get("device") or energy["meter"]["name"]
        note = f" ({energy['meter']['note']})" if energy["meter"].get("note") else ""
        about = f"gross {_number(energy['gross_mj'])} mJ, idle {', '.join(idle)}, by {meter}{note}"
        yield f"{_row_name(record)}: {about}"
    if record["status"] == "ok":
        warnings = record["metadata"].get("warnings", ())
        yield from (f"{_row_name(record)}: warning: {text}" for text in warnings)
        return
    for stage in record["metadata"]["made_by"].values():
        if found := stage.get("compiled"):
            done = "" if found.get("unsupported_layers") else "compiled "
            done = "checked " if found.get("checked_only") else done
            facts = ", ".join(_compiled(found))
            yield f"{record['backend']} {done}for {found['chip']}" + (f": {facts}" if facts else "")


def _row_name(record: Mapping[str, Any]) -> str:
    return f"{backend(record)} on {record['device']}, {record['precision']}"


def _compiled(found: Mapping[str, Any]) -> Iterable[str]:
    for key, what in (("stages", "steps"), ("shaves", "SHAVEs")):
        if (number := found.get(key)) is not None:
            yield f"{number} {what}"
    if (size := found.get("blob_bytes")) is not None:
        yield f"{_number(size / 1e6)} MB blob"
    if found.get("checked_only") and not found.get("unsupported_layers"):
        yield "every operator is supported"
    if layers := found.get("unsupported_layers"):
        yield "unsupported: " + ", ".join(f"{layer['node']} ({layer['operator']})" for layer in layers)


def backend(record: Mapping[str, Any]) -> str:
    """Return the backend's name, and its runtime's if that has another: `tflite (litert)`."""
    name, runtime = record["backend"], record["runtime"]
    return name if runtime == name else f"{name} ({runtime})"


def _correctness(found: Mapping[str, float | None] | None) -> str:
    if not found or found["cosine"] is None:
        return "-"
    top1 = found["top1_match"]
    return f"cos {found['cosine']:.6f}" + (f", top-1 {top1:.0%}" if top1 is not None else "")


def _number(value: float | None) -> str:
    """Three significant digits at least, no exponent, '-' for what was not measured."""
    if value is None:
        return "-"
    size = abs(value)  # a net energy may be below zero
    return f"{value:.0f}" if size >= 100 else f"{value:.3g}" if size >= 0.01 else f"{value:.5f}"


def _findings(known: Mapping[Stage, Outcome]) -> None:
    """Print what each stage made, and what the last one, which was asked for, found."""
    for stage, outcome in known.items():
        if outcome.result:
            state = "cached" if outcome.cached else f"{outcome.seconds:.1f} s"
            made = ", ".join(outcome.result.outputs.values())
            print(f"{stage.model} {stage.name} ({state}) {made}".rstrip())
    for outcome in [*known.values()][-1:]:
        if (result := outcome.result) and (result.metrics or result.metadata):
            print_json({"metrics": result.metrics, "metadata": result.metadata})
        if outcome.entry:
            print(f"files: {outcome.folder}")


def weight_lines(weights: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield which weights were taken and why, models with the same ones and the same reason together."""
    models: dict[str, list[str]] = {}
    for model, these in weights.items():
        text = f"{these['source']} weights ({these['name']}), because: {these['reason']}."
        models.setdefault(f"{text} {these['hint'] or ''}".strip(), []).append(model)
    for text, names in models.items():
        yield f"\n{', '.join(names)}: {text}"


def reasons(known: Mapping[Stage, Outcome]) -> Iterable[str]:
    """Yield why each stage is not ok and what to do, which is said once for all reasons that it is for.

    Models with the same reason stand together. Stages that another's failure kept from being run are counted.
    What kept a measurement from having an energy is said beside its record.
    """
    blocked = collections.Counter(outcome.blocker for outcome in known.values())
    hints: dict[str, dict[str, list[str]]] = {}
    for stage, outcome in known.items():
        if outcome.why and not outcome.blocker and not stage.of:
            text = f"{stage.name}: {outcome.status}: {' '.join(str(outcome.why).split())}"
            if number := blocked[stage]:
                stages = "1 stage that needs it was" if number == 1 else f"{number} stages that need it were"
                text += f"; {stages} not run"
            hints.setdefault(outcome.why.hint, {}).setdefault(text, []).append(stage.model)
    for hint, texts in hints.items():
        lines = [f"{', '.join(names)} {text}" for text, names in texts.items()]
        gap = "\n" if len(lines) > 1 else " "
        yield "\n" + ".\n".join(lines) + (f".{gap}{hint}" if hint else "")


def state(outcome: Outcome) -> str:
    """Return how a stage ended, for its line of the progress: the whole reason is said once, of its cause."""
    if outcome.blocker:
        return f"not run: needs {outcome.blocker.name}"
    if outcome.why:
        return f"{outcome.status}: {outcome.why.one_line()}"
    return "cached" if outcome.cached else f"{outcome.seconds:.1f} s"


def warnings(known: Mapping[Stage, Outcome]) -> Iterable[str]:
    """Yield what the stages that are no measurements warn of; a measurement's are under its table."""
    for stage, outcome in known.items():
        if outcome.result and not stage.command.measures:
            for text in outcome.result.metadata.get("warnings", ()):
                yield f"\n{stage.model} {stage.name}: warning: {text}"


def plan(
    stages: Sequence[Stage],
    known: Mapping[Stage, Outcome],
    engine: Engine,
    meter: Mapping[str, Any] | None,
    *,
    as_json: bool,
) -> None:
    """Show what would run and why; `meter` is that of the run, None if none was asked for."""
    rows = [(stage.model, stage.name, *_forecast(stage, known.get(stage))) for stage in stages]
    weights = {stage.model: stage.weights.record() for stage in stages if stage.weights}
    if as_json:
        keys = ("model", "stage", "action", "why")
        listed = [dict(zip(keys, row, strict=True)) for row in rows]
        about = {"engine": engine.name, "engine_reason": engine.why, "weights": weights, "meter": meter}
        print_json({**about, "stages": listed})
        return
    print(f"engine {engine.name}: {engine.why}")
    table(("model", "stage", "action", "why"), rows)
    for line in weight_lines(weights):
        print(line)
    if meter and meter["reason"]:
        print(f"\nno energy: {meter['reason']}. {meter['hint']}")


def _forecast(stage: Stage, outcome: Outcome | None) -> tuple[str, str]:
    if outcome and outcome.error:
        return outcome.status, outcome.error.one_line()
    if outcome:
        return "cached", f"in the store as {outcome.key}"
    if stage.command.measures:
        return "measure", "measurements are never taken from the cache"
    if stage.command.meter:
        least_s = metered.Schedule.of(0, 0).total_s
        return "record", f"while the measurement makes its windows, {least_s:.0f} s at least"
    if stage.of:
        return "run", "finds the energy of an inference in the meter's trace"
    makes = ", ".join(stage.outputs) or "its result"
    return "run", f"makes {makes}, which the store does not have"
