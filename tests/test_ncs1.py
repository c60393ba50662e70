"""The first-generation stick, with stand-ins for its SDKs: everything but the SDKs and the stick is real."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT, sdks
from host.unpack import unpack_all
from tests.conftest import RunStage
from tests.lab import sdks as lab
from tests.project import SMALL, Project
from tools.stage import InvalidRequest, StageError

VARIABLE = "MOBILE_ACCELERATOR_NCS1_SDK"
NETWORK = {
    "network": "mobilenet_v1",
    "depth_multiplier": 0.25,
    "image_size": 64,
    "channels": 3,
    "classes": 11,
}
KINDS = {
    "ncsdk 1": (lambda folder, python: lab.ncsdk(folder, python, 1), "ncsdk", "1.12.01.01"),
    "ncsdk 2": (lambda folder, python: lab.ncsdk(folder, python, 2), "ncsdk", "2.10.01.01"),
    "openvino": (lab.openvino, "openvino-2020.3", "2020.3.355"),
}
Files = dict[str, Path]
Benchmark = Callable[..., subprocess.CompletedProcess[str]]
Python = Callable[[str], Path]


@pytest.fixture(scope="module")
def network(run_stage: RunStage) -> Files:
    """Return frozen graph, signature and reference of a small network."""
    files: Files = {}
    for command, inputs, params in (
        ("export", (), NETWORK),
        ("generate-weights", ("graph", "signature"), {}),
        ("freeze", ("graph", "signature", "ckpt_index", "ckpt_data"), {}),
        ("reference", ("frozen", "signature"), {"n_inputs": 4}),
    ):
        folder, result = run_stage("tf1", command, inputs={key: files[key] for key in inputs}, params=params)
        files.update({key: folder / name for key, name in result.outputs.items()})
    plan = files["frozen"].with_name("plan.json")
    plan.touch()  # it is not read
    return {"plan_2450": plan, **{key: files[key] for key in ("frozen", "signature", "reference")}}


@pytest.fixture
def benchmark(network: Files, tool_python: Python, tmp_path: Path) -> Benchmark:
    """Run the tool's command as a person would, with an SDK or without."""

    def run(sdk: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        made = {"samples": tmp_path / "samples.i64", "profile": tmp_path / "profile.json"}
        given = {**network, **made, "budget_s": 0.5, **options}
        arguments = [
            part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))
        ]
        environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
        if sdk:
            environment[VARIABLE] = str(sdk)
        argv = [tool_python("ncs1"), "-m", "tools.ncs1", "benchmark", *arguments]
        return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.tool
@pytest.mark.parametrize(("make", "runtime", "version"), KINDS.values(), ids=KINDS)
def test_each_sdk_is_driven_through_gate_timing_and_profile(
    benchmark: Benchmark, tool_python: Python, tmp_path: Path, make: Any, runtime: str, version: str
) -> None:
    done = benchmark(make(tmp_path / "sdk", tool_python("tf1-legacy")))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("\n{\n") :])
    metadata = found["metadata"]
    assert (metadata["runtime"], metadata["device"], metadata["precision"]) == (runtime, "Myriad 2", "fp16")
    assert metadata["simulated"] is True
    assert metadata["sdk"]["version"] == version
    assert any(name.endswith(".mvcmd") for name in metadata["sdk"]["sha256"])
    assert metadata["sdk"]["versions"]["python"].startswith("3.7.")
    assert found["metrics"]["correctness_cosine"] > 0.999
    assert found["metrics"]["latency_p50_ms"] > 0
    assert found["metrics"]["breakdown_device_ms"] == 17.32
    profile = json.loads((tmp_path / "profile.json").read_text())
    assert (profile["total_ms"], [layer["name"] for layer in profile["layers"]]) == (17.32, ["simulated"])


@pytest.mark.tool
@pytest.mark.parametrize(
    ("kind", "fault", "code", "text"),
    [
        ("ncsdk 1", "no stick", 4, "no Neural Compute Stick is there"),
        ("ncsdk 2", "second generation", 1, "not a Myriad 2"),
        ("openvino", "no stick", 4, "no Neural Compute Stick is there"),
        ("openvino", "unplugged", 4, "does not answer"),
        ("ncsdk 2", "deaf", 6, "same output for every input"),
        ("ncsdk 2", "unsupported", 3, "mvNCCompile.py: [Error 5] Toolkit Error: Stage Details Not Supported"),
    ],
)
def test_what_the_stick_does_wrong_leaves_no_latency(
    benchmark: Benchmark, tool_python: Python, tmp_path: Path, kind: str, fault: str, code: int, text: str
) -> None:
    sdk = KINDS[kind][0](tmp_path / "sdk", tool_python("tf1-legacy"))
    lab.misbehave(sdk, fault)
    done = benchmark(sdk)
    assert done.returncode == code, done.stderr
    assert text in done.stderr.splitlines()[-1]
    assert not (tmp_path / "samples.i64").exists()


