"""What a live view keeps, as a trace."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tools.live_view.history import MARKERS, START, History
from tools.trace import MARKER, Channel, Meta, Trace

if TYPE_CHECKING:
    import numpy as np


def decimated(history: History, rows: np.ndarray, width_s: float, meta: Meta) -> Trace:
    """Return rows that are `width_s` wide as a trace: each sample (width 0), or means that end with the span.

    Its `Meta` says that it is a part, and how wide the means are.
    """
    import numpy as np

    mean = history.mean(rows)
    columns = {name: mean[:, index] for index, name in enumerate(history.series)}
    columns[MARKER] = rows[:, MARKERS].astype(np.uint8)
    time_s = rows[:, START]
    note = "a part of a recording, kept from its live view"
    channels = {name: meta.channels.get(name, Channel()) for name in history.channels}
    if width_s:
        time_s = (np.floor(time_s / width_s) + 1) * width_s
        note += f"; means over {width_s:g} s"
        channels = {
            name: dataclasses.replace(one, average_s=max(one.average_s, width_s))
            for name, one in channels.items()
        }
    rate_hz = 1 / width_s if width_s else meta.rate_hz
    kept = dataclasses.replace(meta, note=note, channels=channels, rate_hz=rate_hz)
    return Trace(time_s, columns, kept)
