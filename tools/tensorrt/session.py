"""An engine that TensorRT's Python module runs: the session that tools.benchmark measures.

An inference is, on one stream: the inputs' copies to the GPU, the engine, the outputs' copies back, and the
wait for their end. It is the order of samples/python/common_runtime.py of NVIDIA/TensorRT (Apache-2.0). A
CUDA graph is of the engine alone, as trtexec's.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from tools import profile as layer_times
from tools.stage import InvalidRequest, StageError, Unsupported
from tools.tensorrt import bindings, cuda

if TYPE_CHECKING:
    import numpy as np

NO_GRAPH = "TensorRT's work on this network could not be captured as a CUDA graph: measured without."
AT_LEAST = 10  # runs, of a part that is timed by itself
PARTS = ("h2d", "compute", "d2h")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or an output of an engine.

    Attributes:
        host: page-locked memory; `address` is where it is, `size` its bytes.
        device: the address on the GPU.
    """

    name: str
    is_input: bool
    shape: Tuple[int, ...]
    host: np.ndarray
    address: int
    device: int
    size: int


class Session:
    """An engine with its buffers; see tools.benchmark.Session.

    Raises:
        InvalidRequest: it is of another place, or has several outputs.
        Unsupported: it has a tensor of no fixed shape, or of a type that NumPy has not.
        DeviceNotFound, StageError: CUDA or TensorRT failed.
    """

    def __init__(
        self, engine: Path, dla_core: int, *, cuda_graph: bool, transfers: bool, spin_wait: bool
    ) -> None:
        self._trt, _ = bindings.find()
        self._cuda, self._said = cuda.driver(), bindings.logger(self._trt)
        self._engine = bindings.load(self._trt, self._said, engine, dla_core)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise bindings.failed(self._trt, self._said, "make room for the engine")
        self._tensors = [_tensor(*about) for about in _described(self._trt, self._engine)]
        self._inputs = [tensor for tensor in self._tensors if tensor.is_input]
        self._outputs = [tensor for tensor in self._tensors if not tensor.is_input]
        if len(self._outputs) != 1:
            message = f"the engine has {len(self._outputs)} outputs, and one can be compared"
            raise InvalidRequest(message, hint="Convert a network of one output.")
        self._stream, self._end = cuda.stream(), cuda.event(polled=spin_wait)
        self._marks = [cuda.event() for _ in range(len(PARTS) + 1)]
        self._transfers = transfers
        self._execute = self._executor()
        self._enqueue = self._execute
        self.input_shapes = {tensor.name: tensor.shape for tensor in self._inputs}
        self.metadata: Dict[str, Any] = {"cuda_graph": False, "warnings": []}
        self.layers: Mapping[str, int] = {}
        if cuda_graph:
            self._capture()

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs; without transfers they are on the GPU from now on."""
        for tensor in self._inputs:
            tensor.host.reshape(tensor.shape)[...] = batches[tensor.name]
        if not self._transfers:
            self._send()
            self._cuda.cuStreamSynchronize(self._stream)

    def infer(self) -> None:
        """Run one inference, and wait for its end."""
        if self._transfers:
            self._send()
        self._enqueue()
        if self._transfers:
            self._fetch()
        self._cuda.cuEventRecord(self._end, self._stream)
        self._cuda.cuEventSynchronize(self._end)

    def output(self) -> np.ndarray:
        """Return a copy of the last inference's output, as float32."""
        import numpy as np

        if not self._transfers:
            self._fetch()
            self._cuda.cuStreamSynchronize(self._stream)
        (tensor,) = self._outputs
        return np.array(tensor.host, np.float32).reshape(tensor.shape)

    def operations(self) -> Mapping[str, int]:
        """Count the layers by type, as they were found when the engine was built."""
        return self.layers

    def split(self, seconds: float) -> List[Dict[str, float]]:
        """Return the parts of inferences of their own, in ms, by CUDA's events between them."""
        return [self._split() for _ in _repeated(seconds)]

    def layer_times(self, seconds: float) -> List[layer_times.Layer]:
        """Return the mean time of each layer, by TensorRT's IProfiler, of runs of their own, without a graph.

        Raises:
            StageError: it told none.
        """
        self.infer()  # the inputs are on the GPU then
        profiler = _profiler(self._trt)
        self._context.profiler = profiler
        addresses = [tensor.device for tensor in self._tensors]
        runs = sum(bool(self._context.execute_v2(addresses)) for _ in _repeated(seconds))
        if not (runs and profiler.sums_ms):
            raise bindings.failed(self._trt, self._said, "time the layers")
        return [layer_times.Layer(name, "", "", total / runs) for name, total in profiler.sums_ms.items()]

    def _send(self) -> None:
        for tensor in self._inputs:
            self._cuda.cuMemcpyHtoDAsync_v2(tensor.device, tensor.address, tensor.size, self._stream)

    def _fetch(self) -> None:
        for tensor in self._outputs:
            self._cuda.cuMemcpyDtoHAsync_v2(tensor.address, tensor.device, tensor.size, self._stream)

    def _executor(self) -> Any:
        """Return what puts the engine's work on the stream: by tensors' names from 8.5 on, else by number."""
        context = self._context
        if hasattr(context, "execute_async_v3"):
            for tensor in self._tensors:
                context.set_tensor_address(tensor.name, tensor.device)
            execute = functools.partial(context.execute_async_v3, self._stream)
        else:
            addresses = [tensor.device for tensor in self._tensors]
            execute = functools.partial(context.execute_async_v2, addresses, self._stream)

        def checked() -> None:
            if not execute():
                raise bindings.failed(self._trt, self._said, "run the engine")

        return checked

    def _capture(self) -> None:
        """Replace the engine's work by a graph of it; TensorRT wants one run before, for what it puts off."""
        self.infer()
        try:
            graph = cuda.captured(self._stream, self._execute)
        except StageError:
            graph = None
        if graph is None:
            self.metadata["warnings"].append(NO_GRAPH)
            return
        self._enqueue = functools.partial(self._cuda.cuGraphLaunch, graph, self._stream)
        self.metadata["cuda_graph"] = True

    def _split(self) -> Dict[str, float]:
        parts = {"h2d": self._send, "compute": self._enqueue, "d2h": self._fetch}
        if not self._transfers:
            parts = {"compute": self._enqueue}
        marks = self._marks[: len(parts) + 1]
        self._cuda.cuEventRecord(marks[0], self._stream)
        for part, mark in zip(parts.values(), marks[1:]):
            part()
            self._cuda.cuEventRecord(mark, self._stream)
        self._cuda.cuEventSynchronize(marks[-1])
        times_ms = dict(zip(parts, map(cuda.elapsed_ms, marks, marks[1:])))
        return {f"{name}_ms": times_ms.get(name, 0.0) for name in PARTS}


