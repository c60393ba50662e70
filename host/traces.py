"""The runner's `power energy` and `power convert`: files of power traces, wherever they are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from host import jobs, show, toolbox
from host.options import Running
from host.pipeline import Outcome
from host.plan import Planner, Stage
from host.store import Store
from host.zoo import Model
from tools.stage import InvalidRequest, StageError

ENERGY, CONVERT = "energy.per-inference", "energy.convert"
FORMS = {".parquet": "parquet", ".csv": "csv", ".pt4": "pt4"}
COLUMNS = ("", "gross", "net")
BY = {
    "found": "the load that was found",
    "trace": "windows on the trace's own clock",
    "marker": "marker bits",
    "signature": "the benchmark's signature in the power",
    "clock": "the host's clock",
}
BUDGET = ("standard uncertainty by", "gross mJ", "net mJ")


def energy(trace: Path, windows: Path | None, *, inferences: int, channel: str, running: Running) -> int:
    """Print the energy per inference of a trace, or why it is refused; return the exit code.

    It is 1 for a trace that is refused, and that of the error for a file that cannot be read.
    """
    files = {"trace": trace, **({"windows": windows} if windows else {})}
    ran = jobs.execute(_plan(ENERGY, files, {"inferences": inferences, "channel": channel}), running)
    [outcome] = ran.outcomes.values()
    document = _document(outcome)
    if running.as_json:
        show.print_json({key: value for key, value in document.items() if key != "plot"})
    elif document["status"] == "ok":
        _print(trace.name, document)
    code = jobs.end(ran)
    if code or document["status"] == "ok":
        return code
    if not running.as_json:
        jobs.note(f"refused: {document['reason']}. {document['hint']}")
    return StageError.exit_code


def convert(file: Path, output: Path, *, channel: str, running: Running) -> int:
    """Write a trace of any format as `output`, whose name's ending says as what; return the exit code.

    Raises:
        InvalidRequest: the ending is unknown, or it cannot be written there.
    """
    form = FORMS.get(output.suffix.lower())
    if form is None:
        message = f"{output.name} does not say what to write"
        raise InvalidRequest(message, hint=f"Let it end in one of {', '.join(FORMS)}.")
    if not output.resolve().parent.is_dir() or (output.exists() and not output.is_file()):
        message = f"{output} cannot be written: it is no file in a folder that is there"
        raise InvalidRequest(message, hint="Check the path.")
    ran = jobs.execute(_plan(CONVERT, {"capture": file}, {"form": form, "channel": channel}), running)
    [outcome] = ran.outcomes.values()
    if outcome.entry and outcome.result:
        part = output.with_name(output.name + ".part")
        shutil.copyfile(outcome.entry.path("converted"), part)
        part.replace(output)
        _print_converted(output, outcome.result.metrics, outcome.result.metadata, as_json=running.as_json)
    return jobs.end(ran)


def _plan(command: str, files: Mapping[str, Path], params: Mapping[str, Any]) -> jobs.Plan:
    """Return the plan of one command on files of the user's; it is called as the first of them is."""
    name = re.sub(r"[^\w.+-]|^[.+-]", "_", next(iter(files.values())).stem) or "trace"

    def plan(store: Store, _to_run: bool) -> list[Stage]:
        given = {artifact: store.take_in({artifact: path}) for artifact, path in files.items()}
        planner = Planner(Model(name=name, about="", params={}), given, {})
        planner.add(toolbox.find(command), params)
        return planner.stages

    return plan


def _document(outcome: Outcome) -> dict[str, Any]:
    """Return what the tool told; of a file that cannot be read, a refusal with the reason."""
    if outcome.entry:
        found: dict[str, Any] = json.loads(outcome.entry.path("energy").read_text())
        return found
    error = outcome.error or StageError("there is no result")
    return {
        "status": "refused",
        "reason": str(error),
        "hint": error.hint,
        "energy_per_inference_mj": None,
        "window": None,
        "idle_w": None,
        "dropped": None,
    }


def _print(name: str, found: Mapping[str, Any]) -> None:
    energy, window, idle = (found[key] for key in ("energy_per_inference_mj", "window", "idle_w"))
    simulated = " (simulated)" if found["simulated"] else ""
    print(f"\n{name}: channel {found['channel']}, meter: {found['device'] or found['meter']}{simulated}")
    show.table(COLUMNS, [("energy per inference, mJ", *(f"{energy[kind]:.5g}" for kind in COLUMNS[1:]))])
    for kind in COLUMNS[1:]:
        low, high = energy[f"{kind}_ci95"]
        share = (high - low) / 2 / energy[kind]
        print(f"{kind}: {low:.5g} to {high:.5g} mJ with 95 % confidence, +-{share:.2%}")
    print()
    show.table(BUDGET, [_budget_row(*row) for row in found["budget_mj"].items()])
    print()
    for line in _facts(found, window, idle):
        print(line)


def _budget_row(part: str, both: Mapping[str, float]) -> tuple[str, str, str]:
    return part.replace("_", " "), f"{both['gross']:.3g}", f"{both['net']:.3g}"


def _facts(found: Mapping[str, Any], window: Mapping[str, Any], idle: Mapping[str, Any]) -> Iterator[str]:
    where = f"from {window['start_s']:.4f} to {window['end_s']:.4f} s of the trace"
    yield f"{window['inferences']} inferences in {window['seconds']:.4g} s, {where}"
    yield f"placed by: {BY[found['alignment']['by']]}"
    yield f"idle power: {idle['before']:.4g} W before, {idle['after']:.4g} W after"
    yield f"samples: {found['samples']:,}, lost: {found['dropped']}"
    if found["note"]:
        yield f"note: {found['note']}"
    if (product := found["mean_v_times_mean_i_mj"]) is not None:
        yield f"for comparison, mean voltage x mean current: {product:.5g} mJ"


def _print_converted(
    output: Path, metrics: Mapping[str, float], metadata: Mapping[str, Any], *, as_json: bool
) -> None:
    if as_json:
        show.print_json({"output": str(output), **metrics, **metadata})
        return
    print(output)
    print(f"{metrics['samples']:,.0f} samples, {metrics['seconds']:.4g} s, lost: {metrics['dropped']:.0f}")
    if metadata["note"]:
        print(f"note: {metadata['note']}")
