"""What trtexec prints, and the JSON files that it writes: read, whatever the version.

Sources: samples/common/sampleReporting.cpp of NVIDIA/TensorRT, branches release/7.2 to release/11.1, and
public logs (its issues 1221, 2054 and 4177). There are three formats of the summary:

    7     blocks: `Host Latency` and its statistics below it, `Enqueue Time`, `GPU Compute`
    8.0   a line for each metric, with one percentile (99) and, to 8.3, an `End-to-End Host Latency`
    8.5   a line for each metric, with the percentiles 90, 95 and 99
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tools import printed
from tools.tensorrt import versions

PROGRAM = "trtexec"
COLOUR = re.compile(r"\x1b\[[\d;]*[A-Za-z]")
PREFIX = re.compile(r"^.{0,80}?\[([VIWEF])\] ?")  # the date, and what a container's or a build's log adds
BANNER = re.compile(r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.trtexec(?: \[TensorRT v([\d.]+)\])?")
NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf|nan|-nan)"
METRICS = {
    "Latency": "latency",
    "End-to-End Host Latency": "end_to_end",
    "Enqueue Time": "enqueue",
    "H2D Latency": "h2d",
    "GPU Compute Time": "gpu_compute",
    "D2H Latency": "d2h",
}
LINE = re.compile(rf"({'|'.join(METRICS)}): (min = .*)")
STATISTIC = re.compile(rf"(min|max|mean|median|percentile\((\d+(?:\.\d+)?)%\)) = {NUMBER} ms")
BLOCKS = {"host latency": "latency", "enqueue time": "enqueue", "gpu compute": "gpu_compute"}
OLD_STATISTIC = re.compile(
    rf"(min|max|mean|median|percentile): {NUMBER} ms(?: at (\d+(?:\.\d+)?)%)?"
    rf"(?: \(end to end {NUMBER} ms.*\))?"
)
VALUES = {
    "throughput_qps": re.compile(rf"[Tt]hroughput: {NUMBER} qps"),
    "walltime_s": re.compile(rf"(?:Total Host Walltime|walltime): {NUMBER} s"),
    "load_s": re.compile(rf"Engine (?:loaded|deserialized) in {NUMBER} sec\."),
}
SAID = {
    "gpu": re.compile(r"Selected Device: (.+)"),
    "compute_capability": re.compile(r"Compute Capability: (\d+\.\d+)"),
}
SWITCHES = {
    "cuda_graph": re.compile(r"CUDA Graph: (Enabled|Disabled)"),
    "transfers": re.compile(r"Data transfers: (Enabled|Disabled)"),
}
QUERIES = re.compile(r"Timing trace has (\d+) queries over .*")
VERSION = re.compile(r"TensorRT version: ([\d.]+)")
LOOP = ("Starting inference", "Warmup completed ")  # printed right before it, and first after it
COUNT = re.compile(r'\{ "count" : (\d+) \}')
LAYER = re.compile(
    rf'"name" : "(.*)", "timeMs" : {NUMBER}, "averageMs" : {NUMBER}'
    rf'(?:, "medianMs" : {NUMBER})?, "percentage" : {NUMBER}'
)
SIMULATED = "SIMULATED"


def read(path: Path) -> dict[str, Any]:
    """Return what a file of trtexec holds: printed text, or the JSON of --exportTimes or --exportProfile."""
    return printed.read(path, _parse, PROGRAM)


def _parse(text: str) -> dict[str, Any]:
    return parse_json(text) if re.match(r"\s*\[\s*\{", text) else parse(text)


def loop_s(lines: Sequence[tuple[float, str]]) -> Optional[tuple[float, float]]:
    """Return when the lines before and after the inferences came, None if one did not.

    `lines` are those of one run, each with the time when it came.
    """
    found = [next((at for at, line in lines if sign in line), None) for sign in LOOP]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def parse(text: str) -> dict[str, Any]:
    """Return what trtexec printed; of several runs in one text the last, and a note says so.

    Returns:
        version: TensorRT's; format: of the summary, `7`, `8.0` or `8.5`, "" without one.
        passed: by the last banner; None if there is none.
        gpu, compute_capability, cuda_graph, transfers; throughput_qps, walltime_s, load_s, n_inferences.
        latency, enqueue, h2d, gpu_compute, d2h, end_to_end: min_ms, max_ms, mean_ms, median_ms, and
            percentiles_ms, by percent: {"90": 1.2, "99": 1.3}.
        dla_layers, gpu_layers: how many layers the builder put where.
        errors, warnings: the lines with [E] and [W]. notes: what a reader of the rest has to know.
        simulated: True: the program was this project's stand-in.
        None each that was not printed, or is no number.
    """
    lines, levels, runs = _last_run(*_lines(text))
    banners = [match for match in map(BANNER.search, lines) if match]
    number = _last(QUERIES, lines)
    found = {
        "version": _version(banners, lines),
        "format": _format(lines),
        "passed": _passed(banners),
        **{key: _last(pattern, lines) for key, pattern in SAID.items()},
        **{key: _is_on(_last(pattern, lines)) for key, pattern in SWITCHES.items()},
        **{key: _number(_last(pattern, lines)) for key, pattern in VALUES.items()},
        "n_inferences": int(number) if number else None,
        **{name: _metrics(lines).get(name) for name in METRICS.values()},
        "dla_layers": _layers(lines, "Dla"),
        "gpu_layers": _layers(lines, "Gpu"),
        "errors": [line for line, level in zip(lines, levels) if level in ("E", "F") and line],
        "warnings": [line for line, level in zip(lines, levels) if level == "W" and SIMULATED not in line],
        "notes": [f"The file has {runs} runs of trtexec; this is the last one."] if runs > 1 else [],
        "simulated": any(line.startswith(SIMULATED) for line in lines),
    }
    return _judged(text, found, begun=bool(banners))


def _judged(text: str, found: dict[str, Any], *, begun: bool) -> dict[str, Any]:
    """Return what was found as a whole measurement, or say what is missing of one."""
    if not text.strip():
        return printed.failed("the file is empty", **found)
    if not (begun or found["format"]):
        return printed.failed("it is not the output of trtexec", "Give all that it printed.", **found)
    if found["passed"] is False:
        why = found["errors"][0] if found["errors"] else "it says FAILED and no more"
        return printed.failed(f"trtexec failed: {why}", "Its other errors are in `errors`.", **found)
    last = "gpu_compute" if found["format"] == "7" else "d2h"
    if found["passed"] is None and not _whole(found[last], found):
        return printed.failed("it is cut off before the end of the summary", **found)
    if not found["format"]:
        return printed.failed("nothing was measured: there is no summary", "Was it a build alone?", **found)
    broken = [name for name in METRICS.values() if not _readable(name, found)]
    if broken:
        return printed.failed(f"{' and '.join(broken)} of the summary cannot be read", **found)
    if found["passed"] is None:
        found["notes"].append("trtexec's last line (PASSED or FAILED) is not in the file.")
    if not found["throughput_qps"]:
        found["throughput_qps"] = None  # 7.x printed 0 for a network of an explicit batch
    return printed.ok(found)


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Return the lines without date and level, and their levels."""
    matches = [(line, PREFIX.match(line)) for line in COLOUR.sub("", text).splitlines()]
    lines = [line[match.end() :].strip() if match else line.strip() for line, match in matches]
    return lines, [match[1] if match else "" for _, match in matches]


