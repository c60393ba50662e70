"""What of a phone TensorFlow Lite runs networks on: how to ask for a unit, and who says that it ran."""

from __future__ import annotations

import dataclasses
from typing import Optional

from tools.names import nearest
from tools.phone import State
from tools.stage import InvalidRequest, Unsupported

HALF = ("fp16", "int8-dynamic", "int8")  # precisions whose tolerance has room for float16
CORES = ("fast", "big", "little", "all")


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit by the name that `benchmark_model` has for its delegate; the CPU needs none.

    Attributes:
        flags: of benchmark_model (tensorflow/lite/tools/delegates/README.md).
        half_flag: the one that lets it compute networks of float32 in float16.
        precisions: those that it can compute; empty for all.
    """

    name: str
    delegate: Optional[str] = None
    flags: tuple[str, ...] = ()
    half_flag: str = ""
    precisions: tuple[str, ...] = ()

    def arguments(self, precision: str) -> list[str]:
        """Return the flags for a network of that precision.

        Raises:
            Unsupported: it computes no such networks.
        """
        if self.precisions and precision not in self.precisions:
            message = f"TensorFlow Lite's {self.name} delegate runs no network of {precision}"
            raise Unsupported(message, hint=f"It runs: --precision {', '.join(self.precisions)}")
        half = [f"{self.half_flag}={str(precision in HALF).lower()}"] if self.half_flag else []
        return [*self.flags, *half]


UNITS = {
    unit.name: unit
    for unit in (
        Unit("CPU"),
        Unit("GPU", "GPU", ("--use_gpu=true",), "--gpu_precision_loss_allowed"),
        # without its own CPU implementation (nnapi-reference), which would pass for an accelerator
        Unit("NNAPI", "NNAPI", ("--use_nnapi=true", "--disable_nnapi_cpu=true"), "--nnapi_allow_fp16"),
        # its libraries are Qualcomm's, and looked for in /data/local/tmp
        Unit("Hexagon", "Hexagon", ("--use_hexagon=true",), precisions=("int8",)),
    )
}


def find(name: str) -> Unit:
    """Return the unit of that name.

    Raises:
        InvalidRequest: there is none.
    """
    if name not in UNITS:
        message = f"there is no device {name!r} on a phone"
        raise InvalidRequest(message, hint=nearest(name, UNITS))
    return UNITS[name]


def cores(state: State, wanted: str) -> tuple[int, ...]:
    """Return the cores to keep a program to; none where it may run on all.

    `fast` are all but the slowest cluster, `big` and `little` the fastest and the slowest.

    Raises:
        InvalidRequest: there is no such choice.
    """
    if wanted not in CORES:
        message = f"there is no choice {wanted!r} of cores"
        raise InvalidRequest(message, hint=nearest(wanted, CORES))
    if wanted == "all" or len(state.clusters) < 2:
        return ()
    fast = tuple(cpu for cluster in state.clusters[1:] for cpu in cluster.cpus)
    return {"fast": fast, "big": state.big, "little": state.little}[wanted]
