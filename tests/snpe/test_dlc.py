"""What a DLC holds, and files that are none: real ones of QNN, and damaged ones."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunStage
from tests.snpe.conftest import Files
from tools.stage import InvalidRequest, Unsupported

pytestmark = pytest.mark.tool

METADATA = "dlc.metadata2.3.0"


def info(run_stage: RunStage, path: Path) -> tuple[dict[str, Any], Any]:
    folder, result = run_stage("snpe", "info", inputs={"dlc": path})
    return json.loads((folder / result.outputs["table"]).read_text()), result


def parts(path: Path) -> dict[str, bytes]:
    """The parts of a DLC, which QNN stores one after the other without compression or checksum."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        found = {}
        for entry in archive.infolist():
            start = entry.header_offset + 30
            start += sum(int.from_bytes(data[at : at + 2], "little") for at in (start - 4, start - 2))
            found[entry.filename] = data[start : start + entry.file_size]
    return found


def pack(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_a_dlc_of_floats(run_stage: RunStage, made: Files) -> None:
    table, result = info(run_stage, made["dlc"])
    assert result.metadata["version"] == "2.3.0"
    assert result.metadata["operators"]["Conv2d"] == 2
    assert result.metadata["inputs"] == {"input": "float32 [1, 3, 16, 16]"}
    assert result.metadata["outputs"] == {"output": "float32 [1, 10]"}
    assert result.metrics["parameters"] >= 8 * 3 * 9 + 16 * 8 * 9 + 16 * 10 + 10
    [conv] = [node for node in table["nodes"] if node["name"].startswith("conv2")]
    assert conv["operator"] == "Conv2d"
    assert table["parts"].keys() == {
        METADATA,
        "dlc.metadata.history.2.3.0",
        "model",
        "model.params",
        "model.params.bin",
    }


def test_a_quantised_dlc_says_its_types(run_stage: RunStage, made: Files) -> None:
    for precision, kind in (("int8", "fixed uint8"), ("int16", "fixed uint16")):
        table, result = info(run_stage, made[f"dlc_{precision}"])
        assert [tensor for tensor in table["tensors"] if tensor["role"] == "inner" and tensor["type"] == kind]
        assert result.metadata["constants"]["fixed int8"] >= 2


def test_no_dlc(run_stage: RunStage, made: Files, tmp_path: Path) -> None:
    whole = made["dlc"].read_bytes()
    content = parts(made["dlc"])
    bad = {
        "garbage": b"garbage" * 1000,
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "onnx": made["onnx"].read_bytes(),
        "no-end": whole[:-10],
        "no-model": pack(tmp_path / "a", {METADATA: content[METADATA]}).read_bytes(),
        "of-other-files": pack(tmp_path / "b", {"a.txt": b"a"}).read_bytes(),
        "model-cut-off": pack(tmp_path / "c", {**content, "model": content["model"][:500]}).read_bytes(),
        "model-of-zeros": pack(tmp_path / "d", {**content, "model": bytes(5000)}).read_bytes(),
        "no-json": pack(tmp_path / "e", {**content, "dlc.metadata.history.2.3.0": b"{"}).read_bytes(),
    }
    for name, data in bad.items():
        path = tmp_path / f"{name}.dlc"
        path.write_bytes(data)
        with pytest.raises(InvalidRequest, match=rf"{name}\.dlc is not a DLC, or it is cut off") as caught:
            info(run_stage, path)
        assert "snpe.convert" in caught.value.hint


def test_damage_anywhere_in_the_graph_is_an_error_or_goes_unseen_but_ends(
    run_stage: RunStage, made: Files, tmp_path: Path
) -> None:
    content = parts(made["dlc"])
    for place in range(8, 400, 13):
        model = bytearray(content["model"])
        model[place : place + 4] = b"\xff\xff\xff\x7f"
        path = pack(tmp_path / "damaged.dlc", {**content, "model": bytes(model)})
        try:
            info(run_stage, path)
        except InvalidRequest as error:
            assert "damaged.dlc" in str(error)  # noqa: PT017 - either is right


def test_a_dlc_of_another_format(run_stage: RunStage, made: Files, tmp_path: Path) -> None:
    content = parts(made["dlc"])
    newer = {"dlc.metadata3.0.0" if name == METADATA else name: data for name, data in content.items()}
    with pytest.raises(Unsupported, match=r"is a DLC of version 3\.0\.0; version 2 is") as caught:
        info(run_stage, pack(tmp_path / "newer.dlc", newer))
    assert "snpe-dlc-info" in caught.value.hint
    for number in (3, 5):
        model = b"\xd5\x0a" + bytes([number, 0]) + content["model"][4:]
        with pytest.raises(Unsupported, match=f"is a DLC of format {number}; format 4 is"):
            info(run_stage, pack(tmp_path / "other.dlc", {**content, "model": model}))


def test_metadata_of_older_ones(run_stage: RunStage, made: Files, tmp_path: Path) -> None:
    text = b"converter-command=snpe-onnx-to-dlc input=a.onnx\nconverter-version=2.5.0.4052\n"
    older = {"dlc.metadata": text, "model": parts(made["dlc"])["model"]}
    _, result = info(run_stage, pack(tmp_path / "older.dlc", older))
    assert result.metadata["converter"] == "snpe-onnx-to-dlc 2.5.0.4052"


def test_nothing_is_extracted(run_stage: RunStage, made: Files, tmp_path: Path) -> None:
    content = parts(made["dlc"])
    escaping = pack(tmp_path / "escaping.dlc", {**content, "../../escaped": b"a", "/tmp/escaped": b"b"})
    folder, _ = run_stage("snpe", "info", inputs={"dlc": escaping})
    assert {path.name for path in folder.iterdir()} == {
        "request.json",
        "result.json",
        "log.txt",
        "m.dlc.json",
    }
    assert not list(tmp_path.parent.rglob("escaped"))

    bomb = pack(tmp_path / "bomb.dlc", {**content, "model": bytes(1 << 27)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(InvalidRequest, match="at most"):
        info(run_stage, bomb)
