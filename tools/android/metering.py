"""Windows of inferences on a phone for a meter, made there by one script that runs detached.

Each window is a process of benchmark_model. It is held (SIGSTOP) in its warm-up, when the network is loaded,
so that it rests; then it is let go, and says on a line of its own when its timed runs begin and when they
have ended (`BenchmarkModel::Run` of benchmark_model.cc; each line leaves it at once, logging.h), where it is
held again. The script writes down the phone's time of each line, so start and end of the process, loading and
warm-up are in no window, and the number of inferences is the program's own count. A signature is such a
process too, let go and held in the pattern of tools/metered.py, and ended before its warm-up is over: it is
the same load, on the same unit.

Times are those of the phone's /proc/uptime, in steps of 10 ms, read by the shell itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

from tools import metered
from tools.android.program import INFERENCE_LIMIT_S, SETUP_LIMIT_S, Call, Program, checked
from tools.android.units import Unit
from tools.metered import Schedule
from tools.phone import State
from tools.stage import StageError, Unsupported, WrongOutput, progress
from tools.windows import Window, Windows

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs

WARM_S = 0.3  # of warming up before it is held
LONG_S = 100_000  # more than any process of it lasts
FAR_S = 1000.0  # before and after the script: what is there is adb's
BEGINS, ENDS = "Running benchmark for ", "count="  # lines of the program, for its warm-up and for its runs
LATE_S = 0.05  # by which the shell may read a line too late
LEAST = 0.5  # of a window is inferences by the program's own times; the rest is what it does between them
SAID = re.compile(r"^(\d+\.\d+) (.*)$", flags=re.MULTILINE)
SCRIPT = """
say() { read -r up _ </proc/uptime; echo "$up $1"; }
on() { say '@@ on'; kill -CONT $pid; sleep $1; say '@@ off'; kill -STOP $pid; }
window() { say '@@ go'; kill -CONT $pid; }
signature() { PATTERN; kill -9 $pid; code=0; }
rest() { kill -STOP $pid; say '@@ rest'; sleep $1; }
held() { # window or signature, seconds of rest before it and after it, the program
    say "@@ $1"
    { sh -c "echo \\$\\$; exec $4" 2>&1; echo "@@ code $?"; } | {
        read -r pid
        begun=0 ended=0 code=
        while read -r line; do
            say "$line"
            case $line in
                '@@ code '*) code=${code:-${line##* }} ;;
                *'BEGINS'*)
                    begun=$((begun + 1))
                    [ $begun = 1 ] && { sleep WARM; rest $2; $1; }
                    ;;
                *'ENDS'*)
                    ended=$((ended + 1))
                    [ $ended = 2 ] && { rest $3; window; }
                    ;;
            esac
        done
        [ "$code" = 0 ] || exit 1
    } || exit 0
}
"""
HINT = "The measurement's log has all that was said on the phone."
UNPLUG = "Unplug it (adb over Wi-Fi: adb tcpip 5555, then adb connect HOST:5555), or cut its cable's power."


def make(
    program: Program, inputs: Inputs, inference_s: float, before: State, check: Callable[[np.ndarray], None]
) -> dict[str, Any]:
    """Make windows if a meter is there; return what to record of them, {} without.

    What goes wrong with them costs the energy only, and is told to the host.

    Args:
        program: on the phone, which is awake.
        inputs: the first of them is what the windows run on.
        inference_s: how long an inference took when it was timed.
        before: the phone's state, just asked for.
        check: takes the last window's output [1, ...].

    Raises:
        WrongOutput: by `check`.
    """
    if not metered.is_asked():
        return {}
    said: Dict[str, Any] = {}

    def play(schedule: Schedule) -> Windows:
        made, last, lost = _play(program, inputs, schedule)
        check(last)
        after = program.phone.state()
        _refuse_powered(after)
        said.update(connection_lost_in_windows=lost, usb_power=[before.plugged, after.plugged])
        return dataclasses.replace(made, simulated=bool(before.simulated))

    try:
        _refuse_powered(before)
        found = metered.by(play, inference_s)
    except WrongOutput:
        raise
    except StageError as error:
        metered.none(error)
        return {}
    if found and None in said["usb_power"]:
        text = "The phone does not say whether a cable powers it: what comes by it is not in the energy."
        said["warnings"] = [*found.pop("warnings", ()), text]
    return {**found, **said}


def _refuse_powered(state: State) -> None:
    """Raise if a charger feeds the phone: no meter at its supply or its battery sees that."""
    if state.plugged not in ("no", None):
        message = f"the phone is powered by {state.plugged}, past the meter"
        raise Unsupported(message, hint=UNPLUG)


def _play(program: Program, inputs: Inputs, schedule: Schedule) -> Tuple[Windows, np.ndarray, int]:
    """Run the script; return the windows, the last one's output, and how often the connection was lost."""
    progress(0.7, f"windows for the meter, {schedule.total_s:.0f} s and the time of loading")
    (files,) = program.send(inputs, [0], "reference")
    with program.phone.folder() as folder:
        words = script(
            lambda options, name: program.command(files, options, name and f"{folder}/{name}"), schedule
        )
        processes = metered.COUNT + 2
        limit_s = 2 * schedule.total_s + processes * (SETUP_LIMIT_S + 2 * INFERENCE_LIMIT_S)
        done = program.phone.run_detached(words, limit_s)
        print(done.stdout, done.stderr)  # into the log
        made = dataclasses.replace(heard(done.stdout, program.unit), host=f"phone {program.phone.serial}")
        return made, program.outputs(folder)["window"], done.lost


