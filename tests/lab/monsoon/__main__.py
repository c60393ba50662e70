"""A command beside a simulated power monitor, for people without one.

    python -m tests.lab.monsoon python runner.py power record --meter monsoon --engine venv -o trace.parquet

`--setup '{"model": "lvpm"}'` before the command has the fields of `instrument.Setup` as JSON. The tool takes
the monitor for one on USB, and labels what it records `simulated`. Only with the engine venv: images hold no
stand-ins.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.monsoon.instrument import Setup
from tests.lab.virtual_usb import VirtualHost


def variables(root: Path, fields: dict[str, object]) -> dict[str, str]:
    """Return what makes a program see a monitor with these fields; `root` becomes the host's folder."""
    setup = Setup(**fields)  # type: ignore[arg-type]
    VirtualHost(root).plug(
        "1-1",
        {
            "idVendor": "2ab9",
            "idProduct": "0001",
            "serial": setup.serial,
            "product": "Power Monitor (simulated)",
        },
    )
    return {
        "MOBILE_ACCELERATOR_SIMULATED_HOST": str(root),
        "MOBILE_ACCELERATOR_SIMULATED_MONSOON": "tests.lab.monsoon.backend",
        "MONSOON_LAB": json.dumps([fields]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setup", type=json.loads, default={})
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lab = variables(Path(name) / "host", options.setup)
        return subprocess.run(options.command, env={**os.environ, **lab}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
