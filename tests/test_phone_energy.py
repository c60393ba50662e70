"""A meter beside a virtual phone: its energy, and a latency that nothing about the meter touches."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import phone_program, virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tests.project import LAB, Project
from tools import metered, windows
from tools.android import metering, units
from tools.stage import StageError, Unsupported, WrongOutput

BUSY_W, IDLE_W = 4.0, 2.0  # of the stand-in for a meter
SERIAL = f"phone-{os.getpid()}"
UNPLUGGED = virtual_phone.DUMPS["battery"].replace("USB powered: true", "USB powered: false")
BATTERY = "/vendor/etc/dumpsys/battery"
SHORTER = "CHIP_S, REST_S, WINDOW_S, EDGE_S = 0.25, 2.0, 1.0, 1.0"
MISSING = virtual_phone.missing()
needs_phone = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    with VirtualPhone(tmp_path_factory.mktemp("phone")) as lab, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADB_SERVER_SOCKET", lab.server.address)
        patch.setenv("MOBILE_ACCELERATOR_LAB_METERS", SERIAL)
        yield lab


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the meter, and with windows that are no longer than a test needs them."""
    made = Project.copy(tmp_path_factory.mktemp("phone-energy") / "project")
    made.add_tool("labmeter", LAB / "cpu_meter.py", lock=LAB / "meter" / "requirements.txt")
    module = made.folder / "tools" / "metered.py"
    text, count = re.subn(r"^CHIP_S, REST_S.* = [\d., ]+", SHORTER, module.read_text(), flags=re.MULTILINE)
    assert count == 1
    module.write_text(text)
    return made


