"""Whether the interval of an energy holds what is true: `python -m tests.bench.energy_accuracy [--json]`.

Makes traces whose energy per inference is known (tests/lab/power_traces.py), 200 of each of two sets of
scenes, and asks for their energy. The tool's limits were chosen with other seeds, below 1000. Prints how
often the truth is in the 95 % interval, how wide intervals are, what was refused and why; what is told of
the traces on which detectors fail in public; then the time that ten minutes at 5 kHz take. Runs in the
developers' environment, whose numpy and pyarrow are those of the tool.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host import machine
from tests.lab.power_traces import Scene, any_scene, make, other_scene
from tools import energy, trace, trace_files
from tools.energy.document import SCHEMA

TRACES = 200
FIRST = 900_000  # the first seed


NAMED = {
    "nothing spoilt": Scene(),
    "burst of the load's power before it": Scene(bursts=((5.0, 3.0, 1.0),)),
    "burst of twice the load's power after it": Scene(bursts=((50.0, 1.5, 2.0),)),
    "burst as long as the load": Scene(bursts=((45.0, 10.0, 1.0),)),
    "1 s of idle after the load": Scene(after_s=1.0),
    "no idle after the load": Scene(after_s=0.0),
    "idle power drifts by 0.2 W in 140 s": Scene(before_s=60.0, after_s=60.0, drift_w_per_s=0.2 / 140),
    "load of 1 s": Scene(load_s=1.0),
    "load of 3 s after 3 s": Scene(before_s=3.0, load_s=3.0),
    "15 samples lost": Scene(drops=3),
    "1500 samples lost": Scene(drops=300),
    "time base doubled": Scene(),
    "load loses 30 % of its power": Scene(throttle=0.3),
}


def judge(scene: Scene, stretch: float = 1.0) -> dict[str, Any]:
    """Return what the tool says of a scene's trace, beside what is true."""
    made = make(scene)
    several = scene.windows > 1
    made = dataclasses.replace(
        made, trace=dataclasses.replace(made.trace, time_s=made.trace.time_s * stretch)
    )
    found = energy.describe(
        made.trace, made.windows if several else None, 0 if several else made.inferences, ""
    )
    row: dict[str, Any] = {"seed": scene.seed, "status": found["status"], "reason": found["reason"]}
    if found["status"] == "ok":
        told = found["energy_per_inference_mj"]
        for kind, true in (("net", made.net_mj), ("gross", made.gross_mj)):
            low, high = told[f"{kind}_ci95"]
            row[kind] = {
                "inside": low <= true <= high,
                "error": told[kind] / true - 1,
                "half_width": (high - low) / 2 / true,
            }
        row["by"] = found["alignment"]["by"]
        row["steady"] = not any("differ" in text for text in found["warnings"])
    return row


def summary(scenes: Callable[[int], Scene], first: int, count: int) -> dict[str, Any]:
    """Return how a set of traces was judged."""
    rows = [judge(scenes(seed)) for seed in range(first, first + count)]
    accepted = [row for row in rows if row["status"] == "ok"]
    steady = [row for row in accepted if row["steady"]]
    refused = collections.Counter(_kind(row["reason"]) for row in rows if row["status"] != "ok")
    by = collections.Counter(row["by"] for row in accepted)
    return {
        "traces": count,
        "accepted": len(accepted),
        **{
            kind: {
                "inside": sum(row[kind]["inside"] for row in accepted),
                "share_inside": sum(row[kind]["inside"] for row in accepted) / max(len(accepted), 1),
                "worst_error_outside": max(
                    (abs(row[kind]["error"]) for row in accepted if not row[kind]["inside"]), default=0.0
                ),
                "median_error": statistics.median(abs(row[kind]["error"]) for row in accepted),
                "median_half_width": statistics.median(row[kind]["half_width"] for row in accepted),
                "median_half_width_steady": statistics.median(row[kind]["half_width"] for row in steady),
            }
            for kind in ("net", "gross")
        },
        "placed_by": dict(by),
        "refused": dict(refused.most_common()),
        "outside": [row for row in accepted if not (row["net"]["inside"] and row["gross"]["inside"])],
    }


def _kind(reason: str) -> str:
    """Return a reason without its numbers."""
    return re.sub(r"[-+]?\d[\d.e+-]*", "N", reason)


def named() -> dict[str, Any]:
    """Return how the traces with a name were judged."""
    return {name: judge(scene, 2.0 if "doubled" in name else 1.0) for name, scene in NAMED.items()}


def ten_minutes() -> dict[str, float]:
    """Return the seconds that ten minutes at 5 kHz take, from the file and without reading it."""
    made = make(Scene(before_s=60, load_s=96, after_s=60, windows=5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.parquet")
        trace.write(path, made.trace)
        took = []
        for _ in range(5):
            begun = time.perf_counter()
            read = trace_files.read(path)
            middle = time.perf_counter()
            energy.describe(read, made.windows, 0, "")
            took.append((middle - begun, time.perf_counter() - middle))
        reading_s, calculating_s = (statistics.median(each) for each in zip(*took, strict=True))
        size_mb = path.stat().st_size / 1e6
    return {
        "samples": len(made.trace.time_s),
        "file_mb": size_mb,
        "reading_s": reading_s,
        "calculating_s": calculating_s,
    }


def measure(count: int, first: int) -> dict[str, Any]:
    return {
        "machine": {**machine.facts(), "platform": platform.platform()},
        "schema": SCHEMA,
        "first_set": summary(any_scene, first, count),
        "second_set": summary(other_scene, first, count),
        "named": named(),
        "ten_minutes": ten_minutes(),
    }


def show(found: dict[str, Any]) -> None:
    for name in ("first_set", "second_set"):
        one = found[name]
        print(f"\n{name}: {one['traces']} traces, {one['accepted']} accepted, placed by {one['placed_by']}")
        for kind in ("net", "gross"):
            each = one[kind]
            steady = f"{each['median_half_width_steady']:.2%} where the load is steady"
            print(
                f"  {kind}: {each['inside']} of {one['accepted']} inside ({each['share_inside']:.1%}); "
                f"median error {each['median_error']:.2%}, "
                f"median half width {each['median_half_width']:.2%} ({steady}), "
                f"worst outside {each['worst_error_outside']:.1%}"
            )
        for reason, count in one["refused"].items():
            print(f"  {count:4} refused: {reason}")
        for row in one["outside"]:
            net, gross = row["net"], row["gross"]
            print(
                f"  outside: seed {row['seed']} ({row['by']}) "
                f"net {net['error']:+.2%} +-{net['half_width']:.2%}, "
                f"gross {gross['error']:+.2%} +-{gross['half_width']:.2%}"
            )
    print()
    for name, row in found["named"].items():
        said = f"refused: {row['reason']}"
        if row["status"] == "ok":
            said = f"net {row['net']['error']:+.2%} +-{row['net']['half_width']:.2%}"
        print(f"{name}: {said}")
    print(f"\nten minutes at 5 kHz: {found['ten_minutes']}\nmachine: {found['machine']}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=int, default=TRACES, help="in each set")
    parser.add_argument("--first", type=int, default=FIRST, help="seed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.traces, arguments.first)
    if arguments.json:
        json.dump(found, sys.stdout, indent=2)
    else:
        show(found)


if __name__ == "__main__":
    main()
