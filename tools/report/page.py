"""Puts a run on one page: what the template shows, computed here; how it looks, there and in the CSS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tools.report import answer, details, plots, text
from tools.report.results import Compiled, Record, Run

HERE = Path(__file__).parent
# Which side of its limit a value has to be on: the gate's names, as in the schema's `tolerance`.
AT_LEAST = ("cosine", "top1_match", "top5_overlap")


@dataclasses.dataclass(frozen=True)
class Row:
    """One record as the page shows it; `id` is its anchor."""

    record: Record
    id: str
    ratio: Optional[float]
    is_baseline: bool
    is_fastest: bool
    doubts: list[str]
    distribution: str = ""
    over_time: str = ""
    profile: Optional[details.Found[details.Profile]] = None
    sweep: Optional[details.Found[details.Sweep]] = None
    sweep_plot: str = ""
    power: Optional[details.Found[details.Power]] = None
    power_plot: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """One model: its answer, its rows (fastest first), what it was compiled to, and the compilers' plans."""

    name: str
    id: str
    answer: answer.Answer
    rows: list[Row]
    is_log: bool
    compiled: list[Compiled]
    plans: Mapping[str, details.Found[details.Plan]]
    trade_off: str = ""

    @property
    def in_doubt(self) -> bool:
        """True where there are doubts about one of the two latencies that the answer compares."""
        return any(row.doubts for row in self.rows if row.is_fastest or row.is_baseline)


@dataclasses.dataclass(frozen=True)
class Gap:
    """What was not measured, for one reason; `models` share it."""

    record: Record
    id: str
    models: list[str]


def page(run: Run, on_progress: Callable[[float, str], None]) -> str:
    """Return the report of a run as HTML."""
    gaps = _gaps(run)
    sections = []
    for number, model in enumerate(run.models):
        on_progress(number / len(run.models), f"drawing {model}")
        sections.append(_section(run, model, f"m{number}"))
    html = (
        environment()
        .get_template("page.html.j2")
        .render(
            css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
            run=run,
            sections=sections,
            gaps=gaps,
            gap_key=_gap_key,
            uses=_uses,
            host_doubts=answer.host_doubts(run),
            versions=_versions(run),
            files=list(_files(run)),
            has_energy=any(record.energy or record.energy_reason for record in run.records),
        )
    )
    on_progress(1.0, "done")
    return html


def environment() -> Environment:
    """Return what the pages' templates are rendered in."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({name: getattr(text, name) for name in text.FILTERS})
    made.globals.update(count=text.count, limit=_limit, in_limit=_in_limit)
    return made


def _section(run: Run, model: str, anchor: str) -> Section:
    found = answer.answer(run, model)
    records = run.of(model)
    drawn = [record.raw.ms for record in records if record.measured and record.raw.ms is not None]
    range_ms = plots.limits(drawn) if drawn else None
    rows = []
    for number, record in enumerate(records):
        row = Row(
            record=record,
            id=f"{anchor}b{number}",
            ratio=found.against_baseline(record),
            is_baseline=record is found.baseline,
            is_fastest=record is found.fastest,
            doubts=answer.doubts(record, run),
            profile=details.profile(record),
            **_sweep(record, f"{anchor}b{number}s"),
            **_power(record, f"{anchor}b{number}p"),
        )
        rows.append(_with_plots(row, range_ms) if record.measured and range_ms else row)
    return Section(
        name=model,
        id=anchor,
        answer=found,
        rows=rows,
        is_log=bool(range_ms and plots.is_log(range_ms)),
        compiled=_once(compiled for record in records for compiled in record.compiled),
        plans={path: plan for record in records for path, plan in details.plans(record).items()},
        trade_off=_trade_off(records, f"{anchor}e"),
    )


def _with_plots(row: Row, range_ms: plots.Limits) -> Row:
    samples = row.record.raw.ms
    if samples is None:
        return row
    return dataclasses.replace(
        row,
        distribution=Markup(plots.distribution(samples, range_ms, f"{row.id}d")),
        over_time=Markup(plots.over_time(samples, f"{row.id}t")),
    )


def _sweep(record: Record, name: str) -> dict[str, Any]:
    """Return a row's sweep and, where a point of it was measured, its plot."""
    found = details.sweep(record)
    if found is None or found.value is None or not found.value.measured:
        return {"sweep": found}
    measured = [
        (point.at, point.p50_ms, point.p50_ms * (point.ci95_rel or 0)) for point in found.value.measured
    ]
    every = sorted({point.at for point in (*found.value.measured, *found.value.failed)})
    return {"sweep": found, "sweep_plot": Markup(plots.sweep(measured, every, name))}


