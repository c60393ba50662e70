"""What the runner's commands do: plan, run, collect, report, show."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from host import meters, pictures, programs, results, sdks, show, toolbox
from host.adb import bridge
from host.engines import Engine
from host.engines.choose import choose
from host.options import NO_BOARDS, Boards, Measuring, Metering, Networks, Running
from host.pipeline import Forecast, Outcome, Pipeline
from host.plan import Planner, Stage, main_job, parse_settings, prepare, with_meter
from host.run import Run
from host.store import Entry, Store, sha256
from host.weights import Chooser, Weights
from host.zoo import Model
from tools.names import nearest
from tools.stage import Command, InvalidRequest, Result, write_json

REPORT = "report.html"
NO_METER = Metering()
Target = Callable[[Planner], list[Stage]]
Plan = Callable[[Store, bool], list[Stage]]  # the bool: to be run, so weights may be fetched


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """A run that ended: the planned stages, results.json, how each stage ended, and the run's folder."""

    stages: Sequence[Stage]
    document: Mapping[str, Any]
    outcomes: Mapping[Stage, Outcome]
    folder: Path


def note(text: str) -> None:
    """Say something to the person at the terminal; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def plan_all(
    networks: Networks,
    measuring: Measuring,
    running: Running,
    images: Path | None,
    devices: Sequence[str] = (),
) -> Plan:
    """Return the plan of the main job for these networks; `images` are pictures of the user's own."""
    wanted = [backend(name) for name in measuring.backend or toolbox.backends()]

    def target(planner: Planner) -> list[Stage]:
        return main_job(planner, wanted, measuring.precisions, devices)

    settings = {**measuring.settings, **running.settings}
    return for_each(
        networks, settings, target, inputs=programs.given(measuring.benchmark_model), images=images
    )


def plan_prepare(networks: Networks, images: Path | None) -> Plan:
    """Return the plan that ends with the frozen graph and the reference outputs."""
    return for_each(networks, {}, prepare, images=images)


def plan_one(
    networks: Networks,
    stage: str,
    inputs: Sequence[str],
    sets: Sequence[str],
    images: Path | None,
    settings: Mapping[str, Any],
    devices: Sequence[str] = (),
) -> Plan:
    """Return the plan of one stage and what it needs.

    `inputs` are the user's own files, `name=path`; `sets` are parameters of that stage, `name=value`;
    `settings` those of all stages that take them. On each of `devices` that stage runs, whatever it is.
    """
    command = toolbox.find(stage)
    target = only(command, parse_settings(sets, command), devices)
    return for_each(networks, settings, target, inputs=inputs, images=images)


def only(command: Command, params: Mapping[str, Any] | None = None, devices: Sequence[str] = ()) -> Target:
    """Return the target that is one command, on each of the boards if any, and what it needs."""

    def target(planner: Planner) -> list[Stage]:
        for device in devices or ("",):
            planner.add(command, params, device=device)
        return planner.stages

    return target


def for_each(
    networks: Networks,
    settings: Mapping[str, Any],
    target: Target,
    *,
    inputs: Sequence[str] = (),
    images: Path | None = None,
) -> Plan:
    """Return the plan of `target` for each network, with the files, weights and pictures that were given."""
    models = networks.found()
    files = [input_file(text) for text in inputs]
    for model in models if images else ():
        pictures.require_image_network(model)

    def plan(store: Store, to_run: bool) -> list[Stage]:
        given = programs.fetched(store) | {name: store.take_in({name: path}) for name, path in files}
        if images:
            with pictures.packed(images) as archive:
                given["pictures"] = store.take_in({"pictures": archive})
        asked_for = ("images",) if images else ()
        chooser = Chooser(networks.weights, store.work, note, may_fetch=to_run)
        stages = []
        for model in models:
            mine: dict[str, Entry | None] = {**_table(model, store), **given}
            planned = target(Planner(model, {"checkpoint": None, **mine}, settings, asked_for=asked_for))
            if any(map(_reads_weights, planned)):  # else none have to be chosen, let alone fetched
                chosen = chooser.choose(model.name)
                mine = {**_checkpoint(chosen, store), **mine}
                planned = target(Planner(model, mine, settings, asked_for=asked_for, weights=chosen))
            stages += planned
        return stages

    return plan


