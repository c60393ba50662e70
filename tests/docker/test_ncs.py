"""The image of the stick's tool by real Docker: what it needs besides Python packages is in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from host import ROOT, images
from host.compose import load
from host.docker_cli import Console, client
from tests.docker.conftest import TAG
from tests.project import LAB

pytestmark = [pytest.mark.docker, pytest.mark.tool]


def test_a_person_converts_in_the_container(
    docker: Callable[..., str], console: Console, tool_python: Callable[[str], Path], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    subprocess.run([tool_python("onnx"), LAB / "odd_networks.py", work], check=True)
    environment = {**os.environ, "MOBILE_ACCELERATOR_VERSION": TAG, "MOBILE_ACCELERATOR_WORK": str(work)}
    service = load(ROOT / "compose.yaml", environment)["ncs"]
    images.build([service], console, offline_base=True)
    argv = [client(), "compose", "--file", str(ROOT / "compose.yaml"), "run", "--rm", "ncs"]
    argv += ["convert", "--onnx", "good.onnx", "--blob", "good.blob", "--plan", "good.json"]
    done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)
    docker("image", "rm", service.image)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metadata"]["compiled"]["hw_stages"] == 1
    assert (work / "good.blob").stat().st_size == json.loads(done.stdout)["metrics"]["size_bytes"]
