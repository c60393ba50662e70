"""What the terminal says of a run beside its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host import show
from host.pipeline import Outcome
from host.plan import Stage
from host.toolbox import tools
from tests.report import samples
from tools.stage import DeviceNotFound, Result


def shown(records: list[dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    run: dict[str, Any] = {"weights": {}, "builds": {}}
    show.outcomes({"run": run, "records": records}, {}, folder, as_json=False)
    return capsys.readouterr().out


def stage(tool: str, command: str, model: str = "m") -> Stage:
    params = {"precision": "fp16", "device": "x"}
    return Stage(model=model, command=tools()[tool].commands[command], params=params, inputs={})


def test_what_was_compiled_without_a_device_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = samples.stick(tmp_path, status="no_device")
    text = shown([gone, {**gone, "status": "emulated"}], tmp_path, capsys)
    assert text.count("ncs compiled for Myriad X (2480): 162 steps, 7 SHAVEs, 11.6 MB blob\n") == 1
    assert text.count("ncs compiled for Myriad 2 (2450): 171 steps, 12 SHAVEs, 11.6 MB blob\n") == 1


def test_what_a_measurement_warns_of_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = samples.stick(tmp_path)
    text = "GPU runs only a part of the network"
    record = {**record, "metadata": {**record["metadata"], "warnings": [text]}}
    assert f"warning: {text}\n" in shown([record], tmp_path, capsys)


def test_a_stage_that_failed_is_not_answered_with_what_another_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, asked = stage("tf1", "reference"), stage("ncs", "sweep")
    known = {made: Outcome(result=Result(metrics={"n": 8})), asked: Outcome(error=DeviceNotFound("no stick"))}
    document: dict[str, Any] = {"run": {"weights": {}, "builds": {}}, "records": []}
    show.outcomes(document, known, tmp_path, as_json=False)
    text = capsys.readouterr().out
    assert text.startswith("m tf1.reference[fp16] (0.0 s)\n\nm ncs.sweep[fp16]: no_device: no stick\n")


def test_a_hint_that_is_for_several_stages_is_said_once() -> None:
    def failed(model: str, tool: str, message: str, hint: str) -> tuple[Stage, Outcome]:
        return stage(tool, "benchmark", model), Outcome(error=DeviceNotFound(message, hint=hint))

    known = dict(
        [
            failed("a", "ncs", "no stick", "Plug it in."),
            failed("a", "openvino", "no NPU", "Needs its driver."),
            failed("b", "ncs", "no stick", "Plug it in."),
            failed("b", "oak", "no camera", "Plug it in."),
        ]
    )
    usb, npu = show.reasons(known)
    lines = [
        "a, b ncs.benchmark: no_device: no stick.",
        "b oak.benchmark: no_device: no camera.",
        "Plug it in.",
    ]
    assert usb.split("\n") == ["", *lines]
    assert npu == "\na openvino.benchmark[x,fp16]: no_device: no NPU. Needs its driver."


def test_unsupported_layers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = samples.stick(tmp_path, status="no_device")
    missing = [{"node": "out", "operator": "Sin"}, {"node": "sum", "operator": "CumSum"}]
    gone["metadata"]["made_by"] = {"trt": {"compiled": {"chip": "orin", "unsupported_layers": missing}}}
    assert "ncs for orin: unsupported: out (Sin), sum (CumSum)\n" in shown([gone], tmp_path, capsys)


def test_where_the_time_of_a_measured_inference_went(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown([samples.stick(tmp_path)], tmp_path, capsys)
    assert "ncs on MYRIAD, fp16: device 18.1 ms, transport 4.27 ms, host 0.93 ms\n" in text
    assert "compiled for" not in text
