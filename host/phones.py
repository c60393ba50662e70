"""The runner's `phone` commands: what a phone is and how it is now; leave it as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator

from host.adb import connected, serving
from tools.phone import Phone, choose


@contextlib.contextmanager
def chosen(serial: str) -> Iterator[Phone]:
    """Yield the phone with that serial, or the only one."""
    with serving() as server, connected(server, serial):
        yield choose(serial, server)


def show_state(serial: str, *, as_json: bool) -> None:
    """Print what the phone says of itself."""
    with chosen(serial) as phone:
        state = dataclasses.asdict(phone.state())
    if as_json:
        print(json.dumps(state, indent=2))
        return
    for name, value in state.items():
        print(f"{name:18}{'not told' if value is None else value}")


def clean(serial: str) -> str:
    """Remove all that this project left on the phone; return what to say of it."""
    with chosen(serial) as phone:
        phone.clean_up()
    return f"{phone.serial}: {phone.root} is gone, nothing of ours runs there, and its settings are its own"
