"""This host's adb server: where it is, started only if none runs, and the way to it for tools.

A tool in a container has no network, not even this host's loopback. So for a run that takes a phone the
runner listens on a Unix socket in the shared work folder and passes on what comes there, whatever the engine;
it sends nothing by itself. What it started (a server, a connection to a phone) it stops at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tools.phone.adb import Server, hint_for
from tools.stage import DeviceNotFound, StageError, Unavailable

SOCKET = "adb.socket"  # in the work folder; compose.yaml names it as a container sees it
ADDRESS = "ADB_SERVER_SOCKET"  # adb's own variable
START_LIMIT_S = 30
PIECE = 1 << 20


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Yield this host's adb server: the one that runs, else one that is started, and stopped at the end.

    Raises:
        DeviceNotFound: none runs, and none can be started.
    """
    server = Server.current()
    try:
        server.dial().close()
    except DeviceNotFound as error:
        adb = _adb(error)
    else:
        yield server
        return
    _run(adb, "start-server")
    try:
        yield server
    finally:
        _run(adb, "kill-server")


def _adb(error: DeviceNotFound) -> str:
    """Return the adb of PATH or of an Android SDK, else raise `error` with that."""
    sdks = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *(f"{sdk}/platform-tools" for sdk in sdks if sdk)])
    if found := shutil.which("adb", path=path):
        return found
    message = f"{error}; adb is not installed"
    raise DeviceNotFound(message, hint=hint_for(message)) from None


def _run(adb: str, command: str) -> None:
    argv = [adb, command]
    try:
        subprocess.run(argv, capture_output=True, text=True, check=True, timeout=START_LIMIT_S)
    except (subprocess.SubprocessError, OSError) as error:
        said = str(getattr(error, "stderr", None) or error)
        message = f"adb {command} failed: {' '.join(said.split())[:300]}"
        raise DeviceNotFound(message, hint="Try it by hand; is another program on its port?") from None


@contextlib.contextmanager
def bridge(work: Path, phone: str) -> Iterator[None]:
    """Let tools reach the adb server for the block.

    `phone` is the one that was asked for; if it is on the network, HOST:PORT, the server is told to connect.
    """
    path = work / SOCKET
    path.unlink(missing_ok=True)  # a killed runner's; the work folder is locked, so no other one is alive
    with contextlib.ExitStack() as stack:
        stack.callback(path.unlink, missing_ok=True)
        try:
            listener = stack.enter_context(_Bridge(path, phone))
        except OSError as error:
            message = f"{path} cannot be made, by which tools reach phones: {error}"
            raise Unavailable(message, hint="Choose another --work; its path may be too long") from None
        path.chmod(0o666)  # a container's user is another one; adb's server too lets in all of this host
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        thread.start()
        stack.callback(listener.shutdown)
        yield


class _Bridge(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, phone: str) -> None:
        self._phone = phone
        self._guard = threading.Lock()
        self._server: Server | None = None
        self._ending = contextlib.ExitStack()
        super().__init__(min(str(path), os.path.relpath(path), key=len), _Handler)

    def dial(self) -> socket.socket:
        """Return a socket to the adb server, which is started the first time, if it has to be."""
        with self._guard:
            if self._server is None:
                server = self._ending.enter_context(serving())
                self._ending.enter_context(connected(server, self._phone))
                self._server = server
        return self._server.dial()

    def server_close(self) -> None:
        """Close it, and stop what it started."""
        super().server_close()
        self._ending.close()


@contextlib.contextmanager
def connected(server: Server, phone: str) -> Iterator[None]:
    """Have the server connected to a phone on the network for the block."""
    if ":" not in phone or phone in server.ask("host:devices").split():
        yield
        return
    said = server.ask(f"host:connect:{phone}")
    if not said.startswith(("connected", "already connected")):
        raise DeviceNotFound(said, hint=hint_for(said))
    try:
        yield
    finally:
        with contextlib.suppress(DeviceNotFound):
            server.ask(f"host:disconnect:{phone}")


class _Handler(socketserver.BaseRequestHandler):
    server: _Bridge
    request: socket.socket

    def handle(self) -> None:
        """Pass on what both sides say until one ends."""
        try:
            upstream = self.server.dial()
        except StageError as error:
            self._refuse(str(error))
            return
        with upstream:
            back = threading.Thread(target=_pass_on, args=(upstream, self.request), daemon=True)
            back.start()
            _pass_on(self.request, upstream)
            back.join()

    def _refuse(self, reason: str) -> None:
        """Answer in the words of adb's protocol."""
        with contextlib.suppress(OSError):
            self.request.recv(PIECE)  # what was asked for; a socket closed on it would lose the answer
            self.request.sendall(b"FAIL%04x%s" % (len(reason.encode()), reason.encode()))


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Copy until `source` ends, then end `target`'s other direction too: adb closes both at once."""
    with contextlib.suppress(OSError):
        source.settimeout(None)
        for piece in iter(lambda: source.recv(PIECE), b""):
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
