"""What a live view costs: `python -m tests.bench.live_view [--seconds 60] [--channels 1] [--speed 1]`.

Records the simulated meter of tests/lab/wave.py, 5 kHz with current and voltage of each channel and a marker,
as a tool does, to a file and to the page, which headless Chromium shows meanwhile. Prints every few seconds
the memory of the page (JavaScript's objects after a collection, and the points that it holds) and of the
recording process, and at the end that process's share of a core, with the machine. At the end it compares
what the page holds with the file. With --speed 60 an hour of samples comes in a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from host import ROOT, machine
from tests.lab.browser import Page, browser
from tools import trace

TOLERANCE = 1e-12
STEPS = 12


@contextlib.contextmanager
def recorded(
    folder: Path, seconds: float, channels: int = 1, speed: float = 1.0
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Record in a process of its own; give that and the address of its page. It ends by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "tests.lab.wave", "wave", "--trace", str(folder / "trace.parquet")]
    argv += ["--duration-s", str(seconds), "--live-port", str(port), "--channels", str(channels)]
    argv += ["--speed", str(speed)]
    with (folder / "log.txt").open("w") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(argv, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 30
            while not answers(port):
                assert child.poll() is None, (folder / "log.txt").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield child, f"http://127.0.0.1:{port}/"
        finally:
            child.terminate()
            child.wait()


def answers(port: int) -> bool:
    """Tell whether something listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def memory_bytes(pid: int) -> int:
    """Return what a process has in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(page: Page, pid: int, recorded_s: float) -> Iterator[dict[str, float]]:
    """Yield the memories, STEPS times at equal distances until shortly before the recording's end."""
    for step in range(1, STEPS + 1):
        page.wait(f"page.state.now_s >= {(recorded_s - 1) * step / STEPS}", limit_s=recorded_s + 30)
        yield {
            "recorded_s": round(page.value("page.state.now_s"), 1),
            "page_heap_mb": page.heap_bytes() / 1e6,
            "page_points": page.value("page.rows.length"),
            "process_mb": memory_bytes(pid) / 1e6,
        }


def differences(page: Page, path: Path) -> int:
    """Return how many rows of the page are not least, greatest and mean of the file's samples in them."""
    rows = np.array(
        page.value("page.rows.map((row) => [...row].map((value) => (isNaN(value) ? null : value)))")
    )
    rows = rows.astype(float)
    file = trace.read(path)
    current = file.columns["main_a"]
    count = page.value("page.about.series.length")
    wrong = 0
    for row, end in zip(rows, np.append(rows[1:, 0], math.inf), strict=True):
        inside = current[slice(*np.searchsorted(file.time_s, [row[0], end]))]
        known = inside[~np.isnan(inside)]
        wanted = [known.min(), known.max(), known.mean()] if len(known) else [np.nan] * 3
        found = row[[4, 4 + count, 4 + 2 * count]]
        wrong += row[1] != len(inside) or not np.allclose(found, wanted, TOLERANCE, 0, equal_nan=True)
    return wrong


def measure(folder: Path, seconds: float, channels: int = 1, speed: float = 1.0) -> dict[str, Any]:
    """Record and look for so long; return memories, the process's share of a core, and wrong rows.

    At `speed` times a meter's pace the recording holds so many times more.
    """
    with browser(folder) as page, recorded(folder, seconds * speed, channels, speed) as (child, url):
        begun = time.monotonic()
        page.open(url)
        steps = list(watch(page, child.pid, seconds * speed))
        share = processor_s(child.pid) / (time.monotonic() - begun)
        page.wait("page.state.ended", limit_s=60)
        child.wait(60)
        wrong = differences(page, folder / "trace.parquet")
        return {"steps": steps, "core_share": share, "wrong_rows": wrong, "problems": page.problems}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--speed", type=float, default=1.0, help="60: an hour of samples in a minute")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), asked.seconds, asked.channels, asked.speed)
    if asked.json:
        print(json.dumps({"machine": machine.facts(), **found}, indent=2))
        return
    print(machine.facts())
    for step in found["steps"]:
        page = f"{step['page_heap_mb']:5.2f} MB, {step['page_points']} points"
        print(f"{step['recorded_s']:6.1f} s  page {page}  process {step['process_mb']:6.1f} MB")
    print(f"process: {100 * found['core_share']:.1f} % of a core, its start included")
    print(f"rows of the page that differ from the file: {found['wrong_rows']}; errors: {found['problems']}")


if __name__ == "__main__":
    main()
