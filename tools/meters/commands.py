"""The tool's commands, one for each meter; `rate_hz` is how often a meter is read that has to be asked.

Those that are `on_board` are a part of the machine that they measure.
`phone` is the user's --phone, which opens the runner's way to phones; `meter_serial` goes before it.
"""

from __future__ import annotations

from typing import Optional

from tools import meters, recording
from tools.stage import Input, InvalidRequest, Output, Result, Tool
from tools.usb import Host

TRACE = "trace.parquet"

tool = Tool("meters", packages=("nvidia-ml-py", "pyjoulescope_driver", "pyserial", "pyarrow", "numpy"))


@tool.command(meter="rapl", on_board=True)
def rapl(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 20.0,
) -> Result:
    """Record the energy counters of this machine's processor."""
    _only_one("rapl", meter_serial)
    opened = meters.rapl.opened(Host.current().root, rate_hz)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="nvml", on_board=True)
def nvml(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 50.0,
) -> Result:
    """Record energy and power of one of this machine's NVIDIA GPUs; `meter_serial` is its UUID."""
    opened = meters.nvml.opened(Host.current().root, meter_serial, rate_hz)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="jetson", on_board=True)
def jetson(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 20.0,
) -> Result:
    """Record the supply rails of the Jetson board that this runs on, by ina3221 or else by tegrastats."""
    _only_one("jetson", meter_serial)
    opened = meters.jetson.opened(Host.current().root, rate_hz)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="ina3221", on_board=True)
def ina3221(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 20.0,
) -> Result:
    """Record a Jetson board's supply rails from the kernel's files of its INA3221 monitors."""
    _only_one("ina3221", meter_serial)
    opened = meters.ina3221.opened(Host.current().root, rate_hz)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="tegrastats", on_board=True)
def tegrastats(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 10.0,
) -> Result:
    """Record a Jetson board's supply rails from what NVIDIA's program tegrastats prints."""
    _only_one("tegrastats", meter_serial)
    opened = meters.tegrastats.opened(Host.current().root, rate_hz)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="battery")
def battery(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 5.0,
    phone: str = "",
    current_unit: str = "auto",
    discharge_sign: str = "auto",
) -> Result:
    """Record what a phone's own gauge says of its battery.

    `current_unit` is uA or mA, `discharge_sign` that of a reading while the battery is discharged, + or -.
    """
    opened = meters.battery.opened(meter_serial or phone, rate_hz, current_unit, discharge_sign)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="odpm")
def odpm(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 5.0,
    phone: str = "",
    rail: str = "",
) -> Result:
    """Record the energy counters of a Pixel phone's rails, or of the one named `rail`."""
    opened = meters.odpm.opened(meter_serial or phone, rate_hz, rail)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="joulescope")
def joulescope(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 100.0,
) -> Result:
    """Record a Joulescope JS220 or JS110; `rate_hz` is that of its means, not of its samples."""
    opened = meters.joulescope.opened(Host.current().root, meter_serial, rate_hz)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="lpm01a")
def lpm01a(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    rate_hz: float = 1000.0,
    vout_v: float = 0.0,
) -> Result:
    """Record ST's X-NUCLEO-LPM01A, which feeds its target; `vout_v` has to be what that is made for."""
    opened = meters.lpm01a.opened(Host.current().root, meter_serial, rate_hz, vout_v)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="ptdaemon")
def ptdaemon(
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    address: str = "127.0.0.1:8888",
) -> Result:
    """Record a wall-power analyser through SPEC's PTDaemon, which runs at `address`."""
    _only_one("ptdaemon", meter_serial)
    opened = meters.ptdaemon.opened(address)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(meter="replay")
def replay(
    recorded: Optional[Input] = None,
    trace: Output = TRACE,
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    speed: float = 1.0,
) -> Result:
    """Play the trace `recorded` as if it were a meter, `speed` times as fast; 0: as fast as possible."""
    _only_one("replay", meter_serial)
    opened = meters.replay.opened(recorded, speed)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


def _only_one(name: str, meter_serial: str) -> None:
    if meter_serial:
        message = f"the meter {name} has no serial number to choose it by, and {meter_serial!r} was given"
        raise InvalidRequest(message, hint="Leave --meter-serial out.")
