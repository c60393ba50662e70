"""The white monitor as it is sold: its serial port found and opened, its settings, its samples."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Optional

from tools import power_monitors
from tools.monsoon import protocol, serial_line
from tools.monsoon.protocol import LVPM
from tools.monsoon.serial_line import Frames, frame, setting
from tools.monsoon.transfers import Append, lost
from tools.stage import DeviceNotFound, InvalidRequest, StageError
from tools.trace_files import status
from tools.usb import Host

ANSWER_S = 2.0
SILENCE_S = 0.2  # after which it has nothing more to say
STOPS = 3  # how often it is told to stop: nothing says that it has heard
READ_BYTES = 4096


class SerialMeter:
    """An opened monitor: its settings, as `supply.Supply` has them, and its stream of bytes."""

    model = LVPM

    def __init__(self, port: Any, simulated: bool) -> None:
        self._port = port
        self.simulated = simulated

    @property
    def volts(self) -> float:
        """What the output is set to, V; 0 is off."""
        return self.status().supply_v

    def set_volts(self, volts: float) -> None:
        """Set the output; 0 switches it off."""
        self.send(setting(serial_line.OUTPUT, serial_line.output_setting(volts)))

    def set_limits(self, power_up_a: float, run_a: float) -> None:
        """Set the current limits, A; 0 leaves one as it is."""
        for register, amperes in ((serial_line.POWER_UP_LIMIT, power_up_a), (serial_line.RUN_LIMIT, run_a)):
            if amperes:
                raw = status.raw_limit(amperes)
                self.send(setting(register, raw))
                self.send(setting(register + 1, raw >> 8))

    def set_passthrough(self, mode: str) -> None:
        """Connect the device's USB to the computer's: off, on, auto (not while it samples)."""
        self.send(setting(serial_line.PASSTHROUGH, protocol.PASSTHROUGH.index(mode)))

    def state(self) -> dict[str, Any]:
        """Return what it says of itself."""
        now = self.status()
        modes = protocol.PASSTHROUGH
        return {
            "device": "Monsoon LVPM (serial port)",
            "serial": str(now.serial),
            "firmware": str(now.firmware),
            "protocol": now.protocol,
            "hardware_revision": now.hardware_revision,
            "output_v": now.supply_v,
            "power_up_limit_a": round(status.limit_a(now.power_up_limit), 3),
            "run_limit_a": round(status.limit_a(now.run_limit), 3),
            "power_up_time_ms": now.power_up_time_ms,
            "usb_passthrough": modes[now.usb_passthrough] if now.usb_passthrough < len(modes) else "other",
            "temperature_raw": now.temperature,
            "shunt_offsets": [now.main_fine_r, now.main_coarse_r, now.usb_fine_r, now.usb_coarse_r],
            "simulated": self.simulated,
        }

    def status(self) -> status.Status:
        """Ask for the status packet.

        Raises:
            StageError: it does not answer, or with something else.
        """
        self.send(serial_line.READ_STATUS)
        frames, until_s = Frames(), time.monotonic() + ANSWER_S
        while time.monotonic() < until_s:
            for payload in frames.feed(self._receive()):
                if payload[0] == serial_line.STATUS_REPLY and len(payload) == status.BYTES:
                    return status.unpack(payload, ">")
        message = f"what is at {self._port.name} does not answer as a Monsoon power monitor does"
        raise StageError(
            message, hint="Is it one? Unplug it from USB and from its supply, and plug it in again."
        )

    def start(self) -> None:
        """Let it sample until `stop`."""
        self.send(serial_line.BEFORE_START)
        self.send(serial_line.START)

    def stop(self) -> None:
        """Let it stop, and read what was under way.

        Raises:
            StageError: it goes on.
        """
        for _ in range(STOPS):
            self.send(serial_line.STOP)
            begun_s = heard_s = time.monotonic()
            while time.monotonic() < begun_s + ANSWER_S:
                if self._receive():
                    heard_s = time.monotonic()
                elif time.monotonic() > heard_s + SILENCE_S:
                    return
        message = f"the monitor at {self._port.name} does not stop sampling"
        raise StageError(message, hint="Unplug it from USB and from its supply, and plug it in again.")

    def send(self, payload: bytes) -> None:
        """Send one frame."""
        import serial

        try:
            self._port.write(frame(payload))
        except (serial.SerialException, OSError) as error:
            raise lost(str(error)) from None

    def pump(self, append: Append, stopping: threading.Event) -> None:
        """Read what comes until `stopping` is set; the kernel keeps what comes meanwhile.

        Raises:
            DeviceNotFound: the device is gone.
        """
        while not stopping.is_set():
            data = self._receive()
            if data:
                append(data)

    def _receive(self) -> bytes:
        import serial

        try:
            waiting = min(self._port.in_waiting, READ_BYTES)
            return bytes(self._port.read(max(1, waiting)))
        except (serial.SerialException, OSError) as error:
            raise lost(str(error)) from None


def port_of(serial: str) -> Optional[Path]:
    """Return the serial port of the monitor that is meant; None if it is none with a serial port.

    Raises:
        DeviceNotFound: it cannot be opened.
        InvalidRequest: there are several, and `serial` is empty.
    """
    found = power_monitors.find(Host.current())
    if not serial and len(found) > 1:
        message = f"there are {len(found)} power monitors: {', '.join(one.serial for one in found)}"
        raise InvalidRequest(message, hint=f"Say which: --meter-serial {found[0].serial}")
    matching = [one for one in found if not serial or one.serial == serial]
    if len(matching) == 1 and matching[0].port:
        if matching[0].problem:
            message = f"the power monitor {matching[0].serial} cannot be used: {matching[0].problem}"
            raise DeviceNotFound(message, hint=matching[0].hint)
        return matching[0].port
    return None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SerialMeter]:
    """Open the monitor at a serial port for the time of the block.

    Raises:
        DeviceNotFound: it cannot be opened, or another program has it.
    """
    import serial

    try:
        port = serial.Serial(str(path), timeout=0.1, exclusive=True)
    except (serial.SerialException, OSError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EACCES:
            message = f"{path} may not be opened by you"
            hint = power_monitors.INSTALL_RULES + power_monitors.SERIAL_RULES[-1]
            raise DeviceNotFound(message, hint=hint) from None
        message = f"{path} cannot be opened: {error}"
        raise DeviceNotFound(message, hint="Does another program have it? One at a time can.") from None
    with port:
        meter = SerialMeter(port, Host.current().simulated)
        meter.stop()  # what a program that was killed has left on
        yield meter
