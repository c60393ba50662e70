"""Power traces whose energy per inference is known by construction: what the energy tool is judged by.

A trace is idle power (with a drift), a load above it for each inference window, and what spoils traces in
practice: noise, ripple, ramps, other work, lost samples, a meter that averages or counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.trace import MARKER, Channel, Clock, Meta, Trace
from tools.windows import Window, Windows

VOLTS = 4.0


@dataclasses.dataclass(frozen=True)
class Scene:
    """How a trace is made; powers in W, times in s. All load is above the idle power.

    Attributes:
        windows: number of them, of `load_s` each, `rest_s` apart; a trace without windows has one load.
        throttle: share of its power that the load loses, linearly, from its start to its end.
        ripple: relative amplitude of the load's ripple of `ripple_hz`.
        bursts: other work: start, length, power.
        drops: number of gaps of `drop_samples` each; `silent` ones leave no trace in the times.
        average_s: the meter's readings are means over the time before; `counter`: it counts joules.
        correlated_w: noise that stays for about 0.2 s; `heavy`: noise has the tails of Laplace's.
        bend_w: by which the idle power is higher in the middle of the trace.
        warm_s: load before the first window that belongs to no window.
        signatures: lengths of load and rest, in turn, of the pattern before and after the windows.
        tail_w: power that is left right after a load and decays with `tail_s`; it belongs to no inference.
        step_w: by which the idle power changes at `step_at` of the trace.
        wake_w: power of wake-ups of `wake_s` each, at random, `wake_every_s` apart, under load as well.
    """

    seed: int = 0
    rate_hz: float = 5000.0
    idle_w: float = 0.5
    load_w: float = 1.0
    before_s: float = 20.0
    load_s: float = 20.0
    after_s: float = 20.0
    windows: int = 1
    rest_s: float = 0.0
    warm_s: float = 0.0
    noise_w: float = 0.3
    correlated_w: float = 0.0
    drift_w_per_s: float = 0.0
    bend_w: float = 0.0
    ramp_s: float = 0.0
    throttle: float = 0.0
    ripple: float = 0.0
    ripple_hz: float = 100.0
    bursts: Sequence[tuple[float, float, float]] = ()
    drops: int = 0
    drop_samples: int = 5
    silent: bool = False
    average_s: float = 0.0
    counter: bool = False
    step_j: float = 0.0
    per_second: float = 50.0
    signatures: Sequence[float] = ()
    sign_rest_s: float = 2.0
    clock_offset_s: float = 0.0
    clock_rate: float = 1.0
    clock_error_s: float | None = None
    marker: bool = False
    tail_w: float = 0.0
    tail_s: float = 1.0
    step_w: float = 0.0
    step_at: float = 0.5
    wake_w: float = 0.0
    wake_every_s: float = 2.0
    wake_s: float = 0.1
    heavy: bool = False


@dataclasses.dataclass(frozen=True)
class Made:
    """A trace and what is true of it, energies in mJ per inference."""

    trace: Trace
    windows: Windows
    inferences: int
    gross_mj: float
    net_mj: float


def make(scene: Scene) -> Made:
    """Return the trace of a scene."""
    rng = np.random.default_rng(scene.seed)
    starts, signatures, total_s = _plan(scene)
    fine_hz = max(scene.rate_hz, 1000.0) if scene.average_s or scene.counter else scene.rate_hz
    time_s = np.arange(int(total_s * fine_hz)) / fine_hz + rng.uniform(0, 1) / fine_hz
    ends = [start + scene.load_s for start in starts]
    load = _load(scene, time_s, starts, ends)
    extra = [(starts[0] - scene.warm_s, starts[0])] if scene.warm_s else []
    for on, off in (*extra, *(each for one in signatures for each in one)):
        load += scene.load_w * ((time_s >= on) & (time_s < off))
    idle = scene.idle_w + scene.drift_w_per_s * time_s
    idle = idle + scene.bend_w * np.sin(np.pi * time_s / total_s)
    idle = idle + scene.step_w * (time_s >= scene.step_at * total_s)
    clean = idle + load + _tails(scene, time_s, ends)
    for start, length, watts in scene.bursts:
        clean = clean + watts * ((time_s >= start) & (time_s < start + length))
    inferences = [max(round(scene.load_s * scene.per_second), 1)] * len(starts)
    net_j = sum(_net_j(scene, start, end) for start, end in zip(starts, ends, strict=True))
    usual_w = scene.wake_w * scene.wake_s / scene.wake_every_s
    idle_j = sum(
        float(np.interp(np.linspace(start, end, 2001), time_s, idle).mean() + usual_w) * (end - start)
        for start, end in zip(starts, ends, strict=True)
    )
    noise = rng.laplace(0, 2**-0.5, len(time_s)) if scene.heavy else rng.standard_normal(len(time_s))
    noisy = clean + scene.noise_w * noise + _slow(scene, rng, time_s) + _wakes(scene, rng, time_s)
    trace = _measured(scene, rng, time_s, noisy, starts, ends)
    host = "bench" if scene.signatures or scene.clock_error_s is not None or scene.marker else None

    def there(at_s: float) -> float:
        return (at_s - scene.clock_offset_s) / scene.clock_rate if host else at_s

    windows = Windows(
        [Window(there(a), there(b), n) for a, b, n in zip(starts, ends, inferences, strict=True)],
        host=host,
        signatures=[[(there(on), there(off)) for on, off in one] for one in signatures],
    )
    count = sum(inferences)
    return Made(trace, windows, count, (net_j + idle_j) * 1e3 / count, net_j * 1e3 / count)


def _plan(scene: Scene) -> tuple[list[float], list[list[tuple[float, float]]], float]:
    """Return the windows' starts, the signatures before and after, and the trace's length."""
    at_s = scene.before_s
    signatures: list[list[tuple[float, float]]] = []

    def sign(at_s: float) -> float:
        pattern, on = [], True
        for length in scene.signatures:
            if on:
                pattern.append((at_s, at_s + length))
            at_s, on = at_s + length, not on
        signatures.append(pattern)
        return at_s

    if scene.signatures:
        at_s = sign(at_s) + scene.sign_rest_s
    at_s += scene.warm_s
    starts = [at_s + index * (scene.load_s + scene.rest_s) for index in range(scene.windows)]
    at_s = starts[-1] + scene.load_s
    if scene.signatures:
        at_s = sign(at_s + scene.sign_rest_s)
    return starts, signatures, at_s + scene.after_s


def _shape(scene: Scene, at: np.ndarray) -> np.ndarray:
    """Return the load's power `at` seconds after its start."""
    shape = 1 - scene.throttle * at / scene.load_s
    shape = shape * (1 + scene.ripple * np.sin(2 * np.pi * scene.ripple_hz * at))
    if scene.ramp_s:
        shape = shape * np.clip(at / scene.ramp_s, 0, 1) * np.clip((scene.load_s - at) / scene.ramp_s, 0, 1)
    return scene.load_w * shape


