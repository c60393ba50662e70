"""Headless Chromium, driven by its DevTools protocol over a pipe: what a person does, what a page holds.

The pipe is `--remote-debugging-pipe`: Chromium reads JSON messages from descriptor 3 and writes them to
descriptor 4, each ended by a zero byte. No port is opened. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
    *("--remote-debugging-pipe", "--js-flags=--expose-gc"),
)
LIMIT_S = 30.0


class Page:
    """One page of a started Chromium."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._rest = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self.problems: list[str] = []  # what the page's console said of errors
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Performance"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return message

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of this size (px), of a phone below 640."""
        phone = width < 640
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.value("globalThis.left = true")  # the address may be the same
        self.call("Page.navigate", url=url)
        self.wait("!globalThis.left && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is, a promise's value if it is one."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, limit_s: float = LIMIT_S) -> Any:
        """Wait until an expression is true, and return it."""
        until = time.monotonic() + limit_s
        while not (found := self.value(f"(() => {{ try {{ return {expression} }} catch {{}} }})()")):
            assert time.monotonic() < until, (expression, self.problems)
            time.sleep(0.05)
        return found

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send an event of the mouse: `mousePressed`, `mouseMoved`, `mouseReleased`, `mouseWheel`."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Send an event of fingers: `touchStart`, `touchMove`, `touchEnd`."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def heap_bytes(self) -> int:
        """Return what JavaScript's objects take after its garbage is collected."""
        self.call("HeapProfiler.collectGarbage")
        metrics = {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
        return int(metrics["JSHeapUsedSize"])

    def screenshot(self, path: Path) -> None:
        """Save what is to be seen, in the whole length of the page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start Chromium with its profile and its downloads in `folder`, and give a page of it."""
    assert CHROMIUM, "no Chromium (Debian: apt-get install chromium)"
    its_input, to_browser = os.pipe()
    from_browser, its_output = os.pipe()
    # a shell gives the pipe its numbers: this process may have others at 3 and 4
    script = f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}'
    argv = ["bash", "-c", script, CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    child = subprocess.Popen(
        argv, pass_fds=(its_input, its_output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(its_input)
    os.close(its_output)
    try:
        page = Page(to_browser, from_browser)
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder / "downloads"))
        yield page
        with contextlib.suppress(AssertionError, OSError):
            page.call("Browser.close")
    finally:
        os.close(to_browser)
        os.close(from_browser)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
