"""A camera that stands in for depthai's: it runs no network, and what it answers is simulated.

It takes and gives messages as depthai 2 does: inputs by name, where Python's floats become FP16 and an array
of bytes stays one; an output as bytes with a table of where each tensor begins. It answers nothing where a
camera would refuse, and raises what depthai raises once the connection is lost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

GONE = "Communication exception - possible device error/misconfiguration. (X_LINK_ERROR)"


class NNData:
    """The inputs, as they would arrive at the camera."""

    def __init__(self) -> None:
        self.layers: dict[str, np.ndarray] = {}

    def setLayer(self, name: str, data: Any) -> None:  # noqa: N802 - depthai's name
        self.layers[name] = data if isinstance(data, np.ndarray) else np.array(data, np.float16)


@dataclasses.dataclass
class Answer:
    """The output `name`, after 64 bytes of something else."""

    name: str
    data: bytes

    def getAllLayers(self) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(name=self.name, offset=64)]

    def getData(self) -> np.ndarray:  # noqa: N802
        return np.frombuffer(bytes(64) + self.data, np.uint8)


class VirtualCamera:
    """A depthai.Device; `compute` makes the output of the inputs, or None where it refuses."""

    def __init__(self, name: str, compute: Callable[[dict[str, np.ndarray]], np.ndarray | None]) -> None:
        self._name = name
        self._compute = compute
        self._answers: list[Answer] = []
        self.plugged_in = True

    def getInputQueue(self, *_: Any, **__: Any) -> VirtualCamera:  # noqa: N802
        return self

    getOutputQueue = getInputQueue  # noqa: N815

    def send(self, message: NNData) -> None:
        if not self.plugged_in:
            raise RuntimeError(GONE)
        made = self._compute(message.layers)
        if made is not None:
            self._answers.append(Answer(self._name, made.tobytes()))

    def tryGet(self) -> Answer | None:  # noqa: N802
        return self._answers.pop() if self._answers else None

    def get(self) -> Answer:
        return self._answers.pop()
