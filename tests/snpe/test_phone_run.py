"""SNPE on a phone: the stand-in SDK's programs on the virtual phone, and the real adb between.

What they compute is right, and their times are this machine's: all of it is labelled simulated.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from host.unpack import unpack_all
from tests.lab import snpe_sdk, virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tools.snpe import diagview, failures
from tools.stage import StageError, Unsupported

MISSING = virtual_phone.missing()
needs_adbd = pytest.mark.skipif(bool(MISSING), reason=MISSING)
Python = Callable[[str], Path]
Call = Measure = Callable[..., subprocess.CompletedProcess[str]]
QAIRT, OLD = "2.41.0.251128", "1.17.1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path_factory.mktemp("phone")) as lab:
        yield lab


@pytest.fixture(scope="module")
def call(lab: VirtualPhone, tool_python: Python) -> Call:
    """Run a command of the tool as a person would, with an SDK, on the virtual phone."""
    python = tool_python("snpe")

    def run(sdk: Path, command: str, **given: Any) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "MOBILE_ACCELERATOR_SNPE_SDK": str(sdk),
            "ADB_SERVER_SOCKET": lab.server.address,
        }
        arguments = [
            part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))
        ]
        argv = [python, "-m", "tools.snpe", command, *arguments]
        return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def dlcs(call: Call, tool_python: Python, networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small network's DLCs, <precision>.dlc, made by QAIRT."""
    folder, python = tmp_path_factory.mktemp("dlcs"), tool_python("snpe")
    unpack_all(snpe_sdk.make(folder, QAIRT, phone=python, python=python), folder)
    onnx = networks / "small.onnx"
    files = {"dlc_sdk": folder / "fp32.dlc", "dlc_sdk_inputs": folder / "inputs.json"}
    made = call(folder, "convert-sdk", onnx=onnx, frozen=onnx, signature=onnx, **files)
    assert made.returncode == 0, made.stderr
    shutil.copy(folder / "fp32.dlc", folder / "fp16.dlc")
    calibration = networks / "small.calibration.npz"
    files = {"dlc_sdk": folder / "fp32.dlc", "calibration": calibration, "dlc_sdk_int8": folder / "int8.dlc"}
    made = call(folder, "quantize-sdk", **files)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def measure(
    call: Call, dlcs: Path, lab: VirtualPhone, tool_python: Python, networks: Path, tmp_path: Path
) -> Iterator[Measure]:
    """Run snpe.benchmark with an SDK that does `fault`."""
    python = tool_python("snpe")

    def run(
        version: str,
        device: str,
        precision: str,
        fault: str = "",
        command: str = "benchmark",
        **options: Any,
    ) -> Any:
        unpack_all(snpe_sdk.make(tmp_path, version, phone=python, fault=fault), tmp_path)
        dlc = dlcs / f"{precision}.dlc"
        if version < "2":
            snpe_sdk.of_generation_1(dlc, tmp_path / "old.dlc")
            dlc = tmp_path / "old.dlc"
        files = {"dlc_sdk": dlc, "dlc_sdk_inputs": dlcs / "inputs.json"}
        files["reference"] = networks / "small.reference.npz"
        if command == "profile":
            options["layer_times"] = tmp_path / "layers"
        else:
            options.update({"budget_s": 0.5, **{name: tmp_path / name for name in ("samples", "profile")}})
        return call(tmp_path, command, **files, device=device, precision=precision, **options)

    yield run
    lab.phone.clean_up()


def result(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("\n{\n") :])


@needs_adbd
@pytest.mark.tool
@pytest.mark.parametrize(
    ("version", "device", "precision"),
    [(QAIRT, "CPU", "fp32"), (QAIRT, "DSP", "int8"), (OLD, "GPU", "fp16")],
)
def test_each_runtime_goes_through_the_gate_and_says_what_ran_where(
    measure: Measure, tmp_path: Path, version: str, device: str, precision: str
) -> None:
    found = result(measure(version, device, precision))
    metrics, metadata = found["metrics"], found["metadata"]
    assert (metadata["runtime"], metadata["device"], metadata["precision"]) == ("snpe", device, precision)
    assert (metadata["simulated"], metadata["sdk"]["version"]) == (True, version)
    assert metadata["device_name"] == "Example Virtual 4 (SM8150)"
    assert metadata["executed_on"] == {device: 3}
    assert metrics["correctness_cosine"] > 0.93
    assert metrics["latency_p50_ms"] > 0
    assert metrics["throughput_per_s"] > 0
    assert metrics["load_ms"] > 0
    assert "is the mean of" in metadata["warnings"][-1]
    assert len(metadata["warnings"]) == 1
    parts = {key for key in metrics if key.startswith("breakdown_")}
    assert ("breakdown_transport_ms" in parts) == (device == "DSP")
    profile = json.loads((tmp_path / "profile").read_text())
    assert [layer["executed_as"] for layer in profile["layers"]] == [device] * 3
    assert all((layer["cycles"] is None) == (device != "DSP") for layer in profile["layers"])
    assert (tmp_path / "samples").stat().st_size == 8 * metrics["latency_n"]


