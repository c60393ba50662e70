"""TensorFlow graph mode: make or import weights, export, freeze, make reference outputs, count, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from tools.stage import Input, Output, Result, Tool, progress, write_json

# TensorFlow's distribution has another name on each kind of machine; see images/tf1/requirements.in.
TENSORFLOW = ("tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow")

# The build `legacy` is TensorFlow 1.15: converters of its time cannot read what TensorFlow 2 writes.
tool = Tool("tf1", packages=(*TENSORFLOW, "tf2onnx", "onnx", "numpy"), builds={"legacy": "3.7"})


@tool.command()
def export(
    network: str,
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1001,
    depth_multiplier: float = 1.0,
    sequence_length: int = 128,
    layers: Optional[Input] = None,
    graph: Output = "{model}.inf.pb",
    signature: Output = "{model}.signature.json",
) -> Result:
    """Write the inference graph (variables not frozen) and its signature.

    `layers` is the table of a network that is described by one (tools/tf1/networks/tables.py).
    """
    from tools.tf1 import graphs, networks

    built = networks.build(
        network,
        image_size=image_size,
        channels=channels,
        classes=classes,
        depth_multiplier=depth_multiplier,
        sequence_length=sequence_length,
        table=layers.read_text() if layers else "",
    )
    graph.write_bytes(built.graph.as_graph_def().SerializeToString(deterministic=True))
    described = graphs.signature_of(built.graph, built.inputs, networks.OUTPUT, built.output_kind)
    write_json(signature, described)
    return Result(metadata=described)


@tool.command()
def generate_weights(
    graph: Input,
    signature: Input,
    layers: Optional[Input] = None,
    seed: int = 0,
    ckpt_index: Output = "{model}.ckpt.index",
    ckpt_data: Output = "{model}.ckpt.data-00000-of-00001",
) -> Result:
    """Write a checkpoint of generated weights for an inference graph: the same values on every machine.

    Those of a network that is a table, `layers`, depend on its depth and outputs: see weight_scale.py.
    """
    from tools.tf1 import checkpoint, graphs, weight_scale, weights

    prefix = checkpoint.prefix(ckpt_index, ckpt_data)
    ends = graphs.read_signature(signature)
    network = graphs.read(graph, *ends["inputs"], ends["output"])
    shapes = graphs.variables(network)
    loaded = graphs.load(network, graph) if layers else None
    deep = bool(layers) and weight_scale.is_deep(loaded)
    values = {name: weights.generate(seed, name, shape, deep=deep) for name, shape in shapes.items()}
    metadata = {"variables": len(shapes), "seed": seed}
    if layers:
        metadata["deep"] = deep
        metadata["logits_scale"] = weight_scale.scale_logits(loaded, ends, values)
    checkpoint.write(prefix, values)
    return Result(metadata=metadata)


@tool.command()
def import_weights(
    checkpoint: Input,
    graph: Input,
    signature: Input,
    checkpoint_data: Optional[Input] = None,
    moving_averages: bool = True,
    ckpt_index: Output = "{model}.ckpt.index",
    ckpt_data: Output = "{model}.ckpt.data-00000-of-00001",
) -> Result:
    """Take the network's variables out of a trained checkpoint, and check that it is one of this network.

    `checkpoint` is the one file of format V1 (to TensorFlow 0.11), or the .index file of format V2, whose
    other file is `checkpoint_data`. With `moving_averages` a variable's moving average over the training
    takes its place where the checkpoint has one; see tools/tf1/checkpoint.py.
    """
    from tools.tf1 import checkpoint as checkpoints
    from tools.tf1 import graphs

    ends = graphs.read_signature(signature)
    part = graphs.read_inference_part(graph, ends)
    name = checkpoints.prefix(checkpoint, checkpoint_data) if checkpoint_data else str(checkpoint)
    values, about = checkpoints.extract(name, graphs.variables(part), moving_averages)
    checkpoints.write(checkpoints.prefix(ckpt_index, ckpt_data), values)
    return Result(metadata={"format": "V2" if checkpoint_data else "V1", **about})


@tool.command()
def freeze(
    graph: Input,
    signature: Input,
    ckpt_index: Input,
    ckpt_data: Input,
    text: bool = False,
    save_weights: bool = False,
    frozen: Output = "{model}.frozen.pb",
) -> Result:
    """Turn a checkpoint's variables into constants; `text` also writes .pbtxt, `save_weights` also .npz."""
    from tools.tf1 import checkpoint, graphs

    ends = graphs.read_signature(signature)
    part = graphs.read_inference_part(graph, ends)
    shapes = graphs.variables(part)
    values = checkpoint.read(checkpoint.prefix(ckpt_index, ckpt_data), shapes)
    graphs.freeze(part, values)
    frozen.write_bytes(part.SerializeToString(deterministic=True))

    extra = {}
    if text:
        from google.protobuf import text_format

        extra["frozen_text"] = str(frozen.with_suffix(".pbtxt"))
        frozen.with_suffix(".pbtxt").write_text(text_format.MessageToString(part))
    if save_weights:
        import numpy as np

        path = frozen.with_name(frozen.name.replace(".frozen.pb", ".weights.npz"))
        extra["weights"] = str(path)
        np.savez(path, **values)
    return Result(outputs=extra, metadata={"variables": len(shapes), "nodes": len(part.node)})