def _power(record: Record, name: str) -> dict[str, Any]:
    """Return a row's power trace and, where it can be read, its plot."""
    found = details.power(record)
    if found is None or found.value is None:
        return {"power": found}
    return {"power": found, "power_plot": Markup(plots.power(found.value, name))}


def _trade_off(records: Sequence[Record], name: str) -> str:
    """Return the plot of energy over latency, where there is more than one point."""
    points = []
    for record in records:
        if record.measured and record.energy:
            energy, label = record.energy, " (simulated)" if record.energy.simulated else ""
            points.append((record.name + label, record.latency_ms.p50, energy.net_mj, energy.half_mj))
    return Markup(plots.trade_off(points, name)) if len(points) > 1 else ""


def _once(found: Iterable[Compiled]) -> list[Compiled]:
    """Return what differs, in its order: the records of one network share their conversions."""
    kept: list[Compiled] = []
    for compiled in found:
        if compiled not in kept:
            kept.append(compiled)
    return kept


def _uses(compiled: Compiled) -> str:
    """Say what a compiled network takes of its chip."""
    named = (("SHAVE", compiled.shaves), ("CMX slice", compiled.cmx_slices))
    return ", ".join(text.count(number_of, noun) for noun, number_of in named if number_of is not None)


def _gap_key(record: Record) -> tuple[Any, ...]:
    return (record.name, record.where, record.status, record.reason, record.hint)


def _gaps(run: Run) -> Mapping[tuple[Any, ...], Gap]:
    """Collect the records that are not ok; one entry for all models that share backend and reason."""
    gaps: dict[tuple[Any, ...], Gap] = {}
    for record in run.records:
        if record.status == "ok":
            continue
        gap = gaps.setdefault(_gap_key(record), Gap(record, f"gap{len(gaps)}", []))
        if record.model not in gap.models:
            gap.models.append(record.model)
    return gaps


def _versions(run: Run) -> list[tuple[str, Mapping[str, str]]]:
    """Return what each backend was made of; the same versions under the same name once."""
    found = [
        (record.name, dict(sorted(record.versions.items()))) for record in run.records if record.versions
    ]
    return [entry for number, entry in enumerate(found) if entry not in found[:number]]


def _files(run: Run) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield what the page links to: a heading, and (label, relative path) of each file."""
    own = [name for name in ("results.json", "run.json") if (run.folder / name).is_file()]
    yield "Run", [(name, name) for name in own]
    for record in run.records:
        files = {**record.artifacts, **record.files}
        if record.samples:
            files["samples"] = record.samples
        if files:
            yield f"{record.model}, {record.name}, {record.where}", sorted(files.items())
    logs = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.glob("logs/*.log"))
    if logs:
        yield "Logs", [(Path(path).stem, path) for path in logs]


def _limit(record: Record, key: str) -> str:
    """Return the limit of the correctness gate as text, empty where there is none."""
    if key not in record.tolerance:
        return ""
    limit = record.tolerance[key]
    shown = text.share(limit) if key.startswith("top") else f"{limit:.3g}" if limit < 0.1 else f"{limit:g}"
    return f"{'≥' if key in AT_LEAST else '≤'} {shown}"


def _in_limit(record: Record, key: str) -> bool:
    """True where a value is within its limit, or has none."""
    value, limit = getattr(record.correctness, key), record.tolerance.get(key)
    if limit is None:
        return True
    return value is not None and (value >= limit if key in AT_LEAST else value <= limit)
