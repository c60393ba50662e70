"""The page's server: its files, the stream of what is new, and a part of the trace to keep."""

from __future__ import annotations

import base64
import json
import math
import tempfile
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Mapping

from tools.live_view.history import START
from tools.live_view.state import Live
from tools.stage import StageError

MOST_COLUMNS = 4096
PERIOD_S = 0.1  # between events
PATIENCE_S = 10.0  # with a browser that takes nothing; it connects anew when it wakes
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/plot.js": ("plot.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """A thread for each request, none of which anybody waits for."""

    daemon_threads = True
    block_on_close = False  # a browser that sleeps does not hold up the end of a recording
    allow_reuse_address = True  # of a port whose last connections the kernel still waits for

    def __init__(self, address: Any, live: Live) -> None:
        super().__init__(address, _Handler)
        self.live = live

    def server_bind(self) -> None:
        """Bind, without asking the network for this host's name as HTTPServer does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a browser that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Answer with the page, one of its files, the stream, or a file to keep."""
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(403, "This page is of this machine only", f"Open http://127.0.0.1:{port}/")
        elif url.path in FILES:
            name, kind = FILES[url.path]
            self._answer(Path(__file__).with_name(name).read_bytes(), kind)
        elif url.path in ("/stream", "/samples.parquet"):
            try:
                numbers = {key: float(text) for key, text in asked.items()}
                self._stream(numbers) if url.path == "/stream" else self._samples(numbers)
            except (ValueError, KeyError) as error:
                self.send_error(400, "Not a view", str(error))
        else:
            self.send_error(404)

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the log is the meter's."""

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _samples(self, asked: Mapping[str, float]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "samples.parquet")
            try:
                self.server.live.save(asked["from"], asked["to"], path)
            except StageError as error:
                self.send_error(404, str(error))
                return
            self._answer(path.read_bytes(), "application/vnd.apache.parquet")

    def _stream(self, asked: Mapping[str, float]) -> None:
        """Send events until the browser goes or the recording ends."""
        view = _View(self.server.live, asked)
        if not self.server.live.streams.acquire(blocking=False):
            self.send_error(503, "Too many pages show this meter")
            return
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in view.events():
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        except OSError:  # it went, or it took nothing for too long
            self.close_connection = True
        finally:
            self.server.live.streams.release()


class _View:
    """What one page looks at: the newest `span` s, or `from` s `to` s of the meter's time, in `columns`.

    Raises:
        ValueError: these are no numbers for it.
    """

    def __init__(self, live: Live, asked: Mapping[str, float]) -> None:
        self._live = live
        self._follows = "span" in asked
        self._span_s = asked["span"] if self._follows else asked["to"] - asked["from"]
        self._start_s = -math.inf if self._follows else asked["from"]
        self._end_s = math.inf if self._follows else asked["to"]
        columns = asked["columns"]
        if not (0 < self._span_s < math.inf and 1 <= columns <= MOST_COLUMNS):
            message = "it takes span or from and to, in s, and 1 to 4096 columns"
            raise ValueError(message)
        self.width_s = self._span_s / columns

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield what the page has not yet, at once and then periodically; the last one says `ended`."""
        about: Mapping[str, Any] = {}
        samples = 0
        while True:
            event = self._live.state()
            if not about:
                about = event["about"] = self._live.about()
            if event["samples"] != samples:
                samples = event["samples"]
                event.update(self._new(event["now_s"]))
            yield event
            if event["ended"]:
                return
            self._live.ended.wait(PERIOD_S)

    def _new(self, now_s: float) -> Mapping[str, Any]:
        """Return the columns since the last one that was sent, that one and the one before it with them."""
        if self._follows:
            self._start_s = max(self._start_s, now_s - self._span_s)
        if self._start_s >= self._end_s:
            return {}
        rows = self._live.columns(self._start_s, self._end_s, self.width_s)
        if not len(rows):
            return {}
        self._start_s = float(rows[-1, START])
        data = base64.b64encode(rows.astype("<f8").tobytes()).decode()
        return {"width_s": self.width_s, "rows": len(rows), "data": data}
