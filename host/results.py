"""The results of a run, `results.json` schema 1: one record per (model, backend, runtime, device, precision).

A record that is not `ok` carries no latency and no energy, and always a reason and a hint; the schema in
`results.schema.json` refuses anything else.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from host import ROOT, energy_record
from host.engines import Engine
from host.pipeline import Outcome, Pipeline
from host.plan import IMPORT, Stage
from host.run import Run
from host.version import VERSION
from tools.stage import write_json

SCHEMA = 1  # 1: first version
FILE = "results.json"
SCHEMA_FILE = ROOT / "host" / "results.schema.json"
FINDINGS = ("unsupported", "no_device", "no_sdk", "emulated")
LATENCY = ("p50", "p90", "p99", "mean", "min", "max")


def about(run: Run, engine: Engine, pipeline: Pipeline) -> dict[str, Any]:
    """Return what ran, where, on which engine and why; the `run` of results.json, and run.json at the end."""
    return {
        "id": run.id,
        "started": run.started.isoformat(timespec="seconds"),
        "argv": sys.argv,
        "engine": engine.name,
        "engine_reason": engine.why,
        "builds": dict(engine.builds),
        "host": run.host,
        "project_version": VERSION,
        "models": list(dict.fromkeys(stage.model for stage in pipeline.outcomes)),
        "weights": {
            stage.model: weights(stage, pipeline.outcomes) for stage in pipeline.outcomes if stage.weights
        },
        "meter": run.meter,
        "processes": pipeline.processes,
        "stages": [_stage(stage, outcome, run) for stage, outcome in pipeline.outcomes.items()],
    }


def record(
    stage: Stage,
    outcomes: Mapping[Stage, Outcome],
    engine: Engine,
    folder: Path,
    meter: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of one measurement; paths in it are relative to results.json in `folder`.

    `meter` is that of the run, None if none was asked for.
    """
    outcome = outcomes[stage]
    result, error, why = outcome.result, outcome.error, outcome.why
    metrics = dict(result.metrics if result else error.metrics if error else {})
    metadata = dict(result.metadata if result else error.metadata if error else {})
    ok = outcome.status == "ok"
    identity = {
        key: str(metadata.pop(key, stage.params.get(key) or default))
        for key, default in (
            ("runtime", stage.command.tool),
            ("device", stage.device or "CPU"),
            ("precision", "fp32"),
        )
    }
    files = _files(outcome, folder)
    energy = energy_record.of(stage, outcomes, meter, folder)
    files["files"] |= energy.pop("files")
    return {
        "model": stage.model,
        "backend": stage.command.tool,
        **identity,
        "engine": metadata.pop("engine", engine.name),
        "status": outcome.status,
        "reason": str(why) if why else None,
        "hint": (why.hint or "See the stage's log.") if why else None,
        "simulated": bool(metadata.pop("simulated", False)),
        "latency_ms": _latency(metrics) if ok else None,
        "throughput_per_s": metrics.get("throughput_per_s") if ok else None,
        "breakdown_ms": _breakdown(metrics) if ok else None,
        **files,
        "load_ms": metrics.get("load_ms") if ok else None,
        "first_inference_ms": metrics.get("first_inference_ms") if ok else None,
        "peak_rss_mb": metrics.get("peak_rss_mb") if ok else None,
        "correctness": _correctness(metrics),
        **energy,
        "weights": weights(stage, outcomes),
        "artifacts": _artifacts(stage, outcomes, folder),
        "versions": dict(result.versions) if result else {},
        "metadata": {**metadata, **_reference(stage, outcomes), "made_by": made_by(stage, outcomes)},
    }


def _reference(stage: Stage, outcomes: Mapping[Stage, Outcome]) -> dict[str, Any]:
    """What the outputs were compared on: how many seeded inputs, how many pictures of the user's own."""
    source = stage.inputs.get("reference")
    made = outcomes[source].result if isinstance(source, Stage) else None
    if made is None:
        return {}
    return {"reference_inputs": {key: made.metadata[f"n_{key}"] for key in ("seeded", "images")}}


