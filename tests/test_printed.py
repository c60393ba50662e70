"""What Qualcomm's and TensorFlow's programs print, read.

The first two texts are excerpts of published measurements: benchmark_stats_YOLOv5s.csv of gesanqiu/
SNPE_Tutorial (commit 7d89188, MIT licence, Copyright (c) 2022 Ricardo Lu) and benchmark_stats_dOut.csv of
quic/qidk (commit d756eb9, BSD-3-Clause, Copyright (c) Qualcomm Innovation Center, Inc.). The others are made
here in the programs' formats; their numbers are not measurements.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from tools import benchmark_model
from tools.snpe import bench, diagview

YOLO = """SNPE SDK version:,1.63.0.3523

Configuration used:
Name,YOLOv5s
HostName,localhost
Runs,2
Model:Name,YOLOV5S
Model:InputDimensions,"images:1,640,640,3"
Runtimes,"GPU,CPU,DSP_ub_tf8"
PerfProfile,high_performance
ProfilingLevel,detailed
Date,2022-07-11 19:28:56.005657

Device Info:
ro.product.model,unknown

,, ,GPU_timing(2 runs), , , ,CPU_timing(2 runs), , , ,DSP_ub_tf8_timing(2 runs), , , \n\
,, ,avg (us),max (us),min (us),runtime,avg (us),max (us),min (us),runtime,avg (us),max (us),min (us),runtime
,,Load,161,166,156,CPU,181,208,155,CPU,205,225,186,CPU
,,Create Network(s),552618,554027,551210,CPU,27974,27993,27956,CPU,99153,108095,90211,CPU
,,RPC Init Time,0,0,0,CPU,0,0,0,CPU,100351,101256,99446,CPU
,,Total Inference Time,99115,99256,98974,CPU|GPU,560723,625434,496012,CPU,104326,104597,104056,CPU|DSP
,,RPC Execute,0,0,0,CPU|GPU,0,0,0,CPU,102520,102944,102097,CPU|DSP
,,layer_000 (Name:images Type:data),0,0,0,GPU,0,0,0,CPU,105,110,101,DSP
,,layer_001 (Name:Conv_0 Type:convolutional),2825,2829,2822,GPU,28437,29215,27660,CPU,4052,4060,4045,DSP

"""
BERT = """SNPE SDK version:,2.2.1.3718

Configuration used:
Name,dOut
Model:Name,dOut
Runtimes,DSP_ub_float
PerfProfile,burst
ProfilingLevel,basic

Device Info:
ro.product.model,Kalama for arm64

,, ,DSP_ub_float_timing(1 runs), , , \n\
,, ,avg (us),max (us),min (us),runtime
,,Init,443264,443264,443264,CPU
,,Total Inference Time,13567,13567,13567,CPU

"""
OLD = """SNPE SDK version:,1.17.1

,, ,GPU_timing(3 runs), , ,DSP_timing(3 runs), , \n\
,, ,avg (us),max (us),min (us),avg (us),max (us),min (us)
,,Total Inference Time,5000,6000,4000,3000,3100,2900

