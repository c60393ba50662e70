"""Which phones an adb server sees, in which state, and what to do about it."""

from __future__ import annotations

import dataclasses
import re
from typing import Optional

from tools.phone.adb import HINT, Server, hint_for, refused
from tools.phone.device import Phone
from tools.stage import DeviceNotFound, InvalidRequest

FIELD = re.compile(r"\b(usb|product|model|device|transport_id):(\S+)")
READY = "device"  # what adb calls a phone that can be used


@dataclasses.dataclass(frozen=True)
class Found:
    """An entry of adb's list. `state` is adb's word: device, unauthorized, offline, no permissions, ..."""

    serial: str
    state: str
    model: str = ""
    usb: bool = False

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self.state == READY

    @property
    def hint(self) -> str:
        """What to do about it, "" if it is ready."""
        return "" if self.ready else hint_for(self.state)


def phones(server: Optional[Server] = None) -> list[Found]:
    """Return the phones that the server sees, the usable ones first.

    Raises:
        DeviceNotFound: no server answers.
    """
    lines = (server or Server.current()).ask("host:devices-l").splitlines()
    return sorted(map(_parse, lines), key=lambda phone: (not phone.ready, phone.serial))


def choose(serial: str = "", server: Optional[Server] = None) -> Phone:
    """Return the phone with that serial (HOST:PORT on the network), or the only one.

    Raises:
        DeviceNotFound: there is none, or it cannot be used; the hint says what to tap.
        InvalidRequest: there are several, and none was chosen.
    """
    server = server or Server.current()
    found = phones(server)
    if serial:
        for phone in found:
            if phone.serial == serial:
                return _usable(phone, server)
        others = ", ".join(phone.serial for phone in found)
        message = f"there is no phone {serial}"
        raise DeviceNotFound(message, hint=f"There is: {others}." if others else HINT)
    ready = [phone for phone in found if phone.ready]
    if len(ready) > 1:
        named = ", ".join(
            f"{phone.serial} ({phone.model})" if phone.model else phone.serial for phone in ready
        )
        message = f"there are {len(ready)} phones: {named}"
        raise InvalidRequest(message, hint=f"Choose one: --phone {ready[0].serial}")
    if not found:
        message = "no phone is attached"
        raise DeviceNotFound(message, hint=HINT)
    return _usable(found[0], server)


def _usable(phone: Found, server: Server) -> Phone:
    if not phone.ready:
        raise refused(phone.serial, phone.state)
    return Phone(phone.serial, server)


def _parse(line: str) -> Found:
    """Read `SERIAL STATE usb:1-2 product:P model:M device:D transport_id:7`.

    A state may have spaces, and a reason: `no permissions (user in plugdev group; ...); see [...]`.
    """
    serial, _, rest = line.strip().partition(" ")
    fields = dict(FIELD.findall(rest))
    state = FIELD.split(rest.strip())[0].split("(")[0].split(";")[0].strip()
    return Found(serial, state, fields.get("model", "").replace("_", " "), "usb" in fields)
