"""USB devices as Linux shows them in files: nothing is opened or sent, so looking costs a millisecond.

Formats: Documentation/ABI/stable/sysfs-bus-usb and Documentation/ABI/testing/sysfs-bus-usb of the Linux
kernel. Folders are named by where a device is: `usb1` is a bus, `1-2.4` what is in port 4 of the hub in
port 2 of bus 1, `1-2.4:1.0` an interface of it. The kernel names the node that a program opens in
`usb_devnode` (drivers/usb/core/usb.c).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

SIMULATED_HOST = "MOBILE_ACCELERATOR_SIMULATED_HOST"
ACL = "system.posix_acl_access"  # by which a login manager lets the user at the machine open devices: acl(5)
SUPER_SPEED_MBPS = 5000  # the slowest of USB 3


@dataclasses.dataclass(frozen=True)
class UsbDevice:
    """A device on a bus; hubs and the buses themselves are devices too.

    Attributes:
        port: where it is plugged in, e.g. `1-2.4`.
        vendor_id, product_id: four lower-case hexadecimal digits.
        bus, number: as in the name of its node; both change when it is plugged in or starts anew.
        speed_mbps: what it runs at now: 1.5, 12, 480, 5000, ...; 0 if the kernel does not know.
        usb_version: the version that its descriptor claims, e.g. `2.10`.
        manufacturer, product, serial: its own words, empty if it says nothing.
        drivers: the kernel's drivers of its interfaces; `usbfs` means that a program has claimed one
            (drivers/usb/core/devio.c).
        node: the file that a program opens to talk to it.
    """

    port: str
    vendor_id: str
    product_id: str
    bus: int
    number: int
    speed_mbps: float
    usb_version: str
    manufacturer: str
    product: str
    serial: str
    drivers: tuple[str, ...]
    node: Path

    @property
    def ids(self) -> str:
        """Vendor and product id as lsusb writes them."""
        return f"{self.vendor_id}:{self.product_id}"

    @property
    def may_be_opened(self) -> bool:
        """Whether this process may open it for writing, which any transfer needs."""
        return os.access(self.node, os.R_OK | os.W_OK)

    @property
    def may_be_opened_in_container(self) -> bool:
        """Whether a tool in a container may: it is this user in one group, or nobody if this user is root."""
        node, user = self.node.stat(), os.geteuid()
        allowed = node.st_mode & 0o6
        if user and node.st_uid == user:
            allowed |= node.st_mode >> 6 & 0o6
        if user and node.st_gid == os.getegid():
            allowed |= node.st_mode >> 3 & 0o6
        return allowed == 0o6 or bool(user and ACL in os.listxattr(self.node))


class Host:
    """Where the kernel shows its devices and processes.

    `root` is `/`, or a folder with `sys`, `dev` and `proc` that stands in for it; then `simulated` is true,
    and whoever shows what was found has to say so.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.simulated = root != Path("/")
        self.devices_folder = root / "sys/bus/usb/devices"
        self.nodes_folder = root / "dev/bus/usb"
        self._proc = root / "proc"

    @classmethod
    def current(cls) -> Host:
        """Return this host, or the one that $MOBILE_ACCELERATOR_SIMULATED_HOST names."""
        return cls(Path(os.environ.get(SIMULATED_HOST) or "/"))

    def devices(self) -> list[UsbDevice]:
        """Return all devices; one that goes while it is looked at is left out."""
        found = []
        for folder in sorted(self.devices_folder.glob("*")):
            if ":" not in folder.name:  # an interface
                with contextlib.suppress(OSError, ValueError):
                    found.append(self._read(folder))
        return found

    @property
    def is_virtual_machine(self) -> bool:
        """Whether the processor says that a hypervisor is below; those of Arm never say."""
        return bool(re.search(r"^flags\b.*\bhypervisor\b", _text(self._proc / "cpuinfo"), re.MULTILINE))

    def holders(self, device: UsbDevice) -> list[str]:
        """Return who has the device's node open, as `PID NAME`, of the processes that we may look into."""
        node = f"/bus/usb/{device.bus:03d}/{device.number:03d}"  # a container may have it below any /dev
        return [
            f"{process.name} {_text(process / 'comm')}"
            for process in sorted(self._proc.glob("[0-9]*"))
            if any(file.endswith(node) for file in _open_files(process))
        ]

    def _read(self, folder: Path) -> UsbDevice:
        bus, number = int(_text(folder / "busnum")), int(_text(folder / "devnum"))
        speed = re.match(r"[\d.]+", _text(folder / "speed"))
        return UsbDevice(
            port=folder.name,
            vendor_id=(folder / "idVendor").read_text().strip(),
            product_id=(folder / "idProduct").read_text().strip(),
            bus=bus,
            number=number,
            speed_mbps=float(speed.group()) if speed else 0.0,
            usb_version=_text(folder / "version"),
            manufacturer=_text(folder / "manufacturer"),
            product=_text(folder / "product"),
            serial=_text(folder / "serial"),
            drivers=_drivers(folder),
            node=self.nodes_folder / f"{bus:03d}" / f"{number:03d}",
        )


def _drivers(device: Path) -> tuple[str, ...]:
    """Return the drivers of a device's interfaces, whose folders lie beside the device's own."""
    links = device.parent.glob(f"{device.name}:*/driver")
    return tuple(sorted({Path(os.readlink(link)).name for link in links}))


def _text(path: Path) -> str:
    """Return what a file of the kernel says; nothing if it is not there, as for a string that is not set."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _open_files(process: Path) -> Iterator[str]:
    """Yield the files of /proc/PID/fd; none of a process that ended, or that we may not look into."""
    with contextlib.suppress(OSError), os.scandir(process / "fd") as entries:
        for entry in entries:  # no Path objects: a busy machine has tens of thousands
            with contextlib.suppress(OSError):  # it was closed just now
                yield os.readlink(entry.path)
