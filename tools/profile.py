"""Time per layer, as a runtime's own counters tell it: one file format for all backends.

A benchmark writes it as its output `profile`; the report shows it. JSON:
`{"schema": 1, "counters", "total_ms", "layers": [...]}`, a layer with the attributes of `Layer`. A processor
that counts cycles and not time (a Hexagon) has layers with `cycles`, and no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from tools.stage import write_json

SCHEMA = 1  # 1: first version


@dataclasses.dataclass(frozen=True)
class Layer:
    """What was executed as one piece, in the order of execution.

    Attributes:
        name: as the runtime names it.
        type: of the layer in the network, e.g. Convolution.
        executed_as: what the runtime made of it: a kernel, a stage, a unit of the device.
        time_ms, cycles: of one inference; one of them is None.
        source: the nodes of the source network that it computes, where that is known and another name.
    """

    name: str
    type: str
    executed_as: str
    time_ms: Optional[float]
    source: str = ""
    cycles: Optional[float] = None


def write(path: Path, layers: Iterable[Layer], counters: str) -> None:
    """Write a profile; `counters` says in a sentence whose they are and what they leave out."""
    rows = [dataclasses.asdict(layer) for layer in layers]
    total_ms = sum(row["time_ms"] or 0 for row in rows)
    write_json(path, {"schema": SCHEMA, "counters": counters, "total_ms": total_ms, "layers": rows})
