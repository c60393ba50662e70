"""TensorRT's versions, and what trtexec calls things in each.

Source of all options: samples/common/sampleOptions.cpp of NVIDIA/TensorRT, branches release/8.2 to
release/11.1.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Dict, Tuple

from tools.stage import Unsupported

Version = Tuple[int, int, int]

OLDEST: Version = (8, 0, 0)
PRECISIONS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8", "--fp16")}


def of_banner(digits: str) -> Version:
    """Return the version of the digits in trtexec's banner: 8201 is 8.2.1, 100300 is 10.3.0."""
    value = int(digits)
    if value >= 100000:
        return value // 10000, value // 100 % 100, value % 100
    return value // 1000, value // 100 % 10, value % 100


def digits(version: Version) -> str:
    """Return a version as trtexec's banner and a calibration cache have it."""
    major, minor, patch = version
    return f"{major}{minor:02}{patch:02}" if major >= 10 else f"{major}{minor}{patch:02}"


def parse(text: str) -> Version:
    """Return the version that a text like `8.2.1` or `10.3` names."""
    numbers = [int(part) for part in re.findall(r"\d+", text)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def text(version: Version) -> str:
    """Return a version as a person writes it."""
    return ".".join(map(str, version))


@dataclasses.dataclass(frozen=True)
class Run:
    """What is fixed of a measurement; each is always said to trtexec, because its versions' defaults differ.

    Attributes:
        cuda_graph: the network's kernels are started as one CUDA graph.
        transfers: input and output go to the GPU and back in each inference.
        spin_wait: the host polls for the end instead of sleeping.
        seconds: duration; `warm_up_ms` comes before it.
    """

    cuda_graph: bool
    transfers: bool
    spin_wait: bool
    seconds: float
    warm_up_ms: int = 200


def require(version: Version) -> None:
    """Raise Unsupported if the version is older than those whose options are known."""
    if version < OLDEST:
        message = f"TensorRT {text(version)} is too old: its trtexec has other options"
        raise Unsupported(message, hint="From TensorRT 8.0 on (JetPack 4.6) it can be used.")


def no_precision(version: Version, precision: str) -> Unsupported:
    """Return the error of a version that has no such option."""
    message = (
        f"TensorRT {text(version)} computes in the types that the ONNX file has, and has no --{precision}"
    )
    return Unsupported(message, hint="Measure fp32 there, or take TensorRT 10 for fp16 and int8.")


def build_options(version: Version, precision: str, workspace_mib: int, dla_core: int) -> list[str]:
    """Return the options of a build.

    Raises:
        Unsupported: this version has no such precision.
    """
    require(version)
    if version >= (11, 0, 0) and precision != "fp32":
        raise no_precision(version, precision)
    skip = "--skipInference" if version >= (8, 6, 0) else "--buildOnly"
    memory = (
        f"--memPoolSize=workspace:{workspace_mib}" if version >= (8, 4, 0) else f"--workspace={workspace_mib}"
    )
    options = [skip, memory, "--noTF32", *PRECISIONS[precision]]
    if version >= (8, 2, 0):
        options.append("--profilingVerbosity=detailed")
    if dla_core >= 0:
        options += [f"--useDLACore={dla_core}", "--allowGPUFallback"]
    return options


def run_options(version: Version, run: Run) -> list[str]:
    """Return the options of a measurement of one inference at a time.

    `--exposeDMA`: the next inference is not begun, nor its input copied, before the last output is here.
    """
    require(version)
    flags: Dict[str, bool] = {"--exposeDMA": True}
    if version >= (11, 0, 0):  # all three are the default there
        flags.update({"--noCudaGraph": not run.cuda_graph, "--includeDataTransfers": run.transfers})
        flags["--noSpinWait"] = not run.spin_wait
    else:
        flags.update({"--useCudaGraph": run.cuda_graph, "--noDataTransfers": not run.transfers})
        flags["--useSpinWait"] = run.spin_wait
    times = [f"--warmUp={run.warm_up_ms}", f"--duration={round(run.seconds)}"]
    counts = [f"--iterations={10 if run.seconds else 1}", "--avgRuns=100"]
    return [*times, *counts, *(flag for flag, wanted in flags.items() if wanted)]


def can_explain_layers(version: Version) -> bool:
    """Whether trtexec writes what its layers are (--exportLayerInfo)."""
    return version >= (8, 2, 0)


def exports_warm_up(version: Version) -> bool:
    """Whether --exportTimes also writes the inferences before the measurement, as 8.4 and older do."""
    return version < (8, 5, 0)
