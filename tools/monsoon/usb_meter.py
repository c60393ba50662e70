"""A monitor on USB: found, opened, asked, and read."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import threading
from typing import Any, Iterator, Sequence

from tools import power_monitors
from tools.monsoon import protocol
from tools.monsoon.in_flight import InFlight
from tools.monsoon.protocol import MODELS, Model, Op
from tools.monsoon.transfers import Append, lost
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported
from tools.usb import Host

STAND_IN = "MOBILE_ACCELERATOR_SIMULATED_MONSOON"  # a module with a function `backend` for pyusb
SIMULATED = "(simulated)"  # in what a device of the lab calls itself (tests/lab/usb)
ANSWER_MS = 1000
READ_MS, DRAIN_MS = 100, 20
NOT_FOUND = "Plug it in and switch it on. See what is there: python runner.py devices"


class UsbMeter:
    """An opened monitor, not sampling. It has no state of its own: all is in the device."""

    def __init__(self, device: Any, serial: str, simulated: bool) -> None:
        self._device = device
        self._in_flight = hasattr(device.backend, "lib")  # libusb, and no stand-in's
        self.serial = serial
        self.simulated = simulated
        self.stop()  # what a program that was killed has left on; sampling, it answers nothing
        self._drain()
        number = self.get(Op.MODEL, 8)
        known = [model for model in MODELS if model.number == number]
        if not known:
            message = f"the monitor {serial} says that its model is {number}, which is not known"
            raise Unsupported(
                message, hint="Known are 1 (LVPM) and 2 (HVPM). Is its firmware up to date (32)?"
            )
        self.model: Model = known[0]

    def get(self, op: Op, bits: int = 16) -> int:
        """Return a value, of which the lowest `bits` mean something.

        Raises:
            DeviceNotFound: it does not answer.
            StageError: it is sampling.
        """
        data = self._request(protocol.FROM_DEVICE, protocol.VALUE, 0, int(op), 4)
        value = int.from_bytes(bytes(data), "little")
        if value == protocol.BUSY:
            message = f"the monitor {self.serial} is sampling, and answers nothing else meanwhile"
            raise StageError(message, hint="Let the other program end, or replug the monitor.")
        return value & ((1 << bits) - 1)

    def set(self, op: Op, value: int) -> None:
        """Set a value."""
        self._request(*protocol.write_request(int(op), value))

    def start(self) -> None:
        """Let it sample until `stop`."""
        self._request(*protocol.start_request())

    def stop(self) -> None:
        """Let it stop sampling."""
        self._request(protocol.TO_DEVICE, protocol.STOP, 0, 0, b"")

    def pump(self, append: Append, stopping: threading.Event) -> None:
        """Read packets until `stopping` is set, several transfers at once where the bus is libusb's.

        Raises:
            DeviceNotFound: the device is gone.
        """
        if self._in_flight:
            InFlight(self._device, protocol.SAMPLES, protocol.PACKET_BYTES).pump(append, stopping)
            return
        while not stopping.is_set():
            packet = self._read(READ_MS)
            if packet:
                append(packet)

    def _drain(self) -> None:
        """Read what is left of a sampling before, which ends with the first read that brings nothing."""
        for _ in range(2 * protocol.QUEUE):
            if not self._read(DRAIN_MS):
                return

    def _read(self, timeout_ms: int) -> bytes:
        import usb.core

        try:
            return bytes(self._device.read(protocol.SAMPLES, protocol.PACKET_BYTES, timeout_ms))
        except usb.core.USBTimeoutError:
            return b""
        except usb.core.USBError as error:
            raise lost(error.strerror) from None

    def _request(self, kind: int, request: int, value: int, index: int, data: Any) -> Any:
        import usb.core

        try:
            return self._device.ctrl_transfer(kind, request, value, index, data, ANSWER_MS)
        except usb.core.USBError as error:
            raise lost(error.strerror) from None


@contextlib.contextmanager
def opened(serial: str = "") -> Iterator[UsbMeter]:
    """Open the monitor with this serial number, or the only one, for the time of the block.

    Raises:
        DeviceNotFound: there is none, it may not be opened, or another program has it.
        InvalidRequest: there are several, and `serial` says none of them.
    """
    import usb.core
    import usb.util

    backend, simulated = _backend()
    device, number = _choose(backend, serial)
    try:
        with contextlib.suppress(usb.core.USBError, NotImplementedError):
            if device.is_kernel_driver_active(0):
                device.detach_kernel_driver(0)
        with _explained(number, device):
            _configure(device)
            usb.util.claim_interface(device, 0)
        yield UsbMeter(device, number, simulated or SIMULATED in (device.product or ""))
    finally:
        usb.util.dispose_resources(device)


def _configure(device: Any) -> None:
    """Give it a configuration if it has none; to set it anew would reset a device that others read."""
    import usb.core

    try:
        device.get_active_configuration()
    except usb.core.USBError as error:
        if error.errno in (errno.EACCES, errno.EBUSY):
            raise
        device.set_configuration()


def _backend() -> tuple[Any, bool]:
    """Return pyusb's way to the bus, and whether it is a stand-in's."""
    name = os.environ.get(STAND_IN)
    if not name:
        import libusb_package

        return libusb_package.get_libusb1_backend(), Host.current().simulated
    try:
        return importlib.import_module(name).backend(), True
    except ImportError as error:
        message = f"{STAND_IN} names the module {name}, which cannot be imported: {error}"
        raise InvalidRequest(message, hint="It is part of a checkout, so use --engine venv.") from None


def _choose(backend: Any, serial: str) -> tuple[Any, str]:
    """Return the device to open, and its serial number."""
    import usb.core

    ids = {"idVendor": power_monitors.VENDOR, "idProduct": power_monitors.PRODUCT}
    found = list(usb.core.find(find_all=True, backend=backend, **ids) or ())
    numbers = [_number(device) for device in found]
    if not found:
        message = f"there is no Monsoon power monitor on USB ({power_monitors.USB_ID})"
        raise DeviceNotFound(message, hint=NOT_FOUND)
    matching = [each for each in zip(found, numbers) if not serial or each[1] == serial]
    listed = ", ".join(number or "unknown" for number in numbers)
    if not matching:
        message = f"there is no power monitor {serial}; there {'is' if len(found) == 1 else 'are'} {listed}"
        raise DeviceNotFound(
            message, hint=f"Give --meter-serial {numbers[0]}, or leave it out if it is alone."
        )
    if len(matching) > 1:
        message = f"there are {len(found)} power monitors: {listed}"
        raise InvalidRequest(message, hint=f"Say which: --meter-serial {numbers[0]}")
    return matching[0]


def _number(device: Any) -> str:
    """Return a device's serial number: as the kernel has read it, else by asking, which has to open it."""
    import usb.core

    for seen in Host.current().devices():
        if (seen.bus, seen.number) == (device.bus, device.address) and seen.ids == power_monitors.USB_ID:
            return seen.serial
    with contextlib.suppress(usb.core.USBError, ValueError):
        return device.serial_number or ""
    return ""


@contextlib.contextmanager
def _explained(serial: str, device: Any) -> Iterator[None]:
    """Say of a monitor that cannot be opened why, and what to do."""
    import usb.core

    try:
        yield
    except usb.core.USBError as error:
        name = f"the power monitor {serial}".rstrip()
        if error.errno == errno.EACCES:
            message = f"{name} is there, and you may not open it"
            raise DeviceNotFound(
                message, hint=power_monitors.INSTALL_RULES + power_monitors.USB_RULE
            ) from None
        if error.errno == errno.EBUSY:
            holders = _holders(device)
            message = f"{name} is in use{' by ' + ', '.join(holders) if holders else ''}"
            raise DeviceNotFound(
                message, hint="Wait until it ends: one program at a time can have it."
            ) from None
        raise lost(error.strerror) from None


def _holders(device: Any) -> Sequence[str]:
    host = Host.current()
    same = [each for each in host.devices() if (each.bus, each.number) == (device.bus, device.address)]
    mine = f"{os.getpid()} "
    return [holder for each in same for holder in host.holders(each) if not holder.startswith(mine)]
