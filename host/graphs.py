"""Looking at one network: its layers counted (`flops`) and drawn (`visualize`), from a model or any file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host import jobs, show, toolbox
from host.pipeline import Outcome
from host.plan import Planner, Stage
from host.store import Store
from host.zoo import Model, find
from tools.stage import InvalidRequest

# What `describe` reads, by the suffix that its files have.
DESCRIBERS: Mapping[str, tuple[str, str]] = {
    "frozen": (".pb", "tf1.describe"),
    "onnx": (".onnx", "onnx.describe"),
}
COLUMNS = ("layer", "operation", "input", "output", "params", "MACs", "share")


def plan_flops(
    file: Path | None, models: Sequence[str], artifact: str, weights: str, input_shape: Sequence[str]
) -> jobs.Plan:
    """Return the plan that counts the layers of a file, or of each model's artifact."""
    return _plan(file, models, artifact, weights, input_shape, draw=False)


def _plan(
    file: Path | None,
    models: Sequence[str],
    artifact: str,
    weights: str,
    input_shape: Sequence[str],
    *,
    draw: bool,
) -> jobs.Plan:
    if (file is None) == (not models):
        message = "name either a file or a model"
        raise InvalidRequest(message, hint="e.g. --model squeezenet, or squeezenet.frozen.pb")
    if file:
        artifact = artifact_of(file)
    elif artifact not in DESCRIBERS:
        message = f"the artifact {artifact!r} cannot be read layer by layer"
        raise InvalidRequest(message, hint=f"Choose one of {', '.join(DESCRIBERS)}, or use --netron")
    command = toolbox.find(DESCRIBERS[artifact][1])

    def target(planner: Planner) -> list[Stage]:
        described = planner.add(command, {"input_shape": " ".join(input_shape)})
        if draw:
            planner.add_after(toolbox.find("report.draw"), {"layers": described})
        return planner.stages

    if file is None:
        return jobs.for_each(models, weights, {}, target)

    def plan(store: Store) -> list[Stage]:
        model = Model(name=file.name.removesuffix(".pb").removesuffix(".onnx"), about="", params={})
        return target(Planner(model, {artifact: store.take_in({artifact: file})}, {}))

    return plan


def artifact_of(file: Path) -> str:
    """Return the artifact that a file is, by its name.

    Raises:
        InvalidRequest: it is none that has a graph to read.
    """
    for artifact, (suffix, _) in DESCRIBERS.items():
        if file.suffix == suffix:
            return artifact
    message = f"{file.name} is neither a TensorFlow graph (.pb) nor an ONNX network (.onnx)"
    raise InvalidRequest(message, hint="Other formats can be looked at in Netron: visualize --netron FILE")
