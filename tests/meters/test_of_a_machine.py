"""RAPL, the rails of Jetson boards, tegrastats and NVIDIA GPUs, in folders that stand in for a machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from tests.lab import meter_trees
from tests.meters.conftest import Record
from tools import recording
from tools.meters import ina3221, jetson, nvml, rapl, tegrastats
from tools.stage import DeviceNotFound, StageError
from tools.trace import read

# lines of real boards, and what their rails were; sources: docs/meters.md
LINES = json.loads((Path(__file__).parent / "tegrastats.json").read_text())
XAVIER, NANO = (LINES[name]["line"] for name in ("AGX Xavier, 2019", "Nano"))
NVML_SCRIPT = """
import json, sys
from pathlib import Path
from tests.lab.virtual_nvml import Library, install
from tools.meters import nvml
from tools.recording import record
from tools.stage import StageError

options = json.loads(sys.argv[1])
chosen, loses = options.pop("chosen", ""), options.pop("loses", False)
library = Library(**options)
install(library)
try:
    with nvml.opened(Path("/simulated"), chosen, 50.0) as reader:
        def listener(chunk, meta):
            library.lost = loses and chunk["time_s"][-1] > 0.3
        record(reader, Path(sys.argv[2]), duration_s=1.0, listeners=[listener])
except StageError as error:
    print(type(error).__name__, error.one_line())
    sys.exit(error.exit_code)
