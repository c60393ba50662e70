"""What it costs to look at a host: `python -m tests.bench.looking [--json]`.

Prints least and median seconds, and the least processor time (with that of the programs it asks), of
`devices`, `doctor`, of `--help`, which does nothing, of a bare Python, and of what `doctor` asks other
programs for, each alone; with the machine and its load. Where PYTHONDONTWRITEBYTECODE is set, each start
compiles this project anew.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from host import ROOT, docker_cli, machine

STARTS = 11


def seconds(argv: list[str]) -> dict[str, float]:
    """Times of starting a program several times; that it fails (doctor finds something) is no matter."""
    walls, processors = [], []
    for _ in range(STARTS):
        begun, used_s = time.monotonic(), _processor_s()
        subprocess.run(argv, check=False, capture_output=True, cwd=ROOT)
        walls.append(time.monotonic() - begun)
        processors.append(_processor_s() - used_s)
    found = {"least_s": min(walls), "median_s": statistics.median(walls), "least_cpu_s": min(processors)}
    return {name: round(value, 3) for name, value in found.items()}


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
        wall = f"least {times['least_s']:.3f} s  median {times['median_s']:.3f} s"
        print(f"{name:24}{wall}  processor {times['least_cpu_s']:.3f} s")


if __name__ == "__main__":
    main()
