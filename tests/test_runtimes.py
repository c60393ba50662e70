"""The three host runtimes in their own environments, on a small network that TensorFlow made."""

from __future__ import annotations

import array
import json
import statistics
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunStage
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported, WrongOutput

pytestmark = pytest.mark.tool

NETWORK = {"network": "mobilenet_v1", "depth_multiplier": 0.25}
ENDS = {"image_size": 64, "channels": 3, "classes": 11}
RUNTIMES = [
    ("onnx", "onnxruntime", {}),
    ("tflite", "tflite", {"runtime": "tflite"}),
    ("tflite", "litert", {"runtime": "litert"}),
    ("openvino", "openvino", {}),
]
FILES = {"onnx": ("onnx",), "tflite": ("tflite",), "openvino": ("xml", "bin")}
Files = dict[str, Path]


def prepare(run_stage: RunStage, seed: int) -> Files:
    """Run the real pipeline up to every runtime's file; return all artifacts."""
    files: Files = {}

    def stage(full_name: str, *inputs: str, **params: Any) -> None:
        tool, command = full_name.split(".")
        folder, result = run_stage(tool, command, inputs={key: files[key] for key in inputs}, params=params)
        files.update({key: folder / name for key, name in result.outputs.items()})

    stage("tf1.export", **NETWORK, **ENDS)
    stage("tf1.generate-weights", "graph", "signature", seed=seed)
    stage("tf1.freeze", "graph", "signature", "ckpt_index", "ckpt_data")
    stage("tf1.reference", "frozen", "signature", n_inputs=4)
    stage("tf1.to-tflite", "frozen", "signature")
    stage("tf1.to-onnx", "frozen", "signature")
    stage("openvino.convert", "frozen", "signature")
    return files


@pytest.fixture(scope="module")
def network(run_stage: RunStage) -> Files:
    return prepare(run_stage, seed=0)


@pytest.fixture(scope="module")
def other_weights(run_stage: RunStage) -> Files:
    return prepare(run_stage, seed=1)


@pytest.fixture
def benchmark(run_stage: RunStage) -> Callable[..., Any]:
    def run(tool: str, files: Files, **params: Any) -> Any:
        inputs = {key: files[key] for key in (*FILES[tool], "reference")}
        return run_stage(tool, "benchmark", inputs=inputs, params={"budget_s": 0.5, **params})

    return run


@pytest.mark.parametrize(("tool", "runtime", "params"), RUNTIMES)
def test_benchmark_is_right_and_complete(
    network: Files, benchmark: Callable[..., Any], tool: str, runtime: str, params: dict[str, str]
) -> None:
    folder, result = benchmark(tool, network, threads=1, **params)
    metrics, metadata = result.metrics, result.metadata
    assert (metadata["runtime"], metadata["device"], metadata["precision"]) == (runtime, "CPU", "fp32")
    assert metadata["threads"] == 1
    assert metadata["device_name"]
    assert metrics["correctness_cosine"] > 0.99999
    assert metrics["correctness_n_inputs"] == 4
    assert metrics["load_ms"] > 0
    assert metrics["first_inference_ms"] > 0
    assert 20 < metrics["peak_rss_mb"] < 2000
    assert metadata["stopped"] in ("interval", "budget")

    samples = array.array("q", (folder / result.outputs["samples"]).read_bytes())
    assert len(samples) == metrics["latency_n"] > 50
    assert statistics.median(samples) / 1e6 == pytest.approx(metrics["latency_p50_ms"])
    json.dumps([metrics, metadata], allow_nan=False)


@pytest.mark.parametrize(("tool", "runtime", "params"), RUNTIMES)
def test_other_weights_are_a_wrong_output(
    network: Files,
    other_weights: Files,
    benchmark: Callable[..., Any],
    tool: str,
    runtime: str,
    params: dict[str, str],
) -> None:
    mixed = {**other_weights, "reference": network["reference"]}
    with pytest.raises(WrongOutput, match="differs from the reference") as caught:
        benchmark(tool, mixed, **params)
    assert caught.value.metrics["correctness_cosine"] < 0.99
    assert caught.value.metadata["runtime"] == runtime


