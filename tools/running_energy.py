"""Power and energy of a meter's channels while it samples, chunk after chunk.

Energy is the trapezoid rule over pairs of neighbouring samples. Over a gap nothing is known of a channel that
gives current and voltage, or power: it adds no energy there, and the time without is counted. A counter of
energy counts through a gap, and its power is the mean since its reading before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Sequence, Tuple

from tools.trace import TIME, channels_of

if TYPE_CHECKING:
    import numpy as np

    from tools.trace import Chunk


class Channel:
    """One channel's sums: `energy_j` since the first sample, `known_s` of the time, `power_w` the last mean.

    `columns` are all of the trace's; the channel takes what it has: `_w`, or `_a` and `_v`, or `_j`.
    """

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.name = name
        self.counts = f"{name}_w" not in columns and f"{name}_j" in columns
        self.measures = self.counts or f"{name}_w" in columns or {f"{name}_a", f"{name}_v"} <= set(columns)
        self.energy_j = 0.0
        self.known_s = 0.0
        self._before: Tuple[float, float] = (float("nan"), float("nan"))  # time, and power or counter

    def add(self, chunk: Chunk) -> Tuple[np.ndarray, np.ndarray]:
        """Take a chunk of n samples; return power in W and energy in J since the start, both [n].

        Power is NaN where nothing is known of it, and everywhere if the channel has current or voltage alone.
        """
        import numpy as np

        if not self.measures:
            return np.full(len(chunk[TIME]), np.nan), np.zeros(len(chunk[TIME]))
        time_s, value = np.append(self._before[0], chunk[TIME]), np.append(self._before[1], self._of(chunk))
        if self.counts:
            time_s, value = _held(time_s, value), _held(value, value)
            with np.errstate(invalid="ignore", divide="ignore"):
                power = np.diff(value) / np.diff(time_s)
            power[np.isnan(chunk[f"{self.name}_j"])] = np.nan
            gained = np.diff(value)
        else:
            power = value[1:]
            gained = (value[1:] + value[:-1]) / 2 * np.diff(time_s)
        known = np.isfinite(gained)
        energy = self.energy_j + np.cumsum(np.where(known, gained, 0.0))
        self.known_s += float(np.sum(np.diff(time_s)[known]))
        if len(energy):
            self.energy_j = float(energy[-1])
            self._before = float(time_s[-1]), float(value[-1])
        return power, energy

    def _of(self, chunk: Chunk) -> np.ndarray:
        """Return the column that energy is made of: power, or the counter."""
        import numpy as np

        for unit in ("w", "j"):
            if f"{self.name}_{unit}" in chunk:
                return np.asarray(chunk[f"{self.name}_{unit}"], np.float64)
        return np.multiply(chunk[f"{self.name}_a"], chunk[f"{self.name}_v"], dtype=np.float64)


def _held(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return `values` with those where `known` is NaN replaced by the last one before; NaN where none is."""
    import numpy as np

    last = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(len(known))))
    return values[last]


class RunningEnergy:
    """All channels of a trace with these columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.channels = [Channel(name, columns) for name in channels_of(columns)]
        self.samples = 0
        self.first_s = self.last_s = float("nan")

    def add(self, chunk: Chunk) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
        """Take a chunk; return each channel's power and energy as `Channel.add`."""
        time_s = chunk[TIME]
        if len(time_s):
            if not self.samples:
                self.first_s = float(time_s[0])
            self.last_s = float(time_s[-1])
            self.samples += len(time_s)
        return {channel.name: channel.add(chunk) for channel in self.channels}

    @property
    def recorded_s(self) -> float:
        """Time from the first sample to the last."""
        return self.last_s - self.first_s if self.samples else 0.0
