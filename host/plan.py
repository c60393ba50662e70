"""The plan: which stages a target needs, in order, found from what each command reads and makes."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from host import toolbox
from host.store import Entry
from host.weights import GENERATED, Weights
from host.zoo import Model
from tools import gate
from tools.names import nearest
from tools.stage import Command, InvalidRequest

PRECISION = "precision"  # the parameter that decides which of an artifact's forms a stage reads
PREPARE = ("graph", "ckpt_index", "frozen", "reference")
ENERGY = "energy.per-inference"  # reads the trace of a meter and the windows of a measurement
IMPORT = "tf1.import-weights"  # makes what tf1.generate-weights makes, from a trained checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One command for one model; each input is what another stage makes, or a file that the user gave.

    `made_as` has the names that inputs have where they are made, if those are others: a benchmark in int8
    reads as its `tflite` what is made as `tflite_int8`. `weights` says which the model's are, and why; None
    where a plan does without them. `device` is the board that it runs on, as --device names it, "" for here.
    `of` is the measurement that a meter is recorded beside, or whose energy is calculated.
    """

    model: str
    command: Command
    params: Mapping[str, Any]
    inputs: Mapping[str, Stage | Entry]
    device: str = ""
    made_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weights: Weights | None = None
    of: Stage | None = None

    @property
    def name(self) -> str:
        """`tool.command`, with what sets it apart from its siblings in the main job."""
        if self.of:
            return f"{self.command.full_name} of {self.of.name}"
        keys = {key for variant in self.command.variants for key in variant}
        if self.params.get(PRECISION) != self.command.params.get(PRECISION):
            keys.add(PRECISION)
        variant = [str(self.params[key]) for key in sorted(keys)] + ([self.device] if self.device else [])
        return self.command.full_name + (f"[{','.join(variant)}]" if variant else "")

    @property
    def is_cached(self) -> bool:
        """Whether the store keeps what it makes; a measurement's energy stays with the run, as its trace."""
        return self.command.cached and self.of is None

    @property
    def outputs(self) -> Mapping[str, str]:
        """Artifact name -> file name of what it makes."""
        return {key: name.replace("{model}", self.model) for key, name in self.command.outputs.items()}

    def made_name(self, artifact: str) -> str:
        """Return the name that an input has where it is made."""
        return self.made_as.get(artifact, artifact)

    def needs(self) -> Iterator[Stage]:
        """Yield the stages whose outputs it reads, and the one that it is of."""
        sources = (self.of, *self.inputs.values())
        yield from dict.fromkeys(source for source in sources if isinstance(source, Stage))

    def ancestors(self) -> set[Stage]:
        """Return all stages that it needs, and those that they need."""
        return {stage for need in self.needs() for stage in (need, *need.ancestors())}