@pytest.mark.tool
def test_a_profile_that_failed_is_told_beside_the_latency(
    benchmark: Benchmark, tool_python: Python, tmp_path: Path
) -> None:
    sdk = lab.ncsdk(tmp_path / "sdk", tool_python("tf1-legacy"), 2)
    lab.misbehave(sdk, "no profile")
    done = benchmark(sdk)
    assert done.returncode == 0, done.stderr
    assert "There is no profile of the layers: the run stopped" in done.stdout


@pytest.mark.tool
def test_what_is_no_sdk_says_what_would_be_one(
    benchmark: Benchmark, tool_python: Python, tmp_path: Path
) -> None:
    none, empty, newer = tmp_path / "none", tmp_path / "empty", tmp_path / "newer"
    empty.mkdir()
    lab.openvino(newer, tool_python("tf1-legacy"), version="2021.4.582")
    next(newer.rglob("*.mvcmd")).rename(newer / "usb-ma2x8x.mvcmd")
    for sdk, text in ((None, "--sdk ncs1=PATH"), (empty, "is neither NCSDK nor"), (newer, "Newer OpenVINOs")):
        done = benchmark(sdk)
        assert done.returncode == 5
        assert text in done.stderr
        assert "docs/first-generation.md" in done.stderr
    assert not none.exists()
    runtime = lab.openvino(tmp_path / "runtime", tool_python("tf1-legacy"), optimizer=False)
    assert "the package `dev`, not `runtime`" in benchmark(runtime).stderr
    assert benchmark(empty, precision="int8").returncode == 3


@pytest.mark.tool
def test_the_main_job_with_an_archive_and_without(tool_python: Python, tmp_path: Path) -> None:
    archive = tmp_path / "ncsdk.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        sdk = lab.ncsdk(tmp_path / "sdk", tool_python("tf1-legacy"), 2)
        tar.add(sdk / "NCSDK", "NCSDK-2.10.01.01")  # the folder's name in Intel's archive
        tar.add(sdk / "env", "env")
    models = tmp_path / "mine.toml"
    models.write_text(SMALL)
    project = Project(ROOT, tmp_path / "work")
    named = ("all", "--model", "small", "--model-file", str(models))
    arguments = (*named, "--backend", "ncs1", "--budget-s", "0.5")
    assert project.run(*arguments).returncode == 0
    [record] = project.results()["records"]
    assert (record["status"], record["device"], record["latency_ms"]) == ("no_sdk", "Myriad 2", None)
    assert record["metadata"]["made_by"]["ncs.convert-2450"]["compiled"]["chip"] == "Myriad 2 (2450)"
    done = project.run(*arguments, "--tensorflow", "1.15", "--sdk", f"ncs1={archive}")
    assert done.returncode == 0, done.stderr
    [record] = project.results()["records"]
    assert record["status"] == "ok", record["reason"]
    assert record["simulated"] is True
    assert record["runtime"] == "ncsdk"
    assert record["metadata"]["made_by"]["tf1.freeze"]["versions"]["tensorflow"] == "1.15.5"
    assert record["metadata"]["sdk"]["version"] == "2.10.01.01"


def test_the_sdks_python_may_be_the_oldest() -> None:
    ast.parse((ROOT / "tools" / "ncs1" / "worker.py").read_text(), feature_version=(3, 5))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ncs1", "does not say which"),
        ("ncs1=", "does not say which"),
        ("ncs2=/x", "no tool 'ncs2' that takes an SDK"),
        ("onnx=/x", "no tool 'onnx' that takes an SDK"),
        ("ncs1=/there/is/none", "cannot be read or unpacked: No such file"),
    ],
)
def test_an_sdk_that_is_given_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        sdks.give([text], tmp_path)
    assert caught.value.hint


def test_an_sdk_given_by_the_variable_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "sdk")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sdk").mkdir()
    assert sdks.absolute(os.environ) == {VARIABLE: str(tmp_path / "sdk")}
    sdks.give((), tmp_path / "work")
    assert os.environ[VARIABLE] == str(tmp_path / "sdk")


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("sdk/../../outside"),
        member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("link", type=tarfile.SYMTYPE, linkname="../../outside"),
        member("hard", type=tarfile.LNKTYPE, linkname="../outside"),
        member("device", type=tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name} {info.linkname}",
)
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    archive, folder = tmp_path / "sdk.tgz", tmp_path / "in" / "sdk"
    folder.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(bad)
    with pytest.raises(StageError, match="leads out of its folder"):
        unpack_all(archive, folder)
    assert not list(folder.rglob("*"))
    assert not (tmp_path / "in" / "outside").exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08 cut off"])
def test_what_is_no_archive_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sdk.tgz"
    path.write_bytes(content)
    with pytest.raises(StageError, match="or is damaged or truncated"):
        unpack_all(path, tmp_path)