def made_by(stage: Stage, outcomes: Mapping[Stage, Outcome]) -> dict[str, Any]:
    """What each stage that a measurement builds upon said of its work, and which files were given."""
    found: dict[str, Any] = {}
    for artifact, source in stage.inputs.items():
        if not isinstance(source, Stage):
            found[artifact] = {"given": source.given}
            continue
        found |= made_by(source, outcomes)
        if result := outcomes[source].result:
            found[source.name] = {**result.metrics, **result.metadata, "versions": dict(result.versions)}
        elif (error := outcomes[source].error) and error.metadata:
            found[source.name] = dict(error.metadata)
    return found


def _latency(metrics: Mapping[str, float]) -> dict[str, float]:
    """The latency part of a record, from flat metrics (`latency_p50_ms` becomes `p50`)."""
    return {
        **{key: metrics[f"latency_{key}_ms"] for key in LATENCY},
        "n": int(metrics["latency_n"]),
        "ci95_rel": metrics["latency_ci95_rel"],
    }


def _correctness(metrics: Mapping[str, float]) -> dict[str, float] | None:
    """The correctness part of a record, None if the outputs were never compared."""
    prefix = "correctness_"
    found = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    return found or None


def _breakdown(metrics: Mapping[str, float]) -> dict[str, float] | None:
    """The parts of an inference that the runtime tells apart (`breakdown_device_ms` becomes `device`)."""
    parts = {key: re.fullmatch(r"breakdown_(\w+)_ms", key) for key in metrics}
    return {match[1]: metrics[key] for key, match in parts.items() if match} or None


def _files(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """The raw samples, and what else the measurement wrote (`profile`, `sweep`)."""
    if outcome.result is None or outcome.folder is None or outcome.status != "ok":
        return {"samples": None, "files": {}}
    outputs = outcome.result.outputs.items()
    made = {key: os.path.relpath(outcome.folder / name, folder) for key, name in outputs}
    return {"samples": made.pop("samples"), "files": made}


def weights(stage: Stage, outcomes: Mapping[Stage, Outcome]) -> dict[str, Any] | None:
    """Where the weights come from and why, and what was found in a trained checkpoint."""
    if stage.weights is None:
        return None
    imported = [
        outcome.result.metadata
        for other, outcome in outcomes.items()
        if other.model == stage.model and other.command.full_name == IMPORT and outcome.result
    ]
    return {**stage.weights.record(), "imported": dict(imported[0]) if imported else None}


def _artifacts(stage: Stage, outcomes: Mapping[Stage, Outcome], folder: Path) -> dict[str, str]:
    """The files that a measurement read, as far as they were made."""
    found = {}
    for artifact, source in stage.inputs.items():
        entry = outcomes[source].entry if isinstance(source, Stage) else source
        if entry:
            found[artifact] = os.path.relpath(entry.path(stage.made_name(artifact)), folder)
    return found


def _stage(stage: Stage, outcome: Outcome, run: Run) -> dict[str, Any]:
    log = run.log(stage)
    return {
        "stage": stage.name,
        "model": stage.model,
        "status": outcome.status,
        "cached": outcome.cached,
        "seconds": round(outcome.seconds, 3),
        "key": outcome.key,
        "reason": str(outcome.why) if outcome.why else None,
        "log": os.path.relpath(log, run.folder) if log.exists() else None,
    }


def save(run: Run, engine: Engine, pipeline: Pipeline) -> dict[str, Any]:
    """Validate and write results.json: a record for every measurement that was planned; return it.

    Raises:
        jsonschema.ValidationError: the data break the schema, which is a defect of ours.
    """
    import jsonschema  # not at the top: it takes 0.2 s, and `plan` does without

    measured = (stage for stage in pipeline.outcomes if stage.command.measures)
    data = {
        "schema": SCHEMA,
        "run": about(run, engine, pipeline),
        "records": [
            record(stage, pipeline.outcomes, pipeline.engine_of(stage), run.folder, run.meter)
            for stage in measured
        ],
    }
    jsonschema.validate(data, json.loads(SCHEMA_FILE.read_text()))
    write_json(run.folder / FILE, data)
    return data


def exit_code(outcomes: Iterable[Outcome], *, tolerant: bool) -> int:
    """Return the first failure's exit code, 0 if there is none.

    `tolerant`: what this host or a toolchain lacks is a finding, not a failure; so it is in the main job.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if tolerant:
        errors = [error for error in errors if error.status not in FINDINGS]
    return errors[0].exit_code if errors else 0
