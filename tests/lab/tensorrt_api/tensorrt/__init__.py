"""A stand-in for NVIDIA's Python module tensorrt: what the tool calls of it, of the version asked for.

It runs networks by ONNX Runtime, on the memory and the stream of the stand-in for CUDA's driver
(../libcuda.c); everything of it is simulated, and `SIMULATED` says so. Versions, GPU, failures and the
format of engines are those of the stand-in for trtexec (tests/lab/trtexec.py), by the same variables; one
more failure is `capture`: the network cannot be captured as a CUDA graph. TRTEXEC_WRONG_LAYER is a layer
that computes 1.5 times what it should.

Beside what the tool calls there is what NVIDIA's Polygraphy does, 0.37 to 0.53: the layers of a network,
whose outputs it marks, and outputs whose memory a user's allocator has.

Names, signatures and what each version lacks: python/src of NVIDIA/TensorRT, branches release/8.2, 8.5, 8.6,
10.3 and 11.1.
"""

from __future__ import annotations

import ctypes
import enum
import importlib.util
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_spec = importlib.util.spec_from_file_location("standin", Path(__file__).parents[2] / "trtexec.py")
_standin: Any = importlib.util.module_from_spec(_spec)  # type: ignore[arg-type]
_spec.loader.exec_module(_standin)  # type: ignore[union-attr]

SIMULATED = True
_program = _standin.Trtexec([])
__version__ = f"{_program.version}.6"  # the real ones have a fourth number too
_NUMBER, _FAIL = _program.number, _program.fail
_cuda = ctypes.CDLL("libcuda.so.1")
_cuda.standin_address.argtypes, _cuda.standin_address.restype = (ctypes.c_uint64,), ctypes.c_void_p
_cuda.standin_enqueue.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_cuda.standin_capturing.argtypes = (ctypes.c_void_p,)
_WORK = ctypes.CFUNCTYPE(None)

DataType = enum.IntEnum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 INT64", start=0)
DeviceType = enum.IntEnum("DeviceType", "GPU DLA", start=0)
TensorIOMode = enum.IntEnum("TensorIOMode", "NONE INPUT OUTPUT", start=0)
MemoryPoolType = enum.IntEnum("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM", start=0)
ProfilingVerbosity = enum.IntEnum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED", start=0)
LayerInformationFormat = enum.IntEnum("LayerInformationFormat", "ONELINE JSON", start=0)
_old = "" if _NUMBER >= 110000 else "FP16 INT8 "
BuilderFlag = enum.IntEnum("BuilderFlag", f"{_old}GPU_FALLBACK TF32", start=0)
_batch = "STRONGLY_TYPED" if _NUMBER >= 110000 else "EXPLICIT_BATCH"
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", _batch, start=0)
LayerType = enum.IntEnum("LayerType", "CONVOLUTION CONSTANT SHAPE", start=0)
TensorFormat = enum.IntEnum("TensorFormat", "LINEAR CHW16 HWC", start=0)
float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32
_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(int32)": DataType.INT32}


class _Overridden:
    """What a user's class overrides; like pybind11 it refuses one that did not call this __init__."""

    def __init__(self) -> None:
        self._made = True


def _require(given: Any, kind: type) -> Any:
    if not (isinstance(given, kind) and getattr(given, "_made", False)):
        message = f"{kind.__name__}.__init__() must be called when overriding __init__"
        raise TypeError(message)
    return given


class ILogger(_Overridden):
    Severity = enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)


class Logger(ILogger):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = ILogger.Severity


class IOutputAllocator(_Overridden):
    def reallocate_output_async(self, *given: Any) -> int:
        return int(self.reallocate_output(*given[:-1]))  # type: ignore[attr-defined]


class IProfiler(_Overridden):
    pass


class IInt8EntropyCalibrator2(_Overridden):
    pass


def _say(logger: Any, text: str, level: str = "ERROR") -> None:
    logger.log(ILogger.Severity[level], text.replace("[TRT] ", "", 1))