@needs_adbd
@pytest.mark.tool
@pytest.mark.parametrize(
    ("device", "fault", "code", "text"),
    [
        ("GPU", "falls back", 3, "the GPU was asked for, and SNPE ran 3 of 3 layers on the CPU: a fallback"),
        ("CPU", "execute fails", 3, "QnnGraph_addNode() failed for layer: conv1"),
        ("CPU", "timing fails", 3, "QnnGraph_addNode() failed for layer: conv1"),
        ("CPU", "wrong output", 6, "differs from the reference"),
        ("CPU", "wrong when timed", 6, "right before the timing, but not in the timed runs"),
        ("DSP", "no skel", 3, "PF_VALIDATOR: ERROR: -2"),
    ],
)
def test_what_goes_wrong_on_the_phone_leaves_no_time(
    measure: Measure, tmp_path: Path, device: str, fault: str, code: int, text: str
) -> None:
    precision = {"GPU": "fp16", "CPU": "fp32", "DSP": "int8"}[device]
    done = measure(QAIRT, device, precision, fault)
    assert done.returncode == code, done.stderr
    assert text in done.stderr.splitlines()[-1]
    assert not (tmp_path / "samples").exists()
    assert not (tmp_path / "profile").exists()


@needs_adbd
@pytest.mark.tool
def test_a_profile_is_diagviews_own_text_too(measure: Measure, tmp_path: Path) -> None:
    done = measure(QAIRT, "DSP", "int8", command="profile", diagview_text=tmp_path / "text")
    assert result(done)["metadata"]["diagview"]["metrics"]["Total Inference Time"]["time_ms"] > 0
    assert diagview.parse((tmp_path / "text").read_text())["layers_on"] == {"DSP": 3}
    assert len(json.loads((tmp_path / "layers").read_text())["layers"]) == 3


@needs_adbd
@pytest.mark.tool
def test_layers_that_fall_back_are_told(measure: Measure) -> None:
    metadata = result(measure(QAIRT, "GPU", "fp16", "half falls back"))["metadata"]
    assert metadata["executed_on"] == {"GPU": 2, "CPU": 1}
    assert (
        metadata["warnings"][0] == "SNPE ran 1 of 3 layers on the CPU, not on the GPU: a fallback of these."
    )


@needs_adbd
@pytest.mark.tool
@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ({"device": "DSP", "precision": "fp16"}, 3, "no networks of fp16 for snpe"),
        ({"device": "NPU", "precision": "fp16"}, 2, "SNPE has no device 'NPU'"),
        ({"device": "CPU", "precision": "fp32", "perf_profile": "extreme"}, 2, "no perf profile 'extreme'"),
    ],
)
def test_what_it_does_not_take_is_told(measure: Measure, given: Any, code: int, text: str) -> None:
    done = measure(QAIRT, **given)
    assert done.returncode == code
    assert text in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("said", "code", "error", "text"),
    [
        ("fine", 0, None, ""),
        ("SNPE is NOT supported for runtime DSP on the device", 0, Unsupported, "signed ones only"),
        (
            "The selected runtime is not available on this platform. Continue",
            0,
            Unsupported,
            "no such runtime",
        ),
        ("error_code=1002; error_message=Bad DLC; error_component=Dlc", 0, StageError, "not interchangeable"),
        ('CANNOT LINK EXECUTABLE "x": library "libgnustl_shared.so" not found', 1, Unsupported, "NDK r11"),
        ("something else\nlast words", 3, StageError, "log says more"),
    ],
)
def test_what_the_programs_say_is_translated(said: str, code: int, error: Any, text: str) -> None:
    if error is None:
        failures.raise_for(said, code, "snpe-net-run")
        return
    with pytest.raises(error) as caught:
        failures.raise_for(said, code, "snpe-net-run")
    assert type(caught.value) is error
    assert text in caught.value.hint
