"""The `label` command: what pictures show, according to each backend and to the reference graph."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from host import jobs, pictures, results, show, toolbox
from host.options import Boards, Networks, Running
from host.pipeline import Outcome
from host.plan import Planner, Stage, places, variants
from tools.stage import InvalidRequest, WrongOutput, write_json

FILE = "labels.json"  # in the run's folder


def plan(
    networks: Networks,
    image: Path | None,
    backends: Sequence[str] | None,
    inputs: Sequence[str],
    *,
    precisions: Sequence[str],
    labels: Path | None,
    top: int,
    settings: Mapping[str, Any],
    devices: Sequence[str] = (),
) -> jobs.Plan:
    """Return the plan: the reference graph's answers and each backend's in each precision, all of them named.

    What has to answer on a board does so on each of `devices`.

    Raises:
        InvalidRequest: there is no such backend or precision, or the backend or the model cannot answer.
    """
    pictures.require_image_network(networks.one())
    wanted = [_able(jobs.backend(name)) for name in backends] if backends else _all_able()
    files = [*inputs, f"labels={labels}"] if labels else inputs

    def target(planner: Planner) -> list[Stage]:
        name = toolbox.find("image.label")
        expected = planner.want(toolbox.find("tf1.infer"))
        planner.add(name, {"top": top}, {"expected": expected})
        for backend in wanted:
            command = toolbox.find(f"{backend}.infer")
            for params, device in itertools.product(variants(command, precisions), places(command, devices)):
                answers = planner.add(command, params, device=device)
                sources = {"answers": answers} | (
                    {"expected": expected} if _comparable(answers, expected) else {}
                )
                planner.add(name, {"top": top, "precision": answers.params["precision"]}, sources)
        return planner.stages

    return jobs.for_each(networks, settings, target, inputs=files, images=image)


def _able(backend: str) -> str:
    if "infer" not in toolbox.tools()[backend].commands:
        message = f"the backend {backend} has no command `infer`, so it cannot label"
        raise InvalidRequest(message, hint=f"Those that can: {', '.join(_all_able())}")
    return backend


def _all_able() -> list[str]:
    return [name for name in toolbox.backends() if "infer" in toolbox.tools()[name].commands]


def _comparable(answers: Stage, expected: Stage) -> bool:
    """Whether both may be of the same weights: a network of the user's own is not of generated ones."""
    return _is_generated(answers) or not _is_generated(expected)


def _is_generated(stage: Stage) -> bool:
    return any(need.command.full_name == "tf1.generate-weights" for need in stage.ancestors())


def carry_out(plan: jobs.Plan, running: Running, boards: Boards) -> int:
    """Run the plan, show the table; return the exit code, that of a wrong output if a backend disagrees.

    Raises:
        StageError: there is no picture to look at, which is then all that there is to say.
    """
    ran = jobs.execute(plan, running, boards=boards)
    document = describe(ran.stages, ran.outcomes) | {"weights": ran.document["run"]["weights"]}
    write_json(ran.folder / FILE, document)
    if running.as_json:
        show.print_json({**document, "folder": str(ran.folder)})
    else:
        _show(document)
        print(f"\nrun: {ran.folder}")
    if code := results.exit_code(ran.outcomes.values(), tolerant=True):
        return code
    return WrongOutput.exit_code if any(row["agrees"] is False for row in document["rows"]) else 0


def describe(stages: Sequence[Stage], outcomes: Mapping[Stage, Outcome]) -> dict[str, Any]:
    """Return what the run found: the pictures, and a row for the reference and for each backend.

    Raises:
        StageError: no picture could be read.
    """
    made = {stage.command.full_name: outcomes[stage] for stage in stages}
    preprocessed = made.get("image.preprocess", Outcome())
    if preprocessed.error:
        raise preprocessed.error
    warnings = [text for stage in stages for text in _warnings(outcomes[stage])]
    return {
        "model": stages[0].model,
        "generated_picture": "image.sample" in made,
        "pictures": preprocessed.result.metadata["pictures"] if preprocessed.result else [],
        "warnings": list(dict.fromkeys(warnings)),
        "rows": [_row(stage, outcomes) for stage in stages if stage.command.full_name == "image.label"],
    }