@pytest.fixture
def measure(
    lab: VirtualPhone, project: Project, tool_python: Callable[[str], Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    program = phone_program.write(tmp_path / "benchmark_model", tool_python("android"))

    def measure(fault: str = "", battery: str = UNPLUGGED) -> dict[str, Any]:
        """Measure lenet on the phone's GPU, whatever that is; return its record."""
        phone_program.fault(lab, fault)
        lab.write(BATTERY, battery)
        argv = ["run", "android.benchmark", "--model", "lenet", "--set", "budget_s=1"]
        argv += ["--set", "threads=1", "--set", "device=GPU", "--benchmark-model", str(program)]
        argv += ["--meter", "cpu-model", "--meter-set", "own_clock=true", "--meter-set", "words=--graph="]
        done = project.run(*argv)
        assert (project.work / "runs" / "latest").exists(), done.stderr
        (record,) = project.results()["records"]
        record["stderr"] = done.stderr
        return dict(record)

    return measure


def running(lab: VirtualPhone) -> str:
    """What is left of the phone's jobs, and of benchmark_model."""
    folders = lab.phone.shell(f"ls {lab.phone.root}/runs").stdout
    return folders + lab.phone.shell("pgrep -f -- [-]-graph=").stdout


@needs_phone
@pytest.mark.tool
def test_energy_of_a_phone_that_goes_away_meanwhile(
    lab: VirtualPhone, project: Project, measure: Callable[..., dict[str, Any]]
) -> None:
    """What an inference takes is known: a number of W, for as long as it lasts."""

    def pull_the_cable() -> None:
        while not ended.wait(0.1):
            if list(project.work.glob("runs/*.part/stages/*/recording.json")):
                time.sleep(8)
                lab.unplug()
                time.sleep(1)
                lab.plug()
                return

    ended = threading.Event()
    cable = threading.Thread(target=pull_the_cable)
    cable.start()
    try:
        record = measure("even")
    finally:
        ended.set()
        cable.join()
    assert record["status"] == "ok", record["stderr"]
    energy = record["energy"]
    assert energy, record["energy_reason"]
    assert energy["simulated"]
    assert energy["aligned_by"] == "signature"  # the meter shares no clock with the phone
    assert energy["windows"] == metered.COUNT
    latest = project.work / "runs" / "latest"
    made = windows.read(latest / record["files"]["windows"])
    assert made.simulated
    assert str(made.host).startswith("phone ")
    true_mj = BUSY_W * record["metadata"]["window_inference_ms"]
    low, high = energy["net_ci95_mj"]
    assert low < true_mj < high
    assert energy["net_mj"] == pytest.approx(true_mj, rel=0.1)
    assert energy["idle_w"]["before"] == pytest.approx(IDLE_W, rel=0.02)
    assert record["metadata"]["usb_power"] == ["no", "no"]
    assert record["metadata"]["connection_lost_in_windows"] == 1
    assert running(lab) == ""


@needs_phone
@pytest.mark.tool
@pytest.mark.parametrize(
    ("fault", "battery", "reason"),
    [
        ("killed in a window", UNPLUGGED, "benchmark_model was ended by SIGKILL on the phone"),
        ("", virtual_phone.DUMPS["battery"], "the phone is powered by USB, past the meter"),
    ],
)
def test_no_energy_has_a_reason_and_costs_no_latency(
    lab: VirtualPhone, measure: Callable[..., dict[str, Any]], fault: str, battery: str, reason: str
) -> None:
    record = measure(fault, battery)
    assert record["status"] == "ok", record["stderr"]
    assert record["latency_ms"]["n"] >= 6
    assert record["energy"] is None
    assert reason in record["energy_reason"]
    assert record["energy_hint"]
    assert running(lab) == ""


def printed(number: int, *, mean_us: float = 10_000.0, code: int = 0, on_gpu: bool = True) -> str:
    """What the script says of a process: a signature first and last, else a window of 1 s, 100 inferences."""
    at_s = 1000.0 + 10 * number
    if number in (0, metered.COUNT + 1):
        lines = ["@@ signature", "@@ rest", "@@ on", "@@ off", "@@ on", "@@ off", "@@ code 137"]
        return "".join(f"{at_s + each:.2f} {line}\n" for each, line in enumerate(lines))
    applied = "Explicitly applied GPU delegate, and the model graph will be completely executed "
    applied += "by the delegate."
    means = f"Init: 1, First inference: 9, Warmup (avg): 9, Inference (avg): {mean_us:g}"
    lines = [
        "@@ window",
        f"INFO: {applied if on_gpu else 'Loaded model'}",
        "INFO: Running benchmark for at least 1 iterations and at least 1 seconds",
        "@@ rest",
        "@@ go",
        "INFO: count=1 curr=9",
        "INFO: Running benchmark for at least 3 iterations and at least 1 seconds",
        f"INFO: count=100 first=9 curr=9 min=9 max=9 avg={mean_us:g} std=0",
        "@@ rest",
        "@@ go",
        f"INFO: Inference timings in us: {means}",
        f"@@ code {code}",
    ]
    return "".join(f"{at_s + each:.2f} {line}\n" for each, line in enumerate(lines))


def test_windows_as_the_phone_tells_them() -> None:
    said = "".join(printed(number) for number in range(metered.COUNT + 2))
    made = metering.heard(f"{said}1080.00 @@ rest\n1081.00 @@ end\n", units.find("GPU"))
    assert [(one.start_s, one.end_s, one.inferences) for one in made.windows] == [
        (at_s + 6, at_s + 7, 100) for at_s in range(1010, 1070, 10)
    ]
    assert made.signatures == [[(base + 2, base + 3), (base + 4, base + 5)] for base in (1000.0, 1070.0)]
    far_s = metering.FAR_S
    assert made.busy[0] == (1000 - far_s, 1001)  # loading, and all that was before
    assert made.busy[1:4] == [(1010, 1013), (1014, 1016), (1019, 1021)]  # to a window's rest; to it; its end
    assert made.busy[-2:] == [(1070, 1071), (1081, 1081 + far_s)]


@pytest.mark.parametrize(
    ("number", "what", "error", "reason"),
    [
        (3, {"code": 137}, StageError, "ended by SIGKILL"),
        (3, {"on_gpu": False}, Unsupported, "GPU delegate runs nothing"),
        (3, {"mean_us": 11_000.0}, StageError, "a window of 1.00 s holds inferences of 1.10 s"),
        (3, {"mean_us": 1_000.0}, StageError, "a window of 1.00 s holds inferences of 0.10 s"),
        (9, {}, StageError, "made 6 windows and 1 signatures"),
    ],
)
def test_windows_that_are_none(
    number: int, what: dict[str, Any], error: type[StageError], reason: str
) -> None:
    numbers = [each for each in range(metered.COUNT + 2) if number != 9 or each]
    said = "".join(printed(each, **(what if each == number else {})) for each in numbers)
    with pytest.raises(error, match=reason):
        metering.heard(said, units.find("GPU"))


def test_a_wrong_output_of_the_windows_is_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metered, "emit", lambda _: metered.SAMPLING.write_text('{"resolution_s": 0.01}'))
    monkeypatch.setattr(metering, "_play", lambda *_: (None, "the last output", 0))
    metered.ASKED.write_text("{}")
    metered.STOPPED.touch()
    state: Any = type("State", (), {"plugged": "no", "simulated": ""})

    def check(output: Any) -> None:
        raise WrongOutput(output)

    with pytest.raises(WrongOutput, match="the last output"):
        metering.make(None, {}, 0.01, state, check)  # type: ignore[arg-type]
