"""The monitor as a supply: what it may be set to, checked before anything is sent."""

from __future__ import annotations

from typing import Any, Protocol

from tools.monsoon.protocol import PASSTHROUGH, Model
from tools.stage import InvalidRequest, StageError

# A lithium cell is charged to 4.2 or 4.4 V, some to 4.48; what is above does harm to a phone's charger and to
# the phone if it is not made for it.
PHONE_LIMIT_V = 4.5
SETTING_V = 0.01  # how exactly the output is to be what was asked for: the LVPM's own step


class Supply(Protocol):
    """What a monitor is set to, whichever way it is reached."""

    model: Model

    @property
    def volts(self) -> float: ...  # noqa: D102
    def set_volts(self, volts: float) -> None: ...  # noqa: D102
    def set_limits(self, power_up_a: float, run_a: float) -> None: ...  # noqa: D102
    def set_passthrough(self, mode: str) -> None: ...  # noqa: D102
    def state(self) -> dict[str, Any]: ...  # noqa: D102


def check_volts(model: Model, volts: float, *, i_know: bool) -> None:
    """Raise if the output cannot or should not be set to so many V.

    Raises:
        InvalidRequest: the monitor cannot give it, or no phone takes it and nobody said that this is known.
    """
    low, high = model.volts
    if not low <= volts <= high:
        message = f"the {model.name} gives {low:g} to {high:g} V, not {volts:g} V"
        raise InvalidRequest(message, hint="Give --volts in that range; power-off switches it off.")
    if volts > PHONE_LIMIT_V and not i_know:
        message = f"{volts:g} V is more than a phone with one lithium cell takes ({PHONE_LIMIT_V:g} V)"
        raise InvalidRequest(message, hint="If the device takes it, say so: --i-know")


def check_limits(model: Model, *amperes: float) -> None:
    """Raise if a current limit cannot be set; 0 is none.

    Raises:
        InvalidRequest: it is negative or too high.
    """
    for limit in amperes:
        if not 0 <= limit <= model.limit_a:
            message = f"the {model.name} limits currents to 0 to {model.limit_a:g} A, not {limit:g} A"
            raise InvalidRequest(message, hint="Give a limit in that range, or none to leave it as it is.")


def check_passthrough(mode: str) -> None:
    """Raise if there is no such mode; "" is none.

    Raises:
        InvalidRequest: it is neither off, on nor auto.
    """
    if mode and mode not in PASSTHROUGH:
        message = f"there is no passthrough {mode!r}"
        raise InvalidRequest(message, hint=f"Use one of {', '.join(PASSTHROUGH)}.")


def switch(
    supply: Supply, volts: float, *, power_up_a: float = 0.0, run_a: float = 0.0, passthrough: str = ""
) -> dict[str, Any]:
    """Set limits, then passthrough, then the output; return what the monitor says of itself then.

    Raises:
        StageError: it says that its output is another.
    """
    supply.set_limits(power_up_a, run_a)
    if passthrough:
        supply.set_passthrough(passthrough)
    supply.set_volts(volts)
    state = supply.state()
    if abs(state["output_v"] - volts) > SETTING_V / 2:
        message = f"the output was set to {volts:g} V, and the monitor says {state['output_v']:g} V"
        raise StageError(message, hint="Switch it off (power-off) before you connect anything.")
    return state
