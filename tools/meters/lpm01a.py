"""ST's X-NUCLEO-LPM01A ("PowerShield"), which feeds a small board and measures what it takes.

Its text protocol over a USB serial port: a command is answered by `ack COMMAND` or `error`; then samples come
as `6409-07`, which is 6409e-7, J over one period each where the output is `energy`, with a line `TimeStamp:
001s 000ms, buff 05%` now and then, by which a loss shows, and `event N ris` for the input D7. Sources: its
own help text and the reader in mlcommons/tiny, benchmark/runner/power_manager; manual UM2269.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tools.meters.pending import Pending
from tools.recording import Arrival, Attached
from tools.stage import DeviceNotFound, InvalidRequest, StageError
from tools.trace import MARKER, Channel, Meta, chunk
from tools.usb import Host

if TYPE_CHECKING:
    from tools.trace import Chunk

IDS = "0483:5740"  # ST's virtual serial port, which other boards of theirs have too
BAUD = 3_686_400
RATES = {5000: "5k", 2000: "2k", 1000: "1k", 500: "500", 200: "200", 100: "100"}  # of text without a limit
PROMPT = "PowerShield >"
VOUT_V = (1.8, 3.3)
ANSWER_LIMIT_S = 3.0
SILENCE_LIMIT_S = 3.0
SAMPLE = re.compile(r"(\d{4})([+-]\d{2})\s*")
STAMP = re.compile(r"TimeStamp:[ ><](\d{3})s (\d{3})ms, buff \d{2}%")
EVENT = re.compile(r"event \d+ ris")
STAMP_WRAPS_S = 1000.0  # it has three digits for the seconds
STAMP_STEP_S = 1e-3
ALLOW = "Join the group dialout, then log in anew: sudo usermod -a -G dialout $USER"
SOURCE = "UM2269 was not at hand: no accuracy is taken over; its help text says 100 nA to 10 mA, changing"


def present(root: Path = Path("/")) -> list[Attached]:
    """Return the serial ports that may be one; whether it is one only asking tells."""
    return [
        Attached("X-NUCLEO-LPM01A, or another board with ST's serial port", serial)
        for serial, _ in _ports(root)
    ]


def _ports(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield serial number and node of each USB serial port of ST's."""
    host = Host(root)
    for device in host.devices():
        if device.ids == IDS:
            for tty in sorted(host.devices_folder.glob(f"{device.port}:*/tty/*")):
                yield device.serial, root / "dev" / tty.name


@contextlib.contextmanager
def opened(root: Path, serial: str, rate_hz: float, vout_v: float) -> Iterator[Samples]:
    """Yield a reader of one board, which feeds its target at `vout_v` from then on.

    Raises:
        InvalidRequest: another rate or voltage than there are, or several boards and none chosen.
        DeviceNotFound: there is none, or it may not be opened.
        StageError: it refuses a command.
    """
    import serial as pyserial

    if rate_hz not in RATES:
        message = f"it does not sample at {rate_hz:g} Hz"
        raise InvalidRequest(message, hint=f"It can do {', '.join(map(str, RATES))}.")
    if not VOUT_V[0] <= vout_v <= VOUT_V[1]:
        message = f"it has to be told the voltage that its target takes; {vout_v:g} V is not possible"
        raise InvalidRequest(message, hint=f"--set vout_v=3.0; from {VOUT_V[0]} to {VOUT_V[1]} V")
    node, found = _choose(root, serial)
    try:
        with pyserial.Serial(str(node), BAUD, timeout=0.1, exclusive=True) as port:
            reader = Samples(Shield(port, node), found, round(rate_hz), vout_v, simulated=root != Path("/"))
            try:
                yield reader
            finally:
                reader.stop()
    except pyserial.SerialException as error:
        hint = ALLOW if "ermission" in str(error) else "Is it plugged in, and no other program using it?"
        message = f"the board at {node} cannot be used: {error}"
        raise DeviceNotFound(message, hint=hint) from None


def _choose(root: Path, serial: str) -> tuple[Path, str]:
    found = [(node, number) for number, node in _ports(root) if serial in ("", number)]
    if len(found) > 1:
        message = f"there are {len(found)} serial ports of ST's: {', '.join(number for _, number in found)}"
        raise InvalidRequest(message, hint=f"Choose one: --meter-serial {found[0][1]}")
    if not found:
        message = f"there is no X-NUCLEO-LPM01A {serial}".rstrip()
        raise DeviceNotFound(message, hint="Its USB shows as 0483:5740; in a container: --engine venv.")
    return found[0]


class Shield:
    """The serial port."""

    def __init__(self, port: Any, node: Path) -> None:
        self._port, self._node, self._rest = port, node, b""
        self._kept: list[str] = []  # came behind the answer to a command

    def lines(self) -> list[str]:
        """Return the whole lines that came, waiting for 0.1 s at most.

        Raises:
            DeviceNotFound: the port is gone.
        """
        import serial as pyserial

        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        try:
            data = self._port.read(max(1, self._port.in_waiting))
        except (pyserial.SerialException, OSError) as error:
            message = f"the board at {self._node} was lost: {error}"
            raise DeviceNotFound(message, hint="Check its cable.") from None
        *lines, self._rest = (self._rest + data).split(b"\n")
        texts = [line.decode("ascii", errors="replace").replace(PROMPT, "").strip("\r\0 ") for line in lines]
        return [text for text in texts if text]

    def command(self, text: str) -> str:
        """Send a command, and return what stands behind its `ack`.

        Raises:
            StageError: it is refused, or not answered.
        """
        self._port.write(text.encode() + b"\r\n")
        end_s = time.monotonic() + ANSWER_LIMIT_S
        said: list[str] = []
        while time.monotonic() < end_s:
            lines = self.lines()
            for index, line in enumerate(lines):
                said.append(line)
                if line.startswith(f"ack {text}"):
                    self._kept = lines[index + 1 :]
                    return line[len(f"ack {text}") :].strip()
                if line.lower().startswith("error"):
                    message = f"the board refuses {text!r}: {' '.join(said)[:200]}"
                    raise StageError(message, hint="Reset it (its button, or replug it) and try again.")
        message = f"what is at {self._node} does not answer {text!r} as an X-NUCLEO-LPM01A"
        raise DeviceNotFound(message, hint="Other boards of ST's have the same USB ids.")


