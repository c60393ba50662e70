"""docs/adding-a-backend.md, done: one module, one image folder, one compose service, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from host import ROOT
from tests.project import LAB, Project


@pytest.mark.tool
def test_a_new_backend_gets_its_row(tmp_path: Path) -> None:
    project = Project.copy(tmp_path / "project")
    project.add_tool("toy", LAB / "toy.py", lock=ROOT / "images" / "onnx" / "requirements.txt")
    added = {path.relative_to(project.folder) for path in project.folder.rglob("*") if path.is_file()}
    added -= {path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()}
    assert {str(path) for path in added if path.parts[0] != "work"} == {
        "tools/toy.py",
        "images/toy/requirements.in",
        "images/toy/requirements.txt",
    }
    arguments = ("all", "--model", "squeezenet", "--backend", "toy", "--budget-s", "1")
    done = project.run(*arguments)
    assert done.returncode == 0, done.stderr
    [record] = project.results()["records"]
    assert (record["backend"], record["status"]) == ("toy", "ok")
    assert record["latency_ms"]["n"] >= 3
    assert "toy" in (project.work / "runs" / "latest" / "report.html").read_text()
