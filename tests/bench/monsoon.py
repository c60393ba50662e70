"""What it costs to record a Monsoon: `python -m tests.bench.monsoon [--pymonsoon PYTHON] [--hour] [--json]`.

- Decoding of the same packets, in turn: PyMonsoon 0.1.88, with the interpreter PYTHON that has it installed
  (with numpy 2.4.6 and scipy), and the tool's decoder; and whether both find the same.
- Reading of a PT4 of ten minutes.
- `--hour`: an hour of 5 kHz as fast as it goes: resident memory, lost samples.
- The tool's processor time in real time, of a process that has the simulated monitor in it, and of that
  monitor alone. The monitor is behind pyusb's interface; libusb and the kernel take no part.

All monitors are simulated: tests/lab/monsoon.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from host import ROOT, machine
from host.engines.venv import environment
from tests.lab.monsoon.instrument import Instrument, Setup
from tools import trace, trace_files
from tools.monsoon.ledger import Ledger
from tools.monsoon.packets import SEQUENCE, Decoder, Packets, Scale
from tools.monsoon.protocol import HVPM
from tools.trace import Meta, Trace

ROUNDS = 5
PACKETS = 60_000
SCALES = {"main": Scale(6400, 36500, 15, 15)}
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def packets(setup: Setup, count: int) -> list[bytes]:
    instrument = Instrument(setup)
    instrument.control(0x40, 2, 1250, 0, b"\xff" * 4)
    return [instrument.fetch(0) or b"" for _ in range(count)]


def decode(received: list[bytes]) -> dict[str, np.ndarray]:
    """Do what the tool does between a list of packets and columns."""
    decoder, ledger = Decoder(HVPM, SCALES), Ledger()
    joined = Packets.of(received)
    first, lost = ledger.enter(joined.flags & SEQUENCE, joined.dropped, joined.counts)
    return decoder.decode(joined, first, lost)


def decoding(python: str, folder: Path) -> dict[str, Any]:
    """Compare both decoders."""
    received = packets(Setup(speed=0), PACKETS)
    (folder / "packets").write_bytes(b"".join(received))
    samples = 3 * PACKETS - 1000
    script = [python, str(ROOT / "tests/bench/pymonsoon.py"), str(folder / "packets"), str(samples)]
    theirs, ours = [], []
    for _ in range(ROUNDS):
        if python:
            done = subprocess.run(
                [*script, str(folder / "out.npz")], check=True, capture_output=True, text=True
            )
            said = json.loads(done.stdout.splitlines()[-1])
            theirs.append(said["samples"] / said["wall_s"])
        begun_s = time.perf_counter()
        found = decode(received)
        ours.append(len(found["main_a"]) / (time.perf_counter() - begun_s))
    result: dict[str, Any] = {"samples_per_s": median(ours), "samples_per_s_all": ours}
    if python:
        result |= {"pymonsoon_samples_per_s": median(theirs), "ratio": median(ours) / median(theirs)}
        result["largest_difference"] = difference(found, np.load(folder / "out.npz"))
    return result


def difference(ours: dict[str, np.ndarray], theirs: Any) -> dict[str, float]:
    """Return by how much they differ at most. PyMonsoon drops what came in the packet that calibrated it."""
    count = len(theirs["current_ma"])
    current_ma, volts = ours["main_a"] * 1e3, ours["main_v"]
    offsets = range(len(current_ma) - count + 1)
    at = min(
        offsets, key=lambda start: np.abs(current_ma[start : start + count] - theirs["current_ma"]).max()
    )
    return {
        "main_ma": float(np.abs(current_ma[at : at + count] - theirs["current_ma"]).max()),
        "main_v": float(np.abs(volts[at : at + count] - theirs["volts"]).max()),
        "samples_compared": count,
    }


def pt4(folder: Path) -> dict[str, Any]:
    count = 600 * 5000
    random = np.random.default_rng(1)
    columns = {"main_a": random.normal(0.1, 0.1, count), "main_v": np.full(count, 4.2)}
    trace_files.write_pt4(folder / "a.pt4", Trace(np.arange(count) / 5000, columns, Meta("monsoon")))
    rates = []
    for _ in range(ROUNDS):
        begun_s = time.perf_counter()
        assert len(trace_files.read(folder / "a.pt4").time_s) == count
        rates.append(count / (time.perf_counter() - begun_s))
    return {"samples_per_s": median(rates), "samples_per_s_all": rates}


def start(folder: Path, duration_s: float, **setup: Any) -> subprocess.Popen[bytes]:
    """Start the tool beside a simulated monitor in its own process."""
    lab = {
        "PYTHONPATH": str(ROOT),
        "MOBILE_ACCELERATOR_SIMULATED_MONSOON": "tests.lab.monsoon.backend",
        "MONSOON_LAB": json.dumps([setup]),
    }
    python = environment("monsoon", lambda _: None)
    argv = [
        str(python),
        "-m",
        "tools.monsoon",
        "monsoon",
        "--trace",
        "a.parquet",
        "--duration-s",
        str(duration_s),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            argv, cwd=folder, env={**os.environ, **lab}, stdout=subprocess.DEVNULL, stderr=log
        )


def hour(folder: Path) -> dict[str, Any]:
    """Record an hour as fast as it goes; memory against the time that was recorded."""
    begun_s = time.monotonic()
    process = start(folder, 3600, speed=0)
    seen: list[tuple[float, float]] = []
    while process.poll() is None:
        time.sleep(0.5)
        recorded = [json.loads(line) for line in (folder / "log").read_text().splitlines()[-1:]]
        with_memory = Path(f"/proc/{process.pid}/statm").read_text().split()
        if recorded and len(with_memory) > 1 and int(with_memory[1]):
            seen.append((recorded[0]["progress"] * 3600, int(with_memory[1]) * PAGE_MB))
    assert process.returncode == 0
    made = trace.read(folder / "a.parquet")
    after = [memory for recorded_s, memory in seen if recorded_s > 60]
    return {
        "wall_s": time.monotonic() - begun_s,
        "samples": len(made.time_s),
        "lost": made.meta.dropped,
        "recorded_s": float(made.time_s[-1] - made.time_s[0]),
        "rss_mb_after_a_minute": [min(after), max(after)],
        "file_mb": (folder / "a.parquet").stat().st_size / 1e6,
    }


def processor_share(folder: Path, samples: int) -> dict[str, float]:
    """Return shares of a core over 30 s of real time, from 5 s after the start on."""
    process = start(folder, 40, samples=samples)
    time.sleep(8)
    before, begun_s = busy_s(process.pid), time.monotonic()
    time.sleep(30)
    share = (busy_s(process.pid) - before) / (time.monotonic() - begun_s)
    process.wait()
    dropped = trace.read(folder / "a.parquet").meta.dropped
    return {"with_the_monitor": share, "monitor_alone": monitor_alone(samples), "lost": dropped}


def monitor_alone(samples: int) -> float:
    """Return the share of a core of handing out packets in real time."""
    instrument = Instrument(Setup(samples=samples))
    instrument.control(0x40, 2, 1250, 0, b"\xff" * 4)
    begun, begun_s = time.process_time(), time.monotonic()
    while time.monotonic() < begun_s + 10:
        instrument.fetch(1)
    return (time.process_time() - begun) / (time.monotonic() - begun_s)


def busy_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pymonsoon", default="")
    parser.add_argument("--hour", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"machine": machine.facts(), "load": os.getloadavg()[0]}
        found["decoding"] = decoding(options.pymonsoon, folder)
        found["pt4"] = pt4(folder)
        found["processor_share_3_samples"] = processor_share(folder, 3)
        found["processor_share_1_sample"] = processor_share(folder, 1)
        if options.hour:
            found["hour"] = hour(folder)
    print(json.dumps(found, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
