"""What a person sees while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from host.pipeline import Outcome
from host.plan import Stage
from host.show import STYLES, state


def show_progress(stages: Sequence[Stage]) -> LiveTable | PlainLines:
    """Return the view that fits where standard error goes."""
    console = Console(stderr=True, markup=False)
    return LiveTable(console, stages) if console.is_terminal else PlainLines(stages)


class PlainLines:
    """A line when a stage ends; for logs, pipes and CI."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._total = len(stages)
        self._done = 0

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, stage: Stage) -> None:
        """Nothing: its end is what matters in a log."""

    def progress(self, stage: Stage, fraction: float, message: str) -> None:
        """Nothing, for the same reason."""

    def finished(self, stage: Stage, outcome: Outcome) -> None:
        """Print the stage's one line."""
        self._done += 1
        self._total = max(self._done, self._total)  # the report is planned when the records are there
        text = f"[{self._done}/{self._total}] {stage.model} {stage.name}: {state(outcome)}"
        print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=sys.stderr, flush=True)


class LiveTable:
    """Every stage with its bar, elapsed time and whether it came from the cache, redrawn as it goes."""

    def __init__(self, console: Console, stages: Sequence[Stage]) -> None:
        self._stages = list(stages)
        self._console = console
        self._begun: dict[Stage, float] = {}
        self._fraction: dict[Stage, tuple[float, str]] = {}
        self._outcomes: dict[Stage, Outcome] = {}
        # few redraws: this process shares the machine with the measurements
        self._live = Live(self, console=console, refresh_per_second=2)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def __rich__(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("stage", "model", "progress", "elapsed", "state"):
            table.add_column(title, overflow="ellipsis", no_wrap=title != "state")
        rows = [self._row(stage) for stage in self._stages]
        hidden = max(0, len(rows) - max(8, self._console.height - 4))
        first = max(0, min(hidden, len(self._outcomes) - 4)) if hidden else 0
        for row in rows[first : len(rows) - hidden + first]:
            table.add_row(*row)
        done = Text(f"{len(self._outcomes)} of {len(rows)} stages done", style="dim")
        return Group(table, done)

    def started(self, stage: Stage) -> None:
        """Begin its clock."""
        if stage not in self._stages:  # the report, which is planned when the records are there
            self._stages.append(stage)
        self._begun[stage] = time.monotonic()

    def progress(self, stage: Stage, fraction: float, message: str) -> None:
        """Move its bar."""
        self._fraction[stage] = (fraction, message)

    def finished(self, stage: Stage, outcome: Outcome) -> None:
        """Show how it ended."""
        self._outcomes[stage] = outcome

    def note(self, text: str) -> None:
        """Print it above the table."""
        self._console.print(text, style="dim", highlight=False)

    def _row(self, stage: Stage) -> tuple[RenderableType, ...]:
        outcome = self._outcomes.get(stage)
        if outcome is None:
            return self._open_row(stage)
        status = "cached" if outcome.cached else outcome.status
        text = state(outcome) if outcome.blocker else f"{status}: {outcome.why}" if outcome.why else status
        style = STYLES.get(status, "red")
        bar = ProgressBar(total=1, completed=1 if outcome.error is None else 0, width=20)
        return stage.name, stage.model, bar, f"{outcome.seconds:.1f} s", Text(text, style=style)

    def _open_row(self, stage: Stage) -> tuple[RenderableType, ...]:
        fraction, message = self._fraction.get(stage, (0.0, ""))
        bar = ProgressBar(total=1, completed=fraction, width=20)
        if stage not in self._begun:
            return stage.name, stage.model, bar, "", Text("waiting", style="dim")
        elapsed = time.monotonic() - self._begun[stage]
        return stage.name, stage.model, bar, f"{elapsed:.1f} s", Text(message or "running", style="bold")
