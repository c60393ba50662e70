"""Every precision on every runtime: conversions in the tools' environments, on a small network."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from host.engines.venv import tool_environment
from tests.bench.precision import CONTROLS
from tests.conftest import RunStage
from tests.project import Project
from tests.test_runtimes import FILES, RUNTIMES, Files, prepare
from tools import gate
from tools.stage import InvalidRequest, Unsupported, WrongOutput

STAGES = {  # precision -> what makes it, for each tool
    "fp16": {"tflite": "tf1.to-tflite-fp16", "onnx": "onnx.to-fp16", "openvino": "openvino.to-fp16"},
    "int8-dynamic": {
        "tflite": "tf1.to-tflite-int8-dynamic",
        "onnx": "onnx.quantize-dynamic",
        "openvino": "openvino.compress",
    },
    "int8": {"tflite": "tf1.to-tflite-int8", "onnx": "onnx.quantize", "openvino": "openvino.quantize"},
}
READS = {"tflite": ("frozen", "signature"), "onnx": ("onnx",), "openvino": ("xml", "bin")}
SIZES = {"fp16": 0.5, "int8-dynamic": 0.25, "int8": 0.25}  # of the weights' file, as a part of fp32's
# What most operations must run in. Not here: weights of fp16 that are widened when the network is loaded.
COMPUTES_IN = {
    ("onnxruntime", "int8-dynamic"): "uint8",
    ("onnxruntime", "int8"): "uint8",
    ("openvino", "fp16"): "f16",
    ("openvino", "int8-dynamic"): "f32",
    ("openvino", "int8"): "u8",
    **{(runtime, "int8-dynamic"): "float32 by int8" for runtime in ("tflite", "litert")},
    **{(runtime, "int8"): "int8" for runtime in ("tflite", "litert")},
}
# Both types of integer, from TensorFlow's converter as a user would call it.
FULLY_INTEGER = """
import sys
import numpy as np
import tensorflow as tf

