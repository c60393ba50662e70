"""The Neural Compute Stick's measurements: on a stand-in for the plug-in, and what is told without a stick.

No stick was ever on these machines. tests/lab/virtual_stick.py says what is real of the stand-in.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from tests.conftest import RunStage
from tests.lab.virtual_usb import BOOTED, NCS1, NCS2, VirtualHost
from tools import movidius
from tools.ncs import counters, session, shave_sweep, stick
from tools.ncs.counters import Inference
from tools.stage import DeviceNotFound, InvalidRequest, Result, StageError, Unsupported, WrongOutput
from tools.usb import Host

Files = Mapping[str, Path]
SHAVES = "1,16"


@pytest.fixture(scope="module")
def small(
    tool_python: Callable[[str], Path], run_stage: RunStage, tmp_path_factory: pytest.TempPathFactory
) -> Files:
    """A small network, its reference, and what it was converted to."""
    folder = tmp_path_factory.mktemp("small")
    script = ROOT / "tests" / "lab" / "small_network.py"
    subprocess.run([tool_python("onnx"), script, folder], check=True)
    files = {"onnx": folder / "small.onnx", "reference": folder / "small.npz"}
    for command in ("convert", "convert-2450"):
        made, result = run_stage("ncs", command, inputs={"onnx": files["onnx"]})
        files |= {name: made / path for name, path in result.outputs.items()}
    return files


@pytest.fixture
def on_stick(tool_python: Callable[[str], Path], small: Files, tmp_path: Path) -> Callable[..., Any]:
    """Do what a command does, on a virtual stick; return its result and how the stick was loaded."""

    def run(
        call: str, *arguments: object, fault: Mapping[str, object] | None = None, **target: object
    ) -> tuple[Result, list[dict[str, Any]]]:
        about = {
            "folder": str(tmp_path),
            "files": {key: str(small[key]) for key in ("blob", "plan", "onnx", "reference")},
            "fault": fault or {},
            "target": {"budget_s": 0.5, **target},
            "call": call,
            "arguments": arguments,
        }
        argv = [tool_python("ncs"), "-m", "tests.lab.virtual_stick", json.dumps(about)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Result.read(tmp_path), json.loads((tmp_path / "loads.json").read_text())

    return run


def row(on_stick: Callable[..., Any], **more: Any) -> tuple[Result, list[dict[str, Any]]]:
    found: tuple[Result, list[dict[str, Any]]] = on_stick(
        "measure", 0, SHAVES, "@samples.i64", "@profile.json", "@sweep.json", **more
    )
    return found


@pytest.mark.tool
def test_a_row_with_a_stick(on_stick: Callable[..., Any], tmp_path: Path) -> None:
    result, loads = row(on_stick)
    assert result.error is None
    metrics, metadata = result.metrics, result.metadata
    assert metadata["simulated"] is True
    assert metadata["scenario"] == "single-stream"
    assert metadata["execution_devices"] == ["2.2-ma2480"]
    assert metadata["usb_speed_mbps"] == 5000
    assert metadata["transferred_bytes"] == {"input": 2 * 3 * 32 * 32, "output": 2 * 10}
    assert metrics["correctness_cosine"] > 0.9999
    assert (tmp_path / "samples.i64").stat().st_size == 8 * metrics["latency_n"]

    counted, *_ = [load for load in loads if load["how"] == "load"]
    assert counted["config"]["PERF_COUNT"] == "YES"
    timed = [load for load in loads if load["how"] == "import"]
    assert len(timed) == 3  # the row, and each point of the sweep
    assert all(load["config"].keys() == {"MYRIAD_THROUGHPUT_STREAMS"} for load in timed)
    assert {load["device"] for load in loads} == {"MYRIAD"}


@pytest.mark.tool
def test_where_the_time_goes_and_whose_stages_take_it(
    on_stick: Callable[..., Any], small: Files, tmp_path: Path
) -> None:
    result, _ = on_stick("count", "@profile.json")
    parts = {part: result.metrics[f"breakdown_{part}_ms"] for part in ("device", "transport", "host")}
    profile = json.loads((tmp_path / "profile.json").read_text())
    assert parts["device"] == pytest.approx(profile["total_ms"])
    assert sum(parts.values()) == pytest.approx(result.metadata["counted"]["call_ms"])
    assert parts["transport"] > 1  # the stand-in's own
    assert result.metadata["warnings"] == []

    plan = json.loads(small["plan"].read_text())
    assert [layer["source"] for layer in profile["layers"]] == [stage["node"] for stage in plan["stages"]]
    assert {layer["executed_as"] for layer in profile["layers"]} > {"MyriadXHwOp", "SoftMax"}


def counted(*types: str) -> list[Inference]:
    stages = [
        {"name": f"s{i}", "exec_type": kind, "layer_type": "L", "time_ms": 1.0}
        for i, kind in enumerate(types)
    ]
    return [Inference(call_ms=9, plugin_ms=8, receive_ms=1, stages=stages)] * 3


PLAN = {
    "stages": [
        {"step": 0, "type": "Pad", "node": "conv1"},
        {"step": 1, "type": "MyriadXHwOp", "node": "conv2"},
        {"step": 1, "type": "Copy", "node": "concat"},  # the chip does both at a time
        {"step": 2, "type": "SoftMax", "node": None},
    ]
}


def test_a_counter_of_two_stages_names_both_nodes() -> None:
    layers, warnings = counters.layers(counted("Pad", "MyriadXHwOp + injected[Copy]", "SoftMax"), PLAN)
    assert [layer.source for layer in layers] == ["conv1", "conv2, concat", ""]
    assert warnings == []


@pytest.mark.parametrize("types", [("Pad", "SoftMax"), ("Pad", "Conv", "SoftMax")])
def test_counters_of_another_plan_name_no_node_and_that_is_told(types: tuple[str, ...]) -> None:
    layers, [warning] = counters.layers(counted(*types), PLAN)
    assert {layer.source for layer in layers} == {""}
    assert "do not fit the plan's 3 steps" in warning


def test_counters_that_say_more_than_the_call_took_give_no_breakdown() -> None:
    parts, _ = counters.breakdown(counted("A", "B"))
    assert parts == {"breakdown_device_ms": 2, "breakdown_transport_ms": 6, "breakdown_host_ms": 1}
    parts, about = counters.breakdown(counted(*"ABCDEFGHI"))
    assert parts == {}
    assert "there is no breakdown" in about["warnings"][0]


@pytest.mark.tool
def test_throughput_is_a_scenario_of_its_own(on_stick: Callable[..., Any]) -> None:
    result, loads = row(on_stick, requests=4, budget_s=1.5)
    assert result.error is None
    assert result.metadata["scenario"] == "throughput"
    assert result.metadata["requests"] == 4
    assert result.metadata["requests_in_flight"] == pytest.approx(4, rel=0.25)  # other tests' load
    assert loads[0]["config"] == {"MYRIAD_THROUGHPUT_STREAMS": "2"}


@pytest.mark.tool
@pytest.mark.parametrize(
    ("fault", "error", "message", "hint"),
    [
        ({"fault": "unplugged", "unplugged_after": 3}, DeviceNotFound, "does not answer", "doctor"),
        ({"fault": "unplugged", "unplugged_after": 40}, DeviceNotFound, "on USB now: none, no Movidius", ""),
        ({"fault": "unplugged", "unplugged_after": 60, "requests": 2}, DeviceNotFound, "does not answer", ""),
        ({"fault": "busy"}, DeviceNotFound, "another process uses it", "fell back to its boot ROM"),
        ({"fault": "lost"}, DeviceNotFound, "not loaded on the stick", "It left the bus"),
        ({"fault": "constant"}, WrongOutput, "the same output for every input", "another function"),
        ({"fault": "cpu"}, StageError, "not loaded on a stick", "AUTO, HETERO and MULTI"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_goes_wrong_on_a_stick_leaves_no_latency(
    on_stick: Callable[..., Any],
    tmp_path: Path,
    fault: dict[str, Any],
    error: type[StageError],
    message: str,
    hint: str,
) -> None:
    fault = dict(fault)
    result, _ = row(on_stick, requests=fault.pop("requests", 1), fault=fault)
    assert result.error is not None
    assert result.error["exit_code"] == error.exit_code
    assert message in result.error["message"]
    assert hint in result.error["hint"]
    assert "latency_p50_ms" not in result.metrics
    assert not (tmp_path / "samples.i64").exists()


@pytest.mark.tool
def test_a_blob_that_this_stick_cannot_have_is_not_sent(small: Files, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="blob for the other chip"):
        session.open_blob(None, small["blob_2450"], "MYRIAD", Host())
    with pytest.raises(InvalidRequest, match="3 streams of 7 SHAVE processors"):
        session.open_blob(None, small["blob"], "MYRIAD", Host(), streams=3)
    cut_off = tmp_path / "cut_off.blob"
    cut_off.write_bytes(small["blob"].read_bytes()[:-100])
    with pytest.raises(InvalidRequest, match="corrupt blob"):
        session.open_blob(None, cut_off, "MYRIAD", Host())


@pytest.mark.tool
def test_the_highest_classes_of_pictures(on_stick: Callable[..., Any], small: Files, tmp_path: Path) -> None:
    names = [f"class number {index}" for index in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    result, _ = on_stick("label", f"@{small['reference']}", "@names.txt", 5, "MYRIAD")
    outputs = np.load(small["reference"])["outputs"]
    for found, output in zip(result.metadata["top"], outputs, strict=True):
        assert len(found) == 5
        assert found[0]["name"] == names[output.argmax()]
        assert found[0]["score"] == pytest.approx(output.max(), abs=1e-3)


def test_a_stick_that_cannot_be_used_is_told_of_before_the_plug_in_is_asked(tmp_path: Path) -> None:
    virtual = VirtualHost(tmp_path)
    for port, attributes, message in (
        ("", {}, "none: no Movidius device"),
        ("1-1", NCS1, "Neural Compute Stick ready: Myriad 2"),
        ("1-2", BOOTED, "Neural Compute Stick stale"),
    ):
        if port:
            virtual.plug(port, attributes)
        with pytest.raises(DeviceNotFound, match=message):
            stick.find(virtual.host)
    virtual.claim("1-2")
    with pytest.raises(DeviceNotFound, match="in use: by a program"):
        stick.find(virtual.host)
    virtual.plug("1-3", NCS2)
    found = stick.find(virtual.host)
    assert found is not None
    assert found.port == "1-3"


@pytest.mark.tool
def test_a_stick_that_goes_while_it_answers_leaves_no_answers(
    on_stick: Callable[..., Any], small: Files, tmp_path: Path
) -> None:
    fault = {"fault": "unplugged", "unplugged_after": 2}
    result, _ = on_stick("infer", f"@{small['reference']}", "@answers.npz", "MYRIAD", fault=fault)
    assert result.error is not None
    assert result.error["exit_code"] == DeviceNotFound.exit_code
    assert not (tmp_path / "answers.npz").exists()


@pytest.mark.tool
@pytest.mark.parametrize("command", ["benchmark", "profile", "sweep", "infer", "label"])
def test_without_a_stick_that_is_known_at_once(run_stage: RunStage, small: Files, command: str) -> None:
    if any(seen.ids for seen in movidius.examine(Host.current())):
        pytest.skip("there is a stick")
    inputs = ["blob", "images"] if command in ("infer", "label") else ["blob", "plan", "onnx", "reference"]
    begin = time.monotonic()
    with pytest.raises(DeviceNotFound, match="there is no Neural Compute Stick 2") as caught:
        run_stage("ncs", command, inputs={key: small.get(key, small["reference"]) for key in inputs})
    assert time.monotonic() - begin < 2  # 0.3 s; the plug-in would take 5 s
    assert "doctor" in caught.value.hint


@pytest.mark.tool
def test_the_function_is_checked_without_a_stick(run_stage: RunStage, small: Files, tmp_path: Path) -> None:
    inputs = {key: small[key] for key in ("onnx", "blob", "plan", "reference")}
    _, result = run_stage("ncs", "emulate", inputs=inputs)
    assert result.emulated is not None
    assert result.metadata["constants"] == {"rounded": 5, "values": 6336, "beyond_float16": 0}
    assert result.metrics["correctness_cosine"] < 1  # it was rounded
    assert "latency_p50_ms" not in result.metrics

    data = small["onnx"].read_bytes()
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(data[:10_000] + bytes(4000) + data[14_000:])  # some weights become 0
    with pytest.raises(WrongOutput):
        run_stage("ncs", "emulate", inputs={**inputs, "onnx": wrong})
    with pytest.raises(InvalidRequest, match="plan of another blob"):
        run_stage("ncs", "emulate", inputs={**inputs, "plan": small["plan_2450"]})


@pytest.mark.tool
def test_the_calls_are_those_of_openvino(tool_python: Callable[[str], Path], small: Files) -> None:
    """The same session on OpenVINO's own classes: a network on its CPU plug-in, four requests in flight."""
    script = f"""
import numpy as np
from tools import measure
from tools.ncs import inference_engine, session
core = inference_engine.core()
network = core.load_network(core.read_network("{small["onnx"]}"), "CPU", num_requests=4)
opened = session.StickSession(network, {{}}, {{}})
opened.feed({{"input": np.ones((1, 3, 32, 32), "f")}})
opened.infer()
taken = measure.saturate(opened.start, opened.wait, requests=4, budget_s=0.2)
assert len(taken.samples) >= 12
assert all((opened.output_of(i) == opened.output()).all() for i in range(4))
assert opened.output().sum() > 0.99
"""
    subprocess.run([tool_python("ncs"), "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "device", ["AUTO", "CPU", "HETERO:MYRIAD,CPU", "MULTI:MYRIAD,CPU", "AUTO:MYRIAD", ""]
)
def test_what_may_take_the_cpu_is_no_stick(device: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a stick"):
        stick.check(device, "fp16")


def test_the_stick_has_one_precision() -> None:
    stick.check("MYRIAD.1.2-ma2480", "fp16")
    with pytest.raises(Unsupported, match="fp16 only, not in int8"):
        stick.check("MYRIAD", "int8")


@pytest.mark.parametrize(
    ("text", "points"), [("1-3", [1, 2, 3]), ("8,1, 4-5", [1, 4, 5, 8]), ("16", [16]), ("2,2", [2])]
)
def test_points_of_a_sweep(text: str, points: list[int]) -> None:
    assert shave_sweep.parse(text) == points


@pytest.mark.parametrize("text", ["", "0-4", "1-17", "4-1", "a", "1;2", "-1", "1-99999999999"])
def test_points_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidRequest, match="shaves is"):
        shave_sweep.parse(text)


def test_a_point_that_fails_is_a_point_with_its_reason() -> None:
    order: list[int] = []

    def measure(shaves: int, folder: Path) -> dict[str, Any]:
        order.append(shaves)
        if shaves == 1:
            message = "off by 90 %"
            raise WrongOutput(message)
        return {"p50_ms": 10 / shaves, "ci95_rel": 0.01, "n": 9}

    found = shave_sweep.run([1, 2, 3, 4, 16], measure, budget_s=10)
    assert order == [1, 16, 3, 2, 4]
    assert found["parameter"] == "shaves"
    assert [point["shaves"] for point in found["points"]] == [1, 2, 3, 4, 16]
    assert found["points"][0] == {
        "shaves": 1,
        "p50_ms": None,
        "ci95_rel": None,
        "n": 0,
        "status": "wrong_output",
        "reason": "off by 90 %",
    }
    assert found["points"][4]["p50_ms"] == 10 / 16


def test_a_sweep_ends_with_its_time_and_says_so() -> None:
    def measure(shaves: int, folder: Path) -> dict[str, Any]:
        time.sleep(0.02)
        return {"p50_ms": 1.0, "ci95_rel": None, "n": 3}

    found = shave_sweep.run(list(range(1, 17)), measure, budget_s=0.03)
    status = {point["shaves"]: point["status"] for point in found["points"]}
    assert status[1] == status[16] == "ok"
    assert "not_run" in status.values()
    assert "they were over" in next(p["reason"] for p in found["points"] if p["status"] == "not_run")


def test_a_sweep_ends_when_the_stick_goes() -> None:
    def measure(shaves: int, folder: Path) -> dict[str, Any]:
        message = "unplugged"
        raise DeviceNotFound(message)

    with pytest.raises(DeviceNotFound):
        shave_sweep.run([1, 2], measure, budget_s=1)
