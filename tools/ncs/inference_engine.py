"""OpenVINO 2021.4, the last with the MYRIAD plug-in: core, networks, and errors in the project's words."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from xml.etree import ElementTree as ET

from tools.movidius import INSTALL_RULES, LOOK
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported

PLUGIN = "MYRIAD"  # never HETERO or AUTO, which take the CPU for what the stick cannot do, and do not say so
NEWEST_IR = 10

CHECK = "See which layers the stick takes: ncs.check."
CONVERT_AGAIN = "Convert it again: with tf1.to-onnx, or as you made it."
FIXED_SHAPE = "Export the network with a fixed batch, e.g. 1: the stick knows no other."
REPLUG = f"Unplug the stick and plug it into a USB 3 port. {LOOK}"
PLUG_IN = f"Plug in a stick that no other process uses. {LOOK}"

# What the plug-in and its libraries say, and what it means: (pattern, class, what happened, what to do). What
# happened is a template of the pattern's groups. The first that is found counts. The group `layer` goes into
# the error's metadata.
KNOWN = (
    # reading a network
    (
        r"nGraph does not support the following ONNX operations: *(.+)",
        Unsupported,
        r"OpenVINO 2021.4 does not know the ONNX operators \1",
        "Export the network with other operators, or with a lower opset.",
    ),
    (
        r"While validating ONNX node '<Node\((\w+)\): (.*?)>':\s*(.+)",
        InvalidRequest,
        r"the node \2 (\1) of the network is wrong: \3",
        CONVERT_AGAIN,
    ),
    (
        r"Unknown model format!|Error during import of ONNX model|Incorrect weights in bin file",
        InvalidRequest,
        "it is not an ONNX network, nor an IR of OpenVINO to version 10, or it is cut off",
        CONVERT_AGAIN,
    ),
    # compiling it
    (
        r'Failed to compile layer "(?P<layer>.+?)": unsupported layer type "(\w+)"',
        Unsupported,
        r"it has no layer \2",
        CHECK,
    ),
    (
        r'Failed to compile layer "(?P<layer>.+?)":(?:(?:.|\n)*[ch]pp:\d+)?\s*(.+)',
        Unsupported,
        r"its compiler says: \2",
        CHECK,
    ),
    (
        r'Value of configuration option \("MYRIAD_(\w+)"\) (must be .+)',
        InvalidRequest,
        r"\1 \2",
        "Let the compiler choose: 0.",
    ),
    (
        r'Cannot allocate "(\d+)" shaves: only (\d+) is available',
        InvalidRequest,
        r"the streams take \1 SHAVE processors together, and the chip has \2",
        "Give fewer shaves, or streams=1.",
    ),
    # the environment and the stick
    (
        r"libpython\S+: cannot open shared object",
        StageError,
        "this Python has no shared library, which OpenVINO 2021.4 is linked to",
        "Install libpython3.9, take a Python built with --enable-shared, or --engine docker.",
    ),
    (
        r"libusb-1\.0\.so\.0: cannot open shared object",
        StageError,
        "libusb is not there",
        "Make the environment again: images/ncs/requirements.txt has libusb-package.",
    ),
    (
        r"Failed to find booted device after boot|doesn't (?:dis)?appear after (?:boot|firmware loading)",
        DeviceNotFound,
        "the stick took its firmware and did not come back with it",
        REPLUG,
    ),
    (
        r"Can't get firmware|Firmware not found|NC_MVCMD_NOT_FOUND",
        StageError,
        "the stick's firmware is not beside the plug-in; that of the first Neural Compute Stick never is",
        "For a Neural Compute Stick 2 make the environment again.",
    ),
    (
        r"bigger than the device memory|Not enough memory to allocate|NC_OUT_OF_MEMORY|X_LINK_OUT_OF_MEMORY",
        Unsupported,
        "the network is too large for the stick's memory",
        "Use a smaller network, or fewer streams.",
    ),
    (
        r"Myriad device: (.+) not found",
        DeviceNotFound,
        r"there is no stick \1",
        "See which there are: ncs.devices.",
    ),
    (
        r"Maximum number of networks reached for device",
        StageError,
        "the stick holds as many networks as it can",
        "End the process that uses it.",
    ),
    (
        r"global mutex initialization failed",
        StageError,
        "another user's process has made /tmp/mvnc.mutex",
        "Remove that file when no process uses a stick, or run as that user.",
    ),
    (
        r"LIBUSB_ERROR_ACCESS|[Cc]annot open device|NC_UNAUTHORIZED",
        DeviceNotFound,
        "this user may not open the stick",
        f"Install the udev rule: {INSTALL_RULES}.",
    ),
    (
        (
            r"revision from not booted|X_LINK_(?:COMMUNICATION|TIMEOUT|ERROR)|NC_TIMEOUT|NC_MYRIAD_ERROR"
            r"|Failed to (?:read|write|queue)\b"
        ),
        DeviceNotFound,
        "the stick does not answer any more",
        REPLUG,
    ),
    (
        r"Can not init \w+ device|device is not opened|[Nn]o (?:available )?devices|DEVICE_NOT_FOUND",
        DeviceNotFound,
        "there is no stick, or another process uses it",
        PLUG_IN,
    ),
    (
        r"not registered|Cannot load library .*myriad",
        StageError,
        "this OpenVINO has no MYRIAD plug-in",
        "Use the environment of images/ncs/requirements.txt: OpenVINO 2021.4.2 is the last that has it.",
    ),
)


def core() -> Any:
    """Return a core whose MYRIAD plug-in uses the libusb of libusb-package.

    The plug-in asks the loader for libusb-1.0.so.0. A library of that name which is already in the process is
    taken, so none has to be installed, and none that is installed is used: Debian's waits for events of udev,
    which do not reach a container. The same brings in the library of a Python that is not Debian's.

    Raises:
        StageError: this Python has no shared library.
    """
    import libusb_package

    python = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    for library in (libusb_package.get_library_path(), python):
        if library.exists() and library.suffix != ".a":
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    try:
        from openvino.inference_engine import IECore
    except ImportError as error:
        raise translate(str(error), "OpenVINO 2021.4 cannot be loaded") from error
    return IECore()


def read_network(core: Any, path: Path, weights: Optional[Path] = None) -> Any:
    """Read an ONNX network, or an IR (.xml, its weights in `weights` or in the .bin beside it).

    Raises:
        Unsupported: an operator that this OpenVINO does not know, or an input of no fixed shape.
        InvalidRequest: it is neither, is an IR of a newer OpenVINO, or is cut off.
    """
    if path.suffix == ".xml":
        _check_ir(path, weights or path.with_suffix(".bin"))
    with known_errors(f"{path.name} cannot be read"):
        network = core.read_network(str(path), str(weights or ""))
    for name, described in network.input_info.items():
        if not described.input_data.shape:  # so it says if a single axis has no length
            message = f"{path.name} has an input {name!r} with an axis of no fixed length"
            raise Unsupported(message, hint=FIXED_SHAPE)
    return network


def _check_ir(path: Path, weights: Path) -> None:
    """Raise InvalidRequest for an IR whose reader would say nothing of use, or crash the process."""
    try:
        root = ET.parse(path).getroot()
        version = int(root.attrib["version"])
        ends = (int(data.get("offset", 0)) + int(data.get("size", 0)) for data in root.iter("data"))
        needed = max(ends, default=0)
    except (ET.ParseError, KeyError, ValueError) as error:
        message = f"{path.name} is not an IR of OpenVINO: {error}"
        raise InvalidRequest(message, hint=CONVERT_AGAIN) from error
    if version > NEWEST_IR:
        message = f"{path.name} is an IR of version {version}, and OpenVINO 2021.4 reads up to {NEWEST_IR}"
        raise InvalidRequest(message, hint="Give the ONNX network that it was made from.")
    found = weights.stat().st_size if weights.is_file() else 0
    if found < needed:
        message = f"{path.name} needs {needed} bytes of weights, and {weights.name} has {found}"
        raise InvalidRequest(message, hint="Give the .bin that belongs to it: bin=PATH.")


@contextlib.contextmanager
def known_errors(what: str) -> Iterator[None]:
    """Turn what OpenVINO raises into an error class with a hint; `what` could not be done.

    What it prints goes to standard error: standard output is for results.
    """
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    except RuntimeError as error:
        raise translate(str(error), what) from error
    finally:
        ctypes.CDLL(None).fflush(None)  # what the C library holds back
        os.dup2(stdout, 1)
        os.close(stdout)


def translate(text: str, what: str) -> StageError:
    """Return the error for a text of OpenVINO's."""
    for pattern, error_class, happened, hint in KNOWN:
        match = re.search(pattern, text)
        if match:
            return error_class(f"{what}: {match.expand(happened)}", hint=hint, metadata=match.groupdict())
    lines = [line.strip() for line in _without_sources(text).splitlines() if line.strip()]
    return StageError(f"{what}: {' '.join(lines)[:400]}", hint="OpenVINO's own words; the log says more.")


def _without_sources(text: str) -> str:
    """Take out where in OpenVINO's source files it was found."""
    return re.sub(r"\[ [A-Z_]+ \]|\S*/\S+\.[ch]pp:\d+:?", "", text)
