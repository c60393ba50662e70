"""A network that runs on a camera, and the messages that go there and back."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from tools import movidius, myriad_blob
from tools.myriad_blob import Blob, Tensor
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported, first_line
from tools.usb import Host

if TYPE_CHECKING:
    import numpy as np

SHAVES, CMX_SLICES = 16, 19  # of a Myriad X, as far as a network can have them
NUMPY_TYPES = {"FP16": "float16", "U8": "uint8", "FP32": "float32", "I32": "int32", "I8": "int8"}
SENT_BYTES = {"FP16": 2, "U8": 1}  # the types that depthai's NNData carries to a camera
ALIGNMENT = 64  # of each input in a message (depthai-core 2, NNData.hpp)
SENDING, RECEIVING = "in", "out"  # names of the two streams
FIRST_ANSWER_S = 30.0  # far more than any network takes
POLL_S = 0.0005


@dataclasses.dataclass
class DeviceLog:
    """What the chip's firmware says, as it comes, from a thread of depthai's."""

    notes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)

    def add(self, message: Any) -> None:
        """Take a depthai.LogMessage."""
        kinds = {"WARN": self.warnings, "ERR": self.errors, "CRITICAL": self.errors}
        kinds.get(message.level.name, self.notes).append(f"{message.nodeIdName} {message.payload}".strip())


class OakSession:
    """A network on a camera; one inference is on its way at a time.

    `device` is a depthai.Device that runs `camera.pipeline`, and `log` goes on while it does.
    """

    def __init__(self, dai: Any, device: Any, about: Blob, log: DeviceLog) -> None:
        self._dai = dai
        self._inputs = about.inputs
        (self._given,) = about.outputs
        self._stages = about.stages
        self._log = log
        self._sending = device.getInputQueue(SENDING, maxSize=1, blocking=True)
        self._receiving = device.getOutputQueue(RECEIVING, maxSize=1, blocking=True)
        self.input_shapes = {tensor.name: tensor.shape for tensor in about.inputs}
        self.metadata: dict[str, Any] = {
            "shaves": about.shaves,
            "cmx_slices": about.cmx_slices,
            "stages": about.stages,
            "device_log": log.notes,
            "warnings": log.warnings,
        }
        self.infer: Callable[[], object] = self._infer_first

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Make the message that `infer` sends.

        Raises:
            InvalidRequest: an input of bytes is given other numbers.
        """
        self._message = self._dai.NNData()
        for tensor in self._inputs:
            self._message.setLayer(tensor.name, _as_layer(batches[tensor.name], tensor))

    def output(self) -> np.ndarray:
        """Return a copy of the output."""
        import numpy as np

        places = {layer.name: layer.offset for layer in self._answer.getAllLayers()}
        if self._given.name not in places:
            message = f"the camera answered with {', '.join(places) or 'nothing'}, not {self._given.name}"
            raise StageError(message, hint="Convert the network again, with ncs.convert.")
        shape, kind = self._given.shape, NUMPY_TYPES[self._given.precision]
        data = np.asarray(self._answer.getData())
        values = np.frombuffer(data, kind, math.prod(shape), places[self._given.name])
        return values.reshape(shape).astype(np.float32)

    def operations(self) -> Mapping[str, int]:
        """Count the stages; all compute in FP16. Those that only convert cannot be told from the others."""
        return {"FP16": self._stages}

    def _infer(self) -> None:
        try:
            self._sending.send(self._message)
            self._answer = self._receiving.get()
        except RuntimeError as error:
            raise self._gone(error) from error

    def _infer_first(self) -> None:
        """Wait for the first answer with a limit: what a camera refuses it logs, and never answers."""
        until = time.monotonic() + FIRST_ANSWER_S
        try:
            self._sending.send(self._message)
            answer = self._receiving.tryGet()
            while answer is None and not self._log.errors and time.monotonic() < until:
                time.sleep(POLL_S)
                answer = self._receiving.tryGet()
        except RuntimeError as error:
            raise self._gone(error) from error
        if answer is None:
            said = "; ".join(self._log.errors) or f"no answer within {FIRST_ANSWER_S:g} s"
            message = f"the camera does not run the network: {said}"
            raise Unsupported(message, hint="Convert it for fewer SHAVEs: ncs.convert, shaves=6.")
        self._answer = answer
        self.infer = self._infer

    def _gone(self, error: RuntimeError) -> DeviceNotFound:
        said = "; ".join(self._log.errors) or first_line(error)
        message = f"the camera went away while it was used: {said}"
        return DeviceNotFound(message, hint=movidius.why_not_back(Host.current()))


def suitable(path: Path) -> Blob:
    """Return what a blob says of itself.

    Raises:
        InvalidRequest: it is corrupt, or for a Myriad 2.
        Unsupported: the chip could not run it, or depthai not feed it.
    """
    about = myriad_blob.read(path)
    myriad_blob.require_chip(path, about, "2480")
    not_sent = [tensor for tensor in about.inputs if tensor.precision not in SENT_BYTES]
    message = ""
    if about.shaves > SHAVES or about.cmx_slices > CMX_SLICES:
        takes = f"{about.shaves} SHAVEs and {about.cmx_slices} CMX slices"
        message = f"{path.name} takes {takes}; a Myriad X has {SHAVES} and {CMX_SLICES}"
    elif len(about.outputs) != 1:
        message = f"{path.name} has {len(about.outputs)} outputs, not one"
    elif not_sent:
        message = f"the input {not_sent[0].name} is {not_sent[0].precision}; depthai sends FP16 and U8 only"
    if message:
        raise Unsupported(message, hint="Convert the network again, with ncs.convert.")
    return about


def message_bytes(about: Blob) -> int:
    """Return the size of a message with all inputs."""
    sizes = [math.prod(tensor.shape) * SENT_BYTES[tensor.precision] for tensor in about.inputs]
    return sum(math.ceil(size / ALIGNMENT) * ALIGNMENT for size in sizes)


def _as_layer(values: np.ndarray, tensor: Tensor) -> Any:
    """Return values as `setLayer` takes them for the tensor's type, which it tells by theirs."""
    import numpy as np

    if tensor.precision == "FP16":
        return values.ravel().tolist()  # Python's floats are sent as FP16
    if ((values < 0) | (values > 255) | (values != np.rint(values))).any():
        message = f"the input {tensor.name} takes bytes, and is given other numbers than 0, 1, ... 255"
        raise InvalidRequest(message, hint="Convert the network for inputs in FP16: input_type=FP16.")
    return values.ravel().astype(np.uint8)
