"""How a board is just now: power mode, clocks, temperatures, throttling; and its power mode for a while.

The kernel's and NVIDIA's own words are kept. What `jetson_clocks` does is to set every clock's lower limit to
its upper one, so that is how its effect is seen, without the rights that it needs itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from host.board.facts import ROOT
from host.board.guard import HOME, RESTORE
from host.board.ssh import Connection
from tools.shell_output import sections
from tools.stage import InvalidRequest, Unavailable

OFF_DEGC = -256.0  # a sensor that is off reads that on Tegra
NO_SENSOR = "PMIC-Die"  # reads 100 degC always, on every board
FANS = ("pwm-fan", "fan", "pwm_fan")  # a fan that turns is no throttling

READ = f"""
root=${ROOT}
echo "@@ nvpmodel"
nvpmodel -q </dev/null 2>&1 || sudo -n nvpmodel -q </dev/null 2>&1
echo "@@ clocks"
grep -H . "$root"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_{{governor,min_freq,max_freq,cur_freq}}
grep -H . "$root"/sys/class/devfreq/*/{{governor,min_freq,max_freq,cur_freq}}
echo "@@ zones"
grep -H . "$root"/sys/class/thermal/thermal_zone*/{{type,temp}}
echo "@@ cooling"
grep -H . "$root"/sys/class/thermal/cooling_device*/{{type,cur_state}}
echo "@@ events"
grep -H . "$root"/sys/class/hwmon/hwmon*/oc*_event_cnt
echo "@@ load"
cut -d ' ' -f 1 "$root/proc/loadavg"
exit 0
"""
# The note of the mode before is there before the mode changes; guard.py sets it back.
SET = f"""
{HOME} || exit 1
{RESTORE}
query() {{ nvpmodel -q </dev/null 2>/dev/null || sudo -n nvpmodel -q </dev/null; }}
mode() {{ query | grep -x '[0-9]*' | tail -n 1; }}
command -v nvpmodel >/dev/null || {{ echo "there is no nvpmodel"; exit 3; }}
before=$(mode)
[ -n "$before" ] || {{ echo "nvpmodel does not tell the mode"; exit 3; }}
[ "$before" != %MODE% ] || exit 0
sudo -n -l nvpmodel >/dev/null 2>&1 || {{ echo "sudo asks for a password"; exit 4; }}
sudo -n jetson_clocks --store "$PWD/clocks.part" >/dev/null 2>&1 && mv clocks.part clocks
echo "$before" >power_mode.part && mv power_mode.part power_mode || exit 1
said=$(sudo -n nvpmodel -m %MODE% </dev/null 2>&1)
[ "$(mode)" = %MODE% ] || {{ restore >/dev/null 2>&1; echo "$said" | tail -n 1; exit 2; }}
"""


def read(connection: Connection) -> dict[str, Any]:
    """Ask a board how it is; what it does not tell is None or empty.

    Keys: `power_mode` (id and name, as nvpmodel says), `clocks_locked` (as after jetson_clocks), `clocks_khz`
    (of CPU clusters and devices: lower limit, now, upper limit), `governors`, `temperatures_degc`,
    `throttling` (cooling devices in action, by name: level), `over_current_events` (counts), `load_1m`.
    """
    return parse(connection.run(READ).check("reading its state"))


def parse(text: str) -> dict[str, Any]:
    """Return the state in the output of `READ`."""
    parts = sections(text)
    clocks, governors = _clocks(parts["clocks"])
    zones = _pairs(parts["zones"], r"thermal_zone\d+", "type", "temp")
    cooling = _pairs(parts["cooling"], r"cooling_device\d+", "type", "cur_state")
    events = re.findall(r"/(oc\d+)_event_cnt:(\d+)", parts["events"])
    load = parts["load"].strip()
    return {
        "power_mode": _power_mode(parts["nvpmodel"]),
        "clocks_locked": all(low == high for low, _, high in clocks.values()) if clocks else None,
        "clocks_khz": {name: list(each) for name, each in clocks.items()},
        "governors": governors,
        "temperatures_degc": {
            name: value / 1000 for name, value in zones if value / 1000 > OFF_DEGC and name != NO_SENSOR
        },
        "throttling": {name: level for name, level in cooling if level and name not in FANS},
        "over_current_events": {name: int(count) for name, count in events},
        "load_1m": float(load) if load else None,
    }


def warnings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what a reader of a measurement between two states has to know."""
    found = []
    if hot := sorted({*before["throttling"], *after["throttling"]}):
        found.append(f"The board was throttling: {', '.join(hot)}.")
    events = {
        name: count - before["over_current_events"].get(name, 0)
        for name, count in after["over_current_events"].items()
    }
    if rises := [f"{name} {rise} times" for name, rise in events.items() if rise > 0]:
        found.append(f"The board limited its current: {', '.join(rises)}.")
    if before["power_mode"] != after["power_mode"]:
        found.append("Something changed the board's power mode during the measurement.")
    if before["clocks_locked"] is False:
        found.append("The board's clocks were not locked (sudo jetson_clocks), so they followed the load.")
    return found


