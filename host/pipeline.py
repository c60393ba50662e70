"""Runs a plan: one stage at a time, each tool started once, from the store what is there already."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from host import sdks
from host.engines import Engine, Process
from host.metering import Recording
from host.plan import Stage
from host.run import Run
from host.session import Session
from host.store import Entry, Store, sha256, stage_key
from tools.stage import Request, Result, StageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a stage ended: `entry` and `result` where it was done, else `error`.

    `blocker` is the stage whose failure is the reason that this one, which needs it, was not run.
    """

    seconds: float = 0.0
    key: str = ""
    cached: bool = False
    folder: Path | None = None
    entry: Entry | None = None
    result: Result | None = None
    error: StageError | None = None
    blocker: Stage | None = None

    @property
    def status(self) -> str:
        """`ok`, `emulated`, or what the error's class stands for."""
        if self.error:
            return self.error.status
        return "emulated" if self.result and self.result.emulated else "ok"

    @property
    def why(self) -> StageError | None:
        """What is to be said of a status that is not `ok`; of an emulated check too, which is no failure."""
        if self.error or not (self.result and self.result.emulated):
            return self.error
        return StageError(self.result.emulated["reason"], hint=self.result.emulated["hint"])


class Listener(Protocol):
    """Who is told how the run goes (the live table, plain lines)."""

    def started(self, stage: Stage) -> None:
        """A stage begins."""

    def progress(self, stage: Stage, fraction: float, message: str) -> None:
        """A stage is so far."""

    def finished(self, stage: Stage, outcome: Outcome) -> None:
        """A stage ended, or was taken from the store, or could not begin."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Forecast:
    """What is known of each stage without running a tool: a hit in the store, a failed need."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        keep_going: bool = True,
        meter_engine: Engine | None = None,
        boards: Mapping[str, Engine] = MappingProxyType({}),
    ) -> None:
        self._engine = engine
        self._meter_engine = meter_engine or engine
        self._boards = boards
        self._store = store
        self._keep_going = keep_going
        self.outcomes: dict[Stage, Outcome] = {}
        self._unkept: dict[Stage, Entry] = {}  # what the store does not keep: a trace is hashed once

    def engine_of(self, stage: Stage) -> Engine:
        """Return what runs a stage: the engine of its board, or this host's, or a meter's."""
        return self._boards.get(stage.device) or (self._meter_engine if stage.command.meter else self._engine)

    def preview(self, stages: Iterable[Stage]) -> Mapping[Stage, Outcome]:
        """Return what is known of each stage without running one: a hit in the store, or an error.

        A stage without an outcome would be run.
        """
        for stage in stages:
            if outcome := self._without_tool(stage):
                self.outcomes[stage] = outcome
        return self.outcomes

    def _without_tool(self, stage: Stage) -> Outcome | None:
        for need in stage.needs():
            if need in self.outcomes and (cause := self.outcomes[need].error):
                blocker = self.outcomes[need].blocker or need
                return Outcome(error=_inherited(need, cause), blocker=blocker)
        if not self._keep_going and any(outcome.error for outcome in self.outcomes.values()):
            return Outcome(error=StageError("not run after an earlier failure", hint="Use --keep-going."))
        if not self._is_ready(stage):
            return None
        try:
            key = self._key(stage)
            entry = self._store.find(key) if stage.is_cached and not stage.command.fresh else None
        except StageError as error:
            return Outcome(error=error)
        if entry is None:
            return None
        return Outcome(key=key, cached=True, folder=entry.folder, entry=entry, result=entry.result)

    def _is_ready(self, stage: Stage) -> bool:
        return all(need in self.outcomes for need in stage.needs())

    def _key(self, stage: Stage) -> str:
        hashes = {artifact: entry.sha256[name] for artifact, name, entry in self._sources(stage)}
        toolchain = self.engine_of(stage).toolchain(stage.command.runs_as)
        if stage.command.sdk:
            toolchain += f" sdk:{sdks.identity(stage.command.tool)}"
        return stage_key(toolchain, _request(stage), hashes)

    def _sources(self, stage: Stage) -> Iterator[tuple[str, str, Entry]]:
        """Yield each input with the name that it has where it is made, and the entry that holds it."""
        for artifact, source in stage.inputs.items():
            entry = self._made(source) if isinstance(source, Stage) else source
            yield artifact, stage.made_name(artifact), entry

    def _made(self, stage: Stage) -> Entry:
        """Return what a stage made: an entry of the store, or of the run if the store does not keep it."""
        outcome = self.outcomes[stage]
        if outcome.entry:
            return outcome.entry
        if stage not in self._unkept:
            assert outcome.result
            assert outcome.folder
            outputs = outcome.result.outputs
            hashes = {name: sha256(outcome.folder / path) for name, path in outputs.items()}
            self._unkept[stage] = Entry(folder=outcome.folder, result=outcome.result, sha256=hashes)
        return self._unkept[stage]


