"""Where the time of an inference goes: stage by stage on the chip, on the way there and back, on the host.

The counters are read in a load of the network of their own, after the timed runs. Of an imported blob the
plug-in does not know the stages' names (`ExecutableNetwork::Import` calls them UNKNOWN), so the network is
compiled anew as it is loaded; that this makes the same blob, byte for byte, is checked.

Source: OpenVINO 2021.4, vpu: perf_report.cpp (an entry for each stage, in order, in microseconds),
get_meta_data.cpp (names and types), myriad_executable_network.cpp.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import myriad_blob
from tools.ncs import compiler, inference_engine, stick
from tools.ncs.session import StickSession, count, describe, fitting_streams
from tools.profile import Layer
from tools.stage import InvalidRequest
from tools.usb import Host

COUNTING = {
    "PERF_COUNT": "YES",
    "MYRIAD_PERF_REPORT_MODE": "MYRIAD_PER_STAGE",
    "MYRIAD_ENABLE_RECEIVING_TENSOR_TIME": "YES",
}
RECEIVE = "<Receive-Tensor>"  # the chip's time to take the input in; no stage of the network
LEAST, MOST, ENOUGH_S = 3, 20, 2.0  # inferences that are counted, and for how long
ABOUT = (
    "Mean of {n} inferences by the counters of the stick's firmware, read in a load of their own after the "
    "timed runs. What USB and the host take is not in them."
)


@dataclasses.dataclass(frozen=True)
class Inference:
    """One that was counted: the time that our call took, that of the plug-in's part of it, and its stages.

    `stages` are the plug-in's entries in the order of execution, with `name` and `time_ms`.
    """

    call_ms: float
    plugin_ms: float
    receive_ms: float
    stages: Sequence[Mapping[str, Any]]

    @property
    def device_ms(self) -> float:
        """What the chip's stages took."""
        return sum(stage["time_ms"] for stage in self.stages)


def open_counted(
    core: Any, onnx: Path, blob: Path, plan: Mapping[str, Any], device: str, host: Host
) -> StickSession:
    """Compile the network that `blob` was made of, and load it on the stick with its counters on.

    Raises:
        InvalidRequest: that does not make the same blob.
    """
    about = myriad_blob.read(blob)
    streams = fitting_streams(about)
    kind = next((tensor.precision for tensor in about.inputs if tensor.precision != "I32"), "FP16")
    options = compiler.Options(stick.CHIP, about.shaves, about.cmx_slices, streams, kind)
    source = inference_engine.read_network(core, onnx)
    compiler.prepare(source, options)
    with stick.opening(host):
        network = core.load_network(source, device, config={**options.config(), **COUNTING})
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "counted.blob")
        network.export(str(made))
        if made.read_bytes() != blob.read_bytes():
            message = f"{onnx.name} does not compile to {blob.name}, so its stages cannot be told apart"
            hint = "Give the network that it was converted from; mean and scale cannot be built in."
            raise InvalidRequest(message, hint=hint)
    return StickSession(network, describe(about, streams), count(plan))


def take(session: StickSession) -> list[Inference]:
    """Run inferences on an input that is set, one after the other; return the middle half by their time.

    So one that the host interrupted has no part in the means.
    """
    request = session.network.requests[0]
    session.infer()  # the first one allocates
    found: list[Inference] = []
    begin = time.perf_counter()
    while len(found) < LEAST or (len(found) < MOST and time.perf_counter() - begin < ENOUGH_S):
        before = time.perf_counter_ns()
        session.infer()
        call_ms = (time.perf_counter_ns() - before) / 1e6
        entries = request.get_perf_counts()
        receive_ms = entries.pop(RECEIVE, {"real_time": 0})["real_time"] / 1e3
        executed = [
            {**entry, "name": name, "time_ms": entry["real_time"] / 1e3}
            for name, entry in entries.items()
            if entry["status"] == "EXECUTED"
        ]
        executed.sort(key=lambda stage: stage["execution_index"])
        found.append(Inference(call_ms, request.latency, receive_ms, executed))
    found.sort(key=lambda inference: inference.call_ms)
    quarter = len(found) // 4
    return found[quarter : len(found) - quarter]


def breakdown(inferences: Sequence[Inference]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the parts of an inference as metrics, and what else is to be known of them.

    Of the mean of the calls, `device` are the stages on the chip; `transport` is what else the plug-in's own
    clock (`InferRequest.latency`) has: USB both ways, its queues, and the copies on the host; `host` is what
    the call takes outside of that. Where the stages sum up to more than the call there is none.
    """
    call, plugin, device, receive = (
        sum(values) / len(inferences)
        for values in zip(*((i.call_ms, i.plugin_ms, i.device_ms, i.receive_ms) for i in inferences))
    )
    about: dict[str, Any] = {"n": len(inferences), "call_ms": call, "receive_tensor_ms": receive}
    parts = {"device": device, "transport": plugin - device, "host": call - plugin}
    if min(parts.values()) < 0:
        text = f"The counters do not fit: stages {device:.3f} ms, plug-in {plugin:.3f} ms, call {call:.3f} ms"
        return {}, {"counted": about, "warnings": [f"{text}; so there is no breakdown."]}
    return {f"breakdown_{part}_ms": value for part, value in parts.items()}, {"counted": about}


def layers(inferences: Sequence[Inference], plan: Mapping[str, Any]) -> tuple[list[Layer], list[str]]:
    """Return the mean time of each stage with the nodes of the source network, and warnings.

    A counter belongs to a step of the plan by its place in the order of execution: both are of the same
    blob. Names are no help, because the compiler numbers layers without one anew in each process.
    """
    steps = [list(stages) for _, stages in itertools.groupby(plan["stages"], key=lambda stage: stage["step"])]
    first = inferences[0].stages
    warnings = []
    if len(first) != len(steps) or not all(map(_fits, first, steps)):
        warnings = [f"{len(first)} counters do not fit the plan's {len(steps)} steps: no node is named."]
        steps = [[] for _ in first]
    found = [
        Layer(
            name=entry["name"],
            type=entry["layer_type"],
            executed_as=entry["exec_type"],
            time_ms=sum(inference.stages[index]["time_ms"] for inference in inferences) / len(inferences),
            source=", ".join(_nodes(stages)),
        )
        for index, (entry, stages) in enumerate(zip(first, steps))
    ]
    return found, warnings


def _fits(entry: Mapping[str, Any], stages: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a counter is of one of the stages; `A + injected[B]` are two that run at the same time."""
    return entry["exec_type"].partition(" ")[0] in {stage["type"] for stage in stages}


def _nodes(stages: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    return dict.fromkeys(stage["node"] for stage in stages if stage["node"])