def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    assert _require(logger, ILogger)
    assert namespace == ""
    return True


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = _require(logger, ILogger)
        self.num_DLA_cores = 0 if "X2" in _program.gpu else 2

    def create_network(self, flags: int = 0) -> Any:
        if _NUMBER < 100000 and flags != 1:
            _say(self._logger, "the ONNX parser only supports networks with an explicit batch dimension")
        return INetworkDefinition()

    def create_builder_config(self) -> Any:
        return IBuilderConfig()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        assert not config.flags & 1 << BuilderFlag.TF32
        assert config.workspace == 1 << 30
        names = [name for name in ("INT8", "FP16") if _has_flag(config, name)]
        precision = names[0].lower() if names else "fp32"
        if precision == "int8" and not self._calibrated(config):
            return None
        if _FAIL == "oom":
            return _say(self._logger, _standin.NO_MEMORY)
        self._say_where(network, config)
        about = {"version": _program.version, "compute": _program.compute, "precision": precision}
        return _standin.MAGIC + json.dumps(about).encode() + b"\n" + network.marked()

    def _calibrated(self, config: Any) -> bool:
        calibrator = _require(config.int8_calibrator, IInt8EntropyCalibrator2)
        head = bytes(calibrator.read_calibration_cache()).decode().partition("\n")[0]
        if head != f"TRT-{_NUMBER}-EntropyCalibration2":
            _say(self._logger, "Calibration table does not match calibrator algorithm type.")
            return False
        return True

    def _say_where(self, network: Any, config: Any) -> None:
        import onnx

        layers = _standin.fused(onnx.load_from_string(network.data).graph)
        on_dla = config.default_device_type == DeviceType.DLA and config.flags & 1 << BuilderFlag.GPU_FALLBACK
        _say(self._logger, "---------- Layers Running on DLA ----------", "INFO")
        for name in layers[:-1] if on_dla else ():
            _say(self._logger, f"[DlaLayer] {{ForeignNode[{name}]}}", "INFO")
        _say(self._logger, "---------- Layers Running on GPU ----------", "INFO")
        for name in layers[-1:] if on_dla else layers:
            _say(self._logger, f"[GpuLayer] {name}", "INFO")


def _has_flag(config: Any, name: str) -> bool:
    return name in BuilderFlag.__members__ and bool(config.flags & 1 << BuilderFlag[name])


class INetworkDefinition:
    """A network of the ONNX file's nodes as layers."""

    def __init__(self) -> None:
        self.data = b""
        self.num_inputs, self.num_outputs, self.num_layers = 0, 0, 0
        self._layers: list[Any] = []
        self._marked: list[str] = []

    def read(self, data: bytes) -> None:
        """Take an ONNX file's content."""
        import onnx

        self.data, graph = data, onnx.load_from_string(data).graph
        self._marked = [value.name for value in graph.output]
        names = {
            *(value.name for value in graph.input),
            *(name for node in graph.node for name in node.output),
        }
        names -= {tensor.name for tensor in graph.initializer}
        tensors = {name: ITensor(self._marked, name) for name in names}
        for node in graph.node:
            kind = LayerType.__members__.get(node.op_type.upper(), LayerType.CONVOLUTION)
            given = [tensors[name] for name in node.input if name in tensors]
            self._layers.append(ILayer(kind, given, [tensors[name] for name in node.output]))
        self.num_layers = len(self._layers)

    def __len__(self) -> int:
        return self.num_layers

    def __getitem__(self, index: int) -> Any:
        return self._layers[index]

    def mark_output(self, tensor: Any) -> None:
        self._marked.append(tensor.name)

    def unmark_output(self, tensor: Any) -> None:
        self._marked.remove(tensor.name)

    def marked(self) -> bytes:
        """Return the ONNX file with the marked outputs."""
        import onnx

        model = onnx.load_from_string(self.data)
        if self._marked == [value.name for value in model.graph.output]:
            return self.data
        del model.graph.output[:]
        model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, self._marked))
        return bytes(model.SerializeToString())


class ITensor:
    def __init__(self, marked: list[str], name: str) -> None:
        self._marked, self.name = marked, name

    @property
    def is_network_output(self) -> bool:
        return self.name in self._marked


class ILayer:
    def __init__(self, kind: Any, inputs: list[ITensor], outputs: list[ITensor]) -> None:
        self.type, self.num_inputs, self.num_outputs = kind, len(inputs), len(outputs)
        self.get_input, self.get_output = inputs.__getitem__, outputs.__getitem__


