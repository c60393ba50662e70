"""A simulated device that gives back what it gets, and a program that asks it: tests.lab.usb.echo.

They show what a stick does not use of a gadget: vendor requests with and without data, a refused one.
The host's side is Linux' usbfs itself (include/uapi/linux/usbdevice_fs.h), so it needs no library.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab.usb.gadget import Gadget, Identity, Setup, beside

OUT, IN = 0x01, 0x81
TO_DEVICE, FROM_DEVICE = 0x40, 0xC0  # vendor requests
KEEP, UNKNOWN = 1, 2
VALUE, INDEX = 0x3333, 0x4341
CLAIM_INTERFACE, CONTROL, BULK = 0x8004550F, 0xC0185500, 0xC0185502  # ioctl numbers
LIMIT_MS = 5000
SETTLE_S = 2
DEVICE = Identity(vendor=0x2AB9, product=0x0001, maker="Nobody", name="Echo (simulated)", serial="12345")


class Echo:
    """The device: keeps what a vendor request brings, and sends bulk data back in reverse."""

    def __init__(self) -> None:
        self._kept = b""

    def live(self) -> None:
        gadget = Gadget([OUT, IN], self._answer)
        gadget.plug(DEVICE)
        while True:
            gadget.write(IN, gadget.read(OUT, 512)[::-1])

    def _answer(self, setup: Setup, data: bytes) -> bytes | None:
        if setup.request != KEEP:
            return None
        if not setup.asks:
            self._kept = struct.pack("<2H", setup.value, setup.index) + data
        return self._kept


class Host:
    """The computer that it is plugged into."""

    def __init__(self) -> None:
        [self.folder] = [
            path.parent
            for path in Path("/sys/bus/usb/devices").glob("*/idVendor")
            if path.read_text().strip() == f"{DEVICE.vendor:04x}"
        ]
        bus, device = (int((self.folder / name).read_text()) for name in ("busnum", "devnum"))
        self._node = os.open(f"/dev/bus/usb/{bus:03d}/{device:03d}", os.O_RDWR)
        fcntl.ioctl(self._node, CLAIM_INTERFACE, struct.pack("I", 0))

    def control(self, kind: int, request: int, data: bytes = b"", length: int = 0) -> bytes:
        buffer = ctypes.create_string_buffer(data, length or len(data))
        setup = (kind, request, VALUE, INDEX, len(buffer), LIMIT_MS, ctypes.addressof(buffer))
        count = fcntl.ioctl(self._node, CONTROL, bytearray(struct.pack("@2B3HIP", *setup)))
        return buffer.raw[:count]

    def bulk(self, endpoint: int, data: bytes = b"", length: int = 0) -> bytes:
        buffer = ctypes.create_string_buffer(data, length or len(data))
        transfer = (endpoint, len(buffer), LIMIT_MS, ctypes.addressof(buffer))
        count = fcntl.ioctl(self._node, BULK, bytearray(struct.pack("@3IP", *transfer)))
        return buffer.raw[:count]

    def ask(self) -> dict[str, Any]:
        """Return what the device says to each kind of transfer."""
        said: dict[str, Any] = {
            name: (self.folder / name).read_text().strip() for name in ("manufacturer", "product", "serial")
        }
        self.control(TO_DEVICE, KEEP, b"data")
        said["kept"] = self.control(FROM_DEVICE, KEEP, length=64).hex()
        self.control(TO_DEVICE, KEEP)
        said["kept without data"] = self.control(FROM_DEVICE, KEEP, length=64).hex()
        try:
            self.control(FROM_DEVICE, UNKNOWN, length=64)
        except OSError as error:
            said["unknown"] = error.strerror
        self.bulk(OUT, b"tab")
        said["bulk"] = self.bulk(IN, length=512).decode()
        return said


def main() -> int:
    if sys.argv[1:] == ["host"]:
        time.sleep(SETTLE_S)
        print(json.dumps(Host().ask()))
        return 0
    return beside(Echo().live, [sys.executable, "-m", "tests.lab.usb.echo", "host"])


if __name__ == "__main__":
    sys.exit(main())
