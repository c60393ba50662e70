"""A stand-in for snpe-onnx-to-dlc and snpe-tensorflow-to-dlc: reads ONNX, whatever it is called, and writes a
zip of it that only the other stand-ins read. Its options and its words are those of the real ones."""

import argparse
import json
import sys
import zipfile

import onnx

OPTIONS, VERSION, TENSORFLOW, FAULT = "@OPTIONS@", "@VERSION@", "tensorflow" in sys.argv[0], "@FAULT@"
parser = argparse.ArgumentParser(prog=sys.argv[0].rpartition("/")[2])
names = ("--graph", "--dlc") if TENSORFLOW else ("--model_path", "--dlc_path")
if OPTIONS == "newer":
    names = ("--input_network", "--output_path")
parser.add_argument(names[0], required=True, dest="network")
parser.add_argument(names[1], required=True, dest="dlc")
if TENSORFLOW:
    parser.add_argument("--input_dim", nargs=2, action="append", required=True)
    parser.add_argument("--out_node", required=True)
arguments = parser.parse_args()
if FAULT == "unsupported":
    print("2024-01-01 - ERROR - ERROR_OP_NOT_SUPPORTED: Operation Cosh is not supported", file=sys.stderr)
    sys.exit(0)  # the real ones do that too
try:
    model = onnx.load(arguments.network)
    onnx.checker.check_model(model)
except Exception as error:  # noqa: BLE001 - as the real ones
    print(f"2024-01-01 - ERROR - Encountered Error: {error}", file=sys.stderr)
    sys.exit(1)
generation = int(VERSION.split(".")[0])
shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
shape = [shape[0], *shape[2:], shape[1]]  # the real ones make it channels-last
if TENSORFLOW and arguments.input_dim[0][1] != ",".join(map(str, shape)):
    print("ERROR - the input is of another size", file=sys.stderr)
    sys.exit(1)
about = {"generation": generation, "version": VERSION, "input": model.graph.input[0].name, "shape": shape}
about["macs"] = 1
with zipfile.ZipFile(arguments.dlc, "w") as dlc:
    dlc.writestr("about.json", json.dumps(about))
    dlc.writestr("network.onnx", model.SerializeToString())
if FAULT != "silent":
    print("2024-01-01 - INFO - INFO_CONVERSION_SUCCESS: Conversion completed successfully", file=sys.stderr)
