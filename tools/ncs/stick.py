"""The stick itself: whether it is there, which one answers, and why it does not."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any, Optional

from tools import movidius
from tools.movidius import Stick
from tools.ncs.inference_engine import PLUGIN, known_errors, translate
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported
from tools.usb import SUPER_SPEED_MBPS, Host

PRECISION = "fp16"
CHIP = "2480"  # the only one that OpenVINO 2021.4 has firmware for
READY = ("ready", "host only")  # the latter is for containers: this process may open it
THERMAL = "DEVICE_THERMAL"
NOT_THE_STICK = (
    "AUTO, HETERO and MULTI may take the CPU without a word, so they are never measured as a stick."
)


def check(device: str, precision: str) -> None:
    """Raise if it is not the stick that is asked for, or not what it computes in.

    Raises:
        InvalidRequest: `device` is neither MYRIAD nor MYRIAD.<name> of one of several.
        Unsupported: another precision.
    """
    if device.partition(".")[0] != PLUGIN or "," in device:
        message = f"the device {device!r} is not a stick"
        raise InvalidRequest(message, hint=f"Use {PLUGIN}, or {PLUGIN}.<name>. {NOT_THE_STICK}")
    if precision != PRECISION:
        message = f"the stick computes in {PRECISION} only, not in {precision}"
        raise Unsupported(message, hint=f"Leave --precision out, or use {PRECISION}.")


def find(host: Host) -> Optional[Stick]:
    """Return a stick that can be opened, from the kernel's files: the plug-in takes 5 s to find none.

    None where the system shows no such files (macOS, Windows); there the plug-in has to look.

    Raises:
        DeviceNotFound: there is none, or none that can be opened, and why.
    """
    if platform.system() != "Linux":
        return None
    seen = movidius.examine(host)
    able = [stick for stick in seen if stick.state in READY and stick.name == movidius.NAMES[movidius.NCS2]]
    if able:
        return able[0]
    what = "; ".join(f"{stick.name} {stick.state}: {stick.found}".lstrip("- ") for stick in seen)
    mend = "; ".join(dict.fromkeys(stick.mend for stick in seen if stick.mend))
    message = f"there is no Neural Compute Stick 2 to use ({what})"
    raise DeviceNotFound(message, hint=f"{mend}. See what is there: python runner.py doctor")


@contextlib.contextmanager
def opening(host: Host) -> Iterator[None]:
    """Say of a stick that was ready and could not be opened what became of it."""
    try:
        with known_errors("the network was not loaded on the stick"):
            yield
    except DeviceNotFound as error:
        raise DeviceNotFound(str(error), hint=f"{movidius.why_not_back(host)} {error.hint}") from error


@contextlib.contextmanager
def answering(host: Host) -> Iterator[None]:
    """Say of a stick that fails in the middle what became of it. What was measured until then is dropped."""
    try:
        yield
    except RuntimeError as error:
        failure = translate(str(error), "in the middle of the measurement")
        if isinstance(failure, DeviceNotFound):
            now = movidius.examine(host)[0]
            message = f"{failure}; on USB now: {now.state}, {now.found}"
            failure = DeviceNotFound(message, hint=failure.hint)
        raise failure from error


def identify(core: Any, network: Any, device: str, host: Host) -> dict[str, Any]:
    """Return which stick executes the loaded `network`, by the plug-in's and the kernel's word.

    Raises:
        StageError: it is no stick that executes it.
        InvalidRequest: there are several, and none was named.
    """
    # of all plug-ins of OpenVINO only MYRIAD's networks can tell a chip's temperature
    if THERMAL not in network.get_metric("SUPPORTED_METRICS"):
        message = "the network was not loaded on a stick: it does not know a chip's temperature"
        raise StageError(message, hint=NOT_THE_STICK)
    names = core.get_metric(PLUGIN, "AVAILABLE_DEVICES")
    if device == PLUGIN and len(names) > 1:
        message = f"it cannot be said which of {len(names)} sticks executes the network: {', '.join(names)}"
        raise InvalidRequest(message, hint=f"Name one: --set device={PLUGIN}.{names[0]}")
    running = [stick for stick in movidius.examine(host) if stick.ids.endswith(movidius.BOOTED)]
    speed_mbps = running[0].speed_mbps if len(running) == 1 else None
    found = {
        "device_name": core.get_metric(device, "FULL_DEVICE_NAME"),
        "execution_devices": names if device == PLUGIN else [device.partition(".")[2]],
        "usb_speed_mbps": speed_mbps,
        "chip_before_c": temperature_c(network),
        "simulated": host.simulated,
    }
    if speed_mbps and speed_mbps < SUPER_SPEED_MBPS:
        found["warnings"] = [f"The stick is on USB 2 ({speed_mbps:g} Mb/s): transport takes longer."]
    return found


def temperature_c(network: Any) -> Optional[float]:
    """Return the chip's temperature in degrees Celsius; None if it does not tell."""
    try:
        return round(float(network.get_metric(THERMAL)), 1)
    except RuntimeError:
        return None
