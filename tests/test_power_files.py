"""`power energy` and `power convert` as a user calls them, on files anywhere."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from tests.lab.power_traces import Made, Scene, make
from tests.project import Project
from tools import trace, trace_files

pytestmark = pytest.mark.tool
SCENE = Scene(before_s=5.0, load_s=6.0, after_s=5.0, rate_hz=5000.0, noise_w=0.1)
COUNT = ("--inferences", "300")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(ROOT, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def made() -> Made:
    return make(SCENE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    folder = tmp_path_factory.mktemp("some where else")
    trace.write(folder / "a.parquet", made.trace)
    trace_files.write_csv(folder / "a.csv", made.trace)
    trace_files.write_pt4(folder / "a.pt4", made.trace)
    rows = [dataclasses.asdict(window) for window in made.windows.windows]
    (folder / "windows.json").write_text(json.dumps(rows))
    return folder


def power(project: Project, *arguments: object) -> subprocess.CompletedProcess[str]:
    return project.run("power", *map(str, arguments))


def energy(project: Project, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = power(project, "energy", *arguments, "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.pt4"])
def test_energy_of_a_file_of_any_format(project: Project, folder: Path, made: Made, name: str) -> None:
    code, document = energy(project, folder / name, *COUNT)
    assert code == 0
    assert document["status"] == "ok"
    assert document["energy_per_inference_mj"]["net"] == pytest.approx(made.net_mj, rel=0.01)
    assert document["energy_per_inference_mj"]["gross"] == pytest.approx(made.gross_mj, rel=0.01)
    assert document["window"]["seconds"] == pytest.approx(6.0, abs=0.02)
    assert document["idle_w"]["before"] == pytest.approx(0.5, abs=0.01)
    assert document["dropped"] == 0
    assert "plot" not in document


def test_energy_for_a_person(project: Project, folder: Path) -> None:
    done = power(project, "energy", folder / "a.parquet", "--windows", folder / "windows.json")
    assert done.returncode == 0
    for text in ("energy per inference, mJ", "95 % confidence", "baseline drift", "simulated", "placed by"):
        assert text in done.stdout
    assert "meter's own error" in done.stderr


def test_a_refusal_has_no_energy_and_exit_code_1(project: Project, tmp_path: Path) -> None:
    trace.write(tmp_path / "t.parquet", make(dataclasses.replace(SCENE, after_s=0.0)).trace)
    code, document = energy(project, tmp_path / "t.parquet", *COUNT)
    assert code == 1
    assert document["status"] == "refused"
    assert "no idle power after" in document["reason"]
    assert document["hint"]
    assert document["energy_per_inference_mj"] is None
    done = power(project, "energy", tmp_path / "t.parquet", *COUNT)
    assert done.returncode == 1
    assert "mJ" not in done.stdout
    assert "refused: there is no idle power after" in done.stderr


def spoil(folder: Path, target: Path, how: str) -> Path:
    """Write a file that cannot be read; its name says what is wrong. tests/test_trace_files.py has more."""
    path = target / how
    if how.endswith(".parquet"):
        whole = (folder / "a.parquet").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        return path
    rows = (folder / "a.csv").read_text().splitlines()[:2000]
    made = {
        "cut_off.csv": [*rows[:500], rows[500][:7]],
        "decimal_comma.csv": [rows[0], *(row.replace(".", ",") for row in rows[1:])],
        "negative_voltage.csv": [*rows[:50], rows[50].rpartition(",")[0] + ",-3.6"],
    }
    path.write_text("\n".join(made[how]))
    return path


@pytest.mark.parametrize("how", ["cut_off.csv", "decimal_comma.csv", "negative_voltage.csv", "cut.parquet"])
def test_a_file_that_cannot_be_read_is_one_line(
    project: Project, folder: Path, tmp_path: Path, how: str
) -> None:
    path = spoil(folder, tmp_path, how)
    code, document = energy(project, path, *COUNT)
    assert code == 2
    assert document["status"] == "refused"
    assert document["reason"]
    assert document["hint"]
    assert [document[key] for key in ("energy_per_inference_mj", "window", "idle_w", "dropped")] == [None] * 4


def test_wrong_arguments(project: Project, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('[{"start_s": 3, "end_s": 1, "inferences": 5}]')
    (tmp_path / "outside.json").write_text('[{"start_s": 300, "end_s": 310, "inferences": 5}]')
    csv = folder / "a.csv"
    for arguments, reason in (
        ((csv,), "number of inferences is 0"),
        ((csv, "--inferences", "-1"), "number of inferences is -1"),
        ((csv, *COUNT, "--channel", "aux"), "no channel 'aux'"),
        ((csv, "--windows", tmp_path / "w.json"), "no span of time"),
    ):
        code, document = energy(project, *arguments)
        assert code == 2
        assert reason in document["reason"]
    code, document = energy(project, csv, "--windows", tmp_path / "outside.json")
    assert code == 1
    assert "outside the trace" in document["reason"]
    done = power(project, "energy", tmp_path / "nowhere.csv", *COUNT)
    assert done.returncode == 2
    assert "nowhere.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_converting_there_and_back_keeps_the_samples(
    project: Project, folder: Path, tmp_path: Path, made: Made
) -> None:
    for source, target in (("a.pt4", "b.csv"), ("a.csv", "b.parquet"), ("a.parquet", "b.pt4")):
        done = power(project, "convert", folder / source, "-o", tmp_path / target)
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / target) in done.stdout
    assert (tmp_path / "b.csv").read_text().startswith("Time(s),Main(mA),Main Voltage(V)\n")
    for target in ("b.csv", "b.parquet", "b.pt4"):
        back = trace_files.read(tmp_path / target)
        assert len(back.time_s) == len(made.trace.time_s)
        assert np.allclose(back.columns["main_a"], made.trace.columns["main_a"], atol=3e-4)
        assert np.allclose(back.columns["main_v"], made.trace.columns["main_v"], atol=3e-4)


def test_converting_to_nowhere(project: Project, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there.csv").mkdir()
    for output, reason in (
        ("x.xlsx", "does not say what to write"),
        ("nowhere/x.csv", "cannot be written"),
        ("there.csv", "cannot be written"),
    ):
        done = power(project, "convert", folder / "a.csv", "-o", tmp_path / output)
        assert done.returncode == 2
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "there.csv"]