def _last_run(lines: list[str], levels: list[str]) -> tuple[list[str], list[str], int]:
    """Return lines and levels of the last run, and how many there are, by the lines that begin or end one."""
    begins, before = [], (-1, "")
    for at, match in enumerate(map(BANNER.search, lines)):
        if match and match[1] == "RUNNING":
            begins.append(at)
        elif match and before[1] != "RUNNING":  # the end of one whose beginning is not in the file
            begins.append(before[0] + 1)
        before = (at, match[1]) if match else before
    begin = begins[-1] if len(begins) > 1 else 0
    return lines[begin:], levels[begin:], len(begins)


def _version(banners: list[Any], lines: list[str]) -> Optional[str]:
    said = next((match[2] for match in banners if match[2]), None) or _last(VERSION, lines)
    return versions.text(versions.of_banner(said)) if said and said.isdigit() else said


def _format(lines: list[str]) -> str:
    if any(line.lower() == "host latency" for line in lines):
        return "7"
    summary = [match[2] for match in map(LINE.fullmatch, lines) if match]
    return "" if not summary else "8.5" if summary[0].count("percentile(") > 1 else "8.0"


def _passed(banners: list[Any]) -> Optional[bool]:
    last = banners[-1][1] if banners else "RUNNING"
    return None if last == "RUNNING" else last == "PASSED"


