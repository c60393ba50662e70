"""Stand-ins for the SDKs of the first-generation stick, in the folders of the real ones, all SIMULATED."""

from __future__ import annotations

import shutil
from pathlib import Path

PARTS = Path(__file__).parent / "ncs1"
ENGINE = "deployment_tools/inference_engine/lib/intel64"


def ncsdk(folder: Path, python: Path, version: int) -> Path:
    """Make an installed NCSDK 1.x or 2.x, as /opt/movidius."""
    home = folder / "NCSDK" / "ncsdk-x86_64"
    for program in ("Compile", "Profile"):
        _put("toolkit.py", home / "tk" / f"mvNC{program}.py")
    _put("stick.py", home / "tk" / "stick.py")
    _put(f"mvncapi{version}.py", home / "api" / "python" / "mvnc" / "mvncapi.py")
    _put("stick.py", home / "api" / "python" / "stick.py")
    (home / "api" / "python" / "mvnc" / "__init__.py").touch()
    _write(home / "api" / "c" / "libmvnc.so.0", "simulated library")
    _write(home / "fw" / "MvNCAPI-ma2450.mvcmd", "simulated firmware")
    _write(folder / "version.txt", {1: "1.12.01.01\n", 2: "2.10.01.01\n"}[version])
    return _finished(folder, home, python)


def openvino(folder: Path, python: Path, *, version: str = "2020.3.355", optimizer: bool = True) -> Path:
    """Make an unpacked archive of OpenVINO 2020.3, `dev`, or `runtime` if it has no optimizer."""
    home = folder / f"l_openvino_toolkit_dev_ubuntu18_p_{version}"
    _write(home / ENGINE / "usb-ma2450.mvcmd", "simulated firmware")
    _write(home / ENGINE / "libmyriadPlugin.so", "simulated plug-in")
    package = home / "python" / "python3.7" / "openvino"
    _put("inference_engine.py", package / "inference_engine" / "__init__.py")
    (package / "__init__.py").touch()
    _put("stick.py", package.parent / "stick.py")
    if optimizer:
        _put("mo.py", home / "deployment_tools" / "model_optimizer" / "mo.py")
        _put("stick.py", home / "deployment_tools" / "model_optimizer" / "stick.py")
    return _finished(folder, home, python)


def misbehave(folder: Path, fault: str) -> None:
    """Let the stick that an SDK finds do as stick.py says."""
    for stick in folder.rglob("stick.py"):
        stick.with_name("fault").write_text(fault)


def _finished(folder: Path, home: Path, python: Path) -> Path:
    (home / "SIMULATED").touch()
    _write(folder / "env" / "bin" / "python3", f'#!/bin/sh\nexec {python} "$@"\n')
    (folder / "env" / "bin" / "python3").chmod(0o755)
    return folder


def _put(part: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PARTS / part, path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
