"""An X-NUCLEO-LPM01A on a pseudo-terminal: its prompt, its acknowledgements, its text of samples and times.

As its help text and the reader of mlcommons/tiny have it. It feeds nothing: 10 mW, and 30 mW in every second
half of a second, at any voltage.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

from tests.lab.virtual_usb import VirtualHost

IDS = {"idVendor": "0483", "idProduct": "5740", "manufacturer": "STMicroelectronics", "serial": "SIM0001"}
REFUSED = {"freq 3k"}


class PowerShield:
    """The board. `lost` are numbers of samples that it does not send, `cut` of those that it sends half."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.lost: set[int] = set()
        self.cut: set[int] = set()
        self.unplug_at: int | None = None
        self.events: set[int] = set()
        self.first_stamp_s = 0
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._ended = Event()
        self._rate_hz, self._started_s, self._count = 1000, 0.0, 0

    def show(self, root: Path) -> None:
        """Show it in a tree as a USB device with a serial port."""
        VirtualHost(root).plug("1-3", IDS)
        (root / "sys/bus/usb/devices/1-3:1.0/tty/ttyACM0").mkdir(parents=True)
        (root / "dev/ttyACM0").symlink_to(os.ttyname(self._slave))

    def serve(self) -> None:
        """Do what it is told until the end."""
        rest = b""
        while not self._ended.is_set():
            if select.select([self._master], [], [], 0.01)[0]:
                *lines, rest = (rest + os.read(self._master, 4096)).split(b"\r\n")
                for line in lines:
                    self._do(line.decode())
            if self._started_s:
                self._send_samples()

    def close(self) -> None:
        """End it."""
        self._ended.set()

    def _do(self, command: str) -> None:
        self.said.append(command)
        if command in REFUSED:
            self._send(f"PowerShield > error {command}\r\nError detail: bad argument\r\n")
            return
        more = " 1.0.6" if command == "version" else ""
        self._send(f"\r\nPowerShield > ack {command}{more}\r\n\r\n")
        if command.startswith("freq "):
            self._rate_hz = int(command[5:].replace("k", "000"))
        if command in ("start", "stop"):
            self._started_s, self._count = (time.monotonic() if command == "start" else 0.0), 0

    def _send_samples(self) -> None:
        due = int((time.monotonic() - self._started_s) * self._rate_hz)
        text = ""
        for number in range(self._count, due):
            power_w = 0.030 if number // (self._rate_hz // 2) % 2 else 0.010
            sample = f"{round(power_w / self._rate_hz * 1e8):04d}-08"
            if number in self.events:
                text += f"event {number} ris\r\n"
            if number not in self.lost:
                text += f"{sample[:2] if number in self.cut else sample}\r\n"
            if (number + 1) % self._rate_hz == 0:
                second = (number + 1) // self._rate_hz
                text += f"TimeStamp: {second % 1000:03d}s 000ms, buff 05%\r\n"
            if number == self.unplug_at:
                self._ended.set()
                os.close(self._slave)
                os.close(self._master)
                return
        self._count = due
        self._send(text)

    def _send(self, text: str) -> None:
        data = text.encode()
        while data and not self._ended.is_set():
            if select.select([], [self._master], [], 0.1)[1]:
                data = data[os.write(self._master, data) :]


@contextlib.contextmanager
def running(board: PowerShield) -> Iterator[PowerShield]:
    """Let it serve for the block."""
    thread = Thread(target=board.serve, daemon=True)
    thread.start()
    yield board
    board.close()
    thread.join(5)