class Planner:
    """Builds the stages for one model; a stage that two targets need is planned once.

    `given` are files that the user supplies instead of what a stage would make; `settings` are parameters
    that every stage takes which has them (`budget_s`, `threads`); `asked_for` are optional inputs that are
    to be made instead of left out. With `weights` that are not generated the import of their checkpoint
    takes the place of the stage that generates one. A given file that is None is one that a run would bring
    here first; such a plan is for looking at.
    """

    def __init__(
        self,
        model: Model,
        given: Mapping[str, Entry | None],
        settings: Mapping[str, Any],
        *,
        asked_for: Collection[str] = (),
        weights: Weights | None = None,
    ) -> None:
        self._model = model
        self.given = given
        self._settings = settings
        self._asked_for = asked_for
        self._weights = weights
        self._made: dict[tuple[str, str], Stage] = {}
        self.stages: list[Stage] = []

    def maker(self, artifact: str) -> Command:
        """Return the command that makes `artifact` for this model."""
        replacement = toolbox.find(IMPORT)
        trained = self._weights is not None and self._weights.source != GENERATED
        return replacement if trained and artifact in replacement.outputs else toolbox.producer(artifact)

    def want(self, command: Command, device: str = "") -> Stage:
        """Plan `command` with its usual parameters, once; on the board only if it has to run there."""
        key = (command.full_name, device if command.on_board else "")
        if key not in self._made:
            self._made[key] = self.add(command, device=key[1])
        return self._made[key]

    def add(
        self,
        command: Command,
        params: Mapping[str, Any] | None = None,
        sources: Mapping[str, Stage] | None = None,
        device: str = "",
    ) -> Stage:
        """Plan `command` with `params`, after all that it needs.

        `sources` are the stages to take an artifact from that several make; `device` is the board to run on.

        Raises:
            InvalidRequest: a parameter is unknown or missing, or nothing makes an input.
        """
        given: dict[str, Stage | Entry | None] = {**self.given, **(sources or {})}
        merged = self._parameters(command, params or {})
        inputs: dict[str, Stage | Entry] = {}
        made_as: dict[str, str] = {}
        own = merged.get(PRECISION) == command.params.get(PRECISION)  # the one that it reads usual inputs in
        for artifact in command.inputs:
            name = toolbox.in_precision(artifact, str(merged.get(PRECISION)))
            if artifact in given:
                if source := given[artifact]:
                    inputs[artifact] = source
            elif not own and (name in given or toolbox.is_made(name)):
                inputs[artifact] = given.get(name) or self.want(self.maker(name), device)
                made_as[artifact] = name
            elif artifact not in command.optional or artifact in self._asked_for:
                inputs[artifact] = self.want(self.maker(artifact), device)
        stage = Stage(
            model=self._model.name,
            command=command,
            params=merged,
            inputs=inputs,
            device=device,
            made_as=made_as,
            weights=self._weights,
        )
        self.stages.append(stage)
        return stage

    def _parameters(self, command: Command, params: Mapping[str, Any]) -> dict[str, Any]:
        known = command.params
        if unknown := [key for key in params if key not in known]:
            message = f"{command.full_name} has no parameter {unknown[0]!r}"
            listing = f"Its parameters: {', '.join(known) or 'none'}"
            raise InvalidRequest(message, hint=nearest(unknown[0], known, listing))
        sources = (known, self._model.params, self._settings, params)  # the later ones win
        merged = {key: value for source in sources for key, value in source.items() if key in known}
        if missing := [key for key, value in merged.items() if value is inspect.Parameter.empty]:
            message = f"{command.full_name} needs a value for {missing[0]!r}"
            raise InvalidRequest(message, hint=f"Give it: --set {missing[0]}=VALUE")
        if PRECISION in merged:
            gate.tolerance(merged[PRECISION])
        return merged


def places(command: Command, devices: Sequence[str]) -> Sequence[str]:
    """Return where a command runs: on each of the boards if it has to be on one, "" for here."""
    return (devices if command.on_board else ()) or ("",)


def main_job(
    planner: Planner, backends: Iterable[str], precisions: Sequence[str] = (), devices: Sequence[str] = ()
) -> list[Stage]:
    """Plan everything for one model: preparation, then each backend's measurements and what they need.

    What has to run on a board is planned for each of `devices`, or for here if there are none.
    """
    prepare(planner)
    for backend in backends:
        for command in toolbox.tools()[backend].commands.values():
            if command.measures:
                for device in places(command, devices):
                    for params in variants(command, precisions):
                        planner.add(command, params, device=device)
    return planner.stages


def with_meter(stages: Iterable[Stage], meter: Command, params: Mapping[str, Any]) -> Iterator[Stage]:
    """Yield the stages, and after each that measures the recording beside it and its energy.

    A meter that is a part of what it measures is on a stage's board with it. Where there are boards it is
    none of what is measured here.
    """
    stages = list(stages)
    boards = meter.on_board and any(stage.device for stage in stages)
    energy = toolbox.find(ENERGY)
    for stage in stages:
        yield stage
        if stage.command.measures and (stage.device or not boards):
            device = stage.device if meter.on_board else ""
            chosen = {**meter.params, **params}
            trace = Stage(model=stage.model, command=meter, params=chosen, inputs={}, device=device, of=stage)
            yield trace
            yield Stage(
                model=stage.model,
                command=energy,
                params=dict(energy.params),
                inputs={"trace": trace, "windows": stage},
                of=stage,
            )


def variants(command: Command, precisions: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield each variant of `command` in each of `precisions`, in its own if there are none, once."""
    wanted = [{PRECISION: precision} for precision in dict.fromkeys(precisions)] or [{}]
    merged = [{**variant, **precision} for variant, precision in itertools.product(command.variants, wanted)]
    yield from (params for index, params in enumerate(merged) if params not in merged[:index])


def prepare(planner: Planner) -> list[Stage]:
    """Plan weights, inference graph, frozen graph and reference outputs for one model."""
    for command in map(planner.maker, PREPARE):
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
