"""TensorFlow Lite's own `benchmark_model` on the phone: what it is told, and what it said.

It prints a summary of its runs (tools/benchmark_model.py reads it) and, since TensorFlow 2.11, writes the
output of its last one (`--output_filepath`, tensorflow/tensorflow#55493). No single times, but of three runs
the first, the last and the mean give all. So each round is a new process that warms up and then runs three
times, which gives raw samples: two, because before the first it printed what it said of the warm-up, and its
threads slept. `steady` is one process of many runs, as people use the program, to hold against them.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List

from tools import benchmark_model
from tools.android.network import Network
from tools.android.units import Unit
from tools.measure import Measurement
from tools.phone import Phone
from tools.stage import StageError, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs

Runs = Dict[str, List[Mapping[str, Any]]]  # what each call said, by its name in the script
Call = Callable[[Sequence[str], str], str]
FOLDER = "android"  # on the phone, below what is this project's
NAME = "benchmark_model"
GIVE = "python runner.py fetch benchmark_model --trust-on-first-use, or --benchmark-model PATH of a newer one"
SAY = """
say() {
    printf '@@ %s\\n' "$1"; shift
    "$@" 2>&1
    code=$?
    printf '\\n@@ code %s\\n' $code
    [ $code = 0 ] || exit 0
}
"""
SAID = re.compile(r"^@@ (\w+)\n(.*?)\n@@ code (\d+)$", flags=re.MULTILINE | re.DOTALL)
SETUP_LIMIT_S = 120.0  # loading, and compiling for a GPU, of a large network on a slow phone
INFERENCE_LIMIT_S = 20.0
ROUNDS_SHARE = 0.7  # of the budget; the rest is for the steady run
LEAST, MOST = 3, 500  # rounds
WARMUP_S = 0.2  # of a round: XNNPACK packs weights and clocks rise in the first inferences
ROUND = ("--warmup_runs=1", f"--warmup_min_secs={WARMUP_S}", "--num_runs=3", "--min_secs=0")
STEADY = ("--warmup_runs=1", "--warmup_min_secs=0.5", "--num_runs=3")
PROFILE = (
    *("--warmup_runs=1", "--warmup_min_secs=0.2", "--num_runs=3", "--min_secs=0.2"),
    *("--enable_op_profiling=true", "--report_peak_memory_footprint=true"),
)
ONCE = ("--warmup_runs=1", "--warmup_min_secs=0", "--num_runs=1", "--min_secs=0")


@dataclasses.dataclass(frozen=True)
class Timed:
    """What the timed runs gave: samples; `steady` and `profile`, as tools/benchmark_model.py has them; the
    steady run's last output [1, ...]; how often the connection was lost meanwhile, which disturbs none."""

    measurement: Measurement
    steady: Mapping[str, Any]
    profile: Mapping[str, Any]
    last: np.ndarray
    lost: int

    @classmethod
    def of(cls, runs: Runs, budget_s: float, last: np.ndarray, lost: int = 0) -> Timed:
        """Return what the calls of `timed_script` gave."""
        (steadily,), (profiled,) = runs["steady"], runs["profile"]
        rounds = [samples_of(each["inference"]) for each in runs["round"]]
        warmups = sum(each["warmup"]["n_runs"] for each in runs["round"])
        return cls(Measurement.told(rounds, warmups, budget_s), steadily, profiled, last, lost)


