"""What snpe_bench.py of Qualcomm's SDK writes: benchmark_stats_<name>.csv, every run combination of it.

Columns are found by name. The format was seen in files of SNPE 1.63.0 (gesanqiu/SNPE_Tutorial, commit
7d89188, benckmark/yolov5s/results) and 2.2.1 (quic/qidk, commit d756eb9); older files lack the columns
`runtime`. Times are in microseconds there, and what a DSP counts in cycles stays in cycles.

A healthy run has `CPU|GPU` or `CPU|DSP` as the unit of its `Total Inference Time`, because the host's part of
it is the CPU's (in the first of those files with all 203 layers on the GPU or the DSP). So whether a unit was
replaced by another is told by the layers, and where the file has none it is not known.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, Optional

from tools import printed
from tools.snpe import diagview

PROGRAM = "snpe_bench.py"
RUN = re.compile(
    r"(?P<name>(?P<runtime>\w+?)(?:_(?P<buffers>ub_\w+))?_(?P<kind>timing|mem))\((?P<runs>\d+) runs?\)"
)
LAYER = re.compile(r"layer_(\d+)(?: \(Name:(\S*?)(?: Type:(\S+?))?\))?(?: \(cycles\))?")
STATISTICS = {"avg": "mean", "max": "max", "min": "min"}
MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
TOTAL = "Total Inference Time"
# Runtime of a run combination -> the unit that is to run the layers.
UNITS = {"GPU_FP16": "GPU", "GPU_s": "GPU", "CPU_FXP8": "CPU"}


def read(path: Path) -> dict[str, Any]:
    """Return what a benchmark_stats file holds; see `parse`. Never raises for what is in it."""
    return printed.read(path, parse, PROGRAM)


def parse(text: str) -> dict[str, Any]:
    """Return what is in a benchmark_stats file.

    Returns:
        sdk_version, model, dlc, perf_profile, profiling_level, date, device: as the file says, "" if not.
        runs: a row for each run combination: name, runtime, buffers, kind (`timing` or `mem`), n_runs;
            ran_on: the unit of its total time, "" if the file does not say;
            layers_on: unit -> number of layers;
            fallback: whether layers ran on another unit than the runtime's, None where that is not known;
            metrics: name -> mean_ms, min_ms, max_ms (or with another unit in the place of ms), ran_on;
            layers: index, name, type, ran_on, and mean, min, max in _ms or _cycles; the other is None.
        warnings: what is odd in it, fallbacks first.
    """
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error as error:
        return printed.failed(f"it is not the CSV of {PROGRAM}: {error}")
    head = _head(rows)
    starts = [index for index, row in enumerate(rows) if any(map(_run_name, row))]
    if not text.strip():
        return printed.failed("the file is empty")
    if not starts:
        if head["sdk_version"]:
            return printed.failed("it is cut off before its table, or no run of it ended", **head)
        return printed.failed(f"it is not a file of {PROGRAM}", "Give benchmark_stats_<name>.csv.")
    if len(starts) > 1:
        return printed.failed(f"there are {len(starts)} benchmarks in it", "Give one file at a time.")
    table = rows[starts[0] :]
    if len(table) < 2:
        return printed.failed("it is cut off at the head of its table", **head)
    groups = _groups(table[0], table[1])
    body = [row for row in table[2:] if len(row) > 2 and row[2].strip()]
    width = len(table[1])
    if (not text.endswith("\n") and not _whole(body)) or (body and len(body[-1]) < width):
        last = body[-1][2].strip() if body else "its heads"
        return printed.failed(f"it is cut off in the row of {last}", "Copy the file again.", **head)
    warnings: list[str] = []
    runs = [_run(group, body, warnings) for group in groups]
    if not any(run["metrics"] for run in runs):
        return printed.failed("no run of it has a single value", "See the output of each run.", **head)
    if text.splitlines()[-1].strip():
        warnings.append("The file does not end in an empty line as others do: rows may be missing.")
    fallbacks = [warning for run in runs for warning in _fallback(run)]
    return printed.ok({**head, "runs": runs, "warnings": [*fallbacks, *warnings]})


def _whole(body: list[list[str]]) -> bool:
    """Whether a last row without an end of line is whole: it ends in a unit, not in a part of a number."""
    return bool(body) and body[-1][-1].strip() in diagview.UNITS


def _head(rows: list[list[str]]) -> dict[str, Any]:
    said = {row[0].strip().rstrip(":"): row[1].strip() for row in rows if len(row) == 2}
    names = {
        "sdk_version": "SNPE SDK version",
        "model": "Model:Name",
        "dlc": "Model:Dlc",
        "perf_profile": "PerfProfile",
        "profiling_level": "ProfilingLevel",
        "date": "Date",
        "device": "ro.product.model",
    }
    return {key: said.get(name, "") for key, name in names.items()}


def _run_name(cell: str) -> Optional[re.Match[str]]:
    return RUN.fullmatch(cell.strip()) if len(cell) < 200 else None


def _groups(names: list[str], columns: list[str]) -> list[dict[str, Any]]:
    """Return each run combination with its columns: `(statistic, unit)` or `runtime` -> index."""
    found = [(index, _run_name(cell)) for index, cell in enumerate(names)]
    heads = [(index, match) for index, match in found if match]
    ends = [index for index, _ in heads[1:]] + [len(columns)]
    groups = []
    for (start, match), end in zip(heads, ends):
        where: dict[Any, int] = {}
        for index in range(start, min(end, len(columns))):
            statistic = re.fullmatch(r"(avg|max|min) \((\w+)\)", columns[index].strip())
            if statistic:
                where[STATISTICS[statistic[1]], statistic[2]] = index
            elif columns[index].strip() == "runtime":
                where["runtime"] = index
        groups.append({**match.groupdict(), "where": where})
    return groups


def _run(group: dict[str, Any], body: list[list[str]], warnings: list[str]) -> dict[str, Any]:
    metrics: dict[str, dict[str, Any]] = {}
    layers: list[dict[str, Any]] = []
    for row in body:
        name = row[2].strip()
        ran_on = row[group["where"]["runtime"]].strip() if "runtime" in group["where"] else ""
        values = _values(row, group["where"], cycles="(cycles)" in name)
        if values is None:
            warnings.append(f"{group['name']}: the row of {name!r} has a value that is no number.")
        elif not values:
            continue
        elif name.startswith("layer_"):
            match = LAYER.fullmatch(name)
            number, layer, kind = match.groups() if match else (len(layers), name, "")
            both = {f"{each}_{unit}": None for unit in ("ms", "cycles") for each in STATISTICS.values()}
            about = {"index": int(number), "name": layer or "", "type": kind or "", "ran_on": ran_on}
            layers.append({**about, **both, **values})
        else:
            metrics[name] = {**values, "ran_on": ran_on}
    layers_on = Counter(layer["ran_on"] for layer in layers if layer["ran_on"])
    unit = UNITS.get(group["runtime"], group["runtime"])
    return {
        "name": group["name"].rpartition("_")[0],
        "runtime": group["runtime"],
        "buffers": group["buffers"] or "",
        "kind": group["kind"],
        "n_runs": int(group["runs"]),
        "ran_on": metrics.get(TOTAL, {}).get("ran_on", ""),
        "layers_on": dict(layers_on),
        "fallback": set(layers_on) != {unit} if layers_on else None,
        "metrics": metrics,
        "layers": layers,
    }


def _values(row: list[str], where: dict[Any, int], *, cycles: bool) -> Optional[dict[str, float]]:
    """Return the row's statistics of one run combination; {} if it has none, None if one is no number."""
    found = {}
    for key, index in where.items():
        text = row[index].strip() if index < len(row) else ""
        if key == "runtime" or not text:
            continue
        try:
            value = float(text)
        except ValueError:
            return None
        if not math.isfinite(value):
            return None
        statistic, unit = key
        if cycles or unit == "cycles":
            found[f"{statistic}_cycles"] = value
        elif unit in MS:
            found[f"{statistic}_ms"] = round(value * MS[unit], 9)
        else:
            found[f"{statistic}_{unit.lower()}"] = value
    return found


def _fallback(run: dict[str, Any]) -> list[str]:
    """Say what did not run where it was to run, and what is not known of it."""
    unit = UNITS.get(run["runtime"], run["runtime"])
    if run["fallback"]:
        others = {name: count for name, count in run["layers_on"].items() if name != unit}
        listed = ", ".join(f"{count} on the {name}" for name, count in others.items())
        return [f"{run['name']}: of {len(run['layers'])} layers {listed}, not on the {unit}: a fallback."]
    if run["kind"] == "timing" and TOTAL not in run["metrics"]:
        return [f"{run['name']}: it has no {TOTAL}; it did not run."]
    if run["fallback"] is None and run["ran_on"] not in ("", unit):
        text = (
            f"{run['name']}: its time is of {run['ran_on']}, and there are no layers that show which unit ran"
        )
        return [f"{text} them; ProfilingLevel detailed has them."]
    return []
