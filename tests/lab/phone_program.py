"""The stand-in for benchmark_model as a file that is given to the tool: a program, with an ELF header.

It does nothing but start tests/lab/phone/benchmark_model.py, in an environment that has ai-edge-litert.
"""

from __future__ import annotations

import json
import platform
import struct
from pathlib import Path

from tests.lab.virtual_phone import VirtualPhone

HERE = Path(__file__).parent / "phone"
STARTER = "/vendor/bin/benchmark_model.sh"
BASE, HEADERS = 0x400000, 64 + 56
X86_64 = 62  # e_machine
# lea rdi, [rip + path]; lea rsi, [rsp + 8]; mov rdx, [rsp]; lea rdx, [rsp + 8 * rdx + 16]; execve; exit(127)
CODE = bytes.fromhex("488d3d21000000488d742408488b1424488d54d410b83b0000000f05bf7f000000b83c0000000f05")


def missing() -> str:
    """What keeps this host from running the program, '' if nothing does."""
    return "" if platform.machine() == "x86_64" else "the program that stands in is for x86-64"


def elf(machine: int = X86_64) -> bytes:
    """Return a program that becomes STARTER, with its own arguments; it runs on x86-64 only."""
    content = CODE + STARTER.encode() + b"\0"
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )  # ET_EXEC, EV_CURRENT, entry, offset of the program header, ...
    size = HEADERS + len(content)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)  # PT_LOAD, read and execute
    return ident + header + segment + content


def install(lab: VirtualPhone, python: Path, target: Path) -> Path:
    """Make the phone one that runs this host's programs; write the program to `target`, and return that."""
    lab.properties(ro_product_cpu_abilist="x86_64")
    starter = lab.folder / STARTER.lstrip("/")
    run = f"{python} -B {HERE / 'benchmark_model.py'}"
    starter.write_text(f'#!/system/bin/sh\nexec env -i PATH=/usr/bin HOME=/nowhere {run} "$@"\n')
    starter.chmod(0o755)
    target.write_bytes(elf())
    return target


def fault(lab: VirtualPhone, name: str) -> None:
    """Let something go wrong from now on; nothing for ""."""
    lab.write("/vendor/etc/benchmark_model.json", json.dumps({"fault": name}))
