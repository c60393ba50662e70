"""trtexec: found, called, and asked which GPU and which TensorRT are here."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.stage import DeviceNotFound, SdkMissing, StageError
from tools.tensorrt import failures, log, versions

VARIABLE = "MOBILE_ACCELERATOR_TRTEXEC"
PLACES = ("/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec")
GPUS = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")  # nodes of the driver: a PC's, a board's
HINT = (
    "On a PC build the image on NVIDIA's (MOBILE_ACCELERATOR_TENSORRT_BASE), or install TensorRT and name "
    f"its program: {VARIABLE}=PATH. docs/jetson.md"
)


def find() -> str:
    """Return the program's path.

    Raises:
        DeviceNotFound: there is none, and no NVIDIA GPU either.
        SdkMissing: there is a GPU, and no TensorRT.
    """
    named = os.environ.get(VARIABLE)
    found = named or shutil.which("trtexec") or next(filter(os.path.exists, PLACES), "")
    if found and shutil.which(found):
        return found
    missing = f"{found or 'trtexec, the program of TensorRT,'} is not here, or may not be run"
    if named or any(map(os.path.exists, GPUS)):
        raise SdkMissing(missing, hint=HINT)
    message = "there is no NVIDIA GPU here, and no trtexec, the program of TensorRT"
    raise DeviceNotFound(message, hint=failures.NO_GPU)


def call(arguments: Iterable[str]) -> dict[str, Any]:
    """Run trtexec; what it prints goes into the log. Return what log.parse makes of it, and `loop_s`.

    That is between which two times of time.monotonic() its inferences ran; where it does not say so, those of
    the whole process.

    Raises:
        StageError: it failed; see failures.py.
    """
    found, said, code = _called(arguments)
    failures.raise_for(said, found, code)
    return found


def _called(arguments: Iterable[str]) -> tuple[dict[str, Any], str, int]:
    argv, lines = [find(), *arguments], []
    begun_s = time.monotonic()
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        assert child.stdout
        for line in child.stdout:
            lines.append((time.monotonic(), line.decode(errors="replace")))
    said = "".join(line for _, line in lines)
    print(said, flush=True)
    loop_s = log.loop_s(lines) or (begun_s, time.monotonic())
    return {**log.parse(said), "loop_s": loop_s}, said, child.returncode


def describe() -> dict[str, Any]:
    """Return which GPU and which TensorRT are here, all that an engine depends on.

    trtexec prints the GPU before it looks for the engine that it is given, and here there is none.

    Raises:
        DeviceNotFound: no NVIDIA GPU.
        SdkMissing, Unavailable: no TensorRT, or none that starts.
    """
    with tempfile.TemporaryDirectory() as folder:
        found, said, code = _called([f"--loadEngine={Path(folder, 'none.engine')}"])
    if not found["gpu"]:
        failures.raise_for(said, found, code)
        message = "trtexec did not say which GPU is here"
        raise StageError(message, hint="The log has what it printed.")
    if not found["version"]:
        message = "this trtexec does not say its version: it is older than TensorRT 8"
        raise StageError(message, hint="From TensorRT 8.0 on (JetPack 4.6) it can be used.")
    versions.require(versions.parse(found["version"]))
    return {
        "tensorrt": found["version"],
        "gpu": found["gpu"],
        "compute_capability": found["compute_capability"],
        "machine": platform.machine(),
        "simulated": found["simulated"],
    }
