"""Qualcomm's SDK, with stand-ins for it: found in each layout, its converters driven, faults told."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT, sdks
from host.unpack import unpack_all
from tests.lab import snpe_sdk
from tools.snpe import converting, sdk
from tools.stage import InvalidRequest, SdkMissing, StageError

VARIABLE = "MOBILE_ACCELERATOR_SNPE_SDK"
Python = Callable[[str], Path]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def given(tmp_path: Path, tool_python: Python, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Give an SDK as --sdk does; return the folder that it was unpacked to."""

    def give(version: str, **options: Any) -> Path:
        monkeypatch.setenv(VARIABLE, "")  # to be restored
        archive = snpe_sdk.make(tmp_path, version, phone=tool_python("snpe"), **options)
        sdks.give([f"snpe={archive}"], tmp_path)
        return Path(os.environ[VARIABLE])

    return give


@pytest.fixture
def call(tool_python: Python) -> Call:
    """Run a command of the tool in one of its builds, as a person would."""

    def run(build: str, command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        argv = [tool_python(build), "-m", "tools.snpe", command.replace("_", "-"), *arguments]
        argv = [str(part).replace("_", "-") if str(part).startswith("--") else part for part in argv]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("version", snpe_sdk.LAYOUTS)
def test_each_layout_is_found_in_a_zip_of_another_name(given: Callable[..., Path], version: str) -> None:
    found = sdk.find(given(version))
    assert found.version == version
    assert found.home.name.endswith(version)
    about = found.describe()
    assert about["simulated"] is True
    assert "lib/aarch64-android" in " ".join(about["sdk"]["sha256"])


@pytest.mark.parametrize(
    ("version", "python", "build"),
    [
        ("1.17.1", "2.7", ""),
        ("1.66.0.3729", "3.6", ""),
        ("2.10.0.4541", "3.6", ""),
        ("2.14.2.230905", "3.8", "sdk38"),
        ("2.41.0.251128", "3.10", "sdk310"),
    ],
)
def test_the_version_says_what_the_converters_need(version: str, python: str, build: str) -> None:
    needs = sdk.Sdk(Path(version), version).needs
    assert (needs.python, needs.build) == (python, build)
    assert f"| {needs.system} | {needs.python} |" in (ROOT / "docs" / "snapdragon.md").read_text()


def test_an_sdk_takes_the_build_that_it_needs_and_is_part_of_what_it_makes(
    given: Callable[..., Path], tool_python: Python
) -> None:
    given("2.41.0.251128")
    assert sdks.builds() == {"snpe:sdk": "snpe-sdk310"}
    first = sdks.identity("snpe")
    given("2.41.0.251128", fault="silent")
    assert sdks.identity("snpe") != first
    given("2.41.0.251128", python=tool_python("snpe"))
    assert sdks.builds() == {}


def test_without_one_it_says_where_to_get_it(call: Call, networks: Path, tmp_path: Path) -> None:
    onnx = networks / "small.onnx"
    made, inputs = tmp_path / "made.dlc", tmp_path / "inputs.json"
    files = {"dlc_sdk": made, "dlc_sdk_inputs": inputs}
    done = call("snpe", "convert_sdk", onnx=onnx, frozen=onnx, signature=onnx, **files)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "--sdk snpe=PATH (or --snpe-sdk PATH)" in done.stderr
    assert not made.exists()


@pytest.mark.tool
@pytest.mark.parametrize(
    ("version", "build", "program", "options"),
    [
        ("1.17.1", "snpe", "snpe-tensorflow-to-dlc", "older"),
        ("1.66.0.3729", "snpe", "snpe-tensorflow-to-dlc", "newer"),
        ("2.14.2.230905", "snpe-sdk38", "snpe-onnx-to-dlc", "newer"),
        ("2.41.0.251128", "snpe-sdk310", "snpe-onnx-to-dlc", "newer"),
    ],
)
def test_each_generation_converts_and_quantises(
    given: Callable[..., Path],
    call: Call,
    tool_python: Python,
    networks: Path,
    tmp_path: Path,
    version: str,
    build: str,
    program: str,
    options: str,
) -> None:
    """The stand-in's frozen graph is ONNX too."""
    given(version, python=tool_python("snpe") if build == "snpe" else None)
    signature = tmp_path / "signature.json"
    signature.write_text(json.dumps({"inputs": {"input": {"shape": [1, 16, 16, 3]}}, "output": "output"}))
    onnx, dlc, int8 = networks / "small.onnx", tmp_path / "float.dlc", tmp_path / "int8.dlc"
    missing = tmp_path / "missing"
    missing.touch()
    done = call(
        build,
        "convert_sdk",
        onnx=onnx if version >= "2" else missing,
        frozen=onnx if version < "2" else missing,
        signature=signature,
        dlc_sdk=dlc,
        dlc_sdk_inputs=tmp_path / "inputs.json",
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout[done.stdout.index("\n{\n") :])["metadata"]
    assert (said["converter"], said["options"]) == (program, options)
    assert said["inputs"] == {"input": [1, 16, 16, 3]}
    assert said["sdk"]["version"] == version
    done = call(
        build, "quantize_sdk", dlc_sdk=dlc, calibration=networks / "small.calibration.npz", dlc_sdk_int8=int8
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(int8) as archive:
        about = json.loads(archive.read("about.json"))
    assert about["quantised"]
    assert about.get("prepared") == (None if version < "2" else ["sm8550"])


@pytest.mark.tool
@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("unsupported", 3, "ERROR_OP_NOT_SUPPORTED: Operation Cosh is not supported"),
        ("silent", 1, "made nothing"),  # a file, and no word of success
    ],
)
def test_an_exit_code_of_0_is_not_believed(
    given: Callable[..., Path], call: Call, networks: Path, tmp_path: Path, fault: str, code: int, text: str
) -> None:
    given("2.41.0.251128", fault=fault)
    onnx, made = networks / "small.onnx", tmp_path / "made.dlc"
    files = {"dlc_sdk": made, "dlc_sdk_inputs": tmp_path / "inputs.json"}
    done = call("snpe-sdk310", "convert_sdk", onnx=onnx, frozen=onnx, signature=onnx, **files)
    assert done.returncode == code
    assert text in done.stderr.splitlines()[-1]
    assert not made.exists()


