"""The battery and the power monitors of the virtual phone: Android's own debug daemon, made-up readings."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tests.lab import virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tests.meters.conftest import Record
from tools.meters import battery, odpm
from tools.phone.state import battery as battery_block
from tools.phone.state import plugged
from tools.stage import StageError

DUMP = virtual_phone.DUMPS["battery"].replace("USB powered: true", "USB powered: false")
LOG = "  time=-1s, level:72, voltage:4120\n  voltage: 9999\n  level: 1\n"  # newer builds append one
GAUGE = "/sys/class/power_supply/battery"
MONITORS = "/sys/bus/iio/devices"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    if missing := virtual_phone.missing():
        pytest.skip(missing)
    with VirtualPhone(tmp_path_factory.mktemp("phone")) as phone:
        yield phone


def gauge(lab: VirtualPhone, current: object, voltage: object, status: str = "Discharging") -> None:
    lab.write(f"{GAUGE}/current_now", f"{current}\n")
    lab.write(f"{GAUGE}/voltage_now", f"{voltage}\n")
    lab.write(f"{GAUGE}/status", f"{status}\n")
    powered = "false" if status == "Discharging" else "true"
    lab.write("/vendor/etc/dumpsys/battery", DUMP.replace("USB powered: false", f"USB powered: {powered}"))


def test_only_the_first_block_of_dumpsys_counts() -> None:
    said = battery_block(DUMP + LOG)
    assert (said["voltage"], said["level"], plugged(said)) == ("4352", "83", "no")


@pytest.mark.parametrize(
    ("current", "voltage", "status", "amperes", "unit", "sign", "volts"),
    [
        (-412_345, 4_352_000, "Discharging", 0.412345, "uA", "-", 4.352),  # the kernel's ABI since 2020
        (412_345, 4_352_000, "Discharging", 0.412345, "uA", "+", 4.352),  # before
        (-412, 4352, "Discharging", 0.412, "mA", "-", 4.352),  # Samsung S21, A52s, Huawei
        (412, 4_352_000, "Discharging", 0.412, "mA", "+", 4.352),
        (500_000, 4_352_000, "Charging", -0.5, "uA", "-", 4.352),  # into the battery
    ],
)
def test_unit_and_sign_are_worked_out(
    current: int, voltage: int, status: str, amperes: float, unit: str, sign: str, volts: float
) -> None:
    found = battery.rule([(current, voltage, status)] * 3, 4352, "auto", "auto")
    assert found.of(current, voltage) == pytest.approx((amperes, volts))
    assert (found.unit, found.sign) == (unit, 1 if sign == "+" else -1)
    assert "readings was" in found.why["unit"]


def test_the_user_knows_better() -> None:
    found = battery.rule([(9_500, 4_352_000, "Charging")], 4352, "uA", "+")
    assert found.of(9_500, 4_352_000)[0] == pytest.approx(0.0095)
    assert set(found.why.values()) == {"told by the user"}


def test_a_battery_as_the_runner_records_it(lab: VirtualPhone, record: Record) -> None:
    gauge(lab, -412_345, 4_340_000)
    result, trace = record("battery", duration_s=1.0, variables={"ADB_SERVER_SOCKET": lab.server.address})
    assert not result.error
    assert trace
    assert trace.power_w("battery") == pytest.approx(0.412345 * 4.34, rel=1e-6)
    assert trace.meta.calibration["current_unit"] == "uA"
    assert trace.meta.calibration["discharge_sign_from"] == "it read -412345 while discharging"
    assert trace.meta.simulated
    assert trace.meta.note == ""
    assert len(trace.time_s) >= 3


def test_a_phone_that_is_powered_says_so(lab: VirtualPhone, record: Record) -> None:
    gauge(lab, 150_000, 4_340_000, "Charging")
    result, trace = record("battery", duration_s=0.3, variables={"ADB_SERVER_SOCKET": lab.server.address})
    assert trace
    assert "powered by USB (Charging)" in trace.meta.note
    assert "powered by USB" in result.metadata["note"]


@pytest.mark.parametrize(
    ("files", "params", "exit_code", "message"),
    [
        ({}, {"current_unit": "A"}, 2, "no such unit"),
        ({f"{GAUGE}/current_now": "n/a\n"}, {}, 1, "is no current, voltage and status"),
        ({f"{GAUGE}/current_now": ""}, {}, 1, "is no current, voltage and status"),
    ],
)
def test_a_battery_that_cannot_be_read(
    lab: VirtualPhone,
    record: Record,
    files: dict[str, str],
    params: dict[str, str],
    exit_code: int,
    message: str,
) -> None:
    gauge(lab, -1, 1)
    for path, text in files.items():
        lab.write(path, text)
    result, _ = record("battery", variables={"ADB_SERVER_SOCKET": lab.server.address}, **params)
    assert result.error
    assert (result.error["exit_code"], bool(result.error["hint"])) == (exit_code, True)
    assert message in result.error["message"]


def test_a_gauge_that_only_root_may_read(lab: VirtualPhone, record: Record) -> None:
    gauge(lab, -1, 1)
    (lab.folder / f"{GAUGE}/current_now".lstrip("/")).unlink()
    result, _ = record("battery", variables={"ADB_SERVER_SOCKET": lab.server.address})
    assert result.error
    assert result.error["exit_code"] == 3
    assert "adb root" in result.error["hint"]


def test_both_formats_of_the_monitors() -> None:
    newer = "t=473848\nCH3(T=358356)[S2M_VDD_CPUCL2], 761330\nCH0(T=358356)[VSYS_PWR_RFFE], 12\n"
    older = "473848\nVSYS_PWR_RFFE,12\nS2M_VDD_CPUCL2,761330\n"
    energies = {"S2M_VDD_CPUCL2": 0.76133, "VSYS_PWR_RFFE": 1.2e-5}
    assert odpm.parse_energy(newer) == (473.848, energies)
    assert odpm.parse_energy(older) == (473.848, energies)
    assert odpm.parse_rails("CH2[VSYS_PWR_RFFE]:Cellular\n") == {"VSYS_PWR_RFFE": "Cellular"}
    assert odpm.parse_rails("RAIL:subsys\n") == {"RAIL": "subsys"}


@pytest.mark.parametrize("text", ["", "t=\n", "t=1\nCH3(T=5)[A]\n", "1\nA,-5\n", "1\nA,5\nrubbish\n"])
def test_monitors_that_say_something_else(text: str) -> None:
    with pytest.raises(StageError, match="no known format"):
        odpm.parse_energy(text)


def test_monitors_as_the_runner_records_them(lab: VirtualPhone, record: Record) -> None:
    """Asked 20 times a second what the phone renews 10 times: a reading that is not new is no sample."""
    for device, rail in (("iio:device0", "VSYS_PWR_DISPLAY"), ("iio:device1", "S2S_VDD_AOC")):
        lab.write(f"{MONITORS}/{device}/enabled_rails", f"CH0[{rail}]:Display\n")
        lab.write(f"{MONITORS}/{device}/energy_value", f"t=1000\nCH0(T=900)[{rail}], 5000000\n")

    def count(second: int) -> None:
        for device, rail, step in (("0", "VSYS_PWR_DISPLAY", 700), ("1", "S2S_VDD_AOC", 50)):
            text = f"t={1000 + 100 * second}\nCH0(T=9)[{rail}], {5_000_000 + 1000 * step * second}\n"
            path = lab.folder / f"{MONITORS}/iio:device{device}/energy_value".lstrip("/")
            path.with_suffix(".part").write_text(text)
            path.with_suffix(".part").replace(path)

    ended = threading.Event()

    def run() -> None:
        for second in range(1, 1000):
            if ended.wait(0.1):
                return
            count(second)

    address = {"ADB_SERVER_SOCKET": lab.server.address}
    counting = threading.Thread(target=run)
    counting.start()
    try:
        result, trace = record("odpm", duration_s=1.0, rate_hz=20.0, variables=address)
    finally:
        ended.set()
        counting.join()
    assert not result.error
    assert trace
    assert trace.channels == ["VSYS_PWR_DISPLAY", "S2S_VDD_AOC"]
    elapsed_s = trace.time_s[-1] - trace.time_s[0]
    assert trace.columns["VSYS_PWR_DISPLAY_j"][-1] - trace.columns["VSYS_PWR_DISPLAY_j"][0] == pytest.approx(
        7.0 * elapsed_s, rel=1e-6
    )
    assert np.diff(trace.time_s).min() > 0.09
    assert trace.meta.channels["S2S_VDD_AOC"].scope == "rail S2S_VDD_AOC (Display)"
    assert trace.meta.clock
    assert trace.meta.simulated


def test_one_rail_alone(lab: VirtualPhone, record: Record) -> None:
    """A trace of one channel has an energy; the rails of a phone together have none."""
    path = f"{MONITORS}/iio:device0/energy_value"
    lab.write(path, "t=1000\nCH0(T=9)[S2M_VDD_CPUCL2], 5000000\nCH1(T=9)[VSYS_PWR_DISPLAY], 7\n")
    address = {"ADB_SERVER_SOCKET": lab.server.address}
    result, _ = record("odpm", variables=address, rail="S2M_VDD_CPUCL")
    assert result.error
    assert "no rail 'S2M_VDD_CPUCL'" in result.error["message"]
    assert "S2M_VDD_CPUCL2" in result.error["hint"]
    reader = odpm.Counters(lab.phone, "", {}, 20.0, "S2M_VDD_CPUCL2", simulated=True)
    assert reader.columns == ["S2M_VDD_CPUCL2_j"]


@pytest.mark.parametrize("there", [True, False], ids=["not to be read", "not there"])
def test_a_phone_without_monitors(lab: VirtualPhone, record: Record, there: bool) -> None:
    lab.write(f"{MONITORS}/iio:device0/energy_value", "")
    for path in (lab.folder / MONITORS.lstrip("/")).glob("*/energy_value"):
        path.write_text("") if there else path.unlink()
    result, _ = record("odpm", variables={"ADB_SERVER_SOCKET": lab.server.address})
    assert result.error
    assert result.error["exit_code"] == 3
    assert "adb root" in result.error["hint"]


def test_a_phone_that_goes_away(lab: VirtualPhone, record: Record) -> None:
    gauge(lab, -412_345, 4_340_000)
    address = {"ADB_SERVER_SOCKET": lab.server.address}
    result, trace = record("battery", started=lab.unplug, variables=address)
    lab.plug()
    assert result.error
    assert result.error["exit_code"] == 4
    assert trace
    assert not trace.meta.complete
