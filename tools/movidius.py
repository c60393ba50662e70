"""Neural Compute Sticks and other Movidius devices on USB: what state each is in, and what to do about it.

All from files of the kernel (tools/usb.py). OpenVINO itself, by loading its MYRIAD plug-in, takes 5 s where
there is no stick, and says `NC_ERROR` in every state below.

A stick waits in its boot ROM under an id of its generation. A program uploads firmware, and it comes back as
another device, f63b, often on another bus; when the program ends it falls back to its ROM. Ids: OpenVINO
2021.4, XLink/pc/protocols/usb_boot.h; NCSDK 2, api/src/common.h (2150); Luxonis' XLink, usb_host.cpp (f63c,
f63d).
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform

from tools.usb import SUPER_SPEED_MBPS, Host, UsbDevice

VENDOR = "03e7"
NCS1, NCS2, BOOTED = "2150", "2485", "f63b"  # of sticks, for which the udev rules are
BOOTLOADER, FLASH_BOOTED = "f63c", "f63d"  # of OAK cameras only
NAMES = {
    NCS1: "Neural Compute Stick",
    NCS2: "Neural Compute Stick 2",
    BOOTED: "Neural Compute Stick",
    BOOTLOADER: "OAK camera",
    FLASH_BOOTED: "OAK camera",
}
RESTING = {
    NCS1: (
        "Myriad 2, in its boot ROM",
        "OpenVINO 2021.4 has no firmware for it: see docs/first-generation.md",
    ),
    NCS2: ("Myriad X, in its boot ROM (an OAK camera looks the same there)", ""),
    BOOTLOADER: ("Myriad X, in Luxonis' bootloader", ""),
    FLASH_BOOTED: ("Myriad X, runs from its flash", ""),
}
OAK = "luxonis"  # in what a camera with Luxonis' firmware calls itself (depthai-core, issue 291)
INSTALL_RULES = "python runner.py doctor --install-udev (on the host), and replug it"


@dataclasses.dataclass(frozen=True)
class Stick:
    """A Movidius device, or in the last two states none, and why.

    States:
        ready: a program may boot it.
        in use: a program has it, and there can be one only.
        no permission: its node may not be opened by this user.
        host only: this user may open it, but not a tool in a container, which is never root and in no group.
        stale: it runs the firmware of a program that is gone.
        no node: the node is not there, as in a container that was not given the bus folder.
        none, no bus: there is no such device, or no way to see one.
    """

    name: str
    state: str
    found: str
    mend: str = ""
    port: str = ""
    ids: str = ""
    serial: str = ""
    speed_mbps: float = 0.0
    simulated: bool = False


def examine(host: Host) -> list[Stick]:
    """Return every Movidius device with its state; if there is none, one entry that says why."""
    devices = host.devices()
    ours = [device for device in devices if device.vendor_id == VENDOR]
    usb3 = any(device.speed_mbps >= SUPER_SPEED_MBPS for device in devices)
    sticks = []
    for device in ours:
        with contextlib.suppress(FileNotFoundError):  # it went, or comes back as another device
            sticks.append(_stick(device, host, usb3, len(ours)))
    found = sticks or [_no_stick(host, len(devices))]
    return [dataclasses.replace(stick, simulated=host.simulated) for stick in found]


def why_not_back(host: Host) -> str:
    """Say what to do when a stick took its firmware and was not seen again, by what is on the bus now."""
    ours = {device.product_id: device for device in host.devices() if device.vendor_id == VENDOR}
    if BOOTED in ours and not ours[BOOTED].may_be_opened:
        return f"It came back as {ours[BOOTED].ids}, which you may not open: {INSTALL_RULES}."
    if BOOTED in ours:
        return (
            "It came back, but the program did not hear of it: rootless Docker keeps back the kernel's "
            "events. Replug it and use --engine venv."
        )
    place = "a port of the machine itself, not of a hub"
    if ours:
        return f"It fell back to its boot ROM. Try another cable, and {place}."
    return f"It left the bus. Replug it into {place}; a virtual machine has to pass {VENDOR}:{BOOTED} on too."


def _stick(device: UsbDevice, host: Host, usb3: bool, count: int) -> Stick:
    """Return a device's state; `usb3` tells whether the host has such a bus, `count` how many devices."""
    state, found, mend = _state(device, host)
    remarks = [(found, mend), *_remarks(device, usb3, count)]
    is_oak = OAK in f"{device.manufacturer} {device.product}".lower()
    return Stick(
        name="OAK camera" if is_oak else NAMES.get(device.product_id, device.product or "Movidius device"),
        state=state,
        found="; ".join(found for found, _ in remarks),
        mend="; ".join(mend for _, mend in remarks if mend),
        port=device.port,
        ids=device.ids,
        serial=device.serial,
        speed_mbps=device.speed_mbps,
    )


