"""TensorFlow graph mode: generate weights, export, freeze, make reference outputs, count, convert."""

from __future__ import annotations

from tools.stage import Input, InvalidRequest, Output, Result, Tool, progress, write_json

# TensorFlow's distribution has another name on each kind of machine; see images/tf1/requirements.in.
TENSORFLOW = ("tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow")

tool = Tool("tf1", packages=(*TENSORFLOW, "tf2onnx", "onnx", "numpy"))


@tool.command()
def generate_weights(
    network: str,
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1001,
    depth_multiplier: float = 1.0,
    sequence_length: int = 128,
    seed: int = 0,
    ckpt_index: Output = "{model}.ckpt.index",
    ckpt_data: Output = "{model}.ckpt.data-00000-of-00001",
) -> Result:
    """Write a checkpoint of generated weights: the same values on every machine."""
    from tools.tf1 import checkpoint, graphs, networks, weights

    prefix = checkpoint.prefix(ckpt_index, ckpt_data)
    built = networks.build(
        network,
        image_size=image_size,
        channels=channels,
        classes=classes,
        depth_multiplier=depth_multiplier,
        sequence_length=sequence_length,
    )
    shapes = graphs.variables(built.graph.as_graph_def())
    checkpoint.write(prefix, {name: weights.generate(seed, name, shape) for name, shape in shapes.items()})
    return Result(metadata={"variables": len(shapes), "seed": seed})


@tool.command()
def export(
    network: str,
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1001,
    depth_multiplier: float = 1.0,
    sequence_length: int = 128,
    graph: Output = "{model}.inf.pb",
    signature: Output = "{model}.signature.json",
) -> Result:
    """Write the inference graph (variables not frozen) and its signature."""
    from tools.tf1 import graphs, networks

    built = networks.build(
        network,
        image_size=image_size,
        channels=channels,
        classes=classes,
        depth_multiplier=depth_multiplier,
        sequence_length=sequence_length,
    )
    graph.write_bytes(built.graph.as_graph_def().SerializeToString(deterministic=True))
    described = graphs.signature_of(built.graph, built.inputs, networks.OUTPUT, built.output_kind)
    write_json(signature, described)
    return Result(metadata=described)


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
    part = graphs.inference_part(graphs.read(graph, *ends["inputs"], ends["output"]), ends["output"])
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

        path = frozen.with_name(frozen.name.removesuffix(".frozen.pb") + ".weights.npz")
        extra["weights"] = str(path)
        np.savez(path, **values)
    return Result(outputs=extra, metadata={"variables": len(shapes), "nodes": len(part.node)})


@tool.command()
def reference(
    frozen: Input,
    signature: Input,
    n_inputs: int = 8,
    seed: int = 0,
    reference: Output = "{model}.reference.npz",
) -> Result:
    """Write seeded inputs, [n, H, W, C] for images, and the outputs [n, ...] that TensorFlow gives for them.

    The file holds the arrays `inputs/<name>`, one for each input of the network, and `outputs`.
    """
    import numpy as np

    from tools.tf1 import graphs, references

    if n_inputs < 1:
        message = f"n_inputs is {n_inputs}, and a reference needs at least one input"
        raise InvalidRequest(message, hint="Use 8, the default.")
    ends = graphs.read_signature(signature)
    network = graphs.open_frozen(frozen, ends)
    inputs = references.inputs(n_inputs, seed, ends)
    outputs = references.outputs(network, ends, inputs)
    np.savez(reference, outputs=outputs, **{f"inputs/{name}": values for name, values in inputs.items()})
    metrics, metadata = references.describe(outputs)
    return Result(metrics=metrics, metadata={**metadata, "seed": seed})


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
        {"name": node.name, "op": node.type, "shape": node.outputs[0].shape.as_list(), "flops": count}
        for node in network.get_operations()
        if (count := by_node.get(node.name))
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
    values = checkpoint.read_all(checkpoint.prefix(ckpt_index, ckpt_data), shapes)
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
    return Result(metrics=metrics, metadata={"pruned": len(chosen), "kernels": len(rows)})


@tool.command()
def describe(frozen: Input, input_shape: str = "", layers: Output = "{model}.frozen.layers.json") -> Result:
    """Count parameters and operations of each layer of any frozen graph; see tools/anatomy.py."""
    from tools import anatomy
    from tools.tf1 import anatomy as frozen_graph

    found = anatomy.describe(frozen_graph.read(frozen, anatomy.parse_shapes(input_shape)))
    write_json(layers, found)
    return anatomy.result(found)


@tool.command()
def to_tflite(frozen: Input, signature: Input, tflite: Output = "{model}.tflite") -> Result:
    """Convert to TFLite, float32."""
    from tools.tf1 import convert, graphs

    ends = graphs.read_signature(signature)
    graphs.open_frozen(frozen, ends)
    progress(0.1, "converting")
    size = tflite.write_bytes(convert.to_tflite(frozen, ends))
    return Result(metrics={"size_bytes": size})


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
