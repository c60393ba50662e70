"""A stand-in for snpe-dlc-quantize, snpe-dlc-quant and snpe-dlc-graph-prepare: rounds weights to 8 bits."""

import argparse
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

program = Path(sys.argv[0]).name
parser = argparse.ArgumentParser(prog=program)
parser.add_argument("--input_dlc", required=True)
parser.add_argument("--output_dlc", required=True)
if program == "snpe-dlc-graph-prepare":
    parser.add_argument("--htp_socs", required=True)
else:
    parser.add_argument("--input_list", required=True)
if program == "snpe-dlc-quant":
    parser.add_argument("--act_bitwidth", type=int, default=8)
    parser.add_argument("--weights_bitwidth", type=int, default=8)
    parser.add_argument("--use_per_channel_quantization", action="store_true")
arguments = parser.parse_args()
with zipfile.ZipFile(arguments.input_dlc) as dlc:
    about = json.loads(dlc.read("about.json"))
    model = onnx.load_model_from_string(dlc.read("network.onnx"))
if program == "snpe-dlc-graph-prepare":
    if not about.get("quantised"):
        sys.exit("[ERROR] the DLC is not quantised")
    about["prepared"] = arguments.htp_socs.split(",")
else:
    inputs = [line.split() for line in Path(arguments.input_list).read_text().splitlines()]
    count = int(np.prod(about["shape"]))
    sizes = {np.fromfile(path, "<f4").size for line in inputs for path in line}
    if sizes != {count}:
        sys.exit(f"[ERROR] inputs of {sizes} values, {count} are wanted")
    about["quantised"] = True
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32:
            continue
        step = np.abs(weights).max() / 127
        tensor.CopyFrom(numpy_helper.from_array((np.round(weights / step) * step).astype("f"), tensor.name))
with zipfile.ZipFile(arguments.output_dlc, "w") as dlc:
    dlc.writestr("about.json", json.dumps(about))
    dlc.writestr("network.onnx", model.SerializeToString())
words = {
    "snpe-dlc-quantize": "Writing quantized model to",
    "snpe-dlc-quant": "[INFO] Saved quantized dlc to:",
}
print(words.get(program, "[INFO] Saved prepared dlc to:"), arguments.output_dlc)
