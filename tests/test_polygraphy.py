"""tensorrt.compare: NVIDIA's own Polygraphy on the stand-ins for TensorRT and CUDA (tests/lab/tensorrt_api).

Polygraphy and ONNX Runtime are the real ones; no GPU was in any of this.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv

from host import ROOT
from host.version import VERSION
from tests.conftest import stages_in
from tests.lab import virtual_board
from tests.lab.tensorrt_lab import API, COMPILER, build_library, write_small_network
from tests.lab.virtual_board import VirtualBoard, tensorrt_image
from tests.project import LAB, NOWHERE, SMALL, Project
from tools import gate
from tools.stage import DeviceNotFound, InvalidRequest, Result, SdkMissing, StageError, Unsupported
from tools.tensorrt import polygraphy, polygraphy_hooks

needs_compiler = pytest.mark.skipif(
    not shutil.which(COMPILER), reason="the stand-ins for CUDA take a C compiler"
)
PROGRAM = '#!/bin/sh\nPYTHONPATH="{path}" exec "{python}" "{folder}/polygraphy/bin/polygraphy" "$@"\n'


@pytest.fixture(scope="module")
def lab(tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small network, its reference, CUDA's libraries, and Polygraphy."""
    folder = tmp_path_factory.mktemp("lab")
    python = tool_python("tensorrt")
    write_small_network(folder, python, 2)
    build_library(folder, "libcuda.c", "libcuda.so.1")
    build_library(folder, "libcudart.c", "libcudart.so", "libcuda.so.1")
    lock = ("--require-hashes", "-r", str(LAB / "polygraphy" / "requirements.txt"))
    where = ("--python", str(python), "--target", str(folder / "polygraphy"))
    subprocess.run([uv.find_uv_bin(), "pip", "install", "--quiet", "--no-config", *where, *lock], check=True)
    for name, path in {"with": f"{folder}/polygraphy:{API}", "without": f"{folder}/polygraphy"}.items():
        program = folder / f"polygraphy-{name}-tensorrt"
        program.write_text(PROGRAM.format(path=path, python=python, folder=folder))
        program.chmod(0o755)
    return folder


Compare = Callable[..., tuple[dict[str, Any], Result]]


