"""What it costs to look at a host: `python -m tests.bench.looking [--json]`.

Prints least and median seconds of `devices`, `doctor`, of `--help`, which does nothing, and of a bare Python,
and what `doctor` asks other programs for, each alone; with the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

from host import ROOT, docker_cli, machine

STARTS = 11


def seconds(argv: list[str]) -> dict[str, float]:
    """Wall times of starting a program several times; that it fails (doctor finds something) is no matter."""
    times = []
    for _ in range(STARTS):
        begun = time.monotonic()
        subprocess.run(argv, check=False, capture_output=True, cwd=ROOT)
        times.append(time.monotonic() - begun)
    return {"least_s": round(min(times), 3), "median_s": round(statistics.median(times), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    runner = [sys.executable, "runner.py"]
    with tempfile.TemporaryDirectory() as work:
        programs = {
            "devices": [*runner, "devices"],
            "doctor": [*runner, "doctor", "--work", work],
            "--help": [*runner, "--help"],
            "python": [sys.executable, "-c", "pass"],
            "docker image inspect": [docker_cli.client(), "image", "inspect", "scratch"],
            "docker buildx version": [docker_cli.client(), "buildx", "version"],
            "docker compose version": [docker_cli.client(), "compose", "version"],
        }
        as_json = parser.parse_args().json
        found = {name: seconds(argv) for name, argv in programs.items()}
    if as_json:
        print(json.dumps({"machine": machine.facts(), **found}, indent=2))
        return
    print(machine.facts())
    for name, times in found.items():
        print(f"{name:24}least {times['least_s']:.3f} s  median {times['median_s']:.3f} s")


if __name__ == "__main__":
    main()