@tool.command()
def reference(
    frozen: Input,
    signature: Input,
    images: Optional[Input] = None,
    n_inputs: int = 8,
    seed: int = 0,
    reference: Output = "{model}.reference.npz",
) -> Result:
    """Write seeded inputs, [n, H, W, C] for images, and the outputs [n, ...] that TensorFlow gives for them.

    The file holds the arrays `inputs/<name>`, one for each input of the network, and `outputs`. The inputs
    of the file `images`, the user's own, come after the seeded ones.
    """
    from tools import arrays
    from tools.tf1 import graphs, references

    ends = graphs.read_signature(signature)
    network = graphs.open_frozen(frozen, ends)
    inputs, counts = references.gather(n_inputs, seed, images, ends)
    outputs = references.outputs(network, ends, inputs)
    references.require_response(outputs)
    arrays.write(reference, inputs=inputs, outputs=outputs)
    metrics, metadata = references.describe(outputs)
    return Result(metrics=metrics, metadata={**metadata, **counts, "seed": seed})


@tool.command()
def calibration(
    signature: Input,
    images: Optional[Input] = None,
    n_inputs: int = 32,
    seed: int = 1,
    calibration: Output = "{model}.calibration.npz",
) -> Result:
    """Write representative inputs, `inputs/<name>`, on which quantisation finds the ranges of activations.

    They are `n_inputs` seeded ones and those of the file `images`, the user's own. The seeded ones are like
    the reference's, smooth fields, which fill the layers as photographs do (white noise averages out, and
    its ranges are too small), but of another seed, so that the gate checks inputs that were not calibrated
    on. They are always there: the gate's inputs would saturate the ranges of a few dim pictures.
    """
    from tools import arrays
    from tools.tf1 import graphs, references

    ends = graphs.read_signature(signature)
    inputs, counts = references.gather(n_inputs, seed, images, ends)
    arrays.write(calibration, inputs=inputs)
    said: dict[str, Any] = {**counts, "seed": seed, "warnings": references.warnings(**counts)}
    if not images:
        said["hint"] = (
            "Add inputs of your own: --images FOLDER; or give all of them: --input calibration=FILE."
        )
    return Result(metadata=said)


@tool.command()
def infer(
    frozen: Input,
    signature: Input,
    images: Input,
    expected: Output = "{model}.expected.npz",
) -> Result:
    """Run the frozen graph on inputs (`inputs/<name>`); write what backends should answer (`outputs`)."""
    from tools import arrays
    from tools.tf1 import graphs, references

    ends = graphs.read_signature(signature)
    network = graphs.open_frozen(frozen, ends)
    outputs = references.outputs(network, ends, references.read(images, ends))
    arrays.write(expected, outputs=outputs)
    return Result(metrics={"n_inputs": len(outputs)}, metadata={"runtime": "tensorflow"})


@tool.command()
def flops(
    graph: Input,
    frozen: Input,
    signature: Input,
    table: Output = "{model}.flops.json",
) -> Result:
    """Count parameters and operations; see tools/tf1/counts.py for `flops` and `inference_flops`."""
    from tools.tf1 import counts, graphs

    ends = graphs.read_signature(signature)
    exported = graphs.read(graph, *ends["inputs"], ends["output"])
    network = graphs.open_frozen(frozen, ends)
    by_node = counts.count_by_node(network)
    rows = [
        {
            "name": node.name,
            "op": node.type,
            "shape": node.outputs[0].shape.as_list(),
            "flops": by_node[node.name],
        }
        for node in network.get_operations()
        if node.name in by_node
    ]
    macs = sum(row["flops"] for row in rows if row["op"] in counts.MULTIPLY_ADDS) // 2
    metrics = {
        "params": counts.params(exported),
        "flops": sum(counts.count_by_node(graphs.load(exported, graph)).values()),
        "inference_flops": sum(by_node.values()),
        "macs": macs,
    }
    write_json(table, {**metrics, "nodes": rows})
    return Result(metrics=metrics)