def set_power_mode(connection: Connection, mode: int) -> None:
    """Set the board's power mode until the run ends; the guard, or the next run's, sets it back.

    Raises:
        InvalidRequest: the board has no such mode, or would have to be restarted for it.
        Unavailable: it has no power modes, or sudo asks for a password there.
    """
    done = connection.run(SET.replace("%MODE%", str(mode)))
    if done.code == 0:
        return
    where = connection.destination.text
    message = (
        f"the power mode of {where} could not be set to {mode}: {done.stdout.strip() or done.stderr.strip()}"
    )
    if done.code == 4:
        hint = (
            "Let the user do that without one, in /etc/sudoers.d there: "
            "USER ALL=(root) NOPASSWD: /usr/sbin/nvpmodel, /usr/bin/jetson_clocks"
        )
        raise Unavailable(message, hint=hint)
    if done.code == 2:
        raise InvalidRequest(message, hint="The modes are in /etc/nvpmodel.conf there; some need a restart.")
    raise Unavailable(message, hint="Leave --power-mode out, if it is no Jetson.")


def _power_mode(text: str) -> dict[str, Any] | None:
    """Nvpmodel prints the mode's name, then its number on a line of its own, maybe among warnings."""
    name = re.search(r"^NV Power Mode: *(\S+)", text, re.MULTILINE)
    number = re.findall(r"^(\d+)$", text, re.MULTILINE)
    return {"id": int(number[-1]), "name": name[1] if name else ""} if number else None


def _clocks(text: str) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """Return lower limit, present value and upper limit in kHz by name, and the governors in use."""
    found: dict[str, dict[str, str]] = {}
    for folder, name, value in re.findall(r"^(\S+)/(?:scaling_)?(\w+):(.*)$", text, re.MULTILINE):
        found.setdefault(folder, {})[name] = value.strip()
    clocks, governors = {}, set()
    for folder, said in found.items():
        cpu = re.search(r"/(cpu\d+)/cpufreq$", folder)
        numbers = [said.get(f"{what}_freq", "") for what in ("min", "cur", "max")]
        if all(number.isdigit() for number in numbers):
            unit = 1 if cpu else 1000  # cpufreq counts in kHz, devfreq in Hz
            low, now, high = (int(number) // unit for number in numbers)
            clocks[cpu[1] if cpu else folder.rpartition("/")[2]] = (low, now, high)
        if "governor" in said:
            governors.add(said["governor"])
    return clocks, sorted(governors)


def _pairs(text: str, folder: str, name: str, value: str) -> list[tuple[str, int]]:
    """Return (content of the file `name`, number in the file `value`) of each folder that has both."""
    said: dict[str, dict[str, str]] = {}
    for key, file, content in re.findall(rf"/({folder})/(\w+):(.*)$", text, re.MULTILINE):
        said.setdefault(key, {})[file] = content.strip()
    return [
        (each[name], int(each[value]))
        for each in said.values()
        if name in each and re.fullmatch(r"-?\d+", each.get(value, ""))
    ]
