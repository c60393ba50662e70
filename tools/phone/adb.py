"""The client side of adb's server: what is attached, a shell with exit codes, files in both directions.

The server is the one that the user's own adb starts, on this host or behind a Unix socket. Sources:
OVERVIEW.TXT, SERVICES.TXT, SYNC.TXT and shell_protocol.h of Android's packages/modules/adb. Shell protocol 2,
which keeps exit code, output and errors apart, is Android 7's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Callable, Optional, Union

from tools.stage import DeviceNotFound, StageError

Source = Union[io.FileIO, io.BytesIO]

ANSWER_LIMIT_S = 15.0  # a server itself waits 10 s for a phone on the network
STALL_LIMIT_S = 60.0  # for a transfer in which not a byte moves
HEADER, CHUNK = 8, 64 * 1024  # SYNC_DATA_MAX of file_sync_protocol.h
PIECE = 16 * (HEADER + CHUNK)  # at once: after each that a server gets it waits for the phone
EXECUTABLE = 0o100755  # a phone's files arrive with the mode that is asked for, and a program needs its x
ENDED = "it ended"
STDOUT, STDERR, EXIT = 1, 2, 3  # shell_protocol.h


class ConnectionLost(DeviceNotFound):
    """The phone, or the way to it, went away in the middle of something."""


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a command on the phone printed, and its exit code (128 + n if signal n ended it)."""

    stdout: str
    stderr: str
    code: int

    def check(self, what: str, hint: str = "") -> str:
        """Return `stdout` if the code is 0, else raise StageError with the last line that it printed."""
        if self.code:
            said = (self.stderr.strip() or self.stdout.strip() or f"exit code {self.code}").splitlines()[-1]
            message = f"{what} failed on the phone: {said}"
            raise StageError(message, hint=hint or "python runner.py devices says what state it is in.")
        return self.stdout


@dataclasses.dataclass(frozen=True)
class Server:
    """Where an adb server listens, as adb says it: `tcp:PORT`, `tcp:HOST:PORT` or `localfilesystem:PATH`."""

    address: str

    @classmethod
    def current(cls) -> Server:
        """Return adb's own choice: $ADB_SERVER_SOCKET, or the port $ANDROID_ADB_SERVER_PORT, else 5037."""
        port = os.environ.get("ANDROID_ADB_SERVER_PORT", "5037")
        return cls(os.environ.get("ADB_SERVER_SOCKET") or f"tcp:{port}")

    def dial(self) -> socket.socket:
        """Return a socket to the server.

        Raises:
            DeviceNotFound: none listens there.
        """
        kind, _, where = self.address.partition(":")
        try:
            if kind == "localfilesystem":
                return _dial_file(where)
            host, _, port = where.rpartition(":")
            return socket.create_connection((host or "127.0.0.1", int(port)), ANSWER_LIMIT_S)
        except (OSError, ValueError) as error:
            message = f"no adb server answers at {self.address} ({error}), so no phone can be seen"
            raise DeviceNotFound(message, hint="Start it: adb start-server") from None

    def ask(self, service: str) -> str:
        """Return the server's answer to a request that is for itself, e.g. `host:devices-l`."""
        with Stream(self.dial()) as stream:
            stream.request(service)
            return stream.text()

    def open(self, serial: str, service: str) -> Stream:
        """Return a stream to a service of the phone, e.g. `sync:`.

        Raises:
            DeviceNotFound: there is no such phone, or it cannot be used; the hint says why.
        """
        stream = Stream(self.dial(), serial)
        try:
            stream.request(f"host:transport:{serial}")
            stream.request(service)
        except BaseException:
            stream.close()
            raise
        return stream

    def shell(self, serial: str, command: str, timeout_s: float) -> Completed:
        """Run a command in the phone's shell and return what it said.

        Raises:
            ConnectionLost: the phone went away before the command ended.
            StageError: it did not end in time; it may go on.
        """
        deadline = time.monotonic() + timeout_s
        printed = {STDOUT: bytearray(), STDERR: bytearray()}
        # no input; to say so by a message would meet a closed connection where a command is quick
        with self.open(serial, f"shell,v2,raw:exec </dev/null\n{command}") as stream:
            while True:
                kind, size = struct.unpack("<BI", stream.read(5, deadline))
                data = stream.read(size, deadline)
                if kind == EXIT:
                    stdout, stderr = (bytes(printed[key]).decode(errors="replace") for key in printed)
                    return Completed(stdout, stderr, data[0])
                if kind in printed:
                    printed[kind] += data


