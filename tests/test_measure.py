"""The timing loop: when it stops, what it keeps, and the statistics behind it, mostly in synthetic time."""

from __future__ import annotations

import ast
import gc
import math
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import numpy as np
import pytest

from host import ROOT
from tools import measure
from tools.measure import Measurement

MS = 1_000_000


class Machine:
    """A clock that only an inference moves on, by the next of `durations` (ns)."""

    def __init__(self, durations: Iterator[int]) -> None:
        self.now = 0
        self.inferences = 0
        self._durations = durations

    def infer(self) -> None:
        self.now += next(self._durations)
        self.inferences += 1

    def clock(self) -> int:
        return self.now


def run(durations: Iterator[int], budget_s: float = 10) -> tuple[Measurement, Machine]:
    machine = Machine(durations)
    return measure.measure(machine.infer, budget_s=budget_s, clock=machine.clock), machine


def noisy(median_ns: float, sigma: float) -> Iterator[int]:
    random_ = random.Random(0)
    while True:
        yield round(median_ns * math.exp(random_.gauss(0, sigma)))


@pytest.mark.parametrize(
    ("samples", "ranks"),
    # Le Boudec (2010), appendix A, table of confidence intervals of the median at 95 %
    [(5, None), (6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (50, (18, 33)), (70, (27, 44)), (100, (40, 61))],
)
def test_ranks_of_the_median_are_those_of_the_table(samples: int, ranks: tuple[int, int] | None) -> None:
    assert measure.median_ranks(samples) == ranks


@pytest.mark.parametrize("samples", [6, 7, 17, 64, 99, 100, 101, 250, 1000])
def test_ranks_cover_the_median_with_95_percent_and_no_wider_than_needed(samples: int) -> None:
    ranks = measure.median_ranks(samples)
    assert ranks is not None
    low, high = ranks
    assert low + high == samples + 1

    def coverage(low: int, high: int) -> float:
        return sum(math.comb(samples, below) for below in range(low, high)) / 2**samples

    assert coverage(low, high) >= 0.95
    assert coverage(low + 2, high - 2) < 0.95


@pytest.mark.parametrize("values", [[3], [3, 5], [1, 2, 4, 8], list(range(101)), [7] * 9])
@pytest.mark.parametrize("percent", [0, 50, 90, 99, 100])
def test_percentiles_are_numpys(values: list[int], percent: int) -> None:
    assert measure.percentile(values, percent) == pytest.approx(np.percentile(values, percent))


def test_steady_network_stops_as_soon_as_its_median_is_known() -> None:
    measurement, machine = run(noisy(2 * MS, 0.01))
    assert measurement.stopped == "interval"
    assert len(measurement.rounds) == 6  # fewer have no interval
    assert machine.now < 3e9
    metrics = measurement.metrics()
    assert metrics["latency_p50_ms"] == pytest.approx(2, rel=0.005)
    assert 0 < metrics["latency_ci95_rel"] <= measure.WIDTH
    assert metrics["throughput_per_s"] == pytest.approx(500, rel=0.01)


def test_noisy_network_is_measured_until_the_budget_ends() -> None:
    measurement, machine = run(noisy(100 * MS, 0.5))
    assert measurement.stopped == "budget"
    assert 10e9 <= machine.now < 10.5e9
    assert measurement.metrics()["latency_ci95_rel"] > measure.WIDTH


def test_rounds_that_disagree_are_not_called_known() -> None:
    """Every round has its own level: 5000 samples pin the pooled median down, the rounds do not."""
    levels = cycle([1.0, 1.1, 0.9, 1.05, 0.95, 1.2])
    durations = (round(2 * MS * level) for level in levels for _ in range(101))
    measurement, _ = run(durations, budget_s=4)
    pooled = measure.half_interval(measurement.samples)
    assert pooled is not None
    assert measurement.metrics()["latency_ci95_rel"] > pooled
    assert measurement.stopped == "budget"


def test_drift_is_recorded() -> None:
    measurement, _ = run((MS + step * 500 for step in count()), budget_s=5)
    assert measurement.metadata()["drift_rel"] > 0.1
    medians = measurement.metadata()["round_medians_ms"]
    assert medians == sorted(medians)
    assert measurement.stopped == "budget"


def test_network_slower_than_the_budget_still_gets_samples() -> None:
    measurement, machine = run(iter([25_000 * MS] * 10), budget_s=10)
    assert (measurement.warmups, len(measurement.samples), machine.inferences) == (1, measure.MIN_SAMPLES, 4)
    assert measurement.stopped == "budget"
    metrics = measurement.metrics()
    assert metrics["latency_ci95_rel"] is None  # three samples have no 95 % interval
    assert metrics["latency_p99_ms"] == 25_000


def test_warm_up_takes_five_inferences_and_half_a_second() -> None:
    assert run(noisy(MS, 0.01))[0].warmups == pytest.approx(500, rel=0.05)
    assert run(noisy(300 * MS, 0.01))[0].warmups == 5


def test_first_slow_inferences_are_not_samples() -> None:
    durations = iter([900 * MS, 50 * MS, 40 * MS, *[2 * MS] * 5000])
    assert run(durations)[0].metrics()["latency_max_ms"] == 2


def test_real_clock_loop_overhead_and_throughput() -> None:
    measurement = measure.measure(lambda: sum(range(3000)), budget_s=0.3)
    metrics = measurement.metrics()
    assert 0 < metrics["loop_overhead_ns"] < 50_000
    assert metrics["throughput_per_s"] * metrics["latency_mean_ms"] / 1000 == pytest.approx(1, abs=0.1)
    assert metrics["latency_min_ms"] <= metrics["latency_p50_ms"] <= metrics["latency_p90_ms"]
    assert metrics["latency_p90_ms"] <= metrics["latency_p99_ms"] <= metrics["latency_max_ms"]


def test_garbage_collector_is_off_in_the_rounds_only() -> None:
    seen: list[bool] = []
    machine = Machine(iter([10 * MS] * 9999))

    def infer() -> None:
        machine.infer()
        seen.append(gc.isenabled())

    measurement = measure.measure(infer, budget_s=1, clock=machine.clock)
    assert seen[: measurement.warmups] == [True] * measurement.warmups
    assert not any(seen[measurement.warmups :])
    assert gc.isenabled()


def test_failing_inference_ends_the_measurement() -> None:
    calls = iter(range(700))
    machine = Machine(iter([MS] * 9999))

    def infer() -> None:
        machine.infer()
        next(calls)

    with pytest.raises(StopIteration):
        measure.measure(infer, budget_s=10, clock=machine.clock)
    assert gc.isenabled()


def test_samples_file_is_little_endian_and_comes_back(tmp_path: Path) -> None:
    measurement, _ = run(noisy(20 * MS, 0.3), budget_s=1)
    measure.write_samples(measurement, tmp_path / "x.latency_ns.i64")
    data = (tmp_path / "x.latency_ns.i64").read_bytes()
    assert list(struct.unpack(f"<{len(data) // 8}q", data)) == list(measurement.samples)
    assert measure.read_samples(tmp_path / "x.latency_ns.i64") == measurement.samples


def test_peak_memory_is_in_megabytes() -> None:
    code = "from tools.measure import peak_rss_mb as p; a = p(); x = b'1' * 200_000_000; print(p() - a)"
    grown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(grown.stdout) == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize(
    ("quota", "expected"), [(None, 64), ("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1)]
)
def test_usable_cpus_obey_affinity_and_the_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, expected: int
) -> None:
    monkeypatch.setattr(measure.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert measure.usable_cpus(tmp_path) == expected


def test_conditions_of_a_host_that_tells(tmp_path: Path) -> None:
    zone = tmp_path / "class/thermal/thermal_zone0"
    cpu = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    for folder in (zone, cpu):
        folder.mkdir(parents=True)
    (zone / "type").write_text("x86_pkg_temp\n")
    (zone / "temp").write_text("48500\n")
    (cpu / "scaling_governor").write_text("powersave\n")
    (tmp_path / "cpuinfo").write_text("cpu MHz\t\t: 1000.0\ncpu MHz\t\t: 3000.0\n")
    found = measure.conditions(tmp_path, tmp_path / "cpuinfo")
    assert found.pop("load_1m") >= 0
    (cpu / "scaling_cur_freq").write_text("1400000\n")  # on ARM /proc/cpuinfo has no clock
    assert measure.conditions(tmp_path, tmp_path / "cpuinfo")["clock_mhz"] == 1400
    assert found == {
        "governor": "powersave",
        "clock_mhz": 2000.0,
        "temperatures_c": {"thermal_zone0 x86_pkg_temp": 48.5},
    }


def test_conditions_of_a_host_that_does_not_tell(tmp_path: Path) -> None:
    found = measure.conditions(tmp_path, tmp_path / "cpuinfo")
    assert (found["governor"], found["clock_mhz"], found["temperatures_c"]) == (None, None, {})


def test_standard_library_only() -> None:
    names = "{name.split('.')[0] for name in sys.modules}"
    code = f"import sys; import tools.measure; print({names} - sys.stdlib_module_names)"
    found = subprocess.run(
        [sys.executable, "-Sc", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(ast.literal_eval(found.stdout)) <= {"tools", "__main__"}


class Device:
    """Serves requests in order, each for `service_ns`; each look at the clock takes `host_ns`."""

    def __init__(self, service_ns: int, host_ns: int = 0) -> None:
        self.now = 0
        self._service_ns, self._host_ns = service_ns, host_ns
        self._queue: list[tuple[int, int]] = []  # the end of each request in flight, and its number

    def start(self, index: int) -> None:
        begin = max([self.now, *(end for end, _ in self._queue)])
        self._queue.append((begin + self._service_ns, index))

    def wait(self) -> int:
        end, index = self._queue.pop(0)
        self.now = max(self.now, end)
        return index

    def clock(self) -> int:
        self.now += self._host_ns
        return self.now


def test_with_requests_in_flight_a_sample_holds_the_wait_for_those_before_it() -> None:
    device = Device(service_ns=10 * MS)
    taken = measure.saturate(device.start, device.wait, requests=4, budget_s=10, clock=device.clock)
    metrics, metadata = taken.metrics(), taken.metadata()
    assert metrics["latency_p50_ms"] == 40
    assert metrics["throughput_per_s"] == pytest.approx(100)
    assert metrics["latency_n"] == pytest.approx(800, abs=2)  # a fifth of the budget is warm-up
    assert (metadata["scenario"], metadata["requests"]) == ("throughput", 4)
    assert metadata["requests_in_flight"] == pytest.approx(4, rel=0.01)
    assert "warnings" not in metadata


def test_a_host_that_is_too_slow_to_keep_requests_in_flight_is_told_of() -> None:
    device = Device(service_ns=1 * MS, host_ns=10 * MS)
    taken = measure.saturate(device.start, device.wait, requests=2, budget_s=10, clock=device.clock)
    [text] = taken.metadata()["warnings"]
    assert "were in flight, not 2" in text


def test_a_request_that_fails_ends_the_measurement() -> None:
    def fail() -> int:
        message = "NC_ERROR"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="NC_ERROR"):
        measure.saturate(lambda index: None, fail, requests=2, budget_s=1)
    assert gc.isenabled()
