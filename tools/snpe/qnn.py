"""Sessions of ONNX Runtime on Qualcomm's QNN: compiling for an HTP, running on its emulator, writing a DLC.

QNN comes as a plug-in of ONNX Runtime (package onnxruntime-qnn). Options of its provider:
docs/execution_providers/QNN-ExecutionProvider.md in github.com/onnxruntime/onnxruntime-qnn.
"""

from __future__ import annotations

import csv
import ctypes
import functools
import platform
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import onnx_models
from tools.socs import Soc
from tools.stage import InvalidRequest, StageError, Unavailable, Unsupported, first_line

if TYPE_CHECKING:
    import numpy as np

NO_FALLBACK = {"session.disable_cpu_ep_fallback": "1"}
ASSIGNED = {"session.record_ep_graph_assignment_info": "1"}
# What ONNX Runtime says of a node that QNN does not take, if it had a layout made for QNN.
LEFT_OVER = re.compile(r"Node '(?P<name>.+?)' OpType:(?P<operator>\w+).+ was not selected by that EP")
EXECUTED = re.compile(r"(?P<node>.+):OpId_\d+ \(cycles\)")  # an event of Qualcomm's profiler
SOC = "soc"  # in the wrapper of a context, says which chip it is for
LISTED = 5  # nodes named in a message


