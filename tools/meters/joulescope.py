"""Joulescope JS220 and JS110, by the maker's own library, pyjoulescope_driver.

The instrument samples at 1 or 2 MHz; what is taken here are its statistics: means of current, voltage and
power over each block of samples, and its energy counter at the block's end. They are published to a topic
below the device's; topics and their values are as in the library's own `measure` and `statistics`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from tools.meters.pending import Pending, drained
from tools.recording import Arrival, Attached
from tools.stage import DeviceNotFound, InvalidRequest, StageError, Unsupported, first_line
from tools.trace import Channel, Meta, chunk
from tools.usb import Host

if TYPE_CHECKING:
    from tools.trace import Chunk

IDS = {"16d0:10ba": "Joulescope JS220", "16d0:0e88": "Joulescope JS110"}  # 99-joulescope.rules of the library
SILENCE_LIMIT_S = 3.0
RULES = (
    "Install the library's udev rule: "
    'echo \'SUBSYSTEM=="usb", ATTR{idVendor}=="16d0", MODE="0666"\' | '
    "sudo tee /etc/udev/rules.d/99-joulescope.rules && sudo udevadm control --reload-rules, then replug it."
)
COLUMNS = ("main_j", "main_w", "main_a", "main_v")
SOURCE = "the accuracy is in the instrument's manual, by range; it is not taken from there yet"


@dataclasses.dataclass(frozen=True)
class Model:
    """What differs between the instruments: full sample rate, settings, and the topic of the statistics."""

    sample_hz: int
    settings: tuple[tuple[str, Any], ...]
    topic: str = "/s/stats/value"


MODELS = {
    "js220": Model(1_000_000, (("/s/i/range/mode", "auto"), ("/s/stats/scnt", None), ("/s/stats/ctrl", 1))),
    "js110": Model(  # its own statistics come at 2 Hz only, so the host makes them of the samples
        2_000_000,
        (
            ("/s/i/range/select", "auto"),
            ("/s/i/ctrl", "on"),
            ("/s/v/ctrl", "on"),
            ("/s/p/ctrl", "on"),
            ("/s/stats/scnt", None),
            ("/s/stats/ctrl", "on"),
        ),
    ),
}


def present(root: Path = Path("/")) -> list[Attached]:
    """Return those on USB, from the kernel's files."""
    return [
        Attached(IDS[device.ids], device.serial)
        if device.may_be_opened
        else Attached(IDS[device.ids], device.serial, f"{device.node} may not be opened by this user", RULES)
        for device in Host(root).devices()
        if device.ids in IDS
    ]


@contextlib.contextmanager
def opened(
    root: Path, serial: str, rate_hz: float, make_driver: Optional[Callable[[], Any]] = None
) -> Iterator[Statistics]:
    """Yield a reader of one instrument; `make_driver` stands in for the library's Driver.

    Raises:
        DeviceNotFound: there is none, it may not be opened, or it does not answer.
        InvalidRequest: there are several, and none was chosen.
        Unsupported: another model.
    """
    if make_driver is None:
        from pyjoulescope_driver import Driver as make_driver  # noqa: N813
    with make_driver() as driver:
        path = _choose(driver.device_paths(), serial, present(root))
        name = path.split("/")[1]
        if name not in MODELS:
            message = f"this instrument, {name}, is not known"
            raise Unsupported(message, hint=f"Known are {', '.join(MODELS)}.")
        reader = Statistics(driver, path, rate_hz, simulated=root != Path("/"))
        with _translated(path):
            driver.open(path)
        try:
            with _translated(path):
                reader.start()
            yield reader
        finally:
            with contextlib.suppress(Exception):  # it may be gone
                reader.stop()
                driver.close(path)


