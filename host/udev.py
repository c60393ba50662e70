"""`doctor --install-udev`: lets every user of this host open its devices, not root only.

A rule sets the mode of a device's node below /dev/bus/usb each time it appears, under any of its ids (man 7
udev). Containers get the same nodes, so this serves both engines.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from host import ROOT
from tools import power_monitors
from tools.movidius import NAMES, VENDOR
from tools.stage import StageError, Unavailable

FOLDER = Path("/etc/udev/rules.d")
FILE = "97-myriad-usbboot.rules"  # the name that OpenVINO's own installer uses
HEAD = "# Every user may open sticks, OAK cameras and power monitors; ModemManager leaves them alone."
RULE = (
    f'SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ATTR{{idVendor}}=="{VENDOR}", ATTR{{idProduct}}=="%s", '
    'MODE="0666", ENV{ID_MM_DEVICE_IGNORE}="1"'
)


def rules() -> str:
    """Return the file's text: sticks and cameras, without firmware and with it, and power monitors."""
    return "\n".join([HEAD, *(RULE % product for product in NAMES), *power_monitors.RULES, ""])


def install(confirm: Callable[[str], bool], folder: Path = FOLDER) -> str:
    """Write the rules if they are not there and `confirm` agrees; return what was done.

    Raises:
        Unavailable: this host has no udev.
        StageError: only root may write there; the hint is the command.
    """
    path = folder / FILE
    if not folder.is_dir():
        message = f"there is no {folder}, so this host has no udev"
        raise Unavailable(
            message, hint="In a container or on another system, set the rules on the host itself."
        )
    if path.is_file() and path.read_text() == rules():
        return f"{path} is there already; replug the stick if it was plugged in before"
    if not os.access(folder, os.W_OK):
        command = ["sudo", sys.executable, str(ROOT / "runner.py"), "doctor", "--install-udev"]
        message = f"only root may write {path}; nothing was written"
        raise StageError(message, hint=shlex.join(command))
    question = f"{path} says otherwise. Replace it?" if path.exists() else f"Write {path}?"
    if not confirm(f"{rules()}\n{question}"):
        return "nothing was written"
    part = path.with_suffix(".part")
    part.write_text(rules())
    part.replace(path)
    return f"{path} is written; {_reload()}"


def _reload() -> str:
    """Make udev read its rules anew, and say what is left to do."""
    try:
        done = subprocess.run(["udevadm", "control", "--reload"], capture_output=True, check=False)
    except OSError:
        done = None
    if done and done.returncode == 0:
        return "now replug the stick"
    return "udev does not run here and reads it when it starts; then replug the stick"