class IBuilderConfig:
    __slots__ = (  # as in pybind11, what is not there cannot be set
        "DLA_core",
        "default_device_type",
        "flags",
        "num_optimization_profiles",
        "profiling_verbosity",
        "workspace",
        *(("int8_calibrator",) if _NUMBER < 110000 else ()),
    )

    def __init__(self) -> None:
        self.flags, self.workspace, self.default_device_type = 1 << BuilderFlag.TF32, 0, DeviceType.GPU
        self.DLA_core, self.num_optimization_profiles = -1, 0
        if _NUMBER < 110000:
            self.int8_calibrator = None

    def set_flag(self, flag: int) -> None:
        self.flags |= 1 << flag

    def clear_flag(self, flag: int) -> None:
        self.flags &= ~(1 << flag)

    def get_flag(self, flag: int) -> bool:
        return bool(self.flags & 1 << flag)

    def set_memory_pool_limit(self, pool: int, pool_size: int) -> None:
        assert pool == MemoryPoolType.WORKSPACE
        self.workspace = pool_size

    @property
    def max_workspace_size(self) -> int:
        return int(self.workspace)

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        self.workspace = size


class OnnxParser:
    def __init__(self, network: Any, logger: ILogger) -> None:
        self._network, self._logger = network, _require(logger, ILogger)
        self.num_errors = 0

    def parse_from_file(self, model: str) -> bool:
        import onnx

        self._network.read(Path(model).read_bytes())
        refused = set(filter(None, os.environ.get("TRTEXEC_UNSUPPORTED", "").split(",")))
        for index, node in enumerate(onnx.load_from_string(self._network.data).graph.node):
            if node.op_type in refused:
                _say(self._logger, f"No importer registered for op: {node.op_type}.", "INFO")
                where = f'[{node.op_type} -> "{node.output[0]}"]'
                _say(self._logger, f"ModelImporter.cpp:773: While parsing node number {index} {where}:")
                _say(self._logger, f'ModelImporter.cpp:775: name: "{node.name}"\nop_type: "{node.op_type}"\n')
                _say(self._logger, _standin.NO_PLUGIN)
                self.num_errors += 1
                return False
        return True

    def get_error(self, index: int) -> str:
        return f"In node {index}: UNSUPPORTED_NODE"


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger, self.DLA_core = _require(logger, ILogger), -1

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        head, _, data = bytes(serialized_engine).partition(b"\n")
        if not head.startswith(_standin.MAGIC):
            return _say(self._logger, _standin.NO_ENGINE)
        about = json.loads(head[len(_standin.MAGIC) :])
        if about["version"] != _program.version:
            return _say(self._logger, _standin.OTHER_VERSION.format(_program.version, about["version"]))
        if about["compute"] != _program.compute:
            return _say(self._logger, _standin.OTHER_GPU.format(_program.compute, about["compute"]))
        return ICudaEngine(data, about["precision"])


def _spoilt(data: bytes) -> bytes:
    """Return the network with TRTEXEC_WRONG_LAYER computing something else."""
    import numpy as np
    import onnx

    model = onnx.load_from_string(data)
    nodes = list(model.graph.node)
    for at, node in enumerate(nodes):
        if node.name != os.environ.get("TRTEXEC_WRONG_LAYER"):
            continue
        made, right = node.output[0], f"{node.output[0]} as it should be"
        node.output[0] = right
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.5), "too much"))
        del model.graph.node[:]
        wrong = onnx.helper.make_node("Mul", [right, "too much"], [made])
        model.graph.node.extend([*nodes[: at + 1], wrong, *nodes[at + 1 :]])
        return bytes(model.SerializeToString())
    return data


