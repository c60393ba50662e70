"""What trtexec prints and writes, read: excerpts of public logs, a version of each format.

    7.1.3   a README on YOLOv4 for a Jetson (20 October 2020)
    8.2.1   a Jetson Nano, a README on lane detection (14 July 2023)
    8.4     WongKinYiu/yolov7 pull request 329
    8.5.2   a Jetson Orin Nano, Idein/aicast_jetson_benchmark
    8.6.1   leimao's TensorRT-Docker-Image
    10.3.0  a Jetson Orin, notes on nvidia-jetpack (13 May 2025)
    JSON    NVIDIA/TensorRT release/8.6, trt-engine-explorer/examples/pytorch/resnet/A100/fp16

Only numbers are theirs; nothing of it was measured here.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from host.engines.venv import tool_environment
from tools.tensorrt import jetpack, log, tool, versions

V7 = """\
[10/20/2020-19:56:29] [I] Host Latency
[10/20/2020-19:56:29] [I] min: 4.34442 ms (end to end 4.35388 ms)
[10/20/2020-19:56:29] [I] max: 7.12915 ms (end to end 7.14398 ms)
[10/20/2020-19:56:29] [I] mean: 4.52398 ms (end to end 4.53851 ms)
[10/20/2020-19:56:29] [I] median: 4.49951 ms (end to end 4.51025 ms)
[10/20/2020-19:56:29] [I] percentile: 5.46606 ms at 99% (end to end 6.10291 ms at 99%)
[10/20/2020-19:56:29] [I] throughput: 0 qps
[10/20/2020-19:56:29] [I] walltime: 3.00956 s
[10/20/2020-19:56:29] [I] Enqueue Time
[10/20/2020-19:56:29] [I] min: 2.3894 ms
[10/20/2020-19:56:29] [I] max: 4.89722 ms
[10/20/2020-19:56:29] [I] median: 2.64331 ms
[10/20/2020-19:56:29] [I] GPU Compute
[10/20/2020-19:56:29] [I] min: 4.2439 ms
[10/20/2020-19:56:29] [I] max: 7.02356 ms
[10/20/2020-19:56:29] [I] mean: 4.42492 ms
[10/20/2020-19:56:29] [I] median: 4.40088 ms
[10/20/2020-19:56:29] [I] percentile: 5.36792 ms at 99%
[10/20/2020-19:56:29] [I] total compute time: 2.93372 s
&&&& PASSED TensorRT.trtexec # /usr/src/tensorrt/bin/trtexec --onnx=yolov4.onnx --fp16
"""
V82 = """\
&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --workspace=2048 --onnx=culane.onnx
[07/14/2023-11:52:09] [I] Data transfers: Enabled
[07/14/2023-11:52:09] [I] CUDA Graph: Disabled
[07/14/2023-11:52:09] [I] === Device Information ===
[07/14/2023-11:52:09] [I] Selected Device: NVIDIA Tegra X1
[07/14/2023-11:52:09] [I] Compute Capability: 5.3
[07/14/2023-11:52:09] [I] TensorRT version: 8.2.1
[07/14/2023-11:52:13] [W] [TRT] onnx2trt_utils.cpp:366: Your ONNX model has been generated with INT64 weights
[07/14/2023-11:52:13] [I] [TRT] ---------- Layers Running on DLA ----------
[07/14/2023-11:52:13] [I] [TRT] ---------- Layers Running on GPU ----------
[07/14/2023-11:52:13] [I] [TRT] [GpuLayer] /model/conv1/Conv + /model/relu/Relu
[07/14/2023-11:52:13] [I] [TRT] [GpuLayer] /Reshape + (Unnamed Layer* 48) [Shuffle]
[07/14/2023-11:55:18] [I] Warmup completed 2 queries over 200 ms
[07/14/2023-11:55:18] [I] Timing trace has 35 queries over 3.16419 s
[07/14/2023-11:55:18] [I] Average on 10 runs - GPU latency: 90.1627 ms - Host latency: 90.4484 ms (end to end 90.4616 ms, enqueue 7.42288 ms)
[07/14/2023-11:55:18] [I] === Performance summary ===
[07/14/2023-11:55:18] [I] Throughput: 11.0613 qps
[07/14/2023-11:55:18] [I] Latency: min = 89.312 ms, max = 91.492 ms, mean = 90.3919 ms, median = 90.3035 ms, percentile(99%) = 91.492 ms
[07/14/2023-11:55:18] [I] End-to-End Host Latency: min = 89.3254 ms, max = 91.5049 ms, mean = 90.4048 ms, median = 90.3167 ms, percentile(99%) = 91.5049 ms
[07/14/2023-11:55:18] [I] Enqueue Time: min = 1.54553 ms, max = 9.62085 ms, mean = 6.19246 ms, median = 6.2948 ms, percentile(99%) = 9.62085 ms
[07/14/2023-11:55:18] [I] H2D Latency: min = 0.274475 ms, max = 0.288208 ms, mean = 0.277587 ms, median = 0.276855 ms, percentile(99%) = 0.288208 ms
[07/14/2023-11:55:18] [I] GPU Compute Time: min = 89.0273 ms, max = 91.2045 ms, mean = 90.1061 ms, median = 90.0183 ms, percentile(99%) = 91.2045 ms
[07/14/2023-11:55:18] [I] D2H Latency: min = 0.00683594 ms, max = 0.00881958 ms, mean = 0.008238 ms, median = 0.00830078 ms, percentile(99%) = 0.00881958 ms
[07/14/2023-11:55:18] [I] Total Host Walltime: 3.16419 s
[07/14/2023-11:55:18] [I] Total GPU Compute Time: 3.15371 s
&&&& PASSED TensorRT.trtexec [TensorRT v8201] # trtexec --workspace=2048 --onnx=culane.onnx
"""  # noqa: E501 - lines of the log
V84 = """\
[07/28/2022-16:00:55] [I] === Performance summary ===
[07/28/2022-16:00:55] [I] Throughput: 716.632 qps
[07/28/2022-16:00:55] [I] Latency: min = 1.3476 ms, max = 1.5657 ms, mean = 1.38629 ms, median = 1.38037 ms, percentile(99%) = 1.55853 ms
[07/28/2022-16:00:55] [I] Enqueue Time: min = 0.0109863 ms, max = 0.0975342 ms, mean = 0.022185 ms, median = 0.0200195 ms, percentile(99%) = 0.071167 ms
[07/28/2022-16:00:55] [I] H2D Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(99%) = 0 ms
[07/28/2022-16:00:55] [I] GPU Compute Time: min = 1.3476 ms, max = 1.5657 ms, mean = 1.38629 ms, median = 1.38037 ms, percentile(99%) = 1.55853 ms
[07/28/2022-16:00:55] [I] D2H Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(99%) = 0 ms
[07/28/2022-16:00:55] [W] * GPU compute time is unstable, with coefficient of variance = 2.10486%.
&&&& PASSED TensorRT.trtexec [TensorRT v8401] # trtexec
"""  # noqa: E501
V85 = """\
[02/26/2024-10:43:06] [I] === Performance summary ===
[02/26/2024-10:43:06] [I] Throughput: 97.8649 qps
[02/26/2024-10:43:06] [I] Latency: min = 10.642 ms, max = 10.9861 ms, mean = 10.7971 ms, median = 10.7972 ms, percentile(90%) = 10.9329 ms, percentile(95%) = 10.949 ms, percentile(99%) = 10.9744 ms
[02/26/2024-10:43:06] [I] H2D Latency: min = 0.299072 ms, max = 0.373962 ms, mean = 0.316446 ms, median = 0.310486 ms, percentile(90%) = 0.332031 ms, percentile(95%) = 0.345398 ms, percentile(99%) = 0.354126 ms
[02/26/2024-10:43:06] [I] GPU Compute Time: min = 10.0343 ms, max = 10.3575 ms, mean = 10.1824 ms, median = 10.1851 ms, percentile(90%) = 10.3206 ms, percentile(95%) = 10.338 ms, percentile(99%) = 10.356 ms
[02/26/2024-10:43:06] [I] Total Host Walltime: 3.0348 s
&&&& PASSED TensorRT.trtexec [TensorRT v8502] # trtexec --onnx=./yolox_s_leaky.onnx --fp16
"""  # noqa: E501
V86 = """\
[01/24/2024-20:02:59] [I] Throughput: 40624.2 qps
[01/24/2024-20:02:59] [I] Latency: min = 0.020874 ms, max = 0.354187 ms, mean = 0.0249536 ms, median = 0.0246582 ms, percentile(90%) = 0.0258789 ms, percentile(95%) = 0.0263672 ms, percentile(99%) = 0.0344238 ms
[01/24/2024-20:02:59] [I] GPU Compute Time: min = 0.0151367 ms, max = 0.348145 ms, mean = 0.0171428 ms, median = 0.0166016 ms, percentile(90%) = 0.0174561 ms, percentile(95%) = 0.0183105 ms, percentile(99%) = 0.0256348 ms
[01/24/2024-20:02:59] [W] * GPU compute time is unstable, with coefficient of variance = 29.0605%.
&&&& PASSED TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=/tmp/mnist-12.onnx
"""  # noqa: E501
V103 = """\
[05/13/2025-10:36:46] [I] Throughput: 318.007 qps
[05/13/2025-10:36:46] [I] Latency: min = 3.12671 ms, max = 3.15479 ms, mean = 3.14068 ms, median = 3.14062 ms, percentile(90%) = 3.14587 ms, percentile(95%) = 3.14771 ms, percentile(99%) = 3.15039 ms
[05/13/2025-10:36:46] [I] H2D Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(90%) = 0 ms, percentile(95%) = 0 ms, percentile(99%) = 0 ms
[05/13/2025-10:36:46] [I] GPU Compute Time: min = 3.12671 ms, max = 3.15479 ms, mean = 3.14068 ms, median = 3.14062 ms, percentile(90%) = 3.14587 ms, percentile(95%) = 3.14771 ms, percentile(99%) = 3.15039 ms
&&&& PASSED TensorRT.trtexec [TensorRT v100300] [b26] # trtexec --onnx=ResNet50.onnx --fp16 --noDataTransfers
"""  # noqa: E501
NOT_BUILT = """\
[02/03/2022-06:14:51] [E] [TRT] 3: getPluginCreator could not find plugin: Round version: 1
[02/03/2022-06:14:51] [E] Failed to parse onnx file
[02/03/2022-06:14:51] [E] Engine set up failed
&&&& FAILED TensorRT.trtexec [TensorRT v8003] # trtexec --onnx=rcnn.onnx --fp16
"""
TIMES = """\
[
  { "startEnqMs" : 2.67333, "endEnqMs" : 2.70722, "startH2dMs" : 2.57741, "endH2dMs" : 2.57741, "startComputeMs" : 2.57741, "endComputeMs" : 3.45088, "startD2hMs" : 3.45088, "endD2hMs" : 3.45088, "h2dMs" : 0, "computeMs" : 0.873472, "d2hMs" : 0, "latencyMs" : 0.873472 }
, { "startEnqMs" : 2.71417, "endEnqMs" : 2.72443, "startH2dMs" : 3.45702, "endH2dMs" : 3.45702, "startComputeMs" : 3.45702, "endComputeMs" : 4.30182, "startD2hMs" : 4.30182, "endD2hMs" : 4.30182, "h2dMs" : 0, "computeMs" : 0.8448, "d2hMs" : 0, "latencyMs" : 0.8448 }
]
"""  # noqa: E501
PROFILE = """\
[
  { "count" : 1 }
, { "name" : "Conv_0 + Relu_1", "timeMs" : 0.111616, "averageMs" : 0.111616, "medianMs" : 0.111616, "percentage" : 10.9768 }
, { "name" : "a "quoted" {ForeignNode[x...y]}", "timeMs" : 1e-05, "averageMs" : 1e-05, "percentage" : 0 }
]
"""  # noqa: E501


@pytest.mark.parametrize(
    ("text", "version", "kind", "throughput", "median", "p99"),
    [
        (V7, None, "7", None, 4.40088, 5.36792),
        (V82, "8.2.1", "8.0", 11.0613, 90.0183, 91.2045),
        (V84, "8.4.1", "8.0", 716.632, 1.38037, 1.55853),
        (V85, "8.5.2", "8.5", 97.8649, 10.1851, 10.356),
        (V86, "8.6.1", "8.5", 40624.2, 0.0166016, 0.0256348),
        (V103, "10.3.0", "8.5", 318.007, 3.14062, 3.15039),
    ],
)
def test_each_format_is_read(
    text: str, version: str | None, kind: str, throughput: float | None, median: float, p99: float
) -> None:
    found = log.parse(text)
    assert found["status"] == "ok", found["reason"]
    assert (found["version"], found["format"], found["passed"]) == (version, kind, True)
    assert found["throughput_qps"] == throughput
    computing = found["gpu_compute"]
    assert (computing["median_ms"], computing["percentiles_ms"]["99"]) == (median, p99)


def test_what_a_format_has_and_has_not() -> None:
    old, nano, newer = log.parse(V7), log.parse(V82), log.parse(V85)
    assert old["end_to_end"] == {
        "min_ms": 4.35388,
        "max_ms": 7.14398,
        "mean_ms": 4.53851,
        "median_ms": 4.51025,
        "percentiles_ms": {"99": 6.10291},
    }
    assert "mean_ms" not in old["enqueue"]
    assert old["h2d"] is None
    assert (nano["gpu"], nano["compute_capability"]) == ("NVIDIA Tegra X1", "5.3")
    assert (nano["cuda_graph"], nano["transfers"]) == (False, True)
    assert (nano["dla_layers"], nano["gpu_layers"], nano["n_inferences"]) == (0, 2, 35)
    assert nano["h2d"]["mean_ms"] == 0.277587
    assert newer["end_to_end"] is None
    assert newer["latency"]["percentiles_ms"] == {"90": 10.9329, "95": 10.949, "99": 10.9744}
    assert "29.0605%" in log.parse(V86)["warnings"][0]
    assert nano["simulated"] is False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("hello\n", "not the output of trtexec"),
        (V82[: V82.index("[I] D2H")], "cut off"),
        (V82[: V82.index(", percentile(99%) = 91.2045")], "cut off"),
        (V82[: V82.index(", percentile(99%) = 0.00881958")], "cut off"),
        (V82[: V82.index("[07/14/2023-11:55:18] [I] Average")], "cut off"),
        (V7[: V7.index("[10/20/2020-19:56:29] [I] percentile: 5.36792")], "cut off"),
        (V82 + V82[: V82.index("[I] Enqueue")], "cut off"),  # not the whole run before it
        (NOT_BUILT, "could not find plugin: Round"),
        (V82.replace("mean = 90.1061 ms", "mean = nan ms"), "gpu_compute"),
        ("&&&& PASSED TensorRT.trtexec [TensorRT v8201] # trtexec --buildOnly\n", "no summary"),
        (TIMES[:300], "cut off"),
        ('[\n  { "name" : 1 }\n]\n', "not JSON of trtexec"),
    ],
)
def test_what_is_not_a_whole_measurement_says_why(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    found = log.read(path)
    assert found["status"] == "failed"
    assert reason in found["reason"]
    assert found["hint"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "".join(f"\x1b[0;32m{line}\x1b[0m\n" for line in text.splitlines()),
        lambda text: "".join(f"trt-1  | {line}\n" for line in text.splitlines()),  # docker compose logs
        lambda text: re.sub(r"^\[\d.*?\] \[[IW]\] ", "", text, flags=re.MULTILINE),  # copied without dates
        lambda text: re.sub(r"(?m)$", "      ", text),  # copied out of a terminal
        lambda text: f"$ trtexec --onnx=culane.onnx 2>&1\n{text}$ \n",
        lambda text: NOT_BUILT + V103 + text,  # the last one counts
    ],
)
def test_a_log_is_read_however_it_was_kept(change: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "log"
    expected = log.parse(V82)
    for data in (change(V82).encode(), change(V82).encode("utf-16")):
        path.write_bytes(data)
        found = log.read(path)
        assert found["status"] == "ok", found["reason"]
        same = {
            "version",
            "throughput_qps",
            "latency",
            "enqueue",
            "h2d",
            "gpu_compute",
            "d2h",
            "n_inferences",
        }
        assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    assert expected["notes"] == []
    assert bool(found["notes"]) == (V103 in change(V82))


def test_a_summary_alone_is_enough() -> None:
    found = log.parse(V82[V82.index("=== Perf") : V82.index("&&&& PASSED")])
    assert (found["status"], found["passed"], found["version"]) == ("ok", None, None)
    assert found["latency"]["median_ms"] == 90.3035
    assert "PASSED or FAILED" in found["notes"][0]


def test_what_is_no_number_is_none() -> None:
    found = log.parse(V82.replace("mean = 90.1061 ms", "mean = nan ms"))
    assert found["gpu_compute"]["mean_ms"] is None  # JSON has no NaN
    json.dumps(found, allow_nan=False)


def test_the_json_files(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(TIMES)
    assert log.read(path)["times"][1] == {
        "start_ms": 3.45702,
        "h2d_ms": 0,
        "compute_ms": 0.8448,
        "d2h_ms": 0,
        "latency_ms": 0.8448,
    }
    path.write_text(PROFILE)
    found = log.read(path)
    assert found["count"] == 1
    assert [layer["name"] for layer in found["layers"]] == [
        "Conv_0 + Relu_1",
        'a "quoted" {ForeignNode[x...y]}',  # which is no JSON
    ]
    old = [{"startComputeMs": 1, "inMs": 0.5, "computeMs": 2, "outMs": 0.25, "latencyMs": 2.75}]
    assert log.times(old)[0]["d2h_ms"] == 0.25


@pytest.mark.tool
def test_the_command(tool_python: Callable[[str], Path], tmp_path: Path) -> None:
    def run(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "log").write_text(text)
        argv = [
            str(tool_python("tensorrt")),
            "-m",
            "tools.tensorrt",
            "parse-log",
            str(tmp_path / "log"),
            "--json",
        ]
        return subprocess.run(
            argv, cwd=ROOT, env=tool_environment(), capture_output=True, text=True, check=False
        )

    done = run(V82)
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["latency"]["median_ms"]) == (0, "", 90.3035)
    failed = run(NOT_BUILT)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


def test_versions() -> None:
    for digits, text in (("8201", "8.2.1"), ("100300", "10.3.0"), ("110100", "11.1.0")):
        version = versions.of_banner(digits)
        assert (versions.text(version), versions.digits(version)) == (text, digits)
        assert versions.parse(text) == version


@pytest.mark.parametrize("digits", ["8001", "8201", "8401", "8502", "8601", "100300", "110100"])
def test_what_a_version_has_by_default_is_always_said(digits: str) -> None:
    version = versions.of_banner(digits)
    off = versions.run_options(version, versions.Run(False, True, False, 3))
    on = versions.run_options(version, versions.Run(True, False, True, 3))
    assert "--exposeDMA" in off
    if version >= (11, 0, 0):
        assert {"--noCudaGraph", "--includeDataTransfers", "--noSpinWait"} <= set(off)
        assert not {"--noCudaGraph", "--includeDataTransfers", "--noSpinWait"} & set(on)
    else:
        assert not {"--useCudaGraph", "--noDataTransfers", "--useSpinWait"} & set(off)
        assert {"--useCudaGraph", "--noDataTransfers", "--useSpinWait"} <= set(on)
    built = " ".join(versions.build_options(version, "fp32", 256, -1))
    assert ("--skipInference" in built) == (version >= (8, 6, 0))
    assert ("--memPoolSize=workspace:256" in built) == (version >= (8, 4, 0))


def test_jetpacks() -> None:
    board = jetpack.l4t_version(
        "# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref, EABI: aarch64"
    )
    assert board == (32, 7)
    found = jetpack.for_l4t(board)
    assert found is not None
    assert (found.tensorrt, found.service, found.python) == ("8.2.1", "tensorrt-l4t", "3.8")
    newest = jetpack.for_l4t((36, 4))
    assert newest is not None
    assert (newest.tensorrt, newest.service) == ("10.3.0", "tensorrt-l4t310")
    assert jetpack.for_l4t((28, 2)) is None  # JetPack 3: no image of that kind
    assert jetpack.l4t_version("nothing") is None
    known = tool.builds
    compose = (ROOT / "compose.yaml").read_text()
    for each in jetpack.JETPACKS:
        assert known[each.build] == each.python
    for build in known:
        assert any(each.base in compose for each in jetpack.JETPACKS if each.build == build)