class Samples:
    """The board's samples. The time is its own: their number, put right by its time stamps after a loss."""

    columns = ("main_w", MARKER)

    def __init__(self, shield: Shield, serial: str, rate_hz: int, vout_v: float, *, simulated: bool) -> None:
        self._shield, self._rate_hz = shield, rate_hz
        shield.command("htc")
        firmware = shield.command("version")
        for command in (
            "acqtime inf",
            "trigdelay 0",
            "trigsrc sw",
            "eventsrc d7 fal",
            "output energy",  # over each period, where `current` would be a moment of it only
            "format ascii_dec",
            f"freq {RATES[rate_hz]}",
            f"volt {round(vout_v * 1000)}m",
            "pwr on nostatus",
            "start",
        ):
            shield.command(command)
        self._base_s, self._count = 0.0, 0  # samples since the time base_s
        self._stamp_s, self._turns = 0.0, 0
        self._level = 0
        self._heard_s = time.monotonic()
        self._arrival = Arrival()
        self._pending = Pending(self._rows)
        channel = Channel("what the board feeds", 1 / rate_hz, source=SOURCE)
        self._meta = Meta(
            meter="lpm01a",
            device="X-NUCLEO-LPM01A",
            serial=serial,
            firmware=firmware,
            rate_hz=float(rate_hz),
            simulated=simulated,
            supply_v=vout_v,
            channels={"main": channel},
        )

    @property
    def meta(self) -> Meta:
        """What is known by now."""
        return dataclasses.replace(self._meta, clock=self._arrival.clock)

    def stop(self) -> None:
        """Have it stop; the target stays powered."""
        with contextlib.suppress(StageError, OSError):  # it may be gone
            for command in ("stop", "hrc"):
                self._shield.command(command)

    def read(self) -> Chunk:
        """Return the samples that came, waiting for 0.1 s at most.

        Raises:
            DeviceNotFound: the board is gone, or sends nothing any more.
        """
        import numpy as np

        rows = self._pending.rows(self._shield.lines())
        now_s = time.monotonic()
        if rows:
            self._heard_s = now_s
            self._arrival.saw(rows[-1][0])
        elif now_s - self._heard_s > SILENCE_LIMIT_S:
            message = "the X-NUCLEO-LPM01A sends nothing any more"
            raise DeviceNotFound(message, hint="Did its target take too much current? Its display says more.")
        found = chunk(rows, self.columns)
        return {**found, MARKER: found[MARKER].astype(np.uint8)}

    def _rows(self, line: str) -> list[tuple[float, float, int]]:
        stamp = STAMP.fullmatch(line)
        if stamp:
            return self._stamped(int(stamp[1]) + int(stamp[2]) / 1e3)
        if EVENT.fullmatch(line):
            self._level ^= 1  # an event is an edge; a marker is a level
            return []
        if line.lower().startswith("error"):
            message = f"the X-NUCLEO-LPM01A stopped: {line}"
            raise StageError(message, hint="Its manual UM2269 lists the errors.")
        found = SAMPLE.findall(line)
        if SAMPLE.sub("", line):  # cut, or run into the next: how many samples it was is known, not which
            return [self._sample(None) for _ in range(len(found) + 1)]
        return [self._sample(int(digits) * 10.0 ** int(power)) for digits, power in found]

    def _sample(self, energy_j: Optional[float]) -> tuple[float, float, int]:
        self._count += 1
        time_s = self._base_s + self._count / self._rate_hz
        if energy_j is None:
            self._lose(1)
            return time_s, float("nan"), self._level
        return time_s, energy_j * self._rate_hz, self._level

    def _stamped(self, stamp_s: float) -> list[tuple[float, float, int]]:
        """Compare the number of samples with the board's time; return a gap if some were lost."""
        if stamp_s + self._turns * STAMP_WRAPS_S < self._stamp_s - STAMP_STEP_S:
            self._turns += 1
        self._stamp_s = stamp_s + self._turns * STAMP_WRAPS_S
        counted_s = self._base_s + self._count / self._rate_hz
        lost = round((self._stamp_s - counted_s) * self._rate_hz)
        if abs(lost) <= 1 + STAMP_STEP_S * self._rate_hz:
            return []
        if lost < 0:
            message = f"the X-NUCLEO-LPM01A sent {-lost} samples more than its time stamp allows"
            raise StageError(message, hint="Please report it, with the firmware's version.")
        self._lose(lost)
        self._base_s, self._count = self._stamp_s, 0
        return [((counted_s + self._stamp_s) / 2, float("nan"), self._level)]

    def _lose(self, count: int) -> None:
        self._meta = dataclasses.replace(self._meta, dropped=self._meta.dropped + count)
