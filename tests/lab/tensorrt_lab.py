"""What tests of TensorRT stand on: the small network as files, and CUDA's libraries as stand-ins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from host.engines.venv import tool_environment

HERE = Path(__file__).parent
API = HERE / "tensorrt_api"  # of the stand-in for TensorRT's Python module
COMPILER = "cc"


def write_small_network(folder: Path, python: Path, count: int) -> None:
    """Write small.onnx, its reference small.npz, and few.npz with `count` inputs: each may be a start."""
    argv = [str(python), str(HERE / "small_network.py"), str(folder)]
    subprocess.run(argv, check=True, env=tool_environment())
    with np.load(folder / "small.npz") as every:
        np.savez(folder / "few.npz", **{name: every[name][2 : 2 + count] for name in every.files})


def inputs_of_small_network(folder: Path) -> list[str]:
    """Return the options that give the files of `write_small_network`, so that no TensorFlow is needed."""
    inputs = {"onnx": folder / "small.onnx", "reference": folder / "few.npz"}
    return [word for name, path in inputs.items() for word in ("--input", f"{name}={path}")]


def build_library(folder: Path, source: str, name: str, *libraries: str) -> None:
    """Compile one of CUDA's libraries in API into `folder`; `libraries` are those there that it calls."""
    argv = [COMPILER, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", name]
    subprocess.run([*argv, str(API / source), *libraries], check=True, cwd=folder)