def _warnings(outcome: Outcome) -> Sequence[str]:
    return outcome.result.metadata.get("warnings", ()) if outcome.result else ()


def _row(stage: Stage, outcomes: Mapping[Stage, Outcome]) -> dict[str, Any]:
    """Return what one network answered, by `image.label`."""
    source = stage.inputs["answers" if "answers" in stage.inputs else "expected"]
    assert isinstance(source, Stage)
    outcome = outcomes[stage]
    error = outcomes[source].error or outcome.error  # that of its need first, without "needs ..."
    metadata = outcome.result.metadata if outcome.result else {}
    answered = outcomes[source].result
    top = json.loads(outcome.entry.path("table").read_text()) if outcome.entry else []
    return {
        "backend": source.command.tool,
        "runtime": source.params.get("runtime", source.command.tool),
        "device": source.params.get("device", "CPU"),
        "board": source.device or None,
        "precision": source.params.get("precision", "fp32"),
        "reference": "answers" not in stage.inputs,
        "generated_weights": _is_generated(source),
        "simulated": bool(answered and answered.metadata.get("simulated")),
        "status": outcome.status,
        "reason": str(error) if error else metadata.get("reason"),
        "hint": error.hint if error else None,
        "agrees": metadata.get("agrees"),
        "top": top,
    }


def _show(document: Mapping[str, Any]) -> None:
    """Print a table for each picture, and what one has to know to read it."""
    unknown = [{"name": "inputs of your own", "notes": []}]  # --input images=FILE
    for index, picture in enumerate(document["pictures"] or unknown):
        of = "a generated picture, " if document["generated_picture"] else ""
        notes = "".join(f"; {note}" for note in picture["notes"])
        print(f"\n{document['model']}: {of}{picture['name']}{notes}")
        rows = [(_name(row), _answer(row, index), _agreement(row)) for row in document["rows"]]
        show.table(("backend", "score and name", "agrees with the reference"), rows)
    for line in _remarks(document):
        print(f"\n{line}")


def _name(row: Mapping[str, Any]) -> str:
    if row["reference"]:
        return "reference"
    usual = (row["device"], row["precision"]) == ("CPU", "fp32")
    simulated = " (simulated)" if row["simulated"] else ""
    board = f" on {row['board']}" if row["board"] else ""
    return show.backend(row) + ("" if usual else f" {row['device']} {row['precision']}") + board + simulated


def _answer(row: Mapping[str, Any], index: int) -> Text:
    if row["top"]:
        return Text("\n".join(f"{best['score']:.4f} {best['name']}" for best in row["top"][index]))
    return Text(f"{row['status']}: {row['reason']}", style=show.STYLES.get(row["status"], "red"))


def _agreement(row: Mapping[str, Any]) -> Text:
    if row["reference"] or not row["top"]:
        return Text("")
    if row["agrees"] is None:
        return Text("not compared: its weights are yours, the reference's are generated", style="yellow")
    return Text("yes", style="green") if row["agrees"] else Text(f"no: {row['reason']}", style="red")


def _remarks(document: Mapping[str, Any]) -> Iterator[str]:
    yield from (line.strip() for line in show.weight_lines(document["weights"]))
    named = [row for row in document["rows"] if row["top"]]
    if generated := [_name(row) for row in named if row["generated_weights"]]:
        whose = "The weights" if len(generated) == len(named) else f"The weights of {', '.join(generated)}"
        yield f"{whose} are generated, so these names mean nothing; only whether backends agree does."
    yield from (f"warning: {text}" for text in document["warnings"])
    yield from dict.fromkeys(f"{row['reason']}. {row['hint']}" for row in document["rows"] if row["hint"])
