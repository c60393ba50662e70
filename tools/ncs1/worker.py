"""Runs a network on the first-generation stick, in the SDK's own Python (3.5 to 3.7), for tools/ncs1/link.py.

Not imported by anything: `link` starts it. What it is asked comes by one pipe, what it answers goes by
another, because SDKs print on standard output. A message is a letter, a length (4 bytes, little-endian) and
that many bytes. It is asked

    f  the input, float32         (answer: nothing)
    i  one inference              (answer: nothing)
    o  the last inference's output (answer: float32)
    p  time of the layers         (answer: JSON)

and answers `+` with what was asked for, or `-` with what went wrong. Its first message, unasked, is `+` with
JSON: `device_name`, `versions`, and `inputs` (name -> shape) where the SDK says them.

None of this could be tried on a stick; it follows the SDKs' manuals (NCSDK: docs/ncapi; OpenVINO 2020.3:
inference_engine/ie_bridges/python).
"""

import json
import os
import platform
import struct
import sys
from pathlib import Path

import numpy as np

NO_STICK = "no Neural Compute Stick is there"
PLATFORM = {"VPU_MYRIAD_PLATFORM": "VPU_MYRIAD_2450"}  # never a Myriad X that is plugged in besides


class Mvnc1:
    """NCSDK 1.x: NCAPI v1, docs/ncapi/ncapi1/py_api."""

    def __init__(self, api, graph):
        found = api.EnumerateDevices()
        if not found:
            raise RuntimeError(NO_STICK)
        self.device = api.Device(found[0])
        self.device.OpenDevice()
        self.graph = self.device.AllocateGraph(Path(graph).read_bytes())
        self.facts = {"device_name": "Myriad 2 (" + found[0] + ")", "inputs": None}

    def feed(self, payload):
        """Set the input."""
        self.tensor = np.frombuffer(payload, np.float32).astype(np.float16)

    def infer(self):
        """Run one inference."""
        self.graph.LoadTensor(self.tensor, None)
        self.result, _ = self.graph.GetResult()

    def output(self):
        """Return the last output."""
        return self.result.astype(np.float32).tobytes()


class Mvnc2:
    """NCSDK 2.x: NCAPI v2, docs/ncapi/ncapi2/py_api."""

    def __init__(self, api, graph):
        found = api.enumerate_devices()
        if not found:
            raise RuntimeError(NO_STICK)
        self.device = api.Device(found[0])
        self.device.open()
        hardware = self.device.get_option(api.DeviceOption.RO_HW_VERSION)
        if hardware != api.DeviceHwVersion.MA2450.value:
            raise RuntimeError("the device is not a Myriad 2: hardware version " + str(hardware))
        self.graph = api.Graph("network")
        self.fifos = self.graph.allocate_with_fifos(self.device, Path(graph).read_bytes())
        self.facts = {"device_name": "Myriad 2", "inputs": None}

    def feed(self, payload):
        """Set the input; the queue takes float32 and turns it into float16."""
        self.tensor = np.frombuffer(payload, np.float32)

    def infer(self):
        """Run one inference."""
        self.graph.queue_inference_with_fifo_elem(self.fifos[0], self.fifos[1], self.tensor, None)
        self.result, _ = self.fifos[1].read_elem()

    def output(self):
        """Return the last output."""
        return self.result.astype(np.float32).tobytes()


class InferenceEngine:
    """OpenVINO 2020.3: its plug-in MYRIAD, on a Myriad 2 and on nothing else."""

    def __init__(self, xml, weights):
        from openvino.inference_engine import IECore

        self.core = IECore()
        if not any(name.startswith("MYRIAD") for name in self.core.available_devices):
            raise RuntimeError(NO_STICK)
        self.network = self.core.read_network(model=xml, weights=weights)
        [self.name] = self.network.inputs
        [self.out] = self.network.outputs
        self.shape = list(self.network.inputs[self.name].shape)
        self.load(PLATFORM)
        version = self.core.get_versions("MYRIAD")["MYRIAD"].build_number
        self.facts = {
            "device_name": "Myriad 2",
            "inputs": {self.name: self.shape},
            "versions": {"MYRIAD plug-in": version},
        }

    def load(self, config):
        """Put the network on the stick."""
        self.loaded = self.core.load_network(
            network=self.network, device_name="MYRIAD", config=config, num_requests=1
        )
        self.request = self.loaded.requests[0]

    def feed(self, payload):
        """Set the input."""
        self.tensor = {self.name: np.frombuffer(payload, np.float32).reshape(self.shape)}

    def infer(self):
        """Run one inference."""
        self.request.infer(self.tensor)

    def output(self):
        """Return the last output."""
        return np.asarray(self.request.outputs[self.out], np.float32).tobytes()

    def profile(self):
        """Return the layers' times of a warm inference, with the counters on, as JSON."""
        self.loaded = self.request = None  # the stick takes one network
        self.load(dict(PLATFORM, PERF_COUNT="YES"))
        for _ in range(2):
            self.infer()
        counts = self.request.get_perf_counts()
        done = [item for item in counts.items() if item[1]["status"] == "EXECUTED"]
        done.sort(key=lambda item: int(item[1]["execution_index"]))
        return json.dumps([_layer(name, said) for name, said in done]).encode()


def _layer(name, said):
    """Return a layer as tools/profile.py has it."""
    time_ms = int(said["real_time"]) / 1000.0  # the counter is in microseconds
    return {"name": name, "type": said["layer_type"], "executed_as": said["exec_type"], "time_ms": time_ms}


def mvnc(graph):
    """Open the stick with whichever of the two NCAPIs there is."""
    from mvnc import mvncapi

    return (Mvnc2 if hasattr(mvncapi, "enumerate_devices") else Mvnc1)(mvncapi, graph)


def serve(requests, answer, start, arguments):
    """Open the network, then do what is asked until the pipe is closed."""
    network = start(*arguments)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    versions.update(network.facts.get("versions", {}))
    answer(b"+", json.dumps(dict(network.facts, versions=versions)).encode())
    calls = {
        b"i": lambda payload: network.infer(),
        b"o": lambda payload: network.output(),
        b"f": network.feed,
        b"p": lambda payload: network.profile(),
    }
    while True:
        head = requests.read(5)
        if len(head) < 5:
            return
        answer(b"+", calls[head[:1]](requests.read(struct.unpack("<I", head[1:])[0])) or b"")


def main():
    """Start: KIND, the two pipes' numbers, then what the kind takes."""
    kind, receive, send = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with os.fdopen(receive, "rb") as requests, os.fdopen(send, "wb") as answers:

        def answer(mark, payload):
            answers.write(mark + struct.pack("<I", len(payload)) + payload)
            answers.flush()

        try:
            serve(requests, answer, {"ncsdk": mvnc, "openvino": InferenceEngine}[kind], sys.argv[4:])
        except Exception as error:  # an SDK raises what it likes; the other side must hear of it
            answer(b"-", (type(error).__name__ + ": " + str(error)).encode())
            raise


if __name__ == "__main__":
    main()
