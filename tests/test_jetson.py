"""TensorRT on boards over SSH: real sshd, stand-ins for Docker, for the board's files and for trtexec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.lab import virtual_board
from tests.lab.tensorrt_lab import inputs_of_small_network, write_small_network
from tests.lab.virtual_board import VirtualBoard, meters_image, tensorrt_image
from tests.project import NOWHERE, SMALL, Project
from tools.stage import Unavailable
from tools.tensorrt import jetpack

MISSING = virtual_board.missing()
pytestmark = [pytest.mark.tool, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


@pytest.fixture
def lab(
    tmp_path: Path, tool_python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[VirtualBoard]:
    with VirtualBoard(tmp_path / "board") as lab:
        image = tensorrt_image(tmp_path, tool_python("tensorrt"))
        lab.add_image("mobile-accelerator/tensorrt-l4t:0.1.0", image)
        monkeypatch.setenv("PATH", lab.variables["PATH"])
        yield lab


@pytest.fixture
def given(tmp_path: Path, tool_python: Callable[[str], Path]) -> list[str]:
    """The options that give the small network and its reference, so that no TensorFlow is needed."""
    write_small_network(tmp_path, tool_python("tensorrt"), 2)
    return inputs_of_small_network(tmp_path)


def test_a_network_is_built_and_measured_on_a_board(
    tmp_path: Path, lab: VirtualBoard, given: list[str]
) -> None:
    project = Project(Path(__file__).parent.parent, tmp_path / "work", NOWHERE)
    (tmp_path / "small.toml").write_text(SMALL)
    argv = ["run", "tensorrt.benchmark", "--model", "small", "--model-file", str(tmp_path / "small.toml")]
    argv += [*given, "--set", "budget_s=1", "--device", lab.destination]
    done = project.run(*argv)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = project.results()["records"]
    assert (record["status"], record["simulated"]) == ("ok", True)
    assert record["device"] == f"GPU, NVIDIA Jetson TX2 Developer Kit ({lab.destination})"
    assert record["breakdown_ms"].keys() == {"h2d", "compute", "d2h"}
    assert record["metadata"]["tensorrt"] == "8.2.1"
    assert record["metadata"]["board"]["l4t"] == "32.7.1"
    folder = project.work / "runs" / "latest"
    assert (folder / record["samples"]).stat().st_size == 8 * record["latency_ms"]["n"]
    assert (folder / record["files"]["profile"]).exists()
    where = {stage["stage"]: stage["cached"] for stage in project.results()["run"]["stages"]}
    assert where.keys() == {
        "tensorrt.check",
        *(f"tensorrt.{name}[{lab.destination}]" for name in ("gpu", "build")),
        f"tensorrt.benchmark[fp32,{lab.destination}]",
    }
    before = lab.relay.carried_bytes
    again = project.run(*argv)
    assert again.returncode == 0, again.stderr
    assert f"tensorrt.build[{lab.destination}]: cached" in again.stderr
    assert lab.relay.carried_bytes - before < 100_000  # samples come back each time


def test_a_board_of_an_l4t_that_has_no_image(tmp_path: Path, lab: VirtualBoard, given: list[str]) -> None:
    lab.write("etc/nv_tegra_release", "# R28 (release), REVISION: 2.1, GCID: 11272647, BOARD: t186ref\n")
    project = Project(Path(__file__).parent.parent, tmp_path / "work", NOWHERE)
    (tmp_path / "small.toml").write_text(SMALL)
    argv = ["run", "tensorrt.gpu", "--model", "small", "--model-file", str(tmp_path / "small.toml")]
    done = project.run(*argv, "--device", lab.destination)
    assert done.returncode == 7
    assert "no image with TensorRT is known for the board's L4T 28.2.1" in done.stdout + done.stderr


def test_the_build_for_a_board_follows_its_l4t() -> None:
    assert jetpack.board_build("32.7.1") == ("l4t", "nvcr.io/nvidia/l4t-tensorrt:r8.2.1-runtime")
    assert jetpack.board_build("36.4.3") == ("l4t310", "nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel")
    assert jetpack.board_build("") == ("", "")
    with pytest.raises(Unavailable):
        jetpack.board_build("38.2.0")


def test_the_rails_of_a_board_are_recorded_there(
    tmp_path: Path, lab: VirtualBoard, tool_python: Callable[[str], Path]
) -> None:
    lab.add_image("mobile-accelerator/meters:0.1.0", meters_image(lab.root, tool_python("meters")))
    project = Project(Path(__file__).parent.parent, tmp_path / "work", NOWHERE)
    argv = ["run", "meters.ina3221", "--model", "squeezenet", "--set", "duration_s=0.5"]
    done = project.run(*argv, "--device", lab.destination)
    assert done.returncode == 0, done.stdout + done.stderr
    (trace,) = (project.work / "runs" / "latest").resolve().rglob("trace.parquet")
    table = parquet.read_table(trace)
    assert {"vdd_in_a", "vdd_sys_gpu_a"} <= {name.lower() for name in table.column_names}
    assert table.num_rows > 3