@pytest.mark.tool
def test_a_dlc_of_another_generation_is_refused(
    given: Callable[..., Path], call: Call, tool_python: Python, networks: Path, tmp_path: Path
) -> None:
    dlc = tmp_path / "of-1.dlc"
    with zipfile.ZipFile(dlc, "w") as archive:
        archive.writestr("about.json", json.dumps({"generation": 1}))
    given("2.41.0.251128")
    calibration = networks / "small.calibration.npz"
    made = tmp_path / "made.dlc"
    done = call("snpe-sdk310", "quantize_sdk", dlc_sdk=dlc, calibration=calibration, dlc_sdk_int8=made)
    assert done.returncode == 2
    assert "DLCs of SNPE 1 and 2 are not interchangeable" in done.stderr


def test_what_is_no_sdk_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "qairt" / "2.41.0" / "lib" / "x86_64-linux-clang").mkdir(parents=True)
    (tmp_path / "qairt" / "2.41.0" / "lib" / "x86_64-linux-clang" / "libQnnHtp.so").touch()
    with pytest.raises(SdkMissing, match="it is QNN's"):
        sdk.find(tmp_path)
    (tmp_path / "other" / "readme").mkdir(parents=True)
    with pytest.raises(SdkMissing, match="but readme"):
        sdk.find(tmp_path / "other")


def test_two_sdks_in_one_folder_have_to_be_told_apart(tmp_path: Path) -> None:
    for name in ("snpe-1.17.1", "snpe-2.9.0.4462"):
        (tmp_path / name / sdk.MARK).parent.mkdir(parents=True)
        (tmp_path / name / sdk.MARK).touch()
    with pytest.raises(SdkMissing, match=r"2 SDKs in .*: snpe-1\.17\.1, snpe-2\.9\.0\.4462"):
        sdk.find(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_a_zip_with_paths_that_escape_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sdk.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("snpe-1/fine", "")
        archive.writestr(name, "x")
    with pytest.raises(StageError, match="leads out of its folder"):
        sdks.give([f"snpe={path}"], tmp_path / "work")
    assert not list(tmp_path.rglob("evil"))


def test_a_zip_keeps_links_and_gives_programs_their_rights(tmp_path: Path) -> None:
    path = tmp_path / "sdk.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text, mode in (
            ("bin/script", "#!/bin/sh\n", 0),
            ("bin/elf", "\x7fELF", 0),
            ("bin/data", "text", 0),
            ("bin/marked", "text", 0o100755),
            ("lib/link", "../bin/data", 0o120777),
            ("lib/out", "../../evil", 0o120777),
        ):
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, text)
    folder = tmp_path / "out"
    with pytest.raises(StageError, match="has a link 'lib/out', which leads out"):
        unpack_all(path, folder)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (folder / "bin").iterdir()}
    assert modes == {"script": 0o755, "elf": 0o755, "data": 0o644, "marked": 0o755}
    assert (folder / "lib" / "link").read_text() == "text"


def test_a_cut_off_zip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "sdk.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("snpe-1/file", os.urandom(10_000))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StageError, match="or is damaged or truncated"):
        sdks.give([f"snpe={path}"], tmp_path / "work")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        sdks.give([f"snpe={tmp_path / 'none.zip'}"], tmp_path / "work")


def test_inputs_are_read_from_both_tables_of_snpe_dlc_info() -> None:
    newer = (
        "| Input Name | Dimensions | Type |\n---\n| a:0 | 1,640,640,3 | Float_32 |\n| b | 1,7 | Int_32 |\n"
    )
    newer += "| Output Name | Dimensions | Type |\n| o | 1,10 | Float_32 |\n"
    assert converting.input_shapes(newer) == {"a:0": [1, 640, 640, 3], "b": [1, 7]}
    older = "| Id | Name | Type | Inputs | Outputs | Out Dims | Runtimes | Parameters |\n"
    older += "| 0 | a | data | a | a:0 | 1x299x299x3 | A D G C | |\n| 1 | c | pool | a | c | 1x1 | A | |\n"
    assert converting.input_shapes(older) == {"a:0": [1, 299, 299, 3]}
