"""Joulescope, X-NUCLEO-LPM01A, PTDaemon and replay, against stand-ins that speak their protocols."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from host import ROOT
from tests.lab.virtual_joulescope import Driver
from tests.lab.virtual_powershield import PowerShield
from tests.lab.virtual_powershield import running as board_running
from tests.lab.virtual_ptdaemon import Daemon, running
from tests.lab.virtual_usb import VirtualHost
from tests.meters.conftest import Record
from tools import recording
from tools.meters import joulescope, lpm01a, ptdaemon
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported
from tools.trace import Channel, Meta, Trace, read, write

JS220 = {"idVendor": "16d0", "idProduct": "10ba", "product": "JS220", "serial": "001122"}


@pytest.mark.parametrize(("path", "hz"), [("u/js220/001122", 1_000_000), ("u/js110/000404", 2_000_000)])
def test_a_joulescopes_means_and_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, hz: int
) -> None:
    monkeypatch.chdir(tmp_path)
    driver = Driver(path)
    with joulescope.opened(tmp_path, "", 100.0, lambda: driver) as reader:
        meta = recording.record(reader, tmp_path / "t", duration_s=1.0)
    trace = read(tmp_path / "t")
    assert driver.published[f"{path}/s/stats/scnt"] == hz // 100
    assert driver.opened == []
    assert np.diff(trace.time_s) == pytest.approx(0.01)
    assert trace.columns["main_j"][-1] == pytest.approx(0.5 * 2 * 0.5 + 0.5 * 2 * 1.5, rel=0.02)
    assert trace.power_w("main").max() == pytest.approx(3.0)
    assert meta.channels["main"].average_s == 0.01
    assert meta.clock
    assert (meta.dropped, meta.simulated, meta.serial) == (0, True, path[-6:])


def test_a_joulescope_that_loses_blocks_and_then_its_cable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(joulescope, "SILENCE_LIMIT_S", 0.3)
    driver = Driver("u/js220/001122", lost=(20, 21), unplug_at=40)
    with (
        joulescope.opened(tmp_path, "001122", 100.0, lambda: driver) as reader,
        pytest.raises(DeviceNotFound, match="sends nothing any more"),
    ):
        recording.record(reader, tmp_path / "t")
    trace = read(tmp_path / "t")
    gap = np.flatnonzero(np.isnan(trace.columns["main_j"]))
    assert list(gap) == [20]
    assert trace.time_s[19:22] == pytest.approx([0.20, 0.21, 0.23])
    assert trace.columns["main_j"][21] == pytest.approx(0.23)  # 1 W: the counter went on meanwhile
    assert (trace.meta.dropped, trace.meta.complete) == (2, False)


@pytest.mark.parametrize(
    ("paths", "serial", "error", "message"),
    [
        ((), "", DeviceNotFound, "there is no Joulescope"),
        (("u/js220/1",), "2", DeviceNotFound, "no Joulescope 2"),
        (("u/js220/1", "u/js110/2"), "", InvalidRequest, "there are 2"),
        (("u/js320/1",), "", Unsupported, "js320"),
    ],
)
def test_joulescopes_that_are_not_there(
    tmp_path: Path, paths: tuple[str, ...], serial: str, error: type[StageError], message: str
) -> None:
    with (
        pytest.raises(error, match=message) as caught,
        joulescope.opened(tmp_path, serial, 100.0, lambda: Driver(*paths)),
    ):
        pass
    assert caught.value.hint


def test_a_joulescope_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    VirtualHost(tmp_path).plug("1-2", JS220)
    assert joulescope.present(tmp_path)[0].serial == "001122"
    monkeypatch.setattr("os.access", lambda *_: False)  # root may open all
    with (
        pytest.raises(DeviceNotFound, match="may not be opened") as caught,
        joulescope.opened(tmp_path, "", 100.0, Driver),
    ):
        pass
    assert "udev" in caught.value.hint


def test_the_makers_library_finds_none(tool_python: Callable[[str], Path]) -> None:
    script = """
from pathlib import Path
from tools.meters import joulescope
from tools.stage import DeviceNotFound
try:
    with joulescope.opened(Path("/"), "no-such-serial", 100.0): pass
except DeviceNotFound as error:
    print(error)
