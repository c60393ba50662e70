"""Wall-power analysers through SPEC's PTDaemon, by its text protocol over TCP.

A line goes out, a line comes back: `Hello`, `Identify`, `RR`, `Go,1000,0,mark`, `RL` (what was not read yet:
`Last N samples`, then N lines), `DC-RL` for analysers of direct current, `Stop`. PTDaemon is SPEC's own and
under its licence: the user brings it, and it runs by itself. Source: mlcommons/power-dev, ptd_client_server,
which is the public client; no PTDaemon was at hand.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import re
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from tools.meters.pending import Pending
from tools.recording import Arrival
from tools.stage import DeviceNotFound, StageError
from tools.trace import Channel, Meta, chunk

if TYPE_CHECKING:
    from tools.trace import Chunk

PORT = 8888
HELLO = "Hello, PTDaemon here!"
PERIOD_S = 1.0
ANSWER_LIMIT_S = 10.0
ENDED = "it ended"
FORMATS = {"DD-MM-YYYY": "%d-%m-%Y %H:%M:%S.%f", "MM-DD-YYYY": "%m-%d-%Y %H:%M:%S.%f"}
COLUMNS = ("wall_w", "wall_a", "wall_v")
HINT = "Start PTDaemon with your analyser first (its -p is the port); in a container: --engine venv."
SOURCE = "the analyser's manual; PTDaemon tells its uncertainty by range, which is not taken over yet"


def parse(line: str) -> tuple[str, float, float, float]:
    """Return the time as written, W, A and V of `Time,...,Watts,...,Volts,...,Amps,...,PF,...,Mark,...`.

    Current and voltage are NaN where it has none, or says -1, its word for "unknown".

    Raises:
        StageError: it is no such line.
    """
    parts = line.strip().split(",")
    fields = dict(zip(parts[::2], parts[1::2]))
    try:
        current, voltage = (float(fields.get(name, "-1")) for name in ("Amps", "Volts"))
        return (
            fields["Time"],
            float(fields["Watts"]),
            current if current >= 0 else float("nan"),
            voltage if voltage >= 0 else float("nan"),
        )
    except (KeyError, ValueError):
        message = f"PTDaemon sent a sample that is not understood: {line[:120]!r}"
        raise StageError(message, hint="Please report the line, and the analyser.") from None


def date_order(text: str, today: dt.date) -> str:
    """Return the key of FORMATS in which a time is written.

    PTDaemon writes days first on some systems and months first on others, and a checker of MLPerf's that
    assumes one of them is wrong on the other. The reading that is nearer to `today` is right, unless the
    daemon's clock is off by weeks; a day above 12 leaves one reading only.

    Raises:
        StageError: it is in neither.
    """
    distances = {}
    for order, form in FORMATS.items():
        with contextlib.suppress(ValueError):
            distances[order] = abs(dt.datetime.strptime(text, form).date() - today)
    if not distances:
        message = f"PTDaemon sent a time that is not understood: {text!r}"
        raise StageError(message, hint=f"Known are {', '.join(FORMATS)} and HH:MM:SS.mmm.")
    return min(distances, key=lambda order: distances[order])


@contextlib.contextmanager
def opened(address: str) -> Iterator[Samples]:
    """Yield a reader of the daemon at `address`, HOST or HOST:PORT; it stops sampling at the end.

    Raises:
        DeviceNotFound: none answers there, or something else does.
    """
    host, _, port = address.partition(":")
    try:
        channel = socket.create_connection((host or "127.0.0.1", int(port or PORT)), ANSWER_LIMIT_S)
    except (OSError, ValueError) as error:
        message = f"no PTDaemon answers at {address}: {error}"
        raise DeviceNotFound(message, hint=HINT) from None
    with channel:
        daemon = Daemon(channel, address)
        if daemon.ask("Hello") != HELLO:
            message = f"what answers at {address} is no PTDaemon"
            raise DeviceNotFound(message, hint=HINT)
        reader = Samples(daemon)
        try:
            yield reader
        finally:
            with contextlib.suppress(DeviceNotFound):
                daemon.ask("Stop")


class Daemon:
    """The connection."""

    def __init__(self, channel: socket.socket, address: str) -> None:
        self._channel, self._address, self._rest = channel, address, b""

    def ask(self, command: str) -> str:
        """Send a command and return the line that it answers.

        Raises:
            DeviceNotFound: the connection is gone, or it does not answer in ANSWER_LIMIT_S.
        """
        try:
            self._channel.sendall(command.encode() + b"\r\n")
        except OSError as error:
            raise self._lost(str(error)) from None
        return self.line()

    def line(self) -> str:
        """Return the next line."""
        while b"\n" not in self._rest:
            try:
                data = self._channel.recv(1 << 16)
            except OSError as error:  # a time-out among them
                raise self._lost(str(error)) from None
            if not data:
                raise self._lost(ENDED)
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").strip()

    def _lost(self, why: str) -> DeviceNotFound:
        message = f"the connection to PTDaemon at {self._address} was lost: {why}"
        return DeviceNotFound(message, hint=HINT)


class Samples:
    """The daemon's samples, one a second, each the mean over its second. The time is the daemon's."""

    columns = COLUMNS

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        identity, ranges = daemon.ask("Identify"), daemon.ask("RR")
        started = daemon.ask(f"Go,{PERIOD_S * 1000:.0f},0,mobile-accelerator")
        if re.search(r"\b(error|invalid|unknown|not)\b", started, re.IGNORECASE):
            message = f"PTDaemon does not start to sample: {started}"
            raise StageError(message, hint="Is another client using it? Stop that one first.")
        self._read_command = "RL"
        self._order = ""
        self._first: Optional[dt.datetime] = None
        self._last_s = -PERIOD_S
        self._next_s = time.monotonic()
        self._arrival = Arrival()
        self._pending = Pending(self._rows)
        self._meta = Meta(
            meter="ptdaemon",
            device=identity,
            rate_hz=1 / PERIOD_S,
            # PTDaemon's device 0 is a dummy of SPEC's own
            simulated=bool(re.search("dummy|simulated", identity, re.IGNORECASE)),
            calibration={"ranges": ranges},
            channels={"wall": Channel("at the wall", PERIOD_S, source=SOURCE)},
        )

    @property
    def meta(self) -> Meta:
        """What is known by now."""
        return dataclasses.replace(
            self._meta,
            clock=self._arrival.clock,
            calibration={**self._meta.calibration, "date_order": self._order},
        )

    def read(self) -> Chunk:
        """Ask twice a second for what is new."""
        time.sleep(min(0.1, max(0.0, self._next_s - time.monotonic())))
        lines = []
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PERIOD_S / 2
            lines = self._unread()
        rows = self._pending.rows(lines)
        if rows:
            self._arrival.saw(rows[-1][0])
        return chunk(rows, COLUMNS)

    def _unread(self) -> list[str]:
        said = self._daemon.ask(self._read_command)
        if "Unknown command" in said and self._read_command == "RL":
            self._read_command = "DC-RL"
            said = self._daemon.ask(self._read_command)
        count = re.fullmatch(r"Last (\d+) samples?.*", said)
        if count is None:
            message = f"PTDaemon answers {self._read_command} by {said[:120]!r}"
            raise StageError(message, hint="Please report it, and the analyser.")
        return [self._daemon.line() for _ in range(int(count[1]))]

    def _rows(self, line: str) -> list[list[float]]:
        """Return a line as a sample, after a gap if samples are missing before it."""
        text, *values = parse(line)
        if self._first is None:
            self._order = date_order(text, dt.datetime.now().date())
        try:
            at = dt.datetime.strptime(text, FORMATS[self._order])
        except ValueError:
            message = f"PTDaemon changed how it writes times: {text!r} after {self._order}"
            raise StageError(message, hint="Please report it, with the lines before.") from None
        self._first = self._first or at
        time_s = (at - self._first).total_seconds()
        if time_s <= self._last_s:
            return []  # told before
        missed = round((time_s - self._last_s) / PERIOD_S) - 1
        gap = []
        if missed > 0:
            self._meta = dataclasses.replace(self._meta, dropped=self._meta.dropped + missed)
            gap = [[(time_s + self._last_s) / 2] + [float("nan")] * len(COLUMNS)]
        self._last_s = time_s
        return [*gap, [time_s, *values]]