@pytest.fixture
def compare(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Run the stage on a version of TensorRT; `settings` as in tests/lab/trtexec.py."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(lab))
    monkeypatch.setenv("MOBILE_ACCELERATOR_TENSORRT_PYTHON", str(API))
    monkeypatch.setenv(polygraphy.VARIABLE, str(lab / "polygraphy-with-tensorrt"))

    def compared(number: str, precision: str = "fp32", **settings: str) -> tuple[dict[str, Any], Result]:
        monkeypatch.setenv("TRTEXEC_VERSION", number)
        with stages_in(tmp_path) as run:
            place, _ = run("tensorrt", "gpu")
        for key, value in settings.items():
            monkeypatch.setenv(f"TRTEXEC_{key.upper()}", value)
        inputs = {"onnx": lab / "small.onnx", "reference": lab / "small.npz"}
        inputs["trt_gpu"] = (place / "m.trt-gpu.json").rename(tmp_path / "place.json")
        shutil.rmtree(place)
        with stages_in(tmp_path) as run:
            folder, result = run("tensorrt", "compare", inputs=inputs, params={"fp16": precision == "fp16"})
        return json.loads((folder / "m.trt-compare.json").read_text()), result

    return compared


@pytest.mark.tool
@needs_compiler
@pytest.mark.parametrize(
    ("number", "precision"), [("8502", "fp32"), ("100300", "fp32"), ("100300", "fp16"), ("110100", "fp32")]
)
def test_all_layers_of_a_right_engine_are_within_the_limits(
    compare: Compare, number: str, precision: str
) -> None:
    written, result = compare(number, precision)
    assert (result.metrics["tensors"], result.metrics["tensors_beyond"]) == (10, 0)
    assert result.metadata["first_beyond"] is None
    assert (result.metadata["n_inputs"], result.metadata["simulated"]) == (2, True)
    assert not result.metadata["warnings"]
    assert [each["tensor"] for each in written["tensors"]][:2] == ["c1", "r1"]
    worst = max(each["error_rel"] for each in written["tensors"])
    assert (0 < worst < 1e-3) if precision == "fp16" else worst == 0  # what float16 rounds off
    assert result.versions["polygraphy"] == "0.53.6"


@pytest.mark.tool
@needs_compiler
@pytest.mark.skipif(bool(virtual_board.missing()), reason="no sshd")
def test_the_layer_is_found_on_a_board(
    lab: Path, tmp_path: Path, tool_python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    settings = [
        f"LD_LIBRARY_PATH={lab}",
        f"MOBILE_ACCELERATOR_TENSORRT_PYTHON={API}",
        f"{polygraphy.VARIABLE}={lab / 'polygraphy-with-tensorrt'}",
        "TRTEXEC_VERSION=100300",
        "TRTEXEC_WRONG_LAYER=wide",
    ]
    with VirtualBoard(tmp_path / "board") as board:
        image = tensorrt_image(tmp_path, tool_python("tensorrt"), *settings)
        board.add_image(f"mobile-accelerator/tensorrt-l4t:{VERSION}", image)
        monkeypatch.setenv("PATH", board.variables["PATH"])
        project = Project(ROOT, tmp_path / "work", NOWHERE)
        argv = ["run", "tensorrt.compare", "--model", "small", "--model-file", str(tmp_path / "small.toml")]
        argv += ["--input", f"onnx={lab / 'small.onnx'}", "--input", f"reference={lab / 'small.npz'}"]
        done = project.run(*argv, "--device", board.destination)
    assert done.returncode == 0, done.stderr
    assert "the first layer beyond the limit is wide (Conv)" in " ".join(done.stdout.split())


@pytest.mark.tool
@needs_compiler
def test_the_layer_that_is_wrong_is_named(compare: Compare) -> None:
    written, result = compare("100300", "fp16", wrong_layer="wide")
    first = result.metadata["first_beyond"]
    assert (first["node"], first["operator"], first["tensor"]) == ("wide", "Conv", "c4")
    assert first["error_rel"] > 0.2
    assert "wide (Conv)" in result.metadata["warnings"][0]
    beyond = {each["node"]: each["beyond"] for each in written["tensors"]}
    assert not any(beyond[node] for node in ("first", "relu", "by_channel", "narrow"))
    assert beyond["both"]  # what reads it is off too


@pytest.mark.tool
@needs_compiler
@pytest.mark.parametrize(
    ("number", "settings", "error", "said"),
    [
        ("8201", {}, Unsupported, r"'8\.2\.1\.6' is installed, but version '>=8\.5' is required"),
        ("100300", {"unsupported": "Concat"}, Unsupported, "layer both is Concat, and the ONNX parser"),
        ("100300", {"fail": "oom"}, StageError, "Polygraphy: Error Code 2: OutOfMemory"),
        ("100300", {"gpu": ""}, DeviceNotFound, "CUDA Error: 100"),
    ],
)
def test_what_fails_in_it_is_told(
    compare: Compare, number: str, settings: dict[str, str], error: type[StageError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        compare(number, **settings)
    assert caught.value.hint


@pytest.mark.tool
@needs_compiler
@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("none-here", "none-here is not here"),
        ("polygraphy-without-tensorrt", "Module: 'tensorrt' is required"),
    ],
)
def test_where_it_is_not_or_has_no_tensorrt(
    compare: Compare, lab: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setenv(polygraphy.VARIABLE, str(lab / program))
    with pytest.raises(SdkMissing, match=said) as caught:
        compare("100300")
    assert "pip install polygraphy" in caught.value.hint


def test_an_error_is_judged_by_the_tensors_own_range() -> None:
    limit = gate.tolerance("fp32")

    def beyond(found: Any, expected: Any) -> bool:
        judged = polygraphy._judge(polygraphy_hooks.distance(np.float32(found), np.float32(expected)), limit)
        return bool(judged["beyond"])

    small = np.linspace(0, 1e-4, 9)
    assert beyond(small + 1e-6, small)  # 1 % of its range
    assert not beyond(small + 1e-8, small)
    assert not beyond([1000.001, 1000.0], [1000.0, 1000.001])  # roundings of large values that hardly differ
    assert not beyond([1e-7, 0.0], [0.0, 0.0])
    assert not beyond([np.inf, np.nan, 1.0], [np.inf, np.nan, 1.0])
    assert beyond([np.nan, 1.0], [0.0, 1.0])
    assert beyond([1.0, 1.0], [1.0])  # another size


def test_what_polygraphy_calls_is_for_the_python_of_jetpack_4() -> None:
    ast.parse(Path(polygraphy_hooks.__file__).read_text(), feature_version=(3, 6))


def test_a_parameter_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    place = {"tensorrt": "10.3.0", "gpu": "", "compute_capability": "", "machine": "", "api": "trtexec"}
    (tmp_path / "place.json").write_text(json.dumps(place))
    order = polygraphy.Order(tmp_path, tmp_path / "place.json", tmp_path, "fp32", 1024, 0)
    with pytest.raises(InvalidRequest, match="n_inputs 0"):
        polygraphy.compare(order, tmp_path)
