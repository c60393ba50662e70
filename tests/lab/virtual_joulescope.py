"""A driver that stands in for pyjoulescope_driver's: topics are published to, and subscribed to.

Statistics have the fields of the library's binding (2.2.12). The instrument gives 2 V and 0.5 A, and 1.5 A in
every second half of a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

SAMPLE_HZ = {"js220": 1_000_000, "js110": 2_000_000}
START_ID = 123_456_789  # its clock does not begin with a recording


class Driver:
    """The driver with its devices; `lost` are numbers of blocks that never arrive."""

    def __init__(self, *paths: str, lost: tuple[int, ...] = (), unplug_at: int | None = None) -> None:
        self.paths, self.lost, self.unplug_at = list(paths), lost, unplug_at
        self.published: dict[str, Any] = {}
        self.opened: list[str] = []
        self._listeners: dict[str, Callable[[str, Any], None]] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def device_paths(self) -> list[str]:
        return self.paths

    def open(self, path: str) -> None:
        if path in self.opened:
            message = "jsdrv_open failed 11"
            raise RuntimeError(message)
        self.opened.append(path)

    def close(self, path: str) -> None:
        self.opened.remove(path)

    def publish(self, topic: str, value: object) -> None:
        self.published[topic] = value
        path, _, name = topic.partition("/s/")
        if name == "stats/ctrl" and value in (1, "on"):
            threading.Thread(target=self._run, args=(path,), daemon=True).start()

    def subscribe(self, topic: str, flags: str, listener: Callable[[str, Any], None]) -> None:
        assert flags == "pub"
        self._listeners[topic] = listener

    def unsubscribe(self, topic: str, listener: Callable[[str, Any], None]) -> None:
        assert self._listeners.pop(topic) is listener

    def _run(self, path: str) -> None:
        block, hz = self.published[f"{path}/s/stats/scnt"], SAMPLE_HZ[path.split("/")[1]]
        energy, number, start_s = 1000.0, 0, time.monotonic()
        while not self._ended.wait(max(0.0, start_s + (number + 1) * block / hz - time.monotonic())):
            current = 1.5 if int(number * block / hz / 0.5) % 2 else 0.5
            energy += 2.0 * current * block / hz
            if number == self.unplug_at:
                return
            listener = self._listeners.get(f"{path}/s/stats/value")
            if listener and number not in self.lost:
                listener(f"{path}/s/stats/value", _value(number, block, hz, current, energy))
            number += 1


def _value(number: int, block: int, hz: int, current: float, energy: float) -> Mapping[str, Any]:
    start = START_ID + number * block
    means = {"current": current, "voltage": 2.0, "power": 2.0 * current}
    return {
        "time": {
            "samples": {"value": [start, start + block], "units": "samples"},
            "sample_freq": {"value": hz, "units": "Hz"},
        },
        "signals": {name: {"avg": {"value": mean}} for name, mean in means.items()},
        "accumulators": {"energy": {"value": energy, "units": "J"}},
    }