class Pipeline(Forecast):
    """Executes stages on one engine, into one store and one run.

    `keep_going`: after a failure go on with all that does not need the failed stage; else stop.
    `meter_engine` runs the meter, where that is not the engine of all else. `boards` are the engines of
    stages that run elsewhere, by their `device`.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        run: Run,
        listener: Listener,
        limit_s: float,
        keep_going: bool,
        meter_engine: Engine | None = None,
        boards: Mapping[str, Engine] = MappingProxyType({}),
    ) -> None:
        super().__init__(engine, store, keep_going, meter_engine, boards)
        self._run = run
        self._listener = listener
        self._limit_s = limit_s
        self._recordings: dict[Stage, Stage] = {}  # of each measurement that a meter is to be beside
        self.processes: list[dict[str, Any]] = []

    def execute(self, stages: Iterable[Stage]) -> Mapping[Stage, Outcome]:
        """Run all stages and return the outcome of each.

        Raises:
            KeyboardInterrupt: the user interrupted; `outcomes` then says so of all that was not done.
        """
        pending = list(stages)
        self._recordings = {stage.of: stage for stage in pending if stage.of and stage.command.meter}
        try:
            while pending := self._settle(pending):
                ready = [stage for stage in pending if self._is_ready(stage)]
                first = min(ready, key=_rank)
                self._run_tool(self.engine_of(first), first.command.runs_as, pending)
        except KeyboardInterrupt:
            interrupted = StageError("interrupted by the user", hint="Run it again; what is done is kept.")
            for stage in pending:
                if stage not in self.outcomes:
                    self._finish(stage, Outcome(error=interrupted))
            raise
        return self.outcomes

    def _settle(self, pending: list[Stage]) -> list[Stage]:
        """Finish what needs no tool (a failed need, a hit in the store); return the others."""
        for stage in pending:
            if stage not in self.outcomes and (outcome := self._without_tool(stage)):
                self._finish(stage, outcome)
        return [stage for stage in pending if stage not in self.outcomes]

    def _run_tool(self, engine: Engine, tool: str, pending: list[Stage]) -> None:
        """Start the tool once on an engine and run all of its stages there that are or become ready."""
        mine = [
            stage for stage in pending if stage.command.runs_as == tool and self.engine_of(stage) is engine
        ]
        try:
            process = self._start(engine, tool)
        except StageError as error:
            for stage in filter(self._is_ready, mine):
                self._finish(stage, Outcome(error=error))
            return
        with self._session(tool, process) as session:
            self._feed(session, mine)

    def _start(self, engine: Engine, tool: str) -> Process:
        return engine.start(tool, self._store.work, self._listener.note)

    @contextlib.contextmanager
    def _session(self, tool: str, process: Process) -> Iterator[Session]:
        begun = time.monotonic()
        try:
            with Session(process, self._store.work) as session:
                yield session
        finally:
            seconds = round(time.monotonic() - begun, 3)
            self.processes.append({"tool": tool, "command": process.command, "seconds": seconds})

    def _feed(self, session: Session, mine: list[Stage]) -> None:
        """Give a started tool its stages as they become ready, as long as it lives."""
        while session.alive:
            mine = self._settle(mine)
            ready = [stage for stage in mine if self._is_ready(stage)]
            if not ready:
                return
            stage = min(ready, key=_rank)
            if recording := self._recordings.get(stage):
                self._run_metered(session, stage, recording)
            else:
                self._finish(stage, self._run_stage(session, stage))

    def _run_metered(self, session: Session, stage: Stage, recording: Stage) -> None:
        """Run a stage that measures, with a meter's recording beside it if the meter's tool starts."""
        tool = recording.command.runs_as
        try:
            process = self._start(self.engine_of(recording), tool)
        except StageError as error:
            self._finish(stage, self._run_stage(session, stage))
            self._finish(recording, Outcome(error=error))
            return
        with self._session(tool, process) as meter:
            folder = self._run.stage_path(recording)
            beside = Recording(meter, folder, lambda: self._run_stage(meter, recording))
            try:
                outcome = self._run_stage(session, stage, beside)
            finally:
                beside.end()
        self._finish(stage, outcome)
        if beside.outcome or not outcome.error:  # else it ends as all do that need a stage that failed
            recorded = beside.outcome or Outcome()
            why = recorded.error or beside.problem
            self._finish(recording, dataclasses.replace(recorded, error=why))

    def _run_stage(self, session: Session, stage: Stage, beside: Recording | None = None) -> Outcome:
        """Run one stage in the started tool, and keep what it made if it is complete."""
        self._listener.started(stage)
        begun, key = time.monotonic(), self._key(stage)
        try:
            folder = self._folder(stage, key)
            self._hand_over(stage, folder)
            if beside:
                beside.ask(session, folder)
            with self._run.log(stage).open("w") as log:
                result = session.run(
                    folder,
                    log=log,
                    on_progress=lambda fraction, message: self._listener.progress(stage, fraction, message),
                    limit_s=self._limit_s,
                    on_meter=beside.told if beside else lambda _: None,
                )
            result.raise_error()
            entry = self._keep(stage, key) if stage.is_cached else None
            folder = entry.folder if entry else folder
            seconds = time.monotonic() - begun
            return Outcome(seconds=seconds, key=key, folder=folder, entry=entry, result=result)
        except StageError as error:
            return Outcome(seconds=time.monotonic() - begun, key=key, error=error)
        except OSError as error:
            session.kill()  # it may still write into the folder that goes below
            return Outcome(seconds=time.monotonic() - begun, key=key, error=_of_os(error))
        except KeyboardInterrupt:
            session.kill()
            raise
        finally:
            self._store.discard(key)  # what a failure left; a finished stage has its own name by now

    def _folder(self, stage: Stage, key: str) -> Path:
        return self._store.part(key) if stage.is_cached else self._run.stage_folder(stage)

    def _keep(self, stage: Stage, key: str) -> Entry:
        entry = self._store.commit(key)
        self._store.show(stage.model, entry)
        return entry

    def _hand_over(self, stage: Stage, folder: Path) -> None:
        """Write the request and give the folder to the user that the tool runs as."""
        inputs = {artifact: entry.path(name) for artifact, name, entry in self._sources(stage)}
        relative = {artifact: os.path.relpath(path, folder) for artifact, path in inputs.items()}
        dataclasses.replace(_request(stage), inputs=relative).write(folder)
        if owner := self.engine_of(stage).owner(stage.command.runs_as):
            os.chown(folder, *owner)

    def _finish(self, stage: Stage, outcome: Outcome) -> None:
        self.outcomes[stage] = outcome
        if outcome.cached and outcome.entry:
            self._store.show(stage.model, outcome.entry)
        self._listener.finished(stage, outcome)


def _request(stage: Stage) -> Request:
    return Request(
        tool=stage.command.tool,
        command=stage.command.name,
        inputs={},
        outputs=stage.outputs,
        params=stage.params,
    )


def _rank(stage: Stage) -> bool:
    """Conversions before measurements, so that a batch of one tool measures last."""
    return stage.command.measures


def _inherited(need: Stage, error: StageError) -> StageError:
    """The error of a stage whose need failed: the same class, and the first cause in its words."""
    if str(error).startswith("needs "):
        return error
    return type(error)(f"needs {need.name}, which failed: {error}", hint=error.hint)


def _of_os(failure: OSError) -> StageError:
    message = f"{failure.filename or 'the work folder'}: {failure.strerror}"
    if failure.errno == errno.ENOSPC:
        return StageError(message, hint="Free some space (python runner.py clean) or choose another --work")
    return StageError(message, hint="Check the work folder, or choose another with --work")
