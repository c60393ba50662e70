"""Acquisition: a thread of its own that only appends what the meter sends.

The device keeps 3.2 ms of samples, and each packet is shorter than the endpoint's 64 bytes, which ends a
transfer: a longer read brings no more than one packet. So what helps against a late program is more than one
read under way, which the kernel serves while Python does something else: tools/monsoon/in_flight.py.
"""

from __future__ import annotations

import collections
import threading
import time
from typing import Callable, Optional

from tools.stage import DeviceNotFound, StageError

SILENT_S = 5.0  # without a sample, of a device that was told to sample

Append = Callable[[bytes], None]
# Reads until the event is set, and gives what comes to the function; DeviceNotFound if the device goes.
Pump = Callable[[Append, threading.Event], None]


class Transfers:
    """Reads from the start on, until `stop`."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._done: collections.deque[tuple[float, bytes]] = collections.deque()  # its append needs no lock
        self._stopping = threading.Event()
        self._last_s = time.monotonic()
        self._failure: Optional[StageError] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self) -> tuple[list[float], list[bytes]]:
        """Return when packets came, and they themselves, since the last call; in order.

        Raises:
            DeviceNotFound: the device is gone, and all that it sent before was returned.
            StageError: it sends nothing.
        """
        failure = self._failure  # looked at first: what came before it is in the queue by now
        taken = [self._done.popleft() for _ in range(len(self._done))]
        if taken:
            self._last_s = taken[-1][0]
        elif failure:
            raise failure
        elif time.monotonic() - self._last_s > SILENT_S:
            message = f"the meter sent nothing for {SILENT_S:g} s"
            raise StageError(message, hint="Unplug it from USB and from its supply, and plug it in again.")
        return [came_s for came_s, _ in taken], [packet for _, packet in taken]

    def stop(self) -> None:
        """End the reads that are under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._pump(lambda packet: self._done.append((time.monotonic(), packet)), self._stopping)
        except StageError as error:
            self._failure = error


def lost(reason: str) -> DeviceNotFound:
    """Return the error for a device that does not answer any more."""
    message = f"the meter is gone: {reason}"
    return DeviceNotFound(message, hint="Is its cable loose? See what is there: python runner.py devices")
