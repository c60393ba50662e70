"""A simulated meter at 5 kHz whose every sample is known: idle, load, now and then one tall sample."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tools import recording
from tools.stage import DeviceNotFound, Output, Result, Tool
from tools.trace import TIME, Channel, Meta

if TYPE_CHECKING:
    import numpy as np

    from tools.trace import Chunk

RATE_HZ = 5000
IDLE_A, LOAD_A, SPIKE_A = 0.12, 0.55, 2.5
SPIKE_EVERY, SPIKE_AT = 4 * RATE_HZ, 7001  # samples
GAP_EVERY, GAP_AT, GAP_SAMPLES = 10 * RATE_HZ, 16000, 250
SERIAL = "MOBILE_ACCELERATOR_LAB_WAVE"  # a meter's lock is the host's: tests in several places name their own

tool = Tool("wave", packages=("pyarrow",))


def present(_: Path = Path("/")) -> list[recording.Attached]:
    """Return the meter that is here."""
    return [recording.Attached("Wave", os.environ.get(SERIAL, "W-1"))]


def current_a(number: np.ndarray) -> np.ndarray:
    """Return the main channel's current in A at sample number 0, 1, 2, ...; a row before a gap is NaN."""
    import numpy as np

    load = (number // (RATE_HZ // 2)) % 4 == 1
    ripple = 0.02 * np.sin(number * 0.7)
    current = np.where(load, LOAD_A + 2 * ripple, IDLE_A + ripple)
    current[number % SPIKE_EVERY == SPIKE_AT] = SPIKE_A
    current[number % GAP_EVERY == GAP_AT] = np.nan
    return current


class Wave:
    """The meter, as tools/recording.py reads one. `lost_after_s`: it is unplugged then."""

    def __init__(self, serial: str, channels: int, lost_after_s: float, speed: float) -> None:
        self._names = ["main", "usb", "aux"][:channels]
        self.columns = [f"{name}_{unit}" for name in self._names for unit in "av"] + ["marker"]
        facts = {name: Channel(scope=f"simulated {name} output") for name in self._names}
        self.meta = Meta(
            "wave", "Wave", serial, rate_hz=RATE_HZ, simulated=True, channels=facts, supply_v=4.2
        )
        self._lost_after_s = lost_after_s
        self._speed = speed
        self._begun_s = time.monotonic()
        self._next = 0

    def read(self) -> Chunk | None:
        """Return the samples since the last call; at `speed` times the pace of a real meter."""
        import numpy as np

        time.sleep(max(0.05 / self._speed, 0.01))
        due = int((time.monotonic() - self._begun_s) * self._speed * RATE_HZ)
        last = min(due, self._next + RATE_HZ)  # a machine that is too slow for the speed makes it late
        number = np.arange(self._next, last)
        self._next = last
        if self._lost_after_s and last > self._lost_after_s * RATE_HZ:
            message = "the Wave is gone: unplugged"
            raise DeviceNotFound(message, hint="Plug it in again.")
        within = number % GAP_EVERY
        lost = (within > GAP_AT) & (within < GAP_AT + GAP_SAMPLES)
        self.meta = dataclasses.replace(self.meta, dropped=self.meta.dropped + int(lost.sum()))
        number = number[~lost]
        current, chunk = current_a(number), {TIME: number / RATE_HZ}
        for index, name in enumerate(self._names):
            chunk[f"{name}_a"] = (current / (1 + 3 * index)).astype(np.float32)
            chunk[f"{name}_v"] = np.where(np.isnan(current), np.nan, 4.2 - 0.1 * current).astype(np.float32)
        chunk["marker"] = ((number // (RATE_HZ // 2)) % 4 == 1).astype(np.uint8)
        return chunk


@contextlib.contextmanager
def opened(serial: str, channels: int, lost_after_s: float, speed: float) -> Iterator[Wave]:
    """Give the meter with that serial number."""
    yield Wave(serial or "W-1", channels, lost_after_s, speed)


@tool.command(meter="wave")
def wave(
    trace: Output = "trace.parquet",
    meter_serial: str = "",
    duration_s: float = 0.0,
    live_port: int = 0,
    channels: int = 1,
    lost_after_s: float = 0.0,
    speed: float = 1.0,
) -> Result:
    """Record the simulated meter."""
    meter = opened(meter_serial, channels, lost_after_s, speed)
    return recording.run(meter, trace, duration_s=duration_s, live_port=live_port)


if __name__ == "__main__":
    tool.main()