def _last(pattern: Any, lines: list[str]) -> Optional[str]:
    found = [match[1] for match in map(pattern.fullmatch, lines) if match]
    return found[-1] if found else None


def _is_on(text: Optional[str]) -> Optional[bool]:
    return None if text is None else text == "Enabled"


def _number(text: Optional[str]) -> Optional[float]:
    value = float(text or "nan")
    return value if math.isfinite(value) else None


def _metrics(lines: list[str]) -> dict[str, dict[str, Any]]:
    return _blocks(lines) if _format(lines) == "7" else _summary(lines)


def _summary(lines: list[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics of the formats 8.0 and 8.5: one line each."""
    found: dict[str, dict[str, Any]] = {}
    for match in filter(None, map(LINE.fullmatch, lines)):
        metric = found[METRICS[match[1]]] = {}
        for name, percent, value in STATISTIC.findall(match[2]):
            _put(metric, name, percent, value)
    return found


def _blocks(lines: list[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics of the format 7: a head, and a line for each statistic below it."""
    found: dict[str, dict[str, Any]] = {}
    block = ""
    for line in lines:
        block = BLOCKS.get(line.lower(), block)
        match = OLD_STATISTIC.fullmatch(line)
        if not (match and block):
            continue
        _put(found.setdefault(block, {}), match[1], match[3] or "", match[2])
        if match[4]:
            _put(found.setdefault("end_to_end", {}), match[1], match[3] or "", match[4])
    return found


def _put(metric: dict[str, Any], name: str, percent: str, value: str) -> None:
    if percent:
        metric.setdefault("percentiles_ms", {})[percent] = _number(value)
    else:
        metric[f"{name}_ms"] = _number(value)


def _layers(lines: list[str], unit: str) -> Optional[int]:
    heads = [line for line in lines if re.search(r"Layers Running on (DLA|GPU)", line)]
    return sum(f"[{unit}Layer]" in line for line in lines) if heads else None


def _readable(name: str, found: Mapping[str, Any]) -> bool:
    """Whether a metric is whole, or one that this version need not print."""
    if name in ("latency", "gpu_compute"):
        return _whole(found[name], found)
    return found["format"] == "7" or found[name] is None or _whole(found[name], found)


def _whole(metric: Optional[Mapping[str, Any]], found: Mapping[str, Any]) -> bool:
    """Whether a metric has all its numbers, and as many percentiles as the first one."""
    if metric is None or any(metric.get(f"{name}_ms") is None for name in ("min", "max", "mean", "median")):
        return False
    percents = [(each or {}).get("percentiles_ms", {}).keys() for each in (metric, found["latency"])]
    return percents[0] == percents[1]


def parse_json(text: str) -> dict[str, Any]:
    """Return what --exportTimes (`times`) or --exportProfile (`layers`) wrote."""
    hint = "Give a file of --exportTimes or --exportProfile; a killed trtexec leaves half of one."
    if not text.rstrip().endswith("]"):
        return printed.failed("it is cut off, or not JSON of trtexec", hint)
    count = COUNT.search(text)
    if count:
        return printed.ok({"count": int(count[1]), "layers": layers(text)})
    try:
        rows = times(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        return printed.failed("it is not JSON of trtexec", hint)
    return printed.ok({"count": len(rows), "times": rows})


def times(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the rows of --exportTimes: start_ms of its computing; h2d_ms, compute_ms, d2h_ms, latency_ms.

    TensorRT 7 calls the copies `in` and `out`.
    """
    found = []
    for row in rows:
        h2d, d2h = (row.get(new, row.get(old)) for new, old in (("h2dMs", "inMs"), ("d2hMs", "outMs")))
        values = (row["startComputeMs"], h2d, row["computeMs"], d2h, row["latencyMs"])
        names = ("start_ms", "h2d_ms", "compute_ms", "d2h_ms", "latency_ms")
        found.append({name: float(value or 0) for name, value in zip(names, values)})
    return found


def layers(text: str) -> list[dict[str, Any]]:
    """Return the rows of --exportProfile below its first: name, mean_ms, percent; [] if it is cut off.

    Not by JSON: trtexec writes a name as it is, and one with a quote in it makes the file none.
    """
    if not text.rstrip().endswith("]"):
        return []
    return [
        {"name": name, "mean_ms": float(mean), "percent": float(percent)}
        for name, _, mean, _, percent in LAYER.findall(text)
    ]
