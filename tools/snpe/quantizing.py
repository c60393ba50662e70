"""Quantisation for the HTP: QDQ by ONNX Runtime's own rules for QNN."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tools import onnx_models
from tools.calibration import read
from tools.stage import progress

# A quantised softmax has steps of 1/256, too coarse for a thousand classes; in 16 bits they are fine enough.
FLOATING = {8: ("Softmax",), 16: ()}


def quantize(onnx: Path, calibration: Path, made: Path, bits: int) -> None:
    """Quantise activations to `bits` unsigned bits and weights to 8.

    Weights of convolutions are signed with a scale for each channel, as the HTP takes them; of all else with
    one scale for all.

    Raises:
        InvalidRequest: a file is not what it should be, or the calibration is another network's.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    batches = read(calibration, onnx_models.input_shapes(onnx_models.read(onnx)))
    progress(0.1, f"running {len(batches)} representative inputs")
    with tempfile.TemporaryDirectory() as folder:
        prepared = onnx_models.prepared(onnx, folder)
        nodes = onnx_models.read(prepared).graph.node
        types = quantization.QuantType
        config = get_qnn_qdq_config(
            str(prepared),
            onnx_models.reader(batches),
            activation_type=types.QUInt8 if bits == 8 else types.QUInt16,
            weight_type=types.QInt8,
            per_channel=True,
            nodes_to_exclude=[node.name for node in nodes if node.op_type in FLOATING[bits]],
        )
        quantization.quantize(str(prepared), str(made), config)
