"""A network on a phone by the SDK's own programs: snpe-net-run, and what its log says.

Qualcomm's variables for the phone (its pages on the DSP runtime): LD_LIBRARY_PATH, and ADSP_LIBRARY_PATH with
`;` between folders and in quotes, all three of the system's folders among them. Every shell of adb is a new
one, so they are set in each script.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tools.phone import Finished, Phone, State
from tools.snpe import converting, diagview, failures
from tools.snpe.sdk import Sdk
from tools.stage import InvalidRequest, StageError, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from tools.arrays import Inputs

LIMIT_S = 300.0  # for one run of the program, most of which is its start
LOG = ("SNPEDiag_0.log", "SNPEDiag.log")  # the second in QAIRT
TARGETS = {"arm64-v8a": "aarch64-android*", "armeabi-v7a": "arm-android*"}  # by the phone's ABI
LIBRARIES = ("libSNPE.so", "libc++_shared.so", "libsymphony*.so")
HEXAGON = ("libSnpe*.so", "libsnpe_*.so", "libhta*.so")
SKELS = ("lib/dsp/*.so", "lib/hexagon-v*/unsigned/libSnpe*.so", "lib/hexagon-v*/unsigned/libsnpe*.so")


@dataclasses.dataclass(frozen=True)
class Device:
    """A runtime of SNPE: how it is asked for, on which unit it runs, and in what precisions.

    The GPU's own computes in 32 bits and keeps in 16 (gpu_float32_16_hybrid), so its results are those of 16.
    """

    flags: str
    throughput_flags: str
    unit: str
    precisions: tuple[str, ...]


DEVICES: Mapping[str, Device] = {
    "CPU": Device("", "--use_cpu", "CPU", ("fp32",)),
    "GPU": Device("--use_gpu", "--use_gpu", "GPU", ("fp16",)),
    "GPU_FP16": Device("--use_gpu --gpu_mode float16", "--use_gpu_fp16", "GPU", ("fp16",)),
    "DSP": Device("--use_dsp", "--use_dsp", "DSP", ("int8", "int16")),
}
SAME_UNIT = {"HTP": "DSP"}  # a newer word for it


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run of snpe-net-run: its log as snpe-diagview prints it and as `found` in it, what the program
    `said`, and its outputs [n, values], None if they were left there."""

    log: str
    found: dict[str, Any]
    said: str
    outputs: Optional[np.ndarray]

    @property
    def total_ms(self) -> float:
        """The mean time of an inference in it, by SNPE's own clock."""
        total: float = self.found["metrics"][diagview.TOTAL]["time_ms"]
        return total


