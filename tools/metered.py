"""Windows of inferences for a meter: what a benchmark does once it has timed, if a meter is there.

The host and the benchmark speak by files in the stage's folder, as host and meter do (tools/recording.py).
With a meter there is `ASKED` before the stage begins. The benchmark, when it has timed and checked, says
`{"meter": "start"}` and waits for `SAMPLING`, which comes when the meter samples, or says that it does not.
So nothing samples while the latency is taken. It says "stop" when it has made, for the file `WINDOWS`:

    rest, signature, rest, COUNT windows back to back, rest, signature, rest

and rests until `STOPPED` says that the recording has ended: what it does next must not be in the trace.

Where that cannot be it says "none" and why; the latency then stands, without an energy.

The signature is the Barker code of length 7 (R. H. Barker, Group Synchronizing of Binary Digital Sequences,
1953), whose autocorrelation has no side lobe above 1/7: chips of inferences, and chips of rest.

A program that runs inferences by itself, and tells afterwards when they ran, makes no signature. Of one run
of it the windows are cut; the rests are before it starts and after it has ended. That takes a meter on the
clock of the same machine.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from tools import trace
from tools.stage import Result, StageError, emit, progress
from tools.windows import Window, Windows

ASKED = Path("meter.json")
SAMPLING = Path("sampling.json")
STOPPED = Path("stopped.json")
WINDOWS = Path("windows.json")
BARKER_7 = (True, True, True, False, False, True, False)
COUNT = 6  # windows: one more than the five that an energy takes
CHIP_S, REST_S, WINDOW_S, EDGE_S = 0.25, 5.0, 2.0, 1.0  # at least
LONGEST_WINDOW_S = 60.0  # of a meter that is asked once in a second; its uncertainty is the larger
DIFFERS = 0.05  # between windows and timed runs, from which on it is said

# Infers, one after the other or several in flight, until a time of time.monotonic(); returns how many.
Load = Callable[[float], int]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long each part lasts, in s; `edge_s` is the rest before the first signature and after the last."""

    chip_s: float
    rest_s: float
    window_s: float
    edge_s: float

    @classmethod
    def of(cls, inference_s: float, resolution_s: float) -> Schedule:
        """Return what suits a network, and a meter that tells nothing apart below `resolution_s`."""
        return cls(
            chip_s=max(CHIP_S, 2 * inference_s, 3 * resolution_s),
            rest_s=max(REST_S, 10 * resolution_s),
            window_s=max(WINDOW_S, 5 * inference_s, min(100 * resolution_s, LONGEST_WINDOW_S)),
            edge_s=max(EDGE_S, 3 * resolution_s),
        )

    @property
    def total_s(self) -> float:
        """The whole of it."""
        signature_s = len(BARKER_7) * self.chip_s
        return 2 * (self.edge_s + signature_s + self.rest_s) + COUNT * self.window_s


def make(load: Load, inference_s: float, *, simulated: bool) -> Dict[str, Any]:
    """Make the windows if a meter is there; return what to record of them, {} without a meter.

    Args:
        load: what the windows consist of.
        inference_s: how long an inference took when it was timed; of several in flight, the time from one
            to the next.
        simulated: a stand-in took the device's place.
    """
    return by(lambda schedule: _play(load, schedule, simulated=simulated), inference_s)


def is_asked() -> bool:
    """Tell whether a meter is there and waits; a stage that times more than once makes windows once."""
    return ASKED.exists() and not SAMPLING.exists()


def by(play: Callable[[Schedule], Windows], inference_s: float) -> Dict[str, Any]:
    """As `make`, of windows that `play` makes, wherever the network runs."""
    schedule = _agreed(inference_s)
    if schedule is None:
        return {}
    made = play(schedule)
    emit({"meter": "stop"})
    _wait_for(STOPPED)
    made.write(WINDOWS)
    return _compared(made.windows, inference_s)


def none(why: StageError) -> None:
    """Tell the host that there are no windows, before a meter was started for them or after."""
    emit({"meter": "none", "error": Result.of_error(why, {}).error})


def _play(load: Load, schedule: Schedule, *, simulated: bool) -> Windows:
    """Rest and infer as the schedule says."""
    begin_s = time.monotonic()

    def at(part: str) -> None:
        done = (time.monotonic() - begin_s) / schedule.total_s
        progress(0.5 + 0.5 * min(done, 1.0), f"{part}, of {schedule.total_s:.0f} s with the meter")

    at("rest")
    time.sleep(schedule.edge_s)
    at("signature")
    before = _signature(load, schedule.chip_s)
    at("rest")
    time.sleep(schedule.rest_s)
    windows: List[Window] = []
    for number in range(1, COUNT + 1):
        at(f"window {number} of {COUNT}")
        windows.append(_window(load, schedule.window_s))
    at("rest")
    time.sleep(schedule.rest_s)
    at("signature")
    after = _signature(load, schedule.chip_s)
    time.sleep(schedule.edge_s)
    return Windows(windows, trace.this_host(), [before, after], simulated)


