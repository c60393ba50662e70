"""What it costs to bring a model to a phone: `python -m tests.bench.adb_transport [--phone SERIAL] [--json]`.

Sends 100 MB of random bytes in turn with `adb push`, with `Phone.push` and with the latter through the socket
that the runner makes for tools; then once more, which sends nothing; and looks for phones. Without --phone
the phone is the virtual one of the tests, on this machine: no radio and no USB take part.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from host import machine
from host.adb import ADDRESS, SOCKET, bridge
from tests.lab import virtual_phone
from tests.lab.virtual_phone import VirtualPhone
from tools.phone import Phone, Server, choose, phones

SIZE_MB, ROUNDS = 100, 25
Way = tuple[str, Callable[[], object]]


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def measure(phone: Phone, folder: Path) -> dict[str, dict[str, float]]:
    """Return times over the rounds; each sends new content by every way."""
    path, target = folder / "model", f"{phone.root}/adb"
    argv = ["adb", "-s", phone.serial, "push", str(path), f"{target}/model"]
    found: dict[str, list[float]] = {}
    with bridge(folder, ""):
        bridged = Phone(phone.serial, Server(f"localfilesystem:{folder / SOCKET}"))
        pushes: list[Way] = [
            ("adb push", lambda: subprocess.run(argv, check=True, capture_output=True)),
            ("Phone.push", lambda: phone.push({"model": path}, "ours")),
            ("Phone.push by the runner", lambda: bridged.push({"model": path}, "bridged")),
        ]
        others: list[Way] = [
            ("Phone.push again", lambda: phone.push({"model": path}, "ours")),
            ("phones", lambda: phones(phone.server)),
            ("phones and their state", lambda: [choose(each.serial).state() for each in phones()]),
        ]
        for turn in range(ROUNDS):
            path.write_bytes(os.urandom(SIZE_MB * 1_000_000))
            phone.clean_up()
            phone.shell(f"mkdir -p {target}")
            first = turn % len(pushes)  # who comes first finds another state of caches
            for name, way in [*pushes[first:], *pushes[:first], *others]:
                found.setdefault(name, []).append(seconds(way))
    phone.clean_up()
    return {
        name: {"least_s": round(min(each), 3), "median_s": round(median(each), 3)}
        for name, each in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phone", default="", help="a real one; adb is then your own")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        if not asked.phone:
            (folder / "phone").mkdir()
            os.environ.update(virtual_phone.variables())
            lab = stack.enter_context(VirtualPhone(folder / "phone"))
            os.environ[ADDRESS] = lab.server.address
        phone = choose(asked.phone)
        about = phone.state().identity
        found = measure(phone, folder)
    adb, ours = found["adb push"], found["Phone.push"]
    ratio = {name: round(adb[name] / ours[name], 2) for name in adb}
    if asked.json:
        print(
            json.dumps({"machine": machine.facts(), "phone": about, "times": found, "ratio": ratio}, indent=2)
        )
        return
    print(machine.facts())
    print(about)
    for name, times in found.items():
        print(f"{name:28}least {times['least_s']:.3f} s  median {times['median_s']:.3f} s")
    least, middle = ratio.values()
    print(
        f"Phone.push has {least} (by the least times) or {middle} (medians) of adb push's speed: {SIZE_MB} MB"
    )


if __name__ == "__main__":
    main()
