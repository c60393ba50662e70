"""Energy per inference of traces whose energy is known, with all that spoils them: right, or refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.lab.power_traces import Made, Scene, make
from tools import energy, trace, trace_files, windows
from tools.energy import budget, integral
from tools.stage import InvalidRequest
from tools.trace import Channel, Meta, Trace
from tools.windows import Window, Windows

SEEDS = range(3)
FIVE = Scene(windows=5, load_s=10.0)
PATTERN = (0.4, 0.3, 0.8, 0.4, 0.3, 0.6, 0.5)
SIGNED = dataclasses.replace(FIVE, signatures=PATTERN, clock_offset_s=-5e4, clock_rate=1.00003)


def told(made: Made, *, found: bool = False) -> dict[str, Any]:
    """Return the document of a made trace: with its windows, or with the load to be found."""
    return energy.describe(made.trace, None if found else made.windows, made.inferences if found else 0, "")


def check(made: Made, document: dict[str, Any], *, widest: float) -> None:
    """The truth is in the interval, which is no wider than it has to be.

    Or beside it by half of its half width, which chance alone does once in 300 times and not in 20;
    tests/bench/energy_accuracy.py counts how often it is inside.
    """
    assert document["status"] == "ok", document["reason"]
    energies = document["energy_per_inference_mj"]
    for kind, true in (("net", made.net_mj), ("gross", made.gross_mj)):
        low, high = energies[f"{kind}_ci95"]
        assert abs(true - energies[kind]) <= 1.5 * (high - low) / 2, (kind, true, energies)
        assert (high - low) / 2 <= widest * energies[kind]


def refuses(document: dict[str, Any], reason: str) -> None:
    """There is no energy of any kind, but why not, and what to do."""
    assert document["status"] == "refused"
    assert reason in document["reason"]
    assert document["hint"]
    assert document["energy_per_inference_mj"] is None
    assert not any("mj" in key and document[key] for key in document)


# The load is found: 20 s of 1 W above 0.5 W of idle power if nothing else is said. No interval is wider than
# the share that stands here.
FOUND: dict[str, tuple[Scene, float]] = {
    "clean": (Scene(), 0.01),
    "one_second": (Scene(load_s=1.0), 0.04),
    "one_second_in_minutes": (Scene(load_s=1.0, before_s=90, after_s=90), 0.04),
    "drift": (Scene(before_s=60, after_s=60, drift_w_per_s=0.2 / 140), 0.02),
    "falling_drift": (Scene(drift_w_per_s=-0.004), 0.05),
    "idle_power_that_bends": (Scene(bend_w=0.05), 0.08),
    "burst_before": (Scene(bursts=((5, 2, 1.0),)), 0.02),
    "burst_just_before": (Scene(bursts=((17, 2, 1.0),)), 0.02),
    "weak_burst_after": (Scene(bursts=((50, 4, 0.3),)), 0.02),
    "strong_burst_after": (Scene(bursts=((50, 0.5, 5.0),)), 0.02),
    "short_tail": (Scene(after_s=1.0), 0.05),
    "wakes_up": (Scene(wake_w=0.5), 0.06),
    "mains": (Scene(ripple=0.9, ripple_hz=100.0), 0.02),
    "slow_ripple": (Scene(ripple=0.9, ripple_hz=7.3), 0.02),
    "ramps": (Scene(ramp_s=0.3), 0.03),
    "throttles": (Scene(throttle=0.3), 0.2),
    "weak": (Scene(load_w=0.1), 0.1),
    "few_drops": (Scene(drops=3), 0.02),
    "ten_readings_a_second": (Scene(rate_hz=10.0, noise_w=0.02), 0.05),
    "averages_a_second": (Scene(rate_hz=10.0, average_s=1.0), 0.1),
    "counter": (Scene(rate_hz=10.0, counter=True, noise_w=0.05), 0.03),
    "coarse_counter": (Scene(rate_hz=100.0, counter=True, step_j=0.05, noise_w=0.05), 0.03),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FOUND)
def test_the_load_that_is_found_has_its_energy(name: str, seed: int) -> None:
    scene, widest = FOUND[name]
    made = make(dataclasses.replace(scene, seed=seed))
    check(made, told(made, found=True), widest=widest)


NOT_FOUND: dict[str, tuple[Scene, str]] = {
    "two_alike": (Scene(bursts=((48, 8, 1.0),)), "could both be the inferences"),
    "no_idle_before": (Scene(before_s=0.0), "no idle power before"),
    "no_idle_after": (Scene(after_s=0.0), "no idle power after"),
    "hardly_any_after": (Scene(after_s=0.4), "idle power after"),
    "many_lost": (Scene(drops=300), "are lost in the windows"),
    "lost_somewhere": (Scene(drops=100, silent=True), "lost without saying where"),
    "no_load": (Scene(load_w=0.0, noise_w=0.01), ""),
    "all_load": (Scene(before_s=0.0, after_s=0.0), ""),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NOT_FOUND)
def test_no_energy_where_the_load_is_a_guess(name: str, seed: int) -> None:
    scene, reason = NOT_FOUND[name]
    refuses(told(make(dataclasses.replace(scene, seed=seed)), found=True), reason)


@pytest.mark.parametrize("burst", [(14, 6, 0.5), (15, 5, 1.6), (19, 1.5, 3.0), (40, 5, 0.7), (28, 4, 1.0)])
def test_another_level_that_touches_the_load_makes_it_a_guess(burst: tuple[float, float, float]) -> None:
    start, length, watts = burst
    made = make(Scene(bursts=((start, length, watts),)))
    refuses(told(made, found=True), "two levels of power")


def test_pauses_in_a_load_are_said() -> None:
    made = make(Scene(windows=20, load_s=0.7, rest_s=0.6))
    document = told(made, found=True)
    energies = document["energy_per_inference_mj"]
    low, high = energies["net_ci95"]
    assert low <= made.net_mj * 20 * 35 / made.inferences <= high
    assert any("of its time the load rests" in text for text in document["warnings"])


@pytest.mark.parametrize("at_s", [19.9, 20.0, 39.9, 40.0])
def test_samples_lost_where_the_load_starts_or_ends_are_refused(at_s: float) -> None:
    made = make(Scene())
    lost = (made.trace.time_s >= at_s) & (made.trace.time_s < at_s + 0.5)
    columns = {**made.trace.columns, "main_a": np.where(lost, np.nan, made.trace.columns["main_a"])}
    document = energy.describe(dataclasses.replace(made.trace, columns=columns), None, made.inferences, "")
    refuses(document, "are lost in the windows")


def test_a_device_that_is_busy_now_and_then_idles_so() -> None:
    made = make(Scene())
    swing = 0.1 * np.sin(np.pi * made.trace.time_s) / 4.0
    columns = {**made.trace.columns, "main_a": made.trace.columns["main_a"] + swing}
    document = energy.describe(dataclasses.replace(made.trace, columns=columns), None, made.inferences, "")
    check(made, document, widest=0.1)


def test_windows_with_short_rests_that_are_off_cost_certainty() -> None:
    made = make(dataclasses.replace(FIVE, load_s=2.0, rest_s=0.05, noise_w=0.05))
    moved = [
        windows.Window(one.start_s + 0.09, one.end_s + 0.09, one.inferences) for one in made.windows.windows
    ]
    document = energy.describe(made.trace, windows.Windows(moved), 0, "")
    check(made, document, widest=0.1)


def test_throttling_and_what_touches_the_load_is_said() -> None:
    for scene in (Scene(throttle=0.3), Scene(bursts=((19, 1, 1.5),))):
        made = make(scene)
        document = told(made, found=True)
        assert any("differ by" in text for text in document["warnings"])
        check(made, document, widest=0.5)


WINDOWS: dict[str, tuple[Scene, str, float]] = {
    "given": (FIVE, "trace", 0.02),
    "with_rests": (dataclasses.replace(FIVE, rest_s=2.0), "trace", 0.02),
    "after_a_warm_up": (dataclasses.replace(FIVE, warm_s=5.0), "trace", 0.02),
    "one": (Scene(), "trace", 0.02),
    "signature": (SIGNED, "signature", 0.02),
    "signature_and_rests": (dataclasses.replace(SIGNED, rest_s=2.0), "signature", 0.02),
    "signature_and_weak_load": (dataclasses.replace(SIGNED, load_w=0.1), "signature", 0.15),
    "clock": (dataclasses.replace(FIVE, clock_error_s=0.02, clock_offset_s=-900.0), "clock", 0.02),
    "bad_clock": (dataclasses.replace(FIVE, clock_error_s=0.1, rest_s=2.0), "clock", 0.1),
    "marker": (dataclasses.replace(FIVE, rest_s=1.0, marker=True, clock_offset_s=-77.0), "marker", 0.02),
    "averages": (dataclasses.replace(FIVE, rest_s=4.0, rate_hz=10.0, average_s=1.0), "trace", 0.06),
    "averages_without_rests": (dataclasses.replace(FIVE, rate_hz=10.0, average_s=1.0), "trace", 0.06),
    "counter": (dataclasses.replace(FIVE, rate_hz=10.0, counter=True, noise_w=0.05), "trace", 0.03),
    "throttles": (dataclasses.replace(FIVE, throttle=0.1), "trace", 0.02),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_placed_and_have_their_energy(name: str, seed: int) -> None:
    scene, by, widest = WINDOWS[name]
    made = make(dataclasses.replace(scene, seed=seed))
    document = told(made)
    assert document["alignment"]["by"] == by
    check(made, document, widest=widest)
    assert document["window"]["count"] == scene.windows
    assert len(document["windows"]) >= 5


def test_a_signature_tells_offset_and_rate_of_the_clock() -> None:
    document = told(make(SIGNED))
    assert document["alignment"]["rate"] == pytest.approx(1.00003, abs=1e-5)
    assert document["alignment"]["error_s"] < 0.002
    assert document["window"]["start_s"] == pytest.approx(20 + sum(PATTERN) + 2, abs=0.002)


def test_what_is_told_to_be_busy_is_no_idle_power() -> None:
    """A network is loaded for most of the time beside windows and signatures, which one level cannot tell."""
    signed_s = sum(PATTERN) + 2
    end_s = 40 + 2 * signed_s + 50
    loading = [(6.0, 26.0, 0.4), (end_s + 8, 26.0, 0.4)]
    made = make(dataclasses.replace(SIGNED, before_s=40, after_s=40, bursts=loading))
    assert told(made)["energy_per_inference_mj"]["net"] < 0.7 * made.net_mj
    first_s, last_s = made.windows.windows[0].start_s, made.windows.windows[-1].end_s
    busy = [(first_s - signed_s - 34.1, first_s - signed_s - 7.9)]
    busy += [(last_s + signed_s + 7.9, last_s + signed_s + 34.1)]
    saying = dataclasses.replace(made, windows=dataclasses.replace(made.windows, busy=busy))
    check(saying, told(saying), widest=0.05)


def stretched(made: Made, factor: float, *, rate_hz: float | None = None) -> Trace:
    meta = dataclasses.replace(made.trace.meta, rate_hz=rate_hz)
    return dataclasses.replace(made.trace, time_s=made.trace.time_s * factor, meta=meta)


def moved(made: Made, by_s: float) -> Windows:
    return Windows([Window(one.start_s + by_s, one.end_s + by_s, 500) for one in made.windows.windows])


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_time_base_is_refused(tmp_path: Path, factor: float) -> None:
    made = make(FIVE)
    say = energy.describe
    refuses(say(stretched(made, factor, rate_hz=5000.0), None, 2500, ""), "its meter takes 5000")
    refuses(say(stretched(made, factor), moved(made, 0.0), 0, ""), "window")
    signed = make(SIGNED)
    refuses(say(stretched(signed, factor), signed.windows, 0, ""), "signature")
    trace_files.write_csv(tmp_path / "a.csv", stretched(made, factor))
    refuses(say(trace_files.read(tmp_path / "a.csv"), None, 2500, ""), "wrong by a factor of two")


def test_a_time_base_that_changes_is_refused() -> None:
    made = make(Scene())
    steps = np.diff(made.trace.time_s)
    steps[len(steps) // 2 :] *= 2
    meta = dataclasses.replace(made.trace.meta, rate_hz=None)
    changed = Trace(np.concatenate([[0.0], np.cumsum(steps)]), made.trace.columns, meta)
    refuses(energy.describe(changed, None, 100, ""), "time between samples changes")


@pytest.mark.parametrize("by_s", [-8.0, -1.5, 1.5, 8.0])
def test_windows_that_are_elsewhere_are_refused(by_s: float) -> None:
    for scene in (FIVE, dataclasses.replace(FIVE, rest_s=3.0)):
        made = make(scene)
        refuses(energy.describe(made.trace, moved(made, by_s), 0, ""), "window")


def test_windows_that_are_a_little_off_cost_certainty() -> None:
    made = make(dataclasses.replace(FIVE, rest_s=3.0, noise_w=0.05))
    document = energy.describe(made.trace, moved(made, 0.1), 0, "")
    check(made, document, widest=0.05)
    assert document["budget_mj"]["alignment"]["net"] > 5 * told(made)["budget_mj"]["alignment"]["net"]


def test_windows_outside_the_trace_and_of_other_clocks_are_refused() -> None:
    made = make(FIVE)
    refuses(energy.describe(made.trace, moved(made, 60.0), 0, ""), "outside the trace")
    elsewhere = dataclasses.replace(moved(made, 0.0), host="elsewhere")
    refuses(energy.describe(made.trace, elsewhere, 0, ""), "on the clock of elsewhere")
    unsigned = dataclasses.replace(made.windows, host="bench", signatures=[[(1.0, 1.4), (1.8, 2.6)]])
    refuses(energy.describe(made.trace, unsigned, 0, ""), "signature")


def test_few_windows_that_change_inside_are_refused() -> None:
    refuses(told(make(Scene(throttle=0.4))), "fewer than 5")


def test_windows_that_are_too_short_for_the_meter_are_refused() -> None:
    made = make(dataclasses.replace(FIVE, load_s=3.0, rate_hz=10.0, average_s=1.0))
    refuses(told(made), "too short for a meter")


def test_the_integral_is_exact_for_straight_lines_and_leaves_gaps_out() -> None:
    time_s = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    watts = np.array([0.0, 2.0, np.nan, 6.0, 8.0])
    power = integral.of_channel(Trace(time_s, {"x_w": watts}, Meta("replay")), "x")
    energy_j, lost_s = power.until(np.array([0.5, 1.0, 2.5, 3.0, 3.5]))
    assert energy_j == pytest.approx([0.25, 1.0, 1.0, 1.0, 1 + 3.25])
    assert lost_s == pytest.approx([0.0, 0.0, 1.5, 2.0, 2.0])


def test_negative_currents_count_and_voltage_is_that_of_the_moment() -> None:
    time_s = np.linspace(0, 1, 11)
    columns = {"main_a": np.full(11, -0.5), "main_v": np.linspace(3, 5, 11)}
    power = integral.of_channel(Trace(time_s, columns, Meta("replay")), "main")
    assert power.until(np.array([1.0]))[0] == pytest.approx([-2.0])


def test_the_meters_error_is_a_part_of_the_interval_if_it_is_known() -> None:
    made = make(FIVE)
    assert any("meter's own error" in text for text in told(made)["warnings"])
    known = {"main": Channel(gain_error=0.01, offset_error_w=0.002, source="its data sheet")}
    meta = dataclasses.replace(made.trace.meta, channels=known)
    document = energy.describe(dataclasses.replace(made.trace, meta=meta), made.windows, 0, "")
    part, energies = document["budget_mj"]["meter"], document["energy_per_inference_mj"]
    assert part["net"] == pytest.approx(0.01 * energies["net"])  # an offset is in the idle power as well
    assert part["gross"] == pytest.approx(math.hypot(0.01 * energies["gross"], 2.0 / 50), rel=0.01)
    assert not any("meter's own error" in text for text in document["warnings"])


def test_the_interval_is_that_of_students_t() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}  # any statistics book
    for freedom, quantile in table.items():
        assert budget.student(freedom) == pytest.approx(quantile, rel=0.002)
    assert budget.student(1.5) > budget.student(2.0) > budget.student(2.5) > budget.student(3.5)
    assert budget.interval(10.0, [(3.0, 1e6), (4.0, 1e6)]) == pytest.approx([10 - 9.8, 10 + 9.8], rel=0.001)


def test_which_channel_is_taken() -> None:
    time_s, column = np.arange(3.0), np.ones(3)

    def chosen(names: list[str], wanted: str = "") -> str:
        return integral.choose(Trace(time_s, dict.fromkeys(names, column), Meta("replay")), wanted)

    assert chosen(["usb_a", "usb_v", "main_a", "main_v"]) == "main"
    assert chosen(["GPU_w", "VDD_IN_w"]) == "VDD_IN"
    assert chosen(["odd_j"]) == "odd"
    assert chosen(["core_j", "package-0_j"], "core") == "core"
    for names, wanted in ((["a_w", "b_w"], ""), (["main_a"], ""), (["main_w"], "aux"), (["x_a", "y_w"], "x")):
        with pytest.raises(InvalidRequest) as raised:
            chosen(names, wanted)
        assert raised.value.hint


def test_numbers_of_inferences_that_make_no_sense() -> None:
    made = make(FIVE)
    for count, given in ((0, None), (-3, None), (7, made.windows)):
        with pytest.raises(InvalidRequest, match=r"inferences"):
            energy.describe(made.trace, given, count, "")


def test_a_counter_that_falls_is_an_error() -> None:
    made = make(Scene(rate_hz=10.0, counter=True, noise_w=0.05))
    made.trace.columns["main_j"][100:] -= 20.0
    with pytest.raises(InvalidRequest, match="falls at"):
        told(made, found=True)


def test_the_document_is_whole_and_what_draws_it_is_small() -> None:
    document = told(make(dataclasses.replace(SIGNED, drops=2)))
    drawn = document["plot"]
    assert len(drawn["time_s"]) == len(drawn["low_w"]) == len(drawn["high_w"]) <= 1000
    assert max(drawn["high_w"]) > 1.5 > 0.5 > min(drawn["low_w"])
    assert len(drawn["windows"]) == 5
    assert [len(one) for one in drawn["signatures"]] == [4, 4]
    assert drawn["idle"][0][1] < drawn["windows"][0][0]
    assert document["simulated"]
    assert document["dropped"] == 10
    assert set(document["budget_mj"]) == {
        "meter", "sampling", "window_edges", "alignment", "baseline_drift", "spread",
    }  # fmt: skip
    gross = document["energy_per_inference_mj"]["gross"]
    assert document["mean_v_times_mean_i_mj"] == pytest.approx(gross, rel=0.01)
    json.dumps(document, allow_nan=False)
    refused = told(make(Scene(after_s=0.0)), found=True)
    assert refused["plot"]["windows"] == []
    json.dumps(refused, allow_nan=False)


def test_a_voltage_that_gives_way_makes_mean_times_mean_wrong() -> None:
    made = make(dataclasses.replace(FIVE, noise_w=0.01))
    columns = dict(made.trace.columns)
    heavy = (columns["main_a"] > 0.2) & (np.arange(len(columns["main_a"])) % 500 < 250)
    columns["main_a"] = np.where(heavy, 2.0, columns["main_a"])
    columns["main_v"] = np.where(heavy, 3.0, 4.0)
    document = energy.describe(dataclasses.replace(made.trace, columns=columns), made.windows, 0, "")
    gross = document["energy_per_inference_mj"]["gross"]
    assert gross == pytest.approx((2.0 * 3.0 + 1.5) / 2 * 1e3 / 50, rel=0.01)
    assert document["mean_v_times_mean_i_mj"] == pytest.approx((2.0 + 0.375) / 2 * 3.5 * 1e3 / 50, rel=0.01)
    assert any("the voltage follows the load" in text for text in document["warnings"])


def test_a_table_of_another_rate_than_a_monsoons_is_warned_of(tmp_path: Path) -> None:
    made = make(Scene(rate_hz=1000.0))
    trace_files.write_csv(tmp_path / "a.csv", made.trace)
    document = energy.describe(trace_files.read(tmp_path / "a.csv"), None, made.inferences, "")
    check(made, document, widest=0.03)
    assert any("does not say its meter's rate" in text for text in document["warnings"])


@pytest.mark.tool
def test_the_stage_writes_what_the_report_needs(run_stage: Any, tmp_path: Path) -> None:
    made = make(dataclasses.replace(FIVE, load_s=5.0, before_s=5.0, after_s=5.0))
    trace.write(tmp_path / "t.parquet", made.trace)
    made.windows.write(tmp_path / "w.json")
    files = {"trace": tmp_path / "t.parquet", "windows": tmp_path / "w.json"}
    folder, result = run_stage("energy", "per-inference", inputs=files)
    document = json.loads((folder / "m.energy.json").read_text())
    assert document["status"] == "ok"
    assert result.metrics["energy_per_inference_net_mj"] == document["energy_per_inference_mj"]["net"]
    assert result.metadata["simulated"]
    assert "plot" not in result.metadata
    trace.write(tmp_path / "cut.parquet", make(Scene(after_s=0.0, before_s=5.0, load_s=5.0)).trace)
    _, result = run_stage(
        "energy", "per-inference", inputs={"trace": tmp_path / "cut.parquet"}, params={"inferences": 9}
    )
    assert result.metrics == {}
    assert result.metadata["status"] == "refused"
    assert result.metadata["reason"]
    assert windows.SCHEMA == 1
