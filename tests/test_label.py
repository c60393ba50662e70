"""Labelling end to end with squeezenet on every backend, and the user's pictures through the gate."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from host import ROOT, pictures, toolbox, zoo
from host import label as labelling
from host.options import Networks
from host.plan import Planner, prepare
from host.store import Store, sha256
from tests.lab import virtual_board
from tests.lab.virtual_board import VirtualBoard, tensorrt_image
from tests.project import Project
from tools.stage import InvalidRequest

RUNTIMES = ["onnx", "openvino", "tflite", "litert"]
GRAPH = {"frozen": "pb", "signature": "json"}  # what a user gives for a reference of weights of his own
SCHEMA = json.loads((ROOT / "host" / "results.schema.json").read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(ROOT, tmp_path_factory.mktemp("label") / "work")


def label(project: Project, *arguments: str) -> dict[str, Any]:
    done = project.run("label", *arguments, "--model", "squeezenet", "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def labelled(project: Project) -> dict[str, Any]:
    return label(project)


@pytest.fixture(scope="module")
def sample(project: Project, labelled: dict[str, Any]) -> Path:
    return project.work / "models" / "squeezenet" / "generated-sample.png"


@pytest.mark.tool
def test_every_backend_says_what_the_reference_says(labelled: dict[str, Any]) -> None:
    reference, *rows = labelled["rows"]
    assert reference["reference"]
    assert reference["backend"] == "tf1"
    done = [row for row in rows if row["status"] == "ok"]
    assert [row["runtime"] for row in done] == RUNTIMES
    for row in done:
        assert row["agrees"] is True
        [top] = row["top"]
        assert [best["name"] for best in top] == [best["name"] for best in reference["top"][0]]
        assert len(top) == 5
        assert [best["score"] for best in top] == sorted((best["score"] for best in top), reverse=True)
    assert labelled["generated_picture"]
    assert all(row["generated_weights"] for row in labelled["rows"])


@pytest.mark.tool
@pytest.mark.skipif(bool(virtual_board.missing()), reason="no sshd")
def test_a_board_says_what_the_reference_says(
    project: Project,
    labelled: dict[str, Any],
    tmp_path: Path,
    tool_python: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with VirtualBoard(tmp_path / "board") as lab:
        image = tensorrt_image(tmp_path, tool_python("tensorrt"))
        lab.add_image("mobile-accelerator/tensorrt-l4t:0.1.0", image)
        monkeypatch.setenv("PATH", lab.variables["PATH"])
        there = ["--backend", "tensorrt", "--backend", "onnx", "--device", lab.destination]
        _, row, *others = label(project, *there, "--precision", "fp32")["rows"]
        assert (row["backend"], row["board"], row["simulated"]) == ("tensorrt", lab.destination, True)
        assert (row["status"], row["agrees"]) == ("ok", True)
        assert [other["board"] for other in others] == [None]
        shown = project.run("label", *there, "--precision", "fp32", "--model", "squeezenet").stdout
        assert f"on {lab.destination} (simulated)" in " ".join(shown.split())
    refused = project.run("label", "--model", "squeezenet", "--backend", "onnx", "--device", "127.0.0.1:9")
    assert "nothing of this runs on a board" in refused.stderr


@pytest.mark.tool
def test_a_backend_that_cannot_does_not_stop_the_others(labelled: dict[str, Any]) -> None:
    absent = [row for row in labelled["rows"] if row["status"] != "ok"]
    phones = {"CPU", "GPU", "NNAPI", "Hexagon"}
    assert {row["device"] for row in absent if row["backend"] == "android"} == phones
    assert {row["device"] for row in absent if row["backend"] != "android"} == {"GPU", "NPU", "MYRIAD"}
    for row in absent:
        assert row["status"] == "no_device"
        assert row["reason"].startswith(
            (
                "OpenVINO sees no",
                "there is no Neural Compute Stick",
                "no phone",
                "the adb server says",
                "needs tensorrt.gpu",
            )
        )
        assert row["hint"]
        assert row["top"] == []
        assert row["agrees"] is None


@pytest.mark.tool
def test_the_table_says_that_generated_weights_mean_nothing(
    project: Project, labelled: dict[str, Any]
) -> None:
    done = project.run("label", "--model", "squeezenet", "--backend", "onnx", "--top", "2")
    assert done.returncode == 0, done.stderr
    assert "squeezenet: a generated picture, generated-sample.png" in done.stdout
    assert "The weights are generated, so these names mean nothing" in done.stdout
    best, second = labelled["rows"][0]["top"][0][:2]
    assert done.stdout.count(f"{best['score']:.4f} {best['name']}") == 2  # the reference and onnx
    assert done.stdout.count(second["name"]) == 2
    assert labelled["rows"][0]["top"][0][2]["name"] not in done.stdout


@pytest.mark.tool
def test_a_network_of_the_users_own_is_not_compared_with_generated_weights(
    project: Project, sample: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.onnx"
    shutil.copy(sample.with_name("squeezenet.onnx"), mine)
    found = label(project, str(sample), "--backend", "onnx", "--input", f"onnx={mine}")
    reference, row = found["rows"]
    assert (reference["generated_weights"], row["generated_weights"]) == (True, False)
    assert [best["name"] for best in row["top"][0]] == [best["name"] for best in reference["top"][0]]
    assert row["agrees"] is None
    assert not found["generated_picture"]


@pytest.mark.tool
@pytest.mark.parametrize(("damage", "exit_code"), [(b"", 0), (bytes(40_000), 6)])
def test_a_network_of_the_users_own_is_compared_with_a_graph_of_the_users_own(
    project: Project, sample: Path, tmp_path: Path, damage: bytes, exit_code: int
) -> None:
    made = {key: sample.with_name(f"squeezenet.{key}") for key in ("frozen.pb", "signature.json", "onnx")}
    data = made["onnx"].read_bytes()
    middle = len(data) // 2
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(data[:middle] + damage + data[middle + len(damage) :])  # some weights become 0
    given = {"onnx": mine, "frozen": made["frozen.pb"], "signature": made["signature.json"]}
    arguments = [word for key, path in given.items() for word in ("--input", f"{key}={path}")]
    done = project.run("label", str(sample), "--model", "squeezenet", "--backend", "onnx", *arguments)
    assert done.returncode == exit_code, done.stderr
    said = " ".join(done.stdout.split())
    assert ("no: the output differs from the reference" in said) == bool(exit_code)
    assert "weights are generated" not in said


@pytest.mark.tool
def test_a_file_of_int8_is_judged_as_one(project: Project, tmp_path: Path) -> None:
    made = project.run("run", "tf1.to-tflite-int8", "--model", "lenet")
    assert made.returncode == 0, made.stderr
    mine = tmp_path / "mine.tflite"
    folder = project.work / "models" / "lenet"
    shutil.copy(folder / "lenet.int8.tflite", mine)
    given = {"tflite": mine, **{key: folder / f"lenet.{key}.{end}" for key, end in GRAPH.items()}}
    files = [word for key, path in given.items() for word in ("--input", f"{key}={path}")]
    arguments = ("label", "--model", "lenet", "--backend", "tflite", *files)

    as_fp32 = project.run(*arguments)
    assert as_fp32.returncode == 6, as_fp32.stderr
    as_both = project.run(*arguments, "--precision", "int8", "--precision", "fp32", "--json")
    assert as_both.returncode == 6, as_both.stderr
    _, *rows = json.loads(as_both.stdout)["rows"]
    agreement = {(row["runtime"], row["precision"]): row["agrees"] for row in rows}
    assert agreement == {
        (runtime, precision): precision == "int8"
        for runtime in ("tflite", "litert")
        for precision in ("int8", "fp32")
    }
    as_int8 = project.run(*arguments, "--precision", "int8")
    assert as_int8.returncode == 0, as_int8.stdout
    assert "tflite CPU int8" in as_int8.stdout


def test_a_precision_is_labelled_with_what_is_made_in_it(tmp_path: Path) -> None:
    def planned(*precisions: str) -> dict[str, Mapping[str, str]]:
        plan = labelling.plan(
            Networks(model=["lenet"]),
            None,
            ["onnx"],
            [],
            precisions=precisions,
            labels=None,
            top=5,
            settings={"threads": 0},
        )
        stages = plan(Store(tmp_path / "work"), False)
        return {stage.name: stage.made_as for stage in stages if stage.command.name == "infer"}

    assert planned() == {"tf1.infer": {}, "onnx.infer": {}}
    assert planned("fp32", "int8", "int8") == {
        "tf1.infer": {},
        "onnx.infer": {},
        "onnx.infer[int8]": {"onnx": "onnx_int8"},
    }
    with pytest.raises(InvalidRequest, match="there is no precision 'int4'"):
        planned("int4")


@pytest.mark.tool
def test_labels_of_the_users_own(project: Project, sample: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"thing {n}\n" for n in range(1001)))
    found = label(project, "--backend", "tflite", "--labels", str(names))
    for row in found["rows"]:
        assert row["top"][0][0]["name"] == f"thing {row['top'][0][0]['class']}"
    names.write_text("thing\n" * 1000)
    done = project.run("label", "--model", "squeezenet", "--backend", "tflite", "--labels", str(names))
    assert done.returncode == 2
    assert "names.txt has 1000 names, the network has 1001 classes" in done.stdout
    assert "the first line names the background class" in done.stdout


@pytest.mark.tool
def test_pictures_go_through_the_gate(project: Project, sample: Path, tmp_path: Path) -> None:
    shutil.copy(sample, tmp_path / "a.png")
    shutil.copy(sample, tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no picture")
    arguments = ("--model", "squeezenet", "--images", str(tmp_path))
    done = project.run("run", "onnx.benchmark", *arguments, "--set", "budget_s=0.5")
    assert done.returncode == 0, done.stderr
    assert "image.preprocess: warning: left out: notes.txt is not a picture" in done.stdout
    results = project.results()
    jsonschema.validate(results, SCHEMA)
    [record] = results["records"]
    assert record["correctness"]["n_inputs"] == 10
    assert record["metadata"]["reference_inputs"] == {"seeded": 8, "images": 2}
    planned = project.run("plan", *arguments, "--backend", "onnx", "--json")
    assert planned.returncode == 0, planned.stderr
    actions = {stage["stage"]: stage["action"] for stage in json.loads(planned.stdout)["stages"]}
    assert actions["image.preprocess"] == actions["tf1.reference"] == "cached"


@pytest.mark.tool
@pytest.mark.parametrize(
    "command", [("label",), ("plan", "--images"), ("run", "image.preprocess", "--images")]
)
def test_a_network_that_takes_no_pictures(project: Project, sample: Path, command: tuple[str, ...]) -> None:
    done = project.run(*command, str(sample), "--model", "bert_tiny")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: bert_tiny takes no pictures: its row in the model zoo has no image_size"
    )


@pytest.mark.tool
def test_what_is_no_picture_is_one_line(project: Project, tmp_path: Path) -> None:
    (tmp_path / "cat.txt").write_text("meow")
    done = project.run("label", str(tmp_path / "cat.txt"), "--model", "squeezenet")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cat.txt is not a picture that can be read")


def test_packing_is_sorted_and_repeatable(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.png", "deep/c.png"):
        (folder / name).write_text(name)
    hashes = []
    for _ in range(2):
        with pictures.packed(folder) as archive:
            hashes.append(sha256(archive))
            assert zipfile.ZipFile(archive).namelist() == ["a.png", "b.png", "deep/c.png"]
        (folder / "a.png").touch()
    assert hashes[0] == hashes[1]
    assert not archive.exists()


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    for source, said in ((tmp_path / "nowhere", "there are no pictures at"), (tmp_path, "holds no files")):
        with pytest.raises(InvalidRequest, match=said), pictures.packed(source):
            pass
    for index in range(pictures.LIMIT + 1):
        (tmp_path / f"{index}.png").touch()
    with pytest.raises(InvalidRequest, match="holds 201 files, 200 pictures"), pictures.packed(tmp_path):
        pass
    (tmp_path / "one").mkdir()
    with (tmp_path / "one" / "film.mp4").open("wb") as file:
        file.truncate(pictures.LIMIT_BYTES + 1)
    with pytest.raises(InvalidRequest, match="larger than 256 MB"), pictures.packed(tmp_path / "one"):
        pass


def test_pictures_are_planned_only_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    entry = Store(tmp_path / "work").take_in({"pictures": tmp_path / "a.png"})
    model = zoo.find("squeezenet")
    without = prepare(Planner(model, {}, {}))
    with_them = prepare(Planner(model, {"pictures": entry}, {}, asked_for=("images",)))
    assert "image.preprocess" not in [stage.name for stage in without]
    [reference] = [stage for stage in with_them if stage.name == "tf1.reference"]
    made = reference.inputs["images"]
    assert made in with_them
    assert toolbox.producer("images").full_name == "image.preprocess"


@pytest.mark.tool
def test_inputs_that_are_none_or_of_another_network(project: Project, sample: Path, tmp_path: Path) -> None:
    none, other = tmp_path / "none.npz", tmp_path / "other.npz"
    none.write_bytes(b"garbage")
    np.savez(other, **{"inputs/input": np.zeros((1, 32, 32, 3), np.float32)})
    for stage, images, said in (
        ("onnx.infer", none, "none.npz is not a file of a network's inputs, or it is cut off"),
        ("onnx.infer", other, "the network takes [1, 3, 224, 224], the image inputs are [1, 32, 32, 3]"),
    ):
        done = project.run("run", stage, "--model", "squeezenet", "--input", f"images={images}")
        assert done.returncode == 2
        assert said in done.stderr
