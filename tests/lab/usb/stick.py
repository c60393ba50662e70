"""A simulated Neural Compute Stick 2, as far as the USB side of its boot goes; it computes nothing.

    python -m tests.lab.usb.stick --report FOLDER [--fault FAULT] COMMAND...

plugs one in, runs the command and takes it out again; the command's exit code is its own. What the device
saw is in FOLDER: `events.jsonl` (times in seconds since it was plugged in) and `firmware`, the upload as it
came.

As the boot code of OpenVINO 2021.4 expects (XLink/pc/protocols/usb_boot.c, mvnc/src/mvnc_api.c): the ROM's
device takes firmware on bulk endpoint 0x01, disappears, and comes back with another product id. Then the
plug-in sends a ping of the XLink protocol; what lies behind it belongs to the firmware and is not answered.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

from tests.lab.usb.gadget import Gadget, Identity, beside

OUT, IN = 0x01, 0x81
CHUNK_BYTES = 16384
ROM = Identity(
    vendor=0x03E7,
    product=0x2485,
    serial="03e72485",
    maker="Movidius Ltd.",
    name="Movidius MyriadX (simulated)",
)
BOOTED = Identity(
    vendor=0x03E7,
    product=0xF63B,
    serial="0",
    maker="Intel Corporation",
    name="VSC Loopback Device (simulated)",
)
BOOT_S = 0.5
LATE_S = 8
VANISH_S = 2
PACKET_BYTES = 512
CREATE_STREAM_REQUEST, PING_REQUEST, PING_RESPONSE = 4, 6, 15  # XLinkPrivateDefines.h, as in 2021.4.2
EVENTS = {CREATE_STREAM_REQUEST: "create stream", PING_REQUEST: "ping"}
FAULTS = {
    "none": "it boots and answers the ping, after which a real one would talk to its firmware",
    "silent": "it boots and answers nothing",
    "late": f"it comes back {LATE_S} s after the upload",
    "stays-away": "it takes the firmware and never comes back",
    "unplugged": "it is pulled out in the middle of the upload",
    "vanishes": "it is pulled out when the plug-in waits for it to answer the ping",
}


class Stick:
    """The device's side of a boot, step by step."""

    def __init__(self, report: Path, fault: str) -> None:
        self._gadget = Gadget([OUT, IN])
        self._report = report
        self._fault = fault
        self._start = time.monotonic()

    def live(self) -> None:
        """Boot, then answer until the process is killed."""
        self._plug(ROM)
        self._take_firmware()
        self._gadget.unplug()
        self._note("unplugged")
        if self._fault in ("stays-away", "unplugged"):
            return
        time.sleep(LATE_S if self._fault == "late" else BOOT_S)
        self._plug(BOOTED)
        while self._take_event(self._gadget.read(OUT, PACKET_BYTES)):
            pass
        self._gadget.unplug()
        self._note("unplugged")

    def _plug(self, identity: Identity) -> None:
        self._gadget.plug(identity)
        self._note("plugged in", product=f"{identity.product:04x}")

    def _take_firmware(self) -> None:
        data = bytearray()
        while len(data) % CHUNK_BYTES == 0:  # a short transfer is the last
            if self._fault == "unplugged" and len(data) >= 1 << 20:
                break
            data += self._gadget.read(OUT, CHUNK_BYTES)
        (self._report / "firmware").write_bytes(data)
        self._note("firmware", size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _take_event(self, header: bytes) -> bool:
        """Answer one event of XLink's protocol; return whether the stick is still there after it."""
        number, kind = struct.unpack_from("<iI", header)
        name = header[8 : header.index(b"\0", 8)].decode()
        self._note("xlink event", kind=EVENTS.get(kind, kind), stream=name)
        if kind == PING_REQUEST and self._fault == "vanishes":
            time.sleep(VANISH_S)
            return False
        if kind == PING_REQUEST and self._fault != "silent":
            self._gadget.write(IN, struct.pack("<iI", number, PING_RESPONSE) + header[8:])
        return True

    def _note(self, event: str, **fields: Any) -> None:
        line = {"s": round(time.monotonic() - self._start, 2), "event": event, **fields}
        with (self._report / "events.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    stick = Stick(options.report, options.fault)
    return beside(stick.live, options.command)


if __name__ == "__main__":
    sys.exit(main())
