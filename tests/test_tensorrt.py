"""TensorRT's tool with the stand-in for trtexec (tests/lab/trtexec.py), which runs networks on ONNX Runtime.

No GPU was in any of this. What it shows: each version gets options that it has, its files are read as it
writes them, the gate comes first, and what fails says why.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from host.engines.venv import installed_python
from host.toolbox import builds
from tests.conftest import RunStage
from tests.lab.tensorrt_lab import write_small_network
from tests.project import LAB, Project
from tools.stage import (
    DeviceNotFound,
    InvalidRequest,
    Result,
    SdkMissing,
    StageError,
    Unsupported,
    WrongOutput,
)

pytestmark = pytest.mark.tool
VERSIONS = {"8201": "8.2.1", "8502": "8.5.2", "8601": "8.6.1", "100300": "10.3.0"}


@pytest.fixture(scope="module")
def lab(tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the small network, its reference, and the stand-in as a program."""
    folder = tmp_path_factory.mktemp("lab")
    python = tool_python("tensorrt")
    write_small_network(folder, python, 2)
    program = folder / "trtexec"
    program.write_text(f'#!/bin/sh\n[ -f "$0.env" ] && . "$0.env"\nexec {python} {LAB / "trtexec.py"} "$@"\n')
    program.chmod(0o755)
    before = os.environ.get("MOBILE_ACCELERATOR_TRTEXEC")
    os.environ["MOBILE_ACCELERATOR_TRTEXEC"] = str(program)  # before the tool's process starts
    yield folder
    os.environ.pop("MOBILE_ACCELERATOR_TRTEXEC")
    if before is not None:
        os.environ["MOBILE_ACCELERATOR_TRTEXEC"] = before


class Board:
    """The tool's stages on a board that has the stand-in."""

    def __init__(self, lab: Path, run_stage: RunStage, made: dict[str, dict[str, Path]]) -> None:
        self._lab, self._run, self._made = lab, run_stage, made
        self.service = "tensorrt"
        self.is_of()

    def is_of(self, **settings: str) -> None:
        """Make it another board from now on."""
        lines = [f"export TRTEXEC_{key.upper()}='{value}'\n" for key, value in settings.items()]
        (self._lab / "trtexec.env").write_text("".join(lines))
        self._settings = lines

    def stage(
        self, command: str, inputs: Mapping[str, Path] | None = None, **params: Any
    ) -> tuple[Path, Result]:
        return self._run("tensorrt", command, inputs=inputs, params=params, service=self.service)

    def gpu(self) -> dict[str, Path]:
        folder, _ = self.stage("gpu")
        return {"trt_gpu": folder / "m.trt-gpu.json"}

    def built(self, precision: str = "", **params: Any) -> dict[str, Path]:
        """Return all that a benchmark reads; made once for all tests, so it is not to be changed."""
        key = repr((self.service, self._settings, precision, params))
        if key not in self._made:
            self._made[key] = self._build(precision, params)
        return dict(self._made[key])

    def _build(self, precision: str, params: Mapping[str, Any]) -> dict[str, Path]:
        onnx = {"onnx": self._lab / "small.onnx"}
        checked, _ = self.stage("check", onnx)
        inputs = {**onnx, **self.gpu(), "trt_check": checked / "m.trt-check.json"}
        if precision == "int8":
            ranges, _ = self.stage("calibrate", {**onnx, "calibration": self._lab / "few.npz"})
            inputs["trt_ranges"] = ranges / "m.trt-ranges.json"
        folder, _ = self.stage(f"build-{precision}" if precision else "build", inputs, **params)
        stem = f"m.{precision}.engine" if precision else "m.engine"
        engine = {"trt_engine": folder / stem, "trt_built": folder / f"{stem}.json"}
        return {**engine, "trt_gpu": inputs["trt_gpu"], "reference": self._lab / "few.npz"}


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Path]]:
    """What was built, by all that it depends on."""
    return {}


@pytest.fixture
def board(lab: Path, run_stage: RunStage, made: dict[str, dict[str, Path]]) -> Board:
    return Board(lab, run_stage, made)


