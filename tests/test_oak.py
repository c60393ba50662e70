"""The tool oak, as far as it goes without a camera. What tests/lab/virtual_oak.py answers is simulated."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from host import ROOT, toolbox
from tests.conftest import RunStage
from tests.lab import virtual_usb
from tests.lab.virtual_oak import NNData, VirtualCamera
from tests.lab.virtual_usb import VirtualHost
from tools import movidius, oak
from tools.arrays import write
from tools.myriad_blob import HEADER_OFFSET, Blob, Tensor
from tools.oak import camera
from tools.oak.session import DeviceLog, OakSession
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported
from tools.usb import SIMULATED_HOST

SHAVES = HEADER_OFFSET + 12 * 4  # where a blob says how many it takes
NETWORK = """
import sys, numpy as np
from onnx import TensorProto, helper, numpy_helper
weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
nodes = [
    helper.make_node("Conv", ["data", "w"], ["c"], name="conv"),
    helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
    helper.make_node("Flatten", ["p"], ["out"], name="flat"),
]
ends = {"data": [1, 3, 16, 20], "out": [1, 4]}
graph = helper.make_graph(
    nodes, "g", *([helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in ends.items()),
    [numpy_helper.from_array(weights, "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
model.ir_version = 6
open(sys.argv[1], "wb").write(model.SerializeToString())
"""
OAK_BOOTLOADER = {
    "idProduct": "f63c",
    "manufacturer": "Luxonis",
    "product": "Luxonis Bootloader",
    "speed": "5000",
}
PIPELINE = """
import json, os, sys
from pathlib import Path
from tools.oak import camera, library, session
path = Path(sys.argv[1])
made = camera.pipeline(library.load(), path, session.suitable(path))
document = made.serializeToJson()["pipeline"]
nodes = {number: node for number, node in document["nodes"]}
ends = {tuple(name): info for name, info in nodes[1]["ioInfo"]}
print(json.dumps({
    "version": made.getRequiredOpenVINOVersion().name,
    "chunk_bytes": document["globalProperties"]["xlinkChunkSize"],
    "links": [[nodes[link[f"node{end}Id"]]["name"] for end in (1, 2)] for link in document["connections"]],
    "input": ends["", "in"],
    "uploads": [os.environ.get(f"DEPTHAI_{key}") for key in sys.argv[2:]],
}))
"""
ANSWER = np.array([[1.5, -2, 3, 0.25]], np.float32)


@pytest.fixture(scope="module")
def onnx(tool_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oak") / "small.onnx"
    subprocess.run([tool_python("onnx"), "-c", NETWORK, path], check=True)
    return path


@pytest.fixture(scope="module")
def blob(run_stage: RunStage, onnx: Path) -> Path:
    return run_stage("ncs", "convert", inputs={"onnx": onnx})[0] / "m.blob"


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    inputs = np.random.default_rng(1).standard_normal((2, 3, 16, 20)).astype(np.float32)
    write(tmp_path / "reference.npz", inputs={"data": inputs}, outputs=np.repeat(ANSWER, 2, axis=0))
    return tmp_path / "reference.npz"


def test_the_main_job_takes_the_blob_of_the_stick() -> None:
    assert "oak" in toolbox.backends()
    assert toolbox.producer("blob").full_name == "ncs.convert"
    assert "blob" in toolbox.find("oak.benchmark").inputs


def test_depthai_reads_what_we_read(run_stage: RunStage, onnx: Path, blob: Path) -> None:
    _, fp16 = run_stage("oak", "info", inputs={"blob": blob})
    folder, _ = run_stage("ncs", "convert", inputs={"onnx": onnx}, params={"input_type": "U8", "shaves": 5})
    _, bytes_ = run_stage("oak", "info", inputs={"blob": folder / "m.blob"})
    assert fp16.metadata["inputs"] == {"data": {"shape": [1, 3, 16, 20], "type": "FP16"}}
    assert fp16.metadata["outputs"]["out"]["shape"] == [1, 4]
    assert fp16.metadata["stages"] > 0
    assert bytes_.metadata["inputs"]["data"]["type"] == "U8"
    assert bytes_.metadata["shaves"] == 5


def test_without_a_camera_it_says_so_before_depthai_is_loaded(
    blob: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIMULATED_HOST, str(VirtualHost(tmp_path).root))
    start = time.perf_counter()
    with pytest.raises(DeviceNotFound, match="no OAK camera: no Movidius device") as caught:
        oak.benchmark(blob, reference, tmp_path / "samples", "", 1.0, "fp16")
    assert time.perf_counter() - start < 1  # a depthai.Device waits 6 s; there is no depthai here at all
    assert "simulated" in str(caught.value)
    assert "plug it in" in caught.value.hint
    assert caught.value.metadata["device"] == "OAK"


def test_a_blob_that_cannot_run_is_refused_before_a_camera_is_looked_for(
    run_stage: RunStage, onnx: Path, blob: Path, reference: Path, tmp_path: Path
) -> None:
    def said(changed: Path) -> StageError:
        with pytest.raises(StageError) as caught:
            run_stage("oak", "benchmark", inputs={"blob": changed, "reference": reference})
        assert caught.value.hint
        return caught.value

    data = blob.read_bytes()
    cut, many = tmp_path / "cut.blob", tmp_path / "many.blob"
    cut.write_bytes(data[: len(data) // 2])
    many.write_bytes(data[:SHAVES] + struct.pack("<I", 17) + data[SHAVES + 4 :])
    folder, _ = run_stage("ncs", "convert-2450", inputs={"onnx": onnx})

    assert "corrupt blob" in str(said(cut))
    assert "Myriad 2" in str(said(folder / "m.2450.blob"))
    error = said(many)
    assert isinstance(error, Unsupported)
    assert "takes 17 SHAVEs" in str(error)
    with pytest.raises(Unsupported, match="not in int8"):
        run_stage(
            "oak",
            "benchmark",
            inputs={"blob": blob, "reference": reference},
            params={"precision": "int8"},
        )


def _plugged(tmp_path: Path, *devices: dict[str, str], mode: int = 0o666) -> list[movidius.Stick]:
    host = VirtualHost(tmp_path)
    for number, attributes in enumerate(devices, 1):
        host.plug(f"1-{number}", attributes, mode=mode)
    return movidius.examine(host.host)


def test_a_stick_is_no_camera_and_what_may_be_one_takes_the_users_word(tmp_path: Path) -> None:
    sticks = _plugged(tmp_path, virtual_usb.NCS1, virtual_usb.NCS2)
    with pytest.raises(DeviceNotFound, match="not known to be an OAK camera") as caught:
        camera.find(sticks, "")
    assert "--set port=1-2" in caught.value.hint
    assert "ncs" in caught.value.hint
    assert camera.find(sticks, "1-2").port == "1-2"
    with pytest.raises(DeviceNotFound, match="no OAK camera at USB 1-1: Neural Compute Stick"):
        camera.find(sticks, "1-1")


def test_a_camera_in_luxonis_bootloader_is_taken(tmp_path: Path) -> None:
    sticks = _plugged(tmp_path, virtual_usb.NCS2, OAK_BOOTLOADER)
    assert camera.find(sticks, "").port == "1-2"


def test_a_camera_that_may_not_be_opened_says_which_rules_are_missing(tmp_path: Path) -> None:
    [stick] = _plugged(tmp_path, OAK_BOOTLOADER)
    with pytest.raises(DeviceNotFound, match="no permission") as caught:
        camera.find([dataclasses.replace(stick, state="no permission", mend=movidius.INSTALL_RULES)], "")
    assert "--install-udev" in caught.value.hint


def test_pipeline_as_depthai_sends_it(tool_python: Callable[[str], Path], blob: Path) -> None:
    switches = ["DISABLE_CRASHDUMP_COLLECTION", "ENABLE_ANALYTICS_COLLECTION"]
    argv = [tool_python("oak"), "-c", PIPELINE, blob, *switches]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), f"DEPTHAI_{switches[1]}": "1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)  # nothing of the library's own log is there
    assert found["version"] == "VERSION_2022_1"
    assert sorted(found["links"]) == [["NeuralNetwork", "XLinkOut"], ["XLinkIn", "NeuralNetwork"]]
    assert found["chunk_bytes"] == 0
    assert (found["input"]["blocking"], found["input"]["queueSize"]) == (True, 1)
    assert found["uploads"] == ["1", None]


def _session(
    compute: Callable[[dict[str, np.ndarray]], np.ndarray | None],
    kind: str = "FP16",
    log: DeviceLog | None = None,
) -> tuple[OakSession, VirtualCamera]:
    tensors = (Tensor("left", (1, 2, 1, 2), kind), Tensor("right", (1, 3), kind))
    about = Blob(tensors, (Tensor("out", (1, 4), "FP32"),), 5, 5, 7, 9, True, 0, 0, 0, 0)
    device = VirtualCamera("out", compute)
    return OakSession(SimpleNamespace(NNData=NNData), device, about, log or DeviceLog()), device


def _inputs(value: float) -> dict[str, Any]:
    return {"left": np.full((1, 2, 1, 2), value, np.float32), "right": np.full((1, 3), value, np.float32)}


def test_simulated_inputs_arrive_by_name_in_the_blobs_type_and_the_output_comes_back() -> None:
    seen: list[dict[str, np.ndarray]] = []
    for kind, value in (("FP16", 0.1), ("U8", 200)):
        session, _ = _session(lambda layers: seen.append(layers) or ANSWER, kind)
        session.feed(_inputs(value))
        session.infer()
        session.infer()
        np.testing.assert_array_equal(session.output(), ANSWER)
        assert {name: layer.size for name, layer in seen[-1].items()} == {"left": 4, "right": 3}
        expected = np.float16(value) if kind == "FP16" else np.uint8(value)
        assert seen[-1]["right"].dtype == expected.dtype
        assert (seen[-1]["right"] == expected).all()
    with pytest.raises(InvalidRequest, match="takes bytes"):
        session.feed(_inputs(0.5))


def test_simulated_refusal_is_told_in_the_cameras_words_instead_of_waited_for() -> None:
    log = DeviceLog()
    said = SimpleNamespace(
        level=SimpleNamespace(name="ERR"), nodeIdName="NeuralNetwork", payload="skipping inference"
    )
    session, _ = _session(lambda _: log.add(said), log=log)
    session.feed(_inputs(1))
    with pytest.raises(Unsupported, match="does not run the network: NeuralNetwork skipping"):
        session.infer()


def test_simulated_camera_that_is_unplugged_ends_the_measurement() -> None:
    session, device = _session(lambda _: ANSWER)
    session.feed(_inputs(1))
    session.infer()
    device.plugged_in = False
    with pytest.raises(DeviceNotFound, match="went away"):
        session.infer()
