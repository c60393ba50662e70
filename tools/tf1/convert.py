"""Conversions of the frozen graph by TensorFlow's own converter (TFLite) and by tf2onnx (ONNX)."""

from __future__ import annotations

import re
import sys
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

    ends = list(signature["inputs"]), [signature["output"]]
    converter = tf.lite.TFLiteConverter.from_frozen_graph(str(frozen), *ends)
    try:
        return converter.convert()
    except ConverterError as error:
        print(error, file=sys.stderr)
        operators = _refused_by_tflite(str(error))
        if operators:
            raise _unsupported(to="TFLite", operators=operators) from None
        message = f"TFLite's converter failed: {first_line(error)}"
        raise StageError(message, hint="The log has its full text.") from None


def _refused_by_tflite(said: str) -> list[str]:
    """Return the operators that the converter names: TensorFlow 2 one by one, 1.15 as a list at the end."""
    found = re.findall(r"'?tf\.(\w+)'? op is neither", said)
    for listed in re.findall(r"you will need custom implementations: ([\w, ]+)\.", said):
        found += listed.split(", ")
    return sorted(set(found))


def to_onnx(graph: Any, signature: Signature, opset: int) -> Any:
    """Return the checked ONNX model with the signature's names; images are [1, C, H, W].

    Raises:
        Unsupported: the graph has operators, or the request an opset, that tf2onnx cannot convert.
    """
    import onnx
    import tf2onnx

    opsets = tf2onnx.constants.OPSET_TO_IR_VERSION
    if opset not in opsets:
        message = f"tf2onnx {tf2onnx.__version__} has no opset {opset}"
        raise Unsupported(message, hint=f"It has {min(opsets)} to {max(opsets)}.")
    sources, target = [f"{name}:0" for name in signature["inputs"]], f"{signature['output']}:0"
    images = [f"{name}:0" for name, said in signature["inputs"].items() if said["kind"] == "image"]
    with graph.as_default():
        converted = tf2onnx.tfonnx.process_tf_graph(
            graph,
            opset=opset,
            input_names=sources,
            output_names=[target],
            inputs_as_nchw=images,
            tensors_to_rename={f"{name}:0": name for name in (*signature["inputs"], signature["output"])},
        )
    model = _optimised(converted).make_model("tf2onnx")
    # tf2onnx leaves an operator that it does not know as it is, and only logs it.
    unknown = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)}
    if unknown:
        raise _unsupported(to="ONNX", operators=sorted(unknown))
    onnx.checker.check_model(model, full_check=True)
    return model


def _optimised(converted: Any) -> Any:
    """Run tf2onnx's optimisations without what makes them slow, which for AlexNet is half a minute.

    It would copy the whole graph before each of two dozen passes, to go on when one fails, and all weights
    into protobuf messages after each; `make_model` does that anyway. And it would sort the whole graph for
    each depthwise kernel that is still to be reshaped, which for NASNet is as long; folded, none is.
    """
    from tf2onnx.optimizer import optimize_graph
    from tf2onnx.optimizer.const_fold_optimizer import ConstFoldOptimizer

    converted.update_proto = lambda *_: None
    folded = optimize_graph(converted, catch_errors=False, optimizers={"fold_constants": ConstFoldOptimizer})
    optimised = optimize_graph(folded, catch_errors=False)
    vars(optimised).pop("update_proto", None)
    return optimised


def _unsupported(*, to: str, operators: list[str]) -> Unsupported:
    message = f"the graph has operators that cannot be converted to {to}: {', '.join(operators)}"
    return Unsupported(message, hint="Replace them in the network's definition, or leave this backend out.")
