"""Other programs' files of traces: what is read is what was measured, and what is damaged is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools import trace
from tools.stage import InvalidRequest
from tools.trace import Meta, Trace
from tools.trace_files import powertool, pt4, read, write_csv, write_pt4

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER = "Time(s),Main(mA),Main Voltage(V)"
POWERTOOL = "Time (s),Main Avg Current (mA),Main Avg Power (mW),Main Avg Voltage (V)"


def sample(**meta: object) -> Trace:
    """2 s at 5 kHz in both ranges of the current, with a gap of ten samples after the first second."""
    count = 10000
    time_s = np.arange(count) / 5000
    current = np.where(np.arange(count) % 1000 < 500, 0.4, -0.020)
    current[5000:5010] = np.nan
    voltage = np.where(np.isnan(current), np.nan, 4.2)
    marker = (np.arange(count) // 1000 % 4).astype(np.uint8)
    marker[5000:5010] = 0
    facts = {"meter": "monsoon", "serial": "4742", "rate_hz": 5000.0, "supply_v": 4.2, **meta}
    return Trace(time_s, {"main_a": current, "main_v": voltage, "marker": marker}, Meta(**facts))  # type: ignore[arg-type]


@pytest.fixture
def pt4_file(tmp_path: Path) -> Path:
    write_pt4(tmp_path / "sample.pt4", sample())
    return tmp_path / "sample.pt4"


def put(path: Path, offset: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(path)
    assert caught.value.hint
    return str(caught.value)


def test_a_written_pt4_comes_back_within_half_a_step(pt4_file: Path) -> None:
    first, again = sample(), read(pt4_file)
    np.testing.assert_array_equal(again.time_s, first.time_s)
    for name, step in (("main_a", 2e-6), ("main_v", 5e-4)):
        coarse = np.where(np.abs(first.columns["main_a"]) > 0.032, 5e-4, step) if name == "main_a" else step
        error = np.abs(again.columns[name] - first.columns[name])
        assert np.nanmax(error / coarse) <= 0.501
        assert (np.isnan(again.columns[name]) == np.isnan(first.columns[name])).all()
    np.testing.assert_array_equal(again.columns["marker"], first.columns["marker"])
    assert (again.meta.serial, again.meta.supply_v, again.meta.dropped, again.meta.undated) == (
        *("4742", 4.2),
        *(10, 0),
    )


def test_the_words_of_a_pt4_by_hand(pt4_file: Path) -> None:
    """The rules of the manual, a word each: fine, coarse, negative, missing, and what looks like missing."""
    samples = powertool.SAMPLES_AT
    words = [(0x0002, 0x0004), (0x0003, 0xFFFC), (0xFFFE, 0x8000), (0x8001, 0xFFFF), (0x7001, 0x8003)]
    put(pt4_file, samples, np.array(words, "<u2").tobytes())
    got = read(pt4_file)
    assert got.columns["main_a"][:3] == pytest.approx([2e-6, 5e-4, -2e-6])
    assert got.columns["main_v"][:3] == pytest.approx([0.0005, 8.1915, 4.096])
    assert np.isnan(got.columns["main_a"][3])
    assert np.isnan(got.columns["main_v"][3])
    assert got.columns["main_a"][4] == pytest.approx(7.168)  # which some readers take for missing
    assert got.columns["marker"][4] == 3


def test_samples_that_are_only_counted_as_missing_leave_the_time_too_short(pt4_file: Path) -> None:
    """As in a real capture: 716 of 64381 samples are missing, and no record says where."""
    write_pt4(pt4_file, sample(undated=716))
    got = read(pt4_file)
    assert (got.meta.dropped, got.meta.undated, len(got.time_s)) == (726, 716, 10000)
    assert "716 samples" in got.meta.note


def test_what_is_simulated_stays_so_in_a_pt4(tmp_path: Path) -> None:
    write_pt4(tmp_path / "a.pt4", sample(simulated=True))
    assert read(tmp_path / "a.pt4").meta.simulated


@pytest.mark.parametrize("size", [0, 100, 1023, 1025, 1024 + 4 * 5000, 1024 + 4 * 9999])
def test_a_pt4_that_is_cut_off_is_refused(pt4_file: Path, size: int) -> None:
    pt4_file.write_bytes(pt4_file.read_bytes()[:size])
    assert "cut off" in refused(pt4_file) or size == 0


def test_a_header_that_claims_more_than_the_file_takes_no_memory(pt4_file: Path) -> None:
    put(pt4_file, 160, (1 << 60).to_bytes(8, "little"))
    assert "cut off" in refused(pt4_file)
    assert "describes no samples" in refused(put(pt4_file, 150, b"\0\0"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"main_a": np.full(10000, 8.3)}, "8.3 A"),
        ({"main_v": np.full(10000, 13.5)}, "13.5 V"),
        ({"time_s": np.arange(10000) / 1000}, "missing than is there"),
        ({"time_s": np.arange(10000) / 7000}, "has others"),
        ({"main_v": None}, "needs current and voltage"),
    ],
)
def test_what_does_not_fit_into_a_pt4_is_refused(
    tmp_path: Path, change: dict[str, np.ndarray], complaint: str
) -> None:
    whole = sample()
    columns = {**whole.columns, **change}
    time_s = columns.pop("time_s", whole.time_s)
    columns = {name: column for name, column in columns.items() if column is not None}
    with pytest.raises(InvalidRequest, match=complaint):
        write_pt4(tmp_path / "a.pt4", Trace(time_s, columns, whole.meta))
    assert not (tmp_path / "a.pt4").exists()


def test_a_pt5_is_read_as_others_read_it_and_says_that_it_is_not_verified(pt4_file: Path) -> None:
    table = np.zeros(3, [("main", "<i4"), ("voltage", "<u2")])
    table["main"] = [1_500_000, -20, 0]
    table["voltage"] = [4200 << 2, 4200 << 2, 0xFFFF]
    head = pt4_file.read_bytes()[: powertool.SAMPLES_AT]
    pt4_file.write_bytes(head + table.tobytes())
    put(pt4_file, 150, (6).to_bytes(2, "little"))
    put(pt4_file, 160, (3).to_bytes(8, "little") + (1).to_bytes(8, "little"))
    for supply_v, volts in ((8.4, 8.4), (4.1, 4.2)):
        put(pt4_file, 64, np.float32(supply_v).tobytes())
        got = read(pt4_file)
        assert got.columns["main_a"][:2] == pytest.approx([1.5, -20e-6])
        assert got.columns["main_v"][0] == pytest.approx(volts)
        assert np.isnan(got.columns["main_v"][2])
        assert got.meta.dropped == 1
        assert "not verified" in got.meta.note


def test_a_written_csv_has_the_three_columns_and_comes_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", sample())
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert (lines[0], lines[1], lines[5001]) == (HEADER, "0,400,4.2", "1,,")
    again = read(tmp_path / "a.csv")
    np.testing.assert_allclose(again.columns["main_a"], sample().columns["main_a"], atol=1e-9)
    np.testing.assert_allclose(again.time_s, sample().time_s, atol=1e-7)
    assert (again.meta.rate_hz, again.meta.dropped) == (5000, 10)
    with pytest.raises(InvalidRequest, match="channel usb"):
        write_csv(tmp_path / "a.csv", sample(), "usb")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (f"{HEADER}\n0,1500,4.2\n0.1,-2,4.3\n", {"main_a": [1.5, -0.002], "main_v": [4.2, 4.3]}),
        (f"\ufeff{HEADER}\r\n0,1500,4.2\r\n0.1,-2,4.3", {"main_a": [1.5, -0.002], "main_v": [4.2, 4.3]}),
        (
            f"{POWERTOOL}\n 0, 2, 8, 4\n 1, 3, 12, 4\n",
            {"main_a": [0.002, 0.003], "main_w": [0.008, 0.012], "main_v": [4, 4]},
        ),
        (
            "time,current,power,marker\n 0.0000,349.0,1585.3,marker1\n 0.0002,1,2,marker0\n 0.0004,1,2,\n",
            {"main_a": [0.349, 0.001, 0.001], "main_w": [1.5853, 0.002, 0.002], "marker": [2, 1, 0]},
        ),
        (
            "Time(s);Main(mA);USB(\u00b5A)\n0,5;1,5;7\n1;2;8\n",
            {"main_a": [0.0015, 0.002], "usb_a": [7e-6, 8e-6]},
        ),
        (
            "time_s\tmain_a\tmain_v\tmarker\n0\t1\t4\t255\n1\t2\t4\t0\n",
            {"main_a": [1, 2], "marker": [255, 0]},
        ),
        (
            "Time(us),Main(A),Main Voltage(mV)\n0,1,4200\n200,2,4300\n",
            {"main_a": [1, 2], "main_v": [4.2, 4.3]},
        ),
    ],
)
def test_units_come_from_the_columns_names(
    tmp_path: Path, text: str, columns: dict[str, list[float]]
) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    got = read(tmp_path / "a.csv")
    for name, values in columns.items():
        assert got.columns[name] == pytest.approx(values), name


def test_a_windows_file_with_its_own_letter_for_micro(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Time(s)\tMain(\u00b5A)\n0\t5\n1\t5\n", encoding="latin-1")
    assert read(tmp_path / "a.csv").columns["main_a"] == pytest.approx([5e-6, 5e-6])
    (tmp_path / "a.csv").write_text("Time(s)\tMain(\u00b5A)\n0\t5\n1\t5\n", encoding="utf-16")
    assert read(tmp_path / "a.csv").columns["main_a"] == pytest.approx([5e-6, 5e-6])


def test_the_seconds_that_pymonsoon_calls_ms(tmp_path: Path) -> None:
    """Three samples share a time, each line ends in a comma, and 1 of 21 packets is lost."""
    arrivals = [0.0006 * (number // 3) for number in range(6300) if number // 3 % 21]
    lines = "".join(f"{arrival:.4f},{100 + number},4.0,\n" for number, arrival in enumerate(arrivals))
    (tmp_path / "a.csv").write_text(f"Time(ms),Main(mA),Main Voltage(V),\n{lines}")
    got = read(tmp_path / "a.csv")
    assert got.time_s[-1] == pytest.approx((len(arrivals) - 1) / 5000)
    assert got.meta.undated == pytest.approx(300, abs=5)
    assert "PyMonsoon" in got.meta.note
    (tmp_path / "a.csv").write_text("Time(ms),Main(mA)\n0,1\n0.2,1\n0.4,1\n")
    assert read(tmp_path / "a.csv").time_s == pytest.approx([0, 0.0002, 0.0004])


def test_a_jump_in_a_steady_time_is_a_gap(tmp_path: Path) -> None:
    times = [number / 5000 for number in range(1000) if not 500 <= number < 507]
    rows = "".join(f"{time_s:.4f},1,4\n" for time_s in times)
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{rows}")
    got = read(tmp_path / "a.csv")
    assert got.meta.dropped == 7
    assert got.time_s[500] == pytest.approx(0.1)
    assert np.isnan(got.columns["main_a"]).nonzero()[0].tolist() == [500]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("1,2,3\n4,5,6\n", "names no columns"),
        (f"{HEADER}\n", "no samples"),
        ("Time(s),Main(kA)\n0,1\n", "'Main\\(kA\\)' is not known"),
        ("Time(s),Main\n0,1\n", "'Main' is not known"),
        ("Time(s),Main(mA),Comment\n0,1,hello\n", "'Comment' is not known"),
        ("Main(mA),Main Voltage(V)\n0,1\n", "no column for time_s"),
        ("Time(s),Main(mA),Main(A)\n0,1,1\n", "two columns for main_a"),
        (f"{HEADER}\n0,0,1,5,4,2\n0,1,1,5,4,2\n", "cannot be told apart"),
        (f"{HEADER}\n0,1,4\n0.1,2\n", "cut off"),
        (f"{HEADER}\n0,1,4\n0.2,1,4\n0.1,1,4\n", "does not rise"),
        (f"{HEADER}\n0,1,4\n0,1,4\n", "does not rise"),
        (f"{HEADER}\nnan,1,4\n", "without a time"),
        (f"{HEADER}\n0,1,-3.642\n", "negative"),
        (f"{HEADER}\n0,inf,4\n", "infinite"),
        (f"{HEADER}\n0,abc,4\n", "not a table of numbers"),
        (f"{HEADER}\n0,np.float64(1.0),4\n", "NumPy 2"),
        ("Time(s),Main(mA),marker\n0,1,256\n", "no marker"),
    ],
)
def test_a_table_that_one_cannot_calculate_with_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidRequest, match=complaint) as caught:
        read(tmp_path / "a.csv")
    assert caught.value.hint


def test_what_is_no_trace_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.pt4").write_bytes(bytes(range(256)) * 8)
    assert "neither" in refused(tmp_path / "a.pt4")
    assert "cannot be read" in refused(tmp_path / "nothing")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    assert "no power trace" in refused(tmp_path / "a.parquet")


def test_a_parquet_trace_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    trace.write(tmp_path / "a.pt4", sample())
    assert read(tmp_path / "a.pt4").meta == sample().meta


def tolerated(path: Path) -> None:
    """Read what may be anything: a trace that one can calculate with, or an error that a user can read."""
    try:
        got = read(path)
    except InvalidRequest:
        return
    assert np.isfinite(got.time_s).all()
    assert all(len(column) == len(got.time_s) for column in got.columns.values())
    assert len(got.time_s) <= 2 * path.stat().st_size


@FUZZ
@given(data=st.data())
def test_no_damage_to_a_capture_crashes_its_reader(tmp_path: Path, data: st.DataObject) -> None:
    write_pt4(tmp_path / "a.pt4", sample())
    content = bytearray((tmp_path / "a.pt4").read_bytes()[: powertool.SAMPLES_AT + 400])
    if data.draw(st.booleans()):
        content[150:152] = (6).to_bytes(2, "little")  # then it is PT5
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        junk = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(junk)] = junk
    del content[data.draw(st.integers(0, len(content))) :]
    if data.draw(st.booleans()) and len(content) > 176:
        content[160:176] = bytes(16)  # no counts: no complaint that it is cut off
    (tmp_path / "fuzz").write_bytes(content)
    tolerated(tmp_path / "fuzz")


FIELDS = st.one_of(
    st.floats(width=32).map(str),
    st.sampled_from(["", "nan", "1e400", "-0", "0x10", '"', "1,5", "4.2\r", "\u00b5", "marker1", "\0"]),
    st.text(max_size=5),
)
NAMES = st.sampled_from(
    [*HEADER.split(","), "Time(ms)", "time_s", "marker", "USB(uA)", "Main(kA)", "", "Main Avg Power (mW)"]
)


@FUZZ
@given(
    header=st.lists(NAMES, min_size=1, max_size=5),
    rows=st.lists(st.lists(FIELDS, max_size=5), max_size=6),
    separator=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_no_table_crashes_its_reader(
    tmp_path: Path, header: list[str], rows: list[list[str]], separator: str, encoding: str
) -> None:
    lines = [separator.join(line) for line in [header, *rows]]
    (tmp_path / "fuzz").write_bytes("\n".join(lines).encode(encoding, errors="replace"))
    tolerated(tmp_path / "fuzz")


@FUZZ
@given(st.binary(max_size=300), st.sampled_from([b"", powertool.START, HEADER.encode() + b"\n", b"PAR1"]))
def test_no_bytes_crash_the_readers(tmp_path: Path, content: bytes, start: bytes) -> None:
    (tmp_path / "fuzz").write_bytes(start + content)
    tolerated(tmp_path / "fuzz")


def test_the_limits_that_the_docs_state() -> None:
    limits = (pt4.COARSE_LIMIT_A, pt4.FINE_LIMIT_A, pt4.VOLTAGE_LIMIT)
    assert limits == pytest.approx((8.1915, 0.032766, 8.191))
