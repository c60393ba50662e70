"""A stand-in for snpe-dlc-info: the tables of the real one, of either generation."""

import argparse
import json
import sys
import zipfile

VERSION = "@VERSION@"
parser = argparse.ArgumentParser()
parser.add_argument("--input_dlc", "-i", required=True)
arguments = parser.parse_args()
with zipfile.ZipFile(arguments.input_dlc) as dlc:
    about = json.loads(dlc.read("about.json"))
if about["generation"] != int(VERSION.split(".")[0]):
    print("error_code=1002; error_message=Model record is of another generation; line_no=1", file=sys.stderr)
    sys.exit(0)
name, shape = about["input"], about["shape"]
line = "-" * 60
print(f"DLC info for: {arguments.input_dlc}\n{line}")
if about["generation"] == 1:
    print("| Id | Name | Type | Inputs | Outputs | Out Dims | Runtimes | Parameters |")
    print(f"{line}\n| 0 | {name} | data | {name} | {name} | {'x'.join(map(str, shape))} | A D G C | |")
    print("| 1 | conv | convolutional | input | conv | 1x16x16x8 | A D G C | num filters: 8 |")
else:
    print(f"| Input Name | Dimensions | Type     |\n{line}")
    print(f"| {name}     | {','.join(map(str, shape))}  | Float_32 |\n{line}")
    print("| Output Name | Dimensions | Type     |\n| output | 1,10 | Float_32 |")
print(f"{line}\nTotal parameters: 123 (0 MB assuming single precision float)")
print(f"Total MACs per inference: {about['macs']}M (100%)\nDLC created with converter version: {VERSION}")
