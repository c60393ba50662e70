"""What is alike in the SDKs that a user supplies: how one is called, and what a record says of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Dict, Tuple

SIMULATED = "SIMULATED"  # a file that the tests' stand-ins have; what is made with them is labelled


def simulated(home: Path) -> Dict[str, Any]:
    """Return the label that a record gets if the SDK in `home` is a stand-in."""
    return {"simulated": True} if (home / SIMULATED).exists() else {}


def checksums(home: Path, patterns: Iterable[str]) -> Dict[Path, str]:
    """Return the sha256 of each file in `home` that one of the glob patterns names, in the paths' order."""
    files = sorted(path for pattern in patterns for path in home.glob(pattern))
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def environment(variables: Mapping[str, str]) -> Dict[str, str]:
    """Return `variables` on top of this process's own, without those that are for this tool's Python."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, **variables}


def run(argv: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Tuple[int, str]:
    """Run a program in `folder`; return its exit code and what it printed, which goes into the log too."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    print(said, flush=True)
    return done.returncode, said
