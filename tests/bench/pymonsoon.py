"""PyMonsoon 0.1.88 over packets from a file: run by tests.bench.monsoon in an environment that has it.

    python pymonsoon.py PACKETS SAMPLES OUT.npz

PACKETS are packets of 58 bytes. Its protocol object is replaced by one that hands them out, so no USB takes
part.
"""

import array
import json
import sys
import time
from pathlib import Path

import numpy as np
from Monsoon import HVPM, sampleEngine

VALUES = {0x1A: 36500, 0x1B: 6400, 0x1C: 14000, 0x1D: 600, 0x25: 15, 0x26: 15, 0x45: 2}
PACKET_BYTES = 58
MAIN_CURRENT, MAIN_VOLTAGE = 1, 4  # of what it returns


class FromFile:
    """The part of PyMonsoon's protocol object that its sampling uses."""

    def __init__(self, packets: list) -> None:
        self._packets = packets
        self._at = 0

    def BulkRead(self) -> array.array:  # noqa: N802 - its name
        packet = self._packets[self._at]
        self._at += 1
        return packet

    def getValue(self, operation: int, _length: int, _signed: bool = False) -> int:  # noqa: N802
        return VALUES.get(operation, 0)

    def startSampling(self, _calibrate: int, _limit: int) -> None:  # noqa: N802
        pass

    def stopSampling(self) -> None:  # noqa: N802
        pass


def main(path: Path, samples: int, out: Path) -> None:
    data = path.read_bytes()
    packets = [array.array("B", data[at : at + PACKET_BYTES]) for at in range(0, len(data), PACKET_BYTES)]
    monitor = HVPM.Monsoon()
    monitor.Protocol = FromFile(packets)
    engine = sampleEngine.SampleEngine(monitor)
    engine.ConsoleOutput(False)
    begun_s = time.perf_counter()
    engine.startSampling(samples)
    wall_s = time.perf_counter() - begun_s
    found = engine.getSamples()
    current_ma, volts = found[MAIN_CURRENT], found[MAIN_VOLTAGE]
    np.savez(out, current_ma=np.array(current_ma, float), volts=np.array(volts, float))
    print(json.dumps({"samples": len(current_ma), "wall_s": wall_s}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
