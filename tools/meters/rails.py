"""The supply rails of a Jetson board by name, however they are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

UNUSED = "NC"  # what a channel that is connected to nothing is called
# The rails through which all that the module takes comes. An AGX Xavier or AGX Orin has none.
WHOLE = ("VDD_IN", "POM_5V_IN")
TOTAL = "total"
TOTAL_SCOPE = "sum of the rails that are measured; what the carrier board takes is not in it"


def whole(names: Iterable[str]) -> Optional[str]:
    """Return the rail that is the module's input, None if no one rail is."""
    return next((name for name in names if name in WHOLE), None)


def scope(name: str) -> str:
    """Say what a rail's power is that of."""
    return f"rail {name}, the input of the module" if name in WHOLE else f"rail {name}"
