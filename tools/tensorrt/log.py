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
PREFIX = re.compile(r"^\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[([VIWEF])\] ?")
BANNER = re.compile(r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.trtexec(?: \[TensorRT v(\d+)\])?")
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
BLOCKS = {"Host Latency": "latency", "Enqueue Time": "enqueue", "GPU Compute": "gpu_compute"}
OLD_STATISTIC = re.compile(
    rf"(min|max|mean|median|percentile): {NUMBER} ms(?: at (\d+(?:\.\d+)?)%)?"
    rf"(?: \(end to end {NUMBER} ms.*\))?"
)
VALUES = {
    "throughput_qps": re.compile(rf"[Tt]hroughput: {NUMBER} qps"),
    "walltime_s": re.compile(rf"(?:Total Host Walltime|walltime): {NUMBER} s"),
    "load_s": re.compile(rf"Engine (?:loaded|deserialized) in {NUMBER} sec\."),
    "n_inferences": re.compile(r"Timing trace has (\d+) queries over .*"),
}
SAID = {
    "gpu": re.compile(r"Selected Device: (.+)"),
    "compute_capability": re.compile(r"Compute Capability: (\d+\.\d+)"),
    "cuda_graph": re.compile(r"CUDA Graph: (Enabled|Disabled)"),
    "transfers": re.compile(r"Data transfers: (Enabled|Disabled)"),
}
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
    return parse_json(text) if text.lstrip().startswith("[") and '"' in text[:80] else parse(text)


def loop_s(lines: Sequence[tuple[float, str]]) -> Optional[tuple[float, float]]:
    """Return when the lines before and after the inferences came, None if one did not.

    `lines` are those of one run, each with the time when it came.
    """
    found = [next((at for at, line in lines if sign in line), None) for sign in LOOP]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def parse(text: str) -> dict[str, Any]:
    """Return what trtexec printed.

    Returns:
        version: TensorRT's, "" where the banner has none (7); format: of the summary, `7`, `8.0` or `8.5`.
        passed: by the last banner; None if there is none.
        gpu, compute_capability, cuda_graph, transfers: None where it is not printed.
        throughput_qps, walltime_s, load_s, n_inferences: None where it is not printed.
        latency, enqueue, h2d, gpu_compute, d2h, end_to_end: min_ms, max_ms, mean_ms, median_ms, p99_ms and,
            from 8.5 on, p90_ms and p95_ms; None each that this version does not print.
        dla_layers, gpu_layers: how many layers the builder put where, None if it did not say.
        errors, warnings: the lines with [E] and [W].
        simulated: True: the program was this project's stand-in.
    """
    lines, levels = _lines(text)
    banners = [match for match in map(BANNER.match, lines) if match]
    number = next((match[2] for match in banners if match[2]), "")
    metrics = {name: _metrics(lines).get(name) for name in METRICS.values()}
    found = {
        "version": versions.text(versions.of_banner(number)) if number else "",
        "format": _format(lines),
        "passed": _passed(banners),
        **{key: _last(pattern, lines) for key, pattern in SAID.items()},
        **{key: _number(_last(pattern, lines)) for key, pattern in VALUES.items()},
        **metrics,
        "dla_layers": _layers(lines, "Dla"),
        "gpu_layers": _layers(lines, "Gpu"),
        "errors": [line for line, level in zip(lines, levels) if level in ("E", "F") and line],
        "warnings": [line for line, level in zip(lines, levels) if level == "W" and SIMULATED not in line],
        "simulated": any(line.startswith(SIMULATED) for line in lines),
    }
    return _judged(text, found)


def _judged(text: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return what was found as a whole measurement, or say what is missing of one."""
    if not text.strip():
        return printed.failed("the file is empty", **found)
    if found["passed"] is None and not found["format"]:
        return printed.failed("it is not the output of trtexec", "Give all that it printed.", **found)
    if found["passed"] is False:
        why = found["errors"][0] if found["errors"] else "it says FAILED and no more"
        return printed.failed(f"trtexec failed: {why}", "Its other errors are in `errors`.", **found)
    if found["passed"] is None:
        return printed.failed("it is cut off: trtexec's last line (PASSED or FAILED) is missing", **found)
    if not found["format"]:
        return printed.failed("nothing was measured: there is no summary", "Was it a build alone?", **found)
    broken = [name for name in ("latency", "gpu_compute") if not _whole(found[name])]
    if broken:
        return printed.failed(f"{' and '.join(broken)} of the summary cannot be read", **found)
    if not found["throughput_qps"]:
        found["throughput_qps"] = None  # 7.x printed 0 for a network of an explicit batch
    return printed.ok(found)


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Return the lines without date and level, and their levels."""
    matches = [(line, PREFIX.match(line)) for line in text.splitlines()]
    lines = [line[match.end() :].strip() if match else line.strip() for line, match in matches]
    return lines, [match[1] if match else "" for _, match in matches]


def _format(lines: list[str]) -> str:
    if "Host Latency" in lines:
        return "7"
    summary = [match[2] for match in map(LINE.fullmatch, lines) if match]
    return "" if not summary else "8.5" if summary[0].count("percentile(") > 1 else "8.0"


def _passed(banners: list[Any]) -> Optional[bool]:
    last = banners[-1][1] if banners else "RUNNING"
    return None if last == "RUNNING" else last == "PASSED"


def _last(pattern: Any, lines: list[str]) -> Optional[str]:
    found = [match[1] for match in map(pattern.fullmatch, lines) if match]
    return found[-1] if found else None


def _number(text: Optional[str]) -> Optional[float]:
    return float(text) if text is not None else None


def _metrics(lines: list[str]) -> dict[str, dict[str, float]]:
    return _blocks(lines) if _format(lines) == "7" else _summary(lines)


def _summary(lines: list[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of the formats 8.0 and 8.5: one line each."""
    found: dict[str, dict[str, float]] = {}
    for match in filter(None, map(LINE.fullmatch, lines)):
        statistics = STATISTIC.findall(match[2])
        found[METRICS[match[1]]] = {_key(name, percent): float(value) for name, percent, value in statistics}
    return found


def _blocks(lines: list[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of the format 7: a head, and a line for each statistic below it."""
    found: dict[str, dict[str, float]] = {}
    block = ""
    for line in lines:
        block = BLOCKS.get(line, block)
        match = OLD_STATISTIC.fullmatch(line)
        if not (match and block):
            continue
        key = _key(match[1], match[3] or "")
        found.setdefault(block, {})[key] = float(match[2])
        if match[4]:
            found.setdefault("end_to_end", {})[key] = float(match[4])
    return found


def _key(name: str, percent: str) -> str:
    return f"p{percent}_ms" if percent else f"{name}_ms"


def _layers(lines: list[str], unit: str) -> Optional[int]:
    heads = [line for line in lines if re.search(r"Layers Running on (DLA|GPU)", line)]
    return sum(f"[{unit}Layer]" in line for line in lines) if heads else None


def _whole(metric: Optional[Mapping[str, float]]) -> bool:
    needed = ("min_ms", "max_ms", "mean_ms", "median_ms")
    return metric is not None and all(math.isfinite(metric.get(key, math.nan)) for key in needed)


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
