"""Pools alone on the HTP emulator in float16, beside ONNX Runtime on the CPU: which of them come out wrong.

    python -m tests.bench.snpe_pools [--soc sm8550 ...]

Prints of each pool how many of its values are off by more than 1 % of the largest, and in which columns of
the output. The input is normal noise of values that float16 has, so a right maximum is exact.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from host import ROOT
from host.engines.venv import environment, tool_environment

# operator, channels, size of the input, window, stride, padding at each side
POOLS = [
    *(("MaxPool", 256, 18, window, 2, 0) for window in (3, 5, 6, 7, 8, 9, 10)),
    *(("MaxPool", 256, 18, 8, stride, 0) for stride in (1, 3, 4)),
    *(("MaxPool", channels, 32, 8, 2, 0) for channels in (1, 16)),
    ("AveragePool", 256, 18, 8, 2, 0),
    *(("AveragePool", channels, 56, 3, 1, 1) for channels in (11, 32)),
    ("AveragePool", 11, 14, 3, 1, 1),
]
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from tools import socs
from tools.snpe import qnn

pools, chips = json.loads(sys.argv[1])
folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "pool.onnx")
for operator, channels, size, window, stride, pad in pools:
    made = (size + 2 * pad - window) // stride + 1
    node = helper.make_node(
        operator, ["x"], ["y"], "pool", kernel_shape=[window] * 2, strides=[stride] * 2, pads=[pad] * 4
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, n, n])
        for name, n in (("x", size), ("y", made))
    ]
    graph = helper.make_graph([node], "pool", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    x = np.random.default_rng(0).standard_normal((1, channels, size, size)).astype("e").astype("f")
    [right] = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    for chip in map(socs.find, chips):
        [given] = qnn.load(path, qnn.htp(chip), qnn.NO_FALLBACK, said=chip.htp).run(None, {"x": x})
        wrong = np.abs(given - right) > 0.01 * np.abs(right).max()
        columns = [n + 1 for n in range(made) if wrong[..., n].any()]
        where = f" in columns {columns}" if 0 < len(columns) < made else ""
        text = f"{operator} {window}x{window} stride {stride} padding {pad} on {channels} x {size} x {size}"
        print(f"{chip.htp}: {text}: {wrong.sum()} of {wrong.size} wrong{where}", flush=True)
"""


def main() -> None:
    """Print a line for each pool and chip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--soc", action="append", help="a chip; one of each HTP with float16 if none is named"
    )
    chips = parser.parse_args().soc or ["sm8350", "sm8450", "sm8550", "sm8650", "sm8750", "sm8850"]
    python = environment("snpe", lambda text: print(text, file=sys.stderr))
    argv = [str(python), "-c", SCRIPT, json.dumps([POOLS, chips])]
    subprocess.run(argv, env=tool_environment(), cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
