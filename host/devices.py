"""`devices`: what is plugged in, what state it is in, and what to do; a kind of device is a function here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence

from host import adb
from host.board import facts, guard, state
from host.board.ssh import Destination
from host.findings import print_findings
from tools import movidius, phone
from tools.stage import StageError
from tools.usb import SIMULATED_HOST, Host


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """One device, or why there is none of its kind.

    `usable` tells whether a program of this user can have it, now or after another; None where there is none.
    `where` says how it is attached, `state` is one of its kind's words.
    """

    kind: str
    name: str
    state: str
    usable: bool | None
    found: str
    mend: str = ""
    where: str = ""
    details: dict[str, str | float] = dataclasses.field(default_factory=dict)
    simulated: bool = False

    @property
    def summary(self) -> str:
        """Name, place and what was found, in one line."""
        return ", ".join(part for part in (self.name, self.where, self.found) if part)


def sticks() -> Iterable[Device]:
    """Yield the Neural Compute Sticks and OAK cameras."""
    for stick in movidius.examine(Host.current()):
        yield Device(
            kind="stick",
            name=stick.name,
            state=stick.state,
            usable=stick.state in ("ready", "in use", "host only") if stick.ids else None,
            found=stick.found,
            mend=stick.mend,
            where=f"USB {stick.port}" if stick.port else "",
            details={"ids": stick.ids, "serial": stick.serial, "speed_mbps": stick.speed_mbps},
            simulated=stick.simulated,
        )


def phones() -> Iterable[Device]:
    """Yield the phones that adb sees, or why it sees none."""
    try:
        with adb.serving() as server:
            found = phone.phones(server)
            states = {each.serial: _state(each, server) for each in found}
    except StageError as error:
        yield Device(kind="phone", name="", state="unseen", usable=None, found=str(error), mend=error.hint)
        return
    for each in found:
        state, problem = states[each.serial]
        yield Device(
            kind="phone",
            name=state.model if state else each.model,
            state="ready" if each.ready else each.state,
            usable=each.ready,
            found=f"{state.chip}, Android {state.android}, {', '.join(state.abis)}" if state else problem,
            mend=each.hint,
            where=f"{'USB' if each.usb else 'network'} {each.serial}",
            details={"serial": each.serial},
            simulated=bool(state and state.simulated),
        )
    if not found:
        yield Device(kind="phone", name="", state="none", usable=None, found="adb sees none", mend=phone.HINT)


def _state(found: phone.Found, server: phone.Server) -> tuple[phone.State | None, str]:
    """Return the state of a phone, or what kept it from telling."""
    if not found.ready:
        return None, ""
    try:
        return phone.Phone(found.serial, server).state(), ""
    except StageError as error:
        return None, str(error)


def power_meters() -> Iterable[Device]:
    """Yield the power meters that are here, as far as that can be told without opening one."""
    from host import meters  # which imports every tool

    host = Host.current()
    found = [
        Device(
            kind="meter",
            name=one.name,
            state="unusable" if one.problem else "ready",
            usable=not one.problem,
            found=one.problem or f"--meter {name}",
            mend=one.hint,
            where=one.serial,
            details={"meter": name, "serial": one.serial},
            simulated=host.simulated,
        )
        for name, command in meters.for_auto().items()
        for one in meters.present(command, host.root) or ()
    ]
    mend = "python runner.py power list says which are known"
    yield from found or [
        Device(kind="meter", name="", state="none", usable=None, found="no power meter is seen", mend=mend)
    ]


KINDS: Sequence[Callable[[], Iterable[Device]]] = (sticks, phones, power_meters)


def board(text: str) -> Device:
    """Return the board at an SSH destination; it is looked at only.

    Raises:
        InvalidRequest: the text names no place for one.
    """
    destination = Destination.parse(text)
    try:
        connection = guard.look(destination)
        try:
            known, now = facts.read(connection), state.read(connection)
        finally:
            connection.close()
    except StageError as error:
        return Device(
            kind="board", name="", state="unseen", usable=False, found=str(error), mend=error.hint, where=text
        )
    mode = now["power_mode"]
    parts = (
        f"L4T {known.l4t or 'unknown'}",
        f"TensorRT {known.tensorrt}" if known.tensorrt else "",
        f"compute capability {known.compute_capability}" if known.compute_capability else "",
        f"power mode {mode['id']} {mode['name']}" if mode else "",
        f"Docker {known.docker} ({', '.join(known.runtimes)})" if known.docker else known.docker_problem,
    )
    problem = known.docker_error(destination, "nvidia" if known.chip else None)
    return Device(
        kind="board",
        name=known.model,
        state="ready" if not problem else "no nvidia runtime" if known.docker else "no docker",
        usable=not problem,
        found=", ".join(filter(None, parts)),
        mend=problem.hint if problem else "",
        where=f"SSH {text}",
        details={"l4t": known.l4t, "chip": known.chip, "tensorrt": known.tensorrt},
        simulated=bool(known.simulated),
    )


def attached(boards: Sequence[str] = ()) -> list[Device]:
    """Return what there is of every kind, at least one entry each; boards only where they are named."""
    return [*(device for kind in KINDS for device in kind()), *map(board, boards)]


def show(boards: Sequence[str] = (), *, as_json: bool) -> None:
    """Print what is attached."""
    found = attached(boards)
    if as_json:
        print(json.dumps([dataclasses.asdict(device) for device in found], indent=2))
        return
    print_findings(
        [(labelled(device.state, device), device.kind, device.summary, device.mend) for device in found]
    )
    if any(device.simulated for device in found):
        print(f"\nsimulated: a stand-in ({SIMULATED_HOST} names one for USB), no real device")


def labelled(text: str, device: Device) -> str:
    """Return the text, marked if the device is none of this host's."""
    return f"{text} (simulated)" if device.simulated else text
