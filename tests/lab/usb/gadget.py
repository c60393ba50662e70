"""A USB device that is a Python program: GadgetFS on the kernel's `dummy_hcd`, as root in the guest.

FunctionFS would leave the choice of endpoints to the kernel, which here takes 0x02 for the first. GadgetFS
has one file per endpoint, named by its address. Formats: Linux, include/uapi/linux/usb/gadgetfs.h and
drivers/usb/gadget/legacy/inode.c (files and events); USB 2.0, chapter 9 (descriptors, requests).
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import select
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

FILES = Path("/dev/gadget")
BULK = 2
VENDOR_SPECIFIC = 0xFF
DIRECTION_IN = 0x80
GET_DESCRIPTOR, SET_CONFIGURATION = 6, 9
STRING = 3
SETUP_EVENT = 3
ENGLISH = 0x0409


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What a device says of itself when it is plugged in."""

    vendor: int
    product: int
    maker: str
    name: str
    serial: str


@dataclasses.dataclass(frozen=True)
class Setup:
    """A control request to the device. With `request_type & 0x80` the device answers with data."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    @property
    def asks(self) -> bool:
        return bool(self.request_type & DIRECTION_IN)


Control = Callable[[Setup, bytes], bytes | None]


def refuse(_setup: Setup, _data: bytes) -> None:
    """Answer no vendor request."""


class Gadget:
    """A high-speed device with one configuration, one vendor-specific interface and bulk endpoints.

    `endpoints` are addresses such as 0x01 (to the device) and 0x81 (from it). `control` gets every request
    that USB itself does not define, with the data of those that bring some. It returns what those that ask
    for data get, or None to refuse.
    """

    def __init__(self, endpoints: Sequence[int], control: Control = refuse) -> None:
        self._endpoints = endpoints
        self._control = control
        self._open: dict[int, int] = {}
        self._configured = threading.Event()
        self._stop = os.pipe()
        if not FILES.exists():
            FILES.mkdir()
            subprocess.run(["mount", "-t", "gadgetfs", "gadgetfs", str(FILES)], check=True)

    def plug(self, identity: Identity) -> None:
        """Appear on the bus as a new device with a new number."""
        self._strings = ["", identity.maker, identity.name, identity.serial]
        [ep0] = [path for path in FILES.iterdir() if not path.name.startswith("ep")]
        self._ep0 = os.open(ep0, os.O_RDWR | os.O_NONBLOCK)
        device = struct.pack("<2BH4B", 18, 1, 0x0200, 0, 0, 0, 64)
        device += struct.pack("<3H4B", identity.vendor, identity.product, 0x0100, 1, 2, 3, 1)
        os.write(self._ep0, bytes(4) + self._configuration(64) + self._configuration(512) + device)
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def unplug(self) -> None:
        """Disappear from the bus. Not while a thread is in `read` or `write`: GadgetFS would wait for it."""
        os.write(self._stop[1], b"x")
        self._serving.join()
        os.read(self._stop[0], 1)
        os.close(self._ep0)
        for file in self._open.values():
            os.close(file)
        self._open.clear()
        self._configured.clear()

    def read(self, address: int, size: int) -> bytes:
        """Return what the host sends to an endpoint: `size` bytes, or fewer at a transfer's end."""
        self._configured.wait()
        return os.read(self._open[address], size)

    def write(self, address: int, data: bytes) -> None:
        """Give data to an endpoint; returns when the host has read it."""
        self._configured.wait()
        os.write(self._open[address], data)

    def _configuration(self, packet_bytes: int) -> bytes:
        interface = struct.pack("<9B", 9, 4, 0, 0, len(self._endpoints), VENDOR_SPECIFIC, 0, 0, 0)
        body = interface + b"".join(_endpoint(address, packet_bytes) for address in self._endpoints)
        return struct.pack("<BBH5B", 9, 2, 9 + len(body), 1, 1, 0, 0x80, 250) + body

    def _serve(self) -> None:
        for setup in self._setups():
            with contextlib.suppress(OSError):  # the host has given up on this request
                self._handle(setup)

    def _setups(self) -> Iterator[Setup]:
        poll = select.poll()
        poll.register(self._ep0, select.POLLIN)
        poll.register(self._stop[0], select.POLLIN)
        while self._stop[0] not in (ready := dict(poll.poll())):
            if ready:
                event = os.read(self._ep0, 12)  # one at a time; connecting and suspending need no answer
                *fields, kind = struct.unpack("<BBHHHI", event)
                if kind == SETUP_EVENT:
                    yield Setup(*fields)

    def _handle(self, setup: Setup) -> None:
        answer, data = None, b""
        if (setup.request_type, setup.request) == (0, SET_CONFIGURATION):
            self._configure()
        elif (setup.request_type, setup.request) == (DIRECTION_IN, GET_DESCRIPTOR):
            if setup.value >> 8 == STRING:
                answer = self._string(setup.value & 0xFF)
        else:
            if setup.length and not setup.asks:
                data = os.read(self._ep0, setup.length)
            answer = self._control(setup, data)
        if setup.asks and answer is not None:
            os.write(self._ep0, answer[: setup.length])
        elif not data:
            # done, if there was nothing to transfer; refused, if data were asked for (the wrong direction)
            os.read(self._ep0, 0)

    def _configure(self) -> None:
        if self._open:
            return
        for address in self._endpoints:
            direction = "in" if address & DIRECTION_IN else "out"
            file = os.open(FILES / f"ep{address & 0x0F}{direction}-bulk", os.O_RDWR)
            os.write(file, struct.pack("<I", 1) + _endpoint(address, 64) + _endpoint(address, 512))
            self._open[address] = file
        self._configured.set()

    def _string(self, number: int) -> bytes | None:
        if number >= len(self._strings):
            return None
        text = self._strings[number].encode("utf-16-le") if number else struct.pack("<H", ENGLISH)
        return struct.pack("<2B", 2 + len(text), STRING) + text


def beside(live: Callable[[], None], command: Sequence[str]) -> int:
    """Let a device live in a process of its own while a command runs; return the command's exit code."""
    device = multiprocessing.get_context("fork").Process(target=live)
    device.start()
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        device.kill()  # which pulls it out, and ends a transfer that waits for the host
        device.join()


def _endpoint(address: int, packet_bytes: int) -> bytes:
    return struct.pack("<4BHB", 7, 5, address, BULK, packet_bytes, 0)
