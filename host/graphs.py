"""Looking at a network layer by layer: counted (`flops`), drawn (`visualize`); of a model or of any file."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host import jobs, show, toolbox
from host.engines.venv import environment, tool_environment
from host.options import Running, Subject
from host.plan import Planner, Stage
from host.store import Store
from host.zoo import Model
from tools.stage import InvalidRequest

# What each artifact with layers to read is called in a file's name, and the command that reads it.
DESCRIBERS: Mapping[str, tuple[str, str]] = {
    "frozen": (".pb", "tf1.describe"),
    "onnx": (".onnx", "onnx.describe"),
}
COLUMNS = ("layer", "operation", "input", "output", "params", "MACs", "share")


def flops(subject: Subject, running: Running) -> int:
    """Count, print the layers of each network and its totals; return the exit code."""
    ran = jobs.execute(_plan(subject, draw=False), running)
    found = {
        stage.model: json.loads(outcome.entry.path("described").read_text())
        for stage, outcome in ran.outcomes.items()
        if outcome.entry and "described" in stage.outputs
    }
    if running.as_json:
        show.print_json(found)
    else:
        for model, described in found.items():
            _print_network(model, described)
    return jobs.end(ran)


def visualize(subject: Subject, running: Running) -> int:
    """Draw each network as a page, print where it is; return the exit code."""
    ran = jobs.execute(_plan(subject, draw=True), running)
    pages = {
        stage.model: str(running.work / "models" / stage.model / stage.outputs["page"])
        for stage, outcome in ran.outcomes.items()
        if outcome.entry and "page" in stage.outputs
    }
    if running.as_json:
        show.print_json(pages)
    else:
        for page in pages.values():
            print(page)
    return jobs.end(ran)


def serve(subject: Subject, running: Running, port: int) -> int:
    """Make the artifact, then show it in Netron until Ctrl-C; return the exit code.

    Netron runs in the report tool's environment on this machine whatever the engine: it gives one file to the
    browser of the person who sits here, and the tools' containers have no network to do that over.

    Raises:
        InvalidRequest: it is not one file, or no stage makes the artifact.
        Unavailable: the environment cannot be made.
    """
    file = subject.file
    _either(subject)
    if subject.input_shape:
        message = "Netron shows a file as it is, and takes no --input-shape"
        raise InvalidRequest(message, hint="Leave it out.")
    if file is None:
        subject.one()
        maker = toolbox.producer(subject.artifact)
        ran = jobs.execute(jobs.for_each(subject, {}, jobs.only(maker)), running)
        [last] = [outcome for stage, outcome in ran.outcomes.items() if stage.command is maker]
        code = jobs.end(ran)
        if last.entry is None:
            return code
        file = last.entry.path(subject.artifact)
    if not file.is_file():
        message = f"{file} is not a file"
        raise InvalidRequest(message, hint="Check the path.")
    argv = [str(environment("report", jobs.note)), "-m", "tools.report.viewer", str(file.resolve())]
    with subprocess.Popen([*argv, "--port", str(port)], env=tool_environment()) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:  # how it is meant to end
            child.terminate()
            return 0


def _either(subject: Subject) -> None:
    if (subject.file is None) != subject.named():
        message = "it takes either a file or a model"
        raise InvalidRequest(message, hint="e.g. --model squeezenet, or my.frozen.pb, or my.onnx")


def _plan(subject: Subject, *, draw: bool) -> jobs.Plan:
    file, artifact = subject.file, subject.artifact
    _either(subject)
    if file:
        artifact = _artifact_of(file)
    elif artifact not in DESCRIBERS:
        message = f"the artifact {artifact!r} cannot be read layer by layer"
        raise InvalidRequest(message, hint=f"Choose {' or '.join(DESCRIBERS)}; Netron shows others: --netron")
    describe = toolbox.find(DESCRIBERS[artifact][1])

    def target(planner: Planner) -> list[Stage]:
        stage = planner.add(describe, {"input_shape": " ".join(subject.input_shape or ())})
        if draw:
            planner.add(toolbox.find("report.draw"), {"title": stage.model}, {"described": stage})
        return planner.stages

    if file is None:
        return jobs.for_each(subject, {}, target)

    def plan(store: Store, _to_run: bool) -> list[Stage]:
        name = re.sub(r"[^\w.+-]|^[.+-]", "_", file.stem)
        return target(
            Planner(Model(name=name, about="", params={}), {artifact: store.take_in({artifact: file})}, {})
        )

    return plan


def _artifact_of(file: Path) -> str:
    for artifact, (suffix, _) in DESCRIBERS.items():
        if file.suffix == suffix:
            return artifact
    message = f"{file.name} is neither a frozen TensorFlow graph (.pb) nor an ONNX network (.onnx)"
    raise InvalidRequest(message, hint="Netron shows other formats: python runner.py visualize --netron FILE")


def _print_network(model: str, described: Mapping[str, Any]) -> None:
    layers = described["layers"]
    counted = [layer for layer in layers if layer["params"] or layer["macs"]]
    print(f"\n{model}: {described['format']}")
    show.table(COLUMNS, [_row(layer) for layer in counted])
    print(
        f"\n{described['params']:,} parameters, {described['macs']:,} MACs, "
        f"{described['operations']:,} operations (two for each MAC, and the rest)"
    )
    if rest := len(layers) - len(counted):
        print(f"{rest} layers without parameters and MACs are not shown; --json has them")
    for note in described["notes"]:
        print(f"note: {note}")
    if described["not_counted"]:
        listed = ", ".join(f"{operator} ({count})" for operator, count in described["not_counted"].items())
        print(f"note: no rule for these operators, so none of their operations are counted: {listed}")


def _row(layer: Mapping[str, Any]) -> tuple[str, ...]:
    shapes = ["x".join(map(str, shape)) for shape in (*layer["input_shapes"], layer["output_shape"])]
    numbers = f"{layer['params']:,}", f"{layer['macs']:,}", f"{layer['share']:.1%}"
    return layer["name"], layer["operation"], " ".join(shapes[:-1]), shapes[-1], *numbers
