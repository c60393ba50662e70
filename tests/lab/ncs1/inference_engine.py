"""SIMULATED: stands for the Python API of OpenVINO 2020.3's Inference Engine with the plug-in MYRIAD."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import stick


class IECore:
    """What knows the plug-ins."""

    @property
    def available_devices(self):
        """Return their names."""
        return ["CPU"] if stick.fault() == "no stick" else ["CPU", "MYRIAD"]

    def get_versions(self, device):
        """Return a plug-in's version."""
        return {device: SimpleNamespace(build_number="2020.3-simulated")}

    def read_network(self, model, weights):
        """Read an IR."""
        assert Path(weights).exists()
        network = stick.Network(Path(model).read_text())
        n, h, w, c = network.shape
        inputs = {network.name: SimpleNamespace(shape=[n, c, h, w])}
        return SimpleNamespace(inputs=inputs, outputs={network.out: None}, network=network)

    def load_network(self, network, device_name, config, num_requests):
        """Put it on the stick."""
        assert (device_name, num_requests) == ("MYRIAD", 1)
        assert config["VPU_MYRIAD_PLATFORM"] == "VPU_MYRIAD_2450"
        return SimpleNamespace(requests=[Request(network.network, "PERF_COUNT" in config)])


class Request:
    """An inference."""

    def __init__(self, network, counts):
        self.network, self.counts = network, counts

    def infer(self, inputs):
        """Run it, on NCHW."""
        try:
            [batch] = inputs.values()
            self.outputs = {self.network.out: self.network.infer(np.moveaxis(batch, 1, -1))}
        except OSError:
            message = "Failed to read tensor from FIFO: NC_ERROR"
            raise RuntimeError(message) from None

    def get_perf_counts(self):
        """Return the layers' times."""
        assert self.counts
        kind = {"layer_type": "Convolution", "exec_type": "Conv"}
        said = {**kind, "status": "EXECUTED", "real_time": 17320, "execution_index": "1"}
        skipped = {**kind, "status": "OPTIMIZED_OUT", "real_time": 0, "execution_index": "0"}
        return {"simulated": said, "relu": skipped}