def script(call: Call, schedule: Schedule) -> str:
    """Return the shell script of rests, signatures and windows; `call` gives the words of the program."""
    rest_s, edge_s = schedule.rest_s, schedule.edge_s
    parts = []
    for on, chips in itertools.groupby(metered.BARKER_7):
        parts.append(f"{'on' if on else 'sleep'} {len(list(chips)) * schedule.chip_s:g}")
    befores = [rest_s, *[edge_s] * (metered.COUNT - 1)]
    steps = [("window", before_s, after_s) for before_s, after_s in zip(befores, befores[::-1])]
    lines = []
    for kind, before_s, after_s in [("signature", edge_s, 0.0), *steps, ("signature", edge_s, 0.0)]:
        # a window's warm-up is over when it is let go, and not before it is held
        warm_s = LONG_S if kind == "signature" else WARM_S + before_s / 2
        options = ["--warmup_runs=1", f"--warmup_min_secs={warm_s:g}", "--num_runs=3"]
        options += [f"--min_secs={schedule.window_s:g}", f"--max_secs={LONG_S}"]
        command = call(options, "window" if kind == "window" else "")
        lines.append(f"held {kind} {before_s:g} {after_s:g} {shlex.quote(command)}")
    values = {"PATTERN": "; ".join(parts), "BEGINS": BEGINS, "ENDS": ENDS, "WARM": f"{WARM_S:g}"}
    functions = re.sub("|".join(values), lambda match: values[match[0]], SCRIPT)
    return "\n".join([functions, *lines, "say '@@ rest'", f"sleep {edge_s:g}", "say '@@ end'", ""])


@dataclasses.dataclass(frozen=True)
class _Process:
    """One process: `window` or `signature`, and what was said with the phone's times in s."""

    kind: str
    said: Sequence[Tuple[float, str]]

    def at(self, what: str) -> List[float]:
        """Return the times of the lines that hold `what`."""
        return [at_s for at_s, line in self.said if what in line]

    def busy(self) -> List[Tuple[float, float]]:
        """Return when it started, loaded and warmed up, and when it ended."""
        loaded = [(self.said[0][0], self.at("@@ rest")[0])]
        if self.kind == "signature":
            return loaded
        warming_s, ending_s = self.at("@@ go")
        return [*loaded, (warming_s, self.at(BEGINS)[1]), (ending_s, self.at("@@ code ")[0])]

    def checked(self, unit: Unit) -> Any:
        """Return what the program said, as tools/benchmark_model.py has it; raises as `program.checked`."""
        text = "\n".join(line for _, line in self.said if not line.startswith("@@ "))
        codes = [int(line.split()[-1]) for _, line in self.said if line.startswith("@@ code ")]
        return checked(f"{text}\n", codes[0] if codes else 1, unit)


def heard(printed: str, unit: Unit) -> Windows:
    """Return the windows that a script made, on the phone's clock.

    Raises:
        Unsupported: the unit did not run the network.
        StageError: the program failed, or what was said does not fit together.
    """
    said = [(float(at_s), line) for at_s, line in SAID.findall(printed)]
    starts = [at for at, (_, line) in enumerate(said) if line in ("@@ signature", "@@ window")]
    processes = [_Process(said[at][1][3:], said[at:end]) for at, end in zip(starts, [*starts[1:], len(said)])]
    windows = [_window(process, unit) for process in processes if process.kind == "window"]
    signatures = [_signature(process, unit) for process in processes if process.kind == "signature"]
    if (len(windows), len(signatures)) != (metered.COUNT, 2):
        message = f"the phone made {len(windows)} windows and {len(signatures)} signatures"
        raise StageError(message, hint=HINT)
    busy = [span for process in processes for span in process.busy()]
    busy[0] = busy[0][0] - FAR_S, busy[0][1]
    busy.append((said[-1][0], said[-1][0] + FAR_S))
    return Windows(windows, signatures=signatures, busy=busy)


def _window(process: _Process, unit: Unit) -> Window:
    runs = process.checked(unit)["inference"]
    begins, ends = process.at(BEGINS), process.at(ENDS)
    if len(begins) != 2 or len(ends) != 2:
        message = "benchmark_model did not say when its runs began and ended"
        raise StageError(message, hint=HINT)
    length_s, ran_s = ends[1] - begins[1], runs["n_runs"] * runs["mean_ms"] / 1e3
    if not LEAST * length_s < ran_s < length_s + LATE_S:
        message = f"a window of {length_s:.2f} s holds inferences of {ran_s:.2f} s"
        raise StageError(message, hint=f"Was the phone busy with something else? {HINT}")
    return Window(begins[1], ends[1], runs["n_runs"])


def _signature(process: _Process, unit: Unit) -> List[Tuple[float, float]]:
    spans = list(zip(process.at("@@ on"), process.at("@@ off")))
    if not spans:
        process.checked(unit)
        message = "benchmark_model ended before it made the signature"
        raise StageError(message, hint=HINT)
    return spans
