"""TensorFlow Lite on a phone by benchmark_model: rows of the main job, and what never becomes a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from tests.conftest import RunStage
from tests.lab import phone_program, virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tests.project import Project
from tools.phone import Cluster
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unavailable, Unsupported, WrongOutput

MISSING = virtual_phone.missing()
pytestmark = [pytest.mark.tool, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path_factory.mktemp("phone"), data_mb=300) as lab:
        yield lab


@pytest.fixture(scope="module")
def program(
    lab: VirtualPhone, tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return phone_program.install(lab, tool_python("android"), tmp_path_factory.mktemp("program") / "bm")


@pytest.fixture(scope="module")
def project(lab: VirtualPhone, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADB_SERVER_SOCKET", lab.server.address)
        yield Project(ROOT, tmp_path_factory.mktemp("work"))


def test_the_main_job_gives_a_row_for_each_unit(project: Project, program: Path) -> None:
    done = project.run(
        *("all", "--model", "lenet", "--backend", "android", "--budget-s", "1"),
        *("--benchmark-model", str(program)),
    )
    assert done.returncode == 0, done.stderr
    rows = {record["device"]: record for record in project.results()["records"]}
    print(rows)
