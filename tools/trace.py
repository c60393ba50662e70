"""A power trace: the one file between meters and everything else, whatever the meter.

Apache Parquet, one row per sample. Columns:

    time_s            seconds on the meter's own clock, strictly rising; never when a host got them
    <channel>_a _v    current and voltage; negative currents are kept
    <channel>_w       power, where the meter gives nothing else (NVML's sensor)
    <channel>_j       energy since some start, never falling, where the meter counts (RAPL, ODPM)
    marker            bits of the meter's digital inputs, 0 to 255; optional

A gap is explicit: in a row whose values are NaN nothing is known from the sample before it to the sample
after it, so one row stands for a gap of any length. What is not in the rows is `Meta`, as JSON in the file's
own metadata under the key `mobile_accelerator`.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tools.stage import InvalidRequest

if TYPE_CHECKING:
    import numpy as np

    Chunk = Mapping[str, np.ndarray]  # columns by name, all of one length, `time_s` among them

SCHEMA = 1  # 1: first version
KEY = b"mobile_accelerator"
TIME, MARKER = "time_s", "marker"
UNITS = ("a", "v", "w", "j")
HINT = (
    "Give a trace of `runner.py power record`, or `runner.py power convert` a file of a meter's own program."
)


def channels_of(columns: Iterable[str]) -> list[str]:
    """Return the channels of a trace's columns, in their order: `main` of `main_a` and `main_v`."""
    names = (name.rpartition("_")[0] for name in columns if name not in (TIME, MARKER))
    return list(dict.fromkeys(names))


def chunk(rows: Sequence[Sequence[float]], columns: Sequence[str]) -> Chunk:
    """Return rows of a time and a value for each column as the columns of a chunk."""
    import numpy as np

    table = np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(columns))
    return {name: table[:, index] for index, name in enumerate([TIME, *columns])}


@dataclasses.dataclass(frozen=True)
class Channel:
    """What is to be known of a channel besides its samples.

    Attributes:
        scope: what its power is that of, e.g. "supply of the phone", "rail VDD_IN", "package-0".
        average_s: a sample is the mean over the so many seconds before it; 0: a reading at its time.
        gain_error: relative standard uncertainty of its power, e.g. 0.01; None: nothing is known.
        offset_error_w: absolute standard uncertainty of its power, W.
        step_j: a counter's step, J.
        source: where the figures above are from.
    """

    scope: str = ""
    average_s: float = 0.0
    gain_error: Optional[float] = None
    offset_error_w: float = 0.0
    step_j: float = 0.0
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Clock:
    """Where the meter's time is on a host's: the reading of that host's CLOCK_MONOTONIC at `time_s` 0.

    Attributes:
        host: as `this_host` names it.
        error_s: standard uncertainty of it.
        rate_error: relative, of the meter's clock against the host's; None: nothing is known.
    """

    host: str
    monotonic_s: float
    error_s: float
    rate_error: Optional[float] = None


def this_host() -> str:
    """Return what names the machine whose CLOCK_MONOTONIC this is, and is the same in all its containers.

    That is the kernel's id of its present boot: random(4), /proc/sys/kernel/random/boot_id. Elsewhere it is
    the host's name.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a trace says of itself.

    Attributes:
        meter: its name for `--meter`, e.g. "monsoon".
        device: the meter's own name, e.g. "Monsoon HVPM".
        rate_hz: samples per second by the meter's design; None where they come as they come.
        dropped: samples known to be lost, all of them.
        undated: those of them that lie in no gap, so that the time is too short by them.
        complete: False where the recording ended before it was told to, with `note` saying why.
        simulated: a stand-in was the meter.
        calibration: what the meter's raw words were turned into units by.
        supply_v: what the meter's output was set to, if it is a supply.
    """

    meter: str
    device: str = ""
    serial: str = ""
    firmware: str = ""
    rate_hz: Optional[float] = None
    dropped: int = 0
    undated: int = 0
    complete: bool = True
    simulated: bool = False
    note: str = ""
    supply_v: Optional[float] = None
    calibration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    channels: Mapping[str, Channel] = dataclasses.field(default_factory=dict)
    clock: Optional[Clock] = None

    def to_json(self) -> bytes:
        """Return it as the JSON that lies in the file."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}).encode()

    @classmethod
    def of_json(cls, text: bytes) -> Meta:
        """Read it from the JSON in a file.

        Raises:
            ValueError: it is not of this schema.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            message = "its metadata is of another schema"
            raise ValueError(message)
        try:
            channels = {name: Channel(**facts) for name, facts in data.pop("channels").items()}
            clock = data.pop("clock")
            return cls(**data, channels=channels, clock=Clock(**clock) if clock else None)
        except (TypeError, KeyError, AttributeError) as error:
            message = f"its metadata lacks something: {error}"
            raise ValueError(message) from None


