"""What the first-generation toolkit (NCSDK 1.x and 2.x) prints: mvNCProfile's table, and its error codes.

Two formats of the table are known. One is in the toolkit's manual (docs/tools/profile.html of movidius/ncsdk)
and in 4,787 files of csarron/ncs, parser/profiles; the other in 28 files there, exp/runtime. Both are read by
the same code, because they differ in headings, widths and decimals only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from tools import printed

LIMIT_BYTES = 4 << 20  # a row has about 90 characters, and no network some ten thousand layers

ANSI = re.compile(r"\x1b\[[0-9;]*m")
NUMBER = r"(\d+(?:\.\d+)?)"
TOTAL = re.compile(r"^\s*Total inference time\s+(\d+\.\d\d)\s*$")  # with fewer digits it is cut off
RUN = re.compile(rf"^Time to Execute\s*:\s*{NUMBER}\s*ms\s*$")
ERROR = re.compile(r"\[Error (\d+)\]\s*(.*)")
TABLE = "Detailed Per Layer Profile"
STARTED = "USB: Transferring Data"

LAYER = "Give -in and -on the parts before and after the layer, or use a network without it."
DEFECT = (
    "The toolkit's conversion has a fault there; OpenVINO 2020.3 converts more (docs/first-generation.md)."
)
FILES = "Check the file names on its command line."
CAFFE = "It was called for a Caffe network; this project gives it TensorFlow graphs."
STICK = "Replug the stick, directly and not through a hub; one program at a time can have it."

# Code -> what to do, for the codes of docs/compiler_error.html in movidius/ncsdk.
HINTS: Mapping[int, str] = {
    1: CAFFE,
    2: "It needs Python 3.5 to 3.7.",
    3: CAFFE,
    4: LAYER,
    5: LAYER,
    6: "Install the toolkit again: its firmware is missing.",
    7: STICK,
    8: FILES,
    9: FILES,
    10: "Only mvNCCompile, mvNCProfile and mvNCCheck are documented.",
    11: "Give the expected class: -id.",
    12: FILES,
    13: "Take the names of the graph's nodes, without `:0`.",
    14: "The stick computes in 16-bit floating point; give it a float32 graph.",
    15: "Give a .prototxt, .meta or .pb file.",
    16: DEFECT,
    17: DEFECT,
    18: DEFECT,
    19: "Compare its command line with --help.",
    20: CAFFE,
    21: "Use mvNCCheck without a metric of your own.",
    22: "Give a .prototxt, .meta or .pb file.",
    23: "Give an input of the size that -is says.",
    24: "Export the network with batch 1.",
    25: f"The stick stopped. {STICK} A network that is too large for its 512 MB does it too.",
    26: "Install the toolkit again: its boot program is missing.",
    27: "Myriad 2 has 12 SHAVE processors: -s 1 to 12.",
    28: "Caffe ran out of memory on the host.",
    29: "A tuple is written x,y,z.",
    30: "Give a picture, or a .npy or .mat file.",
    31: STICK,
    32: "Remove or mend the .conf file beside the network.",
    33: STICK,
    34: "Freeze the graph, and give it a fixed input size.",
    35: "Use fewer SHAVEs (-s), or a smaller network.",
}
UNSUPPORTED = frozenset({4, 5, 14, 15, 16, 17, 18, 20, 24, 35})  # the network or the toolkit is not fit
NO_DEVICE = frozenset({7, 25, 31, 33})  # the stick is not there, or is no longer


def read(path: Path) -> dict[str, Any]:
    """Return what a file with mvNCProfile's output holds; see `parse`. Never raises for what is in it."""
    with path.open("rb") as file:
        data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        return _failed(f"the file is larger than {LIMIT_BYTES >> 20} MB, which no profile is")
    return parse(data.decode(errors="replace"))


