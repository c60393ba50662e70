"""A stand-in for snpe-diagview: the real one's text of the stand-in's log."""

import argparse
import json
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--input_log", required=True)
log = json.loads(Path(parser.parse_args().input_log).read_text())
total = log["total_us"]
rpc = total * 0.9 if log["unit"] == "DSP" else 0
newer = log["version"] >= "2.11"
print(f"""CREATE NETWORK: 1000
Log File Created: Wed Jun  7 12:29:31 2023
Time Scale: 1e-06
Epoch Timestamp: 1686121171797894 Steady Clock Timestamp: 592172815024
Software library version: {log["version"]}

Dnn Runtime Load/Deserialize/Create/De-Init Statistics:
--------------------------------------------------
Load: 100 us

Init: {log["init_us"]:.0f} us
De-Init: 100 us

RPC Init Time: 0 NONE

Average SNPE Statistics:
------------------------------
Total Inference Time: {max(total, 1):.0f} us
Forward Propagate Time: {total * 0.98:.0f} us
RPC Execute Time: {rpc:.0f} us
Accelerator Time: {rpc * 0.9:.0f} us
""")
if log["layers"]:
    print("Layer Times: \n---------------")
for index, (name, unit) in enumerate(log["layers"]):
    value = "7466069 cycles" if unit == "DSP" and newer else f"{total / 4:.0f} us"
    print(f"{index:3}: {name} : {value} : {unit}" if newer else f"{index}: {value} : {unit}")
