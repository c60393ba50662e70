"""Which camera there is, and how a network gets onto it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools import movidius
from tools.movidius import BOOTLOADER, FLASH_BOOTED, NCS2, VENDOR, Stick
from tools.myriad_blob import Blob
from tools.oak import library
from tools.oak.session import RECEIVING, SENDING, DeviceLog, OakSession, message_bytes
from tools.stage import DeviceNotFound, first_line
from tools.usb import Host

LUXONIS_ONLY = "Luxonis' firmware is for its own boards; the tool ncs is for a Neural Compute Stick."


def find(devices: Sequence[Stick], port: str) -> Stick:
    """Return the device at `port`; without one, the first that is a camera for certain.

    In its boot ROM a Myriad X is a camera or a Neural Compute Stick, which nothing tells apart. To send
    Luxonis' firmware there takes the user's word.

    Raises:
        DeviceNotFound: there is none, or it cannot be used; the hint says what to do.
    """
    mark = " (simulated)" if any(device.simulated for device in devices) else ""
    cameras = [device for device in devices if device.ids in _ids(BOOTLOADER, FLASH_BOOTED)]
    in_rom = [device for device in devices if device.ids in _ids(NCS2)]
    if port:
        cameras = [device for device in cameras + in_rom if device.port == port]
    elif in_rom and not cameras:
        message = f"the Myriad X at USB {in_rom[0].port} is not known to be an OAK camera{mark}"
        hint = f"If it is one, say so: --set port={in_rom[0].port}. {LUXONIS_ONLY}"
        raise DeviceNotFound(message, hint=hint)
    if not cameras:
        where = f" at USB {port}" if port else ""
        found = "; ".join(f"{device.name} {device.ids} {device.found}".strip() for device in devices)
        message = f"no OAK camera{where}: {found}{mark}"
        mend = "; ".join(device.mend for device in devices if device.mend)
        raise DeviceNotFound(message, hint=mend or LUXONIS_ONLY)
    camera = cameras[0]
    if camera.state not in ("ready", "host only"):
        message = f"the camera at USB {camera.port} cannot be used ({camera.state}): {camera.found}{mark}"
        raise DeviceNotFound(message, hint=camera.mend)
    return camera


def start(camera: Stick, path: Path, about: Blob) -> OakSession:
    """Send firmware and network to the camera.

    Raises:
        DeviceNotFound: it does not start, or is none of Luxonis' with this chip.
    """
    dai, log = library.load(), DeviceLog()
    network = pipeline(dai, path, about)
    try:
        seen = _seen_by_depthai(dai, camera)
        device = dai.Device(seen, maxUsbSpeed=dai.UsbSpeed.SUPER)
        device.setSystemInformationLoggingRate(0)
        device.setLogLevel(dai.LogLevel.INFO)
        device.addLogCallback(log.add)  # before the network is there, of which the chip says something
        name = device.getDeviceName()
        if name:
            device.startPipeline(network)
    except RuntimeError as error:
        said = "; ".join(log.errors) or first_line(error)
        message = f"the camera at USB {camera.port} does not start: {said}"
        raise DeviceNotFound(
            message, hint=f"{movidius.why_not_back(Host.current())} {LUXONIS_ONLY}"
        ) from error
    if not name:
        message = f"the device at USB {camera.port} does not name a board of Luxonis'"
        raise DeviceNotFound(message, hint=LUXONIS_ONLY)
    session = OakSession(dai, device, about, log)
    bootloader = device.getBootloaderVersion()
    session.metadata.update(
        device_name=name,
        mxid=device.getMxId(),
        usb_port=camera.port,
        usb_speed=device.getUsbSpeed().name,
        state_before=seen.state.name,
        bootloader=str(bootloader) if bootloader else None,
        firmware=dai.__device_version__,
    )
    return session


def pipeline(dai: Any, path: Path, about: Blob) -> Any:
    """Return what runs on the camera: input, network, output.

    One thread with both convolution engines and transfers in one piece, as Luxonis advises for latency:
    docs.luxonis.com/software/depthai/optimizing.
    """
    made = dai.Pipeline()
    made.setXLinkChunkSize(0)
    source = made.create(dai.node.XLinkIn)
    source.setStreamName(SENDING)
    source.setMaxDataSize(message_bytes(about))
    network = made.create(dai.node.NeuralNetwork)
    network.setBlobPath(path)
    network.setNumInferenceThreads(1)
    network.setNumNCEPerInferenceThread(2)
    network.input.setBlocking(True)
    network.input.setQueueSize(1)
    sink = made.create(dai.node.XLinkOut)
    sink.setStreamName(RECEIVING)
    source.out.link(network.input)
    network.out.link(sink.input)
    return made


def _ids(*products: str) -> list[str]:
    return [f"{VENDOR}:{product}" for product in products]


def _seen_by_depthai(dai: Any, camera: Stick) -> Any:
    """Return depthai's own description of a device; its name there is bus and ports, 1.2.4 for 1-2.4.

    A Device that is asked for without one is waited for.
    """
    seen = dai.XLinkConnection.getAllConnectedDevices(
        dai.XLinkDeviceState.X_LINK_ANY_STATE,
        skipInvalidDevices=False,
        platform=dai.XLinkPlatform.X_LINK_ANY_PLATFORM,
    )
    found = [info for info in seen if info.name == camera.port.replace("-", ".")]
    if not found:
        names = ", ".join(info.name for info in seen) or "none"
        message = f"depthai does not see the device at USB {camera.port}; it sees {names}"
        raise DeviceNotFound(message, hint=camera.mend or "Replug it.")
    if found[0].status != dai.XLinkError_t.X_LINK_SUCCESS:
        message = f"depthai cannot use the device at USB {camera.port}: {found[0].status.name}"
        raise DeviceNotFound(message, hint=f"If it may not be opened: {movidius.INSTALL_RULES}.")
    if found[0].platform != dai.XLinkPlatform.X_LINK_MYRIAD_X:
        message = f"the device at USB {camera.port} is {found[0].platform.name}, no camera of generation RVC2"
        raise DeviceNotFound(message, hint="Blobs are for a Myriad X only.")
    return found[0]