def _reads_weights(stage: Stage) -> bool:
    """True where a plan comes down to weights that are not in a file of the user's."""
    imports = "checkpoint" in stage.command.inputs and "checkpoint" not in stage.inputs
    return imports or isinstance(stage.inputs.get("ckpt_data"), Stage)


def _checkpoint(weights: Weights, store: Store) -> dict[str, Entry | None]:
    """Return the import stage's files: None for one that a run would fetch first."""
    if weights.pending:
        return {"checkpoint": None}
    if not weights.files:
        return {}
    return dict.fromkeys(weights.files, store.take_in(weights.files, f"{weights.source}: {weights.name}"))


def _table(model: Model, store: Store) -> dict[str, Entry]:
    """Return the file `layers` of a network that is a table, for the tool that builds it."""
    if not model.table:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layers.json")
        write_json(path, model.table)
        return {"layers": store.take_in({"layers": path}, "by the network's description")}


def input_file(text: str) -> tuple[str, Path]:
    """Return name and path of what --input gives."""
    name, equals, path = text.partition("=")
    if not equals:
        message = f"--input {text} does not say which artifact that is"
        raise InvalidRequest(message, hint="The form is --input name=path, e.g. --input tflite=my.tflite")
    return name, Path(path)


def backend(name: str) -> str:
    """Return the name of a backend.

    Raises:
        InvalidRequest: there is none of that name; the hint suggests the nearest.
    """
    if name not in toolbox.backends():
        message = f"there is no backend {name!r}"
        raise InvalidRequest(message, hint=nearest(name, toolbox.backends()))
    return name


def carry_out(
    plan: Plan,
    running: Running,
    metering: Metering = NO_METER,
    boards: Boards = NO_BOARDS,
    *,
    report: bool = False,
) -> int:
    """Run a plan, write the run's folder, show what came out; return the exit code."""
    ran = execute(plan, running, metering, boards, report=report)
    show.outcomes(ran.document, ran.outcomes, ran.folder, as_json=running.as_json)
    return results.exit_code(ran.outcomes.values(), tolerant=report)


def end(ran: Ran) -> int:
    """Say beside a result that is shown already what was not done, and where; return the exit code."""
    for line in (*show.reasons(ran.outcomes), *show.warnings(ran.outcomes)):
        note(line)
    note(f"run: {ran.folder}")
    return results.exit_code(ran.outcomes.values(), tolerant=False)


def execute(
    plan: Plan,
    running: Running,
    metering: Metering = NO_METER,
    boards: Boards = NO_BOARDS,
    *,
    report: bool = False,
) -> Ran:
    """Run a plan and write the run's folder."""
    from host.live import show_progress  # `plan` has no use for it

    store = Store(running.work.resolve())
    with store.locked(), _meter(metering, running, boards) as meter:
        stages = _with_meter(plan(store, True), meter)
        _require_use(boards, stages)
        engine = _engine(stages, store, running, report=report)
        run = Run(store.work, meter.record() if meter else None)
        with (
            _board_engines(stages, running, boards) as elsewhere,
            show_progress(stages) as listener,
            _way_to_phones(stages, store, running),
        ):
            pipeline = Pipeline(
                engine,
                store,
                run,
                listener,
                running.limit_s,
                running.keep_going,
                meter.engine(engine) if meter else None,
                elsewhere,
            )
            try:
                try:
                    pipeline.execute(stages)
                finally:  # an interrupted run has records too
                    document = results.save(run, engine, pipeline)
                if report:
                    make_report(pipeline, run.folder)
            finally:
                write_json(run.folder / "run.json", results.about(run, engine, pipeline))
                folder = run.close()
    return Ran(stages=stages, document=document, outcomes=pipeline.outcomes, folder=folder)


def preview(plan: Plan, running: Running, metering: Metering, boards: Boards = NO_BOARDS) -> None:
    """Show what a plan would run and why, running nothing."""
    store = Store(running.work.resolve(), writes=False)
    with _meter(metering, running, boards, lock=False) as meter:
        stages = _with_meter(plan(store, False), meter)
    _require_use(boards, stages)
    sdks.give(running.sdks, store.work)
    builds = {**running.builds, **sdks.builds()}
    engine = choose(running.engine, store.work, [], pull=False, note=note, builds=builds)
    with _board_engines(stages, running, boards, looks=True) as elsewhere:
        known = Forecast(engine, store, boards=elsewhere).preview(stages)
    show.plan(stages, known, engine, meter.record() if meter else None, as_json=running.as_json)


