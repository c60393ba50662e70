"""A simulated white monitor (LVPM) as it is sold: its serial protocol on a pseudo-terminal.

Frames and registers as in tools/monsoon/serial_line.py, written anew. Its load is that of `instrument`; with
`speed` 0 it sends as fast as it is read, else in real time. Use it as a context manager: `root` is then the
folder of a simulated host that has it on USB, for MOBILE_ACCELERATOR_SIMULATED_HOST.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import struct
import threading
import time
import tty
from pathlib import Path

import numpy as np

from tests.lab.monsoon.instrument import RATE_HZ, load_ma
from tests.lab.virtual_usb import VirtualHost

STATUS = struct.Struct(">BBBhhhHhhhHBBBxBbHBHHHHBbbHHBBBbbbbbbbbbBH")
SAMPLES = 5  # of a packet
FINE, COARSE = (100, 20100), (50, 14450)  # zero and reference
FINE_MA, COARSE_MA = 33.2, 2880.0  # at the reference
FINE_TO_MA = 30.0


class SerialMonitor:
    """Registers and samples; `unplugged_s` and `lost` (time, packets) as of `instrument.Setup`."""

    def __init__(
        self,
        root: Path,
        *,
        serial: int = 4742,
        speed: float = 0.0,
        unplugged_s: float = float("inf"),
        lost: tuple[float, int] = (float("inf"), 0),
        noise: bytes = b"",
    ) -> None:
        self.root = root
        self.registers = {0x01: 220, 0x10: 2, 0x08: 0, 0x09: 0, 0x0A: 0, 0x0B: 0}
        self._serial, self._speed, self._unplugged_s = serial, speed, unplugged_s
        self._lost, self._noise = lost, noise
        self._sampling, self._gone = threading.Event(), threading.Event()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)

    def __enter__(self) -> SerialMonitor:
        self.host = VirtualHost(self.root)
        self.host.plug("1-2", {"idVendor": "04d8", "idProduct": "fe23", "product": "Power Monitor"})
        (self.root / "sys/bus/usb/devices/1-2:1.0/tty/ttyACM0").mkdir(parents=True)
        (self.root / "dev/ttyACM0").symlink_to(os.ttyname(self._slave))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._send)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pull_out()
        for thread in self._threads:  # before the numbers of its files are those of others
            thread.join(5)

    def _pull_out(self) -> None:
        if self._gone.is_set():
            return
        self._gone.set()
        self._sampling.clear()
        for file in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(file)

    def _write(self, payload: bytes) -> None:
        counted = bytes([len(payload) + 1]) + payload
        data = counted + bytes([sum(counted) & 0xFF])
        while data:
            data = data[os.write(self._master, data) :]

    def _listen(self) -> None:
        rest = b""
        with contextlib.suppress(OSError, ValueError):  # it was pulled out
            while not self._gone.is_set():
                # not in `read` when it is pulled out, which would keep the line open
                if not select.select([self._master], [], [], 0.02)[0]:
                    continue
                rest += os.read(self._master, 100)
                while rest and len(rest) > rest[0]:
                    frame, rest = rest[: rest[0] + 1], rest[rest[0] + 1 :]
                    assert sum(frame[:-1]) & 0xFF == frame[-1], frame.hex()
                    self._do(frame[1:-1])

    def _do(self, payload: bytes) -> None:
        if payload == b"\x01\x00\x00":
            self._write(self._status())
        elif payload[0] == 1:
            self.registers[payload[1]] = payload[2]
        elif payload == bytes.fromhex("02ffffffff03e8"):
            self._sampling.set()
        elif payload == b"\x03\x00":
            self._sampling.clear()

    def _status(self) -> bytes:
        value = self.registers
        limits = (value[0x08] | value[0x09] << 8, value[0x0A] | value[0x0B] << 8)
        head = (0x10, 20, 17, 0, 0, 0, 0, 0, 0, 0, 0, value[0x01], 36, 0, 0, 69, self._serial, 5)
        tail = (45964, 11822, *limits, 20, 65, -22, 0, 0, 4, 38, value[0x10], 50, 48, 15, 69, 65, -22, 50, 48)
        return STATUS.pack(*head, *tail, 15, 0, 0)

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while not self._gone.is_set():
                if self._sampling.wait(0.02):
                    self._session()

    def _session(self) -> None:
        sequence, number, begun_s = 0, 0, time.monotonic()
        lost_at_s, lost = self._lost
        for kind, place in ((1, 0), (2, 1)):
            table = np.array([(line[place],) * 3 + (0,) for line in (FINE, COARSE)] * 5)
            number, sequence = self._packet(sequence, kind, table, number)
        self._noise and os.write(self._master, self._noise)
        while self._sampling.is_set():
            if number / RATE_HZ >= self._unplugged_s:
                self._pull_out()
                return
            if number / RATE_HZ >= lost_at_s:
                number, sequence, lost_at_s = number + lost * SAMPLES, sequence + lost, float("inf")
            if self._speed:
                time.sleep(max(0.0, begun_s + number / RATE_HZ / self._speed - time.monotonic()))
            number, sequence = self._packet(sequence, 0, self._measured(number), number)

    def _packet(self, sequence: int, kind: int, table: np.ndarray, number: int) -> tuple[int, int]:
        body = (table & 0xFFFF).astype(">u2").tobytes()
        self._write(bytes([0x20 | sequence & 15, kind, 0, 0xC4]) + body + b"\x84")
        return number + len(table), sequence + 1

    def _measured(self, number: int) -> np.ndarray:
        current = load_ma(number + np.arange(SAMPLES))
        fine = np.rint(FINE[0] + current / FINE_MA * (FINE[1] - FINE[0])).astype(int) & ~1
        coarse = np.rint(COARSE[0] + current / COARSE_MA * (COARSE[1] - COARSE[0])).astype(int) | 1
        main = np.where(current < FINE_TO_MA, fine, coarse)
        volts = 2 + self.registers[0x01] / 100 if self.registers[0x01] else 0.0
        voltage = np.full(SAMPLES, round(volts / 125e-6) | 3)
        return np.stack([main, np.full(SAMPLES, FINE[0]), np.full(SAMPLES, FINE[0]), voltage], axis=1)
