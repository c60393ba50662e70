"""A page that shows a power trace while it is sampled: `view` is a listener of tools/recording.py.

The page comes from this process and loads nothing from elsewhere. It asks for a stretch of time and a number
of columns; a stream of server-sent events (WHATWG HTML, 9.2) brings the least, greatest and mean value of
each column, and then what is new ten times a second. Whoever samples hands over a chunk and goes on: for a
browser that is slow only its own thread waits, and it gets the newest state when it is ready.

Only requests that name this host in their header `Host` are answered: not those of a page of some other
site whose name was made to point here (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.live_view.server import Server
from tools.live_view.state import Live
from tools.stage import StageError, Unavailable

if TYPE_CHECKING:
    from tools.recording import Listener

BIND = "MOBILE_ACCELERATOR_LIVE_BIND"  # set in a container, whose port is published on the host's loopback


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
        server = Server((bind or os.environ.get(BIND) or "127.0.0.1", port), live)
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
