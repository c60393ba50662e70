"""Networks to blobs for both chips, without a stick: what comes out, and what does not go in."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv

from host.engines.venv import tool_environment
from tests.conftest import RunStage
from tests.ncs.conftest import Convert
from tests.project import LAB
from tools import myriad_blob
from tools.myriad_blob import Tensor
from tools.stage import InvalidRequest, StageError, Unsupported

pytestmark = pytest.mark.tool

# A conversion in a process of its own, and what it leaves in that process.
TRACES = """
import json, os, pathlib, sys
from tools.ncs import convert, inference_engine
convert(pathlib.Path(sys.argv[1]), blob=pathlib.Path("m.blob"), plan=pathlib.Path("m.json"))
maps = pathlib.Path("/proc/self/maps").read_text().split()
print(json.dumps({
    "libusb": sorted({path for path in maps if "libusb" in path and ".so" in path}),
    "open": [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")],
}))
"""
TO_IR = """
import sys
from tools.ncs import inference_engine
inference_engine.core().read_network(sys.argv[1]).serialize(sys.argv[2] + "/ir.xml", sys.argv[2] + "/ir.bin")
"""
SECOND_OPINION = """
import json, sys
import depthai
blob = depthai.OpenVINO.Blob(sys.argv[1])
ends = lambda ends: {name: [list(end.dims), end.dataType.name] for name, end in ends.items()}
units = [blob.numShaves, blob.numSlices, blob.stageCount]
print(json.dumps([*units, ends(blob.networkInputs), ends(blob.networkOutputs)]))
"""


@pytest.mark.parametrize(("chip", "units"), [("2480", (7, 9)), ("2450", (12, 12))])
def test_a_network_for_either_chip(
    network: Path, convert: Convert, chip: str, units: tuple[int, int]
) -> None:
    made = convert(network, chip)
    compiled, plan = made["compiled"], json.loads(made["plan"].read_text())
    blob = myriad_blob.read(made["blob"])
    assert (compiled["chip"], blob.shaves, blob.cmx_slices) == (chip, *units)
    assert (blob.chip, blob.has_hw) == (chip, chip == "2480")
    assert blob.inputs == (Tensor("input", (1, 3, 64, 64), "FP16"),)
    assert blob.outputs == (Tensor("output", (1, 11), "FP16"),)
    assert compiled["stages"] == blob.stages == len({stage["step"] for stage in plan["stages"]})
    assert compiled["memory_bytes"] == plan["memory_bytes"]
    assert compiled["memory_bytes"]["bss"] == blob.bss_bytes > 0
    assert (compiled["hw_stages"] > 27) == (chip == "2480")  # its convolutions
    staged = {stage["node"] for stage in plan["stages"]} - {None}
    assert compiled["nodes"] == len(staged) + len(plan["fused_nodes"])
    activations = compiled["fused_nodes"].get("Clip", 0)  # which the convolution engines do on the way
    assert activations == (27 if chip == "2480" else 0)
    assert compiled["unsupported_layers"] == []


def test_the_same_network_gives_the_same_files(network: Path, odd: Path, convert: Convert) -> None:
    """Also in a process that has converted others in between."""

    def digests() -> list[str]:
        made = convert(network)
        return [hashlib.sha256(made[name].read_bytes()).hexdigest() for name in ("blob", "plan")]

    first = digests()
    convert(odd / "good.onnx")
    assert digests() == first


def test_options_are_in_the_blob(network: Path, convert: Convert) -> None:
    made = convert(network, shaves=4, cmx_slices=5)
    assert (made["compiled"]["shaves"], made["compiled"]["cmx_slices"]) == (4, 5)
    assert convert(network, shaves=12, streams=1)["compiled"]["cmx_slices"] == 19
    made = convert(network, input_type="U8", mean="127.5,120,110", scale="127.5")
    assert myriad_blob.read(made["blob"]).inputs == (Tensor("input", (1, 3, 64, 64), "U8"),)
    convert_, mean, scale = json.loads(made["plan"].read_text())["stages"][:3]
    assert [convert_["type"], mean["type"], scale["type"]] == ["Convert", "Bias", "Power"]
    assert scale["name"].endswith("@stdScale=0.00784314")  # the chip multiplies by 1 / 127.5


def test_a_second_parser_agrees(network: Path, convert: Convert, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    lock = LAB / "depthai" / "requirements.txt"
    install = ("pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(lock))
    for arguments in (("venv", "--quiet", str(tmp_path / "venv")), install):
        subprocess.run([uv.find_uv_bin(), *arguments], check=True)
    blob = convert(network, input_type="U8", shaves=5, cmx_slices=6)["blob"]
    done = subprocess.run([python, "-c", SECOND_OPINION, blob], check=True, capture_output=True, text=True)
    mine = myriad_blob.read(blob)
    assert json.loads(done.stdout.splitlines()[-1]) == [
        *(mine.shaves, mine.cmx_slices, mine.stages),
        {"input": [[64, 64, 3, 1], "U8F"]},  # innermost axis first
        {"output": [[11, 1], "FP16"]},
    ]
    assert (mine.shaves, mine.cmx_slices, mine.inputs[0].shape) == (5, 6, (1, 3, 64, 64))


def test_it_looks_for_no_stick_and_brings_its_own_libusb(
    odd: Path, tool_python: Callable[[str], Path], tmp_path: Path
) -> None:
    argv = [tool_python("ncs"), "-c", TRACES, odd / "good.onnx"]
    environment = tool_environment()
    done = subprocess.run(argv, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    traces = json.loads(done.stdout.splitlines()[-1])
    (libusb,) = traces["libusb"]
    assert "libusb_package" in libusb
    assert not [
        path for path in traces["open"] if "mvnc.mutex" in path
    ]  # taken while it looks, never given back


def test_check_names_what_the_stick_cannot(network: Path, odd: Path, run_stage: RunStage) -> None:
    folder, result = run_stage("ncs", "check", inputs={"onnx": odd / "waves.onnx"})
    found = json.loads((folder / "m.ncs-support.json").read_text())
    assert found == result.metadata
    waves = [{"node": "wave", "operator": "Sin"}, {"node": "other/wave", "operator": "Cos"}]
    assert (found["compiles"], found["unsupported_layers"]) == (False, waves)
    _, result = run_stage("ncs", "check", inputs={"onnx": network})
    assert (result.metadata["compiles"], result.metadata["unsupported_layers"]) == (True, [])


def test_an_ir_is_a_network_too(
    odd: Path, convert: Convert, tool_python: Callable[[str], Path], tmp_path: Path
) -> None:
    argv = [tool_python("ncs"), "-c", TO_IR, odd / "good.onnx", tmp_path]
    subprocess.run(argv, env=tool_environment(), check=True)
    made = convert(tmp_path / "ir.xml", weights=tmp_path / "ir.bin")
    assert made["blob"].read_bytes() == convert(odd / "good.onnx")["blob"].read_bytes()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("waves", Unsupported, r"no layer Sin, for wave \(Sin\); .* none for other/wave \(Cos\)"),
        ("decomposed", Unsupported, r"no layer Abs, for .* none for sign \(Softsign\)"),
        ("unknown", Unsupported, r"does not know the ONNX operators Det: determinant \(Det\)"),
        ("foreign", Unsupported, r"my\.domain\.Mine: own \(Mine\)"),
        ("dynamic", Unsupported, "'data' with an axis of no fixed length"),
        (
            "undefined",
            InvalidRequest,
            r"the node sum \(CumSum\) of the network is wrong: axis node not found",
        ),
        *((name, InvalidRequest, "it is not an ONNX network") for name in ("cut_off", "garbage", "empty")),
    ],
)
def test_what_does_not_go_in(
    odd: Path, convert: Convert, name: str, error: type[StageError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        convert(odd / f"{name}.onnx")
    assert type(caught.value) is error
    assert caught.value.hint
    assert "jenkins" not in str(caught.value)


def test_an_ir_of_a_newer_openvino(
    odd: Path, convert: Convert, tool_python: Callable[[str], Path], tmp_path: Path
) -> None:
    script = "import sys, openvino as ov; ov.save_model(ov.convert_model(sys.argv[1]), sys.argv[2])"
    argv = [tool_python("openvino"), "-c", script, odd / "good.onnx", tmp_path / "new.xml"]
    subprocess.run(argv, env=tool_environment(), check=True)
    with pytest.raises(InvalidRequest, match=r"an IR of version 11, and OpenVINO 2021\.4 reads up to 10"):
        convert(tmp_path / "new.xml", weights=tmp_path / "new.bin")


def test_an_ir_without_all_of_its_weights(tmp_path: Path, convert: Convert) -> None:
    """Its reader would end the process."""
    xml = '<net version="10"><layer name="w" type="Const"><data offset="0" size="64"/></layer></net>'
    for name, text, message in (
        ("lonely", xml, "needs 64 bytes of weights, and lonely.bin has 0"),
        ("cut_off", xml[:40], "is not an IR of OpenVINO"),
    ):
        (tmp_path / f"{name}.xml").write_text(text)
        with pytest.raises(InvalidRequest, match=message):
            convert(tmp_path / f"{name}.xml")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"shaves": -1}, "shaves=-1"),
        ({"streams": 4}, "streams=4"),
        ({"shaves": 17}, "NUMBER_OF_SHAVES must be in the range"),
        ({"shaves": 12}, "take 24 SHAVE processors together, and the chip has 16"),
        ({"shaves": 4, "cmx_slices": 3}, "must be not greater than"),
        ({"input_type": "INT4"}, "input_type is 'INT4'"),
        ({"mean": "1,2"}, "'1,2' is not a number"),
        ({"scale": "1,2,3"}, "'1,2,3' is not a number"),
        ({"scale": "0"}, "the input is divided by it"),
        ({"mean": "nan"}, "'nan' is not a number"),
    ],
)
def test_options_that_make_no_sense(
    odd: Path, convert: Convert, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        convert(odd / "good.onnx", **params)
    assert caught.value.hint


def test_plan_shows_a_conversion_and_no_other(
    network: Path, odd: Path, convert: Convert, run_stage: RunStage, tmp_path: Path
) -> None:
    made, other = convert(network), convert(odd / "good.onnx")
    folder, result = run_stage("ncs", "plan", inputs={"blob": made["blob"], "plan": made["plan"]})
    assert result.metadata["memory_bytes"] == made["compiled"]["memory_bytes"]
    assert "MyriadXHwOp CONV" in (folder / "log.txt").read_text()
    with pytest.raises(InvalidRequest, match="the plan of another blob"):
        run_stage("ncs", "plan", inputs={"blob": made["blob"], "plan": other["plan"]})
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(InvalidRequest, match="not a plan"):
        run_stage("ncs", "plan", inputs={"blob": made["blob"], "plan": tmp_path / "no.json"})


def test_a_damaged_blob(network: Path, convert: Convert, tmp_path: Path) -> None:
    whole = convert(network)["blob"].read_bytes()
    stages_at = int.from_bytes(whole[124:128], "little")
    damaged = {
        "nothing": b"",
        "ONNX": network.read_bytes(),
        "cut off": whole[: len(whole) // 2],
        "version": whole[:60] + b"\x07" + whole[61:],
        "stages": whole[: stages_at + 2] + b"\x01" + whole[stages_at + 3 :],  # the length of the first
    }
    for how, data in damaged.items():
        path = tmp_path / "m.blob"
        path.write_bytes(data)
        with pytest.raises(InvalidRequest, match="corrupt blob") as caught:
            myriad_blob.read(path)
        assert "ncs.convert" in caught.value.hint, how


def test_a_blob_for_the_other_chip(network: Path, convert: Convert) -> None:
    for chip, other in (("2480", "2450"), ("2450", "2480")):
        path = convert(network, chip)["blob"]
        blob = myriad_blob.read(path)
        myriad_blob.require_chip(path, blob, chip)
        with pytest.raises(InvalidRequest, match="blob for the other chip"):
            myriad_blob.require_chip(path, blob, other)
