"""One connection to a board, by the user's own OpenSSH client.

Its configuration, agent and known hosts decide who is let in and whom to believe; nothing here is looser than
what a person types. The first client is the master, and all others go through its socket, so that one login
is paid for a run. What the master runs on the board (`guard.py`) tells by its end that we are gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unavailable

CONNECT_LIMIT_S = 10
BEAT_S = 10.0  # between two signs of life to the board, which gives up after three of them
BUSY = 75  # a script's exit code for "another has it", sysexits.h's EX_TEMPFAIL
PIECE = 1 << 16
LAST_PORT = 65535
# the CPUs of a Jetson and of a PC have instructions for it, and none for OpenSSH's own first one, ChaCha20
FAST_CIPHER = "aes128-gcm@openssh.com"
OPTIONS = {
    "BatchMode": "yes",  # no questions: what needs a person is an error that says so
    "ConnectTimeout": str(CONNECT_LIMIT_S),
    "ControlPersist": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ServerAliveCountMax": "3",
    "ServerAliveInterval": "10",
}
SIGNS = {  # what OpenSSH's client says -> what to do
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "Was the board flashed anew? Then forget the old key: "
    "ssh-keygen -R {known_as}, and connect once by hand: {by_hand}. If not, somebody else answers there.",
    "Host key verification failed": "Its host key is not known yet: connect once by hand, and compare: "
    "{by_hand}",
    "Permission denied": "Is the user right? Put your key there: ssh-copy-id {argv}",
    "Too many authentication failures": "Name the key in ~/.ssh/config (IdentityFile, IdentitiesOnly yes).",
    "Could not resolve hostname": "Is the name right? A Jetson on USB is 192.168.55.1.",
    "": "Is the board on, and connected? A Jetson on USB is 192.168.55.1. Try it by hand: {by_hand}",
}


class ConnectionLost(DeviceNotFound):
    """The board went away, or the way to it."""


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a board is, as the user says it: `host`, `user@host` or `user@host:port`."""

    text: str
    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Return the destination that a text names.

        Raises:
            InvalidRequest: it is none.
        """
        match = re.fullmatch(r"((?:[\w.-]+@)?(?:\w[\w.-]*|\[[0-9a-fA-F:.]+(?:%\w+)?\]))(?::(\d+))?", text)
        if match is None or text.startswith("-") or int(match[2] or 0) > LAST_PORT:
            message = f"{text!r} is not where a board can be"
            raise InvalidRequest(
                message, hint="The form is --device USER@HOST[:PORT], e.g. jetson@192.168.55.1"
            )
        return cls(text, match[1].replace("[", "").replace("]", ""), match[2] or "")

    @property
    def argv(self) -> list[str]:
        """What `ssh` is given for it."""
        return [*(("-p", self.port) if self.port else ()), self.host]

    @property
    def by_hand(self) -> str:
        """The beginning of a command line that does something there."""
        return " ".join(["ssh", *self.argv])

    @property
    def known_as(self) -> str:
        """Its name in known_hosts."""
        name = self.host.rpartition("@")[2]
        return f"[{name}]:{self.port}" if self.port not in ("", "22") else name


@dataclasses.dataclass(frozen=True)
class Completed:
    """How a command on the board ended."""

    stdout: str
    stderr: str
    code: int

    def check(self, doing: str) -> str:
        """Return what it printed.

        Raises:
            StageError: it failed; `doing` says what it was for.
        """
        if self.code:
            said = " ".join((self.stderr or self.stdout).split())[-300:] or f"exit code {self.code}"
            hint = "Free some space there: see docs/jetson.md." if "No space left" in said else ""
            message = f"{doing} failed on the board: {said}"
            raise StageError(message, hint=hint or "Try it by hand on the board.")
        return self.stdout


class Connection:
    """A board that can be asked. `greeting` is what the master's command said when it was ready.

    `control_path` is the socket by which other clients go through the master.
    """

    def __init__(self, destination: Destination, script: str, wait_s: float = 0.0) -> None:
        """Connect, run `script` there, and wait for its line that begins with `ready`, for `wait_s` more.

        Raises:
            DeviceNotFound: the board is not there, does not let us in, or is not the one that is known.
            StageError: the script ended with a word of its own.
            Unavailable: there is no OpenSSH client.
        """
        if not shutil.which("ssh"):
            message = "there is no ssh on PATH"
            raise Unavailable(
                message, hint="Install OpenSSH's client (Debian: apt-get install openssh-client)."
            )
        self.destination = destination
        self._ending = contextlib.ExitStack()
        folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="ssh-")))
        self.control_path = folder / "s"
        self._errors = self._ending.enter_context((folder / "errors").open("w+"))
        self._options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
        argv = [
            "ssh",
            "-M",
            "-S",
            str(self.control_path),
            *self._options,
            *_ciphers(destination),
            *destination.argv,
            _command(script),
        ]
        self._master = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )
        self._closed = threading.Event()
        try:
            self.greeting = self._wait_until_ready(wait_s)
        except BaseException:
            self._end_master()
            raise
        threading.Thread(target=self._beat, daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the master is."""
        return self._master.poll() is None

    def run(
        self,
        script: str,
        *,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        limit_s: float = 60.0,
    ) -> Completed:
        """Run a bash script on the board to its end; what it prints goes to `stdout`, if that is given.

        Raises:
            ConnectionLost: the board went away.
            StageError: it did not end within `limit_s`.
        """
        source, target = stdin or subprocess.DEVNULL, stdout or subprocess.PIPE
        with self.popen(script, stdin=source, stdout=target, stderr=subprocess.PIPE) as process:
            try:
                out, errors = process.communicate(timeout=limit_s)
            except BaseException as error:
                process.kill()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                message = f"{self.destination.text} did not answer within {limit_s:g} s"
                hint = "Is it busy, or its disk failing? Look at it by hand."
                raise StageError(message, hint=hint) from None
        if process.returncode == 255 and self.is_lost():
            raise self.lost()
        said, complaint = ((each or b"").decode(errors="replace") for each in (out, errors))
        return Completed(said, complaint, process.returncode)

    def popen(
        self,
        script: str,
        *,
        stdin: IO[bytes] | int,
        stdout: IO[bytes] | int = subprocess.PIPE,
        stderr: int,
    ) -> subprocess.Popen[bytes]:
        """Start a bash script on the board; a process here stands for it."""
        # without a master a client would log in anew by itself, but not by a proxy that fails
        argv = ["ssh", "-S", str(self.control_path), "-o", "ControlMaster=no", "-o", "ProxyCommand=false"]
        argv += [*self._options, *self.destination.argv, _command(script)]
        return subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)

    def is_lost(self) -> bool:
        """Whether the master has ended; it gets a moment, because clients learn of it first."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._master.wait(1.0)
        return not self.alive

    def lost(self) -> ConnectionLost:
        """Return the error that says so."""
        message = f"the connection to {self.destination.text} was lost"
        hint = "Run it again: what was carried there is not sent again, and nothing is left running."
        return ConnectionLost(message, hint=hint)

    def close(self, wait_s: float = 60.0) -> str:
        """Let the board clean up, wait for it, and disconnect; return what it complained of."""
        if self._errors.closed:
            return ""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._master.wait(wait_s)
        self._errors.seek(0)
        said = self._errors.read()
        self._end_master()
        return said

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._master.stdin
        return self._master.stdin

    def _end_master(self) -> None:
        self._closed.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._master.pid, signal.SIGKILL)
        self._master.wait()
        for stream in (self._master.stdin, self._master.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        self._ending.close()

    def _beat(self) -> None:
        """Give the guard a sign of life, until the end."""
        while not self._closed.wait(BEAT_S):
            try:
                self._stdin.write(b"\n")
                self._stdin.flush()
            except (OSError, ValueError):
                return

    def _wait_until_ready(self, wait_s: float) -> str:
        assert self._master.stdout
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._master.stdout, selectors.EVENT_READ)
            end = time.monotonic() + 2 * CONNECT_LIMIT_S + wait_s  # the login itself takes its time too
            while selector.select(max(0.0, end - time.monotonic())):
                piece = os.read(self._master.stdout.fileno(), PIECE)
                said += piece
                for line in said.decode(errors="replace").splitlines():
                    if line.startswith("ready ") and said.endswith(b"\n"):
                        return line.removeprefix("ready ")
                if not piece:
                    break
            else:
                message = f"{self.destination.text} was reached and did not answer"
                raise DeviceNotFound(message, hint="Is it busy? Try it by hand.")
        code = self._master.wait()
        self._errors.seek(0)
        raise self._refusal(code, self._errors.read(), said.decode(errors="replace"))

    def _refusal(self, code: int, errors: str, said: str) -> StageError:
        """Return the error of a master that ended before it was ready: ssh's own words, and what to do."""
        lines = [line.strip() for line in errors.splitlines() if line.strip().strip("@")]
        if code != 255:
            reason = " ".join((said.splitlines() or lines or [f"exit code {code}"])[-1:])
            hint = "Wait for it to end." if code == BUSY else "See docs/jetson.md."
            return StageError(f"{self.destination.text}: {reason.rstrip('.')}", hint=hint)
        sign = next(sign for sign in SIGNS if sign in errors)
        to = self.destination
        words = {"argv": " ".join(to.argv), "by_hand": to.by_hand, "known_as": shlex.quote(to.known_as)}
        shown = next((line for line in lines if sign and sign in line), lines[-1] if lines else "no answer")
        message = f"{self.destination.text} cannot be reached: {shown.strip('@ ')}"
        return DeviceNotFound(message, hint=SIGNS[sign].format(**words))


def _ciphers(destination: Destination) -> list[str]:
    """Return the options for the ciphers that the user's configuration allows, the fast one first."""
    argv = ["ssh", "-G", *destination.argv]
    said = subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace").stdout
    allowed = re.search(r"^ciphers (.+)$", said, re.MULTILINE)
    if allowed is None:
        return []
    return ["-o", f"Ciphers={','.join(sorted(allowed[1].split(','), key=lambda name: name != FAST_CIPHER))}"]


def _command(script: str) -> str:
    """Return the command line of a script, whatever shell the user has on the board."""
    return f"exec bash -c {shlex.quote(script)}"
