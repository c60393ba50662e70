"""A monitor that samples: told to, and told to stop, for the time of a block."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, Iterator, Mapping

from tools.monsoon import serial_meter, usb_meter
from tools.monsoon.acquisition import Acquisition
from tools.monsoon.packets import Decoder
from tools.monsoon.protocol import RATE_HZ
from tools.monsoon.serial_stream import SerialStream
from tools.monsoon.transfers import Transfers
from tools.monsoon.trigger import Gate, Trigger
from tools.monsoon.usb_stream import UsbStream
from tools.monsoon.usb_supply import UsbSupply
from tools.stage import StageError
from tools.trace import Channel, Meta

SCOPES = {"main": "main output of the power monitor", "usb": "USB output of the power monitor"}
ACCURACY = "Monsoon's data sheet was not at hand, so nothing is taken for known of its accuracy"


def _meta(state: Mapping[str, Any], channels: tuple[str, ...], calibration: Mapping[str, Any]) -> Meta:
    """Return what a trace says of itself, from what the monitor says."""
    return Meta(
        meter="monsoon",
        device=state["device"],
        serial=state["serial"],
        firmware=state["firmware"],
        rate_hz=RATE_HZ,
        simulated=state["simulated"],
        supply_v=state["output_v"],
        calibration=calibration,
        channels={name: Channel(scope=SCOPES[name], source=ACCURACY) for name in channels},
    )


@contextlib.contextmanager
def usb(serial: str, trigger: Trigger, channels: tuple[str, ...]) -> Iterator[Acquisition]:
    """Let a monitor on USB sample.

    Raises:
        DeviceNotFound, InvalidRequest: as `usb_meter.opened`.
    """
    with usb_meter.opened(serial) as meter:
        supply = UsbSupply(meter)
        scales = supply.scales(dict.fromkeys(channels))
        meta = _meta(
            supply.state(), channels, {name: dataclasses.asdict(scale) for name, scale in scales.items()}
        )
        with _started(meter) as transfers:
            yield Acquisition(transfers, UsbStream(Decoder(meter.model, scales)), Gate(trigger), meta)


@contextlib.contextmanager
def serial(port: Path, trigger: Trigger, channels: tuple[str, ...]) -> Iterator[Acquisition]:
    """Let a monitor at a serial port sample.

    Raises:
        DeviceNotFound: as `serial_meter.opened`.
    """
    with serial_meter.opened(port) as meter:
        state = meter.state()
        meta = _meta(state, channels, {})
        stream = SerialStream(channels, state["hardware_revision"])
        with _started(meter) as transfers:
            yield Acquisition(transfers, stream, Gate(trigger), meta)


@contextlib.contextmanager
def _started(meter: Any) -> Iterator[Transfers]:
    """Let a meter sample for the time of the block, and read it."""
    meter.start()
    transfers = Transfers(meter.pump)
    try:
        yield transfers
    finally:
        transfers.stop()
        with contextlib.suppress(StageError):  # gone, or deaf: what is recorded is whole nevertheless
            meter.stop()