"""


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in found["runs"]}


def test_each_run_combination_is_read_by_its_columns_names() -> None:
    found = bench.parse(YOLO)
    assert (found["status"], found["warnings"]) == ("ok", [])
    assert (found["sdk_version"], found["model"], found["perf_profile"]) == (
        "1.63.0.3523",
        "YOLOV5S",
        "high_performance",
    )
    runs = rows(found)
    assert list(runs) == ["GPU", "CPU", "DSP_ub_tf8"]
    assert runs["DSP_ub_tf8"]["metrics"]["Total Inference Time"] == {
        "mean_ms": 104.326,
        "max_ms": 104.597,
        "min_ms": 104.056,
        "ran_on": "CPU|DSP",
    }
    assert runs["GPU"]["layers"][1]["name"] == "Conv_0"
    assert (runs["GPU"]["layers"][1]["type"], runs["GPU"]["layers"][1]["mean_ms"]) == ("convolutional", 2.825)
    assert (runs["DSP_ub_tf8"]["runtime"], runs["DSP_ub_tf8"]["buffers"]) == ("DSP", "ub_tf8")


def test_the_units_of_the_layers_tell_a_fallback() -> None:
    """`CPU|DSP` does not: the host's part of a healthy run is the CPU's."""
    healthy = bench.parse(YOLO)
    assert [run["fallback"] for run in healthy["runs"]] == [False, False, False]
    fell = bench.parse(YOLO.replace("4052,4060,4045,DSP", "28437,29215,27660,CPU"))
    assert rows(fell)["DSP_ub_tf8"]["layers_on"] == {"DSP": 1, "CPU": 1}
    assert fell["warnings"] == ["DSP_ub_tf8: of 2 layers 1 on the CPU, not on the DSP: a fallback."]
    [unknown] = bench.parse(BERT)["warnings"]
    assert "DSP_ub_float: its time is of CPU, and there are no layers that show which unit ran" in unknown
    assert rows(bench.parse(BERT))["DSP_ub_float"]["fallback"] is None


def test_columns_may_be_three_wide_and_in_any_order() -> None:
    [gpu, dsp] = bench.parse(OLD)["runs"]
    assert (gpu["runtime"], gpu["metrics"]["Total Inference Time"]["min_ms"]) == ("GPU", 4.0)
    assert (dsp["runtime"], dsp["metrics"]["Total Inference Time"]["mean_ms"]) == ("DSP", 3.0)
    swapped = OLD.replace("avg (us),max (us),min (us)", "min (us),avg (us),max (us)")
    assert bench.parse(swapped)["runs"][0]["metrics"]["Total Inference Time"]["mean_ms"] == 6.0


def test_a_copy_without_its_last_end_of_line_is_read_with_a_warning() -> None:
    found = bench.parse(YOLO.rstrip("\n"))
    assert (found["status"], found["runs"]) == ("ok", bench.parse(YOLO)["runs"])
    assert "rows may be missing" in found["warnings"][-1]
    log = diagview.parse(DIAGVIEW.rstrip("\n"))
    assert (log["status"], log["layers"]) == ("ok", diagview.parse(DIAGVIEW)["layers"])
    assert "layers may be missing" in log["warnings"][-1]


def test_a_file_that_windows_wrote(tmp_path: Path) -> None:
    path = tmp_path / "stats.csv"
    path.write_bytes(YOLO.replace("\n", "\r\n").encode("utf-8-sig"))
    assert bench.read(path) == bench.parse(YOLO)


def test_cycles_stay_cycles_and_other_units_their_own() -> None:
    text = BERT.replace("\n\n", "\n", 1).replace(
        ",,Total", ",,layer_000 (Name:c Type:Conv2d) (cycles),900,950,850,DSP\n,,Total"
    )
    [layer] = rows(bench.parse(text))["DSP_ub_float"]["layers"]
    assert (layer["mean_cycles"], layer["mean_ms"]) == (900, None)
    memory = BERT.replace("_timing(", "_mem(").replace("(us)", "(kB)")
    assert rows(bench.parse(memory))["DSP_ub_float"]["metrics"]["Init"]["mean_kb"] == 443264


DIAGVIEW = """CREATE NETWORK: 283344
Log File Created: Wed Jun  7 12:29:31 2023
Time Scale: 1e-06
Epoch Timestamp: 1686121171797894 Steady Clock Timestamp: 592172815024
Software library version: 2.15.1.230926150623_62883

Dnn Runtime Load/Deserialize/Create/De-Init Statistics:
--------------------------------------------------
Load: 2375 us
Create: 292236 us

Init: 725694 us
De-Init: 79593 us

Create Network(s): 283344 us
RPC Init Time: 0 NONE

Average SNPE Statistics:
------------------------------
Total Inference Time: 7746 us
Forward Propagate Time: 7727 us
RPC Execute Time: 7000 us

Per-Graph Execution Times:
---------------
HTP Subnet 0: 38073052 cycles
CPU Subnet 1: 659 us

Layer Times: \n\
---------------
  0: _/wav2vec2/a : b/Unsqueeze : 78 us : CPU
  5: conv/Conv_2d:OpId_24 (cycles) : 7466069 cycles : DSP
