"""Load a network onto a stick with the real plug-in: `python load_network.py FOLDER LIMIT_S`.

Prints one line of JSON: the exception's text and the seconds of the call. After LIMIT_S it is ended, with a
traceback that begins with `Timeout`: the plug-in has no limit of its own for a stick that is silent.
"""

import faulthandler
import json
import sys
import time
from pathlib import Path

from tools.ncs.inference_engine import PLUGIN, core, read_network

NETWORK = """<net name="relu" version="10"><layers>
<layer id="0" name="in" type="Parameter" version="opset1"><data shape="1,3,8,8" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>8</dim><dim>8</dim></port></output></layer>
<layer id="1" name="relu" type="ReLU" version="opset1">
<input><port id="0"><dim>1</dim><dim>3</dim><dim>8</dim><dim>8</dim></port></input>
<output><port id="1" precision="FP32"><dim>1</dim><dim>3</dim><dim>8</dim><dim>8</dim></port></output></layer>
<layer id="2" name="out" type="Result" version="opset1">
<input><port id="0"><dim>1</dim><dim>3</dim><dim>8</dim><dim>8</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>"""

folder, limit_s = Path(sys.argv[1]), float(sys.argv[2])
(folder / "relu.xml").write_text(NETWORK)
(folder / "relu.bin").touch()
openvino = core()
network = read_network(openvino, folder / "relu.xml")
faulthandler.dump_traceback_later(limit_s, exit=True)
start = time.monotonic()
try:
    openvino.load_network(network, PLUGIN, config={"LOG_LEVEL": "LOG_WARNING"})
    error = None
except RuntimeError as caught:
    error = str(caught)
print(json.dumps({"error": error, "s": round(time.monotonic() - start, 1)}))