def parse(text: str) -> dict[str, Any]:
    """Return what mvNCProfile printed.

    Returns:
        status: `ok`; `failed` where there is no whole table, with `reason` and `hint`.
        error_code: the toolkit's, None if it reported none.
        total_ms: one inference on the stick, as the table says: the sum of its layers.
        host_ms: one inference as the host saw it: the second `Time to Execute`, when all is warm.
        overhead_ms: host_ms less total_ms: USB, and what host and firmware do beside the layers.
        first_host_ms: the first `Time to Execute`.
        layers: a row each, in its order: name, mflops (millions of operations), bandwidth_mb_per_s, time_ms.
        warnings: what is odd in a table that is whole.

    A time that is not in the text is None.
    """
    lines = [ANSI.sub("", line).rstrip() for line in text.splitlines()]
    runs = _numbers(RUN, lines)
    totals = _numbers(TOTAL, lines)
    table = _table(lines)
    layers = [layer for layer in map(_layer, table) if layer]
    found = {
        "total_ms": totals[0] if totals else None,
        "host_ms": runs[1] if len(runs) > 1 else None,
        "overhead_ms": round(runs[1] - totals[0], 3) if totals and len(runs) > 1 else None,
        "first_host_ms": runs[0] if runs else None,
        "layers": layers,
    }
    error = find_error(text)
    if error:
        return _failed(error["message"], error["hint"], error["code"], **found)
    if not text.strip():
        return _failed("the file is empty", **found)
    if len(totals) > 1:
        return _failed(f"there are {len(totals)} profiles in it", "Give one run's output.", **found)
    if totals and layers:
        warnings = _warnings(totals[0], found["host_ms"], layers, table)
        return printed.ok({"error_code": None, **found, "warnings": warnings})
    if layers or TABLE in text:
        return _failed(f"the table is cut off after {len(layers)} layers", "Run mvNCProfile again.", **found)
    if runs or STARTED in text:
        last = next(line for line in reversed(lines) if line.strip()).strip()
        return _failed(f"the run stopped after {last!r}: the stick did not answer", STICK, **found)
    return _failed(
        "it is not the output of mvNCProfile", "Redirect what mvNCProfile prints to a file.", **found
    )


def find_error(text: str) -> Optional[dict[str, Any]]:
    """Return the first error that a program of the toolkit reported: `code`, `message`, `hint`; None if none.

    Its exit code does not say: the toolkit ends with 0 after an error.
    """
    match = ERROR.search(ANSI.sub("", text))
    if match is None:
        return None
    code = int(match[1])
    message = f"[Error {code}] {match[2].strip()}"
    return {"code": code, "message": message, "hint": HINTS.get(code, "See the log.")}


def _table(lines: list[str]) -> list[str]:
    """Return the lines between the table's heading rule and the next rule, or the end of the text."""
    rules = [index for index, line in enumerate(lines) if re.match(r"^={20,}$", line)]
    if not rules:
        return []
    rows = lines[rules[0] + 1 :]
    ends = [index for index, line in enumerate(rows) if re.match(r"^-{20,}$", line)]
    return rows[: ends[0]] if ends else rows


def _numbers(pattern: Any, lines: list[str]) -> list[float]:
    return [float(match[1]) for match in map(pattern.match, lines) if match]


def _layer(line: str) -> Optional[dict[str, Any]]:
    """Return a row's values: a number, a name that may hold spaces, three numbers. None: it is no row."""
    try:
        head, *texts = line.rsplit(None, 3)
        number, name = head.split(None, 1)
        mflops, bandwidth, time_ms = map(float, texts)
    except ValueError:
        return None
    if not (number.isdigit() and all(map(math.isfinite, (mflops, bandwidth, time_ms)))):
        return None
    return {"name": name, "mflops": mflops, "bandwidth_mb_per_s": bandwidth, "time_ms": time_ms}


def _warnings(
    total_ms: float, host_ms: Optional[float], layers: list[dict[str, Any]], table: list[str]
) -> list[str]:
    found = [
        f"this line of the table is not a layer: {line!r}" for line in table if line and not _layer(line)
    ]
    sum_ms = sum(layer["time_ms"] for layer in layers)
    # each number is rounded to two decimals at least
    if abs(sum_ms - total_ms) > 0.005 * (len(layers) + 1):
        found.append(f"the layers' times sum to {sum_ms:.2f} ms, the total says {total_ms:.2f} ms")
    if host_ms is None:
        found.append("there is no second `Time to Execute`, so nothing is known of the host's part")
    return found


def _failed(
    reason: str,
    hint: str = "Give the output of one run of mvNCProfile.",
    code: Optional[int] = None,
    **found: Any,
) -> dict[str, Any]:
    times = dict.fromkeys(("total_ms", "host_ms", "overhead_ms", "first_host_ms"))
    return printed.failed(
        reason, hint, **{"error_code": code, **times, "layers": [], "warnings": [], **found}
    )
