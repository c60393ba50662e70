"""NVIDIA GPUs through NVML: the driver's energy counter, and its power sensor.

Sources: NVML API reference (nvmlDeviceGetTotalEnergyConsumption, nvmlDeviceGetPowerUsage, field ids) and, for
what they are worth, Yang et al., "Part-time Power Measurements", SC24, arXiv:2312.02741: the counter steps
about every 0.1 s, and on A100 and H100 the sensor sees a quarter of the time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tools.meters import files
from tools.meters.steps import Steps
from tools.recording import Attached, Polled
from tools.stage import DeviceNotFound, InvalidRequest, Unsupported
from tools.trace import Channel, Meta

FIELD_AVERAGE, FIELD_INSTANT = 185, 186  # NVML_FI_DEV_POWER_AVERAGE, NVML_FI_DEV_POWER_INSTANT: mW
SCOPE_GPU = 0
AVERAGE_S = 1.0  # of nvmlDeviceGetPowerUsage and the field AVERAGE, on Ampere (but GA100) and newer
GA100 = (8, 0)  # its compute capability; Ampere's other chips have 8.6 and more
SOURCE = "NVML API reference states an accuracy (5 %) of Fermi and Kepler only; see arXiv:2312.02741"
DRIVER = "Is NVIDIA's driver loaded? nvidia-smi. In a container it is not there: --engine venv"


class Source(NamedTuple):
    """One value that the driver gives: a column, and how it is asked for."""

    column: str
    average_s: float
    ask: Callable[[], float]


def present(root: Path = Path("/")) -> list[Attached]:
    """Return the GPUs that the kernel's driver lists: /proc/driver/nvidia/gpus/*/information."""
    found = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        lines = [line.partition(":") for line in files.optional(information).splitlines()]
        said = {key.strip(): value.strip() for key, _, value in lines}
        found.append(Attached(said.get("Model", "NVIDIA GPU"), said.get("GPU UUID", "")))
    return found


@contextlib.contextmanager
def opened(root: Path, serial: str, rate_hz: float) -> Iterator[Polled]:
    """Yield a reader of one GPU; `serial` is its UUID, "" for the only one.

    Raises:
        DeviceNotFound: there is no driver, or no such GPU.
        InvalidRequest: there are several GPUs, and none was chosen.
        Unsupported: the GPU tells neither energy nor power.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        message = f"NVIDIA's management library cannot be used: {error}"
        raise DeviceNotFound(message, hint=DRIVER) from None
    try:
        handle = _choose(pynvml, serial)
        sources = _sources(pynvml, handle)
        yield _reader(pynvml, handle, sources, rate_hz, simulated=root != Path("/"))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _choose(nvml: Any, serial: str) -> Any:
    handles = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        handles[nvml.nvmlDeviceGetUUID(handle)] = handle
    if serial in handles:
        return handles[serial]
    named = ", ".join(handles) or "none"
    if serial or not handles:
        message = f"there is no GPU {serial}" if serial else "NVIDIA's driver sees no GPU"
        raise DeviceNotFound(message, hint=f"It sees: {named}. {DRIVER}")
    if len(handles) > 1:
        message = f"there are {len(handles)} GPUs: {named}"
        raise InvalidRequest(message, hint=f"Choose one: --meter-serial {next(iter(handles))}")
    return next(iter(handles.values()))


def _sources(nvml: Any, handle: Any) -> list[Source]:
    """Return what this GPU tells, the best first: energy, power at a moment, mean power."""

    def field(identity: int) -> Callable[[], float]:
        def ask() -> float:
            value = nvml.nvmlDeviceGetFieldValues(handle, [(identity, SCOPE_GPU)])[0]
            if value.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(value.nvmlReturn)
            return float(value.value.uiVal) / 1e3

        return ask

    usage_s = AVERAGE_S if tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)) > GA100 else 0.0
    all_sources = [
        Source("gpu_j", 0.0, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
        Source("gpu-instant_w", 0.0, field(FIELD_INSTANT)),
        Source("gpu-average_w", AVERAGE_S, field(FIELD_AVERAGE)),
        Source("gpu-usage_w", usage_s, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
    ]
    found = []
    for source in all_sources:
        with contextlib.suppress(nvml.NVMLError):  # this GPU, or this driver, has it not
            source.ask()
            found.append(source)
    if {"gpu-instant_w", "gpu-average_w"} <= {source.column for source in found}:
        found = [source for source in found if source.column != "gpu-usage_w"]  # one of these two
    if not found:
        message = "this GPU tells neither its energy nor its power"
        raise Unsupported(message, hint="nvidia-smi -q -d POWER shows what it tells.")
    return found


def _reader(nvml: Any, handle: Any, sources: list[Source], rate_hz: float, *, simulated: bool) -> Polled:
    """Return the reader. Its counter's step is the median of the steps that were seen, known at the end."""
    steps = Steps()
    start_j = sources[0].ask() if sources[0].column == "gpu_j" else 0.0

    def ask() -> list[float]:
        try:
            values = [source.ask() for source in sources]
        except nvml.NVMLError as error:
            message = f"the GPU no longer answers: {error}"
            raise DeviceNotFound(message, hint=DRIVER) from None
        if sources[0].column == "gpu_j":
            values[0] -= start_j  # it counts since the driver was loaded
            steps.saw(values[0])
            if steps.height != reader.meta.channels["gpu"].step_j:
                counter = dataclasses.replace(reader.meta.channels["gpu"], step_j=steps.height)
                channels = {**reader.meta.channels, "gpu": counter}
                reader.meta = dataclasses.replace(reader.meta, channels=channels)
        return values

    channels = {
        source.column.rpartition("_")[0]: Channel("GPU and its memory", source.average_s, source=SOURCE)
        for source in sources
    }
    meta = Meta(
        meter="nvml",
        device=nvml.nvmlDeviceGetName(handle),
        serial=nvml.nvmlDeviceGetUUID(handle),
        firmware=f"driver {nvml.nvmlSystemGetDriverVersion()}",
        simulated=simulated,
        channels=channels,
    )
    reader = Polled(ask, [source.column for source in sources], meta, 1 / rate_hz)
    return reader
