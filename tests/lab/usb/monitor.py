"""A simulated Monsoon HVPM as a real USB device: the instrument of tests/lab/monsoon behind GadgetFS.

    python -m tests.lab.usb.monitor [--unplugged-s S] COMMAND...

plugs one in, runs the command and takes it out again. It sends as fast as it is read: the processor of the
guest is emulated, and 5 kHz of real time would show its slowness only.
"""

from __future__ import annotations

import argparse
import sys

from tests.lab.monsoon.instrument import Gone, Instrument, Setup
from tests.lab.usb.gadget import Gadget, Identity, beside
from tests.lab.usb.gadget import Setup as Request

OUT, IN = 0x01, 0x81  # nothing goes out; the device has that endpoint nevertheless
LOOK_S = 0.01


class Monitor:
    """The device's side."""

    def __init__(self, setup: Setup) -> None:
        self._instrument = Instrument(setup)
        self._gadget = Gadget([OUT, IN], self._answer)

    def live(self) -> None:
        """Send packets until the process is killed, or it is pulled out."""
        setup = self._instrument.setup
        self._gadget.plug(
            Identity(
                vendor=0x2AB9,
                product=0x0001,
                maker="Monsoon Solutions",
                name="Power Monitor (simulated)",
                serial=setup.serial,
            )
        )
        try:
            while True:
                packet = self._instrument.fetch(LOOK_S)
                if packet:
                    self._gadget.write(IN, packet)
        except Gone:
            self._gadget.unplug()

    def _answer(self, setup: Request, data: bytes) -> bytes | None:
        return self._instrument.control(setup.request_type, setup.request, setup.value, setup.index, data)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unplugged-s", type=float, default=float("inf"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    monitor = Monitor(Setup(speed=0, unplugged_s=options.unplugged_s, drops=[(0.5, 7)]))
    return beside(monitor.live, options.command)


if __name__ == "__main__":
    sys.exit(main())
