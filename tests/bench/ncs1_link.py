"""What the way to the SDK's Python costs an inference: `python -m tests.bench.ncs1_link`.

Prints the median round trip of a message that asks for an inference which takes no time, in milliseconds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from host import machine
from tools.ncs1.link import Worker

ROUNDS = 5000
API = """
class Device:
    def __init__(self, name): pass
    def OpenDevice(self): pass
    def AllocateGraph(self, data): return self
    def LoadTensor(self, tensor, userobj): pass
    def GetResult(self): return None, None
def EnumerateDevices(): return ["1"]
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mvnc").mkdir()
        (folder / "mvnc" / "mvncapi.py").write_text(API)
        (folder / "mvnc" / "__init__.py").touch()
        (folder / "graph").touch()
        argv = [sys.executable, "ncsdk", str(folder / "graph")]
        with Worker(argv, {"PYTHONPATH": name}, folder) as worker:
            worker.ask(b"f", bytes(4))
            taken = []
            for _ in range(ROUNDS):
                begun = time.perf_counter_ns()
                worker.ask(b"i")
                taken.append(time.perf_counter_ns() - begun)
    print(f"{statistics.median(taken) / 1e6:.3f} ms, median of {ROUNDS}, on {machine.facts()['cpu']}")


if __name__ == "__main__":
    main()
