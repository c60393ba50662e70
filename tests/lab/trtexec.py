#!/usr/bin/env python3
"""A stand-in for NVIDIA's trtexec: its flags, printed text and files, of the version asked for.

It runs the network for real, by ONNX Runtime on this machine's processor, so outputs are right and times are
this machine's. Everything from it is simulated, and its first line says so (`SIMULATED`). It takes the
installed packages onnx, onnxruntime and numpy, and none of this project's.

    TRTEXEC_VERSION=8201 python tests/lab/trtexec.py --onnx=net.onnx --saveEngine=net.engine

TRTEXEC_VERSION     8201 (default), 8502, 8601, 100300 or 110100: as it stands in the real banner
TRTEXEC_GPU         the GPU's name (default NVIDIA Tegra X2); empty: there is none
TRTEXEC_COMPUTE     its compute capability (default 6.2)
TRTEXEC_UNSUPPORTED operators that the parser is to refuse, with commas
TRTEXEC_FAIL        `oom`: no memory to build; `truncated`: ended in the middle of a measurement;
                    `wrong`: the network computes something else
TRTEXEC_LOAD        a file that is to say what goes on: `loading`, `inferring`, or `nothing`; by the
                    stand-in for the Python module `computing`, at each inference

An engine is a line of JSON (version, compute capability, precision) and the ONNX file. Formats and messages
are those of NVIDIA/TensorRT, samples/common and samples/trtexec of the branches release/8.2 to release/11.1,
and of public logs (its issues 2054 and 4177, onnx/onnx-tensorrt issue 800).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

MAGIC = b"SIMULATED-ENGINE "
DEFAULT = "8201"
# Options by the branch's source, and what each newer one added and took away. Those of 8.2:
OPTIONS_8_2 = """
allowGPUFallback avgRuns avgTiming batch best buildOnly calib consistency deploy device directIO
dumpLayerInfo dumpOutput dumpProfile dumpRefit duration explicitBatch explicitPrecision exportLayerInfo
exportOutput exportProfile exportTimes exposeDMA fp16 help idleTime inputIOFormats int8 iterations
loadEngine loadInputs maxBatch maxShapes maxShapesCalib minShapes minShapesCalib minTiming model
noBuilderCache noDataTransfers noTF32 nvtxMode onnx optShapes optShapesCalib output outputIOFormats
percentile plugins precisionConstraints profilingVerbosity refit restricted safe saveEngine
separateProfileRun shapes sleepTime sparsity streams tacticSources threads timeDeserialize timeRefit
timingCacheFile uff uffInput uffNHWC useCudaGraph useDLACore useManagedMemory useSpinWait verbose warmUp
workspace
"""
CHANGES = {  # from a version on: added, taken away
    8500: ("heuristic layerOutputTypes layerPrecisions memPoolSize persistentCacheRatio preview", ""),
    8600: ("builderOptimizationLevel fp8 infStreams maxAuxStreams skipInference versionCompatible", ""),
    100000: (
        "bf16 markDebug profile stripWeights stronglyTyped useProfile weightStreamingBudget",
        """batch buildOnly deploy explicitBatch explicitPrecision heuristic maxBatch minTiming model nvtxMode
        output uff uffInput uffNHWC workspace""",
    ),
    110000: (
        "cpuOnly dryRun includeDataTransfers noCudaGraph noSpinWait",
        """best bf16 calib fp16 fp8 layerOutputTypes layerPrecisions maxShapesCalib minShapesCalib
        optShapesCalib precisionConstraints restricted""",
    ),
}
NO_PLUGIN = """[TRT] ModelImporter.cpp:779: ERROR: builtin_op_importers.cpp:4870 In function \
importFallbackPluginImporter:
[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?\""""
NO_MEMORY = """[TRT] 2: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (no \
further information)"""
NO_ENGINE = """[TRT] 1: [stdArchiveReader.cpp::StdArchiveReader::35] Error Code 1: Serialization \
(Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match)"""
NOT_LOADED = """[TRT] 4: [runtime.cpp::deserializeCudaEngine::50] Error Code 4: Internal Error (Engine \
deserialization failed.)"""
OTHER_VERSION = """[TRT] 6: The engine plan file is not compatible with this version of TensorRT, \
expecting library version {} got {}, please rebuild."""
OTHER_GPU = """[TRT] 6: The engine plan file is generated on an incompatible device, expecting compute {} \
got compute {}, please rebuild."""
OUTPUT = """[
  {{ "name" : "{}"
  , "dimensions" : "{}"
  , "values" : [ {} ]
  }}
]
"""


class Trtexec:
    """One call of the program."""

    def __init__(self, arguments: list[str]) -> None:
        self.number = int(os.environ.get("TRTEXEC_VERSION") or DEFAULT)
        self.gpu = os.environ.get("TRTEXEC_GPU", "NVIDIA Tegra X2")
        self.compute = os.environ.get("TRTEXEC_COMPUTE") or "6.2"
        self.fail = os.environ.get("TRTEXEC_FAIL", "")
        self.command = " ".join(["trtexec", *arguments])
        self.given = {}
        for argument in arguments:
            key, _, value = argument.partition("=")
            self.given[key[2:] if key.startswith("--") else key] = value

    @property
    def version(self) -> str:
        """`8.2.1` of 8201, `10.3.0` of 100300."""
        major = self.number // (10000 if self.number >= 100000 else 1000)
        rest = self.number - major * (10000 if self.number >= 100000 else 1000)
        return f"{major}.{rest // 100}.{rest % 100}"

    def banner(self, word: str) -> None:
        print(f"&&&& {word} TensorRT.trtexec [TensorRT v{self.number}] # {self.command}", flush=True)

    def say(self, text: str, level: str = "I") -> None:
        print(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [{level}] {text}", flush=True)

    def ends(self, *errors: str) -> NoReturn:
        for error in errors:
            self.say(error, "E")
        self.banner("FAILED")
        sys.exit(1)

    def number_of(self, option: str, default: float) -> float:
        return float(self.given.get(option) or default)

    def main(self) -> None:
        """Do what the arguments say, in the order in which the real one does."""
        self.load_is("loading")
        self.banner("RUNNING")
        self.say("SIMULATED: this is a stand-in for trtexec, and no GPU is behind it", "W")
        if not self.given or "help" in self.given:
            print("=== Model Options ===\n" + "\n".join(f"  --{name}" for name in sorted(self.options())))
            self.banner("PASSED")
            return
        unknown = [
            f"Unknown option: --{name} {self.given[name]}" for name in self.given.keys() - self.options()
        ]
        if unknown:
            self.ends(*unknown)
        self.options_said()
        self.device()
        onnx, about = self.load() if "loadEngine" in self.given else self.build()
        if "exportLayerInfo" in self.given:
            Path(self.given["exportLayerInfo"]).write_text(layer_info(onnx, about["precision"]))
        if {"buildOnly", "skipInference"} & self.given.keys():
            self.banner("PASSED")
            return
        self.infer(onnx, about)
        self.banner("PASSED")
        self.load_is("nothing")

    def load_is(self, what: str) -> None:
        """Let a stand-in for a board's rails know."""
        if path := os.environ.get("TRTEXEC_LOAD"):
            Path(f"{path}.part").write_text(what)
            Path(f"{path}.part").replace(path)

    def options(self) -> set[str]:
        """Return the options of this version."""
        found = set(OPTIONS_8_2.split())
        for since, (added, removed) in CHANGES.items():
            if self.number >= since:
                found = (found | set(added.split())) - set(removed.split())
        return found

    def options_said(self) -> None:
        """Print what it was asked for, as far as a reader of the log may want it."""
        graph = "useCudaGraph" in self.given or (self.number >= 110000 and "noCudaGraph" not in self.given)
        self.say("=== Model Options ===")
        self.say(f"Format: {'ONNX' if 'onnx' in self.given else '*'}")
        self.say(f"Model: {self.given.get('onnx', '')}")
        self.say("=== Build Options ===")
        names = [name.upper() for name in ("fp16", "int8") if name in self.given]
        self.say(f"Precision: {'+'.join(['FP32', *names])}")
        self.say(f"Calibration: {self.given.get('calib', '')}")
        self.say("=== Inference Options ===")
        self.say("Batch: Explicit")
        self.say(f"ExposeDMA: {enabled('exposeDMA' in self.given)}")
        self.say(f"Data transfers: {enabled(self.transfers())}")
        self.say(f"Spin-wait: {enabled('useSpinWait' in self.given)}")
        self.say(f"CUDA Graph: {enabled(graph)}")

    def transfers(self) -> bool:
        if self.number >= 110000:
            return "includeDataTransfers" in self.given
        return "noDataTransfers" not in self.given

    def device(self) -> None:
        """Print the GPU, or end as the real one does without one."""
        self.say("=== Device Information ===")
        if not self.gpu:
            print("Cuda failure: no CUDA-capable device is detected", file=sys.stderr, flush=True)
            os.abort()
        self.say(f"Selected Device: {self.gpu}")
        self.say(f"Compute Capability: {self.compute}")
        self.say("SMs: 2")
        self.say(f"TensorRT version: {self.version}")

    def build(self) -> tuple[bytes, dict[str, Any]]:
        """Return the network and what its engine says of itself; write it if that is asked for."""
        import onnx

        if "onnx" not in self.given:
            self.ends("Model missing or format not recognized")
        begun = time.perf_counter()
        failed = ("Engine could not be created from network", "Building engine failed")
        try:
            data = Path(self.given["onnx"]).read_bytes()
            graph = onnx.load_from_string(data).graph
        except Exception:  # noqa: BLE001 - whatever protobuf raises
            self.say(
                "[TRT] ModelImporter.cpp:735: Failed to parse ONNX model from file: " + self.given["onnx"],
                "E",
            )
            self.ends("Failed to parse onnx file", "Parsing model failed", *self.creation())
        self.refuse(graph)
        self.say("Finish parsing network model")
        precision = "int8" if "int8" in self.given else "fp16" if "fp16" in self.given else "fp32"
        if "int8" in self.given and "calib" in self.given:
            self.calibration(Path(self.given["calib"]))
        if self.fail == "oom":
            self.say("[TRT] Requested amount of GPU memory (1073741824 bytes) could not be allocated.", "W")
            self.ends(NO_MEMORY, *failed, *self.creation())
        layers = fused(graph)
        on_dla = "useDLACore" in self.given
        self.say("[TRT] ---------- Layers Running on DLA ----------")
        for name in layers[:-1] if on_dla else ():
            self.say(f"[TRT] [DlaLayer] {{ForeignNode[{name}]}}")
        self.say("[TRT] ---------- Layers Running on GPU ----------")
        for name in layers[-1:] if on_dla else layers:
            self.say(f"[TRT] [GpuLayer] {name}")
        about = {"version": self.version, "compute": self.compute, "precision": precision, "gpu": self.gpu}
        if "saveEngine" in self.given:
            header = MAGIC + json.dumps(about).encode() + b"\n"
            Path(self.given["saveEngine"]).write_bytes(header + data)
        self.say(f"Engine built in {time.perf_counter() - begun:.6g} sec.")
        return data, about

    def creation(self) -> tuple[str, str]:
        """What is said after a failure in each version."""
        word = "Engine creation failed" if self.number < 8200 else "Failed to create engine from model."
        return word, "Engine set up failed"

    def refuse(self, graph: Any) -> None:
        """End if the parser does not know an operator."""
        refused = set(filter(None, os.environ.get("TRTEXEC_UNSUPPORTED", "").split(",")))
        for index, node in enumerate(graph.node):
            if node.op_type not in refused:
                continue
            self.say(f"[TRT] No importer registered for op: {node.op_type}. Attempting to import as plugin.")
            self.say(f"[TRT] 3: getPluginCreator could not find plugin: {node.op_type} version: 1", "E")
            where = f'[{node.op_type} -> "{node.output[0]}"]'
            self.say(f"[TRT] ModelImporter.cpp:773: While parsing node number {index} {where}:", "E")
            self.say("[TRT] ModelImporter.cpp:774: --- Begin node ---", "E")
            self.say(f'[TRT] ModelImporter.cpp:775: name: "{node.name}"\nop_type: "{node.op_type}"\n', "E")
            self.say("[TRT] ModelImporter.cpp:776: --- End node ---", "E")
            self.say(NO_PLUGIN, "E")
            self.ends("Failed to parse onnx file", "Parsing model failed", *self.creation())

    def calibration(self, path: Path) -> None:
        """Read a calibration cache as TensorRT does: a line with its version and algorithm, then scales."""
        lines = path.read_text().splitlines() if path.exists() else [""]
        scales = [line.rpartition(": ")[2] for line in lines[1:]]
        if lines[0] != f"TRT-{self.number}-EntropyCalibration2" or {len(scale) for scale in scales} != {8}:
            self.say("[TRT] Calibration table does not match calibrator algorithm type.", "E")
            self.ends("Building engine failed", *self.creation())
        self.say("[TRT] Reading Calibration Cache for calibrator: EntropyCalibration2")

    def load(self) -> tuple[bytes, dict[str, Any]]:
        """Return the network and header of an engine; end if it is not for this GPU and version."""
        begun = time.perf_counter()
        path = Path(self.given["loadEngine"])
        if not path.is_file():
            self.ends(f"Error opening engine file: {path}", "Engine set up failed")
        header, _, data = path.read_bytes().partition(b"\n")
        if not header.startswith(MAGIC):
            self.ends(NO_ENGINE, NOT_LOADED, "Engine set up failed")
        about = json.loads(header[len(MAGIC) :])
        if about["version"] != self.version:
            self.ends(
                OTHER_VERSION.format(self.version, about["version"]), NOT_LOADED, "Engine set up failed"
            )
        if about["compute"] != self.compute:
            self.ends(OTHER_GPU.format(self.compute, about["compute"]), NOT_LOADED, "Engine set up failed")
        self.say(f"Engine loaded in {time.perf_counter() - begun:.6g} sec.")
        return data, about

    def infer(self, data: bytes, about: dict[str, Any]) -> None:
        """Run the network until time and number of runs are reached; print and write what was measured."""
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        inputs = self.inputs(session)
        warm_ms, runs = self.number_of("warmUp", 200), self.number_of("iterations", 10)
        duration_ms = 1e3 * self.number_of("duration", 3)
        trace: list[dict[str, float]] = []
        measured, output = 0, None

        def now() -> float:
            return 1e3 * (time.perf_counter() - start)

        self.say("Starting inference")
        self.load_is("inferring")
        start = time.perf_counter()
        while measured < runs or trace[-1]["endD2hMs"] < warm_ms + duration_ms:
            times = [now()]
            fed = {name: array.copy() for name, array in inputs.items()}
            times.append(now())
            computed = session.run(None, fed)[0]
            times.append(now())
            output = computed.copy()
            times.append(now())
            if not self.transfers():
                times = [times[1], times[1], times[2], times[2]]
            trace.append(traced(times))
            measured += times[1] >= warm_ms
            if self.fail == "truncated" and measured > 3:
                os._exit(137)
        self.load_is("loading")
        if about["precision"] != "fp32":
            output = output.astype(np.float16).astype(np.float32)
        if self.fail == "wrong":
            output = output[..., ::-1]
        self.report(trace, warm_ms)
        if "exportOutput" in self.given:
            name, shape = session.get_outputs()[0].name, "x".join(map(str, output.shape))
            values = ", ".join(f"{value:.6g}" for value in output.reshape(-1))
            Path(self.given["exportOutput"]).write_text(OUTPUT.format(name, shape, values))
        if "exportProfile" in self.given:
            Path(self.given["exportProfile"]).write_text(self.profile(data, inputs, measured))

    def inputs(self, session: Any) -> dict[str, Any]:
        """Return the inputs of --loadInputs=name:file,..., random ones for what is not given."""
        import numpy as np

        loaded = dict(item.rsplit(":", 1) for item in self.given.get("loadInputs", "").split(",") if item)
        arrays = {}
        for wanted in session.get_inputs():
            shape = [length if isinstance(length, int) else 1 for length in wanted.shape]
            kind = {"tensor(float)": np.float32, "tensor(int32)": np.int32}.get(wanted.type, np.int64)
            stored = np.int32 if kind is np.int64 and self.number < 100000 else kind
            name = wanted.name
            if name in loaded:
                data = Path(loaded[name]).read_bytes()
                if len(data) != int(np.prod(shape)) * np.dtype(stored).itemsize:
                    self.ends(f"Error loading file {loaded[name]}", "Inference set up failed")
                arrays[name] = np.frombuffer(data, stored).reshape(shape).astype(kind)
            else:
                arrays[name] = np.random.default_rng(0).random(shape).astype(kind)
        return arrays

    def report(self, trace: list[dict[str, float]], warm_ms: float) -> None:
        """Print the summary and write the times, each as this version does."""
        kept = [each for each in trace if each["startComputeMs"] >= warm_ms]
        wall = kept[-1]["endD2hMs"] - kept[0]["startH2dMs"]
        old = self.number < 8400
        self.say(f"Warmup completed {len(trace) - len(kept)} queries over {warm_ms:.6g} ms")
        self.say(f"Timing trace has {len(kept)} queries over {wall / 1e3:.6g} s")
        self.say("")
        self.say("=== Trace details ===")
        self.say("Trace averages of 10 runs:")
        for at in range(0, len(kept) - 9, 10):
            ten = kept[at : at + 10]
            enqueue, compute, latency = (mean_of(ten, key) for key in ("enqMs", "computeMs", "latencyMs"))
            before = f"end to end {latency:.6g} ms, " if old else ""
            text = f"GPU latency: {compute:.6g} ms - Host latency: {latency:.6g} ms"
            self.say(f"Average on 10 runs - {text} ({before}enqueue {enqueue:.6g} ms)")
        self.say("")
        self.say("=== Performance summary ===")
        self.say(f"Throughput: {1e3 * len(kept) / wall:.6g} qps")
        names = {"Latency": "latencyMs", "End-to-End Host Latency": "latencyMs", "Enqueue Time": "enqMs"}
        names.update({"H2D Latency": "h2dMs", "GPU Compute Time": "computeMs", "D2H Latency": "d2hMs"})
        percents = [99] if old else [90, 95, 99]
        for name, key in names.items():
            if old or name != "End-to-End Host Latency":
                self.say(f"{name}: {summary([each[key] for each in kept], percents)}")
        self.say(f"Total Host Walltime: {wall / 1e3:.6g} s")
        self.say(f"Total GPU Compute Time: {sum(each['computeMs'] for each in kept) / 1e3:.6g} s")
        computes = [each["computeMs"] for each in kept]
        center = sum(computes) / len(computes)
        spread = (sum((value - center) ** 2 for value in computes) / len(computes)) ** 0.5 / center * 100
        if not old and spread > (2.5 if self.number >= 110000 else 1.0):
            self.say(f"* GPU compute time is unstable, with coefficient of variance = {spread:.6g}%.", "W")
        self.say("Explanations of the performance metrics are printed in the verbose logs.")
        self.say("")
        if "exportTimes" in self.given:
            written = trace if self.number < 8500 else kept
            keys = [key for key in trace[0] if key != "enqMs"]
            rows = [{key: each[key] for key in keys} for each in written]
            if old:
                rows = [{**row, "endToEndMs": row["latencyMs"]} for row in rows]
            Path(self.given["exportTimes"]).write_text(listed(rows))

    def profile(self, data: bytes, inputs: dict[str, Any], count: int) -> str:
        """Return the times of ONNX Runtime's kernels as trtexec writes its layers'."""
        found = kernel_times_ms(data, inputs)
        total = sum(found.values()) or 1
        rows: list[dict[str, Any]] = []
        for name, mean in found.items():
            row: dict[str, Any] = {"name": name, "timeMs": mean * count, "averageMs": mean}
            if self.number >= 8400:
                row["medianMs"] = mean
            rows.append({**row, "percentage": 100 * mean / total})
        return listed([{"count": count}, *rows])


def enabled(yes: bool) -> str:
    return "Enabled" if yes else "Disabled"


def traced(times: list[float]) -> dict[str, float]:
    """Return one query of the trace of its four times: copied, computed, copied back."""
    start, fed, computed, end = times
    return {
        "startEnqMs": start,
        "endEnqMs": fed,
        "startH2dMs": start,
        "endH2dMs": fed,
        "startComputeMs": fed,
        "endComputeMs": computed,
        "startD2hMs": computed,
        "endD2hMs": end,
        "h2dMs": fed - start,
        "computeMs": computed - fed,
        "d2hMs": end - computed,
        "latencyMs": end - start,
        "enqMs": fed - start,
    }


def mean_of(rows: list[dict[str, float]], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def summary(values: list[float], percents: list[int]) -> str:
    """Return the line of a metric, with the percentiles as trtexec takes them."""
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    mean = sum(ordered) / len(ordered)
    parts = [f"min = {ordered[0]:.6g} ms, max = {ordered[-1]:.6g} ms, mean = {mean:.6g} ms"]
    parts.append(f"median = {median:.6g} ms")
    for percent in percents:
        index = max(len(ordered) - 1 - int((1 - percent / 100) * len(ordered)), 0)
        parts.append(f"percentile({percent}%) = {ordered[index]:.6g} ms")
    return ", ".join(parts)


def listed(rows: list[dict[str, Any]]) -> str:
    """Return a JSON list as trtexec writes it: a comma leads each line but the first."""
    lines = []
    for row in rows:
        fields = (
            f'"{key}" : ' + (f'"{value}"' if isinstance(value, str) else f"{value:.6g}")
            for key, value in row.items()
        )
        lines.append("{ " + ", ".join(fields) + " }")
    return "[\n  " + "\n, ".join(lines) + "\n]\n"


def fused(graph: Any) -> list[str]:
    """Return the layers' names: a convolution and the Relu after it are one, as in TensorRT."""
    names: list[str] = []
    last = ""
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        name = node.name or node.output[0]
        if node.op_type == "Relu" and last == "Conv":
            names[-1] += f" + {name}"
        else:
            names.append(name)
        last = node.op_type
    return names


def layer_info(data: bytes, precision: str) -> str:
    """Return what --exportLayerInfo writes with the verbosity `detailed`."""
    import onnx

    kind = {"fp32": "FP32", "fp16": "FP16", "int8": "Int8"}[precision]
    tensor = {"Location": "Device", "Format/Datatype": f"Row major linear {kind}"}
    layers = [
        {"Name": name, "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
        for name in fused(onnx.load_from_string(data).graph)
    ]
    return json.dumps({"Layers": layers, "Bindings": []}, indent=1)


def kernel_times_ms(data: bytes, inputs: dict[str, Any]) -> dict[str, float]:
    """Return the time of each of ONNX Runtime's kernels in one inference."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    suffix = "_kernel_time"
    return {
        event["name"][: -len(suffix)]: event["dur"] / 1e3
        for event in events
        if event["name"].endswith(suffix)
    }


if __name__ == "__main__":
    Trtexec(sys.argv[1:]).main()
