"""A network on the stick, as `tools/benchmark.py` runs one."""

from __future__ import annotations

import collections
import functools
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tools import myriad_blob
from tools.myriad_blob import Blob
from tools.ncs import stick
from tools.ncs.compiler import MOST_STREAMS, UNITS
from tools.stage import InvalidRequest
from tools.usb import Host

if TYPE_CHECKING:
    import numpy as np

# Stages that only turn one type into another, change a layout, or are no work.
RETYPING = ("Convert", "Copy", "Permute", "Reshape", "Empty")
_CHIP = UNITS[stick.CHIP][0]  # its SHAVE processors and CMX slices


class StickSession:
    """A loaded network and its infer requests, whose inputs are memory of the plug-in.

    `about` is what its record says of it, see `describe`; `operations` what is executed, see `count`.
    """

    def __init__(self, network: Any, about: Mapping[str, Any], operations: Mapping[str, int]) -> None:
        self.network = network
        self.metadata = dict(about)
        self._requests = list(network.requests)
        self._inputs = [
            {name: blob.buffer for name, blob in request.input_blobs.items()} for request in self._requests
        ]
        self.input_shapes = {name: memory.shape for name, memory in self._inputs[0].items()}
        self._operations = operations
        self.infer = self._requests[0].infer
        self._ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        for index, request in enumerate(self._requests if len(self._requests) > 1 else ()):
            request.set_completion_callback(functools.partial(_ended, self._ended), index)

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs of all requests."""
        for inputs in self._inputs:
            for name, batch in batches.items():
                _fit_type(name, batch, inputs[name])
                inputs[name][...] = batch

    def output(self) -> np.ndarray:
        """Return a copy of the output of request 0, the one that `infer` runs."""
        return self.output_of(0)

    def output_of(self, request: int) -> np.ndarray:
        """Return a copy of a request's last output."""
        (blob,) = self._requests[request].output_blobs.values()
        return blob.buffer.copy()

    def start(self, request: int) -> None:
        """Start a request; the plug-in's own thread tells of its end."""
        self._requests[request].async_infer()

    def wait(self) -> int:
        """Return the next request that has ended."""
        request, status = self._ended.get()
        if status:
            message = f"Failed to read the result of request {request}: status {status}"
            raise RuntimeError(message)  # in the plug-in's words, which `inference_engine` knows
        return request

    def operations(self) -> Mapping[str, int]:
        """Count the stages on the chip, which all compute in FP16."""
        return self._operations


def _ended(requests: queue.SimpleQueue[tuple[int, int]], status: int, request: int) -> None:
    requests.put((request, status))


def open_blob(
    core: Any,
    blob: Path,
    device: str,
    host: Host,
    *,
    streams: int = 0,
    requests: int = 1,
    operations: Optional[Mapping[str, int]] = None,
) -> StickSession:
    """Load a compiled network on the stick; nothing of it is counted while it runs.

    `streams` are the inferences that the stick computes at a time, 0: as many as fit; `requests` are those in
    flight.

    Raises:
        DeviceNotFound: the stick cannot be opened.
        InvalidRequest: the blob is corrupt, for the other chip, or the chip has no room for the streams.
    """
    about = myriad_blob.read(blob)
    myriad_blob.require_chip(blob, about, stick.CHIP)
    streams = streams or fitting_streams(about)
    _check_units(about, streams)
    config = {"MYRIAD_THROUGHPUT_STREAMS": str(streams)}
    with stick.opening(host):
        network = core.import_network(str(blob), device, config, num_requests=requests)
    found = stick.identify(core, network, device, host)
    return StickSession(network, {**found, **describe(about, streams)}, operations or {})


def describe(about: Blob, streams: int) -> dict[str, Any]:
    """Return what a record says of a blob: what it takes of the chip, and what crosses USB."""
    return {
        "shaves": about.shaves,
        "cmx_slices": about.cmx_slices,
        "streams": streams,
        "transferred_bytes": {"input": about.input_bytes, "output": about.output_bytes},
    }


def count(plan: Mapping[str, Any]) -> Mapping[str, int]:
    """Count the stages of a plan by the type that they compute in."""
    types = (stage["type"] for stage in plan["stages"])
    return collections.Counter("FP16" for kind in types if not kind.startswith(RETYPING))


def fitting_streams(about: Blob) -> int:
    """Return how many streams of a blob fit on the chip; by the compiler's own choice 2, of 7 SHAVEs each."""
    return min(*(has // takes for has, takes in zip(_CHIP, (about.shaves, about.cmx_slices))), MOST_STREAMS)


def _check_units(about: Blob, streams: int) -> None:
    """Raise InvalidRequest if so many streams of this blob do not fit on the chip."""
    shaves, slices = _CHIP
    if streams < 1 or about.shaves * streams > shaves or about.cmx_slices * streams > slices:
        message = (
            f"{streams} streams of {about.shaves} SHAVE processors and {about.cmx_slices} CMX slices each "
            f"do not fit: the chip has {shaves} and {slices}"
        )
        raise InvalidRequest(message, hint=f"Convert for them: ncs.convert --set streams={max(streams, 1)}")


def _fit_type(name: str, batch: np.ndarray, memory: np.ndarray) -> None:
    """Raise InvalidRequest if integers would be made of fractions."""
    if batch.dtype.kind == "f" and memory.dtype.kind != "f":
        message = f"the blob takes {memory.dtype} as {name}, and the values are {batch.dtype}"
        raise InvalidRequest(message, hint="Convert with --set input_type=FP16, which is what is measured.")