def _described(trt: Any, engine: Any) -> Iterator[Tuple[str, bool, Tuple[int, ...], str]]:
    """Yield name, whether it is an input, shape and type's name of each tensor, in the order of bindings."""
    if hasattr(engine, "num_io_tensors"):  # from 8.5 on
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            yield name, is_input, tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name).name
        return
    for index in range(engine.num_bindings):
        shape, kind = engine.get_binding_shape(index), engine.get_binding_dtype(index)
        yield engine.get_binding_name(index), engine.binding_is_input(index), tuple(shape), kind.name


def _tensor(name: str, is_input: bool, shape: Tuple[int, ...], kind: str) -> Tensor:
    import numpy as np

    if kind not in bindings.NUMPY_TYPES or min(shape, default=1) < 1:
        message = f"the engine's tensor {name} is of the type {kind} and the shape {list(shape)}"
        raise Unsupported(message, hint="Convert a network of fixed shapes, with inputs of float32.")
    element = np.dtype(bindings.NUMPY_TYPES[kind])
    size = int(np.prod(shape)) * element.itemsize
    address = cuda.host_memory(size)
    host = np.frombuffer((ctypes.c_char * size).from_address(address), element)
    return Tensor(name, is_input, shape, host, address, cuda.device_memory(size), size)


def _profiler(trt: Any) -> Any:
    """Return a profiler that sums each layer's times in `sums_ms`, in the order of execution."""

    class Sums(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.sums_ms: Dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.sums_ms[layer_name] = self.sums_ms.get(layer_name, 0.0) + ms

    return Sums()


def _repeated(seconds: float) -> Iterator[None]:
    """Yield until the time is over, at least AT_LEAST times."""
    until, count = time.monotonic() + seconds, 0
    while count < AT_LEAST or time.monotonic() < until:
        yield
        count += 1
