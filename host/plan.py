"""The plan: which stages a target needs, in order, found from what each command reads and makes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from host import toolbox
from host.store import Entry
from host.zoo import Model
from tools.stage import Command, InvalidRequest

PREPARE = ("tf1.generate-weights", "tf1.export", "tf1.freeze", "tf1.reference")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One command for one model; each input is what another stage makes, or a file that the user gave."""

    model: str
    command: Command
    params: Mapping[str, Any]
    inputs: Mapping[str, Stage | Entry]

    @property
    def name(self) -> str:
        """`tool.command`, with the parameters that set it apart from its siblings in the main job."""
        variant = [str(self.params[key]) for key in sorted({key for v in self.command.variants for key in v})]
        return self.command.full_name + (f"[{','.join(variant)}]" if variant else "")

    @property
    def outputs(self) -> Mapping[str, str]:
        """Artifact name -> file name of what it makes."""
        return {key: name.replace("{model}", self.model) for key, name in self.command.outputs.items()}

    def needs(self) -> Iterator[Stage]:
        """Yield the stages whose outputs it reads."""
        yield from dict.fromkeys(source for source in self.inputs.values() if isinstance(source, Stage))


class Planner:
    """Builds the stages for one model; a stage that two targets need is planned once.

    `given` are files that the user supplies instead of what a stage would make; `settings` are parameters
    that every stage takes which has them (`budget_s`, `threads`).
    """

    def __init__(self, model: Model, given: Mapping[str, Entry], settings: Mapping[str, Any]) -> None:
        self._model = model
        self.given = given
        self._settings = settings
        self._made: dict[str, Stage] = {}
        self.stages: list[Stage] = []

    def want(self, command: Command) -> Stage:
        """Plan `command` with its usual parameters, once."""
        if command.full_name not in self._made:
            self._made[command.full_name] = self.add(command)
        return self._made[command.full_name]

    def add(
        self,
        command: Command,
        params: Mapping[str, Any] | None = None,
        sources: Mapping[str, Stage] | None = None,
    ) -> Stage:
        """Plan `command` with `params`, after all that it needs.

        `sources` are stages to take inputs from, where more than one makes an artifact of that name.

        Raises:
            InvalidRequest: a parameter is unknown or missing, or nothing makes an input.
        """
        inputs: dict[str, Stage | Entry] = {}
        for artifact in command.inputs:
            if artifact in self.given:
                inputs[artifact] = self.given[artifact]
            elif sources and artifact in sources:
                inputs[artifact] = sources[artifact]
            elif artifact not in command.optional:
                inputs[artifact] = self.want(toolbox.producer(artifact))
        stage = Stage(
            model=self._model.name,
            command=command,
            params=self._parameters(command, params or {}),
            inputs=inputs,
        )
        self.stages.append(stage)
        return stage

    def _parameters(self, command: Command, params: Mapping[str, Any]) -> dict[str, Any]:
        known = command.params
        if unknown := [key for key in params if key not in known]:
            message = f"{command.full_name} has no parameter {unknown[0]!r}"
            raise InvalidRequest(message, hint=f"Its parameters: {', '.join(known) or 'none'}")
        sources = (known, self._model.params, self._settings, params)  # the later ones win
        merged = {key: value for source in sources for key, value in source.items() if key in known}
        if missing := [key for key, value in merged.items() if value is inspect.Parameter.empty]:
            message = f"{command.full_name} needs a value for {missing[0]!r}"
            raise InvalidRequest(message, hint=f"Give it: --set {missing[0]}=VALUE")
        return merged


def main_job(planner: Planner, backends: Iterable[str]) -> list[Stage]:
    """Plan everything for one model: preparation, then each backend's measurements and what they need."""
    prepare(planner)
    for backend in backends:
        for command in toolbox.tools()[backend].commands.values():
            if command.measures:
                for variant in command.variants:
                    planner.add(command, variant)
    return planner.stages


def prepare(planner: Planner) -> list[Stage]:
    """Plan weights, inference graph, frozen graph and reference outputs for one model."""
    for command in map(toolbox.find, PREPARE):
        if not command.outputs.keys() <= planner.given.keys():
            planner.want(command)
    return planner.stages


def parse_settings(texts: Iterable[str], command: Command) -> dict[str, Any]:
    """Turn `key=value` texts into parameters, each of the type of the command's default.

    Raises:
        InvalidRequest: a text is not of that form, or the value not of that type.
    """
    hints = inspect.get_annotations(command.function, eval_str=True)
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        kind = hints.get(key, str)
        try:
            if not (key and equals):
                raise ValueError
            found[key] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (ValueError, KeyError):
            message = f"--set {text} does not give {key or 'a parameter'} a value of type {kind.__name__}"
            raise InvalidRequest(message, hint="The form is --set name=value") from None
    return found
