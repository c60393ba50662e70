"""The table of chips: what Qualcomm's compiler says of each, and what the docs say."""

from __future__ import annotations

import re

import pytest

from host import ROOT
from tests.conftest import RunStage
from tests.snpe.conftest import Files
from tools import socs
from tools.stage import InvalidRequest, Unsupported


@pytest.mark.tool
def test_every_chip_can_be_compiled_for(run_stage: RunStage, made: Files) -> None:
    for soc in socs.SOCS:
        params = {"soc": soc.name}
        _, result = run_stage("snpe", "context-int16", inputs={"qnn_int16": made["qnn_int16"]}, params=params)
        assert result.metadata["nodes"].keys() == {"QNN"}
        if soc.float16:
            _, result = run_stage("snpe", "context", inputs={"onnx": made["onnx"]}, params=params)
            assert result.metadata["soc_model"] == soc.soc_model
            continue
        with pytest.raises(Unsupported, match="has no float16") as caught:
            run_stage("snpe", "context", inputs={"onnx": made["onnx"]}, params=params)
        assert "int16" in caught.value.hint
        with pytest.raises(Unsupported, match=r"Softmax \(softmax\)"):  # which int8 leaves in float
            run_stage("snpe", "context-int8", inputs={"qnn_int8": made["qnn_int8"]}, params=params)


def test_a_name_in_any_case() -> None:
    assert socs.find("SM8650") == socs.Soc("sm8650", 57, 75)
    with pytest.raises(InvalidRequest) as caught:
        socs.find("8gen3")
    assert "sm8350" in caught.value.hint


def test_the_docs_have_the_table() -> None:
    text = (ROOT / "docs" / "snapdragon.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| v(\d+) \| (yes|no) \|", text, re.MULTILINE)
    written = {socs.Soc(name, int(model), int(arch), float16 == "yes") for name, model, arch, float16 in rows}
    assert written == set(socs.SOCS)
