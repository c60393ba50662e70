"""A meter's container beside that of a measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.project import LAB, Project
from tools import arrays

pytestmark = pytest.mark.docker
LOCK = LAB / "meter" / "requirements.txt"


def test_meter_and_benchmark_in_two_containers(tmp_path: Path) -> None:
    """The stand-in's power knows nothing of the load, so there is no energy; but a latency and a trace."""
    project = Project.copy(tmp_path / "project")
    for tool in ("spinning", "wave"):
        project.add_tool(tool, LAB / f"{tool}.py", lock=LOCK)
    built = project.call(project.argv("images", "build", "spinning", "wave", "energy", "--offline-base"))
    assert built.returncode == 0, built.stderr
    answers = np.eye(5, dtype=np.float32)
    arrays.write(project.folder / "reference.npz", inputs={"input": answers}, outputs=answers)
    given = ("--input", f"reference={project.folder / 'reference.npz'}", "--set", "hurried=true")
    done = project.run(
        "run", "spinning.benchmark", "--model", "squeezenet", *given, "--meter", "wave", engine="docker"
    )
    [record] = project.results()["records"]
    assert record["status"] == "ok", done.stderr
    assert record["latency_ms"]
    assert record["energy"] is None
    assert record["energy_reason"]
    stages = {
        stage["stage"].partition(" ")[0]: stage["status"] for stage in project.results()["run"]["stages"]
    }
    assert stages["wave.wave"] == "ok"
    assert {"trace", "windows"} <= record["files"].keys()