@pytest.mark.parametrize("number", VERSIONS)
def test_each_version_is_measured(board: Board, number: str) -> None:
    board.is_of(version=number)
    folder, result = board.stage("benchmark", board.built(), budget_s=1.0)
    metrics, metadata = result.metrics, result.metadata
    assert metrics["correctness_top1_match"] == 1
    assert metrics["latency_n"] > 20
    assert metrics["latency_p50_ms"] == pytest.approx(
        sum(metrics[f"breakdown_{part}_ms"] for part in ("h2d", "compute", "d2h")), rel=1
    )
    assert (metadata["tensorrt"], metadata["device_name"]) == (VERSIONS[number], "NVIDIA Tegra X2")
    assert metadata["simulated"] is True
    assert (metadata["cuda_graph"], metadata["transfers"]) == (False, True)
    assert metadata["operations"] == {"fp32": 9}  # a convolution and its Relu are one
    # 8.4 and older write the warm-up into the file of the times, newer ones do not
    assert (metadata["warmups"] > 0) == (number == "8201")
    layers = json.loads((folder / "m.trt-profile.json").read_text())["layers"]
    assert {"classes", "prob"} <= {layer["name"] for layer in layers}


@pytest.mark.parametrize(("service", "number"), [("tensorrt-l4t", "8201"), ("tensorrt-l4t310", "100300")])
def test_on_the_python_of_a_board(board: Board, service: str, number: str) -> None:
    """The boards' locks and Pythons, on this machine's kind of processor."""
    if installed_python(builds()[service].python) is None:
        pytest.skip(f"no Python {builds()[service].python} is here")
    board.service = service
    board.is_of(version=number)
    _, result = board.stage("benchmark", board.built("int8"), precision="int8", budget_s=1.0)
    assert result.versions["python"].startswith(builds()[service].python)
    assert result.metrics["correctness_cosine"] > 0.99


def test_labels(board: Board, lab: Path) -> None:
    built = board.built()
    del built["reference"]
    folder, _ = board.stage("infer", {**built, "images": lab / "few.npz"})
    answers = np.load(folder / "m.tensorrt-answers.npz")["outputs"]
    assert np.allclose(answers, np.load(lab / "few.npz")["outputs"], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_with_a_cuda_graph_and_without_transfers(board: Board, precision: str) -> None:
    board.is_of(version="8601")
    settings = {"cuda_graph": True, "transfers": False, "budget_s": 1.0}
    _, result = board.stage("benchmark", board.built(precision), precision=precision, **settings)
    assert result.metadata["operations"] == {precision: 9}
    assert (result.metadata["cuda_graph"], result.metadata["transfers"]) == (True, False)
    assert result.metrics["breakdown_h2d_ms"] == 0
    assert result.metrics["correctness_cosine"] > 0.99


def test_the_calibration_table_is_of_the_version_and_of_the_representative_inputs(board: Board) -> None:
    board.is_of(version="100300")
    built = board.built("int8")
    lines = (built["trt_engine"].parent / "calibration.cache").read_text().splitlines()
    assert lines[0] == "TRT-100300-EntropyCalibration2"
    assert {"input", "r1", "both", "prob"} <= {line.partition(": ")[0] for line in lines[1:]}
    assert json.loads(built["trt_built"].read_text())["calibrated"] is True


def test_a_dla_and_what_falls_back_to_the_gpu_is_recorded(board: Board) -> None:
    board.is_of(version="8502", gpu="Orin", compute="8.7")
    _, result = board.stage("profile", board.built("fp16", dla_core=0), precision="fp16")
    assert result.metadata["device"] == "DLA0"
    assert result.metadata["executed_on"] == {"DLA": 8, "GPU": 1}
    assert any("fallback" in text for text in result.metadata["warnings"])


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        ({"version": "8201", "gpu": "Xavier", "compute": "7.2"}, "here is Xavier and not NVIDIA Tegra X2"),
        ({"version": "8502"}, "here is 8.5.2 and not 8.2.1"),
    ],
)
def test_an_engine_of_another_place_is_not_used(board: Board, elsewhere: dict[str, str], said: str) -> None:
    board.is_of(version="8201")
    built = board.built()
    board.is_of(**elsewhere)
    with pytest.raises(InvalidRequest, match=said) as caught:
        board.stage("benchmark", {**built, **board.gpu()}, budget_s=1.0)
    assert "run tensorrt.build" in caught.value.hint


