"""TensorFlow Lite's own `benchmark_model` on the phone: what it is told, and what it said.

It prints a summary of its runs (tools/benchmark_model.py reads it) and, since TensorFlow 2.11, writes the
output of its last one (`--output_filepath`, tensorflow/tensorflow#55493). No single times: but of two runs
the smallest and the largest are both. So each round is a new process that warms up and then runs twice, which
gives raw samples; `steady` is one process of many runs, as people use the program, to hold against them.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import benchmark_model
from tools.android.network import Network
from tools.android.units import Unit
from tools.measure import Measurement
from tools.phone import Phone
from tools.stage import StageError, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs

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
ROUND = ("--warmup_runs=1", f"--warmup_min_secs={WARMUP_S}", "--num_runs=2", "--min_secs=0")
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
            lines = [
                f"say run {self._command(files, ONCE, f'{folder}/{index}')}"
                for index, files in enumerate(self._inputs(inputs, range(count), source))
            ]
            outputs, runs, _ = self._run(lines, folder, SETUP_LIMIT_S + count * 3 * INFERENCE_LIMIT_S)
        return np.concatenate([outputs[str(index)] for index in range(count)]), runs["run"][0]

    def timed(self, inputs: Inputs, budget_s: float) -> Timed:
        """Run rounds, then the steady run, then the profile, on the first input; check that all were alike.

        Raises:
            Unsupported: the unit did not run the network.
            StageError: the program failed.
        """
        (files,) = self._inputs(inputs, [0], "reference")
        rounds_s = max(round(budget_s * ROUNDS_SHARE), 1)
        steady_s = max(budget_s * (1 - ROUNDS_SHARE), 0.1)
        steady = (*STEADY, f"--min_secs={steady_s:g}")
        with self.phone.folder() as folder:
            script = f"""
                end=$(($(date +%s) + {rounds_s})); n=0
                while [ $n -lt {LEAST} ] || {{ [ $n -lt {MOST} ] && [ $(date +%s) -lt $end ]; }}; do
                    n=$((n + 1))
                    say round {self._command(files, ROUND)}
                done
                say steady {self._command(files, steady, f"{folder}/last")}
                say profile {self._command(files, PROFILE)}"""
            limit_s = 3 * budget_s + 3 * SETUP_LIMIT_S + 15 * INFERENCE_LIMIT_S
            outputs, runs, lost = self._run([script], folder, limit_s)
        (steadily,), (profiled,) = runs["steady"], runs["profile"]
        rounds = [
            [round(each["inference"][key] * 1e6) for key in ("min_ms", "max_ms")] for each in runs["round"]
        ]
        measurement = Measurement(
            rounds=rounds,
            wall_ns=sum(map(sum, rounds)),
            loop_overhead_ns=0.0,  # it times each inference by itself
            warmups=sum(each["warmup"]["n_runs"] for each in runs["round"]),
            stopped="budget",
            budget_s=budget_s,
        )
        return Timed(measurement, steadily, profiled, outputs["last"], lost)

    def _command(self, files: Sequence[str], options: Sequence[str], output: str = "") -> str:
        """Return the words of one call; `output` is a file on the phone for the last output."""
        wanted = [f"--output_filepath={output}"] if output else []
        argv = [self.path, f"--graph={self.graph}", *self.flags, *options, *wanted]
        return self.prefix + shlex.join([*argv, *self.network.input_flags(list(files))])

    def _inputs(self, inputs: Inputs, indices: Iterable[int], source: str) -> list[list[str]]:
        """Bring inputs to the phone; return the files there of each."""
        with tempfile.TemporaryDirectory() as scratch:
            files = [self.network.write_input(inputs, each, source, Path(scratch)) for each in indices]
            together = {name: path for each in files for name, path in each.items()}
            paths = self.phone.push(together, f"{FOLDER}/inputs").paths
            return [[paths[name] for name in each] for each in files]

    def _run(
        self, lines: Sequence[str], folder: str, limit_s: float
    ) -> tuple[dict[str, np.ndarray], dict[str, list[Mapping[str, Any]]], int]:
        """Run a script; return the outputs it left in `folder` by name, and what each call said."""
        done = self.phone.run_detached("\n".join([SAY, *lines]), limit_s)
        print(done.stdout, done.stderr)  # into the log
        runs: dict[str, list[Mapping[str, Any]]] = {}
        for name, text, code in SAID.findall(done.stdout):
            runs.setdefault(name, []).append(self._checked(text, int(code)))
        if not runs:
            message = f"{NAME} did not start on the phone: {done.stderr.strip()[-300:] or 'it says nothing'}"
            raise StageError(message, hint="The log says more.")
        return self._outputs(folder), runs, done.lost

    def _checked(self, text: str, code: int) -> Mapping[str, Any]:
        """Return what a call said if it ran on the unit that it was to run on."""
        said = benchmark_model.parse(text)
        if code > 128:
            name = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"code {code}"
            message = f"{NAME} was ended by {name} on the phone"
            hint = "SIGKILL: Android's memory was short; another: it crashed on this network. See the log."
            raise StageError(message, hint=hint)
        delegate = next((row for row in said["delegates"] if row["name"] == self.unit.delegate), None)
        if self.unit.delegate and (delegate is None or delegate["applied"] not in ("wholly", "partly")):
            why = said["errors"][-1] if said["errors"] else "it says so only in passing, or not at all"
            message = f"the {self.unit.name} delegate runs nothing of the network on this phone ({why[:200]})"
            raise Unsupported(message, hint="The CPU ran it, or would have; that is the device CPU.")
        if code or said["status"] != "ok":
            last = said["errors"][-1] if said["errors"] else said["reason"] or f"exit code {code}"
            message = f"{NAME} failed on the phone: {last[:300]}"
            raise StageError(message, hint="The log has all that it said.")
        return said

    def _outputs(self, folder: str) -> dict[str, np.ndarray]:
        """Return the outputs in a folder of the phone."""
        names = self.phone.shell(f"cd {folder} && echo *").check("looking for outputs").split()
        if names == ["*"]:
            message = f"this {NAME} writes no outputs, so nothing says whether it computes the right thing"
            raise Unsupported(message, hint=f"TensorFlow 2.11 and newer have --output_filepath: {GIVE}")
        found = {}
        with tempfile.TemporaryDirectory() as scratch:
            for name in names:
                path = Path(scratch, name)
                self.phone.pull(f"{folder}/{name}", path)
                if path.stat().st_size != self.network.output_bytes:
                    message = f"an output has {path.stat().st_size} bytes, not {self.network.output_bytes}"
                    raise StageError(message, hint="Is the phone's storage full?")
                found[name] = self.network.outputs(path.read_bytes())
        return found
