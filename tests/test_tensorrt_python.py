"""TensorRT's tool with the stand-ins for its Python module and for CUDA's driver (tests/lab/tensorrt_api).

No GPU was in any of this. What it shows: the calls are those that each version has, in an order in which
nothing is read before it is there, and the driver's functions are called as cuda.h declares them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host.engines.venv import installed_python
from host.toolbox import builds
from tests.conftest import stages_in
from tests.lab.tensorrt_lab import API, COMPILER, build_library, write_small_network
from tests.project import LAB
from tools.stage import (
    DeviceNotFound,
    InvalidRequest,
    Result,
    SdkMissing,
    StageError,
    Unsupported,
    WrongOutput,
)

pytestmark = [
    pytest.mark.tool,
    pytest.mark.skipif(not shutil.which(COMPILER), reason="the stand-in for libcuda.so.1 takes a C compiler"),
]


@pytest.fixture(scope="module")
def lab(tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small network and its reference, the driver, and trtexec."""
    folder = tmp_path_factory.mktemp("lab")
    python = tool_python("tensorrt")
    write_small_network(folder, python, 3)
    build_library(folder, "libcuda.c", "libcuda.so.1")
    program = folder / "trtexec"
    program.write_text(f'#!/bin/sh\nexec {python} {LAB / "trtexec.py"} "$@"\n')
    program.chmod(0o755)
    return folder


class Board:
    """The tool's stages where there are the stand-ins; `settings` as in tests/lab/trtexec.py."""

    def __init__(self, lab: Path, run: Callable[..., tuple[Path, Result]], service: str) -> None:
        self._lab, self._run, self._service = lab, run, service

    def stage(
        self, command: str, inputs: Mapping[str, Path] | None = None, **params: Any
    ) -> tuple[Path, Result]:
        return self._run("tensorrt", command, inputs=inputs, params=params, service=self._service)

    def built(self, precision: str = "", api: str = "auto", **params: Any) -> dict[str, Path]:
        """Return all that a benchmark reads."""
        onnx = {"onnx": self._lab / "small.onnx"}
        checked, _ = self.stage("check", onnx)
        place, _ = self.stage("gpu", tensorrt_api=api)
        inputs = {**onnx, "trt_gpu": place / "m.trt-gpu.json", "trt_check": checked / "m.trt-check.json"}
        if precision == "int8":
            ranges, _ = self.stage("calibrate", {**onnx, "calibration": self._lab / "few.npz"})
            inputs["trt_ranges"] = ranges / "m.trt-ranges.json"
        folder, _ = self.stage(f"build-{precision}" if precision else "build", inputs, **params)
        stem = f"m.{precision}.engine" if precision else "m.engine"
        engine = {"trt_engine": folder / stem, "trt_built": folder / f"{stem}.json"}
        return {**engine, "trt_gpu": inputs["trt_gpu"], "reference": self._lab / "few.npz"}


Boards = Callable[..., contextlib.AbstractContextManager[Board]]


