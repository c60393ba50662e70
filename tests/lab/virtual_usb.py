"""A folder that stands in for a host's USB bus, with devices that come, go and come back as something else.

It holds what tools/usb.py reads of `/sys`, `/dev` and `/proc`, laid out as the kernel does. What is found
there is labelled simulated. Strings and speeds are those that kernels logged: OpenVINO issue 2933 (NCS2 in
its ROM: 480 Mb/s on a USB 3 port too), librealsense issue 2924 (NCS1).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tools.usb import Host

ROM = {"manufacturer": "Movidius Ltd.", "speed": "480", "version": " 2.00"}
NCS1 = {**ROM, "idProduct": "2150", "product": "Movidius MA2X5X", "serial": "03e72150"}
NCS2 = {**ROM, "idProduct": "2485", "product": "Movidius MyriadX", "serial": "03e72485"}
BOOTED = {
    "idProduct": "f63b",
    "manufacturer": "Intel Corporation",
    "product": "VSC Loopback Device",
    "speed": "5000",
    "version": " 3.00",
}


class VirtualHost:
    """A host with a USB 2 bus and, if wanted, a USB 3 bus, in a folder."""

    def __init__(self, root: Path, *, usb3: bool = True) -> None:
        self.root = root
        self._devices = root / "sys/bus/usb/devices"
        self._nodes = root / "dev/bus/usb"
        self._count = 0
        self._add("usb1", bus=1, attributes={"idVendor": "1d6b", "idProduct": "0002", "speed": "480"})
        if usb3:
            self._add("usb2", bus=2, attributes={"idVendor": "1d6b", "idProduct": "0003", "speed": "5000"})

    @property
    def host(self) -> Host:
        """What a tool sees of it."""
        return Host(self.root)

    def plug(self, port: str, attributes: dict[str, str], *, mode: int = 0o666) -> Path:
        """Plug a device in at e.g. `1-2`, with a node of that mode; return the node."""
        return self._add(port, int(port.partition("-")[0]), {"idVendor": "03e7", **attributes}, mode)

    def unplug(self, port: str) -> None:
        """Take a device away, and its node."""
        folder = self._devices / port
        self._node(folder).unlink()
        shutil.rmtree(folder)
        for interface in self._devices.glob(f"{port}:*"):
            shutil.rmtree(interface)

    def boot(self, port: str, new_port: str, **more: Any) -> Path:
        """Let a stick come back with its firmware, as another device, on another bus."""
        self.unplug(port)
        return self.plug(new_port, BOOTED, **more)

    def claim(self, port: str) -> None:
        """Bind the interface to usbfs, as the kernel does while a program has it."""
        driver = self.root / "sys/bus/usb/drivers/usbfs"
        driver.mkdir(parents=True, exist_ok=True)
        (self._devices / f"{port}:1.0" / "driver").symlink_to(driver)

    def open(self, node: Path, pid: int, name: str) -> None:
        """Show a process that has the node open."""
        process = self.root / "proc" / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text(f"{name}\n")
        (process / "fd" / "7").symlink_to(node)

    def _add(self, port: str, bus: int, attributes: dict[str, str], mode: int = 0o664) -> Path:
        self._count += 1
        folder = self._devices / port
        folder.mkdir(parents=True)
        (self._devices / f"{port}:1.0").mkdir()
        files = {**attributes, "busnum": str(bus), "devnum": str(self._count)}
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
        node = self._node(folder)
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        node.chmod(mode)
        return node

    def _node(self, folder: Path) -> Path:
        bus, number = (int((folder / name).read_text()) for name in ("busnum", "devnum"))
        return self._nodes / f"{bus:03d}" / f"{number:03d}"
