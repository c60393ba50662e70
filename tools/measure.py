"""The timing loops of every benchmark: warm-up, rounds, adaptive stop, raw samples. Standard library only.

The scenario of `measure` is LoadGen's single stream: one inference after the other, each timed by itself.
That of `saturate` is another: several in flight, for as many inferences per second as the device gives.

When is it enough? The 95 % interval of the median comes from order statistics (`median_ranks`), which assume
nothing about the distribution. They do assume independent samples, and samples of one process are not:
frequency steps and interrupts last for many inferences. So samples are grouped into rounds, as the method of
batch means does (Law, Simulation Modeling and Analysis, ch. 9), and the interval is taken twice: over all
samples, and over the medians of the rounds. The wider one counts, and is the one reported.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import gc
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

WIDTH = 0.01  # enough: half the 95 % interval of the median is at most 1 % of the median
WARMUPS, WARMUP_S = 5, 0.5  # both are wanted, but warm-up ends when it took WARMUP_SHARE of the budget
WARMUP_SHARE = 0.2
ROUND_S, ROUNDS = 0.2, 40  # a round lasts 0.2 s, or a fortieth of a budget below 8 s
REWARM_FROM = 10  # inferences in a round, from which an untimed one before it costs little
MIN_SAMPLES = 3  # of a network so slow that an inference takes the whole budget
LITTLE = 0.1  # part of the requests that may be missing in flight; the loop's own gaps are far below
EXACT_UP_TO = 100  # samples, up to which the interval's ranks are exact


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        rounds: the samples of each round in ns, in the order in which they were taken.
        wall_ns: sum of the rounds' wall times, loop overhead included.
        loop_overhead_ns: the sample of an empty callable (median); it is reported, not subtracted. None where
            it is not taken.
        warmups: inferences before the first round.
        stopped: `interval` (known well enough) or `budget` (time was up).
        budget_s: the time that the measurement was given.
    """

    rounds: Sequence[Sequence[int]]
    wall_ns: int
    loop_overhead_ns: Optional[float]
    warmups: int
    stopped: str
    budget_s: float

    @classmethod
    def told(cls, rounds: Sequence[Sequence[int]], warmups: int, budget_s: float) -> Measurement:
        """Return what a program told that timed each inference by itself until `budget_s` was over."""
        wall_ns = sum(map(sum, rounds))
        return cls(rounds, wall_ns, 0.0, warmups, "budget", budget_s)

    @functools.cached_property
    def samples(self) -> array.array[int]:
        """All samples in ns, in the order in which they were taken."""
        return array.array("q", (sample for samples in self.rounds for sample in samples))

    def metrics(self) -> dict[str, Optional[float]]:
        """Return the summary under the names that every backend uses; no interval below 6 rounds."""
        ordered = sorted(self.samples)
        quantiles = {f"latency_p{p}_ms": percentile(ordered, p) / 1e6 for p in (50, 90, 99)}
        halves = (half_interval(self.samples), half_interval(self._round_medians()))
        known = [half for half in halves if half is not None]
        return {
            **quantiles,
            "latency_mean_ms": sum(ordered) / len(ordered) / 1e6,
            "latency_min_ms": ordered[0] / 1e6,
            "latency_max_ms": ordered[-1] / 1e6,
            "latency_n": len(ordered),
            "latency_ci95_rel": max(known) if len(known) == 2 else None,
            "throughput_per_s": len(ordered) / self.wall_ns * 1e9,
            "loop_overhead_ns": self.loop_overhead_ns,
        }

    def metadata(self) -> dict[str, Any]:
        """Return how it was measured; `drift_rel` > 0: the second half of the samples was slower."""
        half = len(self.samples) // 2
        return {
            "scenario": "single-stream",
            "stopped": self.stopped,
            "budget_s": self.budget_s,
            "warmups": self.warmups,
            "rounds": len(self.rounds),
            "round_medians_ms": [round(ns / 1e6, 6) for ns in self._round_medians()],
            "drift_rel": median(self.samples[half:]) / median(self.samples[:half] or self.samples) - 1,
        }

    def _round_medians(self) -> list[float]:
        return [median(samples) for samples in self.rounds]


