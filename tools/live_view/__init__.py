"""A page that shows a power trace while it is sampled: `view` is a listener of tools/recording.py.

The page comes from this process and loads nothing from elsewhere. It asks for a stretch of time and a number
of columns; a stream of server-sent events (WHATWG HTML, 9.2) brings the least, greatest and mean value of
each column, and then what is new ten times a second. Whoever samples hands over a chunk and goes on: for a
browser that is slow only its own thread waits, and it gets the newest state when it is ready.

Only requests that name this host in their header `Host` are answered: not those of a page of some other
site whose name was made to point here (DNS rebinding).
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from tools.live_view.export import decimated
from tools.live_view.history import START, History
from tools.stage import StageError, Unavailable
from tools.trace import TIME, Meta, write

if TYPE_CHECKING:
    from tools.recording import Listener
    from tools.trace import Chunk

BIND = "MOBILE_ACCELERATOR_LIVE_BIND"  # set in a container, whose port is published on the host's loopback
PERIOD_S = 0.1  # between events
SHOWN_S = 0.5  # numbers are means over so much of the newest
MOST_COLUMNS, MOST_STREAMS = 4096, 16
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


@contextlib.contextmanager
def view(port: int, bind: str = "") -> Iterator[Listener]:
    """Serve the page on `port` for the block, and give the listener that it is fed by.

    `bind` is the address to listen on; if it is empty, what $MOBILE_ACCELERATOR_LIVE_BIND says, or else
    this host's loopback.

    Raises:
        Unavailable: the port cannot be had.
    """
    live = Live()
    try:
        server = _Server((bind or os.environ.get(BIND) or "127.0.0.1", port), live)
    except OSError as error:
        message = f"port {port} for the live view cannot be had: {error.strerror}"
        raise Unavailable(message, hint="Choose another with --port.") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    try:
        yield live.add
    except StageError as error:
        live.note = str(error)
        raise
    finally:
        live.end()
        server.shutdown()
        server.server_close()


class Live:
    """What is known of the trace now; one thread adds, those of the browsers ask."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.note = ""  # why it ended, where that is an error
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self._guard = threading.Lock()
        self._history: Optional[History] = None
        self._meta: Optional[Meta] = None

    def add(self, chunk: Chunk, meta: Meta) -> None:
        """Take samples: a `Listener`."""
        with self._guard:
            if self._history is None:
                self._history = History([name for name in chunk if name != TIME])
            self._history.add(chunk)
            self._meta = meta

    def end(self) -> None:
        """Tell the browsers that there will be no more, and give them a moment to hear it."""
        self.ended.set()
        for _ in range(MOST_STREAMS):
            self.streams.acquire(timeout=1.0 / MOST_STREAMS)

    def about(self) -> Dict[str, Any]:
        """Return what does not change: empty before the first sample."""
        with self._guard:
            history, meta = self._history, self._meta
            if history is None or meta is None:
                return {}
            names = ("meter", "device", "serial", "firmware", "rate_hz", "supply_v", "simulated")
            scopes = {name: channel.scope for name, channel in meta.channels.items()}
            known = {name: getattr(meta, name) for name in names}
            return {**known, "series": history.series, "channels": history.channels, "scopes": scopes}

    def state(self) -> Dict[str, Any]:
        """Return the numbers of now."""
        with self._guard:
            history, meta = self._history, self._meta
            if history is None or meta is None:
                return {"samples": 0, "ended": self.ended.is_set(), "note": self.note}
            energy = history.energy
            measured = [one for one in energy.channels if one.measures]
            newest = history.columns(energy.last_s - SHOWN_S, math.inf, SHOWN_S / 100)
            [mean] = history.mean(history.join(newest, math.inf))
            return {
                "samples": energy.samples,
                "first_s": energy.first_s,
                "now_s": energy.last_s,
                "dropped": meta.dropped,
                "energy_j": {one.name: one.energy_j for one in measured},
                "unknown_s": max((energy.recorded_s - one.known_s for one in measured), default=0.0),
                "latest": {
                    name: value for name, value in zip(history.series, mean.tolist()) if math.isfinite(value)
                },
                "ended": self.ended.is_set(),
                "note": self.note,
            }

    def columns(self, start_s: float, end_s: float, width_s: float) -> Any:
        """Return the rows of `History.columns`; none before the first sample."""
        with self._guard:
            if self._history is None:
                return []
            return self._history.columns(start_s, end_s, width_s)

    def now_s(self) -> float:
        """Return the time of the newest sample; NaN before the first."""
        with self._guard:
            return self._history.energy.last_s if self._history else math.nan

    def save(self, start_s: float, end_s: float, path: Path) -> None:
        """Write what is kept of [start_s, end_s) as a trace, as finely as it is kept.

        Raises:
            StageError: nothing is.
        """
        with self._guard:
            history, meta = self._history, self._meta
            if history is None or meta is None:
                message = "there is no sample yet"
                raise StageError(message)
            rows, width_s = history.samples(start_s, end_s)
        write(path, decimated(history, rows, width_s, meta))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a browser that sleeps does not hold up the end of a recording
    allow_reuse_address = True  # of a port whose last connections the kernel still waits for

    def __init__(self, address: Any, live: Live) -> None:
        super().__init__(address, _Handler)
        self.live = live

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a browser that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
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