"""
    argv = [tool_python("meters"), "-c", script]
    done = subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert "no Joulescope no-such-serial" in done.stdout


def test_a_powershields_samples(tmp_path: Path, record: Record) -> None:
    board = PowerShield()
    board.show(tmp_path)
    board.lost, board.cut, board.events = set(range(1200, 1240)), {300}, {100, 600}
    with board_running(board):
        result, trace = record("lpm01a", tmp_path, duration_s=2.6, vout_v=3.0)
    assert not result.error
    assert trace
    assert "volt 3000m" in board.said
    assert board.said[-2:] == ["stop", "hrc"]
    power = trace.power_w("main")
    assert power[:5] == pytest.approx(0.010)
    assert np.nanmax(power) == pytest.approx(0.030)
    assert list(np.flatnonzero(np.isnan(power))) == [300, 1960]  # the half line; 40 lost, told at 2 s
    assert trace.time_s[299] == pytest.approx(0.3)
    assert trace.time_s[1961] == pytest.approx(2.001)
    marks = np.flatnonzero(np.diff(trace.columns["marker"].astype(int)))
    assert list(marks) == [99, 599]
    assert result.metrics["dropped"] == 41
    assert (trace.meta.firmware, trace.meta.serial, trace.meta.supply_v) == ("1.0.6", "SIM0001", 3.0)
    assert trace.meta.simulated


def test_a_powershield_that_is_pulled_out(tmp_path: Path, record: Record) -> None:
    board = PowerShield()
    board.show(tmp_path)
    board.unplug_at = 500
    with board_running(board):
        result, trace = record("lpm01a", tmp_path, vout_v=1.8)
    assert result.error
    assert result.error["exit_code"] == 4
    assert trace
    assert not trace.meta.complete


@pytest.mark.parametrize(
    ("params", "exit_code", "message"),
    [
        ({}, 2, "it has to be told the voltage"),
        ({"vout_v": 5.0}, 2, "5 V is not possible"),
        ({"vout_v": 3.0, "rate_hz": 3000.0}, 2, "does not sample at 3000 Hz"),
        ({"vout_v": 3.0, "meter_serial": "OTHER"}, 4, "no X-NUCLEO-LPM01A OTHER"),
    ],
)
def test_a_powershield_asked_for_what_it_cannot(
    tmp_path: Path, record: Record, params: dict[str, float], exit_code: int, message: str
) -> None:
    board = PowerShield()
    board.show(tmp_path)
    assert lpm01a.present(tmp_path)[0].serial == "SIM0001"
    with board_running(board):
        result, _ = record("lpm01a", tmp_path, **params)
    assert result.error
    assert result.error["exit_code"] == exit_code
    assert message in result.error["message"]
    assert "start" not in board.said


class Silent:
    """A shield that says what the test says, for what comes of a line."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def command(self, _: str) -> str:
        return ""

    def lines(self) -> list[str]:
        return [self._lines.pop(0)] if self._lines else []


class Port:
    """A serial port that has one piece of text."""

    in_waiting = 1

    def __init__(self, text: str) -> None:
        self._text = text

    def write(self, _: bytes) -> None:
        pass

    def read(self, _: int) -> bytes:
        text, self._text = self._text, ""
        return text.encode()


def test_samples_in_one_piece_with_the_answer_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pyserial = SimpleNamespace(SerialException=OSError)
    monkeypatch.setitem(sys.modules, "serial", pyserial)
    text = "\r\nPowerShield > ack start\r\n\r\n6409-07\r\n6410-07\r\n"
    shield = lpm01a.Shield(Port(text), Path("/dev/ttyACM0"))
    assert shield.command("start") == ""
    assert shield.lines() == ["6409-07", "6410-07"]


def test_a_powershields_clock_of_three_digits() -> None:
    """Its seconds go back to 0 after 999."""
    samples = lpm01a.Samples(Silent(), "", 1, 3.0, simulated=True) if False else None
    shield = Silent(
        "6409-07", "TimeStamp: 999s 000ms, buff 05%", "6409-07", "TimeStamp: 000s 000ms, buff 05%"
    )
    samples = lpm01a.Samples(shield, "", 1000, 3.0, simulated=True)  # type: ignore[arg-type]
    rows = [samples.read() for _ in range(4)]
    assert rows[0]["main_w"] == pytest.approx([0.6409])  # 6409e-7 J in 1 ms
    assert samples.meta.dropped == 998_999 + 999
    assert rows[3]["time_s"][0] == pytest.approx(999.5, abs=0.01)


@pytest.mark.parametrize("line", ["error: overrun", "TimeStamp: 000s 001ms, buff 05%"])
def test_a_powershield_that_says_what_cannot_be(line: str) -> None:
    samples = lpm01a.Samples(Silent("6409-07" * 9, line), "", 1000, 3.0, simulated=True)  # type: ignore[arg-type]
    assert len(samples.read()["time_s"]) == 9
    with pytest.raises(StageError, match=r"stopped|more than its time stamp allows"):
        samples.read()