def _state(device: UsbDevice, host: Host) -> tuple[str, str, str]:
    """Return state, what was found, and what to do."""
    node = device.node
    if not node.exists():
        mend = (
            "unplug it and plug it in again; in a container: is MOBILE_ACCELERATOR_USB set to another folder?"
        )
        return "no node", f"{node} is not there", mend
    holders = host.holders(device)
    if holders:
        return "in use", f"by {', '.join(holders)}", "wait until it ends: one program at a time can have it"
    if "usbfs" in device.drivers:  # XLink has claimed the interface as long as it uses it (usbLinkOpen)
        return "in use", "by a program of another user, or outside of this container", "wait until it ends"
    if not device.may_be_opened:
        return "no permission", f"{node} may not be opened by you", INSTALL_RULES
    if device.product_id == BOOTED:
        # its watchdog may not run yet when the program is killed (OpenVINO, pull request 554)
        mend = "replug it, unless its watchdog resets it within some seconds"
        return "stale", "it runs the firmware of a program that is gone", mend
    if not device.may_be_opened_in_container:
        found = f"{node} may be opened by you, but by no tool in a container, which has none of your groups"
        return "host only", found, f"{INSTALL_RULES}, or use --engine venv"
    return ("ready", *RESTING.get(device.product_id, ("its id is not known here", "")))


def _remarks(device: UsbDevice, usb3: bool, count: int) -> list[tuple[str, str]]:
    """Return what else was found, and what to do about it."""
    remarks = []
    if device.product_id in (BOOTED, FLASH_BOOTED) and 0 < device.speed_mbps < SUPER_SPEED_MBPS:
        found = f"at {device.speed_mbps:g} Mb/s: a USB 2 port, hub or cable"
        remarks.append((found, f"it can do {SUPER_SPEED_MBPS} Mb/s on USB 3"))
    elif not usb3:  # the ROM itself is at 480 Mb/s on every port (OpenVINO, issue 2933), so only this is sure
        remarks.append(("this host has USB 2 only", "a host with USB 3 transfers its data faster"))
    if count > 1:  # Intel's instructions for its own images, installing-openvino-docker-linux.md
        remarks.append((f"one of {count}", "leave one plugged in: a container cannot use several"))
    return remarks


def _no_stick(host: Host, count: int) -> Stick:
    """Say why there is none among `count` USB devices."""
    if platform.system() != "Linux" and not host.simulated:
        found = f"{platform.system()} does not show its USB devices in files"
        mend = "use --engine venv: containers run in a virtual machine there, without the USB devices"
        return Stick("", "no bus", found, mend)
    if not host.devices_folder.is_dir():
        found = f"the kernel has no USB ({host.devices_folder} is not there)"
        mend = f"pass a stick on to the virtual machine, as {VENDOR}:{NCS2} and as {VENDOR}:{BOOTED}"
        return Stick("", "no bus", found, mend)
    found = f"no Movidius device ({VENDOR}) among {count} on USB"
    return Stick("", "none", found, "plug it in; if it is, try another port and cable")