frozen, calibration, folder = sys.argv[1:]
images = np.load(calibration)["inputs/input"]
for kind in (tf.int8, tf.uint8):
    converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(frozen, ["input"], ["output"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = kind
    open(f"{folder}/{kind.name}.tflite", "wb").write(converter.convert())
"""


def in_precision(run_stage: RunStage, files: Files, tool: str, precision: str) -> Files:
    """Return the files with those of a tool in another precision, by the names that its benchmark reads."""
    inputs = (*READS[tool], *(("calibration",) if precision == "int8" else ()))
    folder, result = run_stage(
        *STAGES[precision][tool].split("."), inputs={key: files[key] for key in inputs}
    )
    suffix = "_" + precision.replace("-", "_")
    return {**files, **{key.removesuffix(suffix): folder / name for key, name in result.outputs.items()}}


def with_calibration(run_stage: RunStage, files: Files) -> Files:
    folder, result = run_stage("tf1", "calibration", inputs={"signature": files["signature"]})
    assert (result.metadata["n_seeded"], result.metadata["n_images"]) == (32, 0)
    assert "--images" in result.metadata["hint"]
    return {**files, "calibration": folder / result.outputs["calibration"]}


@pytest.fixture(scope="module")
def network(run_stage: RunStage) -> Files:
    return with_calibration(run_stage, prepare(run_stage, seed=0))


@pytest.fixture(scope="module")
def other_weights(run_stage: RunStage) -> Files:
    return with_calibration(run_stage, prepare(run_stage, seed=1))


@pytest.fixture(scope="module")
def made(run_stage: RunStage, network: Files) -> dict[tuple[str, str], Files]:
    """The network's files by tool and precision."""
    return {
        (tool, precision): in_precision(run_stage, network, tool, precision)
        for precision in STAGES
        for tool in FILES
    }


@pytest.fixture
def benchmark(run_stage: RunStage) -> Callable[..., Any]:
    def run(tool: str, files: Files, **params: Any) -> Any:
        inputs = {key: files[key] for key in (*FILES[tool], "reference")}
        return run_stage(tool, "benchmark", inputs=inputs, params={"budget_s": 0.2, "threads": 1, **params})[
            1
        ]

    return run


@pytest.mark.tool
@pytest.mark.parametrize("precision", STAGES)
@pytest.mark.parametrize(("tool", "runtime", "params"), RUNTIMES)
def test_a_precision_is_small_and_right_and_says_what_it_computes_in(
    network: Files,
    made: dict[tuple[str, str], Files],
    benchmark: Callable[..., Any],
    tool: str,
    runtime: str,
    params: dict[str, str],
    precision: str,
) -> None:
    files = made[tool, precision]
    kept = FILES[tool][-1]  # the file that has the weights
    ratio = files[kept].stat().st_size / network[kept].stat().st_size
    assert SIZES[precision] * 0.95 < ratio < SIZES[precision] * 1.6  # the rest are scales and the graph

    try:
        metadata = benchmark(tool, files, precision=precision, **params).metadata
    except Unsupported:  # a CPU without FP16 units would take bf16 or f32 instead
        if (tool, precision) != ("openvino", "fp16"):
            raise
        return
    assert metadata["precision"] == precision
    if kind := COMPUTES_IN.get((runtime, precision)):
        assert metadata["operations"][kind] > 10
        assert "warnings" not in metadata
    else:
        assert precision == "fp16"
        [warning] = metadata["warnings"]
        assert "nothing is computed in 16 bits here" in warning


@pytest.mark.tool
@pytest.mark.parametrize(("tool", "runtime", "params"), RUNTIMES)
def test_other_weights_are_a_wrong_output_in_int8(
    run_stage: RunStage,
    network: Files,
    other_weights: Files,
    benchmark: Callable[..., Any],
    tool: str,
    runtime: str,
    params: dict[str, str],
) -> None:
    files = in_precision(run_stage, other_weights, tool, "int8")
    with pytest.raises(WrongOutput) as caught:
        benchmark(tool, {**files, "reference": network["reference"]}, precision="int8", **params)
    assert caught.value.metadata["operations"]  # what it computed in helps to find out why


@pytest.mark.tool
def test_noise_on_the_weights_is_a_wrong_output_in_every_precision(
    network: Files, tool_python: Callable[[str], Path]
) -> None:
    argv = [
        tool_python("tf1"),
        "-c",
        CONTROLS,
        *(network[key] for key in ("frozen", "signature", "reference")),
    ]
    done = subprocess.run(argv, env=tool_environment(), stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 2
    for name, control in found.items():
        assert control["taken_for"] == [], name


@pytest.fixture(scope="module")
def of_integers(
    network: Files, tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder with the network as a user may bring it: its input and output are integers too."""
    folder = tmp_path_factory.mktemp("mine")
    argv = [tool_python("tf1"), "-c", FULLY_INTEGER, network["frozen"], network["calibration"], folder]
    subprocess.run(argv, env=tool_environment(), check=True, capture_output=True)
    return folder


@pytest.mark.tool
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("runtime", ["tflite", "litert"])
def test_a_network_of_integers_is_fed_through_its_scale(
    network: Files, of_integers: Path, benchmark: Callable[..., Any], runtime: str, kind: str
) -> None:
    files = {**network, "tflite": of_integers / f"{kind}.tflite"}
    result = benchmark("tflite", files, precision="int8", runtime=runtime)
    assert result.metrics["correctness_cosine"] > gate.TOLERANCES["int8"].cosine
    assert result.metadata["operations"].keys() == {"int8"}


@pytest.mark.tool
@pytest.mark.parametrize("tool", FILES)
def test_a_calibration_that_is_none_of_this_network(
    run_stage: RunStage, network: Files, tmp_path: Path, tool: str
) -> None:
    small = np.zeros((2, 32, 32, 3), np.float32)
    for arrays, said in (
        ({"inputs/input": small}, r"\b32, 32, 3"),
        ({"inputs/ids": small[:, 0], "inputs/mask": small[:, 0]}, "mask"),
        ({"inputs/input": small[:0]}, "holds no inputs"),
        ({"outputs": small}, "holds no inputs"),
    ):
        path = tmp_path / "m.calibration.npz"
        np.savez(path, **arrays)
        with pytest.raises(InvalidRequest, match=said):
            in_precision(run_stage, {**network, "calibration": path}, tool, "int8")
    path.write_bytes(network["calibration"].read_bytes()[:5000])
    with pytest.raises(InvalidRequest, match="cut off"):
        in_precision(run_stage, {**network, "calibration": path}, tool, "int8")


@pytest.mark.tool
def test_a_calibration_needs_inputs(run_stage: RunStage, network: Files) -> None:
    inputs = {"signature": network["signature"]}
    with pytest.raises(InvalidRequest, match="n_inputs is 0"):
        run_stage("tf1", "calibration", inputs=inputs, params={"n_inputs": 0})


@pytest.mark.tool
@pytest.mark.parametrize(("n_images", "enough"), [(1, False), (15, False), (16, True)])
def test_few_pictures_are_calibrated_on_with_a_warning(
    run_stage: RunStage, network: Files, tmp_path: Path, n_images: int, enough: bool
) -> None:
    own = np.full((n_images, 64, 64, 3), 0.123, np.float32)
    np.savez(tmp_path / "own.npz", **{"inputs/input": own})
    inputs = {"signature": network["signature"], "images": tmp_path / "own.npz"}
    folder, result = run_stage("tf1", "calibration", inputs=inputs)
    found = np.load(folder / result.outputs["calibration"])["inputs/input"]
    seeded = np.load(network["calibration"])["inputs/input"]
    assert np.array_equal(found, np.concatenate([seeded, own]))
    assert (result.metadata["n_seeded"], result.metadata["n_images"]) == (32, n_images)
    assert (not result.metadata["warnings"]) == enough


@pytest.mark.tool
def test_a_calibration_is_not_what_the_gate_checks(network: Files) -> None:
    calibrated_on, checked = (np.load(network[key])["inputs/input"] for key in ("calibration", "reference"))
    assert not any((image == calibrated_on).all(axis=(1, 2, 3)).any() for image in checked)


@pytest.mark.tool
def test_one_grey_picture_is_calibrated_on_beside_the_seeded_inputs(tmp_path: Path) -> None:
    project = Project(ROOT, tmp_path / "work")
    settings = ("--set", "precision=int8", "--set", "budget_s=0.2")
    grey = tmp_path / "grey.ppm"
    grey.write_bytes(b"P6 64 64 255\n" + bytes([128]) * (64 * 64 * 3))

    for images, n_images in ([], 0), (["--images", str(grey)], 1):
        for stage, artifact in {"onnx.benchmark": "onnx", "tflite.benchmark": "tflite"}.items():
            done = project.run("run", stage, "--model", "mobilenet_v1_0.25_64", *settings, *images)
            assert done.returncode == 0, done.stdout
            [record] = project.results()["records"]
            assert record["artifacts"][artifact].endswith(f".int8.{artifact}")
            said = record["metadata"]["made_by"]["tf1.calibration"]
            assert (said["n_seeded"], said["n_images"]) == (32, n_images)
            warning = "tf1.calibration: warning: calibrated on 1 of your images only, and 32 seeded inputs"
            assert (warning in done.stdout) == bool(images)


def test_the_docs_have_the_gate_s_limits() -> None:
    text = (ROOT / "docs" / "measuring.md").read_text()
    row = re.compile(r"^\| (\S+) \| ([\d.]+) \| ([\d.]+) % \| (all inputs|\d+ %) \|", re.MULTILINE)
    written = {
        name: (float(cosine), float(error) / 100, 1.0 if match == "all inputs" else float(match[:-2]) / 100)
        for name, cosine, error, match in row.findall(text)
    }
    assert written == {
        name: pytest.approx((limit.cosine, limit.error, limit.top1_match))
        for name, limit in gate.TOLERANCES.items()
    }
