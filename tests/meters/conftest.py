"""A meter's command run as the runner does, with a folder that stands in for the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tools import trace
from tools.meters import tool
from tools.stage import Request, Result
from tools.trace import Trace
from tools.usb import SIMULATED_HOST

Record = Callable[..., tuple[Result, Trace | None]]


@pytest.fixture
def record(tool_python: Callable[[str], Path], tmp_path: Path) -> Record:
    """Run `meter` to its end in the tool's own environment; return its result, and its trace if there is one.

    Once there are samples `started` is called, and `stop_after_s` later it gets SIGTERM, as from an engine.
    An error is in the result, not raised.
    """

    def run(
        meter: str,
        root: Path | None = None,
        *,
        inputs: Mapping[str, Path] | None = None,
        started: Callable[[], object] | None = None,
        stop_after_s: float = 0.0,
        variables: Mapping[str, str] | None = None,
        **params: Any,
    ) -> tuple[Result, Trace | None]:
        folder = tmp_path / f"stage-{meter}"
        folder.mkdir()
        files = {key: str(path) for key, path in (inputs or {}).items()}
        outputs = dict(tool.commands[meter].outputs)
        Request(tool="meters", command=meter, inputs=files, outputs=outputs, params=params).write(folder)
        environment = {**os.environ, **(variables or {}), SIMULATED_HOST: str(root or "")}
        argv = [str(tool_python("meters")), "-m", "tools.meters", "batch", str(folder)]
        with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as child:
            if started or stop_after_s:
                while not (folder / "recording.json").exists() and child.poll() is None:
                    time.sleep(0.05)
            if started:
                started()
            if stop_after_s:
                time.sleep(stop_after_s)
                child.send_signal(signal.SIGTERM)
            _, log = child.communicate(timeout=60)
        result = Result.read(folder)
        assert child.returncode == (result.error or {}).get("exit_code", 0), log
        recorded = folder / "trace.parquet"
        return result, trace.read(recorded) if recorded.exists() and recorded.stat().st_size else None

    return run
