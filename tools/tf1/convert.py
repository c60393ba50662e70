"""Conversions of the frozen graph by TensorFlow's own converter (TFLite) and by tf2onnx (ONNX)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tools.stage import StageError, Unsupported, first_line
from tools.tf1.graphs import Signature
from tools.tf1.runtime import tf


def to_tflite(frozen: Path, signature: Signature) -> bytes:
    """Return the float32 TFLite flatbuffer.

    Raises:
        Unsupported: the graph has operators that TFLite does not.
    """
    from tensorflow.lite.python.convert import ConverterError

    ends = [signature["input"]], [signature["output"]]
    converter = tf.lite.TFLiteConverter.from_frozen_graph(str(frozen), *ends)
    try:
        return converter.convert()
    except ConverterError as error:
        operators = sorted(set(re.findall(r"'?tf\.(\w+)'? op is neither", str(error))))
        if operators:
            raise _unsupported("TFLite", operators) from None
        message = f"TFLite's converter failed: {first_line(error)}"
        raise StageError(message, hint="The log has its full text.") from None


def to_onnx(graph_def: Any, signature: Signature, opset: int) -> Any:
    """Return the checked ONNX model: input `input` [1, C, H, W], output `output`.

    Raises:
        Unsupported: the graph has operators, or the request an opset, that tf2onnx cannot convert.
    """
    # tf2onnx else copies the whole graph before each optimisation and goes on when one fails.
    os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")
    import onnx
    import tf2onnx
    from tf2onnx.constants import OPSET_TO_IR_VERSION

    if opset not in OPSET_TO_IR_VERSION:
        message = f"tf2onnx {tf2onnx.__version__} has no opset {opset}"
        raise Unsupported(message, hint=f"It has {min(OPSET_TO_IR_VERSION)} to {max(OPSET_TO_IR_VERSION)}.")
    source, target = f"{signature['input']}:0", f"{signature['output']}:0"
    model, _ = tf2onnx.convert.from_graph_def(
        graph_def,
        input_names=[source],
        output_names=[target],
        inputs_as_nchw=[source],
        opset=opset,
        tensors_to_rename={source: "input", target: "output"},
    )
    # tf2onnx leaves an operator that it does not know as it is, and only logs it.
    unknown = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)}
    if unknown:
        raise _unsupported("ONNX", sorted(unknown))
    onnx.checker.check_model(model, full_check=True)
    return model


def _unsupported(target: str, operators: list[str]) -> Unsupported:
    message = f"the graph has operators that cannot be converted to {target}: {', '.join(operators)}"
    return Unsupported(message, hint="Replace them in the network's definition, or leave this backend out.")
