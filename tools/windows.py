"""When inferences ran, told by who ran them: what the energy tool lays on a power trace.

JSON, in one of two forms. A list of `{"start_s", "end_s", "inferences"}`: times on the trace's own clock. Or
the document that a benchmark writes: the same list as `windows`, with times on the CLOCK_MONOTONIC of the
host that `host` names (trace.this_host; a phone's clock has a name of its own), and what else helps to find
them in the trace:

    {"schema": 1, "host": "6f1c...", "windows": [...], "signatures": [[[on_s, off_s], ...], ...]}

A signature is a pattern of load that the benchmark makes on purpose, one before the windows and one after:
the intervals in which it ran inferences as fast as it could, with rests of known length between them. It is
what aligns a meter that shares no clock with the host. Between signature and windows the benchmark rests.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from tools.stage import InvalidRequest, write_json

SCHEMA = 1  # 1: first version
HINT = 'The form is [{"start_s": 1.0, "end_s": 11.0, "inferences": 100}, ...].'


@dataclasses.dataclass(frozen=True)
class Window:
    """A time in which nothing but inferences ran, one after the other."""

    start_s: float
    end_s: float
    inferences: int


@dataclasses.dataclass(frozen=True)
class Windows:
    """All windows of one measurement, in the order of time; `host` None: times are those of the trace.

    Attributes:
        busy: other times, in which there is no idle power either: a program starts, loads, or ends.
        error_s: standard uncertainty of all these times together, on that host's clock.
        simulated: a stand-in took the device's place.
    """

    windows: Sequence[Window]
    host: Optional[str] = None
    signatures: Sequence[Sequence[tuple[float, float]]] = ()
    simulated: bool = False
    busy: Sequence[tuple[float, float]] = ()
    error_s: float = 0.0

    def write(self, path: Path) -> None:
        """Write them as a document."""
        write_json(path, {"schema": SCHEMA, **dataclasses.asdict(self)})


def read(path: Path) -> Windows:
    """Read either form.

    Raises:
        InvalidRequest: it is neither, or a window ends before it starts, overlaps the one before it, or holds
            no inference.
    """
    try:
        data = json.loads(path.read_text())
        document: dict[str, Any] = {"windows": data} if isinstance(data, list) else dict(data)
        if document.pop("schema", SCHEMA) != SCHEMA:
            message = "another schema"
            raise ValueError(message)
        windows = [_window(one) for one in document.pop("windows")]
        signatures = [[(float(on), float(off)) for on, off in one] for one in document.pop("signatures", ())]
        busy = [(float(start), float(end)) for start, end in document.pop("busy", ())]
        found = Windows(windows, signatures=signatures, busy=busy, **document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path.name} holds no windows: {error}"
        raise InvalidRequest(message, hint=HINT) from error
    _check(found.windows, path.name)
    return found


def _window(one: dict[str, Any]) -> Window:
    count = int(one["inferences"])
    if count != one["inferences"] or isinstance(one["inferences"], bool):
        message = f"inferences is {one['inferences']}"
        raise ValueError(message)
    return Window(float(one["start_s"]), float(one["end_s"]), count)


def _check(windows: Sequence[Window], name: str) -> None:
    before = -math.inf
    for number, window in enumerate(windows, 1):
        times = f"window {number} of {name}, from {window.start_s:g} to {window.end_s:g} s,"
        if not (math.isfinite(window.start_s) and window.start_s < window.end_s < math.inf):
            message = f"{times} is no span of time"
            raise InvalidRequest(message, hint=HINT)
        if window.start_s < before:
            message = f"{times} overlaps the one before it"
            raise InvalidRequest(message, hint=HINT)
        if window.inferences < 1:
            message = f"{times} holds {window.inferences} inferences"
            raise InvalidRequest(message, hint=HINT)
        before = window.end_s
    if not windows:
        message = f"{name} holds no window"
        raise InvalidRequest(message, hint=HINT)
