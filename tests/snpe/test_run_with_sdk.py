"""A run with an SDK and a phone, as a user starts it: .zip, builds, the way to adb, the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from host import ROOT
from tests.lab import snpe_sdk, virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tests.project import SMALL, Project

SCHEMA = json.loads((ROOT / "host" / "results.schema.json").read_text())
MISSING = virtual_phone.missing()


@pytest.mark.tool
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_record_of_a_phones_hexagon_by_an_sdk(
    tool_python: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = tmp_path / "small.toml"
    networks.write_text(SMALL)
    archive = snpe_sdk.make(tmp_path, "2.41.0.251128", phone=tool_python("snpe"))
    project = Project(ROOT, tmp_path / "work")
    with VirtualPhone(tmp_path / "phone") as lab:
        monkeypatch.setenv("ADB_SERVER_SOCKET", lab.server.address)
        options = ["--model", "small", "--model-file", str(networks), "--snpe-sdk", str(archive)]
        wanted = {"device": "DSP", "precision": "int8", "budget_s": "0.5"}
        sets = [part for key, value in wanted.items() for part in ("--set", f"{key}={value}")]
        done = project.run("run", "snpe.benchmark", *options, *sets)
    assert done.returncode == 0, done.stderr
    document = project.results()
    jsonschema.validate(document, SCHEMA)
    assert document["run"]["builds"] == {"snpe:sdk": "snpe-sdk310"}
    [record] = document["records"]
    assert (record["device"], record["status"], record["simulated"]) == ("DSP", "ok", True)
    assert record["metadata"]["sdk"]["version"] == "2.41.0.251128"
    made_by = record["metadata"]["made_by"]
    assert made_by["snpe.quantize-sdk"]["versions"]["python"].startswith("3.10.")
    assert record["breakdown_ms"].keys() == {"device", "transport", "host"}
