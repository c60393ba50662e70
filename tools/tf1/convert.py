"""Conversions of the frozen graph by TensorFlow's own converter (TFLite) and by tf2onnx (ONNX)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from tools.stage import StageError, Unsupported, first_line
from tools.tf1.graphs import Signature
from tools.tf1.runtime import tf

# TFLite gives a softmax of int8 steps of 1/256, whatever its range, and of a thousand classes most are below
# half of the first step: measured, that alone takes the cosine from 0.97 to 0.75 (squeezenet).
FLOATING = {"SOFTMAX"}


def to_tflite(
    frozen: Path,
    signature: Signature,
    precision: str = "fp32",
    representative: Optional[Mapping[str, Any]] = None,
) -> bytes:
    """Return the TFLite flatbuffer; `representative` inputs (name -> [n, ...]) quantise activations too.

    Raises:
        Unsupported: the graph has operators that TFLite does not.
    """
    from tensorflow.lite.python.convert import ConverterError

    ends = list(signature["inputs"]), [signature["output"]]
    converter = tf.lite.TFLiteConverter.from_frozen_graph(str(frozen), *ends)
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        return _quantised(converter, representative) if representative else converter.convert()
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


def _quantised(converter: Any, representative: Mapping[str, Any]) -> bytes:
    """Return the flatbuffer with weights and activations of int8, but for `FLOATING` and what TFLite cannot.

    The two halves of the converter's own way, because between them alone can operators be named that are to
    stay in floating point (what tf.lite.experimental.QuantizationDebugger does, without its debugging).

    Raises:
        Unsupported: this TensorFlow's quantiser has no such choice.
    """
    try:
        from tensorflow.lite.python.convert import mlir_quantize
    except ImportError:
        message = f"the quantiser of TensorFlow {tf.__version__} cannot leave the softmax in floating point"
        raise Unsupported(message, hint="Run it without --tensorflow 1.15.") from None
    count = len(next(iter(representative.values())))
    converter.representative_dataset = lambda: (
        [values[index : index + 1] for values in representative.values()] for index in range(count)
    )
    converter._experimental_calibrate_only = True
    return mlir_quantize(converter.convert(), denylisted_ops=FLOATING)


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