@dataclasses.dataclass(frozen=True)
class Told:
    """When a program's inferences ran, in s of time.monotonic(): the start of each, the end of the last.

    `error_s` is the standard uncertainty of all of them together.
    """

    starts_s: List[float]
    end_s: float
    error_s: float

    def windows(self) -> List[Window]:
        """Return COUNT windows back to back, all inferences in them."""
        number = len(self.starts_s)
        firsts = [each * number // COUNT for each in range(COUNT + 1)]
        bounds = [*self.starts_s, self.end_s]
        return [
            Window(bounds[first], bounds[after], after - first) for first, after in zip(firsts, firsts[1:])
        ]


def make_told(run: Callable[[float], Told], inference_s: float, *, simulated: bool) -> Dict[str, Any]:
    """Let a program make the windows if a meter is there; return as `make`.

    Args:
        run: starts the program for so many seconds of inferences, waits for its end, and says when they ran.
        inference_s: as `make`.
        simulated: as `make`.
    """
    return by(lambda schedule: _play_told(run, schedule, simulated=simulated), inference_s)


def _play_told(run: Callable[[float], Told], schedule: Schedule, *, simulated: bool) -> Windows:
    rest_s, loaded_s = schedule.rest_s + schedule.edge_s, COUNT * schedule.window_s
    progress(0.5, f"rest, then {loaded_s:.0f} s of inferences, then rest, with the meter")
    time.sleep(rest_s)
    begin_s = time.monotonic()
    told = run(loaded_s)
    end_s = time.monotonic()
    progress(0.9, "rest")
    time.sleep(rest_s)
    windows = told.windows()
    busy = [(begin_s, windows[0].start_s), (windows[-1].end_s, end_s)]
    return Windows(windows, trace.this_host(), (), simulated, busy, told.error_s)


def one_by_one(infer: Callable[[], object]) -> Load:
    """Return the load of one request in flight."""

    def load(until_s: float) -> int:
        for count in itertools.count(1):
            infer()
            if time.monotonic() >= until_s:
                return count
        raise AssertionError

    return load


def in_flight(start: Callable[[int], object], wait: Callable[[], int], requests: int) -> Load:
    """Return the load of `requests` in flight; it ends when the last of them did."""

    def load(until_s: float) -> int:
        for request in range(requests):
            start(request)
        count, running = 0, requests
        while running:
            request = wait()
            count += 1
            if time.monotonic() < until_s:
                start(request)
            else:
                running -= 1
        return count

    return load


def _agreed(inference_s: float) -> Optional[Schedule]:
    """Have the meter started; return the schedule that suits both, None if none is there or it failed."""
    if not is_asked():
        return None
    said = _sampling()
    return Schedule.of(inference_s, said["resolution_s"]) if "resolution_s" in said else None


def _sampling() -> Mapping[str, Any]:
    """Return what the host says of the meter when it samples."""
    emit({"meter": "start"})
    _wait_for(SAMPLING)
    said: Mapping[str, Any] = json.loads(SAMPLING.read_text())
    return said


def _wait_for(file: Path) -> None:
    """Wait for a file of the host's; its time limit for the stage ends the wait."""
    while not file.exists():
        time.sleep(0.02)


def _window(load: Load, length_s: float) -> Window:
    begin_s = time.monotonic()
    count = load(begin_s + length_s)
    return Window(begin_s, time.monotonic(), count)


def _signature(load: Load, chip_s: float) -> List[Tuple[float, float]]:
    """Make the pattern; return when inferences really ran, which end as they end and not with a chip."""
    begin_s = time.monotonic()
    ran: List[Tuple[float, float]] = []
    at = 0
    for on, chips in itertools.groupby(BARKER_7):
        at += len(list(chips))
        until_s = begin_s + at * chip_s
        if on:
            start_s = time.monotonic()
            load(until_s)
            ran.append((start_s, time.monotonic()))
        else:
            time.sleep(max(0.0, until_s - time.monotonic()))
    return ran


def _compared(windows: Sequence[Window], inference_s: float) -> Dict[str, Any]:
    """Compare an inference of the windows with one of the timed runs."""
    took_s = sum(window.end_s - window.start_s for window in windows)
    window_inference_s = took_s / sum(window.inferences for window in windows)
    slower = window_inference_s / inference_s - 1
    found: Dict[str, Any] = {"window_inference_ms": window_inference_s * 1e3, "window_slower_rel": slower}
    if abs(slower) > DIFFERS:
        text = f"In the meter's windows an inference took {window_inference_s * 1e3:.3g} ms"
        way = f"{abs(slower):.0%} {'more' if slower > 0 else 'less'} than in the timed runs"
        found["warnings"] = [f"{text}, {way} (heat, clocks, other load?)."]
    return found