"""


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    counters = meter_trees.rapl(tmp_path, range_uj=65_532_610_987)
    zone = rapl.zones(tmp_path)[0]
    counter = rapl.Counter(zone)
    readings = []
    for raw_uj in (65_532_000_000, 65_532_610_000, 389_013, 65_000_000_000, 13):
        counters["package-0"].write_text(f"{raw_uj}\n")
        readings.append(counter.read_j())
    assert readings == pytest.approx([0, 0.61, 1.0, 1.0 + 64999.610987, 65000.610987 + 532.611])


def test_zones_are_known_by_name_and_not_by_number(tmp_path: Path) -> None:
    counters = meter_trees.rapl(tmp_path, packages=2)
    found = {zone.channel: zone.energy for zone in rapl.zones(tmp_path)}
    assert found == counters
    assert "intel-rapl:1" in str(found["package-0"])


def test_the_whole_machine_comes_first(tmp_path: Path) -> None:
    counters = meter_trees.rapl(tmp_path, packages=2)
    with rapl.opened(tmp_path, 50.0) as reader:
        for path in counters.values():
            path.write_text("2001000\n")
        chunk = reader.read()
    assert reader.columns[0] == "total_j"
    assert chunk["total_j"][0] == pytest.approx(4.0)  # of the packages, and not of their parts again
    psys = tmp_path / "sys/class/powercap/intel-rapl/intel-rapl:2"
    for name, text in {"name": "psys", "energy_uj": 5, "max_energy_range_uj": 9}.items():
        meter_trees.write(psys / name, text)
    with rapl.opened(tmp_path, 50.0) as reader:
        assert reader.columns[:2] == ["psys_j", "package-0_j"]


def test_rapl_as_the_runner_records_it(tmp_path: Path, record: Record) -> None:
    meter_trees.rapl(tmp_path)
    result, trace = record("rapl", tmp_path, duration_s=0.5, rate_hz=50.0)
    assert not result.error
    assert trace
    assert trace.channels == ["package-0", "package-0-core", "package-0-dram"]
    assert trace.meta.simulated
    assert result.metadata["simulated"]
    assert trace.meta.device == "Simulated processor"
    assert np.median(np.diff(trace.time_s)) == pytest.approx(0.02, abs=0.005)
    assert trace.meta.clock
    assert trace.meta.clock.error_s < 0.01


def test_no_counters_and_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rapl.present(tmp_path) == []
    with pytest.raises(DeviceNotFound, match="shows no RAPL") as caught, rapl.opened(tmp_path, 10):
        pass
    assert "--engine venv" in caught.value.hint
    meter_trees.rapl(tmp_path)
    assert rapl.present(tmp_path)[0].problem == ""
    read_text = Path.read_text

    def denied(path: Path, **options: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(DeviceNotFound, match="may not be read") as caught, rapl.opened(tmp_path, 10):
        pass
    assert "sudo chmod a+r /sys/class/powercap/" in caught.value.hint
    assert "sudo chmod" in rapl.present(tmp_path)[0].hint


def test_a_counter_that_says_no_number(tmp_path: Path) -> None:
    meter_trees.rapl(tmp_path)["package-0"].write_text("oops\n")
    with pytest.raises(StageError, match=r"energy_uj says 'oops'"), rapl.opened(tmp_path, 10):
        pass


@pytest.mark.parametrize("board", meter_trees.BOARDS)
def test_right_rail_for_right_name(tmp_path: Path, board: str) -> None:
    """In the seed of this project `rail % 2` gave the SOC's power for the GPU's on a TX2."""
    for number in (0, 3):  # the kernel numbers the devices anew at each boot
        root = tmp_path / str(number)
        values = meter_trees.jetson(root, board, first_number=number)
        with ina3221.opened(root, 50.0) as reader:
            chunk = reader.read()
        total_w = sum(mv * ma / 1e6 for mv, ma in values.values())
        whole = {"VDD_IN", "POM_5V_IN"} & set(values)
        read = {name: column[0] for name, column in chunk.items() if name != "time_s"}
        assert {name: read.get(f"{name}_v") for name in values} == {
            name: mv / 1e3 for name, (mv, _) in values.items()
        }
        assert {name: read.get(f"{name}_a") for name in values} == {
            name: ma / 1e3 for name, (_, ma) in values.items()
        }
        assert len(read) == 2 * len(values) + (not whole)
        if whole:
            assert reader.columns[0] in {f"{name}_a" for name in whole}
        else:
            assert read["total_w"] == pytest.approx(total_w)
            assert "carrier board" in reader.meta.channels["total"].scope
        assert ina3221.present(root)[0].name == f"INA3221 of Simulated {board}"


def test_what_the_monitors_files_say_of_accuracy(tmp_path: Path) -> None:
    meter_trees.jetson(tmp_path, "Orin Nano")
    with ina3221.opened(tmp_path, 50.0) as reader:
        rail = reader.meta.channels["VDD_IN"]
    assert rail.average_s == 0.072
    assert rail.gain_error is None
    assert rail.offset_error_w == pytest.approx(80e-6 / 3**0.5 / 0.005 * 5.0)  # V at 5 mOhm, at 5 V
    assert reader.meta.simulated


def test_a_board_as_the_runner_records_it(tmp_path: Path, record: Record) -> None:
    meter_trees.jetson(tmp_path, "TX2")
    result, trace = record("ina3221", tmp_path, stop_after_s=0.3)
    assert not result.error
    assert trace
    assert trace.power_w("VDD_SYS_GPU")[0] == pytest.approx(5.0 * 1.0)
    assert trace.power_w("VDD_SYS_SOC")[0] == pytest.approx(5.001 * 1.01)
    assert trace.meta.complete


def test_a_board_that_goes_away_leaves_what_it_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    meter_trees.jetson(tmp_path, "Nano")
    gone = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_current0_input"

    def unplug(*_: object) -> None:
        gone.unlink(missing_ok=True)

    path = tmp_path / "trace.parquet"
    with (
        ina3221.opened(tmp_path, 100.0) as reader,
        pytest.raises(DeviceNotFound, match="samples are kept"),
    ):
        recording.record(reader, path, listeners=[unplug])
    trace = read(path)
    assert len(trace.time_s) > 1
    assert not trace.meta.complete
    assert "in_current0_input" in trace.meta.note


def test_a_machine_without_monitors(tmp_path: Path, record: Record) -> None:
    result, trace = record("ina3221", tmp_path)
    assert result.error
    assert result.error["exit_code"] == 4
    assert "Jetson" in result.error["hint"]
    assert trace is None


@pytest.mark.parametrize("said", LINES.values(), ids=LINES)
def test_lines_of_tegrastats(said: dict[str, Any]) -> None:
    assert tegrastats.parse(said["line"]) == {name: mw / 1e3 for name, mw in said["milliwatts"].items()}


def test_tegrastats_as_the_runner_records_it(tmp_path: Path, record: Record) -> None:
    meter_trees.tegrastats(tmp_path, [XAVIER])
    result, trace = record("tegrastats", tmp_path, duration_s=0.5, rate_hz=20.0)
    assert not result.error
    assert trace
    assert trace.channels == ["total", "GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"]
    assert trace.power_w("total") == pytest.approx(7.632)
    assert trace.power_w("GPU") == pytest.approx(0.463)
    assert np.median(np.diff(trace.time_s)) > 0.02  # no lines of before are dated as if they had come now


@pytest.mark.parametrize(
    ("lines", "ends", "exit_code", "message", "kept"),
    [
        ([NANO, NANO], True, 4, "ended by itself", True),
        ([NANO, "RAM 330/3964MB POM_5V_IN 933/933"], False, 1, "lacks POM_5V_GPU", True),
        (["RAM 330/3964MB CPU [1%@729] GPU@22.5C"], False, 1, "prints no rails", False),
    ],
)
def test_tegrastats_that_fails(
    tmp_path: Path, record: Record, lines: list[str], ends: bool, exit_code: int, message: str, kept: bool
) -> None:
    meter_trees.tegrastats(tmp_path, lines, ends)
    result, trace = record("tegrastats", tmp_path, rate_hz=10.0)
    assert result.error
    assert result.error["exit_code"] == exit_code
    assert message in result.error["message"]
    assert result.error["hint"]
    assert bool(trace) is kept
    assert not (trace and trace.meta.complete)


@pytest.mark.parametrize("ways", [(), ("tegrastats",), ("ina3221", "tegrastats")])
def test_the_rails_of_a_jetson_by_the_way_that_there_is(
    tmp_path: Path, record: Record, ways: tuple[str, ...]
) -> None:
    if "tegrastats" in ways:
        meter_trees.tegrastats(tmp_path, [NANO])
    if "ina3221" in ways:
        meter_trees.jetson(tmp_path, "Nano")
    result, trace = record("jetson", tmp_path, duration_s=0.3)
    if not ways:
        assert result.error
        assert "no INA3221 with named rails" in result.error["message"]
        assert "there is no tegrastats" in result.error["message"]
        assert jetson.present(tmp_path) == []
        return
    assert trace
    assert trace.meta.meter == ways[0]
    assert trace.channels[0] == "POM_5V_IN"
    assert ("tegrastats was read instead" in trace.meta.note) == (ways[0] == "tegrastats")
    assert ways[0] in jetson.present(tmp_path)[0].name.lower()


def test_gpus_that_the_kernel_lists(tmp_path: Path) -> None:
    information = "Model: \t\t NVIDIA H100\nIRQ:   \t\t 12\nGPU UUID: \t GPU-1234\n"
    meter_trees.write(tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information", information)
    assert [(gpu.name, gpu.serial) for gpu in nvml.present(tmp_path)] == [("NVIDIA H100", "GPU-1234")]


def gpu(python: Path, path: Path, options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", NVML_SCRIPT, options, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_gpu_by_nvidias_own_bindings(tmp_path: Path, tool_python: Callable[[str], Path]) -> None:
    path = tmp_path / "trace.parquet"
    done = gpu(tool_python("meters"), path, "{}")
    assert done.returncode == 0, done.stderr + done.stdout
    trace = read(path)
    assert list(trace.columns) == ["gpu_j", "gpu-instant_w", "gpu-average_w"]
    assert trace.meta.channels["gpu-average"].average_s == 1.0
    assert trace.meta.channels["gpu-instant"].average_s == 0.0
    assert trace.meta.channels["gpu"].step_j == pytest.approx(10.0)  # 100 W for 0.1 s
    assert np.ptp(trace.columns["gpu_j"]) == pytest.approx(90, abs=15)  # in 1 s
    assert trace.columns["gpu_j"][0] < 1000  # not 5 MJ: since the start
    assert trace.power_w("gpu-average")[0] == pytest.approx(99)
    assert trace.meta.firmware == "driver 999.0"
    assert trace.meta.simulated


@pytest.mark.parametrize(
    ("options", "average_s"), [('{"capability": [8, 0]}', 0.0), ('{"capability": [8, 6]}', 1.0)]
)
def test_an_older_driver_has_one_power(
    tmp_path: Path, tool_python: Callable[[str], Path], options: str, average_s: float
) -> None:
    """GA100 and what came before tells a moment's power, Ampere's other chips and newer ones a mean."""
    done = gpu(tool_python("meters"), tmp_path / "t", options.replace("}", ', "old": true}'))
    assert done.returncode == 0, done.stderr + done.stdout
    assert read(tmp_path / "t").meta.channels["gpu-usage"].average_s == average_s


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        ('{"gpus": 2}', 2, "there are 2 GPUs: GPU-simulated-1, GPU-simulated-2"),
        ('{"gpus": 0}', 4, "sees no GPU"),
        ('{"chosen": "GPU-7"}', 4, "no GPU GPU-7"),
        ('{"loses": true}', 4, "samples are kept"),
    ],
)
def test_gpus_that_cannot_be_read(
    tmp_path: Path, tool_python: Callable[[str], Path], options: str, exit_code: int, message: str
) -> None:
    done = gpu(tool_python("meters"), tmp_path / "t", options)
    assert done.returncode == exit_code, done.stderr + done.stdout
    assert message in done.stdout


def test_a_machine_without_nvidias_driver(record: Record) -> None:
    result, _ = record("nvml")
    assert result.error
    assert result.error["exit_code"] == 4
    assert "nvidia-smi" in result.error["hint"]
