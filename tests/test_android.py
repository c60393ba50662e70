"""TensorFlow Lite on a phone by benchmark_model: rows of the main job, and what never becomes a time."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from host.engines.venv import tool_environment
from tests.lab import phone_program, virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tests.project import Project
from tools import benchmark_model
from tools.android import units
from tools.android.program import samples_of
from tools.phone.state import Cluster, State, parse
from tools.stage import InvalidRequest, Request, Result, StageError, Unavailable, Unsupported, WrongOutput

MISSING = virtual_phone.missing()
pytestmark = pytest.mark.tool
needs_phone = pytest.mark.skipif(bool(MISSING), reason=MISSING)
ALL_SAME = "count=3 curr=7(all same)"
LENET = ("--model", "lenet", "--backend", "android", "--budget-s", "1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(ROOT, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path_factory.mktemp("phone")) as lab, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADB_SERVER_SOCKET", lab.server.address)
        yield lab


@pytest.fixture(scope="module")
def program(
    lab: VirtualPhone, tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    target = tmp_path_factory.mktemp("program") / "benchmark_model"
    return phone_program.write(target, tool_python("android"))


@pytest.fixture(scope="module")
def inputs(project: Project, program: Path) -> dict[str, str]:
    """What a benchmark of lenet reads, with two reference inputs: each is a process on the phone."""
    for stage in (("tf1.to-tflite",), ("tf1.reference", "--set", "n_inputs=2")):
        done = project.run("run", *stage, "--model", "lenet")
        assert done.returncode == 0, done.stderr
    folder = project.work / "models" / "lenet"
    files = {"tflite": folder / "lenet.tflite", "reference": folder / "lenet.reference.npz"}
    return {name: str(path.resolve()) for name, path in {**files, "benchmark_model": program}.items()}


@pytest.fixture
def measure(
    inputs: dict[str, str], tool_python: Callable[[str], Path], tmp_path: Path
) -> Callable[..., Result]:
    """Measure as the tool does when its runner asks for it."""

    def measure(benchmark_model: Path | None = None, **params: Any) -> Result:
        outputs = {"samples": "samples.i64", "profile": "profile.json"}
        given = {**inputs, "benchmark_model": str(benchmark_model)} if benchmark_model else inputs
        Request("android", "benchmark", given, outputs, {"budget_s": 0.2, **params}).write(tmp_path)
        argv = [str(tool_python("android")), "-m", "tools.android", "measure", str(tmp_path)]
        subprocess.run(argv, env=tool_environment(), cwd=ROOT, capture_output=True, check=True)
        return Result.read(tmp_path)

    return measure


def test_without_a_phone_every_row_says_so_at_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{tmp_path}/none")
    monkeypatch.setenv("PATH", "/nowhere")
    done = project.run("all", *LENET)
    assert done.returncode == 0, done.stderr
    document = project.results()
    assert [row["status"] for row in document["records"]] == ["no_device"] * 4
    assert "apt-get install adb" in document["records"][0]["hint"]
    took_s = [row["seconds"] for row in document["run"]["stages"] if "android" in row["stage"]]
    assert max(took_s) < 10  # a process each, on a busy machine


@needs_phone
def test_the_main_job_has_a_row_for_each_unit(lab: VirtualPhone, project: Project, program: Path) -> None:
    done = project.run("all", *LENET, "--benchmark-model", str(program))
    assert done.returncode == 0, done.stderr
    rows = {record["device"]: record for record in project.results()["records"]}
    status = {device: row["status"] for device, row in rows.items()}
    assert status == {"CPU 4 threads": "ok", "GPU": "ok", "NNAPI": "ok", "Hexagon": "unsupported"}
    assert all(row["simulated"] for row in rows.values())
    assert {row["runtime"] for row in rows.values()} == {"tflite"}
    row = rows["CPU 4 threads"]
    assert row["latency_ms"]["n"] >= 6
    assert row["latency_ms"]["n"] == 2 * row["metadata"]["rounds"]
    assert row["peak_rss_mb"] == pytest.approx(97.77, abs=0.01)
    runs = project.work / "runs" / "latest"
    assert (runs / row["samples"]).stat().st_size == 8 * row["latency_ms"]["n"]
    layers = json.loads((runs / row["files"]["profile"]).read_text())["layers"]
    assert "CONV_2D" in {layer["type"] for layer in layers}
    assert row["metadata"]["operations"].keys() == {"float32"}
    assert row["metadata"]["conditions_after"]["charging"] == "charging"
    assert row["versions"]["benchmark_model"].startswith("sha256:")
    assert set(lab.read("/vendor/etc/taskset").split()) == {"f0"}
    assert lab.phone.shell("settings get global stay_on_while_plugged_in").stdout == "null\n"
    assert lab.phone.shell(f"ls {lab.phone.root}/runs").stdout == ""


@needs_phone
@pytest.mark.parametrize(
    ("fault", "device", "error", "said"),
    [
        ("refused", "GPU", Unsupported, "Failed to apply GPU delegate"),
        ("falls back", "GPU", Unsupported, "the GPU delegate runs nothing of the network"),
        ("silent", "NNAPI", Unsupported, "the NNAPI delegate runs nothing of the network"),
        ("old", "CPU", Unsupported, "writes no outputs"),
        ("killed", "CPU", StageError, "ended by SIGKILL on the phone"),
        ("wrong", "CPU", WrongOutput, "differs from the reference"),
        ("wrong later", "CPU", WrongOutput, "not in the timed runs"),
    ],
)
def test_what_went_wrong_has_no_time(
    lab: VirtualPhone,
    measure: Callable[..., Result],
    fault: str,
    device: str,
    error: type[StageError],
    said: str,
) -> None:
    phone_program.fault(lab, fault)
    result = measure(device=device)
    with pytest.raises(error, match=said) as caught:
        result.raise_error()
    assert type(caught.value) is error
    assert caught.value.hint
    assert result.metadata["simulated"] is True
    assert not any("latency" in name for name in result.metrics)


@needs_phone
def test_a_delegate_that_runs_a_part_says_how_much(lab: VirtualPhone, measure: Callable[..., Result]) -> None:
    phone_program.fault(lab, "partly")
    result = measure(device="GPU")
    assert result.error is None
    (delegate,) = result.metadata["delegates"]
    assert (delegate["applied"], delegate["kernels"], delegate["nodes"]) == ("partly", 2, 3)
    assert "GPU runs only a part of the network, in 2 pieces" in result.metadata["warnings"][0]


@needs_phone
def test_throttling_is_told(lab: VirtualPhone, measure: Callable[..., Result]) -> None:
    phone_program.fault(lab, "hot")
    metadata = measure(cores="little").metadata
    assert metadata["device"] == "CPU 4 threads, little cores"
    assert "cores 4 to 6 fell from 2419 to 1401 MHz" in " ".join(metadata["warnings"])
    assert "thermal status 2" in " ".join(metadata["warnings"])


@needs_phone
def test_a_program_that_the_phone_cannot_run(measure: Callable[..., Result], tmp_path: Path) -> None:
    other = tmp_path / "benchmark_model"
    other.write_bytes(phone_program.header(machine=62))
    with pytest.raises(Unsupported, match="benchmark_model is for x86_64, and the phone runs arm64-v8a"):
        measure(other).raise_error()
    other.write_text("<html>Log in to this network</html>")
    with pytest.raises(InvalidRequest, match="is no program for Android"):
        measure(other).raise_error()


@needs_phone
def test_without_a_program_it_says_how_to_get_one(lab: VirtualPhone, project: Project) -> None:
    done = project.run("run", "android.benchmark", "--model", "lenet")
    assert done.returncode == Unavailable.exit_code
    assert "runner.py fetch benchmark_model --trust-on-first-use" in done.stderr


@needs_phone
def test_a_picture_is_labelled_on_the_phone(lab: VirtualPhone, project: Project, program: Path) -> None:
    phone_program.fault(lab, "")
    done = project.run("label", *LENET[:4], "--benchmark-model", str(program), "--json")
    assert done.returncode == 0, done.stderr
    _, *rows = json.loads(done.stdout)["rows"]
    assert [(row["status"], row["agrees"]) for row in rows] == [("ok", True)] * 3 + [("unsupported", None)]


@pytest.fixture
def state() -> State:
    """A Snapdragon 855's cores: 4 slow, 3 fast, 1 faster."""
    sections = "properties uid su cpus frequencies zones thermalservice battery power window airplane memory"
    clusters = [
        Cluster(cpus=cpus, max_khz=khz, limit_khz=khz, min_khz=300000, governor="schedutil")
        for cpus, khz in (((0, 1, 2, 3), 1785600), ((4, 5, 6), 2419200), ((7,), 2841600))
    ]
    empty = parse("".join(f"@@ {section}\n" for section in (*sections.split(), "load", "disk")))
    return dataclasses.replace(empty, clusters=tuple(clusters))


