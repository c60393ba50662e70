"""TensorRT's Python module: where it is, what it logs, and an engine built by it.

No lock has it: NVIDIA installs it for the Python of its images and of JetPack 5 and 6, in Debian's
dist-packages, which the tool's environment does not see. So it is looked for there. Only while it is
imported is that folder on the path, as the last, so that all else is still what the lock pins.

What the module has decides, not its version: 8.2 has bindings by number, from 8.5 on tensors have names,
and 10 has names only. Signatures: python/src of NVIDIA/TensorRT (Apache-2.0), branches release/8.2 to
release/11.1; the order of the calls is that of samples/python there.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from tools.stage import DeviceNotFound, StageError, Unsupported, first_line
from tools.tensorrt import failures, log, versions

if TYPE_CHECKING:
    from tools.tensorrt.building import Order

VARIABLE = "MOBILE_ACCELERATOR_TENSORRT_PYTHON"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
HINT = f"name the folder with the package tensorrt for Python {PYTHON}: {VARIABLE}=FOLDER. docs/jetson.md"
FOLDERS = ("/usr/lib/python{}/dist-packages", "/usr/local/lib/python{}/dist-packages")
LEVELS = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I"}  # as trtexec's lines have them
FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}
NUMPY_TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}  # not trt.nptype: before 8.6 that of 8.x asks NumPy for names that newer ones do not have


@functools.lru_cache(maxsize=None)
def find() -> Tuple[Optional[Any], str]:
    """Return the module, or None and why it cannot be had."""
    why = f"TensorRT has no Python module for Python {PYTHON} here{_for_others()}"
    usual = list(sys.path)
    for folders in ([], *([folder] for folder in _folders())):
        sys.path[:] = usual + folders
        try:
            return importlib.import_module("tensorrt"), ""
        except (ImportError, OSError) as error:
            if getattr(error, "name", "") != "tensorrt":  # it is there, and a library of its is missing
                why = f"TensorRT's Python module cannot be imported: {first_line(error)}"
        finally:
            sys.path[:] = usual
    return None, why


def _folders() -> List[str]:
    named = os.environ.get(VARIABLE)
    return [*([named] if named else []), *(folder.format(PYTHON) for folder in FOLDERS)]


def _for_others() -> str:
    """Say for which other versions of Python there is one."""
    found = {version for pattern in FOLDERS for version in _versions(pattern)}
    return f", but one for {', '.join(sorted(found))}" if found else ""


def _versions(pattern: str) -> Iterator[str]:
    before, _, after = pattern.partition("{}")
    for package in Path(os.sep).glob(f"{before[1:]}3.*{after}/tensorrt"):
        yield str(package)[len(before) :].partition("/")[0]


def logger(trt: Any) -> Any:
    """Return a logger that prints as trtexec does, and has all lines in `lines`."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: List[str] = []

        def log(self, severity: Any, text: str) -> None:
            level = LEVELS.get(severity.name)
            if level:
                self.lines.append(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [{level}] [TRT] {text}")
                print(self.lines[-1], flush=True)

    return Log()


def failed(trt: Any, said: Any, what: str) -> StageError:
    """Return the error that a logger's lines stand for; `what` failed."""
    text = "\n".join(said.lines)
    found = {**log.parse(text), "version": versions.text(versions.parse(trt.__version__))}
    return failures.error_of(text, found, "TensorRT", f"TensorRT could not {what}")


def build(order: Order, engine: Path, layers: Path, table: Optional[Path]) -> Dict[str, Any]:
    """Write the engine and, from 8.2 on, what its layers are; return what log.parse makes of the log.

    Raises:
        Unsupported: an operator that the parser does not take, or a precision that it has not.
        DeviceNotFound: no such DLA.
        StageError: the builder failed.
    """
    trt, _ = find()
    assert trt is not None
    said = logger(trt)
    trt.init_libnvinfer_plugins(said, "")
    builder = trt.Builder(said)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, said)
    if not parser.parse_from_file(str(order.onnx)):
        raise failed(trt, said, "read the network")
    config = _configured(trt, builder, order)
    calibrator = _calibrator(trt, table.read_bytes()) if table else None
    if calibrator:
        config.int8_calibrator = calibrator
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise failed(trt, said, "build the engine")
    engine.write_bytes(memoryview(serialized))
    if hasattr(trt, "LayerInformationFormat"):
        inspector = load(trt, said, engine, order.dla_core).create_engine_inspector()
        layers.write_text(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return log.parse("\n".join(said.lines))


def load(trt: Any, said: Any, engine: Path, dla_core: int) -> Any:
    """Return the ICudaEngine of a file.

    Raises:
        InvalidRequest: it is of another GPU or another TensorRT.
        StageError: it cannot be loaded.
    """
    trt.init_libnvinfer_plugins(said, "")
    runtime = trt.Runtime(said)
    if dla_core >= 0:
        runtime.DLA_core = dla_core
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        raise failed(trt, said, "load the engine")
    return loaded


def _network_flags(trt: Any) -> int:
    """Return the flag that TensorRT 8 needs for ONNX networks; 10 ignores it, and 11 has none."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _configured(trt: Any, builder: Any, order: Order) -> Any:
    """Return the builder's settings: those of versions.build_options."""
    config, size = builder.create_builder_config(), order.workspace_mib << 20
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:
        config.max_workspace_size = size
    config.clear_flag(trt.BuilderFlag.TF32)
    for name in FLAGS[order.precision]:
        if not hasattr(trt.BuilderFlag, name):
            raise versions.no_precision(versions.parse(trt.__version__), order.precision)
        config.set_flag(getattr(trt.BuilderFlag, name))
    if hasattr(trt.ProfilingVerbosity, "DETAILED"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if order.dla_core >= 0:
        if order.dla_core >= builder.num_DLA_cores:
            message = f"there is no DLA {order.dla_core} here, of {builder.num_DLA_cores}"
            raise DeviceNotFound(message, hint=failures.NO_DLA)
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = order.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    return config


def _calibrator(trt: Any, table: bytes) -> Any:
    """Return a calibrator that has the ranges already; see ranges.py."""
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        message = f"TensorRT {trt.__version__} takes no calibration"
        raise Unsupported(message, hint="Take TensorRT 10 for int8.")

    class Known(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            return table

        def write_calibration_cache(self, cache: Any) -> None:
            pass

    return Known()
