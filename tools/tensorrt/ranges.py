"""The ranges of a network's tensors over representative inputs, and TensorRT's calibration cache of them.

TensorRT can find ranges by itself only through its bindings and with the GPU. Here ONNX Runtime finds them
on the CPU, once for all versions and boards: of each tensor the largest absolute value, as NVIDIA's MinMax
calibrator does.

The cache is text: a line `TRT-<version's digits>-EntropyCalibration2`, then `<tensor>: <scale>`, the scale
a float32 in 8 hexadecimal digits, big-endian (readScalesFromCalibrationCache in
samples/common/sampleEngines.cpp of NVIDIA/TensorRT; files in its issue 2036). trtexec's calibrator is of
the kind EntropyCalibration2, so that is its name whatever made it.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Dict

from tools import onnx_models
from tools.stage import InvalidRequest, progress, write_json
from tools.tensorrt import versions

SCHEMA = 1  # 1: first version
STEPS = 127.0  # of int8, symmetric


def measure(model: Any, calibration: Path, path: Path) -> Dict[str, float]:
    """Write and return each float tensor's largest absolute value over the representative inputs.

    Raises:
        InvalidRequest: the inputs are of another network.
    """
    import numpy as np
    import onnxruntime as ort

    from tools.calibration import read

    batches = read(calibration, onnx_models.input_shapes(model))
    progress(0.1, f"running {len(batches)} representative inputs")
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(_all_outputs(model), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    found: Dict[str, float] = {}
    for batch in batches:
        tensors = {**{name: batch[name] for name in inputs}, **dict(zip(names, session.run(None, batch)))}
        for name, tensor in tensors.items():
            if tensor.dtype == np.float32 and tensor.size:
                found[name] = max(found.get(name, 0.0), float(np.abs(tensor).max()))
    write_json(path, {"schema": SCHEMA, "n_inputs": len(batches), "largest": found})
    return found


def _all_outputs(model: Any) -> bytes:
    """Return the network with each node's outputs among its own."""
    from onnx import ModelProto, helper

    copy = ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    made = [name for node in copy.graph.node for name in node.output if name and name not in present]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made)
    return bytes(copy.SerializeToString())


def cache(path: Path, version: versions.Version) -> str:
    """Return the calibration cache for a version, of the file that `measure` wrote.

    Raises:
        InvalidRequest: it is not such a file.
    """
    try:
        largest: Dict[str, float] = json.loads(path.read_text())["largest"]
        scales = {name: (value or 1.0) / STEPS for name, value in largest.items()}
        lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        message = f"{path.name} is not what tensorrt.calibrate writes"
        raise InvalidRequest(message, hint="Make it again with tensorrt.calibrate.") from error
    return "\n".join([f"TRT-{versions.digits(version)}-EntropyCalibration2", *lines]) + "\n"