@dataclasses.dataclass(frozen=True)
class Program:
    """The program for one network on one unit. `prefix` keeps it to cores."""

    phone: Phone
    network: Network
    unit: Unit
    flags: Sequence[str]
    prefix: str
    path: str
    graph: str

    def answers(self, inputs: Inputs, source: str) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Return the network's outputs [n, ...] on the phone for all inputs, and what was said of the first.

        Raises:
            Unsupported: the unit does not run it, or the program cannot give outputs.
            StageError: the program failed.
        """
        import numpy as np

        count = len(next(iter(inputs.values())))
        with self.phone.folder() as folder:
            given = self.send(inputs, range(count), source)
            calls = [self.command(files, ONCE, f"{folder}/{index}") for index, files in enumerate(given)]
            outputs, runs, _ = self._run(
                answers_script(calls), folder, SETUP_LIMIT_S + count * 3 * INFERENCE_LIMIT_S
            )
        return np.concatenate([outputs[str(index)] for index in range(count)]), runs["run"][0]

    def timed(self, inputs: Inputs, budget_s: float) -> Timed:
        """Run rounds, then the steady run, then the profile, on the first input; check that all were alike.

        Raises:
            Unsupported: the unit did not run the network.
            StageError: the program failed.
        """
        (files,) = self.send(inputs, [0], "reference")
        with self.phone.folder() as folder:
            script = timed_script(
                lambda options, name: self.command(files, options, name and f"{folder}/{name}"), budget_s
            )
            limit_s = 3 * budget_s + 3 * SETUP_LIMIT_S + 15 * INFERENCE_LIMIT_S
            outputs, runs, lost = self._run(script, folder, limit_s)
        return Timed.of(runs, budget_s, outputs["last"], lost)

    def command(self, files: Sequence[str], options: Sequence[str], output: str = "") -> str:
        """Return the words of one call; `output` is a file on the phone for the last output."""
        wanted = [f"--output_filepath={output}"] if output else []
        argv = [self.path, f"--graph={self.graph}", *self.flags, *options, *wanted]
        return self.prefix + shlex.join([*argv, *self.network.input_flags(list(files))])

    def send(self, inputs: Inputs, indices: Iterable[int], source: str) -> list[list[str]]:
        """Bring inputs to the phone; return the files there of each."""
        with tempfile.TemporaryDirectory() as scratch:
            files = [self.network.write_input(inputs, each, source, Path(scratch)) for each in indices]
            together = {name: path for each in files for name, path in each.items()}
            paths = self.phone.push(together, f"{FOLDER}/inputs").paths
            return [[paths[name] for name in each] for each in files]

    def _run(self, script: str, folder: str, limit_s: float) -> tuple[dict[str, np.ndarray], Runs, int]:
        """Run a script; return the outputs it left in `folder` by name, and what each call said."""
        done = self.phone.run_detached(script, limit_s)
        print(done.stdout, done.stderr)  # into the log
        runs = heard(done.stdout, self.unit, done.stderr)
        return self.outputs(folder), runs, done.lost

    def outputs(self, folder: str) -> dict[str, np.ndarray]:
        """Return the outputs in a folder of the phone."""
        names = self.phone.shell(f"cd {folder} && echo *").check("looking for outputs").split()
        if names == ["*"]:
            raise no_outputs()
        found = {}
        with tempfile.TemporaryDirectory() as scratch:
            for name in names:
                path = Path(scratch, name)
                self.phone.pull(f"{folder}/{name}", path)
                found[name] = self.network.output(path.read_bytes())
        return found


def answers_script(calls: Iterable[str]) -> str:
    """Return the shell script of one inference for each input; `calls` are the words of each."""
    return "\n".join([SAY, *(f"say run {call}" for call in calls), ""])


def timed_script(call: Call, budget_s: float) -> str:
    """Return the shell script of the rounds, the steady run and the profile, of one input.

    `call` gives the words for these options; with a name, also for the last output under that name.
    """
    rounds_s = round(budget_s * ROUNDS_SHARE)
    steady_s = max(budget_s * (1 - ROUNDS_SHARE), 0.1)
    return f"""{SAY}
end=$(($(date +%s) + {rounds_s})); n_rounds=0
while [ $n_rounds -lt {LEAST} ] || {{ [ $n_rounds -lt {MOST} ] && [ $(date +%s) -lt $end ]; }}; do
    n_rounds=$((n_rounds + 1))
    say round {call(ROUND, "")}
done
say steady {call((*STEADY, f"--min_secs={steady_s:g}"), "last")}
say profile {call(PROFILE, "")}
"""


def heard(printed: str, unit: Unit, errors: str = "") -> Runs:
    """Return what each call of a script said, by the names that they have in it.

    Raises:
        Unsupported: the unit did not run the network.
        StageError: a call failed, or there was none.
    """
    runs: Runs = {}
    for name, text, code in SAID.findall(printed):
        runs.setdefault(name, []).append(checked(text, int(code), unit))
    if not runs:
        message = f"{NAME} did not start on the phone: {errors.strip()[-300:] or 'it says nothing'}"
        raise StageError(message, hint="The log says more.")
    return runs


def checked(text: str, code: int, unit: Unit) -> Mapping[str, Any]:
    """Return what a call said if it ran on the unit that it was to run on; raises as `heard`."""
    said = benchmark_model.parse(text)
    if code > 128:
        name = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"code {code}"
        message = f"{NAME} was ended by {name} on the phone"
        hint = "SIGKILL: Android's memory was short; another: it crashed on this network. See the log."
        raise StageError(message, hint=hint)
    delegate = next((row for row in said["delegates"] if row["name"] == unit.delegate), None)
    if unit.delegate and (delegate is None or delegate["applied"] not in ("wholly", "partly")):
        why = said["errors"][-1] if said["errors"] else "it says so only in passing, or not at all"
        message = f"the {unit.name} delegate runs nothing of the network on this phone ({why[:200]})"
        raise Unsupported(message, hint="The CPU ran it, or would have; that is the device CPU.")
    if code or said["status"] != "ok":
        last = said["errors"][-1] if said["errors"] else said["reason"] or f"exit code {code}"
        message = f"{NAME} failed on the phone: {last[:300]}"
        raise StageError(message, hint="The log has all that it said.")
    return said


def no_outputs() -> Unsupported:
    """Return the error for a program that left none."""
    message = f"this {NAME} writes no outputs, so nothing says whether it computes the right thing"
    return Unsupported(message, hint=f"TensorFlow 2.11 and newer have --output_filepath: {GIVE}")


def samples_of(said: Mapping[str, Any]) -> list[int]:
    """Return the second and the third of three runs, in ns.

    The program counts whole us and prints the mean in six digits: the second is exact below 0.1 s, and off
    by 1.5e-5 of itself at most above.

    Raises:
        StageError: there were not three.
    """
    if said["n_runs"] != 3:
        message = f"{NAME} ran the network {said['n_runs']} times, not 3 as it was told to"
        raise StageError(message, hint="A network that takes minutes cannot be measured so. See the log.")
    second_ms = 3 * said["mean_ms"] - said["first_ms"] - said["last_ms"]
    within_ms = min(max(second_ms, said["min_ms"]), said["max_ms"])
    return [1000 * round(1000 * ms) for ms in (within_ms, said["last_ms"])]
