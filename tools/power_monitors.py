"""Monsoon's power monitors on USB, by the kernel's files; nothing is opened. Standard library only.

A monitor on USB is 2ab9:0001. The white one with the firmware that it is sold with is a serial port (CDC):
04d8:fe23, or 2ab9:0001 too, by Monsoon's own driver file; the kernel's driver makes /dev/ttyACM0 of it.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Optional, Sequence

from tools.recording import Attached
from tools.usb import Host, UsbDevice

VENDOR, PRODUCT = 0x2AB9, 0x0001
USB_ID, SERIAL_ID = f"{VENDOR:04x}:{PRODUCT:04x}", "04d8:fe23"
# The rules that let every user open a monitor, for udev(7): `doctor --install-udev` writes them.
_USB = (
    'SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="%s", ATTR{idProduct}=="%s", MODE="0666"'
)
_SERIAL = (
    'SUBSYSTEM=="tty", ATTRS{idVendor}=="%s", ATTRS{idProduct}=="%s", '
    'MODE="0666", ENV{ID_MM_DEVICE_IGNORE}="1"'
)
USB_RULE = _USB % tuple(USB_ID.split(":"))
SERIAL_RULES = [_SERIAL % tuple(ids.split(":")) for ids in (USB_ID, SERIAL_ID)]
RULES = [USB_RULE, *SERIAL_RULES]
INSTALL_RULES = (
    "On the host: python runner.py doctor --install-udev, and replug it. The rule that it writes: "
)


@dataclasses.dataclass(frozen=True)
class Found:
    """A monitor. `port` is the node of its serial port, None where it speaks the protocol for USB."""

    device: UsbDevice
    port: Optional[Path]

    @property
    def serial(self) -> str:
        """The serial number that it says on USB, or else the name of its port."""
        return self.device.serial or (self.port.name if self.port else self.device.port)

    @property
    def node(self) -> Path:
        """The file that is opened to talk to it."""
        return self.port or self.device.node

    @property
    def problem(self) -> str:
        """Why it cannot be opened; "" if nothing is known to be in the way."""
        if self.device.ids == SERIAL_ID and not self.port:
            return "the kernel made no serial port of it"
        if not self.node.exists():
            return f"{self.node} is not there"
        return "" if os.access(self.node, os.R_OK | os.W_OK) else f"{self.node} may not be opened by you"

    @property
    def hint(self) -> str:
        """What to do about that."""
        if not self.problem:
            return ""
        if self.device.ids == SERIAL_ID and not self.port:
            return "Load the kernel's driver: modprobe cdc_acm"
        if not self.node.exists():
            return "In a container: docs/monsoon.md says how a serial port gets there. Else replug it."
        return INSTALL_RULES + (_SERIAL if self.port else _USB) % tuple(self.device.ids.split(":"))


def find(host: Host) -> Sequence[Found]:
    """Return all monitors on USB, those with a serial port too."""
    found = []
    for device in host.devices():
        if device.ids in (USB_ID, SERIAL_ID):
            found.append(Found(device, _port(host, device)))
    return found


def present(root: Path = Path("/")) -> list[Attached]:
    """Return the monitors that are here, for `--meter auto` and for lists."""
    host = Host(root) if root != Path("/") else Host.current()
    return [
        Attached(
            name=f"Monsoon{' (serial port)' if one.port else ''}{' (simulated)' if host.simulated else ''}",
            serial=one.serial,
            problem=one.problem,
            hint=one.hint,
        )
        for one in find(host)
    ]


def _port(host: Host, device: UsbDevice) -> Optional[Path]:
    """Return the node of the serial port that the kernel made of a device, if it did."""
    interfaces = sorted(host.devices_folder.glob(f"{device.port}:*"))
    names = [tty.name for interface in interfaces for tty in (interface / "tty").glob("ttyACM*")]
    return host.nodes_folder.parents[1] / names[0] if names else None
