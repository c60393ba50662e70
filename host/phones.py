"""The runner's `phone` commands: what a phone is and how it is now; leave it as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping

from host.adb import connected, serving
from tools.phone import Phone, choose
from tools.phone.state import Cluster


@contextlib.contextmanager
def chosen(serial: str) -> Iterator[Phone]:
    """Yield the phone with that serial, or the only one."""
    with serving() as server, connected(server, serial):
        yield choose(serial, server)


def show_state(serial: str, *, as_json: bool) -> None:
    """Print what the phone says of itself."""
    with chosen(serial) as phone:
        state = phone.state()
    if as_json:
        print(json.dumps(dataclasses.asdict(state), indent=2))
        return
    for field in dataclasses.fields(state):
        first, *more = _said(getattr(state, field.name))
        print(f"{field.name:18}{first}", *(" " * 18 + line for line in more), sep="\n")


def _said(value: object) -> list[str]:
    """Return a value of a phone's state in words, a line for each cluster and each sensor."""
    if value is None:
        return ["not told"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, Mapping):
        return [f"{name} {degc}" for name, degc in value.items()] or ["not told"]
    if isinstance(value, Cluster):
        now = (
            f"{value.min_khz or '?'} to {value.limit_khz or '?'} kHz, {value.governor or 'governor not told'}"
        )
        return [f"to {value.max_khz} kHz, now {now}: cores {', '.join(map(str, value.cpus))}"]
    if isinstance(value, tuple):
        lines = [line for each in value for line in _said(each)]
        return lines or ["not told"]
    return [str(value)]


def clean(serial: str) -> str:
    """Remove all that this project left on the phone; return what to say of it."""
    with chosen(serial) as phone:
        phone.clean_up()
    return f"{phone.serial}: {phone.root} is gone, nothing of ours runs there, and its settings are its own"
