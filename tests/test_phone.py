"""A phone over Android's real debug daemon: what is sent, what runs, what it leaves, and what goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tools.phone import Phone, check_program
from tools.stage import InvalidRequest, StageError, Unsupported

MISSING = virtual_phone.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path_factory.mktemp("phone"), data_mb=200) as lab:
        yield lab


@pytest.fixture
def phone(lab: VirtualPhone) -> Iterator[Phone]:
    yield lab.phone
    lab.phone.clean_up()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"0123456789" * 100_000)
    return path


def test_what_is_on_the_phone_is_not_sent_again(phone: Phone, model: Path) -> None:
    first = phone.push({"model.tflite": model, "lib/other.so": model}, "net")
    assert (first.sent, first.sent_bytes) == (("model.tflite", "lib/other.so"), 2_000_000)
    assert phone.shell(f"wc -c <{first.paths['lib/other.so']}").stdout.strip() == "1000000"
    assert phone.push({"model.tflite": model}, "net").sent == ()
    model.write_bytes(b"other")
    assert phone.push({"model.tflite": model, "lib/other.so": model}, "net").sent_bytes == 10


@pytest.mark.parametrize(
    "change",
    [
        "echo x >>{path}",
        "cp -p {path} copy && sed s/0/1/ copy >{path} && touch -r copy {path}",  # same size, same time
        "rm {path}",
    ],
)
def test_a_file_that_was_changed_on_the_phone_is_sent_again(phone: Phone, model: Path, change: str) -> None:
    path = phone.push({"model.tflite": model}, "net").paths["model.tflite"]
    assert phone.shell(f"cd {phone.root}; {change.format(path=path)}").code == 0
    assert phone.push({"model.tflite": model}, "net").sent == ("model.tflite",)
    assert phone.push({"model.tflite": model}, "net").sent == ()


def test_a_file_of_which_a_part_arrived_is_not_believed(
    lab: VirtualPhone, phone: Phone, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(120_000_000)
    cut = threading.Timer(0.05, lab.unplug)
    cut.start()
    with pytest.raises(StageError, match=r"lost|cannot be used"):
        phone.push({"large": large}, "net")
    cut.join()
    lab.plug()
    _back(phone)
    assert phone.shell(f"ls {phone.root}/net/large").code != 0
    assert phone.push({"large": large}, "net").sent == ("large",)
    assert phone.shell(f"ls {phone.root}/net").stdout.split() == ["large"]


def _back(phone: Phone) -> None:
    for _ in range(100):
        try:
            phone.reconnect()
            phone.shell("true")
        except StageError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the phone did not come back")


def test_a_phone_without_space_is_asked_for_none(lab: VirtualPhone, phone: Phone, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(190_000_000)
    with pytest.raises(StageError, match=r"MB free at .* and 257 MB are needed") as refused:
        phone.push({"large": large}, "net")
    assert "runner.py phone clean" in refused.value.hint


def test_a_phone_that_gets_full_meanwhile_says_so(phone: Phone, tmp_path: Path) -> None:
    with (large := tmp_path / "large").open("wb") as file:
        file.truncate(250_000_000)
    with phone.sync() as sync, large.open("rb") as source, pytest.raises(StageError, match="No space left"):
        sync.send(source, "/data/local/tmp/large")
    phone.shell("rm -f /data/local/tmp/large")


def test_a_program_runs_by_itself_and_leaves_nothing(phone: Phone) -> None:
    done = phone.run_detached("echo out; echo err >&2; pwd; exit 7", timeout_s=20)
    assert (done.stdout.split()[0], done.stderr, done.code, done.lost) == ("out", "err\n", 7, 0)
    assert phone.shell(f"ls {phone.root}/runs").stdout == ""


def test_a_program_outlives_the_connection(lab: VirtualPhone, phone: Phone) -> None:
    threading.Timer(0.5, lab.unplug).start()
    threading.Timer(1.0, lab.plug).start()
    done = phone.run_detached("echo started; sleep 3; echo ended", timeout_s=30)
    assert (done.stdout, done.code, done.lost) == ("started\nended\n", 0, 1)


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started(phone: Phone) -> None:
    with pytest.raises(StageError, match="within 1 s and was killed") as killed:
        phone.run_detached("echo loading; sleep 77 & sleep 78", timeout_s=1)
    assert "loading" in killed.value.hint
    assert phone.shell("ps -A -o ARGS | grep -E '^sleep 7[78]'").stdout == ""


def test_a_program_that_something_killed_is_a_failure(phone: Phone) -> None:
    threading.Timer(0.7, lambda: phone.shell("pkill -9 -f job.sh")).start()
    with pytest.raises(StageError, match="was killed, and nothing there says by whom"):
        phone.run_detached("sleep 5", timeout_s=20)
    assert phone.shell("ps -A -o ARGS | grep -E '^sleep 5'").stdout == ""


def test_two_do_not_measure_at_once(phone: Phone) -> None:
    other = threading.Thread(target=lambda: phone.run_detached("sleep 2", timeout_s=20))
    other.start()
    time.sleep(1)
    with pytest.raises(StageError, match="another run measures on the phone"):
        phone.run_detached("true", timeout_s=20)
    other.join()
    assert phone.run_detached("true", timeout_s=20).code == 0


def test_a_phone_says_what_it_is(lab: VirtualPhone, phone: Phone) -> None:
    state = phone.state()
    assert (state.chip, state.android, state.abis[0], state.root) == ("SM8150", "12", "arm64-v8a", False)
    assert (state.big, state.little, state.hottest_degc) == ((7,), (0, 1, 2, 3), 33.0)
    assert state.identity["simulated"] is True
    assert (state.battery_percent, state.charging, state.plugged) == (83, "charging", "USB")
    assert "pm8150_tz" not in state.temperatures_degc


def test_temperatures_of_vendors_and_of_phones_that_close_the_kernels(
    lab: VirtualPhone, phone: Phone
) -> None:
    zone = "/sys/class/thermal/thermal_zone0/temp"
    for value, degc in (("31500", 31.5), ("315", 31.5), ("31", 31.0)):
        lab.write(zone, value)
        assert phone.state().temperatures_degc["cpu-0-0-usr"] == degc
    zones = lab.folder / "sys" / "class" / "thermal"
    hidden = zones.rename(zones.with_name("closed"))
    assert phone.state().temperatures_degc == {"CPU0": 36.5, "skin": 29.1}
    hidden.rename(zones)


def test_it_stays_awake_and_gets_its_settings_back(lab: VirtualPhone, phone: Phone) -> None:
    with phone.awake(timeout_s=60):
        assert phone.state().awake
        assert lab.read("/vendor/etc/settings/global/stay_on_while_plugged_in") == "7\n"
    assert not phone.state().awake
    assert phone.shell("settings get global stay_on_while_plugged_in").stdout == "null\n"
    assert phone.shell("settings get system screen_off_timeout").stdout == "30000\n"


def test_settings_come_back_by_themselves_when_the_runner_died(lab: VirtualPhone, phone: Phone) -> None:
    with phone.awake(timeout_s=1):  # as if the block never ended
        time.sleep(2)
        assert not phone.state().awake
        assert phone.shell("settings get system screen_off_timeout").stdout == "30000\n"


def test_it_waits_for_a_phone_to_cool_down(
    lab: VirtualPhone, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.phone.device.COOL_EVERY_S", 0.2)
    lab.heat(70)
    threading.Timer(0.5, lambda: lab.heat(40)).start()
    assert phone.cool_down(45, timeout_s=20)["after_degc"] == 40
    assert "was at 40.0 degC after 0.5 s" in phone.cool_down(35, timeout_s=0.5)["warnings"][0]


def test_programs_are_kept_to_cores(lab: VirtualPhone, phone: Phone) -> None:
    assert phone.pinned([4, 5, 6, 7]) == "taskset f0 "
    with pytest.raises(InvalidRequest, match="no cores"):
        phone.pinned([8])


def test_a_program_for_another_processor_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "benchmark_model"
    program.write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + (62).to_bytes(2, "little"))
    with pytest.raises(Unsupported, match="is for x86_64, and the phone runs arm64-v8a"):
        check_program(program, ("arm64-v8a", "armeabi-v7a"))


def test_cleaning_up_removes_everything(phone: Phone, model: Path) -> None:
    phone.push({"model.tflite": model}, "net")
    phone.clean_up()
    assert phone.shell("ls /data/local/tmp").stdout == ""