def _choose(paths: list[str], serial: str, attached: list[Attached]) -> str:
    """Return the driver's path of the instrument, e.g. `u/js220/001122`."""
    chosen = [path for path in paths if not serial or path.split("/")[-1] == serial]
    if len(chosen) > 1:
        named = ", ".join(path.split("/")[-1] for path in paths)
        message = f"there are {len(chosen)} Joulescopes: {named}"
        raise InvalidRequest(message, hint=f"Choose one: --meter-serial {chosen[0].split('/')[-1]}")
    if chosen:
        return chosen[0]
    problems = [one for one in attached if one.problem]
    if problems:
        message = f"the {problems[0].name} cannot be used: {problems[0].problem}"
        raise DeviceNotFound(message, hint=problems[0].hint)
    others = ", ".join(path.split("/")[-1] for path in paths) or "none"
    message = f"there is no Joulescope {serial}".rstrip()
    raise DeviceNotFound(message, hint=f"Found: {others}. Is it plugged in, and no other program using it?")


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Say of what the library raises which instrument it is about."""
    try:
        yield
    except Exception as error:  # its errors are RuntimeError, TimeoutError and others, by no contract
        message = f"the Joulescope {path} does not answer: {first_line(error)}"
        raise DeviceNotFound(message, hint=f"Is another program using it? {RULES}") from error


class Statistics:
    """The instrument's blocks as samples. The time is that of the end of a block, on its own sample clock."""

    columns = COLUMNS

    def __init__(self, driver: Any, path: str, rate_hz: float, *, simulated: bool) -> None:
        self._driver, self._path = driver, path
        _, model, serial = path.split("/")
        self._model = MODELS[model]
        self._block = max(1, round(self._model.sample_hz / rate_hz))
        self._values: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._listener = self._on_value  # the library wants the same object to end it
        self._arrival = Arrival()
        self._pending = Pending(self._rows)
        self._heard_s = time.monotonic()
        self._first: Optional[tuple[int, float]] = None  # sample id and energy at the start
        self._end = 0
        channel = Channel(
            "what the instrument's output feeds", self._block / self._model.sample_hz, source=SOURCE
        )
        self._meta = Meta(
            meter="joulescope",
            device=f"Joulescope {model.upper()}",
            serial=serial,
            rate_hz=self._model.sample_hz / self._block,
            simulated=simulated,
            channels={"main": channel},
        )

    @property
    def meta(self) -> Meta:
        """What is known by now."""
        return dataclasses.replace(self._meta, clock=self._arrival.clock)

    def start(self) -> None:
        """Set it up and have it publish."""
        for topic, value in self._model.settings:
            self._driver.publish(self._path + topic, self._block if value is None else value)
        self._driver.subscribe(self._path + self._model.topic, "pub", self._listener)
        self._heard_s = time.monotonic()

    def stop(self) -> None:
        """Have it stop."""
        self._driver.unsubscribe(self._path + self._model.topic, self._listener)
        self._driver.publish(self._path + "/s/stats/ctrl", 0)

    def _on_value(self, _: str, value: Mapping[str, Any]) -> None:
        self._values.put(value)  # on the library's thread: nothing but this

    def read(self) -> Chunk:
        """Return the blocks that came, waiting for 0.1 s at most.

        Raises:
            DeviceNotFound: none came for SILENCE_LIMIT_S.
        """
        rows = self._pending.rows(drained(self._values))
        now_s = time.monotonic()
        if rows:
            self._heard_s = now_s
            self._arrival.saw(rows[-1][0])
        elif now_s - self._heard_s > SILENCE_LIMIT_S + 1 / (self._meta.rate_hz or 1.0):
            message = f"the {self._meta.device} {self._meta.serial} sends nothing any more"
            raise DeviceNotFound(message, hint="Check its cable, then: python runner.py devices")
        return chunk(rows, COLUMNS)

    def _rows(self, value: Mapping[str, Any]) -> list[list[float]]:
        """Return a block as a sample, after a gap if blocks were lost before it."""
        try:
            start, end = value["time"]["samples"]["value"]
            hz = value["time"]["sample_freq"]["value"]
            means = [value["signals"][name]["avg"]["value"] for name in ("power", "current", "voltage")]
            energy = value["accumulators"]["energy"]["value"]
        except (KeyError, TypeError, ValueError) as error:
            message = f"the instrument's statistics lack {error}"
            raise StageError(message, hint="Is pyjoulescope_driver of the version that is pinned?") from None
        if self._first is None:
            self._first, self._end = (start, energy - means[0] * (end - start) / hz), start
        gap = []
        if start != self._end:
            lost = (start - self._end) // self._block
            self._meta = dataclasses.replace(self._meta, dropped=self._meta.dropped + lost)
            gap = [[((self._end + start) / 2 - self._first[0]) / hz] + [float("nan")] * len(COLUMNS)]
        self._end = end
        return [*gap, [(end - self._first[0]) / hz, energy - self._first[1], *means]]