@dataclasses.dataclass(frozen=True)
class Trace:
    """A trace in memory: `columns` by name without the time, all [n]; float64, markers uint8."""

    time_s: np.ndarray
    columns: Mapping[str, np.ndarray]
    meta: Meta

    @property
    def channels(self) -> Sequence[str]:
        """Names of the channels, in the order of their columns; `main` of `main_a` and `main_v`."""
        return channels_of(self.columns)

    def column(self, channel: str, unit: str) -> Optional[np.ndarray]:
        """Return one of a channel's columns: unit `a`, `v`, `w` or `j`; None if it has none."""
        return self.columns.get(f"{channel}_{unit}")

    def power_w(self, channel: str) -> np.ndarray:
        """Return the channel's power in W at each sample: V x I, or what the meter gave as power.

        Raises:
            InvalidRequest: the channel is not there, or counts energy and has no power at a time.
        """
        power = self.column(channel, "w")
        current, voltage = self.column(channel, "a"), self.column(channel, "v")
        if power is None and current is not None and voltage is not None:
            power = current * voltage
        if power is not None:
            return power
        message = f"the trace has no power of a channel {channel!r}"
        raise InvalidRequest(message, hint=f"Its channels: {', '.join(self.channels) or 'none'}.")


class Writer:
    """Writes a trace as its samples come; `close` makes it a file that can be read.

    Use it as a context manager: what was appended is kept whatever ends the block.
    """

    def __init__(self, path: Path, columns: Sequence[str], meta: Meta) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.meta = meta  # may be replaced until `close`: counts are known only then
        self.rows = 0
        types = {TIME: pa.float64(), MARKER: pa.uint8()}
        types.update({name: pa.float64() for name in columns if name.endswith("_j")})  # a counter grows
        self._schema = pa.schema([(name, types.get(name, pa.float32())) for name in [TIME, *columns]])
        self._arrow = pa
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")

    def append(self, chunk: Chunk) -> None:
        """Append samples. A chunk becomes a group of rows: seconds of samples make a small file, not one."""
        if len(chunk[TIME]):
            self._file.write_table(self._arrow.table(dict(chunk), schema=self._schema))
            self.rows += len(chunk[TIME])

    def close(self) -> None:
        """Write the metadata and end the file."""
        self._file.add_key_value_metadata({KEY: self.meta.to_json()})
        self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(path: Path, trace: Trace) -> None:
    """Write a whole trace."""
    with Writer(path, list(trace.columns), trace.meta) as file:
        file.append({TIME: trace.time_s, **trace.columns})


def read(path: Path) -> Trace:
    """Read a trace.

    Raises:
        InvalidRequest: it is no such file, it is cut off, it is empty, or `check` refuses it.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        meta = Meta.of_json((file.metadata.metadata or {})[KEY])
        table = file.read()
        columns = {name: np.asarray(table[name]) for name in table.column_names}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = "it was not made here" if isinstance(error, KeyError) else f"{error}"
        message = f"{path.name} is no power trace, or it is cut off: {reason}"
        raise InvalidRequest(message, hint=HINT) from error
    time_s = columns.pop(TIME, np.empty(0))
    values = {
        name: column if name == MARKER else column.astype(np.float64) for name, column in columns.items()
    }
    return check(Trace(time_s.astype(np.float64), values, meta), path.name)


def check(trace: Trace, name: str) -> Trace:
    """Return the trace if one can calculate with it; `name` is that of its file, for the error.

    Raises:
        InvalidRequest: it is empty, its time does not rise, or a voltage is negative.
    """
    import numpy as np

    if not len(trace.time_s) or not trace.channels:
        message = f"{name} holds no samples"
        raise InvalidRequest(message, hint=HINT)
    unknown = [key for key in trace.columns if key != MARKER and key.rpartition("_")[2] not in UNITS]
    if unknown:
        message = f"{name} has columns of no known unit: {', '.join(unknown)}"
        raise InvalidRequest(message, hint=f"A column is named CHANNEL_UNIT, unit one of {', '.join(UNITS)}.")
    if not np.isfinite(trace.time_s).all():
        message = f"{name} has rows without a time"
        raise InvalidRequest(message, hint=HINT)
    back = np.flatnonzero(np.diff(trace.time_s) <= 0)
    if len(back):
        at = trace.time_s[back[0]]
        message = f"in {name} time does not rise after {at:g} s ({len(back)} times)"
        raise InvalidRequest(message, hint="Two recordings in one file, or times of a host: record it anew.")
    for key, column in trace.columns.items():
        if key.endswith("_v") and (column < 0).any():
            at = trace.time_s[np.flatnonzero(column < 0)[0]]
            message = f"in {name} the voltage {key} is negative at {at:g} s"
            raise InvalidRequest(message, hint="Known of old Monsoon scripts, which read it as signed.")
    return trace
