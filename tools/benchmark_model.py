"""What TensorFlow Lite's benchmark_model prints: times, delegates, memory, and the profile of the operators.

Sources: tensorflow/lite/tools/benchmark (benchmark_model.cc, benchmark_tflite_model.cc), tools/delegates and
tsl/util/stats_calculator.cc of TensorFlow 1.10 to 2.21 and LiteRT, and what was published of its output.
Newer ones begin a line with `INFO: `, those in an app's log with logcat's words; older ones with nothing.

A delegate that was asked for and runs none of the network is a fallback to the CPU, which the program
mentions in passing or not at all: it is the first of the `warnings` here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tools import printed

PROGRAM = "benchmark_model"
PREFIX = re.compile(  # logcat's words, then its own
    r"^(?:.{0,80}?[VDIWEF][/ ] ?tflite[^:]{0,20}: )?(?:(INFO|WARNING|WARN|ERROR|VERBOSE): )?"
)
NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
PARAMETER = re.compile(r"([A-Za-z#][^:\[\]]{1,80}): \[(.*)\]")
APPLIED = re.compile(
    r"(?:Explicitly applied|Applied|applied) (\w+) delegate, and the model graph will be "
    r"(completely|partially) executed (?:by|w/) the delegate(?: w/ (\d+) delegate kernels?)?\.?"
)
NOT_APPLIED = re.compile(
    r"Though (\w+) delegate is (?:explicitly )?applied, the model graph will not be executed.*"
    r"|(\w+) acceleration is unsupported on this platform\.?"
)
REPLACING = re.compile(  # by the runtime, older ones without the number of all
    r"Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \(TfLite(\w+?)Delegate\w*\) node, .*"
)
CPU = "XNNPACK"  # the delegate that is for the CPU itself
DEFAULT = "Created TensorFlow Lite XNNPACK delegate for CPU."
TIMING = re.compile(rf"(Init|First inference|Warmup(?: \(avg\))?|Inference(?: \(avg\))?|no stats): {NUMBER}")
FINAL = re.compile(r"(?:Average i|I)nference timings in us: .+")
COUNT = re.compile(r"count=(\d+)(?: .*)?")
STATISTIC = re.compile(rf"(first|curr|min|max|avg|std|p5|median|p95)={NUMBER}")
MEMORY = re.compile(
    rf"(Memory footprint delta.*|Peak memory footprint) \(MB\): init={NUMBER} overall={NUMBER}"
)
OVERALL = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {NUMBER}")
SIZE = re.compile(rf"The input model file size \(MB\): {NUMBER}")
VALUE = re.compile(rf"{NUMBER}%?")
PROFILES = {
    "Profiling Info for Benchmark Initialization": "initialization",
    "Operator-wise Profiling Info for Regular Benchmark Runs": "operators",
}
FINALS = {"no stats": "Inference", "Warmup": "Warmup", "Inference": "Inference"}
# What the log calls the wish for a delegate -> what it calls the delegate.
WISHES = {
    "use gpu": "GPU",
    "use nnapi": "NNAPI",
    "use hexagon": "Hexagon",
    "use xnnpack": "XNNPACK",
    "use coreml": "COREML",
    "external delegate path": "EXTERNAL",
}
HEXAGON_CYCLES = "hexagon profiling"


def read(path: Path) -> dict[str, Any]:
    """Return what a file with benchmark_model's output holds; see `parse`. Never raises for what is in it."""
    return printed.read(path, parse, PROGRAM)


