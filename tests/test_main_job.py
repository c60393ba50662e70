"""The main job on the venv engine, as a user runs it, and what it does with bad input."""

from __future__ import annotations

import array
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from host import ROOT
from tests.project import Project

pytestmark = pytest.mark.tool
SCHEMA = json.loads((ROOT / "host" / "results.schema.json").read_text())
HOST = ("onnx", "openvino", "tflite")  # what runs on any host
RUNTIMES = {"onnxruntime", "tflite", "litert", "openvino"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project itself with a work folder of its own, in which the main job ran once."""
    project = Project(ROOT, tmp_path_factory.mktemp("main") / "work")
    done = project.run("all", "--model", "squeezenet", "--budget-s", "2")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "report.html" in done.stdout
    return project


def records(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.results()["records"]
    return found


def test_every_runtime_of_the_host_is_right_and_measured(project: Project) -> None:
    jsonschema.validate(project.results(), SCHEMA)
    on_cpu = [
        record for record in records(project) if record["backend"] in HOST and record["device"] == "CPU"
    ]
    assert {record["runtime"] for record in on_cpu} == RUNTIMES
    for record in on_cpu:
        assert record["status"] == "ok", record["reason"]
        assert 0 < record["latency_ms"]["min"] <= record["latency_ms"]["p50"] <= record["latency_ms"]["max"]
        assert record["correctness"]["top1_match"] == 1
        assert record["versions"]
        assert record["metadata"]["threads"] >= 1


def test_a_record_says_what_it_was_made_from_and_by_which_versions(project: Project) -> None:
    for record in records(project):
        made_by = record["metadata"]["made_by"]
        assert made_by["layers"] == {"given": "by the network's description"}
        assert made_by["tf1.freeze"]["versions"]["python"].startswith("3.")
        assert any(name.startswith("tensorflow") for name in made_by["tf1.freeze"]["versions"])


def test_what_was_not_measured_says_why(project: Project) -> None:
    absent = [record for record in records(project) if record["status"] != "ok"]
    assert {(record["backend"], record["device"], record["status"]) for record in absent} == {
        *(("android", device, "no_device") for device in ("CPU", "GPU", "NNAPI", "Hexagon")),
        ("openvino", "GPU", "no_device"),
        ("openvino", "NPU", "no_device"),
        ("ncs", "CPU", "emulated"),
        ("ncs", "MYRIAD", "no_device"),
        ("ncs1", "Myriad 2", "no_sdk"),
        ("oak", "OAK", "no_device"),
        ("snpe", "HTP v73 (sm8550)", "emulated"),
        ("tensorrt", "GPU", "no_device"),
        *(("snpe", device, "no_sdk") for device in ("CPU", "GPU", "GPU_FP16", "DSP")),
    }
    for record in absent:
        assert record["latency_ms"] is None
        assert record["reason"]
        assert record["hint"]


def test_without_a_stick_its_row_has_what_was_compiled_and_its_function_was_checked(project: Project) -> None:
    check, row = [record for record in records(project) if record["backend"] == "ncs"]
    assert (check["runtime"], check["device"], check["precision"]) == ("emulated", "CPU", "fp16")
    assert check["correctness"]["cosine"] > 0.999
    assert check["latency_ms"] is None
    assert (row["runtime"], row["device"], row["precision"]) == ("ncs", "MYRIAD", "fp16")
    assert "runner.py devices" in row["hint"]
    compiled = row["metadata"]["made_by"]["ncs.convert"]["compiled"]
    assert compiled["chip"] == "Myriad X (2480)"
    assert compiled["stages"] > 26
    [first] = [record for record in records(project) if record["backend"] == "ncs1"]
    assert first["metadata"]["made_by"]["ncs.convert-2450"]["compiled"]["chip"] == "Myriad 2 (2450)"


def test_without_a_gpu_the_network_is_checked_for_tensorrt(project: Project) -> None:
    rows = [record for record in records(project) if record["backend"] == "tensorrt"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    for row in rows:
        checked = row["metadata"]["made_by"]["tensorrt.check"]["compiled"]
        assert (checked["chip"], checked["unsupported_layers"]) == ("TensorRT 8.2", [])
    assert "no NVIDIA GPU" in rows[0]["reason"]


def test_a_snapdragon_is_emulated_with_what_a_phone_would_load(project: Project) -> None:
    rows = [record for record in records(project) if record["runtime"] == "HTP emulator"]
    assert [(row["runtime"], row["device"], row["precision"], row["status"]) for row in rows] == [
        ("HTP emulator", "HTP v73 (sm8550)", "fp16", "emulated"),
        ("HTP emulator", "HTP v73 (sm8550)", "int8", "emulated"),
    ]
    for row in rows:
        assert row["correctness"]["cosine"] > 0.93
        assert row["artifacts"]["context_bin"].endswith(".ctx.bin")
    assert rows[1]["metadata"]["worst_layer"]["layer"]


def test_raw_samples_give_the_numbers_of_the_record(project: Project) -> None:
    folder = project.work / "runs" / "latest"
    for record in records(project):
        if record["samples"]:
            samples = array.array("q", (folder / record["samples"]).read_bytes())
            assert len(samples) == record["latency_ms"]["n"]
            assert min(samples) / 1e6 == pytest.approx(record["latency_ms"]["min"])


def test_artifacts_have_the_names_that_people_know(project: Project) -> None:
    names = {path.name for path in (project.work / "models" / "squeezenet").iterdir()}
    wanted = {"inf.pb", "ckpt.index", "frozen.pb", "onnx", "tflite", "xml", "bin", "dlc", "ctx.bin"}
    assert {f"squeezenet.{suffix}" for suffix in wanted} <= names
    assert (project.work / "models" / "squeezenet" / "squeezenet.onnx").stat().st_size > 1_000_000


def test_the_run_is_complete_and_latest(project: Project) -> None:
    folder = project.work / "runs" / "latest"
    assert folder.is_symlink()
    html = (folder / "report.html").read_text()
    assert "squeezenet" in html
    run = json.loads((folder / "run.json").read_text())
    assert run["host"]["cpu"]
    assert run["engine"] == "venv"
    logs = [stage["log"] for stage in run["stages"] if stage["log"]]  # none of one whose need failed
    assert len(logs) > 10
    assert all((folder / log).exists() for log in logs)


def test_a_second_run_makes_nothing_again_but_measures(project: Project) -> None:
    done = project.run("all", "--model", "squeezenet", "--backend", "tflite", "--budget-s", "1")
    assert done.returncode == 0, done.stderr
    stages = project.results()["run"]["stages"]
    assert {stage["stage"]: stage["cached"] for stage in stages} == {
        "tf1.generate-weights": True,
        "tf1.export": True,
        "tf1.freeze": True,
        "tf1.reference": True,
        "tf1.to-tflite": True,
        "tflite.benchmark[tflite]": False,
        "tflite.benchmark[litert]": False,
    }


def test_plan_says_what_is_cached(project: Project) -> None:
    done = project.run("plan", "--model", "squeezenet", "--json")
    actions = {stage["stage"]: stage["action"] for stage in json.loads(done.stdout)["stages"]}
    assert actions["tf1.freeze"] == "cached"
    assert actions["onnx.benchmark"] == "measure"


def test_weights_of_the_users_own(project: Project, tmp_path: Path) -> None:
    made = project.work / "models" / "squeezenet"
    for name in ("squeezenet.ckpt.index", "squeezenet.ckpt.data-00000-of-00001"):
        shutil.copy(made / name, tmp_path / name.replace("squeezenet", "mine"))
    weights = str(tmp_path / "mine.ckpt")
    done = project.run("prepare", "--model", "squeezenet", "--weights", weights, "--json")
    assert done.returncode == 0, done.stderr
    names = [stage["stage"] for stage in json.loads(done.stdout)["run"]["stages"]]
    assert names == ["tf1.export", "tf1.import-weights", "tf1.freeze", "tf1.reference"]
    assert project.results()["run"]["weights"]["squeezenet"]["source"] == "given"


def test_a_checkpoints_plain_values(project: Project) -> None:
    """The import as a stage of its own, and one that has nothing to import."""
    mine = str(project.work / "models" / "squeezenet" / "squeezenet.ckpt")
    stage = ("run", "tf1.import-weights", "--model", "squeezenet")
    done = project.run(*stage, "--weights", mine, "--set", "moving_averages=false")
    assert done.returncode == 0, done.stderr
    assert '"moving_averages": 0' in done.stdout
    nothing = project.run(*stage, "--weights", "generated")
    assert nothing.returncode == 2
    assert "makes the artifact 'checkpoint'" in nothing.stderr


def test_weights_of_another_network_are_refused(project: Project, tmp_path: Path) -> None:
    made = project.work / "models" / "squeezenet"
    for path in made.glob("squeezenet.ckpt.*"):
        shutil.copy(path, tmp_path)
    weights = str(tmp_path / "squeezenet.ckpt")
    done = project.run("prepare", "--model", "mobilenet_v1_0.25", "--weights", weights)
    assert done.returncode == 2
    assert "MobilenetV1/" in done.stderr


@pytest.mark.parametrize(
    ("stage", "artifact", "name"),
    [
        ("tflite.benchmark", "tflite", "squeezenet.tflite"),
        ("onnx.benchmark", "onnx", "squeezenet.onnx"),
        ("openvino.benchmark", "xml", "squeezenet.xml"),
        ("openvino.convert", "frozen", "squeezenet.frozen.pb"),
        ("tf1.to-onnx", "frozen", "squeezenet.frozen.pb"),
        ("tf1.freeze", "ckpt_data", "squeezenet.ckpt.data-00000-of-00001"),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_damaged_files(
    project: Project, tmp_path: Path, stage: str, artifact: str, name: str, damage: str
) -> None:
    whole = (project.work / "models" / "squeezenet" / name).read_bytes()
    bad = tmp_path / name
    bad.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"garbage" * 1000)
    done = project.run("run", stage, "--model", "squeezenet", "--input", f"{artifact}={bad}")
    assert done.returncode == 2, done.stderr
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert not project.parts()


def test_wrong_output_gets_no_latency(project: Project, tmp_path: Path) -> None:
    """Another network's conversion under this network's name: right shapes, wrong numbers."""
    other = project.run("run", "tf1.to-tflite", "--model", "mobilenet_v1_0.25")
    assert other.returncode == 0, other.stderr
    wrong = tmp_path / "squeezenet.tflite"
    shutil.copy(project.work / "models" / "mobilenet_v1_0.25" / "mobilenet_v1_0.25.tflite", wrong)
    done = project.run("run", "tflite.benchmark", "--model", "squeezenet", "--input", f"tflite={wrong}")
    assert done.returncode == 6, done.stderr
    [record] = records(project)
    assert record["status"] == "wrong_output"
    assert record["latency_ms"] is None
    assert record["samples"] is None
    assert record["correctness"]["cosine"] < 0.999


def test_three_networks_cost_one_start_of_each_tool(project: Project) -> None:
    models = ["squeezenet", "mobilenet_v1_0.25", "mobilenet_v2_0.35"]
    arguments = [word for model in models for word in ("--model", model)]
    done = project.run("all", *arguments, "--backend", "onnx", "--budget-s", "0.5")
    assert done.returncode == 0, done.stderr
    assert {record["model"] for record in records(project)} == set(models)
    started = [process["tool"] for process in project.results()["run"]["processes"]]
    assert started == ["tf1", "onnx"]  # and the report, after the records are written