def report_again(name: str, running: Running) -> Path:
    """Make the report of an earlier run anew; return its path."""
    from host.live import show_progress

    store = Store(running.work.resolve())
    run = Run.find(store.work, name)
    engine = choose(running.engine, store.work, ["report"], pull=running.pull, note=note)
    with store.locked(), show_progress([]) as listener:
        pipeline = Pipeline(engine, store, run, listener, running.limit_s, keep_going=True)
        outcome = make_report(pipeline, run.folder)
    if outcome.error:
        raise outcome.error
    return run.folder / REPORT


def _meter(
    metering: Metering, running: Running, boards: Boards, *, lock: bool = True
) -> contextlib.AbstractContextManager[meters.Chosen | None]:
    sets = metering.meter_set or ()
    return meters.held(
        metering.meter,
        metering.meter_serial,
        sets,
        running.settings,
        lock=lock,
        boards=bool(boards.devices),
    )


def _with_meter(stages: list[Stage], meter: meters.Chosen | None) -> list[Stage]:
    """Return the stages, with a recording and an energy for each that measures if there is a meter.

    Raises:
        InvalidRequest: the meter is one that plays a file.
    """
    if meter is None or meter.command is None:
        return stages
    if meter.command.inputs:
        message = f"{meter.command.meter} plays a recorded trace, which is none of what is measured now"
        raise InvalidRequest(message, hint="Choose a meter: python runner.py power list")
    return list(with_meter(stages, meter.command, meter.params))


def _engine(stages: Iterable[Stage], store: Store, running: Running, *, report: bool) -> Engine:
    sdks.give(running.sdks, store.work)
    builds = {**running.builds, **sdks.builds()}
    here = (stage.command for stage in stages if not stage.device)
    wanted = dict.fromkeys(command.runs_as for command in here if not meters.host_only(command))
    if report:
        wanted["report"] = None
    engine = choose(running.engine, store.work, wanted, pull=running.pull, note=note, builds=builds)
    note(f"engine {engine.name}: {engine.why}")
    return engine


def _require_use(boards: Boards, stages: Iterable[Stage]) -> None:
    """Raise InvalidRequest if boards are named and nothing would run on them."""
    if boards.devices and not any(stage.device for stage in stages):
        measured = (command for command in toolbox.commands() if command.measures and command.on_board)
        names = dict.fromkeys(command.tool for command in measured)
        message = "nothing of this runs on a board, and --device names one"
        raise InvalidRequest(
            message, hint=f"What does: --backend {', '.join(names)}; or `run` with one stage"
        )


@contextlib.contextmanager
def _board_engines(
    stages: Iterable[Stage], running: Running, boards: Boards, *, looks: bool = False
) -> Iterator[Mapping[str, Engine]]:
    """Yield the engine of each board that stages run on; the boards are left as they were."""
    wanted: dict[str, list[str]] = {}
    for stage in stages:
        if stage.device:
            wanted.setdefault(stage.device, []).append(stage.command.runs_as)
    if not wanted:
        yield {}
        return
    from host.engines.board import BoardEngine

    with contextlib.ExitStack() as stack:
        found: dict[str, Engine] = {}
        for device, tools in wanted.items():
            board = BoardEngine(device, running.builds, boards.power_mode, looks=looks)
            stack.callback(board.close)
            found[device] = board.open(tools, note, pull=running.pull)
        yield found


def _way_to_phones(
    stages: Iterable[Stage], store: Store, running: Running
) -> contextlib.AbstractContextManager[None]:
    if any("phone" in stage.command.params for stage in stages):
        return bridge(store.work, running.phone)
    return contextlib.nullcontext()


def make_report(pipeline: Pipeline, folder: Path) -> Outcome:
    """Make report.html of the results.json in a run's folder, by the report tool on the same engine."""
    source = Entry(
        folder=folder,
        result=Result(outputs={"results": results.FILE}),
        sha256={"results": sha256(folder / results.FILE)},
    )
    command = toolbox.find("report.render")
    stage = Stage(model="all", command=command, params=dict(command.params), inputs={"results": source})
    outcome = pipeline.execute([stage])[stage]
    if outcome.result and outcome.folder:
        (outcome.folder / outcome.result.outputs["html"]).replace(folder / REPORT)
    return outcome
