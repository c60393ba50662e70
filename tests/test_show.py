"""What the terminal says of a run beside its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host import show
from tests.report import samples


def shown(records: list[dict[str, Any]], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    run: dict[str, Any] = {"weights": {}, "builds": {}}
    show.outcomes({"run": run, "records": records}, {}, folder, as_json=False)
    return capsys.readouterr().out


def test_what_was_compiled_without_a_device_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = samples.stick(tmp_path, status="no_device")
    text = shown([gone, {**gone, "status": "emulated"}], tmp_path, capsys)
    assert text.count("ncs compiled for 2480: 324 stages, 7 shaves, 11.6 MB blob\n") == 1
    assert text.count("ncs compiled for 2450: 171 stages, 12 shaves, 11.6 MB blob\n") == 1


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