"""
DIAGVIEW_CSV = """Msg Timestamp,Message,Layer Id,Time,Runtime
1,INIT,,725694,
2,AVG_TOTAL_INFERENCE_TIME,,7746,
3,FORWARD_PROPAGATE_LAYER,conv,78,CPU
4,FORWARD_PROPAGATE_LAYER,pool,7466069,DSP
"""


def test_diagview_has_times_and_cycles_apart() -> None:
    found = diagview.parse(DIAGVIEW)
    assert (found["status"], found["sdk_version"]) == ("ok", "2.15.1.230926150623_62883")
    assert found["metrics"]["Total Inference Time"] == {"time_ms": 7.746, "cycles": None}
    assert found["metrics"]["RPC Init Time"] == {"time_ms": None, "cycles": None}
    assert [(each["ran_on"], each["cycles"]) for each in found["graphs"]] == [
        ("HTP", 38073052),
        ("CPU", None),
    ]
    assert found["layers"] == [
        {"index": 0, "name": "_/wav2vec2/a : b/Unsqueeze", "ran_on": "CPU", "time_ms": 0.078, "cycles": None},
        {"index": 5, "name": "conv/Conv_2d:OpId_24", "ran_on": "DSP", "time_ms": None, "cycles": 7466069},
    ]
    older = (
        "Interpreting file serialized with Flatbuffer\n"
        + DIAGVIEW[: DIAGVIEW.index("  0: _")]
        + "0: 1419 us : CPU\n"
    )
    assert diagview.parse(older)["layers"][0]["time_ms"] == 1.419


def test_diagviews_csv_has_no_units_so_a_hexagons_values_are_not_taken_for_times() -> None:
    found = diagview.parse(DIAGVIEW_CSV)
    assert found["metrics"]["AVG_TOTAL_INFERENCE_TIME"]["time_ms"] == 7.746
    assert [layer["time_ms"] for layer in found["layers"]] == [0.078, None]
    assert "1 layers" in found["warnings"][0]


def test_a_failed_execute_has_no_time() -> None:
    found = diagview.parse(DIAGVIEW.replace("Total Inference Time: 7746 us", "Total Inference Time: 0 us"))
    assert found["status"] == "failed"
    assert "nothing was executed" in found["reason"]


RUN = """STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [/data/local/tmp/x.tflite]
#threads used for CPU inference: [4]
Use gpu: [1]
Loaded model /data/local/tmp/x.tflite
INFO: Created TensorFlow Lite delegate for GPU.
{delegate}
The input model file size (MB): 22.452
Initialized session in 154.524ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=237 first=8216 curr=1821 min=1723 max=8216 avg=2096.54 std=583

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 154524, First inference: 8216, Warmup (avg): 2096.54, Inference (avg): 33209.4
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE
Memory footprint delta from the start of the tool (MB): init=8.97656 overall=18.7227
Overall peak memory footprint (MB) via periodic monitoring: 93.2383
"""
WHOLLY = "Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate."
GOOD = RUN.replace("{delegate}", WHOLLY)
NEW = "".join(f"INFO: {line}\n" if line else "\n" for line in GOOD.splitlines()).replace(
    "std=450", "std=450 p5=32700 median=33200 p95=33900"
)
LOGCAT = "".join(f"07-11 19:28:56.005  1234  1234 I tflite  : {line}\n" for line in GOOD.splitlines())


@pytest.mark.parametrize("text", [GOOD, NEW, LOGCAT, GOOD.replace("\n", "\r\n")])
def test_benchmark_model_in_all_its_grammars(text: str) -> None:
    found = benchmark_model.parse(text)
    assert (found["status"], found["graph"], found["threads"]) == ("ok", "/data/local/tmp/x.tflite", 4)
    assert (found["init_ms"], found["first_inference_ms"]) == (154.524, 8.216)
    assert (found["inference"]["n_runs"], found["inference"]["mean_ms"]) == (50, 33.2094)
    assert (found["inference"]["std_ms"], found["warmup"]["n_runs"]) == (0.45, 237)
    assert found["inference"]["median_ms"] == (33.2 if "median" in text else None)
    assert (found["memory_kind"], found["memory_overall_mb"], found["memory_peak_mb"]) == (
        "delta",
        18.7227,
        93.2383,
    )
    assert found["delegates"] == [
        {"name": "GPU", "applied": "wholly", "kernels": 1, "nodes": None, "n_nodes": None}
    ]
    assert (found["fallback"], found["warnings"]) == (False, [])


@pytest.mark.parametrize(
    ("said", "applied", "warning"),
    [
        ("", "unknown", "GPU was asked for, and nothing says that it runs the network"),
        (
            "Though GPU delegate is explicitly applied, the model graph will not be executed by it.",
            "not at all",
            "GPU was asked for and runs nothing of the network",
        ),
        ("GPU acceleration is unsupported on this platform.", "not at all", "the CPU (XNNPACK) ran it"),
        (
            WHOLLY.replace("completely", "partially").replace(".", " w/ 44 delegate kernels."),
            "partly",
            "in 44 pieces",
        ),
    ],
)
def test_a_silent_fallback_is_made_loud(said: str, applied: str, warning: str) -> None:
    default = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
    found = benchmark_model.parse(RUN.replace("{delegate}", f"{said}\n{default}"))
    assert (found["status"], found["fallback"]) == ("ok", True)
    assert found["delegates"][0]["applied"] == applied
    assert warning in found["warnings"][0]


def test_the_oldest_and_the_shortest_results() -> None:
    seed = "STARTING!\ncount=50 curr=7(all same)\nAverage inference timings in us: "
    seed += "Warmup: 76605.9, Init: 9933, no stats: 2.89509e+07\n"
    found = benchmark_model.parse(seed)
    assert (found["init_ms"], found["inference"]["n_runs"]) == (9.933, 50)
    assert "result says 28950.9 ms" in found["warnings"][-1]
    one = benchmark_model.parse(
        GOOD.replace(
            "count=237 first=8216 curr=1821 min=1723 max=8216 avg=2096.54 std=583", "count=1 curr=905463"
        )
    )
    assert (one["warmup"]["n_runs"], one["warmup"]["mean_ms"]) == (1, 905.463)


TABLE = """Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t  [node type]\t  [start]\t[first]\t [avg ms]\t  [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t  AllocateTensors\t  0.000\t  5.061\t  5.061\t100.000%\t100.000%\t 10292.000\t  1\tAllocateTensors/0

============================== Top by Computation Time ==============================
\t  [node type]\t  [start]\t[first]\t [avg ms]\t  [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t  AllocateTensors\t  0.000\t  5.061\t  5.061\t100.000%\t100.000%\t 10292.000\t  1\tAllocateTensors/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
  [node type]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
  QUANTIZE  0.199  0.203  1.328%  1.328%  0.000  1  [a 1, b]:0
 Add (ND, QS8)  0.125  0.023  1.944%  10.248%  0.000  13  Delegate/Add (ND, QS8):2

Number of nodes executed: 2
"""
TABLE_CSV = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
QUANTIZE, 0, 0.199, 0.203, 1.328%, 1.328%, 0, 1, [a 1, b]:0
Add (ND, QS8), 0.2, 0.125, 0.023, 1.944%, 10.248%, 0, 13, Delegate/Add (ND, QS8):2

"""


@pytest.mark.parametrize("table", [TABLE, TABLE_CSV])
def test_the_operators_profile_as_a_table_and_as_csv(table: str) -> None:
    found = benchmark_model.parse(GOOD + table)
    assert [row["type"] for row in found["operators"]] == ["QUANTIZE", "Add (ND, QS8)"]
    assert [row["executed_by"] for row in found["operators"]] == ["interpreter", "delegate"]
    assert found["operators"][0]["name"] == "[a 1, b]:0"
    assert found["operators"][1]["time_ms"] == pytest.approx(13 * 0.023)  # the mean is of a call
    assert len(found["initialization"]) == (1 if table == TABLE else 0)


def test_a_hexagons_operators_are_cycles() -> None:
    found = benchmark_model.parse(GOOD.replace("Use gpu", "Hexagon profiling: [1]\nUse hexagon") + TABLE)
    assert [row["time_ms"] for row in found["operators"]] == [0.203, None]
    assert found["operators"][1]["cycles"] == pytest.approx(13 * 0.023)
    assert found["fallback"] is True  # it was the GPU that was applied


READERS: dict[str, tuple[Callable[[str], dict[str, Any]], str, int]] = {
    "snpe_bench": (bench.parse, YOLO, 1),
    "diagview": (diagview.parse, DIAGVIEW[: DIAGVIEW.index("Forward Propagate")], 0),
    "benchmark_model": (benchmark_model.parse, GOOD[: GOOD.index("Note:")], 1),
}


@pytest.mark.parametrize(("parse", "text", "spare"), READERS.values(), ids=READERS)
def test_no_cut_of_a_good_file_passes_for_a_good_one(parse: Any, text: str, spare: int) -> None:
    assert parse(text)["status"] == "ok"
    whole = len(text) - spare
    cut = {length: parse(text[:length]) for length in range(whole)}
    passed = [
        text[:length] for length, found in cut.items() if found["status"] == "ok" and not found["warnings"]
    ]
    assert passed == []
    assert all(found["reason"] and found["hint"] for found in cut.values() if found["status"] != "ok")


@pytest.mark.parametrize("read", [bench.read, diagview.read, benchmark_model.read])
@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"hello", os.urandom(3000), b"\0" * 9, GOOD.encode("utf-16-le")]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, read: Any, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    found = read(path)
    assert found["status"] == "failed"
    assert found["reason"]
    assert found["hint"]


@pytest.mark.parametrize("parse", [bench.parse, diagview.parse, benchmark_model.parse])
def test_no_line_is_slow_to_read(parse: Any) -> None:
    """A pattern that tries again from every character would take hours for these."""
    start = time.monotonic()
    for part in (" ", "1 ", "a", "_ub_", "1: ", ": ", "Use gpu: [", "avg=1", " : "):
        for head in ("", TABLE, DIAGVIEW, YOLO, "Inference timings in us: ", "count=1 ", "5: "):
            parse(head + part * 30_000)
    assert time.monotonic() - start < 20


def test_the_parsers_are_commands_of_their_tools(tmp_path: Path) -> None:
    path = tmp_path / "stats.csv"
    path.write_text(YOLO)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", *arguments]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)

    shown = call("tools.snpe", "parse-bench", str(path), "--json")
    assert (shown.returncode, json.loads(shown.stdout)) == (0, bench.parse(YOLO))
    table = call("tools.snpe", "parse-bench", str(path)).stdout
    assert "-- runs: GPU --" in table
    assert "Total Inference Time  99.115" in table
    assert "layers_on:\nGPU\n" in table
    failed = call("tools.tflite", "parse-benchmark", str(path))
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "not the output of benchmark_model" in failed.stderr
