"""The stand-in for benchmark_model, as a file to give to the tool, and what goes wrong with it on demand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.lab.virtual_phone import VirtualPhone

PROGRAM = Path(__file__).parent / "phone" / "benchmark_model.py"


def write(target: Path, python: Path, program: Path = PROGRAM) -> Path:
    """Write the program, which runs in that Python's environment (it has ai-edge-litert); return `target`."""
    run = f"env -i PATH=/usr/bin HOME=/nowhere {python} -B {program}"
    target.write_text(f'#!/system/bin/sh\nexec {run} "$@"\n')
    return target


def fault(lab: VirtualPhone, name: str) -> None:
    """Let something go wrong from now on, as tests/lab/phone/benchmark_model.py says; nothing for ""."""
    lab.write("/vendor/etc/benchmark_model.json", json.dumps({"fault": name}))


def header(machine: int) -> bytes:
    """Return the beginning of a program for another processor: e_machine of the ELF header."""
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + machine.to_bytes(2, "little")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
