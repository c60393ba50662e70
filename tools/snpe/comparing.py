"""How much each layer of a quantised network is off, beside the same layer of the network in float.

Both run on the CPU in float, the quantised one with its activations rounded by its QuantizeLinear nodes as
on the HTP; what the HTP's integer arithmetic adds to that, the gate sees at the output.

A layer's noise is told as signal-to-quantisation-noise ratio, 20 log10(|x| / |x - q|) dB, x in float and q
quantised, as in onnxruntime.quantization.qdq_loss_debug; 6 dB is a bit. Of each layer there are two:
`sqnr_db` compares the layer in the two networks, so it holds the noise of all layers before it;
`own_sqnr_db` compares the layer in the float network with itself after rounding, so it is this layer's range
and steps alone.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import arrays, onnx_models
from tools.stage import InvalidRequest, progress, write_json

if TYPE_CHECKING:
    import numpy as np

TOGETHER = 64  # tensors kept at a time; of a large network all together take gigabytes
SILENT = 1e-12  # a norm below it is nothing
NOISELESS_DB = 300.0  # of equal tensors, where the ratio is infinite


@dataclasses.dataclass(frozen=True)
class Layer:
    """Noise of one layer's output: the lowest ratio and cosine over the inputs."""

    layer: str
    operator: str
    sqnr_db: float
    own_sqnr_db: float
    cosine: float


@dataclasses.dataclass(frozen=True)
class _Rounded:
    """A rounded tensor: its name in the float network and in the quantised one, its step and what zero is."""

    name: str
    after: str
    scale: np.ndarray
    zero_point: np.ndarray

    def round(self, exact: np.ndarray) -> np.ndarray:
        """Return the tensor rounded, as QuantizeLinear and DequantizeLinear do it."""
        import numpy as np

        ends = np.iinfo(self.zero_point.dtype)
        steps = np.clip(np.rint(exact / self.scale) + self.zero_point, ends.min, ends.max)
        rounded: np.ndarray = (steps - self.zero_point) * self.scale
        return rounded


def compare(onnx: Path, quantised: Path, reference: Path, n_inputs: int) -> list[Layer]:
    """Return every layer whose output is rounded, in the network's order.

    Raises:
        InvalidRequest: the two are not one network, or a file is not what it should be.
    """
    if n_inputs < 1:
        message = f"n_inputs is {n_inputs}"
        raise InvalidRequest(message, hint="Give the number of inputs to compare, 2 is usual.")
    plain, rounding = onnx_models.read(onnx), onnx_models.read(quantised)
    makers = {name: node for node in plain.graph.node for name in node.output}
    pairs = [pair for pair in _rounded(rounding) if pair.name in makers]
    if not pairs:
        message = f"no rounded layer of {quantised.name} is one of {onnx.name}"
        raise InvalidRequest(message, hint="Take the network that it was quantised from.")
    inputs, expected = arrays.read_reference(reference)
    shapes = onnx_models.input_shapes(plain)
    batches = [arrays.fit(inputs, shapes, index) for index in range(min(n_inputs, len(expected)))]
    layers = []
    with tempfile.TemporaryDirectory() as folder:
        names = [pair.name for pair in pairs]
        run_plain = _with_outputs(plain, names, Path(folder, "plain.onnx"))
        run_rounding = _with_outputs(rounding, [pair.after for pair in pairs], Path(folder, "rounding.onnx"))
        for start in range(0, len(pairs), TOGETHER):
            progress(start / len(pairs), f"comparing {len(pairs)} layers")
            some = pairs[start : start + TOGETHER]
            found = [_measured(some, run_plain, run_rounding, batch) for batch in batches]
            for pair, *noises in zip(some, *found):
                node = makers[pair.name]
                layers.append(Layer(node.name, node.op_type, *(min(values) for values in zip(*noises))))
    return layers


def write(path: Path, layers: Sequence[Layer]) -> None:
    """Write layers as JSON."""
    write_json(path, [dataclasses.asdict(layer) for layer in layers])


def read(path: Path) -> list[Layer]:
    """Read what `write` wrote.

    Raises:
        InvalidRequest: it is no such file.
    """
    try:
        layers = [Layer(**row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError) as error:
        message = f"{path.name} is not a list of layers and their noise"
        raise InvalidRequest(message, hint="Make it again with snpe.compare-int8.") from error
    return layers


def worst(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the layer that is off most, and the one that adds most of its own."""
    return {
        "worst_layer": dataclasses.asdict(min(layers, key=lambda layer: layer.sqnr_db)),
        "worst_own_layer": dataclasses.asdict(min(layers, key=lambda layer: layer.own_sqnr_db)),
    }


def _rounded(model: Any) -> Iterator[_Rounded]:
    """Yield what passes a QuantizeLinear and the DequantizeLinear after it."""
    from onnx import numpy_helper
    from onnxruntime.quantization.quant_utils import QUANT_INPUT_SUFFIX

    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in sources:
            name = sources[node.input[0]]
            if name.endswith(QUANT_INPUT_SUFFIX):  # the network's output, which keeps its name after rounding
                name = name[: -len(QUANT_INPUT_SUFFIX)]
            scale, zero_point = (numpy_helper.to_array(constants[key]) for key in node.input[1:3])
            yield _Rounded(name, node.output[0], scale, zero_point)


def _with_outputs(model: Any, names: Sequence[str], path: Path) -> Any:
    """Return what runs the network for some of its inner tensors: `run(names, inputs)`."""
    import onnx
    import onnxruntime as ort

    there = {value.name for value in model.graph.output}
    wanted = [name for name in dict.fromkeys(names) if name not in there]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    onnx.save(model, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # each tensor as it stands
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run


def _measured(
    pairs: Sequence[_Rounded], run_plain: Any, run_rounding: Any, batch: Mapping[str, np.ndarray]
) -> list[tuple[float, float, float]]:
    """Return ratio, own ratio and cosine of some layers for one input."""
    exact = run_plain([pair.name for pair in pairs], batch)
    rounded = run_rounding([pair.after for pair in pairs], batch)
    return [
        (_sqnr_db(plain, after), _sqnr_db(plain, pair.round(plain)), _cosine(plain, after))
        for pair, plain, after in zip(pairs, exact, rounded)
    ]


def _sqnr_db(exact: np.ndarray, rounded: np.ndarray) -> float:
    from onnxruntime.quantization.qdq_loss_debug import compute_signal_to_quantization_noice_ratio

    if (exact == rounded).all():
        return NOISELESS_DB
    return float(compute_signal_to_quantization_noice_ratio([exact.ravel()], [rounded.ravel()]))


def _cosine(exact: np.ndarray, rounded: np.ndarray) -> float:
    import numpy as np

    norms = float(np.linalg.norm(exact) * np.linalg.norm(rounded))
    return float(np.vdot(exact, rounded)) / norms if norms > SILENT else 1.0