def _dial_file(path: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(ANSWER_LIMIT_S)
        channel.connect(min(path, os.path.relpath(path), key=len))  # the kernel takes 107 bytes at most
    except OSError:
        channel.close()
        raise
    return channel


class Stream:
    """One connection to the server, and through it to a phone (`serial`) if a transport was asked for."""

    def __init__(self, channel: socket.socket, serial: str = "") -> None:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        self._channel = channel
        self._name = f"the phone {serial}" if serial else "the adb server"
        self._serial = serial

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; a service that still runs on the phone is told so."""
        self._channel.close()

    def request(self, service: str) -> None:
        """Ask for a service; return when the server or the phone agreed.

        Raises:
            DeviceNotFound: refused, by what the phone's state is.
        """
        text = service.encode()
        self.send(b"%04x%s" % (len(text), text))
        deadline = time.monotonic() + ANSWER_LIMIT_S
        if self.read(4, deadline) == b"FAIL":
            raise refused(self._serial, self.text())

    def text(self) -> str:
        """Read a text with its length before it, in four hexadecimal digits."""
        deadline = time.monotonic() + ANSWER_LIMIT_S
        return self.read(int(self.read(4, deadline), 16), deadline).decode(errors="replace")

    def send(self, data: Union[bytes, memoryview]) -> None:
        """Send all of it, unless nothing moves for STALL_LIMIT_S."""
        self._channel.settimeout(STALL_LIMIT_S)
        try:
            self._channel.sendall(data)
        except OSError as error:
            raise self._lost(str(error)) from None

    def read(self, size: int, deadline: Optional[float] = None) -> bytes:
        """Read exactly `size` bytes, until `deadline` (of time.monotonic) or while something moves."""
        data = bytearray()
        while len(data) < size:
            left_s = STALL_LIMIT_S if deadline is None else deadline - time.monotonic()
            try:
                self._channel.settimeout(max(left_s, 0.001))
                part = self._channel.recv(size - len(data))
            except socket.timeout:
                message = f"{self._name} did not answer in time"
                raise StageError(message, hint="Is it awake and not busy? python runner.py devices") from None
            except OSError as error:
                raise self._lost(str(error)) from None
            if not part:
                raise self._lost(ENDED)
            data += part
        return bytes(data)

    def said_something(self) -> bool:
        """Tell whether there is something to read."""
        return bool(select.select([self._channel], [], [], 0)[0])

    def _lost(self, why: str) -> ConnectionLost:
        message = f"the connection to {self._name} was lost: {why}"
        return ConnectionLost(message, hint="Check its cable or Wi-Fi, then: python runner.py devices")


class Sync:
    """Transfers of files over one stream; a transfer that failed leaves a part of the file behind."""

    def __init__(self, server: Server, serial: str) -> None:
        self._stream = server.open(serial, "sync:")

    def __enter__(self) -> Sync:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def send(self, source: Source, target: str) -> str:
        """Write `source` to the path `target` on the phone; return the sha256 of what was sent.

        Raises:
            StageError: the phone could not write it (no space, no such folder, not allowed).
        """
        digest = hashlib.sha256()
        self._stream.send(_message(b"SEND", f"{target},{EXECUTABLE}".encode()))
        for piece in _pieces(source, digest.update):
            self._stream.send(piece)
            if self._stream.said_something():  # only a refusal comes this early
                break
        else:
            self._stream.send(struct.pack("<4sI", b"DONE", int(time.time())))
        kind, size = self._header()
        if kind != b"OKAY":
            raise _transfer_failed(target, self._stream.read(size))
        return digest.hexdigest()

    def receive(self, source: str) -> Iterator[bytes]:
        """Yield what is in the file `source` on the phone.

        Raises:
            StageError: it is not there, or not readable.
        """
        self._stream.send(_message(b"RECV", source.encode()))
        while True:
            kind, size = self._header()
            if kind == b"DONE":
                return
            data = self._stream.read(size)
            if kind == b"FAIL":
                raise _transfer_failed(source, data)
            yield data

    def _header(self) -> tuple[bytes, int]:
        kind, size = struct.unpack("<4sI", self._stream.read(8))
        return kind, size


def _pieces(source: Source, seen: Callable[[memoryview], None]) -> Iterator[memoryview]:
    """Yield the content as DATA messages, some at once, in the same memory; `seen` gets the content.

    Nothing is copied in between: that took as long as the rest of a transfer.
    """
    piece = memoryview(bytearray(PIECE))
    while True:
        end = 0
        for start in range(0, PIECE, HEADER + CHUNK):
            size = source.readinto(piece[start + HEADER : start + HEADER + CHUNK])
            if not size:
                break
            end = start + HEADER + size
            piece[start : start + HEADER] = struct.pack("<4sI", b"DATA", size)
            seen(piece[start + HEADER : end])
            if size < CHUNK:
                break
        if not end:
            return
        yield piece[:end]


def _message(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(data)) + data


def _transfer_failed(path: str, reason: bytes) -> StageError:
    text = reason.decode(errors="replace")
    hint = "Does its folder exist, and may the shell's user write there?"
    if "space" in text.lower():  # strerror(ENOSPC)
        hint = "Free space on the phone; python runner.py phone clean removes what this project left there."
    return StageError(f"the phone could not transfer {path}: {text}", hint=hint)


# What the server says of a phone that it does not let us talk to, or in its list of devices -> what to do.
HINTS = {
    "unauthorized": """Unlock the phone and tap 'Allow' where it asks 'Allow USB debugging?'. If it does not
        ask: Developer options, 'Revoke USB debugging authorizations', then plug it in again.""",
    "authorizing": "Unlock the phone and tap 'Allow' where it asks 'Allow USB debugging?'.",
    "offline": """Wake and unlock the phone and plug it in again; over the network: is airplane mode off, and
        Wi-Fi on? If it stays so: adb reconnect offline""",
    "permissions": """Your user may not open its USB node. Install Android's udev rules (Debian: apt-get
        install android-sdk-platform-tools-common), or join the group plugdev; then plug it in again.""",
    "not installed": "Install it (Debian: apt-get install adb), or set ANDROID_HOME to your Android SDK.",
    "failed to connect": """Is the phone on this network, airplane mode off, 'Wireless debugging' on? Once
        over USB: adb tcpip 5555; or from Android 11 on: adb pair HOST:PORT""",
    "recovery": "The phone is in recovery: start Android on it.",
    "sideload": "The phone waits for an update over adb: start Android on it.",
    "bootloader": "The phone is in its boot loader: start Android on it.",
}
HINT = (
    "Plug the phone in and switch on Developer options, 'USB debugging'; over the network: "
    "adb connect HOST:PORT, or --phone HOST:PORT"
)


def hint_for(said: str) -> str:
    """Return what to do about a state of a phone, or about the server's refusal."""
    hint = next((hint for word, hint in HINTS.items() if word in said), HINT)
    return " ".join(hint.split())


def refused(serial: str, said: str) -> DeviceNotFound:
    """Return the error for a server's refusal to talk to a phone."""
    reason = " ".join(said.split("\n")[0].split())
    message = f"the phone {serial} cannot be used: {reason}" if serial else f"the adb server says: {reason}"
    return DeviceNotFound(message, hint=hint_for(said))
