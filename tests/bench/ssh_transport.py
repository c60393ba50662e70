"""What the way to a board costs: `python -m tests.bench.ssh_transport [--rounds N] [--json]`.

In turn: 100 MB of new content by `rsync` and by `sftp`, each with a login of its own and through a connection
that a user has opened before (`ssh -M`), and by the runner's `carry.send`, through its own open one; the same
content once more, of which all bytes that pass are counted; and all that surrounds a stage: login, what the
board is, a tool's start, an empty stage, the end. The board is the virtual one of the tests, on this machine,
with a stand-in for Docker.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from host import machine
from host.board import carry, guard
from host.board.ssh import Connection, Destination
from host.engines.board import BoardEngine
from host.session import Session
from host.store import sha256
from tests.lab.virtual_board import VirtualBoard, python_image
from tools.stage import Request

SIZE_MB = 100
IMAGE = "mobile-accelerator/image:0.1.0"
Times = dict[str, list[float]]


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def transfers(lab: VirtualBoard, path: Path, rounds: int) -> tuple[Times, list[int]]:
    """Return times by way, and the bytes that passed when nothing was new."""
    found: Times = {}
    again: list[int] = []
    destination = Destination.parse(lab.direct)
    connection, place = guard.take(destination)
    host, port = destination.host, destination.port
    control_path = lab.folder / "open"
    shared = ["-o", f"ControlPath={control_path}"]
    _call("ssh", "-M", "-N", "-f", "-S", str(control_path), "-p", port, host)
    by_rsync = {"rsync": f"ssh -p {port}", "rsync, open": f"ssh {' '.join(shared)}"}
    by_sftp = {"sftp": ["-P", port], "sftp, open": shared}
    for turn in range(rounds):
        path.write_bytes(os.urandom(SIZE_MB * 1_000_000))
        ways: dict[str, Callable[[], object]] = {
            **{
                name: functools.partial(_call, "rsync", "-e", ssh, str(path), f"{host}:rsync")
                for name, ssh in by_rsync.items()
            },
            **{name: functools.partial(_sftp, options, host, path) for name, options in by_sftp.items()},
            "ours": lambda: carry.send(connection, place.folder, {sha256(path): path}),
        }
        first = turn % len(ways)  # who comes first finds another state of caches
        turns = [*ways][first:] + [*ways][:first]
        for name in turns:
            for made in lab.home.glob("[rs]*"):
                made.unlink()
            found.setdefault(name, []).append(seconds(ways[name]))
        again.append(_bytes_of_nothing_new(lab, path))
        for made in (lab.cache / "store").iterdir():
            made.unlink()
    _call("ssh", "-O", "exit", *shared, host)
    connection.close()
    return found, again


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _sftp(options: list[str], host: str, path: Path) -> None:
    program = shutil.which("ssh")  # sftp itself looks for it in one place only
    argv = ["sftp", "-q", "-S", str(program), *options, host]
    subprocess.run(argv, input=f"put {path} sftp", text=True, check=True, capture_output=True)


def _bytes_of_nothing_new(lab: VirtualBoard, path: Path) -> int:
    """Bytes that pass, login and all, when what is wanted is there; counted by a relay on the way."""
    before = lab.relay.passed_bytes
    looking: Connection = guard.look(Destination.parse(lab.destination))
    sent = carry.send(looking, str(lab.cache), {sha256(path): path})
    looking.close()
    assert sent == 0
    return lab.relay.passed_bytes - before


def empty_stage(lab: VirtualBoard, work: Path) -> float:
    """Seconds of all that surrounds a stage which does nothing."""
    folder = work / "stage"
    folder.mkdir(exist_ok=True)
    Request(tool="image", command="label", inputs={}, outputs={}, params={"none": 0}).write(folder)
    begun = time.monotonic()
    engine = BoardEngine(lab.direct, {}).open(["image"], lambda text: None)
    with Session(engine.start("image", work, print), work) as session, (work / "log").open("w") as log:
        result = session.run(folder, log=log, on_progress=lambda *_: None, limit_s=60)
    engine.close()
    assert result.error, "a stage with a wrong parameter does nothing else than to say so"
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, VirtualBoard(Path(name, "board")) as lab:
        os.environ.update(lab.variables)
        lab.add_image(IMAGE, python_image("image", Path(sys.executable)))
        times, again = transfers(lab, Path(name, "model"), asked.rounds)
        ssh = ["ssh", "-p", Destination.parse(lab.direct).port, Destination.parse(lab.direct).host, "true"]
        for _ in range(asked.rounds):
            times.setdefault("ssh true", []).append(seconds(lambda: _call(*ssh)))
            times.setdefault("empty stage", []).append(empty_stage(lab, Path(name)))
    least = {way: round(min(each), 3) for way, each in times.items()}
    middle = {way: round(median(each), 3) for way, each in times.items()}
    ratio = {
        way: round(middle[way] / middle["ours"], 2) for way in ("rsync", "rsync, open", "sftp", "sftp, open")
    }
    beyond_s = round(middle["empty stage"] - middle["ssh true"], 3)
    found = {"least_s": least, "median_s": middle, "speed_to": ratio, "second_run_bytes": max(again)}
    if asked.json:
        print(json.dumps({"machine": machine.facts(), **found, "beyond_ssh_s": beyond_s}, indent=2))
        return
    print(machine.facts())
    for way in times:
        print(f"{way:12} least {least[way]:.3f} s  median {middle[way]:.3f} s")
    print(f"speed of ours to theirs, {SIZE_MB} MB, by the medians: {ratio}")
    print(f"bytes that passed when nothing was new, login and all: {max(again)}")
    print(f"login, looking, a tool's start, an empty stage, the end: {beyond_s} s beyond `ssh true`")


if __name__ == "__main__":
    main()
