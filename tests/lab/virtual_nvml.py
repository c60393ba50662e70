"""A library that stands in for libnvidia-ml.so.1, below NVIDIA's own Python bindings.

Its functions are C functions, called with the structures of the real interface; what they tell is made up: a
GPU of 100 W, whose counter steps every 0.1 s. `install` puts it where pynvml looks.
"""

from __future__ import annotations

import ctypes as c
import inspect
import time
from collections.abc import Callable
from typing import Any

NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED
POWER_MW = 100_000
STEP_S = 0.1
TYPES = {"flags": c.c_uint, "index": c.c_uint, "size": c.c_uint, "number": c.c_int32}  # else a pointer


class Library:
    """Functions as attributes, as of a CDLL. `capability` is that of its GPUs; `old` has no power fields."""

    def __init__(self, *, gpus: int = 1, capability: tuple[int, int] = (9, 0), old: bool = False) -> None:
        self.gpus, self.capability, self.old = gpus, capability, old
        self.lost = False
        self._start_s = time.monotonic()
        self._kept = {name[2:]: self._function(function) for name, function in self._functions().items()}

    def __getattr__(self, name: str) -> Any:
        try:
            return self._kept[name]
        except KeyError:
            raise AttributeError(name) from None

    def _functions(self) -> dict[str, Callable[..., int]]:
        return {name: getattr(self, name) for name in dir(type(self)) if name.startswith("c_")}

    def _function(self, function: Callable[..., int]) -> Any:
        names = list(inspect.signature(function).parameters)
        return c.CFUNCTYPE(c.c_int, *[TYPES.get(name, c.c_void_p) for name in names])(function)

    def c_nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802 - NVML's names, also below
        return 0

    def c_nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def c_nvmlDeviceGetCount_v2(self, count: int) -> int:  # noqa: N802
        c.c_uint.from_address(count).value = self.gpus
        return 0

    def c_nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: int) -> int:  # noqa: N802
        c.c_void_p.from_address(handle).value = index + 1
        return 0

    def c_nvmlDeviceGetUUID(self, handle: int, text: int, size: int) -> int:  # noqa: N802
        c.memmove(text, f"GPU-simulated-{handle}\0".encode(), 16)
        return 0

    def c_nvmlDeviceGetName(self, _: int, text: int, size: int) -> int:  # noqa: N802
        c.memmove(text, b"Simulated GPU\0", 14)
        return 0

    def c_nvmlSystemGetDriverVersion(self, text: int, size: int) -> int:  # noqa: N802
        c.memmove(text, b"999.0\0", 6)
        return 0

    def c_nvmlDeviceGetCudaComputeCapability(self, _: int, major: int, minor: int) -> int:  # noqa: N802
        c.c_int.from_address(major).value, c.c_int.from_address(minor).value = self.capability
        return 0

    def c_nvmlDeviceGetTotalEnergyConsumption(self, _: int, energy: int) -> int:  # noqa: N802
        if self.lost:
            return 15  # NVML_ERROR_GPU_IS_LOST
        steps = int((time.monotonic() - self._start_s) / STEP_S)
        c.c_ulonglong.from_address(energy).value = 5_000_000_000 + round(steps * STEP_S * POWER_MW)
        return 0

    def c_nvmlDeviceGetPowerUsage(self, _: int, power: int) -> int:  # noqa: N802
        c.c_uint.from_address(power).value = POWER_MW
        return 0

    def c_nvmlDeviceGetFieldValues(self, _: int, number: int, values: int) -> int:  # noqa: N802
        import pynvml

        for value in (pynvml.c_nvmlFieldValue_t * number).from_address(values):
            value.nvmlReturn = NOT_SUPPORTED if self.old or value.scopeId else 0
            value.value.uiVal = {185: POWER_MW - 1000, 186: POWER_MW}[value.fieldId]
        return 0


def install(library: Library) -> None:
    """Have pynvml call it."""
    import pynvml

    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
