"""SIMULATED: stands for the Python API of NCSDK 1.x (NCAPI v1); the names are its, the stick is stick.py."""

from enum import Enum

import numpy as np
import stick


class Status(Enum):
    """Codes of mvnc.h, version 1."""

    ERROR = -2
    DEVICE_NOT_FOUND = -4


def EnumerateDevices():  # noqa: N802 - the API's name
    """Return the names of sticks."""
    return [] if stick.fault() == "no stick" else ["2"]


class Device:
    """A stick."""

    def __init__(self, name):
        self.name = name

    def OpenDevice(self):  # noqa: N802
        """Boot it."""

    def AllocateGraph(self, data):  # noqa: N802
        """Put a network on it."""
        return Graph(data)


class Graph:
    """A network on it."""

    def __init__(self, data):
        self.network = stick.Network(data)

    def LoadTensor(self, tensor, userobj):  # noqa: N802
        """Start an inference; tensors are float16."""
        assert tensor.dtype == np.float16
        self.tensor = tensor

    def GetResult(self):  # noqa: N802
        """Return the output, flat float16."""
        try:
            return self.network.infer(self.tensor).astype(np.float16).ravel(), None
        except OSError:
            raise Exception(Status.ERROR) from None  # noqa: TRY002 - as mvncapi.py does