class NetRun:
    """A network on the phone, to be run on one device; `dlc` is what the SDK's converter made.

    `shapes` are those of its inputs, by name.
    """

    def __init__(
        self,
        sdk: Sdk,
        phone: Phone,
        state: State,
        dlc: Path,
        shapes: Mapping[str, tuple[int, ...]],
        device: str,
        perf_profile: str,
    ) -> None:
        self._sdk, self.phone, self._device, self._perf = sdk, phone, DEVICES[device], perf_profile
        self.shapes = dict(shapes)
        base = f"snpe/{sdk.version or 'sdk'}"
        programs = self._programs(state, hexagon=self._device.unit == "DSP")
        phone.push(programs, base)
        self._has_throughput = "bin/snpe-throughput-net-run" in programs
        self._home = f"{phone.root}/{base}"
        self._dlc = phone.push({"network.dlc": dlc}, "snpe/network").paths["network.dlc"]
        helped = self.shell("snpe-net-run --help")
        self._help = helped.stdout + helped.stderr
        if perf_profile not in self._help and "perf_profile" in self._help:
            message = f"snpe-net-run of {sdk.name} has no perf profile {perf_profile!r}"
            hint = "All versions have balanced, default, high_performance, power_saver and system_settings."
            raise InvalidRequest(message, hint=hint)

    def _programs(self, state: State, *, hexagon: bool) -> dict[str, Path]:
        """Return the files that the phone needs of the SDK, by their names there."""
        target = self._target(state)
        libraries = [*LIBRARIES, *(HEXAGON if hexagon else ())]
        folder = self._sdk.home / "lib" / target
        found = {f"lib/{path.name}": path for pattern in libraries for path in folder.glob(pattern)}
        if hexagon:
            skels = [path for pattern in SKELS for path in self._sdk.home.glob(pattern)]
            if not skels:
                message = f"{self._sdk.name} has nothing for a Hexagon to load ({' or '.join(SKELS[:2])})"
                raise Unsupported(message, hint="Is the SDK whole? Another device runs without.")
            found.update({f"dsp/{path.name}": path for path in skels})
        programs = self._sdk.home / "bin" / target
        names = ("snpe-net-run", "snpe-throughput-net-run")
        found.update({f"bin/{name}": programs / name for name in names if (programs / name).is_file()})
        if "bin/snpe-net-run" not in found:
            message = f"{self._sdk.name} has no snpe-net-run for {target}"
            raise Unsupported(message, hint="Is it the package for Linux hosts, and whole?")
        return found

    def _target(self, state: State) -> str:
        """Return the SDK's name for the phone's kind of processor; its clang build if there are several."""
        for abi in state.abis:
            folders = self._sdk.home.glob(f"lib/{TARGETS[abi]}") if abi in TARGETS else ()
            names = sorted((path.name for path in folders), key=lambda name: ("gcc" not in name, name))
            if names:
                return names[-1]
        message = (
            f"{self._sdk.name} has no runtime for a phone of {', '.join(state.abis) or 'an unknown ABI'}"
        )
        raise Unsupported(message, hint="It has those in its folder lib/.")

    def shell(self, command: str, folder: str = ".") -> Finished:
        """Run one of the SDK's programs on the phone, by itself, in its own environment."""
        script = f"""
export LD_LIBRARY_PATH={self._home}/lib:$LD_LIBRARY_PATH
export ADSP_LIBRARY_PATH="{self._home}/dsp;/system/lib/rfsa/adsp;/system/vendor/lib/rfsa/adsp;/dsp"
export PATH={self._home}/bin:$PATH
cd {folder} && {command}
"""
        done = self.phone.run_detached(script, LIMIT_S)
        print(done.stdout, done.stderr, sep="\n", flush=True)  # the log
        return done

    def run(self, inputs: Inputs, indices: Sequence[int], level: str, *, outputs: bool) -> Ran:
        """Run the network on inputs, one inference for each of `indices`, in one process of snpe-net-run.

        Raises:
            Unsupported, StageError: it failed, or left no times, or not all outputs; see failures.py.
        """
        with tempfile.TemporaryDirectory() as local, self.phone.folder() as remote:
            scratch = Path(local)
            listed = self._push_inputs(inputs, indices, scratch)
            options = f"--container {self._dlc} --input_list {Path(listed).name} --output_dir {remote}/output"
            options += f" --perf_profile {self._perf} {self._device.flags}"
            if "--profiling_level" in self._help:  # 1.17 has none
                options += f" --profiling_level {level}"
            done = self.shell(f"snpe-net-run {options}", str(Path(listed).parent))
            said = f"{done.stdout}\n{done.stderr}"
            failures.raise_for(said, done.code, "snpe-net-run")
            answers = self._outputs(f"{remote}/output", range(len(indices)), scratch) if outputs else None
            log = self._log(f"{remote}/output", scratch)
        found = diagview.parse(log)
        failures.told(found)
        return Ran(log, found, said, answers)

    def throughput_per_s(self, inputs: Inputs, seconds: int) -> Optional[float]:
        """Return the inferences per second of snpe-throughput-net-run, on one thread; None if there is none.

        Raises:
            Unsupported, StageError: it failed.
        """
        if not self._has_throughput:
            return None
        with tempfile.TemporaryDirectory() as local:
            listed = Path(self._push_inputs(inputs, [0], Path(local)))
            names = ",".join(f"input_0_{number}.raw" for number in range(len(self.shapes)))
            options = f"--container {self._dlc} --duration {seconds} --perf_profile {self._perf}"
            options += f" --input_raw {names} {self._device.throughput_flags}"
            done = self.shell(f"snpe-throughput-net-run {options}", str(listed.parent))
        said = f"{done.stdout}\n{done.stderr}"
        failures.raise_for(said, done.code, "snpe-throughput-net-run")
        match = re.search(r"Total throughput: ([\d.]+) infs/sec", said)
        return float(match[1]) if match else None

    def _push_inputs(self, inputs: Inputs, indices: Sequence[int], scratch: Path) -> str:
        """Bring inputs and their list to the phone; return the list's path there."""
        different = list(dict.fromkeys(indices))
        listed = converting.raw_files(inputs, self.shapes, different, scratch, relative=True)
        lines = dict(zip(different, listed.read_text().splitlines()))
        listed.write_text("".join(f"{lines[index]}\n" for index in indices))
        files = {path.name: path for path in [*scratch.glob("*.raw"), listed]}
        return self.phone.push(files, "snpe/inputs").paths[listed.name]

    def _outputs(self, folder: str, numbers: Sequence[int], scratch: Path) -> np.ndarray:
        """Return the network's answers [n, values], float32, of the files Result_<i>/<output>.raw."""
        import numpy as np

        found = (
            self.phone.shell(f"cd {folder} && find . -name '*.raw'")
            .check("looking at the outputs")
            .split("\n")
        )
        answers = []
        for number in numbers:
            mine = [path for path in found if path.startswith(f"./Result_{number}/")]
            if len(mine) != 1:
                message = f"the network left {len(mine)} outputs for input {number}, and it has one"
                raise StageError(message, hint="A network of one output is what can be compared.")
            target = scratch / "output.raw"
            self.phone.pull(f"{folder}/{mine[0][2:]}", target)
            answers.append(np.fromfile(target, "<f4"))
        if len({len(answer) for answer in answers}) != 1:
            message = "the network's outputs are not of one size: one is cut off"
            raise StageError(message, hint="Is the phone's storage full?")
        return np.stack(answers)

    def _log(self, folder: str, scratch: Path) -> str:
        """Return the run's log as the SDK's snpe-diagview prints it, on this machine."""
        there = self.phone.shell(f"ls {folder}").stdout.split()
        name = next((name for name in LOG if name in there), "")
        if not name:
            message = f"snpe-net-run left no log ({' or '.join(LOG)}), so nothing is known of its times"
            raise StageError(message, hint="Was it stopped by Android? The log says what it printed.")
        log = scratch / name
        self.phone.pull(f"{folder}/{name}", log)
        return self._sdk.call("snpe-diagview", "--input_log", str(log), scratch=scratch)


def fallback(found: Mapping[str, Any], device: str) -> list[str]:
    """Return a warning if a part of the layers ran on another unit than the device's.

    Raises:
        Unsupported: all of them did; such a time would be another unit's.
    """
    unit = DEVICES[device].unit
    layers_on: Mapping[str, int] = found["layers_on"]
    others = {name: n for name, n in layers_on.items() if SAME_UNIT.get(name, name) != unit}
    count = sum(layers_on.values())
    if not others:
        return [] if count else [f"The log has no layers, so it is not known what ran on the {unit}."]
    listed = ", ".join(f"{n} of {count} layers on the {name}" for name, n in others.items())
    if sum(others.values()) == count:
        message = f"the {unit} was asked for, and SNPE ran {listed}: a fallback"
        raise Unsupported(
            message, hint="This phone has no such runtime for this SDK, or not for this network."
        )
    return [f"SNPE ran {listed}, not on the {unit}: a fallback of these."]