def _load(scene: Scene, time_s: np.ndarray, starts: Sequence[float], ends: Sequence[float]) -> np.ndarray:
    load = np.zeros(len(time_s))
    for start, end in zip(starts, ends, strict=True):
        inside = (time_s >= start) & (time_s < end)
        load[inside] += _shape(scene, time_s[inside] - start)
    return load


def _net_j(scene: Scene, start: float, end: float) -> float:
    at = (np.arange(200_000) + 0.5) / 200_000 * (end - start)
    return float(_shape(scene, at).mean() * (end - start))


def _tails(scene: Scene, time_s: np.ndarray, ends: Sequence[float]) -> np.ndarray:
    after = time_s - ends[-1]
    return scene.tail_w * np.exp(-np.maximum(after, 0) / scene.tail_s) * (after >= 0)


def _wakes(scene: Scene, rng: np.random.Generator, time_s: np.ndarray) -> np.ndarray:
    power = np.zeros(len(time_s))
    if scene.wake_w:
        count = rng.poisson((time_s[-1] - time_s[0]) / scene.wake_every_s)
        for at_s in rng.uniform(time_s[0], time_s[-1], count):
            low, high = np.searchsorted(time_s, (at_s, at_s + scene.wake_s))
            power[low:high] += scene.wake_w
    return power


