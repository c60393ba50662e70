"""ODPM: the energy that a Pixel's power monitors count of each rail, over adb.

Formats, as Google's reader has them (hardware/google/pixel, powerstats/dataproviders/IioEnergyMeter*):

    newer   enabled_rails  CH2[VSYS_PWR_RFFE]:Cellular    energy_value  t=473848, then
                                                                        CH3(T=358356)[S2M_VDD_CPUCL2], 761330
    older   enabled_rails  RAIL:subsystem                 energy_value  473848, then RAIL,761330

Times are ms since boot, energies uJ since some start. A rail is a part of the phone; none is all of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tools.names import nearest
from tools.phone import Phone, choose
from tools.recording import Arrival
from tools.shell_output import sections
from tools.stage import InvalidRequest, StageError, Unsupported
from tools.trace import Channel, Meta, chunk

if TYPE_CHECKING:
    from tools.trace import Chunk

DEVICES = "/sys/bus/iio/devices/iio:device*"
LOOK = f'for d in {DEVICES}; do [ -e "$d/energy_value" ] && echo "@@ $d" && cat "$d/enabled_rails"; done; :'
READ = f'for d in {DEVICES}; do [ -e "$d/energy_value" ] && echo "@@ $d" && cat "$d/energy_value"; done; :'
PATH = r"\S+"  # what a section is called
ENABLED = re.compile(r"(?:CH\d+\[([^\]]+)\]|([^:\[\]]+)):(.*)")
FIRST = re.compile(r"(?:t=)?(\d+)")
ENERGY = re.compile(r"(?:CH\d+\(T=\d+\)\[([^\]]+)\]|([^,\[\]]+)),\s*(\d+)")
NONE_HINT = "Pixel phones have it, from the Pixel 6 on for all rails; the files are root's: adb root."
SOURCE = "the phone's own monitor; no accuracy is stated"


def parse_rails(text: str) -> dict[str, str]:
    """Return the rails of `enabled_rails` and what each feeds, e.g. `VSYS_PWR_RFFE` and `Cellular`."""
    found = (ENABLED.fullmatch(line.strip()) for line in text.splitlines())
    return {match[1] or match[2]: match[3] for match in found if match}


def parse_energy(text: str) -> tuple[float, dict[str, float]]:
    """Return the time in s and the energy of each rail in J that an `energy_value` tells.

    Raises:
        StageError: it is in no known format.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = FIRST.fullmatch(lines[0]) if lines else None
    rails = [ENERGY.fullmatch(line) for line in lines[1:]]
    if first is None or not all(rails):
        wrong = next((line for line, rail in zip(lines[1:], rails) if not rail), lines[0] if lines else "")
        message = f"the phone's energy_value is in no known format: {wrong[:80]!r}"
        raise StageError(message, hint="Please report it, with the file.")
    return int(first[1]) / 1e3, {rail[1] or rail[2]: int(rail[3]) / 1e6 for rail in rails if rail}


@contextlib.contextmanager
def opened(serial: str, rate_hz: float, rail: str = "") -> Iterator[Counters]:
    """Yield a reader of one rail of a phone, or of all.

    Raises:
        DeviceNotFound: there is no phone, or it cannot be used.
        InvalidRequest: it has no such rail.
        Unsupported: it has no such monitors, or adb's user may not read them.
    """
    phone = choose(serial)
    state = phone.state()
    fed = {}
    for text in sections(phone.shell(LOOK).stdout, PATH).values():
        fed.update(parse_rails(text))
    yield Counters(phone, state.model, fed, rate_hz, rail, simulated=bool(state.simulated))


class Counters:
    """A reader of the counters. Its time is the phone's, of the first of its monitors.

    The monitors of one phone are read one after the other, so their times differ by some ms; that is within
    the clock's error.
    """

    def __init__(
        self,
        phone: Phone,
        model: str,
        fed: Mapping[str, str],
        rate_hz: float,
        rail: str,
        *,
        simulated: bool,
    ) -> None:
        self._phone, self._rail, self.period_s = phone, rail, 1 / rate_hz
        self._next_s = time.monotonic()
        self._arrival = Arrival()
        self._last_s, self._start = self._ask()
        self._first_s = self._last_s
        self.columns = [f"{rail}_j" for rail in self._start]
        self._meta = Meta(
            meter="odpm",
            device=f"power monitors of {model}",
            serial=phone.serial,
            simulated=simulated,
            channels={
                rail: Channel(f"rail {rail} ({fed.get(rail) or 'not named'})", source=SOURCE)
                for rail in self._start
            },
        )

    @property
    def meta(self) -> Meta:
        """What is known by now."""
        return dataclasses.replace(self._meta, clock=self._arrival.clock)

    def read(self) -> Chunk:
        """Ask once if it is time to; readings that the phone has not renewed are no samples."""
        time.sleep(min(0.1, max(0.0, self._next_s - time.monotonic())))
        rows = []
        if time.monotonic() >= self._next_s:
            self._next_s = max(self._next_s + self.period_s, time.monotonic())
            now_s, energies = self._ask()
            if now_s > self._last_s:
                self._last_s = now_s
                self._arrival.saw(now_s - self._first_s)
                rows.append(
                    [now_s - self._first_s, *(energies[rail] - self._start[rail] for rail in self._start)]
                )
        return chunk(rows, self.columns)

    def _ask(self) -> tuple[float, dict[str, float]]:
        texts = sections(self._phone.shell(READ).stdout, PATH).values()
        found = [parse_energy(text) for text in texts if text.strip()]  # empty where it may not be read
        energies = {rail: energy for _, rails in found for rail, energy in rails.items()}
        if not energies:
            message = f"the phone {self._phone.serial} shows no power monitors that adb's user may read"
            raise Unsupported(message, hint=NONE_HINT)
        if self._rail:
            if self._rail not in energies:
                message = f"the phone has no rail {self._rail!r}"
                raise InvalidRequest(message, hint=nearest(self._rail, energies))
            energies = {self._rail: energies[self._rail]}
        missing = set(getattr(self, "_start", energies)) - set(energies)
        if missing:
            message = f"the phone no longer counts {', '.join(sorted(missing))}"
            raise StageError(message, hint="Did something choose other rails meanwhile?")
        return found[0][0], energies
