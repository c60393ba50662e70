"""The answer, the doubts, and how numbers are shown; none of it needs the report's toolchain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import samples
from tests.report.samples import latencies_ns, measured, record
from tools.report import text
from tools.report.answer import answer, doubts, host_doubts
from tools.report.results import Run, read
from tools.stage import InvalidRequest


def run_of(folder: Path, *records: dict[str, Any], **run: Any) -> Run:
    return read(samples.write(folder, list(records), **run))


def test_fastest_is_compared_with_plain_tflite(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        measured(tmp_path, latencies_ns(9, 500), backend="onnx"),
        measured(tmp_path, latencies_ns(10, 500), backend="tflite", runtime="litert"),
        measured(tmp_path, latencies_ns(12, 500), backend="tflite", runtime="tflite-runtime"),
        measured(tmp_path, latencies_ns(6, 500), backend="openvino"),
    )
    found = answer(run, "squeezenet")
    assert (found.verdict, found.fastest.backend, found.baseline.runtime) == (
        "faster",
        "openvino",
        "tflite-runtime",
    )
    assert found.ratio == pytest.approx(2, rel=0.01)
    assert 0 < found.ratio_rel < 0.02


def test_without_tflite_the_first_cpu_runtime_is_the_baseline(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        measured(tmp_path, latencies_ns(4, 500), backend="tensorrt", device="GPU"),
        measured(tmp_path, latencies_ns(9, 500), backend="onnx"),
        measured(tmp_path, latencies_ns(6, 500), backend="openvino"),
    )
    found = answer(run, "squeezenet")
    assert (found.fastest.backend, found.baseline.backend) == ("tensorrt", "onnx")
    assert "first CPU runtime" in found.baseline_why


def test_medians_within_their_intervals_are_a_tie(tmp_path: Path) -> None:
    same = latencies_ns(8, 300)
    other = np.round(0.999 * same).astype("<i8")
    run = run_of(tmp_path, measured(tmp_path, same), measured(tmp_path, other, backend="onnx"))
    assert answer(run, "squeezenet").verdict == "tie"


def test_intervals_that_reach_the_baseline_are_a_tie(tmp_path: Path) -> None:
    fast, slow = (
        measured(tmp_path, latencies_ns(ms, 300), backend=name) for ms, name in [(10, "a"), (13, "b")]
    )
    for made in (fast, slow):
        made["latency_ms"]["ci95_rel"] = 0.18  # 1.3 times as fast, give or take a quarter
    assert answer(run_of(tmp_path, slow, fast), "squeezenet").verdict == "tie"
    fast["latency_ms"]["ci95_rel"] = slow["latency_ms"]["ci95_rel"] = 0.1
    assert answer(run_of(tmp_path, slow, fast), "squeezenet").verdict == "faster"


def test_other_verdicts(tmp_path: Path) -> None:
    alone = run_of(tmp_path, measured(tmp_path, latencies_ns(8, 300)))
    assert answer(alone, "squeezenet").verdict == "baseline_fastest"
    on_gpu = run_of(tmp_path, measured(tmp_path, latencies_ns(8, 300), device="GPU"))
    assert answer(on_gpu, "squeezenet").verdict == "no_baseline"
    nothing = run_of(tmp_path, record(status="failed"), record(backend="ncs", status="no_device"))
    assert answer(nothing, "squeezenet").verdict == "nothing"
    assert answer(nothing, "squeezenet").others == {"failed": 1, "no_device": 1}


def test_stand_ins_and_wrong_outputs_are_never_the_fastest(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        measured(tmp_path, latencies_ns(8, 300)),
        measured(tmp_path, latencies_ns(1, 300), backend="ncs", simulated=True),
        record(backend="snpe", status="wrong_output"),
    )
    found = answer(run, "squeezenet")
    assert (found.fastest.backend, found.measured, found.simulated) == ("tflite", 1, 1)
    assert [wrong.backend for wrong in found.wrong] == ["snpe"]
    assert found.against_baseline(run.records[1]) is None


def doubts_of(folder: Path, ns: np.ndarray, host: dict[str, Any] | None = None, **fields: Any) -> str:
    run = run_of(folder, measured(folder, ns, **fields), host=samples.HOST | (host or {}))
    return " ".join(doubts(run.records[0], run)).replace("\N{NO-BREAK SPACE}", " ")


def test_a_clean_measurement_raises_no_doubt(tmp_path: Path) -> None:
    assert doubts_of(tmp_path, latencies_ns(8, 2000)) == ""


def test_what_makes_a_measurement_doubtful(tmp_path: Path) -> None:
    assert "11 % slower" in doubts_of(tmp_path, latencies_ns(8, 2000, drift=0.13))
    assert "95 % interval" in doubts_of(tmp_path, np.linspace(5e6, 9e6, 100).astype("<i8"))
    assert "load 4.0 on 2 cores" in doubts_of(tmp_path, latencies_ns(8, 2000), metadata={"load_1m": 4.0})
    assert "3.9 requests in flight" in doubts_of(tmp_path, latencies_ns(8, 2000), throughput_per_s=490.0)
    assert "unplugged" in doubts_of(tmp_path, latencies_ns(8, 2000), metadata={"warnings": ["unplugged"]})


def test_samples_that_are_not_those_of_the_record(tmp_path: Path) -> None:
    run = run_of(tmp_path, measured(tmp_path, latencies_ns(8, 2000)))
    latencies_ns(9, 2000).tofile(tmp_path / run.records[0].samples)
    assert "does not fit" in " ".join(doubts(run.records[0], run))


def test_host_doubts(tmp_path: Path) -> None:
    host = {"governor": "ondemand", "load_1m": 5.0, "virtual": "yes"}
    found = " ".join(host_doubts(run_of(tmp_path, host=samples.HOST | host)))
    assert "ondemand" in found
    assert "load 5.0" in found
    assert "virtual machine" in found
    assert not host_doubts(run_of(tmp_path, host={}))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ('{"schema": 1, "run": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not JSON"),
        ("[]", "schema None"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1, "records": []}', "no field 'run'"),
        ('{"schema": 1, "run": [], "records": []}', "run"),
    ],
)
def test_what_is_not_a_results_file(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=what) as caught:
        read(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"status": "skipped"},
        {"latency_ms": "fast"},
        {"latency_ms": {"p50": 1}},
        {"load_ms": "1"},
        {"model": 5},
        {"samples": 3},
        {"unknown": 1},
        {"versions": 7},
    ],
)
def test_records_that_are_not_of_the_schema(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="record 1"):
        run_of(tmp_path, record(status="failed") | change)


def test_not_utf8_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not JSON"):
        read(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, text.NONE),
        (0, "0"),
        (6.1234, "6.12"),
        (0.012345, "0.0123"),
        (12.0, "12.0"),
        (1234.5, "1,234"),
        (3.1e-7, "3.10e-07"),
        (-45.67, "-45.7"),
    ],
)
def test_significant_digits(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


def test_all_agree_only_where_all_do() -> None:
    sizes = [text.size(number_of).replace(text.NBSP, " ") for number_of in (2_002, 150_528, 11_589_376)]
    assert sizes == ["2,002 B", "151 kB", "11.6 MB"]
    assert text.share(1.0).startswith("100")
    assert text.share(0.9999).startswith("99.9")
    assert text.cosine(0.9999994) == "0.9999994"


def test_links_stay_relative() -> None:
    assert text.href("../../store/a b/x.i64") == "../../store/a%20b/x.i64"
    assert text.href("javascript:alert(1)") == "javascript%3Aalert%281%29"
    assert text.href("//evil.example/x") == "evil.example/x"


@pytest.mark.parametrize(
    "change",
    [
        {"breakdown_ms": {"device": "18.1"}},
        {"breakdown_ms": {"device": None}},
        {"metadata": {"made_by": {"ncs.convert": {"compiled": {"stages": 324}}}}},
        {"metadata": {"made_by": {"ncs.convert": {"compiled": {"chip": "2480", "blob_bytes": "12 MB"}}}}},
    ],
)
def test_facts_of_the_wrong_kind_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="record 1"):
        run_of(tmp_path, measured(tmp_path, latencies_ns(8, 300)) | change)


def test_an_emulated_check_is_no_failure(tmp_path: Path) -> None:
    found = answer(run_of(tmp_path, record(status="no_sdk"), samples.emulated("squeezenet")), "squeezenet")
    assert [record.backend for record in found.emulated] == ["ncs"]
    assert found.others == {"no_sdk": 1}