class HtpSession:
    """A compiled network on the emulator of the HTP that it was compiled for.

    `context` and `context_bin` are what `compile_context` writes; `kinds` says of each node what it computes
    in, "" of one that computes nothing.
    """

    def __init__(self, context: Path, context_bin: Path, soc: Soc, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._folder = tempfile.TemporaryDirectory()
        wrapper = Path(self._folder.name, "context.onnx")
        made_for = _write_wrapper(context, wrapper, "context.bin")
        if made_for != soc.name:  # the emulator would run it all the same, as another HTP than the record's
            message = f"{context.name} is for {made_for or 'an unknown chip'}, not for {soc.name}"
            raise InvalidRequest(message, hint="Make it with snpe.context, for the same --soc.")
        wrapper.with_suffix(".bin").symlink_to(context_bin.resolve())
        # The profiler counts what the HTP executes, node by node; its times are the emulator's.
        self._profile = wrapper.with_name("profile.csv")
        profiling = {"profiling_level": "detailed", "profiling_file_path": str(self._profile)}
        options = {**htp(soc), **profiling}
        try:
            self._session = load(wrapper, options, NO_FALLBACK, said=soc.htp)
        except StageError as error:
            message = f"{context_bin.name} is not a context binary, or it is cut off: {error}"
            raise InvalidRequest(message, hint="Make it again with snpe.context.") from error
        self.input_shapes = {wanted.name: tuple(wanted.shape) for wanted in self._session.get_inputs()}
        self._inputs: Mapping[str, np.ndarray] = {}
        self._outputs: list[np.ndarray] = []
        self.metadata: dict[str, Any] = {
            "device_name": f"emulator of the Hexagon Tensor Processor v{soc.htp_arch} of {soc.name.upper()}",
            "soc": soc.name,
            "soc_model": soc.soc_model,
            "htp_arch": soc.htp_arch,
        }

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the inputs."""
        self._inputs = batches

    def infer(self) -> None:
        """Run the emulator."""
        self._outputs = self._session.run(None, dict(self._inputs))
        self.metadata["executed_on"] = {"HTP": len(self.executed())}

    def output(self) -> np.ndarray:
        """Return a copy of the output."""
        return self._outputs[0].copy()

    def executed(self) -> list[str]:
        """Names of the nodes that the HTP executed, by its own profiler."""
        with self._profile.open(newline="") as file:
            events = [row["Event Identifier"] for row in csv.DictReader(file) if row["Message"] == "NODE"]
        return list(dict.fromkeys(match["node"] for match in map(EXECUTED.fullmatch, events) if match))

    def operations(self) -> Mapping[str, int]:
        """Count what the HTP executed by the type that it computes in."""
        counts: dict[str, int] = {}
        for kind in (self._kinds.get(node, "unknown") for node in self.executed()):
            if kind:
                counts[kind] = counts.get(kind, 0) + 1
        return counts


def compile_context(onnx: Path, soc: Soc, context: Path, context_bin: Path) -> dict[str, int]:
    """Compile a network for the HTP of a chip; return how many nodes went to which unit.

    Writes `context_bin`, and `context`: an ONNX file of one node, which names the binary beside it.

    Raises:
        Unsupported: the HTP cannot run all of the network; the message names the operators.
        InvalidRequest: the file is corrupt, or cut off.
    """
    with tempfile.TemporaryDirectory(dir=context.parent) as folder:
        wrapper = Path(folder, "context.onnx")
        made = {
            "ep.context_enable": "1",
            "ep.context_file_path": str(wrapper),
            "ep.context_embed_mode": "0",
        }
        session = load(onnx, htp(soc), {**NO_FALLBACK, **ASSIGNED, **made}, said=soc.htp)
        _write_wrapper(wrapper, context, context_bin.name, soc.name)
        _one(folder, "*.bin").replace(context_bin)
    return {unit: len(nodes) for unit, nodes in _assigned(session).items()}


def write_dlc(onnx: Path, dlc: Path) -> None:
    """Write a network as a DLC.

    Such a session only writes; to run the network takes another.

    Raises:
        Unsupported: it has operators that QNN does not know; the message names them.
        InvalidRequest: the file is corrupt, or cut off.
    """
    library = _library("libQnnIr.so")
    options = {"backend_path": library, "qnn_ir_backend_path": library, "dump_qnn_ir_dlc": "1"}
    with tempfile.TemporaryDirectory(dir=dlc.parent) as folder:
        load(onnx, {**options, "dump_qnn_ir_dlc_dir": folder}, NO_FALLBACK, said="QNN")
        _one(folder, "*.dlc").replace(dlc)


def htp(soc: Soc) -> dict[str, str]:
    """Options for the HTP of a chip; float16 takes its number, the architecture alone is not enough."""
    return {
        "backend_path": _library("libQnnHtp.so"),
        "soc_model": str(soc.soc_model),
        "htp_arch": str(soc.htp_arch),
        "enable_htp_fp16_precision": "1",
        "offload_graph_io_quantization": "0",  # else the CPU quantises the input
    }


def load(path: Path, options: Mapping[str, str], entries: Mapping[str, str], *, said: str) -> Any:
    """Return a session on QNN; `said` names the unit in errors.

    Raises:
        Unsupported: the unit cannot run all of the network; the message names the nodes.
        InvalidRequest: the file is corrupt, or cut off.
        StageError: QNN refuses it for another reason.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    try:
        return _session(path, options, entries)
    except (errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument) as error:
        raise onnx_models.not_onnx(path, error) from error
    except (errors.Fail, errors.NotImplemented, errors.EPFail) as error:
        nodes = _left_over(error) or _not_taken(path, options)
        if not nodes:
            message = f"{said} cannot run {path.name}: {first_line(error)}"
            raise StageError(message, hint="The log has what QNN says.") from error
        more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
        message = f"{said} cannot run {', '.join(nodes[:LISTED])}{more} of {path.name}"
        hint = "Replace these operators, or try another precision; nothing runs on the CPU instead."
        raise Unsupported(message, hint=hint) from error


def _one(folder: str, pattern: str) -> Path:
    made = list(Path(folder).glob(pattern))
    if len(made) != 1:
        message = f"QNN wrote {len(made)} files {pattern} instead of one"
        raise StageError(message, hint="The log has what QNN says.")
    return made[0]


def _write_wrapper(context: Path, made: Path, binary: str, soc: str = "") -> str:
    """Write the ONNX file of a context anew, with another name of its binary; return what chip it is for.

    `soc` is the chip, where the file does not say it yet.

    Raises:
        InvalidRequest: it is no such file.
    """
    from google.protobuf.message import DecodeError
    from onnx import helper, load_model, save_model

    try:
        model = load_model(context)
        [node] = [node for node in model.graph.node if node.op_type == "EPContext"]
        [name] = [attribute for attribute in node.attribute if attribute.name == "ep_cache_context"]
    except (DecodeError, ValueError) as error:
        message = f"{context.name} is not the wrapper of one context binary, or it is cut off"
        raise InvalidRequest(message, hint="Make it again with snpe.context.") from error
    name.s = binary.encode()
    said = {entry.key: entry.value for entry in model.metadata_props}
    if soc:
        helper.set_model_props(model, {**said, SOC: soc})
    save_model(model, made)
    return soc or said.get(SOC, "")


def _left_over(error: Exception) -> list[str]:
    match = LEFT_OVER.search(str(error))
    return [f"{match['operator']} ({match['name']})"] if match else []


def _not_taken(path: Path, options: Mapping[str, str]) -> list[str]:
    """Return the nodes that QNN leaves to the CPU if it is allowed to, as `Operator (name)`."""
    try:
        found = _assigned(_session(path, options, ASSIGNED))
    except Exception as error:  # noqa: BLE001 - it only looks for what to say of an error that there is
        return _left_over(error)
    return [node for unit, nodes in found.items() if unit != "QNN" for node in nodes]


def _assigned(session: Any) -> dict[str, list[str]]:
    """Return the nodes by the provider that took them, as `Operator (name)`."""
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes = [f"{node.op_type} ({node.name})" for node in part.get_nodes()]
        found.setdefault(part.ep_name, []).extend(nodes)
    return found


def _session(path: Path, options: Mapping[str, str], entries: Mapping[str, str]) -> Any:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    settings.add_provider_for_devices([_device()], dict(options))
    return ort.InferenceSession(str(path), settings)


@functools.lru_cache(maxsize=None)
def _device() -> Any:
    """Register QNN and return its device."""
    import onnxruntime as ort
    import onnxruntime_qnn

    ort.set_default_logger_severity(3)  # errors; as a warning it says at each start what Windows could do
    ort.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
    return next(device for device in ort.get_ep_devices() if device.ep_name == "QNN")


def _library(name: str) -> str:
    """Return the path of one of QNN's libraries.

    Raises:
        Unsupported: this is no x86-64 processor; elsewhere the libraries drive a real HTP only.
        Unavailable: a library that they need is not here; ONNX Runtime would only speak of the CPU then.
    """
    import onnxruntime_qnn

    if platform.machine() != "x86_64":
        message = f"Qualcomm's compiler and emulator run on x86-64 only, this is {platform.machine()}"
        raise Unsupported(message, hint="Run it on a PC; the files that it makes can be copied.")
    try:
        ctypes.CDLL("libatomic.so.1")  # and not the library itself: QNN crashes if it is loaded before
    except OSError as error:
        message = f"Qualcomm's {name} needs a library that is not here: {error}"
        raise Unavailable(message, hint="On Debian and Ubuntu: apt-get install libatomic1") from error
    return str(Path(onnxruntime_qnn.get_library_path()).with_name(name))
