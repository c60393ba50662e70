"""What snpe-diagview of Qualcomm's SDK prints of a SNPEDiag log: its text, and its CSV.

The text was seen of SDK 2.9.0 and 2.15.1 (quic/qidk, a notebook there). Which column of the CSV is what is
read from its first row: `Msg Timestamp, Message, Layer Id, Time, Runtime`. Units are `us`, `cycles` or
`NONE`, and what a Hexagon counts in cycles stays so: Qualcomm's documentation has no conversion.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any, Optional

from tools import printed

PROGRAM = "snpe-diagview"
MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
METRIC = re.compile(r"(?P<name>[A-Za-z][^:]*): (?P<value>-?\d+(?:\.\d+)?) (?P<unit>us|ms|s|cycles|NONE)")
LAYER = re.compile(r"(?P<index>\d+): (?P<rest>.*)")
VALUE = re.compile(r"(?P<value>-?\d+(?:\.\d+)?) (?P<unit>us|ms|s|cycles|NONE)")
TOTAL = "Total Inference Time"
CSV_TOTAL = "AVG_TOTAL_INFERENCE_TIME"
CSV_HEAD = ("msg timestamp", "message", "layer id", "time", "runtime")
UNITS = ("CPU", "GPU", "DSP", "AIP")  # a last line that ends in one is not cut off
CYCLE_COUNTERS = ("DSP", "HTP", "AIP", "HTA")
LOST = "Was the log pulled whole, and did the network execute? A failed execute leaves a log without times."


def read(path: Path) -> dict[str, Any]:
    """Return what a file with snpe-diagview's output holds; see `parse`. Never raises for what is in it."""
    return printed.read(path, parse, PROGRAM)


def parse(text: str) -> dict[str, Any]:
    """Return what snpe-diagview printed.

    Returns:
        sdk_version, created: as the log says, "" if it does not.
        metrics: name -> time_ms or cycles, the other None; both are None of one that has no unit.
        graphs: the parts that the network was cut into, with the unit that ran each, and their times.
        layers: index, name, ran_on, and time_ms or cycles; both None where the unit is not said.
        layers_on: unit -> number of layers.
        warnings: what is odd in it.
    """
    lines = [line.strip() for line in text.splitlines()]
    if not text.strip():
        return printed.failed("the file is empty")
    head = next((line for line in lines if line), "")
    if [cell.strip().lower() for cell in head.split(",")][:4] == list(CSV_HEAD[:4]):
        try:
            found = _of_csv(lines)
        except csv.Error as error:
            return printed.failed(f"it is not the CSV of {PROGRAM}: {error}")
    elif any(line.startswith("Software library version:") for line in lines):
        found = _of_text(lines)
    else:
        return printed.failed(
            f"it is not the output of {PROGRAM}", f"Redirect what {PROGRAM} prints to a file."
        )
    found["layers_on"] = dict(Counter(layer["ran_on"] for layer in found["layers"] if layer["ran_on"]))
    total = found["metrics"].get(TOTAL) or found["metrics"].get(CSV_TOTAL)
    if not total or not total["time_ms"]:
        return printed.failed(
            f"there is no {TOTAL} in it: nothing was executed, or it is cut off", LOST, **found
        )
    if not text.endswith("\n"):
        if not lines[-1].endswith(UNITS):
            return printed.failed("it is cut off in its last line", LOST, **found)
        found["warnings"].append("Its last line has no end: layers may be missing.")
    return printed.ok(found)


def _of_text(lines: list[str]) -> dict[str, Any]:
    said = {key: value for key, _, value in (line.partition(": ") for line in lines)}
    metrics: dict[str, dict[str, Any]] = {}
    graphs, layers, warnings = [], [], []
    section = ""
    for line in lines:
        if line.endswith(":") and not line[:1].isdigit():
            section = line[:-1].strip()
        elif section == "Layer Times" and LAYER.fullmatch(line):
            layer = _layer(line)
            if layer:
                layers.append(layer)
            else:
                warnings.append(f"This line is no layer: {line[:200]!r}.")
        else:
            match = METRIC.fullmatch(line)
            if match is None:
                continue
            amount = _amount(match["value"], match["unit"])
            if section.startswith("Per-Graph"):
                unit = match["name"].partition(" Subnet")[0]
                graphs.append({"name": match["name"], "ran_on": unit, **amount})
            else:
                metrics[match["name"]] = amount
    return {
        "sdk_version": said.get("Software library version", ""),
        "created": said.get("Log File Created", ""),
        "metrics": metrics,
        "graphs": graphs,
        "layers": layers,
        "warnings": warnings,
    }


def _layer(line: str) -> Optional[dict[str, Any]]:
    """Return a layer: `index: [name : ]value unit[ : unit that ran it]`."""
    match = LAYER.fullmatch(line)
    parts = match["rest"].split(" : ") if match else []
    for position in (len(parts) - 1, len(parts) - 2):
        value = VALUE.fullmatch(parts[position].strip()) if position >= 0 else None
        if match and value:
            name = " : ".join(parts[:position]).replace(" (cycles)", "").strip()
            ran_on = "".join(parts[position + 1 :]).strip()
            about = {"index": int(match["index"]), "name": name, "ran_on": ran_on}
            return {**about, **_amount(value["value"], value["unit"])}
    return None


def _amount(value: str, unit: str) -> dict[str, Optional[float]]:
    if unit == "cycles":
        return {"time_ms": None, "cycles": float(value)}
    return {"time_ms": round(float(value) * MS[unit], 9) if unit in MS else None, "cycles": None}


def _of_csv(lines: list[str]) -> dict[str, Any]:
    """Read the CSV. It has no units: microseconds but for layers on a Hexagon, whose values may be cycles."""
    metrics: dict[str, dict[str, Any]] = {}
    layers, warnings, unknown = [], [], 0
    rows = csv.reader([line for line in lines if line])
    names = [cell.strip().lower() for cell in next(rows)]
    for row in rows:
        said = dict(zip(names, (cell.strip() for cell in row)))
        message, ran_on = said.get("message", ""), said.get("runtime", "")
        if not re.fullmatch(r"\d+(\.\d+)?", said.get("time", "")):
            warnings.append(f"This row has no time: {','.join(row)[:200]!r}.")
        elif message.endswith("_LAYER"):
            unclear = ran_on in CYCLE_COUNTERS
            unknown += unclear
            amount = _amount(said["time"], "NONE" if unclear else "us")
            layers.append(
                {"index": len(layers), "name": said.get("layer id", ""), "ran_on": ran_on, **amount}
            )
        else:
            metrics.setdefault(message.upper(), _amount(said["time"], "us"))
    if unknown:
        text = "Values of layers on a Hexagon are left out: a CSV does not say whether they are us or cycles"
        warnings.append(f"{text} ({unknown} layers); the text of {PROGRAM} does.")
    return {
        "sdk_version": "",
        "created": "",
        "metrics": metrics,
        "graphs": [],
        "layers": layers,
        "warnings": warnings,
    }
