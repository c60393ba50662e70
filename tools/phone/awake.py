"""A phone that stays awake while it measures, and gets its settings back, whatever becomes of the cable.

Without root adb's user can hold no wake lock of the kernel, so the screen is kept on: Android then does not
suspend. What was set before is written to a file on the phone first; the end of the block, a guard on the
phone that waits for the time limit, or the next run restores it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.stage import StageError

if TYPE_CHECKING:
    from tools.phone.device import Phone

RESTORE = "restore.sh"
# KeyEvent: 223 sleep, 224 wake up. 7: on AC, USB and wireless power (BatteryManager.BATTERY_PLUGGED_*).
SAVE_AND_SET = """
cd {root} && command -v settings >/dev/null || exit 3
[ -e {restore} ] && sh ./{restore}
put() {{ # how to set a setting to what it is now
    value=$(settings get "$1" "$2")
    if [ "$value" = null ]; then echo "settings delete $1 $2"; else echo "settings put $1 $2 $value"; fi
}}
{{
    echo 'cd "${{0%/*}}"'
    put global stay_on_while_plugged_in
    put system screen_off_timeout
    dumpsys power | grep -q mWakefulness=Awake || echo 'input keyevent 223'
    echo 'rm -f {restore}'
}} >{restore}.part && mv {restore}.part {restore} || exit 1
settings put global stay_on_while_plugged_in 7 &&
    settings put system screen_off_timeout {timeout_ms} &&
    input keyevent 224 || {{ sh ./{restore}; exit 3; }}
setsid sh -c 'sleep {timeout_s}; sh {root}/{restore}' </dev/null >/dev/null 2>&1 &
echo $!
"""


@contextlib.contextmanager
def awake(phone: Phone, timeout_s: float) -> Iterator[bool]:
    """Keep the screen on for the block, `timeout_s` at most; yield False where that cannot be had.

    Some makers let adb change settings only with 'USB debugging (Security settings)' on; a system other than
    Android has none.
    """
    phone.shell(f"mkdir -p {phone.root}", timeout_s=30).check("making a folder")
    limit_s = round(timeout_s)
    command = SAVE_AND_SET.format(
        root=phone.root, restore=RESTORE, timeout_s=limit_s, timeout_ms=1000 * limit_s
    )
    done = phone.shell(command, timeout_s=30)
    if done.code == 3:
        yield False
        return
    guard = done.check("keeping it awake").split()[-1]
    try:
        yield True
    finally:
        with contextlib.suppress(StageError):  # it is away: the guard does it, or the next run
            restore(phone, guard)


def restore(phone: Phone, guard: str = "") -> None:
    """Give the phone back the settings that `awake` changed, now or in a run that was cut off."""
    kill = f"kill -9 -{guard}; " if guard else ""
    phone.shell(f"{kill}[ ! -e {phone.root}/{RESTORE} ] || sh {phone.root}/{RESTORE}", timeout_s=30).check(
        "restoring its settings"
    )
