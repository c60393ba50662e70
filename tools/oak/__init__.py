"""Luxonis OAK cameras of the second generation (RVC2), with the chip and the blobs of `ncs`.

Only the chip is used: the host sends an input, the chip runs the network, the host gets the output. Library
and firmware are depthai 2; docs/oak.md says why not 3, and what was not tried.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from tools import movidius, myriad_blob
from tools.benchmark import Target, run
from tools.stage import Input, Output, Result, StageError, Tool, Unsupported
from tools.usb import Host

if TYPE_CHECKING:
    from tools.oak.session import OakSession

tool = Tool("oak", packages=("depthai", "numpy"))


@tool.command(measures=True)
def benchmark(
    blob: Input,
    reference: Input,
    samples: Output = "{model}.latency_ns.i64",
    port: str = "",
    budget_s: float = 10.0,
    precision: str = "fp16",
) -> Result:
    """Check the network against the reference, then measure its latency from sending to receiving.

    `port` is where the camera is plugged in, as `devices` says (1-2.4). One that waits in its boot ROM needs
    it: there a Neural Compute Stick looks the same.
    """
    target = Target("depthai", "OAK", precision, 0, budget_s)
    return run(_loader(blob, target, port), target, reference, samples)


@tool.command(cached=False)
def info(blob: Input) -> Result:
    """Say what depthai reads in a blob, after checking that this project's own reader reads the same."""
    from tools.oak import library

    ours = library.same_form(myriad_blob.read(blob))
    theirs = library.read_blob(blob)
    differences = [f"{key}: {theirs[key]} and {ours[key]}" for key in ours if theirs[key] != ours[key]]
    if differences:
        message = f"depthai and this project read {blob.name} differently: {'; '.join(differences)}"
        raise StageError(message, hint="Please report it, with the blob.")
    return Result(metadata=theirs)


@tool.command(cached=False)
def devices() -> Result:
    """List the Movidius devices on USB and their states, from the kernel's files."""
    found = movidius.examine(Host.current())
    return Result(metadata={"devices": [dataclasses.asdict(device) for device in found]})


def _loader(blob: Path, target: Target, port: str) -> Callable[[], OakSession]:
    """Return what checks the blob, looks for a camera, and starts the network on it, in this order."""

    def load() -> OakSession:
        from tools.oak import camera, session

        if target.precision != "fp16":
            message = f"a Myriad X computes in fp16, not in {target.precision}"
            raise Unsupported(message, hint="Ask for fp16.")
        about = session.suitable(blob)
        device = camera.find(movidius.examine(Host.current()), port)
        return camera.start(device, blob, about)

    return load
