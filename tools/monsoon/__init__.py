"""Monsoon's power monitors: the HVPM, the LVPM with the firmware for USB, and the LVPM as it is sold.

It records what a device draws, and powers it. docs/monsoon.md says how, and what was never tried on a real
one.
"""

from tools.monsoon.commands import tool
from tools.power_monitors import present

__all__ = ["present", "tool"]
