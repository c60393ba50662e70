"""An adb server that sees phones in states that a real one cannot be brought into without their owners.

It answers two requests of the server's protocol: which devices there are, and, for any that is not ready, the
refusal to talk to it, in the words of adb 34.
"""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from tools.phone import Server


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        service = self.rfile.read(int(self.rfile.read(4), 16)).decode()
        lines = self.server.lines  # type: ignore[attr-defined]
        if service == "host:devices-l":
            self.wfile.write(b"OKAY" + _text("".join(f"{line}\n" for line in lines)))
        else:
            self.wfile.write(b"FAIL" + _text("device offline"))


def _text(text: str) -> bytes:
    return b"%04x%s" % (len(text.encode()), text.encode())


@contextmanager
def server(folder: Path, *lines: str) -> Iterator[Server]:
    """Serve a list of devices, in the form of `adb devices -l`."""
    path = folder / "states.socket"
    with socketserver.ThreadingUnixStreamServer(str(path), _Handler) as listener:
        listener.lines = lines  # type: ignore[attr-defined]
        Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield Server(f"localfilesystem:{path}")
        listener.shutdown()
    path.unlink()