def parse(text: str) -> dict[str, Any]:
    """Return what benchmark_model printed.

    Returns:
        graph, threads: as the log says, "" and None if it does not.
        init_ms, first_inference_ms: of the last line; None if it does not say.
        warmup, inference: n_runs, and first_ms, last_ms, mean_ms, min_ms, max_ms, std_ms, p5_ms, median_ms,
            p95_ms, each None where this version does not print it.
        delegates: those asked for: name, applied (`wholly`, `partly`, `not at all`, `unknown`), kernels;
            nodes that it runs, of n_nodes of the network, None where it is not said.
        fallback: whether one for another unit than the CPU runs less than the whole network.
        model_size_mb, memory_init_mb, memory_overall_mb, memory_peak_mb: None where it is not printed;
            memory_kind: `delta` from the tool's start, or `peak` in versions to 2.4.
        initialization, operators: rows of the profile: type, name, executed_by (`interpreter` or `delegate`),
            times_called in an inference, first_ms, mean_ms (of a call), time_ms (of an inference), percent,
            cycles (of an inference, for a Hexagon's, which have no time).
        errors: lines that report one.
        warnings: what is odd in it, fallbacks first.
    """
    said = [PREFIX.match(line) for line in text.splitlines()]
    lines = [match.string[match.end() :].strip() for match in said if match]
    errors = [line for line, match in zip(lines, said) if match and match[1] == "ERROR"]
    parameters = {match[1].lower(): match[2] for match in map(PARAMETER.fullmatch, lines) if match}
    statistics = [_statistics(line) for line in lines if COUNT.fullmatch(line)]
    final = next((line for line in reversed(lines) if FINAL.fullmatch(line)), "")
    timings = {
        FINALS.get(key, key.partition(" (avg)")[0]): float(us) / 1e3 for key, us in TIMING.findall(final)
    }
    delegates = _delegates(lines, parameters)
    tables = _tables(lines, cycles=parameters.get(HEXAGON_CYCLES) == "1")
    if len(statistics) == 1:  # a run that did not get past its warm-up, or was to have none
        statistics.insert(0 if final else 1, _statistics(""))
    warmup, inference = statistics[-2:] or (_statistics(""), _statistics(""))
    found = {
        "graph": parameters.get("graph", ""),
        "threads": _threads(parameters),
        "init_ms": timings.get("Init"),
        "first_inference_ms": timings.get("First inference"),
        "warmup": warmup,
        "inference": inference,
        "delegates": delegates,
        "fallback": any(each["applied"] != "wholly" for each in delegates if each["name"] != CPU),
        **_memory(lines),
        **tables,
        "errors": errors,
        "warnings": _delegates_missed(delegates, DEFAULT in lines),
    }
    if not text.strip():
        return printed.failed("the file is empty", **found)
    if not final:
        return _without_result(lines, errors, parameters, found)
    if not text.endswith("\n") and lines[-1] == final:
        return printed.failed("it is cut off in the line of its result", **found)
    mean_ms = timings.get("Inference")
    if mean_ms is None:
        return printed.failed("its result has no time of an inference", **found)
    measured = found["inference"]
    if measured["mean_ms"] is None:
        measured["mean_ms"] = mean_ms
    elif abs(measured["mean_ms"] - mean_ms) > 1e-4 * mean_ms:  # both have six digits
        text = f"The runs' mean is {measured['mean_ms']:g} ms, the result says {mean_ms:g} ms."
        found["warnings"].append(text)
    return printed.ok(found)


def _without_result(
    lines: Sequence[str], errors: Sequence[str], parameters: Mapping[str, str], found: dict[str, Any]
) -> dict[str, Any]:
    last = next((line for line in reversed(lines) if line), "")[:300]
    if errors:
        return printed.failed(f"it ended with an error: {errors[-1][:300]}", "Its log says more.", **found)
    if "STARTING!" in lines or parameters or any(COUNT.fullmatch(line) for line in lines):
        return printed.failed(
            f"it stopped, or the file is cut off, after {last!r}",
            "Was it killed? Android does that when memory is short.",
            **found,
        )
    return printed.failed(
        f"it is not the output of {PROGRAM}", f"Redirect what {PROGRAM} prints to a file.", **found
    )


def _statistics(line: str) -> dict[str, Any]:
    """Return the values of a line `count=50 first=.. curr=.. min=.. max=.. avg=.. std=..`, which are in us.

    If all runs took the same it is `count=5 curr=7(all same)`, of one `count=1 curr=7`.
    """
    count = COUNT.fullmatch(line)
    ms = {name: float(value) / 1e3 for name, value in STATISTIC.findall(line)}
    if set(ms) & {"curr"} and not set(ms) & {"avg"}:
        ms = {**dict.fromkeys(("first", "min", "max", "avg"), ms["curr"]), **ms}
    names = {
        "first": "first",
        "last": "curr",
        "mean": "avg",
        "min": "min",
        "max": "max",
        "std": "std",
        "p5": "p5",
        "median": "median",
        "p95": "p95",
    }
    return {
        "n_runs": int(count[1]) if count else 0,
        **{f"{key}_ms": ms.get(name) for key, name in names.items()},
    }