@pytest.mark.parametrize("how", ["cut off", "garbage", "empty"])
@pytest.mark.parametrize(("tool", "runtime", "params"), RUNTIMES)
def test_corrupt_network(
    network: Files,
    benchmark: Callable[..., Any],
    tmp_path: Path,
    tool: str,
    runtime: str,
    params: dict[str, str],
    how: str,
) -> None:
    for artifact in FILES[tool]:
        data = network[artifact].read_bytes()
        bad = {"cut off": data[: len(data) // 2], "garbage": b"garbage " * 50, "empty": b""}[how]
        if artifact == "bin" and how == "garbage":
            continue  # weights of the right length are weights: that is the gate's
        path = tmp_path / network[artifact].name
        path.write_bytes(bad)
        with pytest.raises(InvalidRequest, match=r"is not an? |cannot be read") as caught:
            benchmark(tool, {**network, artifact: path}, **params)
        assert caught.value.hint.startswith("Convert it again")
        assert "\n" not in str(caught.value)


def test_corrupt_weights_are_a_wrong_output(
    network: Files, benchmark: Callable[..., Any], tmp_path: Path
) -> None:
    data = network["bin"].read_bytes()
    quarter = len(data) // 4
    (tmp_path / "m.bin").write_bytes(data[:quarter] + bytes(quarter) + data[2 * quarter :])
    with pytest.raises(WrongOutput):
        benchmark("openvino", {**network, "bin": tmp_path / "m.bin"})


def test_reference_of_another_model(
    network: Files, run_stage: RunStage, benchmark: Callable[..., Any]
) -> None:
    small = {**ENDS, "image_size": 32}
    folder, result = run_stage("tf1", "export", params={**NETWORK, **small})
    files = {key: folder / name for key, name in result.outputs.items()}
    folder, result = run_stage("tf1", "generate-weights", inputs=files)
    files.update({key: folder / name for key, name in result.outputs.items()})
    folder, result = run_stage("tf1", "freeze", inputs=files)
    inputs = {"frozen": folder / result.outputs["frozen"], "signature": files["signature"]}
    folder, result = run_stage("tf1", "reference", inputs=inputs, params={"n_inputs": 1})
    mixed = {**network, "reference": folder / result.outputs["reference"]}
    with pytest.raises(InvalidRequest, match=r"the reference inputs are \[1, 32, 32, 3\]"):
        benchmark("onnx", mixed)


@pytest.mark.parametrize(
    ("tool", "params"),
    [
        ("onnx", {"device": "GPU"}),
        ("tflite", {"device": "GPU"}),
        ("tflite", {"runtime": "torch"}),
        ("openvino", {"threads": -1}),
    ],
)
def test_wrong_parameters(
    network: Files, benchmark: Callable[..., Any], tool: str, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        benchmark(tool, network, **params)
    assert caught.value.hint


def test_openvino_devices_that_are_not_there(
    network: Files, run_stage: RunStage, benchmark: Callable[..., Any]
) -> None:
    _, result = run_stage("openvino", "devices")
    seen = {name.split(".")[0] for name in result.metadata["devices"]}
    assert "CPU" in seen
    for device, hint in {"GPU": "OpenCL", "NPU": "driver", "MYRIAD": "tool ncs", "FOO": "CPU, GPU"}.items():
        if device in seen:
            continue
        with pytest.raises(DeviceNotFound, match=f"sees no {device} here") as caught:
            benchmark("openvino", network, device=device, precision="fp16")
        assert hint in caught.value.hint


def test_openvino_computes_in_the_precision_that_the_record_says(
    network: Files, benchmark: Callable[..., Any]
) -> None:
    assert benchmark("openvino", network)[1].metadata["arithmetic"] == "f32"
    try:
        metadata = benchmark("openvino", network, precision="fp16")[1].metadata
    except Unsupported:  # a CPU without FP16 units would take bf16 or f32 instead
        return
    assert (metadata["precision"], metadata["arithmetic"]) == ("fp16", "f16")


def test_openvino_refuses_what_it_cannot_convert(network: Files, run_stage: RunStage, tmp_path: Path) -> None:
    def convert(**changes: Path) -> None:
        inputs = {key: network[key] for key in ("frozen", "signature")} | changes
        run_stage("openvino", "convert", inputs=inputs)

    path = tmp_path / "m.frozen.pb"
    data = network["frozen"].read_bytes()
    path.write_bytes(data.replace(b"\x12\x07Softmax", b"\x12\x07Softmox"))
    with pytest.raises(Unsupported, match="operations Softmox"):
        convert(frozen=path)
    for bad in (data[: len(data) // 2], b"garbage " * 9, b""):
        path.write_bytes(bad)
        with pytest.raises(InvalidRequest, match=r"m\.frozen\.pb cannot be read"):
            convert(frozen=path)
    signature = json.loads(network["signature"].read_text())
    path = tmp_path / "m.signature.json"
    wrong_inputs = [{"input": {"shape": [1, 64, 64]}}, {"image": {"shape": [1, 64, 64, 3]}}, []]
    for wrong in (
        *({"inputs": inputs} for inputs in wrong_inputs),
        {"output_shape": [1, 12]},
        {"output_shape": None},
    ):
        path.write_text(json.dumps({**signature, **wrong}))
        with pytest.raises(InvalidRequest):
            convert(signature=path)


def test_onnx_info(network: Files, run_stage: RunStage) -> None:
    folder, result = run_stage("onnx", "info", inputs={"onnx": network["onnx"]})
    nodes = json.loads((folder / result.outputs["table"]).read_text())
    assert len(nodes) == result.metrics["nodes"] == sum(result.metadata["operators"].values())
    assert result.metadata["operators"]["Conv"] == 28  # 1 + 13 * (depthwise + pointwise), and the logits
    assert (result.metadata["opset"], result.metadata["inputs"], result.metadata["outputs"]) == (
        13,
        ["input"],
        ["output"],
    )
    assert result.metrics["parameters"] == pytest.approx(network["onnx"].stat().st_size / 4, rel=0.15)


@pytest.mark.parametrize(
    "data", [b"", b"\x08", b"garbage " * 50, b"\x3a\x02\x0a\x00", struct.pack("<Q", 2**63)]
)
def test_onnx_info_of_what_is_none(run_stage: RunStage, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(StageError, match="is not an ONNX network"):
        run_stage("onnx", "info", inputs={"onnx": tmp_path / "m.onnx"})