def test_cores_are_chosen_by_cluster(state: State) -> None:
    chosen = {name: units.cores(state, name) for name in units.CORES}
    assert chosen == {"fast": (4, 5, 6, 7), "big": (7,), "little": (0, 1, 2, 3), "all": ()}
    with pytest.raises(InvalidRequest, match="no choice 'bigg'"):
        units.cores(state, "bigg")


def test_a_gpu_computes_in_the_precision_that_was_asked_for() -> None:
    assert units.find("GPU").arguments("fp32")[-1] == "--gpu_precision_loss_allowed=false"
    assert units.find("GPU").arguments("fp16")[-1] == "--gpu_precision_loss_allowed=true"
    with pytest.raises(Unsupported, match="no network of fp32"):
        units.find("Hexagon").arguments("fp32")
    with pytest.raises(InvalidRequest, match="no device 'GPUU'"):
        units.find("GPUU")


@pytest.mark.parametrize(
    "runs_us", [[2096, 1821, 1723], [40, 30, 35], [7, 7, 7], [99_999, 88_888, 77_777], [3, 9, 1]]
)
def test_three_runs_give_two_samples(runs_us: list[int]) -> None:
    statistics = f"first={runs_us[0]} curr={runs_us[2]} min={min(runs_us)} max={max(runs_us)}"
    line = f"count=3 {statistics} avg={sum(runs_us) / 3:g} std=1" if len(set(runs_us)) > 1 else ALL_SAME
    text = f"count=1 curr=5\n{line}\nInference timings in us: Init: 1, First inference: 5, "
    said = benchmark_model.parse(f"{text}Warmup (avg): 5, Inference (avg): {sum(runs_us) / 3:g}\n")
    assert said["status"] == "ok"
    assert samples_of(said["inference"]) == [1000 * us for us in runs_us[1:]]