@pytest.fixture
def boards(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boards:
    @contextlib.contextmanager
    def board(
        version: str, *, service: str = "tensorrt", folder: Path = API, **settings: str
    ) -> Iterator[Board]:
        variables = {f"TRTEXEC_{key.upper()}": value for key, value in settings.items()}
        variables |= {"TRTEXEC_VERSION": version, "LD_LIBRARY_PATH": str(lab)}
        variables |= {"MOBILE_ACCELERATOR_TENSORRT_PYTHON": str(folder)}
        variables |= {"MOBILE_ACCELERATOR_TRTEXEC": str(lab / "trtexec")}
        with monkeypatch.context() as changed:
            for key, value in variables.items():
                changed.setenv(key, value)
            work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
            work.mkdir()
            with stages_in(work) as run:
                yield Board(lab, run, service)

    return board


@pytest.mark.parametrize("number", ["8201", "8502", "8601", "100300", "110100"])
def test_each_version_is_measured_as_every_backend_is(boards: Boards, number: str) -> None:
    with boards(number) as board:
        folder, result = board.stage("benchmark", board.built(), budget_s=1.0)
    metrics, metadata = result.metrics, result.metadata
    assert metadata["timed_by"] == "tensorrt-python"
    assert metadata["simulated"] is True
    assert metadata["stopped"] in ("interval", "budget")
    assert metrics["correctness_top1_match"] == 1
    h2d_ms, compute_ms, d2h_ms = (metrics[f"breakdown_{part}_ms"] for part in ("h2d", "compute", "d2h"))
    assert 0 < min(h2d_ms, d2h_ms) < compute_ms
    assert 0.2 < compute_ms / metrics["latency_mean_ms"] < 5  # of other runs, on a machine that others use
    assert {"loop_overhead_ns", "load_ms", "first_inference_ms", "latency_ci95_rel"} <= metrics.keys()
    assert metadata["operations"] == {"fp32": 9}
    assert (metadata["cuda_graph"], metadata["transfers"]) == (False, True)
    layers = json.loads((folder / "m.trt-profile.json").read_text())["layers"]
    assert {"classes", "prob"} <= {layer["name"] for layer in layers}
    assert result.versions["tensorrt"].count(".") == 2


@pytest.mark.parametrize(("service", "number"), [("tensorrt-l4t", "8502"), ("tensorrt-l4t310", "100300")])
def test_on_the_python_of_a_board(boards: Boards, service: str, number: str) -> None:
    if installed_python(builds()[service].python) is None:
        pytest.skip(f"no Python {builds()[service].python} is here")
    with boards(number, service=service) as board:
        _, result = board.stage("benchmark", board.built("int8"), precision="int8", budget_s=0.5)
    assert result.versions["python"].startswith(builds()[service].python)
    assert result.metadata["timed_by"] == "tensorrt-python"
    assert result.metrics["correctness_cosine"] > 0.99


@pytest.mark.parametrize("number", ["8201", "100300"])
def test_a_cuda_graph_without_transfers(boards: Boards, number: str) -> None:
    with boards(number) as board:
        settings = {"cuda_graph": True, "transfers": False, "spin_wait": False, "budget_s": 0.5}
        _, result = board.stage("benchmark", board.built("fp16"), precision="fp16", **settings)
    assert result.metadata["operations"] == {"fp16": 9}
    assert result.metadata["cuda_graph"] is True
    assert result.metrics["breakdown_h2d_ms"] == result.metrics["breakdown_d2h_ms"] == 0


def test_a_graph_that_cannot_be_captured_is_said(boards: Boards) -> None:
    with boards("8502", fail="capture") as board:
        _, result = board.stage("benchmark", board.built(), cuda_graph=True, budget_s=0.5)
    assert result.metadata["cuda_graph"] is False
    assert any("could not be captured" in text for text in result.metadata["warnings"])
    assert result.metrics["correctness_top1_match"] == 1


def test_a_dla_and_what_falls_back_is_recorded_and_profiled(boards: Boards) -> None:
    with boards("8502", gpu="Orin", compute="8.7") as board:
        built = board.built("fp16", dla_core=1)
        folder, result = board.stage("profile", built, precision="fp16")
    assert result.metadata["device"] == "DLA1"
    assert result.metadata["executed_on"] == {"DLA": 8, "GPU": 1}
    assert any("fallback" in text for text in result.metadata["warnings"])
    assert json.loads((folder / "m.trt-layers.json").read_text())["total_ms"] > 0


def test_labels(boards: Boards, lab: Path) -> None:
    with boards("100300") as board:
        built = board.built()
        del built["reference"]
        folder, _ = board.stage("infer", {**built, "images": lab / "few.npz"})
    answers = np.load(folder / "m.tensorrt-answers.npz")["outputs"]
    assert np.allclose(answers, np.load(lab / "few.npz")["outputs"], atol=1e-5)


def test_the_way_is_chosen_once_recorded_and_never_mixed(boards: Boards, tmp_path: Path) -> None:
    with boards("8502") as board:
        asked = board.built(api="trtexec")
        _, result = board.stage("benchmark", asked, budget_s=1.0)
        assert result.metadata["timed_by"] == "trtexec"
        assert json.loads(asked["trt_built"].read_text())["built_by"] == "trtexec"
        with pytest.raises(InvalidRequest, match="no way 'bindings'"):
            board.stage("gpu", tensorrt_api="bindings")
        folder, _ = board.stage("gpu")
    with boards("8502", folder=tmp_path) as board:  # without the module
        _, result = board.stage("gpu")
        assert result.metadata["api"] == "trtexec"
        assert "no Python module for Python 3.11" in result.metadata["api_why"]
        with pytest.raises(SdkMissing, match="no Python module") as caught:
            board.stage("gpu", tensorrt_api="python")
        assert "MOBILE_ACCELERATOR_TENSORRT_PYTHON" in caught.value.hint
        with pytest.raises(SdkMissing, match="no Python module"):  # not trtexec instead
            board.stage("benchmark", {**asked, "trt_gpu": folder / "m.trt-gpu.json"}, budget_s=1.0)


def test_a_module_that_cannot_be_imported_says_why(boards: Boards, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("import ctypes\nctypes.CDLL('libnvinfer.so.8')\n")
    with boards("8502", folder=tmp_path) as board:
        _, result = board.stage("gpu")
    assert "libnvinfer.so.8" in result.metadata["api_why"]


@pytest.mark.parametrize(
    ("number", "settings", "error", "said"),
    [
        (
            "8601",
            {"unsupported": "Concat"},
            Unsupported,
            "layer both is Concat, and the ONNX parser",
        ),
        ("8601", {"fail": "oom"}, StageError, "OutOfMemory"),
        ("8601", {"gpu": ""}, DeviceNotFound, "no CUDA-capable device"),
        ("110100", {}, Unsupported, "has no --fp16"),
    ],
)
def test_a_build_that_fails_says_why(
    boards: Boards, number: str, settings: dict[str, str], error: type[StageError], said: str
) -> None:
    with boards(number, **settings) as board, pytest.raises(error, match=said) as caught:
        board.built("fp16")
    assert caught.value.hint


def test_there_is_no_such_dla(boards: Boards) -> None:
    with boards("8502") as board, pytest.raises(DeviceNotFound, match="no DLA 0 here"):
        board.built("fp16", dla_core=0)


def test_what_is_wrong_or_of_another_place_gets_no_time(boards: Boards) -> None:
    with boards("8201") as board:
        built = board.built()
    with boards("8201", fail="wrong") as board, pytest.raises(WrongOutput) as caught:
        board.stage("benchmark", built, budget_s=0.5)
    assert "run tensorrt.compare" in caught.value.hint
    with boards("8502") as board:
        with pytest.raises(InvalidRequest, match=r"here is 8.5.2 and not 8.2.1"):
            board.stage("benchmark", built, budget_s=0.5)
        claimed = {**json.loads(built["trt_built"].read_text()), "tensorrt": "8.5.2"}
        built["trt_built"].write_text(json.dumps(claimed))
        with pytest.raises(InvalidRequest, match=r"expecting library version 8.5.2 got 8.2.1"):
            board.stage("benchmark", built, budget_s=0.5)
