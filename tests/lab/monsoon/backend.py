"""Simulated monitors as a backend of pyusb: in place of libusb, so nothing above it knows.

    MOBILE_ACCELERATOR_SIMULATED_MONSOON=tests.lab.monsoon.backend

makes the tool `monsoon` use it, which labels what it records `simulated`. MONSOON_LAB says which monitors
there are and what goes wrong with them: JSON, a list of the fields of `instrument.Setup`; without it there is
one HVPM.
"""

from __future__ import annotations

import errno
import json
import os
import types
from collections.abc import Iterator
from typing import Any

import usb.backend
import usb.core

from tests.lab.monsoon.instrument import Gone, Instrument, Setup

LAB = "MONSOON_LAB"
STRINGS = {1: "Monsoon Solutions", 2: "Power Monitor (simulated)"}
SERIAL_STRING = 3
DESCRIPTOR = (0x80, 6)
DEVICE = {
    "bLength": 18,
    "bDescriptorType": 1,
    "bcdUSB": 0x0200,
    "bDeviceClass": 0,
    "bDeviceSubClass": 0,
    "bDeviceProtocol": 0,
    "bMaxPacketSize0": 64,
    "idVendor": 0x2AB9,
    "idProduct": 0x0001,
    "bcdDevice": 0x0100,
    "iManufacturer": 1,
    "iProduct": 2,
    "iSerialNumber": SERIAL_STRING,
    "bNumConfigurations": 1,
}
CONFIGURATION = {
    "bLength": 9,
    "bDescriptorType": 2,
    "wTotalLength": 32,
    "bNumInterfaces": 1,
    "bConfigurationValue": 1,
    "iConfiguration": 0,
    "bmAttributes": 0x80,
    "bMaxPower": 250,
}
INTERFACE = {
    "bLength": 9,
    "bDescriptorType": 4,
    "bInterfaceNumber": 0,
    "bAlternateSetting": 0,
    "bNumEndpoints": 2,
    "bInterfaceClass": 255,
    "bInterfaceSubClass": 0,
    "bInterfaceProtocol": 0,
    "iInterface": 0,
}
ENDPOINT = {
    "bLength": 7,
    "bDescriptorType": 5,
    "bmAttributes": 2,
    "wMaxPacketSize": 64,
    "bInterval": 0,
    "bRefresh": 0,
    "bSynchAddress": 0,
}


def backend() -> Backend:
    """Return the backend with the monitors that MONSOON_LAB says."""
    return Backend([Instrument(Setup(**fields)) for fields in json.loads(os.environ.get(LAB) or "[{}]")])


def refused(number: int, text: str) -> usb.core.USBError:
    return usb.core.USBError(text, -1, number)


def timed_out() -> usb.core.USBTimeoutError:
    return usb.core.USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)


class Backend(usb.backend.IBackend):
    """Devices are instruments, handles too."""

    def __init__(self, instruments: list[Instrument]) -> None:
        self._instruments = instruments

    def enumerate_devices(self) -> Iterator[Instrument]:
        yield from self._instruments

    def get_parent(self, dev: Instrument) -> None:
        return None

    def get_device_descriptor(self, dev: Instrument) -> Any:
        place = {"bus": 200, "address": 200 + self._instruments.index(dev), "port_number": 1, "speed": 2}
        return types.SimpleNamespace(**DEVICE, **place, port_numbers=(1,))

    def get_configuration_descriptor(self, dev: Instrument, config: int) -> Any:
        if config:
            raise IndexError(config)
        return types.SimpleNamespace(**CONFIGURATION, extra_descriptors=b"")

    def get_interface_descriptor(self, dev: Instrument, intf: int, alt: int, config: int) -> Any:
        if intf or alt or config:
            raise IndexError(intf)
        return types.SimpleNamespace(**INTERFACE, extra_descriptors=b"")

    def get_endpoint_descriptor(self, dev: Instrument, ep: int, intf: int, alt: int, config: int) -> Any:
        return types.SimpleNamespace(**ENDPOINT, bEndpointAddress=(0x01, 0x81)[ep], extra_descriptors=b"")

    def open_device(self, dev: Instrument) -> Instrument:
        if not dev.setup.may_open:
            raise refused(errno.EACCES, "Access denied (insufficient permissions)")
        return dev

    def close_device(self, dev_handle: Instrument) -> None:
        pass

    def set_configuration(self, dev_handle: Instrument, config_value: int) -> None:
        pass

    def get_configuration(self, dev_handle: Instrument) -> int:
        return 1

    def claim_interface(self, dev_handle: Instrument, intf: int) -> None:
        if not dev_handle.setup.free:
            raise refused(errno.EBUSY, "Resource busy")

    def release_interface(self, dev_handle: Instrument, intf: int) -> None:
        pass

    def is_kernel_driver_active(self, dev_handle: Instrument, intf: int) -> bool:
        return False

    def bulk_read(self, dev_handle: Instrument, ep: int, intf: int, buff: Any, timeout: int) -> int:
        try:
            packet = dev_handle.fetch(timeout / 1000)
        except Gone:
            raise refused(errno.ENODEV, "No such device (it may have been disconnected)") from None
        if packet is None:
            raise timed_out()
        memoryview(buff)[: len(packet)] = packet
        return len(packet)

    def ctrl_transfer(
        self, dev_handle: Instrument, kind: int, request: int, value: int, index: int, data: Any, timeout: int
    ) -> int:
        if (kind, request) == DESCRIPTOR:
            answer = self._string(dev_handle, value & 0xFF)
        else:
            try:
                answer = dev_handle.control(kind, request, value, index, bytes(data))
            except Gone:
                raise refused(errno.ENODEV, "No such device (it may have been disconnected)") from None
        if answer is None:
            raise refused(errno.EPIPE, "Pipe error")
        if not kind & 0x80:
            return len(data)
        answer = answer[: len(data)]
        memoryview(data)[: len(answer)] = answer
        return len(answer)

    def _string(self, dev: Instrument, number: int) -> bytes:
        texts = {**STRINGS, SERIAL_STRING: dev.setup.serial}
        body = texts[number].encode("utf-16-le") if number else b"\x09\x04"
        return bytes([2 + len(body), 3]) + body
