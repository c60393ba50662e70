"""What the tool adds to Qualcomm's emulator: session and one inference, ours beside a bare script, A B A B.

    python -m tests.bench.snpe_session [--model squeezenet] [--turns 9] [--work WORK]

The bare script makes a session of onnxruntime-qnn on the ONNX file, in float16, and runs it once. Ours does
what `snpe.context` and `snpe.emulate` do: compile, write the context binary, load it, read the DLC, run once,
and read from the profile what the HTP executed. Each turn is a new process of the tool's environment; imports
are not counted on either side.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from host import ROOT
from host.engines.venv import environment, tool_environment

BARE = """
import sys, time
import numpy as np
import onnxruntime as ort
import onnxruntime_qnn as qnn

onnx, dlc = sys.argv[1:]
ort.set_default_logger_severity(3)
ort.register_execution_provider_library("QNN", qnn.get_library_path())
[device] = [device for device in ort.get_ep_devices() if device.ep_name == "QNN"]
start = time.perf_counter()
options = ort.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
htp = {"backend_path": qnn.get_qnn_htp_path(), "soc_model": "43", "htp_arch": "73"}
options.add_provider_for_devices([device], {**htp, "enable_htp_fp16_precision": "1"})
session = ort.InferenceSession(onnx, options)
[given] = session.get_inputs()
session.run(None, {given.name: np.zeros(given.shape, np.float32)})
print(time.perf_counter() - start)
"""
OURS = """
import sys, tempfile, time
from pathlib import Path
import numpy as np
from tools import snpe, socs
from tools.snpe import dlc as containers, qnn

onnx, dlc = map(Path, sys.argv[1:])
qnn._device()
start = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    made = [Path(folder, f"m.ctx.{kind}") for kind in ("onnx", "bin")]
    qnn.compile_context(onnx, socs.find("sm8550"), *made)
    session = qnn.HtpSession(*made, socs.find("sm8550"), snpe._computes_in(containers.read(dlc)))
    session.feed({name: np.zeros(shape, np.float32) for name, shape in session.input_shapes.items()})
    session.infer()
    session.output()
    assert session.operations()["float16"]
    print(time.perf_counter() - start)
"""


def seconds(script: str, *files: Path) -> float:
    """Return what a script prints last."""
    argv = [
        str(environment("snpe", lambda text: print(text, file=sys.stderr))),
        "-c",
        script,
        *map(str, files),
    ]
    done = subprocess.run(argv, env=tool_environment(), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the medians of both and of their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="squeezenet", help="a network of the zoo")
    parser.add_argument("--turns", type=int, default=9, help="A B pairs, of which the medians are taken")
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="where its files are, or are made")
    options = parser.parse_args()
    argv = [sys.executable, "runner.py", "run", "snpe.convert", "--model", options.model, "--engine", "venv"]
    subprocess.run([*argv, "--work", str(options.work)], cwd=ROOT, stdout=sys.stderr, check=True)
    files = [
        options.work.resolve() / "models" / options.model / f"{options.model}.{kind}"
        for kind in ("onnx", "dlc")
    ]
    pairs = []
    for turn in range(options.turns):
        pairs.append((seconds(OURS, *files), seconds(BARE, *files)))
        print(f"turn {turn + 1}: ours {pairs[-1][0]:.3f} s, bare {pairs[-1][1]:.3f} s", file=sys.stderr)
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"{options.model}: ours {ours:.3f} s, bare {bare:.3f} s, median of the pairs' ratios {ratio:.3f}")


if __name__ == "__main__":
    main()