def test_what_tensorrt_itself_says_of_an_engine_of_another_place(board: Board, tmp_path: Path) -> None:
    board.is_of(version="8201")
    built = board.built()
    board.is_of(version="8502")
    claimed = {**json.loads(built["trt_built"].read_text()), "tensorrt": "8.5.2"}
    built["trt_built"] = tmp_path / "claimed.json"
    built["trt_built"].write_text(json.dumps(claimed))
    with pytest.raises(InvalidRequest, match=r"expecting library version 8.5.2 got 8.2.1") as caught:
        board.stage("benchmark", {**built, **board.gpu()}, budget_s=1.0)
    assert "Build it here" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (
            {"unsupported": "Concat"},
            Unsupported,
            "layer both is Concat, and the ONNX parser of TensorRT 8.6.1",
        ),
        ({"fail": "oom"}, StageError, "OutOfMemory"),
        ({"gpu": ""}, DeviceNotFound, "no CUDA-capable device"),
    ],
)
def test_a_build_that_fails_says_why(
    board: Board, settings: dict[str, str], error: type[StageError], said: str
) -> None:
    board.is_of(version="8601")
    place = board.gpu()
    board.is_of(version="8601", **settings)
    board.gpu = lambda: place  # type: ignore[method-assign] # what was there when the run began
    with pytest.raises(error, match=said) as caught:
        board.built()
    assert caught.value.hint


def test_a_network_that_computes_something_else_gets_no_time(board: Board) -> None:
    board.is_of(version="8201")
    built = board.built()
    board.is_of(version="8201", fail="wrong")
    with pytest.raises(WrongOutput):
        board.stage("benchmark", built, budget_s=1.0)


def test_a_measurement_that_is_killed_is_an_error(board: Board) -> None:
    board.is_of(version="8201")
    built = board.built()
    board.is_of(version="8201", fail="truncated")
    with pytest.raises(StageError, match="code 137"):
        board.stage("benchmark", built, budget_s=1.0)


def test_where_tensorrt_is_not_it_says_how_to_have_it(board: Board, lab: Path) -> None:
    (lab / "trtexec").rename(lab / "away")
    try:
        with pytest.raises(SdkMissing, match="not here") as caught:
            board.stage("gpu")
        assert "MOBILE_ACCELERATOR_TENSORRT_BASE" in caught.value.hint
    finally:
        (lab / "away").rename(lab / "trtexec")


def test_fp16_is_unsupported_where_types_are_the_networks(board: Board) -> None:
    board.is_of(version="110100")
    with pytest.raises(Unsupported, match="has no --fp16"):
        board.built("fp16")


def test_the_check_names_operator_layer_and_what_to_write_instead(
    board: Board, tool_python: Callable[[str], Path], tmp_path: Path
) -> None:
    script = """
import sys, onnx
from onnx import TensorProto, helper as h
info = h.make_tensor_value_info
nodes = [h.make_node("Mod", ["x", "y"], ["a"], "remainder", fmod=1),
         h.make_node("Relu", ["a"], ["z"], "relu"),
         h.make_node("FusedConv", ["z"], ["w"], "fused", domain="com.microsoft")]
inputs = [info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
graph = h.make_graph(nodes, "odd", inputs, [info("w", TensorProto.FLOAT, [1, 4])])
imports = [h.make_opsetid("", 17), h.make_opsetid("com.microsoft", 1)]
onnx.save(h.make_model(graph, opset_imports=imports, ir_version=8), sys.argv[1])
"""
    path = tmp_path / "odd.onnx"
    subprocess.run([str(tool_python("tensorrt")), "-c", script, str(path)], check=True)
    folder, result = board.stage("check", {"onnx": path})
    listed = json.loads((folder / "m.trt-check.json").read_text())["versions"]
    assert [(each["node"], each["operator"]) for each in listed["8.2"]] == [
        ("remainder", "Mod"),
        ("fused", "FusedConv"),
        ("", ""),
    ]
    assert "Floor" in listed["8.2"][0]["rewrite"]
    assert "opset 17" in listed["8.2"][2]["why"]
    assert [each["node"] for each in listed["8.5"]] == ["fused"]
    layers = result.metadata["compiled"]["unsupported_layers"]
    assert layers[0] == {"node": "remainder", "operator": "Mod"}
    assert result.metadata["problems_by_version"]["10.1"] == 1


def test_a_stand_ins_labels_say_so(board: Board, tmp_path: Path) -> None:
    board.is_of(version="8201")
    project = Project(ROOT, tmp_path / "work")
    done = project.run("label", "--model", "lenet", "--backend", "tensorrt", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["reference"], row["simulated"], row["agrees"]) for row in rows] == [
        (True, False, None),
        (False, True, True),
    ]
