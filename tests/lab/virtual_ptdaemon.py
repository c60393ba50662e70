"""A server that speaks PTDaemon's text protocol, with an analyser of no device behind it.

What it answers is as the public client of mlcommons/power-dev expects it; SPEC's program was not at hand.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socketserver
import time
from collections.abc import Iterator
from threading import Thread


class Daemon(socketserver.ThreadingTCPServer):
    """The daemon. `per_s` samples come in each second of ours; what it says of time is a second a sample."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, form: str = "%d-%m-%Y", *, direct_current: bool = False, per_s: float = 20.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.form, self.direct_current, self.per_s = form, direct_current, per_s
        self.skipped: set[int] = set()  # numbers of samples that get lost
        self.lives_s = 60.0
        self.said: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Daemon

    def handle(self) -> None:
        self.sent, self.start_s = 0, time.monotonic()
        for line in self.rfile:
            if time.monotonic() - self.start_s > self.server.lives_s:
                return
            command = line.decode().strip()
            self.server.said.append(command)
            self.wfile.write("".join(f"{text}\r\n" for text in self.answer(command)).encode())

    def answer(self, command: str) -> list[str]:
        if command == "Go,1000,0,mobile-accelerator":
            self.start_s, self.started = time.monotonic(), dt.datetime.now().replace(microsecond=0)
            return ["Starting untimed measurement, maximum 500000 samples at 1000ms with 0 rampup samples"]
        read = "DC-RL" if self.server.direct_current else "RL"
        known = {
            "Hello": "Hello, PTDaemon here!",
            "Identify": "simulated analyser,version=0",
            "RR": "Ranges,1,-1.0,1,300.0",
            "Stop": "Stopping untimed measurement",
        }
        if command == read:
            until = int((time.monotonic() - self.start_s) * self.server.per_s)
            lines = [self.line(n) for n in range(self.sent, until) if n not in self.server.skipped]
            self.sent = until
            return [f"Last {len(lines)} samples", *lines]
        return [known.get(command, "Unknown command")]

    def line(self, number: int) -> str:
        at = self.started + dt.timedelta(seconds=number)
        when = f"{at.strftime(self.server.form)} {at.strftime('%H:%M:%S')}.682"
        return f"Time,{when},Watts,22.950000,Volts,228.570000,Amps,0.206430,PF,0.486400,Mark,label"


@contextlib.contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Let it serve for the block."""
    with daemon:
        Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield daemon
        daemon.shutdown()