@pytest.mark.parametrize("form", ["%d-%m-%Y", "%m-%d-%Y"])
def test_what_a_ptdaemon_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(tmp_path)
    with running(Daemon(form)) as daemon:
        daemon.skipped = {7, 8}
        with ptdaemon.opened(daemon.address) as reader:
            meta = recording.record(reader, tmp_path / "t", duration_s=20.0)
        assert daemon.said[-1] == "Stop"
    trace = read(tmp_path / "t")
    assert list(trace.time_s[:10]) == [0, 1, 2, 3, 4, 5, 6, 7.5, 9, 10]
    assert np.isnan(trace.power_w("wall")[7])
    assert trace.power_w("wall")[0] == pytest.approx(22.95)  # not 228.57 V x 0.20643 A: there is a phase
    assert meta.dropped == 2
    assert meta.simulated
    assert meta.channels["wall"].average_s == 1.0


def test_direct_current_by_ptdaemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with running(Daemon(direct_current=True)) as daemon, ptdaemon.opened(daemon.address) as reader:
        recording.record(reader, tmp_path / "t", duration_s=5.0)
        assert "DC-RL" in daemon.said


@pytest.mark.parametrize(
    ("text", "today", "order"),
    [
        ("28-12-2020 15:21:14.682", dt.date(2020, 12, 28), "DD-MM-YYYY"),
        ("12-28-2020 15:21:14.682", dt.date(2020, 12, 28), "MM-DD-YYYY"),
        ("03-04-2026 00:00:00.000", dt.date(2026, 4, 3), "DD-MM-YYYY"),
        ("03-04-2026 00:00:00.000", dt.date(2026, 3, 4), "MM-DD-YYYY"),
        ("01-02-2026 00:00:01.000", dt.date(2026, 1, 31), "DD-MM-YYYY"),
    ],
)
def test_which_is_the_day_and_which_the_month(text: str, today: dt.date, order: str) -> None:
    assert ptdaemon.date_order(text, today) == order


@pytest.mark.parametrize("line", ["", "Time,1", "Time,28-12-2020 15:21:14.682,Watts,x", "Watts,1.0,Volts,1"])
def test_samples_of_a_ptdaemon_that_are_none(line: str) -> None:
    with pytest.raises(StageError, match="not understood"):
        ptdaemon.parse(line)


def test_what_a_ptdaemon_does_not_know() -> None:
    line = "Time,28-12-2020 15:21:14.682,Watts,22.950000,Volts,-1.000000,Amps,-1.000000,Mark,x"
    _, power, current, voltage = ptdaemon.parse(line)
    assert power == 22.95
    assert np.isnan([current, voltage]).all()


def test_a_ptdaemon_that_ends(tmp_path: Path, record: Record) -> None:
    with running(Daemon()) as daemon:
        daemon.lives_s = 2.0
        result, trace = record("ptdaemon", address=daemon.address)
    assert result.error
    assert result.error["exit_code"] == 4
    assert "it ended" in result.error["message"]
    assert trace
    assert not trace.meta.complete


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:port"])
def test_no_ptdaemon(record: Record, address: str) -> None:
    result, _ = record("ptdaemon", address=address)
    assert result.error
    assert result.error["exit_code"] == 4
    assert "--engine venv" in result.error["hint"]


def recorded(path: Path, *, simulated: bool) -> Path:
    times = np.arange(0, 1.0, 0.01) + 5.0
    power = np.where(np.arange(100) == 50, np.nan, 2.0)
    meta = Meta("monsoon", "Monsoon HVPM", "42", dropped=1, simulated=simulated, channels={"main": Channel()})
    write(path, Trace(times, {"main_w": power, "marker": np.arange(100, dtype=np.uint8)}, meta))
    return path


@pytest.mark.parametrize("simulated", [True, False])
def test_a_replay_is_the_trace_in_its_time(tmp_path: Path, record: Record, simulated: bool) -> None:
    source = recorded(tmp_path / "before.parquet", simulated=simulated)
    _, trace = record("replay", inputs={"recorded": source}, speed=5.0)
    before = read(source)
    assert trace
    assert np.array_equal(trace.time_s, before.time_s)
    assert all(np.array_equal(trace.columns[k], before.columns[k], equal_nan=True) for k in before.columns)
    assert (trace.meta.meter, trace.meta.device) == ("replay", "replay of Monsoon HVPM")
    assert trace.meta.note == "Replay of before.parquet, which monsoon recorded."
    assert (trace.meta.simulated, trace.meta.dropped) == (simulated, 1)


def test_a_replay_that_cannot_be(tmp_path: Path, record: Record) -> None:
    result, _ = record("replay")
    assert result.error
    assert "--input recorded=" in result.error["hint"]


def test_a_replay_of_another_file(tmp_path: Path, record: Record) -> None:
    (tmp_path / "x.parquet").write_text("no trace")
    result, _ = record("replay", inputs={"recorded": tmp_path / "x.parquet"}, speed=0.0)
    assert result.error
    assert (result.error["exit_code"], "no power trace" in result.error["message"]) == (2, True)


def test_a_serial_number_where_there_is_none(record: Record) -> None:
    result, _ = record("rapl", meter_serial="42")
    assert result.error
    assert result.error["exit_code"] == 2
