"""SIMULATED: stands for the Python API of NCSDK 2.x (NCAPI v2); the names are its, the stick is stick.py."""

from enum import Enum

import numpy as np
import stick


class Status(Enum):
    """Codes of mvnc.h, version 2."""

    ERROR = -2
    DEVICE_NOT_FOUND = -4


class DeviceOption(Enum):
    """What can be asked of a device."""

    RO_HW_VERSION = 2015


class DeviceHwVersion(Enum):
    """The two chips."""

    MA2450 = 0
    MA2480 = 1


def enumerate_devices():
    """Return handles of sticks."""
    return [] if stick.fault() == "no stick" else [1]


class Device:
    """A stick."""

    def __init__(self, handle):
        self.handle = handle

    def open(self):
        """Boot it."""

    def get_option(self, option):
        """Return an option's value."""
        assert option is DeviceOption.RO_HW_VERSION
        return 1 if stick.fault() == "second generation" else 0


class Fifo:
    """A queue."""

    def read_elem(self):
        """Return the oldest output, flat float32."""
        return self.result, None


class Graph:
    """A network on it."""

    def __init__(self, name):
        self.name = name

    def allocate_with_fifos(self, device, data):
        """Put it on the stick; return its queues."""
        self.network = stick.Network(data)
        return Fifo(), Fifo()

    def queue_inference_with_fifo_elem(self, input_fifo, output_fifo, tensor, user_obj):
        """Start an inference; tensors are float32."""
        assert tensor.dtype == np.float32
        try:
            output_fifo.result = self.network.infer(tensor).astype(np.float32).ravel()
        except OSError:
            raise Exception(Status.ERROR) from None  # noqa: TRY002 - as mvncapi.py does