@dataclasses.dataclass(frozen=True)
class Saturation(Measurement):
    """What was measured with several `requests` in flight: a sample is from a request's start to its end."""

    requests: int

    @property
    def in_flight(self) -> float:
        """Mean number of requests in flight by Little's law (Operations Research 9, 1961): rate x latency."""
        return sum(self.samples) / self.wall_ns

    def metadata(self) -> dict[str, Any]:
        """Return how it was measured, with a warning where fewer requests were in flight than asked for."""
        found = {
            **super().metadata(),
            "scenario": "throughput",
            "requests": self.requests,
            "requests_in_flight": self.in_flight,
        }
        if abs(self.in_flight / self.requests - 1) > LITTLE:
            text = f"By Little's law {self.in_flight:.2f} requests were in flight, not {self.requests}"
            found["warnings"] = [f"{text}: the host, and not the device, may have set the pace."]
        return found


def measure(
    infer: Callable[[], object],
    *,
    budget_s: float,
    width: float = WIDTH,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Measurement:
    """Time `infer` until its median is known to `width`, or until `budget_s`, warm-up included, is over.

    Args:
        infer: one inference on an input that is set already; it raises when it fails.
        budget_s: seconds; at least `MIN_SAMPLES` samples are taken, however long that lasts.
        width: half the 95 % interval over the median that is narrow enough.
        clock: monotonic, in ns.
    """
    start = clock()
    deadline = start + budget_s * 1e9
    warmups = _warm_up(infer, clock, start + WARMUP_S * 1e9, start + WARMUP_SHARE * budget_s * 1e9)
    inference_ns = max((clock() - start) / warmups, 1)
    per_round = max(int(min(ROUND_S, budget_s / ROUNDS) * 1e9 / inference_ns), 1)
    loop_overhead_ns = median(_round(lambda: None, 1000, clock)[0])

    rounds: list[array.array[int]] = []
    medians: list[float] = []
    wall_ns, stopped = 0, ""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while not stopped:
            if per_round >= REWARM_FROM:
                infer()  # what the lines below did took the network's data out of the cache
            samples, round_wall_ns = _round(infer, per_round, clock)
            rounds.append(samples)
            medians.append(median(samples))
            wall_ns += round_wall_ns
            if _narrow(medians, width) and _narrow([ns for samples in rounds for ns in samples], width):
                stopped = "interval"
            elif clock() >= deadline and len(rounds) * per_round >= MIN_SAMPLES:
                stopped = "budget"
    finally:
        if collecting:
            gc.enable()
    return Measurement(rounds, wall_ns, loop_overhead_ns, warmups, stopped, budget_s)


def saturate(
    start: Callable[[int], object],
    wait: Callable[[], int],
    *,
    requests: int,
    budget_s: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Saturation:
    """Keep `requests` inferences in flight until `budget_s`, warm-up included, is over.

    No look at the samples in between: the requests in flight would end unseen.

    Args:
        start: starts request 0 ... `requests` - 1 on an input that is set already.
        wait: returns the next request that has ended, each once; it raises when one failed.
        requests: in flight at a time, at least 1.
        budget_s: seconds; at least `MIN_SAMPLES` samples of each request are taken.
        clock: monotonic, in ns.
    """
    begin = clock()
    started = [0] * requests
    samples = array.array("q")

    def run_until(deadline: float, count: int) -> int:
        """Restart each request that ends; return when the last one ended."""
        now = clock()
        while now < deadline or len(samples) < count:
            index = wait()
            now = clock()
            samples.append(now - started[index])
            started[index] = clock()
            start(index)
        return now

    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for index in range(requests):
            started[index] = clock()
            start(index)
        warm = run_until(begin + WARMUP_SHARE * budget_s * 1e9, WARMUPS + requests)
        warmups = len(samples)
        del samples[:]
        end = run_until(begin + budget_s * 1e9, MIN_SAMPLES * requests)
        for _ in range(requests):
            wait()
    finally:
        if collecting:
            gc.enable()
    per_round = max(len(samples) // ROUNDS, 1)
    rounds = [samples[at : at + per_round] for at in range(0, len(samples), per_round)]
    return Saturation(rounds, end - warm, None, warmups, "budget", budget_s, requests)


def _warm_up(infer: Callable[[], object], clock: Callable[[], int], enough: float, limit: float) -> int:
    """Infer until caches, clock and thread pool are as they stay; return how many inferences that took."""
    count = 0
    while True:
        infer()
        count += 1
        now = clock()
        if now >= limit or (now >= enough and count >= WARMUPS):
            return count


def _round(infer: Callable[[], object], count: int, clock: Callable[[], int]) -> tuple[array.array[int], int]:
    """Return `count` samples, and the wall time of all, in ns."""
    samples = array.array("q", bytes(8 * count))
    begin = clock()
    for index in range(count):
        before = clock()
        infer()
        samples[index] = clock() - before
    return samples, clock() - begin


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Percentile of ascending values, interpolated linearly (type 7 of Hyndman and Fan; NumPy's default)."""
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median(values: Sequence[float]) -> float:
    """Median of values in any order."""
    return percentile(sorted(values), 50)


def median_ranks(count: int) -> Optional[tuple[int, int]]:
    """Return the 1-based ranks whose samples bound the median with at least 95 % confidence; None below 6.

    The number of samples below the median is binomial (count, 1/2) whatever the distribution is: Le Boudec,
    Performance Evaluation of Computer and Communication Systems (2010), theorem 2.1; above `EXACT_UP_TO` its
    normal approximation, floor(0.5 n - 0.98 sqrt n) and ceil(0.5 n + 1 + 0.98 sqrt n).
    """
    if count > EXACT_UP_TO:
        spread = 0.98 * math.sqrt(count)
        return math.floor(count / 2 - spread), math.ceil(count / 2 + 1 + spread)
    lower, tail = 0, 1
    while tail <= 0.025 * 2**count:
        lower += 1
        tail += math.comb(count, lower)
    return (lower, count + 1 - lower) if lower else None


def half_interval(values: Sequence[float]) -> Optional[float]:
    """Half the 95 % interval of the median over the median; None with too few values."""
    ranks = median_ranks(len(values))
    if ranks is None:
        return None
    ordered = sorted(values)
    return (ordered[ranks[1] - 1] - ordered[ranks[0] - 1]) / 2 / max(percentile(ordered, 50), 1)


def _narrow(values: Sequence[float], width: float) -> bool:
    half = half_interval(values)
    return half is not None and half <= width


def write_samples(measurement: Measurement, path: Path) -> None:
    """Write all samples as little-endian int64 nanoseconds, in the order in which they were taken."""
    samples = array.array("q", measurement.samples)
    if sys.byteorder == "big":
        samples.byteswap()
    path.write_bytes(samples.tobytes())


def read_samples(path: Path) -> array.array[int]:
    """Read what `write_samples` wrote."""
    samples = array.array("q", path.read_bytes())
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, and its container's quota (cgroup version 2)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = (_read(cgroup / "cpu.max") or "max 1").split()
    return cpus if quota == "max" else max(min(cpus, int(quota) // int(period)), 1)


def peak_rss_mb(status: Path = Path("/proc/self/status")) -> float:
    """Largest resident set of this process so far, in MB (10^6 bytes).

    Linux's getrusage also counts what the process was before exec, so a small tool that a big runner starts
    would report the runner; VmHWM of /proc/self/status does not.
    """
    import resource  # not on Windows, where the host plans but no tool runs

    for line in (_read(status) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes there, KiB elsewhere


def conditions(sys_root: Path = Path("/sys"), cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """What may change a latency: load, governor, clock, temperatures; None where the host does not tell."""
    cpus = sys_root / "devices/system/cpu"
    clocks = [int(_read(path) or 0) / 1000 for path in cpus.glob("cpu*/cpufreq/scaling_cur_freq")]  # kHz
    if not clocks:
        lines = (_read(cpuinfo) or "").splitlines()
        clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    zones = sorted((sys_root / "class/thermal").glob("thermal_zone*"))
    readings = {f"{zone.name} {_read(zone / 'type')}": _read(zone / "temp") for zone in zones}
    return {
        "load_1m": round(os.getloadavg()[0], 2),
        "governor": _read(cpus / "cpu0/cpufreq/scaling_governor"),
        "clock_mhz": round(sum(clocks) / len(clocks), 1) if clocks else None,
        "temperatures_c": {name: int(text) / 1000 for name, text in readings.items() if text},
    }


def _read(path: Path) -> Optional[str]:
    """The text of a kernel file; None where there is none, or it may not be read (a zone that is off)."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
