"""A real HTTP server on loopback that misbehaves as real ones do, one way per path."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

ETAG = '"one"'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from `server.files`; `server.tricks` says what goes wrong on the way, one trick per request."""

    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Range", "")))
        tricks = self.server.tricks.get(self.path, [])
        trick = tricks.pop(0) if len(tricks) > 1 else tricks[0] if tricks else None
        content = self.server.files.get(self.path)
        if trick is not None:
            trick(self, content or b"")
        elif content is None:
            self.send_error(404)
        else:
            self.give(content)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def give(
        self, content: bytes, *, ranges: bool = True, length: int | None = None, stop: int | None = None
    ) -> None:
        """Send the content, or the part that is asked for; `length` is claimed, up to `stop` is sent."""
        asked = self.headers.get("Range", "") if ranges and self.headers.get("If-Range") == ETAG else ""
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if ranges:
            self.send_header("ETag", ETAG)
        self.send_header("Content-Length", str(len(content) - start if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:stop])
            self.close_connection = stop is not None or length is not None

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows the requests where a test looks at them."""


class FileServer(http.server.ThreadingHTTPServer):
    """`files`: path -> content; `tricks`: path -> what to do at each request, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.tricks: dict[str, list[Trick | None]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def gets(self, path: str) -> list[str]:
        """The ranges of all GET requests for a path, empty for the whole."""
        return [asked for method, found, asked in self.requests if (method, found) == ("GET", path)]

    def handle_error(self, *_: object) -> None:
        """Nothing: clients that break off are what some tests are about."""


Trick = Callable[[Handler, bytes], None]


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """Run a server for the time of a with statement."""
    with FileServer() as server:
        if tls:
            server.socket, server.scheme = tls.wrap_socket(server.socket, server_side=True), "https"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def truncate(handler: Handler, content: bytes) -> None:
    """Announce all, send up to the middle of what was asked for, close."""
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    handler.give(content, stop=start + (len(content) - start) // 2)


def stall(handler: Handler, content: bytes) -> None:
    """Send half, then nothing."""
    handler.give(content, stop=len(content) // 2)
    time.sleep(3)


def reset(handler: Handler, content: bytes) -> None:
    """Send half, then reset the connection."""
    handler.give(content, stop=len(content) // 2)
    handler.wfile.flush()
    time.sleep(0.05)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def lie_longer(handler: Handler, content: bytes) -> None:
    """Announce more than there is."""
    handler.give(content, length=len(content) + 1000)


def lie_shorter(handler: Handler, content: bytes) -> None:
    """Announce less than there is."""
    handler.give(content, length=len(content) // 2)


def ignore_range(handler: Handler, content: bytes) -> None:
    """Send all of it whatever was asked for."""
    handler.give(content, ranges=False)


def other_part(handler: Handler, content: bytes) -> None:
    """Answer a request for a part with another part than it asked for."""
    if not handler.headers.get("Range"):
        handler.give(content)
        return
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 1-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - 1))
    handler.end_headers()
    handler.wfile.write(content[1:])


def without_length(handler: Handler, content: bytes) -> None:
    """Send it with no length; its end is where the connection ends."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(content)


def gzip_on_the_way(handler: Handler, content: bytes) -> None:
    """Claim that a .tgz is a plain file which was compressed for the way."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int) -> Trick:
    """Answer with this status."""
    return lambda handler, _: handler.send_error(code)


def redirect(target: str) -> Trick:
    """Lead elsewhere."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def give(content: bytes) -> Trick:
    """Send something else than what is there."""
    return lambda handler, _: handler.give(content)
