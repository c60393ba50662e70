"""A stand-in for OpenVINO 2021.4's MYRIAD plug-in with a stick, behind the interface of `IECore`.

Real are the compiler (so `export` gives the true blob), the function (by the CPU plug-in, in float32), the
interface's classes' shapes, and the bus (tests/lab/virtual_usb.py). Made up are the times. It answers as the
plug-in's sources say: of an imported blob all stages are UNKNOWN (myriad_executable_network.cpp), counters
are those of perf_report.cpp, errors those of myriad_executor.cpp. All that comes of it is simulated.

It runs in the environment of the tool `ncs`: `python -m tests.lab.virtual_stick`, see `main`.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from tests.lab.virtual_usb import NCS2, VirtualHost
from tools import myriad_blob
from tools.benchmark import Target
from tools.ncs import compiler, inference_engine, on_stick, stage_plan
from tools.stage import Result, StageError

NOT_OPENED = "Can not init Myriad device: NC_ERROR"
GONE = "Failed to queue inference: NC_ERROR"
TYPES = {"FP16": np.float16, "FP32": np.float32, "U8": np.uint8}
STAGE_US, RECEIVE_US = 50, 30
TRANSPORT_S = 0.001
ROM, BOOTED = "1-2", "2-2"  # ports, before the boot and after it


class VirtualCore:
    """An `IECore` with one stick; `fault` is what goes wrong.

    Faults: `busy` and `lost` (it cannot be opened; it does not come back with its firmware), `unplugged`
    (after `unplugged_after` inferences), `constant` (the first answer for ever), `cpu` (the network runs on
    something else).
    """

    def __init__(self, virtual: VirtualHost, onnx: Path, fault: str = "", unplugged_after: int = 0) -> None:
        self.virtual, self.onnx, self.fault, self.unplugged_after = virtual, onnx, fault, unplugged_after
        self.real = inference_engine.core()
        self.loads: list[dict[str, Any]] = []
        self.inferences, self._lock = 0, threading.Lock()
        self.booted = False
        self.holder: Any = lambda: None  # a reference to the network on the stick, which keeps nothing alive

    def read_network(self, *paths: str) -> Any:
        return self.real.read_network(*paths)

    def import_network(self, path: str, device: str, config: Any, num_requests: int = 1) -> VirtualNetwork:
        self._open("import", device, config)
        return VirtualNetwork(self, Path(path).read_bytes(), {}, [], num_requests)

    def load_network(self, network: Any, device: str, config: Any, num_requests: int = 1) -> VirtualNetwork:
        options = compiler.Options(
            "2480",
            int(config["MYRIAD_NUMBER_OF_SHAVES"]),
            int(config["MYRIAD_NUMBER_OF_CMX_SLICES"]),
            int(config["MYRIAD_THROUGHPUT_STREAMS"]),
        )
        with tempfile.TemporaryDirectory() as folder:
            blob = Path(folder, "made.blob")
            dot = compiler.compile_network(self.real, network, options, blob)
            data = blob.read_bytes()
        self._open("load", device, config)
        return VirtualNetwork(self, data, config, stage_plan.parse(dot, [])["stages"], num_requests)

    def get_metric(self, device: str, name: str) -> Any:
        return {"AVAILABLE_DEVICES": ["2.2-ma2480"], "FULL_DEVICE_NAME": "Intel Movidius Myriad X VPU"}[name]

    def count(self) -> None:
        """Count an inference; raise if it is one too many."""
        with self._lock:
            self.inferences += 1
            if self.fault == "unplugged" and self.inferences > self.unplugged_after:
                self.virtual.unplug(BOOTED)
                self.fault = "gone"
        if self.fault == "gone":
            raise RuntimeError(GONE)

    def _open(self, how: str, device: str, config: Any) -> None:
        assert self.holder() is None, "the network before is still on the stick"
        if self.fault == "busy":
            raise RuntimeError(NOT_OPENED)
        if self.fault == "lost":
            self.virtual.unplug(ROM)
            raise RuntimeError(NOT_OPENED)
        if not self.booted:
            self.virtual.boot(ROM, BOOTED)
            self.virtual.claim(BOOTED)
        self.booted = True
        self.loads.append({"how": how, "device": device, "config": dict(config)})


class VirtualNetwork:
    """An `ExecutableNetwork`."""

    def __init__(self, core: VirtualCore, data: bytes, config: Any, stages: Any, requests: int) -> None:
        self.core, self._data, self.config = core, data, config
        self.steps = [list(group) for _, group in itertools.groupby(stages, key=lambda stage: stage["step"])]
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.about = myriad_blob.read(Path(file.name))
        config_cpu = {"ENFORCE_BF16": "NO", "CPU_THREADS_NUM": "1"}
        network = core.real.read_network(str(core.onnx))
        self._cpu = core.real.load_network(network, "CPU", config_cpu, num_requests=requests)
        self.requests = [VirtualRequest(self, request) for request in self._cpu.requests]
        core.holder = weakref.ref(self)

    def get_metric(self, name: str) -> Any:
        if self.core.fault == "cpu":
            return self._cpu.get_metric(name)
        return {"SUPPORTED_METRICS": ["DEVICE_THERMAL"], "DEVICE_THERMAL": 41.5}[name]

    def export(self, path: str) -> None:
        Path(path).write_bytes(self._data)


class VirtualRequest:
    """An `InferRequest` whose memory has the types of the blob."""

    def __init__(self, network: VirtualNetwork, cpu: Any) -> None:
        core = network.core
        self._core, self._about, self._config, self._steps = (
            core,
            network.about,
            network.config,
            network.steps,
        )
        self._cpu = cpu
        self.input_blobs = {
            tensor.name: Memory(np.zeros(tensor.shape, TYPES[tensor.precision]))
            for tensor in network.about.inputs
        }
        self.output_blobs: dict[str, Memory] = {}
        self.latency = 0.0

    def infer(self) -> None:
        core, begin = self._core, time.perf_counter()
        core.count()
        for name, memory in self.input_blobs.items():
            self._cpu.input_blobs[name].buffer[...] = memory.buffer
        self._cpu.infer()
        if not (core.fault == "constant" and self.output_blobs):
            self.output_blobs = {
                tensor.name: Memory(
                    self._cpu.output_blobs[tensor.name].buffer.astype(TYPES[tensor.precision])
                )
                for tensor in self._about.outputs
            }
        time.sleep(TRANSPORT_S + STAGE_US * self._about.stages / 1e6)
        self.latency = (time.perf_counter() - begin) * 1e3

    def set_completion_callback(self, callback: Any, data: Any) -> None:
        self._callback = lambda status: callback(status, data)

    def async_infer(self) -> None:
        def run() -> None:
            try:
                self.infer()
                self._callback(0)
            except RuntimeError:
                self._callback(-1)

        threading.Thread(target=run, daemon=True).start()

    def get_perf_counts(self) -> dict[str, Any]:
        if self._config.get("PERF_COUNT") != "YES":
            return {"UNKNOWN": _entry("UNKNOWN", "UNKNOWN", STAGE_US * self._about.stages, 1)}
        entries = {"<Receive-Tensor>": _entry("<Receive-Tensor>", "<Receive-Tensor>", RECEIVE_US, 0)}
        for index, (stage, *injected) in enumerate(self._steps, 1):
            name, kind = stage["name"], stage["type"]
            for other in injected:
                name, kind = f"{name} + injected[{other['name']}]", f"{kind} + injected[{other['type']}]"
            entries[name] = _entry(kind, stage["layer_type"] or "<Extra>", STAGE_US, index)
        entries["<none>"] = {**_entry("<none>", "ReLU", 0, 0), "status": "OPTIMIZED_OUT"}
        return entries


class Memory:
    """A `Blob`."""

    def __init__(self, buffer: np.ndarray) -> None:
        self.buffer = buffer


def _entry(exec_type: str, layer_type: str, real_time: int, index: int) -> dict[str, Any]:
    return {
        "status": "EXECUTED",
        "exec_type": exec_type,
        "layer_type": layer_type,
        "real_time": real_time,
        "cpu_time": 0,
        "execution_index": index,
    }


def main(about: dict[str, Any]) -> None:
    """Do what a command of the tool does, with a virtual stick; leave result.json and the loads.json.

    `about` is {"folder", "files", "fault", "target", "call", "arguments"}: `call` is a function of
    tools/ncs/on_stick.py, of whose arguments those that begin with `@` are files in `folder`.
    """
    folder = Path(about["folder"])
    virtual = VirtualHost(folder / "host")
    virtual.plug(ROM, NCS2)
    files = {name: Path(path) for name, path in about["files"].items()}
    core = VirtualCore(virtual, files["onnx"], **about["fault"])
    plan = stage_plan.read(files.pop("plan"), myriad_blob.read(files["blob"]))
    target = Target(
        **{"runtime": "ncs", "device": "MYRIAD", "precision": "fp16", "threads": 0, **about["target"]}
    )
    subject = on_stick.Subject(core=core, host=virtual.host, plan=plan, target=target, **files)

    arguments = [Path(folder, one[1:]) if str(one).startswith("@") else one for one in about["arguments"]]
    first = (core, virtual.host, subject.blob) if about["call"] in ("infer", "label") else (subject,)
    try:
        result = getattr(on_stick, about["call"])(*first, *arguments)
    except StageError as error:
        result = Result.of_error(error, {})
    result.write(folder)
    (folder / "loads.json").write_text(json.dumps(core.loads))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
