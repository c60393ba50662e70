"""A stand-in for snpe-net-run and snpe-throughput-net-run: computes with ONNX Runtime on this machine's CPU,
leaves the files of the real ones, and says the same."""

import argparse
import json
import os
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

VERSION, FAULT = "@VERSION@", "@FAULT@"
PROFILES = ["balanced", "default", "high_performance", "sustained_high_performance", "power_saver", "burst"]
program = Path(sys.argv[0]).absolute()
home = program.parents[1]
throughput = "throughput" in program.name

parser = argparse.ArgumentParser(prog=program.name)
parser.add_argument("--container", required=True)
parser.add_argument("--perf_profile", choices=PROFILES, default="balanced")
for flag in ("--use_gpu", "--use_dsp"):
    parser.add_argument(flag, action="store_true")
if throughput:
    parser.add_argument("--duration", type=int, required=True)
    parser.add_argument("--input_raw", required=True)
    parser.add_argument("--use_cpu", action="store_true")
    parser.add_argument("--use_gpu_fp16", action="store_true")
else:
    parser.add_argument("--input_list", required=True)
    parser.add_argument("--output_dir", default="./output")
    parser.add_argument("--gpu_mode", choices=["default", "float16"])
    if not VERSION.startswith("1.1"):
        parser.add_argument(
            "--profiling_level", choices=["off", "basic", "moderate", "detailed"], default="detailed"
        )
arguments = parser.parse_args()
unit = "DSP" if arguments.use_dsp else "GPU" if arguments.use_gpu else "CPU"

assert os.environ["LD_LIBRARY_PATH"].split(":")[0] == f"{home}/lib", os.environ["LD_LIBRARY_PATH"]
assert (home / "lib" / "libSNPE.so").exists()
if unit == "DSP":
    adsp = os.environ["ADSP_LIBRARY_PATH"].split(";")
    assert adsp[1:] == ["/system/lib/rfsa/adsp", "/system/vendor/lib/rfsa/adsp", "/dsp"], adsp
    skels = [path for path in Path(adsp[0]).glob("*.so") if "skel" in path.name.lower()]
    if FAULT == "no skel" or not skels:
        print("PF_VALIDATOR: ERROR: -2 . Error while executing the sum function.")
        print("SNPE is NOT supported for runtime DSP on the device")
        sys.exit(1)

with zipfile.ZipFile(arguments.container) as dlc:
    about = json.loads(dlc.read("about.json"))
    start = time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(dlc.read("network.onnx"), options, providers=["CPUExecutionProvider"])
    init_us = (time.perf_counter() - start) * 1e6
if about["generation"] != int(VERSION.split(".")[0]):
    print("error_code=1002; error_message=DLC of another generation. ; error_component=Dlc; line_no=1")
    sys.exit(1)
if unit == "DSP" and about["generation"] == 2 and not about.get("quantised"):
    print("error_code=302; error_message=The DLC is not quantised; error_component=Runtime; line_no=1")
    sys.exit(1)


def infer(path):
    values = np.fromfile(path, "<f4").reshape(about["shape"])
    begun = time.perf_counter()
    [answer] = session.run(None, {about["input"]: np.ascontiguousarray(np.moveaxis(values, -1, 1))})
    return answer, (time.perf_counter() - begun) * 1e6


if throughput:
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < arguments.duration:
        infer(arguments.input_raw)
        count += 1
    rate = count / (time.perf_counter() - begun)
    print(
        f"[Thread 0 - {unit.lower()}] {rate:.6g} infs/sec - Number of images processed: {count} - Batch : 1"
    )
    print(f"Total throughput: {rate:.6g} infs/sec")
    sys.exit(0)

level = getattr(arguments, "profiling_level", "detailed")
if FAULT == "execute fails" or (FAULT == "timing fails" and level == "basic"):
    print("error_code=7005; error_message= QnnGraph_addNode() failed for layer: conv1; error_component=QNN")
    sys.exit(0)
times = []
for number, line in enumerate(Path(arguments.input_list).read_text().splitlines()):
    path = line.partition(":=")[2] or line
    answer, us = infer(path)
    times.append(us)
    if FAULT == "wrong output" or (FAULT == "wrong when timed" and level == "basic"):
        answer = answer[:, ::-1]
    folder = Path(arguments.output_dir, f"Result_{number}")
    folder.mkdir(parents=True)
    answer.astype("<f4").tofile(folder / "output:0.raw")
layers = ["conv1", "pool1", "conv2"] if level == "detailed" else []
ran_on = {"falls back": ["CPU"] * 3, "half falls back": [unit, "CPU", unit]}.get(FAULT, [unit] * 3)
log = {"version": VERSION, "init_us": init_us, "total_us": sum(times) / len(times), "unit": unit}
log["layers"] = [[name, where] for name, where in zip(layers, ran_on, strict=False)]
Path(arguments.output_dir, "SNPEDiag_0.log").write_text(json.dumps(log))