@tool.command()
def prune(
    graph: Input,
    ckpt_index: Input,
    ckpt_data: Input,
    method: str,
    amount: float,
    layer: str = "",
    scope: str = "layer",
    pruned_index: Output = "{model}.pruned.ckpt.index",
    pruned_data: Output = "{model}.pruned.ckpt.data-00000-of-00001",
    sparsity: Output = "{model}.sparsity.json",
) -> Result:
    """Set the smallest weights to zero: a ratio of each `layer`, or of all (`global`); or up to a threshold.

    `layer` is a regular expression that is to be found in a kernel's name; all kernels if it is empty.
    """
    import shutil

    import numpy as np

    from tools.tf1 import checkpoint, graphs, pruning

    pruning.check(method, amount, scope)
    shapes = graphs.variables(graphs.read(graph))
    chosen = pruning.kernels(shapes, layer)
    values = checkpoint.read(checkpoint.prefix(ckpt_index, ckpt_data), shapes)
    pruned = pruning.prune({name: values[name] for name in chosen}, method, amount, scope)
    if all(np.array_equal(values[name], pruned[name]) for name in chosen):
        shutil.copyfile(ckpt_index, pruned_index)  # a checkpoint written anew has another order
        shutil.copyfile(ckpt_data, pruned_data)
    else:
        values.update(pruned)
        checkpoint.write(checkpoint.prefix(pruned_index, pruned_data), values)
    rows = pruning.table(shapes, values, chosen)
    write_json(sparsity, rows)
    weights, zeros = (sum(row[key] for row in rows) for key in ("weights", "zeros"))
    metrics = {"weights": weights, "zeros": zeros, "sparsity": zeros / weights}
    said = {"pruned": len(chosen), "kernels": len(rows), "warnings": pruning.warnings(rows)}
    return Result(metrics=metrics, metadata=said)


@tool.command()
def describe(
    frozen: Input, input_shape: str = "", described: Output = "{model}.frozen.layers.json"
) -> Result:
    """Count parameters and operations of each layer of any frozen graph; see tools/anatomy.py."""
    from tools import anatomy
    from tools.tf1 import anatomy as frozen_graph

    found = anatomy.describe(frozen_graph.read(frozen, anatomy.parse_shapes(input_shape)))
    write_json(described, found)
    return anatomy.result(found)


@tool.command()
def to_tflite(frozen: Input, signature: Input, tflite: Output = "{model}.tflite") -> Result:
    """Convert to TFLite, float32."""
    return _to_tflite(frozen, signature, "fp32", tflite)


@tool.command()
def to_tflite_fp16(frozen: Input, signature: Input, tflite_fp16: Output = "{model}.fp16.tflite") -> Result:
    """Convert to TFLite with weights of float16; a CPU computes in float32 with them."""
    return _to_tflite(frozen, signature, "fp16", tflite_fp16)


@tool.command()
def to_tflite_int8_dynamic(
    frozen: Input, signature: Input, tflite_int8_dynamic: Output = "{model}.int8-dynamic.tflite"
) -> Result:
    """Convert to TFLite with weights of int8; activations are quantised while it runs."""
    return _to_tflite(frozen, signature, "int8-dynamic", tflite_int8_dynamic)


@tool.command()
def to_tflite_int8(
    frozen: Input, signature: Input, calibration: Input, tflite_int8: Output = "{model}.int8.tflite"
) -> Result:
    """Convert to TFLite with weights and activations of int8; inputs, output and softmax stay float32."""
    return _to_tflite(frozen, signature, "int8", tflite_int8, calibration)


def _to_tflite(
    frozen: Path, signature: Path, precision: str, made: Path, calibration: Optional[Path] = None
) -> Result:
    from tools.tf1 import convert, graphs, references

    ends = graphs.read_signature(signature)
    graphs.open_frozen(frozen, ends)
    representative = references.read(calibration, ends) if calibration else None
    progress(0.1, "converting")
    size = made.write_bytes(convert.to_tflite(frozen, ends, precision, representative))
    return Result(metrics={"size_bytes": size}, metadata={"precision": precision})


@tool.command()
def to_onnx(frozen: Input, signature: Input, opset: int = 13, onnx: Output = "{model}.onnx") -> Result:
    """Convert to ONNX, with the signature's names; images are [1, C, H, W]."""
    from tools.tf1 import convert, graphs

    ends = graphs.read_signature(signature)
    graph = graphs.open_frozen(frozen, ends)
    progress(0.1, "converting")
    model = convert.to_onnx(graph, ends, opset)
    size = onnx.write_bytes(model.SerializeToString(deterministic=True))
    return Result(metrics={"size_bytes": size}, metadata={"opset": opset, "ir_version": model.ir_version})
