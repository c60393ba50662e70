"""Networks for the stick: one of the zoo's kind, made by the real pipeline, and odd ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunStage
from tests.project import LAB

Convert = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def network(run_stage: RunStage) -> Path:
    """Return a small MobileNet v1 as ONNX."""
    files: dict[str, Path] = {}

    def stage(command: str, *inputs: str, **params: Any) -> None:
        folder, result = run_stage("tf1", command, inputs={key: files[key] for key in inputs}, params=params)
        files.update({key: folder / name for key, name in result.outputs.items()})

    ends = {"image_size": 64, "channels": 3, "classes": 11}
    stage("export", network="mobilenet_v1", depth_multiplier=0.25, **ends)
    stage("generate-weights", "graph", "signature")
    stage("freeze", "graph", "signature", "ckpt_index", "ckpt_data")
    stage("to-onnx", "frozen", "signature")
    return files["onnx"]


@pytest.fixture(scope="session")
def odd(tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the networks that tests/lab/odd_networks.py makes."""
    folder = tmp_path_factory.mktemp("odd")
    subprocess.run([tool_python("onnx"), LAB / "odd_networks.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def convert(run_stage: RunStage) -> Convert:
    """Convert for a chip; return the paths `blob` and `plan`, the report's `compiled`, and the `result`."""

    def run(onnx: Path, chip: str = "2480", *, weights: Path | None = None, **params: Any) -> dict[str, Any]:
        command = {"2480": "convert", "2450": "convert-2450"}[chip]
        inputs = {"onnx": onnx, **({"bin": weights} if weights else {})}
        folder, result = run_stage("ncs", command, inputs=inputs, params=params)
        files = {key.partition("_")[0]: folder / name for key, name in result.outputs.items()}
        return {**files, "result": result, "compiled": result.metadata["compiled"]}

    return run
