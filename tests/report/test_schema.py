"""The rules of results.json that the schema itself holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.report import samples
from tests.report.samples import correctness, latencies_ns, measured, record

SCHEMA = json.loads((Path(__file__).parents[2] / "host" / "results.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
NOT_OK = ("wrong_output", "unsupported", "no_device", "no_sdk", "unavailable", "emulated", "failed")


@pytest.fixture
def ok(tmp_path: Path) -> dict[str, Any]:
    return measured(tmp_path, latencies_ns(8, 300))


def errors(tmp_path: Path, *records: dict[str, Any], **run: Any) -> list[str]:
    data = json.loads(samples.write(tmp_path, list(records), **run).read_text())
    return [error.json_path for error in VALIDATOR.iter_errors(data)]


def test_schema_is_a_schema_and_describes_every_field() -> None:
    VALIDATOR.check_schema(SCHEMA)
    for name, part in SCHEMA["$defs"].items():
        for field, rule in part.get("properties", {}).items():
            described = "description" in rule or "description" in SCHEMA["$defs"][rule["$ref"].split("/")[-1]]
            assert described, f"{name}.{field}"


def test_sample_runs_are_valid(tmp_path: Path, ok: dict[str, Any]) -> None:
    assert not errors(tmp_path, ok)
    assert not errors(tmp_path)
    VALIDATOR.validate(json.loads(samples.full_run(tmp_path).read_text()))


@pytest.mark.parametrize("status", NOT_OK)
def test_not_ok_needs_nothing_but_reason_and_hint(tmp_path: Path, status: str) -> None:
    assert not errors(tmp_path, record(status=status))
    assert not errors(tmp_path, record(status=status, correctness=correctness(cosine=0.1), peak_rss_mb=80.5))


@pytest.mark.parametrize("status", NOT_OK)
@pytest.mark.parametrize(
    "field", ["latency_ms", "throughput_per_s", "samples", "load_ms", "first_inference_ms", "energy"]
)
def test_not_ok_carries_no_measurement(tmp_path: Path, ok: dict[str, Any], status: str, field: str) -> None:
    ok["energy"] = samples.energy(3.2)
    assert errors(tmp_path, record(status=status, **{field: ok[field]})) == [f"$.records[0].{field}"]


@pytest.mark.parametrize("field", ["reason", "hint"])
@pytest.mark.parametrize("value", [None, "", " \n"])
def test_not_ok_says_why_and_what_next(tmp_path: Path, field: str, value: str | None) -> None:
    assert errors(tmp_path, record(status="failed", **{field: value})) == [f"$.records[0].{field}"]


@pytest.mark.parametrize("field", ["latency_ms", "correctness"])
def test_ok_was_timed_and_compared(tmp_path: Path, ok: dict[str, Any], field: str) -> None:
    assert errors(tmp_path, ok | {field: None}) == [f"$.records[0].{field}"]


def test_an_energy_or_a_reason(tmp_path: Path, ok: dict[str, Any]) -> None:
    assert not errors(tmp_path, ok | {"energy": samples.energy(3.2), "energy_reason": None})
    assert not errors(tmp_path, ok | {"energy_reason": "no meter", "energy_hint": "Plug one in."})


@pytest.mark.parametrize(
    "change",
    [
        {"status": "skipped"},
        {"latency": 3},
        {"model": ""},
        {"engine": "podman"},
        {"samples": "/work/samples.i64"},
        {"load_ms": 0},
        {"peak_rss_mb": "80 MB"},
        {"artifacts": {"tflite": "/squeezenet.tflite"}},
        {"correctness": correctness(top1_match=1.5)},
        {"correctness": {"cosine": 1.0}},
        {"energy": {"energy_mj": 3.2}},
        {"energy": samples.energy(3.2, net_ci95_mj=[3.1])},
        {"energy": samples.energy(3.2, meter={})},
        {"energy": samples.energy(3.2), "energy_reason": "refused"},  # never a number then
        {"energy_reason": " "},
        {"metadata": {"tolerance": {"cosine": "high"}}},
        {"metadata": {"made_by": {"ncs.convert": {"compiled": {"stages": 324}}}}},
        {"metadata": {"made_by": {"ncs.convert": {"compiled": {"chip": "2480", "blob_bytes": "11.6 MB"}}}}},
        {
            "metadata": {
                "made_by": {"ncs.convert": {"compiled": {"chip": "2480", "memory_bytes": {"bss": 0.5}}}}
            }
        },
        {
            "metadata": {
                "made_by": {"ncs.convert": {"compiled": {"chip": "2480", "unsupported_layers": ["out"]}}}
            }
        },
        {"breakdown_ms": {"device": "18 ms"}},
        {"files": {"profile": "/profile.json"}},
    ],
)
def test_typing_errors_are_caught(tmp_path: Path, ok: dict[str, Any], change: dict[str, Any]) -> None:
    assert errors(tmp_path, ok | change)


@pytest.mark.parametrize("field", ["p50", "ci95_rel", "n"])
def test_latency_is_complete(tmp_path: Path, ok: dict[str, Any], field: str) -> None:
    del ok["latency_ms"][field]
    assert errors(tmp_path, ok) == ["$.records[0].latency_ms"]


@pytest.mark.parametrize(
    "change",
    [{"started": "yesterday"}, {"started": "2025-11-23T23:22:56"}, {"engine": "podman"}, {"extra": 1}],
)
def test_run_is_checked(tmp_path: Path, change: dict[str, Any]) -> None:
    assert errors(tmp_path, **change)