def _slow(scene: Scene, rng: np.random.Generator, time_s: np.ndarray) -> np.ndarray:
    """Return noise of a correlation time of 0.2 s."""
    if not scene.correlated_w:
        return np.zeros(len(time_s))
    knots = np.arange(time_s[0], time_s[-1] + 0.2, 0.2)
    return np.interp(time_s, knots, scene.correlated_w * rng.standard_normal(len(knots)))


def _measured(
    scene: Scene,
    rng: np.random.Generator,
    time_s: np.ndarray,
    power: np.ndarray,
    starts: Sequence[float],
    ends: Sequence[float],
) -> Trace:
    """Return what the meter makes of the power."""
    channel = Channel(average_s=scene.average_s, step_j=scene.step_j)
    fine_s = time_s[1] - time_s[0]
    every = max(round(1 / (scene.rate_hz * fine_s)), 1)
    summed = np.concatenate([[0.0], np.cumsum(power) * fine_s])
    if scene.counter:
        count = np.maximum.accumulate(summed)[::every] + 3.0
        if scene.step_j:
            count = np.floor(count / scene.step_j) * scene.step_j
        columns = {"main_j": count}
        time_s = np.concatenate([time_s, time_s[-1:] + fine_s])[::every]
    elif scene.average_s:
        wide = max(round(scene.average_s / fine_s), 1)
        columns = {"main_w": ((summed[wide:] - summed[:-wide]) / (wide * fine_s))[::every]}
        time_s = (np.concatenate([time_s, time_s[-1:] + fine_s])[wide:] - fine_s / 2)[::every]
    else:
        volts = VOLTS + 0.002 * rng.standard_normal(len(power))
        columns = {"main_a": power / volts, "main_v": volts}
    if scene.marker:
        level = np.zeros(len(time_s), dtype=np.uint8)
        for start, end in zip(starts, ends, strict=True):
            level[(time_s >= start) & (time_s < end)] = 2
        columns[MARKER] = level | 1
    dropped = scene.drops * scene.drop_samples
    if scene.drops:
        kept = np.ones(len(time_s), dtype=bool)
        for at in rng.integers(10, len(time_s) - 10 - scene.drop_samples, scene.drops):
            kept[at : at + scene.drop_samples] = False
        dropped = int((~kept).sum())
        columns = {name: column[kept] for name, column in columns.items()}
        time_s = time_s[: kept.sum()] if scene.silent else time_s[kept]
    clock = None
    if scene.clock_error_s is not None:
        off_s = float(rng.normal(0, scene.clock_error_s))
        clock = Clock("bench", -scene.clock_offset_s + off_s, scene.clock_error_s, 0.0)
    meta = Meta(
        meter="replay",
        rate_hz=scene.rate_hz,
        dropped=dropped,
        undated=dropped if scene.silent else 0,
        channels={"main": channel},
        simulated=True,
        clock=clock,
    )
    return Trace(time_s, columns, meta)


def any_scene(seed: int) -> Scene:
    """Return a scene of the bench: what spoils traces, in any combination."""
    rng = np.random.default_rng([seed, 1])
    pick = rng.choice
    load_w = float(np.exp(rng.uniform(np.log(0.2), np.log(4.0))))
    rate_hz = float(pick([5000.0, 5000.0, 5000.0, 1000.0, 200.0, 10.0]))
    slow = rate_hz <= 10
    several = bool(rng.random() < 0.5)
    load_s = (
        float(rng.uniform(4, 10)) if several else float(pick([1.0, 3.0, 10.0, 20.0])) * (5 if slow else 1)
    )
    scene = Scene(
        seed=seed,
        rate_hz=rate_hz,
        idle_w=float(rng.uniform(0.1, 1.5)),
        load_w=load_w,
        before_s=float(pick([3.0, 10.0, 20.0])),
        load_s=load_s * (3 if slow and several else 1),
        after_s=float(pick([0.0, 1.0, 3.0, 10.0, 20.0, 20.0, 20.0])),
        windows=5 if several else 1,
        rest_s=float(pick([0.0, 0.0, 3.0])),
        noise_w=float(pick([0.02, 0.1, 0.3])) * load_w,
        correlated_w=float(pick([0.0, 0.0, 0.03])) * load_w,
        ramp_s=float(pick([0.0, 0.0, 0.02, 0.2])),
        throttle=float(pick([0.0, 0.0, 0.0, 0.05, 0.3])),
        ripple=float(pick([0.0, 0.0, 0.5])),
        ripple_hz=float(pick([50.0, 100.0, 7.3])),
    )
    total_s = _plan(scene)[2]
    scene = dataclasses.replace(
        scene,
        drift_w_per_s=float(pick([0.0, 0.0, 0.1, -0.2])) * load_w / total_s,
        bursts=_bursts(rng, scene, total_s),
        **_meter(rng, scene),
    )
    if several:
        return dataclasses.replace(scene, **_clock(rng, scene))
    return scene