def _threads(parameters: Mapping[str, str]) -> Optional[int]:
    text = parameters.get("num threads") or parameters.get("#threads used for cpu inference", "")
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _delegates(lines: Sequence[str], parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each delegate that was asked for, and how much of the network it runs."""
    asked = [name for wish, name in WISHES.items() if parameters.get(wish) not in (None, "", "0", "false")]
    found: dict[str, dict[str, Any]] = {
        name.lower(): {"name": name, "applied": "unknown", "kernels": None} for name in asked
    }
    nodes: dict[str, tuple[int, Optional[int]]] = {}
    for line in lines:
        applied, missed = APPLIED.fullmatch(line), NOT_APPLIED.fullmatch(line)
        replaced = REPLACING.fullmatch(line)
        if replaced:
            nodes[replaced[3].lower()] = int(replaced[1]), int(replaced[2]) if replaced[2] else None
        if applied and applied[2] == "completely":
            row = {"name": applied[1], "applied": "wholly", "kernels": 1}
        elif applied:
            row = {"name": applied[1], "applied": "partly", "kernels": int(applied[3] or 0) or None}
        elif missed:
            row = {"name": missed[1] or missed[2], "applied": "not at all", "kernels": 0}
        else:
            continue
        found[row["name"].lower()] = row
    for key, row in found.items():
        row["nodes"], row["n_nodes"] = nodes.get(key, (None, None))
    return list(found.values())


def _delegates_missed(delegates: Sequence[Mapping[str, Any]], default: bool) -> list[str]:
    """Say loudly where the network did not run as it was asked for."""
    cpu = "the CPU (XNNPACK)" if default else "the CPU"
    said = {
        "not at all": f"{{}} was asked for and runs nothing of the network: {cpu} ran it.",
        "unknown": f"{{}} was asked for, and nothing says that it runs the network: {cpu} may have run it.",
        "partly": f"{{}} runs only a part of the network, in {{}} pieces: {cpu} ran the rest.",
    }
    return [
        said[each["applied"]].format(each["name"], each["kernels"])
        for each in delegates
        if each["applied"] in said
    ]


def _memory(lines: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(
        ("model_size_mb", "memory_kind", "memory_init_mb", "memory_overall_mb", "memory_peak_mb")
    )
    for line in lines:
        size, memory, peak = SIZE.fullmatch(line), MEMORY.fullmatch(line), OVERALL.fullmatch(line)
        if size:
            found["model_size_mb"] = float(size[1])
        elif peak:
            found["memory_peak_mb"] = float(peak[1])
        elif memory:
            kind = "peak" if memory[1].startswith("Peak") else "delta"
            found.update(
                memory_kind=kind, memory_init_mb=float(memory[2]), memory_overall_mb=float(memory[3])
            )
    return found


def _tables(lines: Sequence[str], *, cycles: bool) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables in the order of execution, of the initialisation and of an inference."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROFILES.values()}
    profile, internal = "", False
    columns: Optional[list[str]] = None  # [] where the next line is the heading
    separator: Optional[str] = None
    for line in lines:
        if line.rstrip(":") in PROFILES:
            profile, columns, internal = PROFILES[line.rstrip(":")], None, False
        elif line.rstrip(":") == "Delegate internal":
            columns, internal = None, True
        elif line.startswith("=="):
            columns = [] if "Run Order" in line and profile else None
        elif columns == []:
            columns, separator = _columns(line), None if "[" in line else ", "
        elif columns and not line:
            columns = None
        elif columns:
            row = _row(line.split(separator), columns, separator or " ", internal=internal, cycles=cycles)
            found[profile] += [row] if row else []
    return found


def _columns(line: str) -> Optional[list[str]]:
    """Return the names of a heading's columns, of `[avg ms]` and of `avg_ms` alike."""
    names = re.findall(r"\[([^]]+)\]", line) or line.split(",")
    plain = [name.strip().lower().replace("_", " ") for name in names]
    return plain if {"node type", "first", "avg ms", "%", "times called", "name"} <= set(plain) else None


def _row(
    tokens: Sequence[str], columns: Sequence[str], joint: str, *, internal: bool, cycles: bool
) -> Optional[dict[str, Any]]:
    """Return an operator: a type, which may be several tokens, numbers, and a name, which may be too."""
    numeric = [name for name in columns if name not in ("node type", "name")]
    for start in range(1, len(tokens) - len(numeric)):
        end = start + len(numeric)
        values = tokens[start:end]
        if all(map(VALUE.fullmatch, values)) and values[numeric.index("%")].endswith("%"):
            break
    else:
        return None
    said = {name: float(value.rstrip("%")) for name, value in zip(numeric, values)}
    name, calls = joint.join(tokens[end:]), said["times called"]
    delegate = internal or name.startswith("Delegate/")
    about = {
        "type": joint.join(tokens[:start]),
        "name": name,
        "executed_by": "delegate" if delegate else "interpreter",
        "times_called": calls,
        "percent": said["%"],
    }
    if cycles and delegate:
        return {**about, "first_ms": None, "mean_ms": None, "time_ms": None, "cycles": said["avg ms"] * calls}
    times = {"first_ms": said["first"], "mean_ms": said["avg ms"], "time_ms": said["avg ms"] * calls}
    return {**about, **times, "cycles": None}
