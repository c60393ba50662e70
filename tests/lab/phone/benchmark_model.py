"""A stand-in for TensorFlow Lite's benchmark_model, for the virtual phone: real outputs, made-up units.

It runs the network with ai-edge-litert on the host's CPU and prints what LiteRT's program prints
(tflite/tools/benchmark of 2025), also where it is told that it is a GPU. What goes wrong on demand is in
/vendor/etc/benchmark_model.json: {"fault": one of those in `main`}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

FAULTS = Path("/vendor/etc/benchmark_model.json")
FLAGS = [
    "graph",
    "num_threads",
    "warmup_runs",
    "warmup_min_secs",
    "num_runs",
    "min_secs",
    "max_secs",
    "input_layer",
    "input_layer_shape",
    "input_layer_value_files",
    "output_filepath",
    "enable_op_profiling",
    "report_peak_memory_footprint",
    "use_gpu",
    "use_nnapi",
    "gpu_precision_loss_allowed",
    "disable_nnapi_cpu",
    "nnapi_allow_fp16",
]
DELEGATES = {"use_gpu": ("GPU", "TfLiteGpuDelegateV2"), "use_nnapi": ("NNAPI", "TfLiteNnapiDelegate")}
EVEN_NS = 10_000_000
HEADING = "[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]"


def say(text: str) -> None:
    print(f"INFO: {text}")


def main(argv: list[str]) -> int:
    fault = json.loads(FAULTS.read_text())["fault"] if FAULTS.exists() else ""
    known = [name for name in FLAGS if (name, fault) != ("output_filepath", "old")]
    given = dict(word.removeprefix("--").split("=", 1) for word in argv)
    flags = {name: value for name, value in given.items() if name in known}
    part = "profile" if "enable_op_profiling" in flags else "check" if flags["num_runs"] == "1" else "steady"
    part = "round" if part == "steady" and flags["min_secs"] == "0" else part
    part = "window" if "max_secs" in flags else part
    sys.stdout.reconfigure(line_buffering=True)  # as the real one
    say("STARTING!")
    if left := [f"--{name}={given[name]}" for name in given if name not in known]:
        print(f"WARN: Unconsumed cmdline flags: {' '.join(left)}")
    say("Log parameter values verbosely: [0]")
    say(f"Num threads: [{flags['num_threads']}]")
    say(f"Graph: [{flags['graph']}]")
    say(f"#threads used for CPU inference: [{flags['num_threads']}]")
    asked = [name for name in DELEGATES if flags.get(name) == "true"]
    for name in asked:
        say(f"{'Use gpu' if name == 'use_gpu' else 'Use NNAPI'}: [1]")
    start = time.perf_counter()
    interpreter = Interpreter(model_path=flags["graph"], num_threads=int(flags["num_threads"]))
    interpreter.allocate_tensors()
    say(f"Loaded model {flags['graph']}")
    n_nodes = sum(op["op_name"] != "DELEGATE" for op in interpreter._get_ops_details())
    for name in asked:
        if code := apply(*DELEGATES[name], fault, n_nodes):
            return code
    size = Path(flags["graph"]).stat().st_size
    say(f"The input model file size (MB): {size / 1e6:g}")
    init_us = (time.perf_counter() - start) * 1e6
    say(f"Initialized session in {init_us / 1e3:g}ms.")
    fill(interpreter, flags)
    least_ns = EVEN_NS if fault == "even" else 0
    warmup = run(interpreter, int(flags["warmup_runs"]), float(flags["warmup_min_secs"]), least_ns)
    if (fault, part) in (("killed", "round"), ("killed in a window", "window")):
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    timed = run(interpreter, int(flags["num_runs"]), float(flags["min_secs"]), least_ns)
    if fault == "hot" and part == "round":
        throttle()
    say(
        f"Inference timings in us: Init: {init_us:.0f}, First inference: {warmup[0]}, "
        f"Warmup (avg): {np.mean(warmup):g}, Inference (avg): {np.mean(timed):g}"
    )
    say("Memory footprint delta from the start of the tool (MB): init=8.97656 overall=18.7227")
    if flags.get("report_peak_memory_footprint") == "true":
        say("Overall peak memory footprint (MB) via periodic monitoring: 93.2383")
    if flags.get("enable_op_profiling") == "true":
        profile(interpreter, float(np.mean(timed)))
    if path := flags.get("output_filepath"):
        (output,) = interpreter.get_output_details()
        values = interpreter.get_tensor(output["index"])
        later = (fault, part) in (("wrong later", "steady"), ("wrong in a window", "window"))
        Path(path).write_bytes((values[..., ::-1] if fault == "wrong" or later else values).tobytes())
    return 0


def apply(name: str, registration: str, fault: str, n_nodes: int) -> int:
    """Say what becomes of a delegate; return the exit code if it is the end."""
    if fault == "refused":
        print(f"ERROR: Failed to apply {name} delegate.")
        return 1
    explicitly = f"Explicitly applied {name} delegate, and the model graph will be"
    n_taken, n_pieces = (3, 2) if fault == "partly" else (n_nodes, 1)
    if fault not in ("falls back", "silent"):
        print(
            f"VERBOSE: Replacing {n_taken} out of {n_nodes} node(s) with delegate ({registration}) node, "
            f"yielding {n_pieces} partitions for subgraph 0."
        )
    if fault == "falls back":
        text = f"Though {name} delegate is explicitly applied, the model graph will not be executed"
        say(f"{text} by the delegate.")
    elif fault == "partly":
        say(f"{explicitly} partially executed by the delegate w/ {n_pieces} delegate kernels.")
    elif fault != "silent":
        say(f"{explicitly} completely executed by the delegate.")
    if fault in ("falls back", "partly", "silent"):
        say("Created TensorFlow Lite XNNPACK delegate for CPU.")
    return 0


def fill(interpreter: Interpreter, flags: dict[str, str]) -> None:
    """Set the inputs from their files, in the order of the network."""
    files = [pair.rpartition(":")[2] for pair in flags["input_layer_value_files"].split(",")]
    for wanted, file in zip(interpreter.get_input_details(), files, strict=True):
        data = np.frombuffer(Path(file).read_bytes(), wanted["dtype"])
        interpreter.set_tensor(wanted["index"], data.reshape(wanted["shape"]))


def run(interpreter: Interpreter, least: int, seconds: float, least_ns: int) -> list[int]:
    """Infer as often and as long as is wanted; print the summary, return the times in us.

    An inference takes `least_ns` at least, and keeps the processor busy for that.
    """
    until = f"at least {least} iterations and at least {seconds:g} seconds"
    say(f"Running benchmark for {until} but terminate if exceeding 150 seconds.")
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        before = time.perf_counter_ns()
        interpreter.invoke()
        while time.perf_counter_ns() - before < least_ns:
            pass
        times.append((time.perf_counter_ns() - before) // 1000)
    if len(set(times)) == 1:
        same = "" if len(times) == 1 else "(all same)"
        say(f"count={len(times)} curr={times[0]}{same}\n")
        return times
    text = f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} max={max(times)}"
    p5, median, p95 = (int(np.percentile(times, each)) for each in (5, 50, 95))
    say(f"{text} avg={np.mean(times):g} std={np.std(times):.0f} p5={p5} median={median} p95={p95}\n")
    return times


def profile(interpreter: Interpreter, mean_us: float) -> None:
    """Print a profile in which all operators take the same time."""
    names = [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]
    share, ms = 100 / len(names), mean_us / 1e3 / len(names)
    say("Operator-wise Profiling Info for Regular Benchmark Runs:")
    print(f"{'=' * 30} Run Order {'=' * 30}\n{HEADING}")
    for index, name in enumerate(names):
        print(f"{name} {ms:.3f} {ms:.3f} {share:.3f}% {share * (index + 1):.3f}% 0.000 1 [x{index}]:{index}")
    print(f"\nNumber of nodes executed: {len(names)}")


def throttle() -> None:
    """Get hot: Android lowers the clock's limit of the fast cores, and says so."""
    for cpu in (4, 5, 6):
        Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_max_freq").write_text("1401600\n")
    service = Path("/vendor/etc/dumpsys/thermalservice")
    service.write_text(service.read_text().replace("Thermal Status: 0", "Thermal Status: 2"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
