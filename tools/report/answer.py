"""Is it faster, and is it still right? The answer for a model, and what makes a number doubtful."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Optional

import numpy as np

from tools.report.results import Record, Run
from tools.report.text import count, interval, ms, number, percent

# The target of tools/measure.py: the 95 % interval of the median within 1 %.
INTERVAL_REL = 0.01
# Own choices. Drift: the median moved by 3 % between the first and the last fifth of the samples, three times
# the interval's target. Load: more runnable processes than the run's own can be, which fill the processors
# at most. Little's law: latency x rate = requests in flight, which is 1 here, is off by 10 %.
DRIFT_REL = 0.03
DRIFT_MIN_SAMPLES = 50
LOAD_PER_CORE = 1.25
LITTLE_REL = 0.10


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the records of one model say.

    Attributes:
        verdict: `faster`, `tie` (within the intervals), `baseline_fastest`, `no_baseline`, `nothing`.
        fastest: the correct, real (not simulated) record with the smallest median.
        baseline: what `ratio` compares with, and why it was chosen (`baseline_why`).
        ratio: baseline's median over the fastest one's; `ratio_rel` is half the width of its 95 % interval.
        emulated: the records that were checked on an emulator, and not timed.
        others: how many records have which other status.
    """

    model: str
    verdict: str
    measured: int
    simulated: int
    wrong: tuple[Record, ...]
    emulated: tuple[Record, ...]
    others: Mapping[str, int]
    fastest: Optional[Record] = None
    baseline: Optional[Record] = None
    baseline_why: str = ""
    ratio: float = 1.0
    ratio_rel: Optional[float] = None

    def against_baseline(self, record: Record) -> Optional[float]:
        """How many times as fast as the baseline a record is, or None where that has no meaning."""
        if not (self.baseline and record.measured) or record.simulated:
            return None
        return self.baseline.latency_ms.p50 / record.latency_ms.p50


def answer(run: Run, model: str) -> Answer:
    """Compare a model's records."""
    records = [record for record in run.records if record.model == model]
    real = [record for record in records if record.measured and not record.simulated]
    common = {
        "model": model,
        "measured": len(real),
        "simulated": sum(record.simulated and record.measured for record in records),
        "wrong": tuple(record for record in records if record.status == "wrong_output"),
        "emulated": tuple(record for record in records if record.status == "emulated"),
        "others": Counter(r.status for r in records if r.status not in ("ok", "wrong_output", "emulated")),
    }
    if not real:
        return Answer(verdict="nothing", **common)
    fastest = min(real, key=lambda record: record.latency_ms.p50)
    baseline, why = _baseline(real)
    if baseline is None:
        return Answer(verdict="no_baseline", fastest=fastest, **common)
    ratio = baseline.latency_ms.p50 / fastest.latency_ms.p50
    intervals = (baseline.latency_ms.ci95_rel, fastest.latency_ms.ci95_rel)
    ratio_rel = None if None in intervals else math.hypot(*intervals)
    if fastest is baseline:
        verdict, ratio_rel = "baseline_fastest", None
    elif ratio_rel is not None and ratio * (1 - ratio_rel) <= 1:
        verdict = "tie"
    else:
        verdict = "faster"
    return Answer(
        verdict=verdict,
        fastest=fastest,
        baseline=baseline,
        baseline_why=why,
        ratio=ratio,
        ratio_rel=ratio_rel,
        **common,
    )


def _baseline(real: list[Record]) -> tuple[Optional[Record], str]:
    """Choose what the others are compared with: what a user has without any accelerator."""
    on_cpu = [record for record in real if record.device.lower().startswith("cpu")]
    on_cpu.sort(key=lambda record: record.precision != "fp32")  # stable: fp32 first, else the run's order
    for record in on_cpu:
        if record.backend == "tflite" and "litert" not in record.runtime.lower():
            return record, "plain TensorFlow Lite on the CPU"
    if on_cpu:
        return on_cpu[0], "the first CPU runtime of this run"
    return None, ""


def doubts(record: Record, run: Run) -> list[str]:
    """Return what a reader has to know before trusting the record's latency, a sentence each."""
    found = list(record.warnings)
    if not record.measured:
        return found
    latency = record.latency_ms
    if latency.ci95_rel is None:
        found.append(f"too few rounds for an interval of the median ({count(latency.n, 'sample')} in all).")
    elif latency.ci95_rel > INTERVAL_REL:
        wide = f"{interval(latency.ci95_rel)}, wider than ±{percent(INTERVAL_REL)}"
        ended = " when its time was up" if record.metadata.get("stopped") == "budget" else ""
        found.append(f"the median's 95 % interval was {wide}{ended}.")
    found += _load(record, run)
    found += _throughput(record)
    if record.raw.ms is None:
        found.append(record.raw.problem)
    else:
        found += _drift(record.raw.ms) + _fit(record.raw.ms, record)
    return found


def drift(samples: np.ndarray) -> Optional[float]:
    """Relative change of the median from the first to the last fifth; None with too few samples."""
    if len(samples) < DRIFT_MIN_SAMPLES:
        return None
    fifth = len(samples) // 5
    return float(np.median(samples[-fifth:]) / np.median(samples[:fifth]) - 1)


def _drift(samples: np.ndarray) -> list[str]:
    change = drift(samples)
    if change is None or abs(change) <= DRIFT_REL:
        return []
    way = "slower" if change > 0 else "faster"
    how = percent(abs(change))
    return [
        f"it drifted: the last fifth of the inferences was {how} {way} than the first (heat, clocks, load?)."
    ]


def _fit(samples: np.ndarray, record: Record) -> list[str]:
    """Check that the samples file is the one that the summary was computed from."""
    median, latency = float(np.median(samples)), record.latency_ms
    if len(samples) == latency.n and abs(median / latency.p50 - 1) < INTERVAL_REL:
        return []
    found, said = (f"{len(samples):,} samples, median {ms(median)}", f"{latency.n:,}, {ms(latency.p50)}")
    return [f"the samples file does not fit the record: {found}; the record says {said}."]


def _load(record: Record, run: Run) -> list[str]:
    load, cores = record.metadata.get("load_1m"), run.host.get("cores")
    if not _is_busy(load, cores):
        return []
    return [f"others used the host too: load {number(load, 2)} on {count(cores, 'core')}."]


def _throughput(record: Record) -> list[str]:
    rate = record.throughput_per_s
    in_flight = rate * record.latency_ms.mean / 1000 if rate else 1.0
    if abs(in_flight - 1) <= LITTLE_REL:
        return []
    found = f"{number(in_flight, 2)} requests in flight"
    return [f"latency times throughput gives {found} where one is claimed, so one of the two is wrong."]


def host_doubts(run: Run) -> list[str]:
    """Return what holds for every measurement of the run, a sentence each."""
    found = []
    governor, load, cores, virtual = (
        run.host.get(key) for key in ("governor", "load_1m", "cores", "virtual")
    )
    if virtual == "yes":
        found.append("The host is a virtual machine: its processors may be shared with others, unseen.")
    if governor and governor != "performance":
        found.append(f"The CPU governor is {governor}, so the clock may change while measuring.")
    if _is_busy(load, cores):
        found.append(f"Others used the host too: load {number(load, 2)} on {count(cores, 'core')}.")
    return found


def _is_busy(load: object, cores: object) -> bool:
    known = isinstance(load, (int, float)) and isinstance(cores, int)
    return known and load > LOAD_PER_CORE * cores
