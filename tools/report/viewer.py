"""Netron for one file, on loopback: `python -m tools.report.viewer FILE [--port N]`.

The Netron package has a server of its own, which this is not: its page asks ipinfo.io where the user is,
tells Google Analytics that it was opened, and half a year after its release refuses to work. Here its files
are served with a policy by which the browser connects to this server only, as an unversioned build of today,
for which Netron has no telemetry, and with the answer to its question about cookies.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.resources
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote, unquote, urlsplit

HOST = "127.0.0.1"
DATA = "/data/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
POLICY = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'"


def index(file: Path) -> str:
    """Return Netron's page, told to open the file."""
    page = importlib.resources.files("netron").joinpath("index.html").read_text("utf-8")
    today = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    values = {"type": "Python", "version": "0.0.0", "date": today, "identifier": quote(file.name)}
    values["file"] = DATA + quote(file.name)
    page = re.sub(r'<meta name="(version|date)".*?>', "", page)
    metas = "".join(f'<meta name="{name}" content="{value}">' for name, value in values.items())
    return page.replace("<head>", f"<head>{metas}", 1)


def content(path: str, file: Path) -> Optional[tuple[bytes, str]]:
    """Return what a path of the server stands for, and its type; None if there is nothing."""
    if path == "/":
        return index(file).encode(), TYPES[".html"]
    if path.startswith(DATA):  # and the file beside it that holds an OpenVINO network's weights
        for held in (file, file.with_suffix(".bin")):
            if unquote(path) == DATA + held.name and held.is_file():
                return held.read_bytes(), "application/octet-stream"
        return None
    name = path[1:]
    resource = importlib.resources.files("netron").joinpath(name)
    kind = TYPES.get(Path(name).suffix)
    if re.fullmatch(r"[\w.-]+", name) and kind and resource.is_file():
        return resource.read_bytes(), kind
    return None


def server(file: Path, port: int) -> ThreadingHTTPServer:
    """Return a server for the file; port 0 takes one that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own = self.headers.get("Host") in (
                f"{name}:{self.server.server_port}" for name in (HOST, "localhost")
            )
            found = content(urlsplit(self.path).path, file) if own else None  # no other site's name for us
            body, kind = found or (b"not found", "text/plain")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Set-Cookie", "consent=1; SameSite=Strict")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the terminal for the address."""

    return ThreadingHTTPServer((HOST, port), Handler)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with server(options.file, options.port) as running:
        address = f"http://{HOST}:{running.server_port}/"
        print(f"{options.file.name} in Netron: {address} (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            running.serve_forever()


if __name__ == "__main__":
    main()
