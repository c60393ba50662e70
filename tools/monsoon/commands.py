"""The commands of the tool."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

from tools import recording
from tools.monsoon import supply as supplies
from tools.monsoon.trigger import Trigger
from tools.recording import Reader
from tools.stage import Output, Result, Tool

tool = Tool("monsoon", packages=("numpy", "pyarrow", "pyserial", "pyusb", "libusb-package"))


@tool.command(meter="monsoon")
def monsoon(
    trace: Output = "trace.parquet",
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    start_ma: float = 0.0,
    stop_ma: float = 0.0,
    samples: int = 0,
    usb: bool = False,
) -> Result:
    """Record the current and voltage of a Monsoon power monitor's main output.

    Its output is left as it is: power-on sets it. `start_ma` begins the recording at the first sample of so
    many mA, `stop_ma` ends it when the current has been below for 0.1 s, `samples` after so many. `usb`
    records its USB output too, which is no part of the main one.
    """
    trigger = Trigger(start_ma, stop_ma, samples).check()
    channels = ("main", "usb") if usb else ("main",)
    opened = _reading(meter_serial, trigger, channels)
    return recording.run(opened, trace, duration_s=duration_s, live_port=live_port)


@tool.command(cached=False)
def state(meter_serial: str = "") -> Result:
    """Say what a power monitor is set to, and how it is calibrated."""
    with _supply(meter_serial) as supply:
        return Result(metadata=supply.state())


@tool.command(cached=False)
def power_on(
    volts: float,
    meter_serial: str = "",
    power_up_limit_a: float = 0.0,
    run_limit_a: float = 0.0,
    usb_passthrough: str = "",
    i_know: bool = False,
) -> Result:
    """Set the main output to so many volts, which powers the device on it.

    The limits are for the time after it is switched on and for later; without them they stay as they are.
    `usb_passthrough` is off, on or auto (off while it samples). More than 4.5 V need `i_know`.
    """
    supplies.check_passthrough(usb_passthrough)
    with _supply(meter_serial) as supply:
        supplies.check_volts(supply.model, volts, i_know=i_know)
        supplies.check_limits(supply.model, power_up_limit_a, run_limit_a)
        done = supplies.switch(
            supply, volts, power_up_a=power_up_limit_a, run_a=run_limit_a, passthrough=usb_passthrough
        )
    return Result(metadata=done)


@tool.command(cached=False)
def power_off(meter_serial: str = "", usb_passthrough: str = "") -> Result:
    """Switch the main output off."""
    supplies.check_passthrough(usb_passthrough)
    with _supply(meter_serial) as supply:
        return Result(metadata=supplies.switch(supply, 0.0, passthrough=usb_passthrough))


@contextlib.contextmanager
def _supply(serial: str) -> Iterator[supplies.Supply]:
    from tools.monsoon import serial_meter, usb_meter
    from tools.monsoon.usb_supply import UsbSupply

    port = serial_meter.port_of(serial)
    if port:
        with serial_meter.opened(port) as line:
            yield line
    else:
        with usb_meter.opened(serial) as meter:
            yield UsbSupply(meter)


@contextlib.contextmanager
def _reading(serial: str, trigger: Trigger, channels: tuple[str, ...]) -> Iterator[Reader]:
    from tools.monsoon import sampling, serial_meter

    port = serial_meter.port_of(serial)
    reading: Any = (
        sampling.serial(port, trigger, channels) if port else sampling.usb(serial, trigger, channels)
    )
    with reading as reader:
        yield reader