class ICudaEngine:
    def __init__(self, data: bytes, precision: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(_spoilt(data), options, providers=["CPUExecutionProvider"])
        self._data, self._precision, self._session = data, precision, session
        self._values = [*session.get_inputs(), *session.get_outputs()]
        self._n_inputs = len(session.get_inputs())

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(length if isinstance(length, int) else -1 for length in self._values[index].shape)

    def _dtype(self, index: int) -> Any:
        return _TYPES[self._values[index].type]

    def _size(self, index: int) -> int:
        return 4 * math.prod(self._shape(index))  # bytes; both types have four

    def _index(self, name: str) -> int:
        return [value.name for value in self._values].index(name)

    if _NUMBER >= 8500:

        @property
        def num_io_tensors(self) -> int:
            return len(self._values)

        def get_tensor_name(self, index: int) -> str:
            return str(self._values[index].name)

        def get_tensor_mode(self, name: str) -> int:
            return TensorIOMode.INPUT if self._index(name) < self._n_inputs else TensorIOMode.OUTPUT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._shape(self._index(name))

        def get_tensor_dtype(self, name: str) -> Any:
            return self._dtype(self._index(name))

        def get_tensor_format(self, name: str) -> Any:
            return TensorFormat.LINEAR

        def is_shape_inference_io(self, name: str) -> bool:
            return False

    if _NUMBER < 100000:

        @property
        def num_bindings(self) -> int:
            return len(self._values)

        def get_binding_name(self, index: int) -> str:
            return str(self._values[index].name)

        def binding_is_input(self, index: int) -> bool:
            return index < self._n_inputs

        def get_binding_shape(self, index: int) -> tuple[int, ...]:
            return self._shape(index)

        def get_binding_dtype(self, index: int) -> Any:
            return self._dtype(index)

    def create_execution_context(self) -> Any:
        return IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        said = _standin.layer_info(self._data, self._precision)
        return SimpleNamespace(get_engine_information=lambda _: said)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._addresses = engine, [0] * len(engine._values)
        self._works: list[Any] = []  # that a stream may still call
        self._graph: list[Any] = []
        self._allocators: dict[str, Any] = {}
        self.active_optimization_profile = 0
        self.profiler: Any = None

    if _NUMBER >= 8500:

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._engine.get_tensor_shape(name)

        def get_tensor_address(self, name: str) -> int:
            return self._addresses[self._engine._index(name)]

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[self._engine._index(name)] = memory
            return True

        def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
            self._allocators[name] = _require(output_allocator, IOutputAllocator)
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            for name, allocator in self._allocators.items():
                index = self._engine._index(name)
                given = (name, self._addresses[index], self._engine._size(index), 256)
                if _NUMBER >= 100000:
                    self._addresses[index] = allocator.reallocate_output_async(*given, stream_handle)
                else:
                    self._addresses[index] = allocator.reallocate_output(*given)
                allocator.notify_shape(name, self._engine._shape(index))
            return self._enqueue(list(self._addresses), stream_handle)

    if _NUMBER < 100000:

        def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
            return self._enqueue(list(bindings), stream_handle)

    def execute_v2(self, bindings: list[int]) -> bool:
        inputs = self._run(bindings)
        if self.profiler:
            for name, time_ms in _standin.kernel_times_ms(self._engine._data, inputs).items():
                _require(self.profiler, IProfiler).report_layer_time(name, time_ms)
        return True

    def _enqueue(self, addresses: list[int], stream: int) -> bool:
        capturing = _cuda.standin_capturing(stream)
        if _FAIL == "capture" and capturing:
            return False
        work = _WORK(lambda: self._run(addresses) and None)
        if capturing:
            self._graph.append(work)
        else:
            self._works = [*self._works[-10:], work]
        return not _cuda.standin_enqueue(stream, work)

    def _run(self, addresses: list[int]) -> dict[str, Any]:
        """Run the network on what is at the addresses; return its inputs."""
        import numpy as np

        arrays = [self._array(index, address) for index, address in enumerate(addresses)]
        count = self._engine._n_inputs
        inputs = {self._engine._values[index].name: arrays[index] for index in range(count)}
        _program.load_is("computing")
        for index, computed in enumerate(self._engine._session.run(None, inputs), count):
            if self._engine._precision != "fp32":
                computed = computed.astype(np.float16).astype(np.float32)
            arrays[index][...] = computed[..., ::-1] if _FAIL == "wrong" else computed
        return inputs

    def _array(self, index: int, address: int) -> Any:
        import numpy as np

        shape, size = self._engine._shape(index), self._engine._size(index)
        kind = {"FLOAT": np.float32, "INT32": np.int32}[self._engine._dtype(index).name]
        memory = (ctypes.c_char * size).from_address(_cuda.standin_address(address))
        return np.frombuffer(memory, kind).reshape(shape)