def _bursts(rng: np.random.Generator, scene: Scene, total_s: float) -> list[tuple[float, float, float]]:
    return [
        (
            float(rng.uniform(0, total_s)),
            float(rng.uniform(0.05, 0.3)) * min(scene.load_s, 10.0),
            scene.load_w * float(rng.choice([0.3, 1.0, 3.0])),
        )
        for _ in range(int(rng.choice([0, 0, 1, 2])))
        if scene.windows == 1
    ]


def _meter(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    kind = rng.choice(["samples", "samples", "samples", "average", "counter"])
    if scene.rate_hz <= 200 and kind == "average":
        return {"average_s": float(rng.choice([1, 5])) / scene.rate_hz}
    if scene.rate_hz <= 200 and kind == "counter":
        return {"counter": True, "step_j": float(rng.choice([0.0, 0.01])) * scene.load_w}
    if scene.rate_hz < 200:
        return {"ripple": 0.0}  # what is read ten times a second without an average has no ripple to tell
    drops = int(rng.choice([0, 0, 0, 1, 3, 100]))
    return {"drops": drops, "drop_samples": int(rng.integers(1, 20)), "silent": bool(rng.random() < 0.2)}


def _clock(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    offset = {"clock_offset_s": float(rng.uniform(-1e5, -10))}
    kind = rng.choice(["trace", "signature", "clock", "marker"])
    if kind == "signature" and scene.rate_hz > 10:
        pattern = (0.4, 0.3, 0.8, 0.4, 0.3, 0.6, 0.5)
        return {**offset, "signatures": pattern, "clock_rate": 1 + float(rng.normal(0, 3e-5))}
    if kind == "clock":
        return {**offset, "clock_error_s": float(rng.choice([0.001, 0.02]))}
    if kind == "marker" and scene.rest_s and not (scene.average_s or scene.counter):
        return {**offset, "marker": True, "clock_rate": 1 + float(rng.normal(0, 3e-5))}
    return {}


def other_scene(seed: int) -> Scene:
    """Return a scene of the second set: an idle power that bends, steps and wakes up, tails, heavy noise."""
    rng = np.random.default_rng([seed, 2])
    pick = rng.choice
    load_w = float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
    several = bool(rng.random() < 0.4)
    return Scene(
        seed=seed + 1_000_000,
        rate_hz=float(pick([5000.0, 1000.0, 500.0])),
        idle_w=float(rng.uniform(0.2, 1.0)),
        load_w=load_w,
        before_s=float(rng.uniform(4, 30)),
        load_s=float(rng.uniform(5, 12)) if several else float(rng.uniform(2, 40)),
        after_s=float(rng.uniform(1, 30)),
        windows=int(rng.integers(5, 9)) if several else 1,
        rest_s=float(pick([0.0, 1.5])),
        warm_s=float(pick([0.0, 4.0])) if several else 0.0,
        noise_w=float(rng.uniform(0.02, 0.3)) * load_w,
        heavy=bool(rng.random() < 0.5),
        correlated_w=float(rng.uniform(0, 0.05)) * load_w,
        bend_w=float(pick([0.0, 0.03, -0.05])) * load_w,
        step_w=float(pick([0.0, 0.0, 0.05])) * load_w,
        step_at=float(rng.uniform(0.05, 0.95)),
        tail_w=float(pick([0.0, 0.1, 0.3])) * load_w,
        tail_s=float(rng.uniform(0.1, 2.0)),
        wake_w=float(pick([0.0, 0.0, 0.5])) * load_w,
        wake_every_s=float(rng.uniform(0.5, 3.0)),
        ripple=float(rng.uniform(0, 0.8)),
        ripple_hz=float(pick([23.0, 60.0, 120.0, 3.1])),
        ramp_s=float(rng.uniform(0, 0.3)),
    )
