"""How far a recording is: told to the host while it goes on, and its figures at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from tools.running_energy import RunningEnergy
from tools.stage import progress
from tools.trace import Meta

if TYPE_CHECKING:
    from tools.trace import Chunk

PERIOD_S = 0.5  # between what the host is told


class Tally:
    """Counts what is recorded; `duration_s` is what was asked for, 0 for no limit."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._energy: Optional[RunningEnergy] = None
        self._said_s = 0.0
        self._before: Dict[str, Tuple[float, float]] = {}

    def add(self, chunk: Chunk, meta: Meta) -> None:
        """Take samples, and tell of them when it is time: a `Listener`."""
        if self._energy is None:
            self._energy = RunningEnergy(list(chunk))
        self._energy.add(chunk)
        if time.monotonic() - self._said_s >= PERIOD_S:
            energy = self._energy
            counts = f"{energy.recorded_s:.1f} s, {energy.samples} samples, {meta.dropped} dropped"
            self.say(", ".join([counts, *self._powers(energy)]))

    def say(self, text: str) -> None:
        """Tell the host."""
        recorded_s = self._energy.recorded_s if self._energy else 0.0
        progress(min(recorded_s / self._duration_s, 1.0) if self._duration_s else 0.0, text)
        self._said_s = time.monotonic()

    def results(self, meta: Meta) -> Tuple[Dict[str, float], Dict[str, Any]]:
        """Return metrics and metadata for the stage's result."""
        facts = dataclasses.asdict(meta)
        metrics = {"dropped": facts.pop("dropped"), "samples": 0, "recorded_s": 0.0}
        if self._energy:
            metrics.update(samples=self._energy.samples, recorded_s=self._energy.recorded_s)
        return metrics, facts

    def _powers(self, energy: RunningEnergy) -> Iterator[str]:
        """Yield each channel's mean power since it was told last, where it has one."""
        for channel in energy.channels:
            energy_j, known_s = self._before.get(channel.name, (0.0, 0.0))
            self._before[channel.name] = channel.energy_j, channel.known_s
            if channel.known_s > known_s:
                name = f"{channel.name} " if len(energy.channels) > 1 else ""
                yield f"{name}{(channel.energy_j - energy_j) / (channel.known_s - known_s):.4g} W"
