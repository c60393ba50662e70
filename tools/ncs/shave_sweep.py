"""Latency over the number of SHAVE processors: each point is compiled, loaded, checked and measured briefly.

Only that number varies: each point has the whole chip to itself (one stream) and all of its CMX slices, which
the convolution engines need too. So a point says what SHAVEs are good for, not what a stream would get.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from tools.ncs import compiler, stick
from tools.stage import DeviceNotFound, InvalidRequest, StageError, progress

PARAMETER = "shaves"
MOST, SLICES = compiler.UNITS[stick.CHIP][0]
ALL = f"1-{MOST}"


def parse(text: str) -> list[int]:
    """Return the points of `1-16`, `1,2,4` or both mixed, ascending.

    Raises:
        InvalidRequest: it is neither, or beyond what the chip has.
    """
    values: set[int] = set()
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= MOST:
            message = f"shaves is {text!r}, and the chip has {MOST} SHAVE processors"
            raise InvalidRequest(message, hint=f"Give numbers and ranges within {ALL}, e.g. 1,2,4-8.")
        values.update(range(first, last + 1))
    return sorted(values)


def run(
    points: Sequence[int], measure: Callable[[int, Path], dict[str, Any]], budget_s: float
) -> dict[str, Any]:
    """Measure points until `budget_s` is over, those that say most first; the first two always.

    `measure` takes the number of SHAVEs and a folder, and returns p50_ms, ci95_rel and n. A point that fails
    is a point with its reason.

    Raises:
        DeviceNotFound: the stick went away, so there is nothing left to measure with.
    """
    begin, found = time.monotonic(), {}
    order = telling(points)
    for number, shaves in enumerate(order):
        spent_s = time.monotonic() - begin
        if number >= 2 and spent_s > budget_s:
            reason = f"the sweep had {budget_s:g} s, and they were over"
            found[shaves] = {"status": "not_run", "reason": reason}
            continue
        progress(number / len(order), f"{shaves} SHAVEs")
        try:
            with tempfile.TemporaryDirectory() as folder:
                found[shaves] = {**measure(shaves, Path(folder)), "status": "ok", "reason": None}
        except DeviceNotFound:
            raise
        except StageError as error:
            found[shaves] = {"status": error.status, "reason": str(error)}
    unknown = {"p50_ms": None, "ci95_rel": None, "n": 0}
    rows = [{PARAMETER: shaves, **unknown, **found[shaves]} for shaves in points]
    return {"parameter": PARAMETER, "points": rows}


def telling(points: Sequence[int]) -> list[int]:
    """Return the points with the ends first, then the middle, then the middles of the rest."""
    ends = list(dict.fromkeys((points[0], points[-1])))
    parts, middles = [points[1:-1]], []
    while parts:
        part = parts.pop(0)
        if part:
            half = len(part) // 2
            middles.append(part[half])
            parts += [part[:half], part[half + 1 :]]
    return ends + middles
