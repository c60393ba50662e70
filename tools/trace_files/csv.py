"""CSV: what PowerTool, PyMonsoon and the scripts around them write, told apart by the names of the columns.

A column's name says what it is and in which unit: `Time(s)`, `Main(mA)`, `Main Voltage(V)`, `USB(mA)`,
`Main Avg Power (mW)`, `main_a`. What has no unit is an error, but for `time,current,power,marker`, the whole
header of one script, which writes s, mA and mW. Empty fields and NaN are gaps, and so is a jump of the time
where it is steady otherwise.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from tools.stage import InvalidRequest
from tools.trace import MARKER, TIME, Channel, Meta, Trace, check

if TYPE_CHECKING:
    import numpy as np

HEADER = ("Time(s)", "Main(mA)", "Main Voltage(V)")  # of what is written
HEADER_BYTES = 4096
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = "\t;,"  # a header with one of the first two has no comma as separator
UNITS: Mapping[str, tuple[str, float]] = {
    "s": (TIME, 1.0),
    "ms": (TIME, 1e-3),
    "us": (TIME, 1e-6),
    "a": ("a", 1.0),
    "ma": ("a", 1e-3),
    "ua": ("a", 1e-6),
    "v": ("v", 1.0),
    "mv": ("v", 1e-3),
    "w": ("w", 1.0),
    "mw": ("w", 1e-3),
    "uw": ("w", 1e-6),
}
NAME = re.compile(
    r"(?P<words>[a-z ]*?)(?P<number>\d*)\s*(?:[(\[]\s*(?P<unit>[a-z]+)\s*[)\]]|_(?P<suffix>[a-z]+))"
)
NOT_A_CHANNEL = {"avg", "average", "current", "voltage", "power"}
SCRIPT = {"time": "Time(s)", "current": "Main(mA)", "power": "Main Power(mW)", "marker": MARKER}
MARKS = {"": 0, "marker0": 1, "marker1": 2}  # as that script calls the bits; it cannot write both
HINT = (
    "Name the columns with their units: Time(s) or Time(ms), Main(mA), (uA) or (A), Main Voltage(V) or (mV)."
)
PYMONSOON, PYMONSOON_HZ = "Time(ms)", 5000
STEADY = 0.01  # of the usual step: how far others may be off it
SHARE_STEADY = 0.98  # of all steps, from which on the time counts as steady


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a file is written: its columns' names, their encoding, what separates them, the decimal mark."""

    header: Sequence[str]
    encoding: str
    separator: str
    decimal: str


def read(path: Path) -> Trace:
    """Read a table.

    Raises:
        InvalidRequest: it is no table, has a column of an unknown unit, is cut off in the middle of a line,
            has decimal commas and commas between the columns, or one cannot calculate with it.
    """
    layout = _layout(path)
    kinds = _kinds(layout.header, path.name)
    table = _table(path, layout)
    columns = {
        target: table[name] * factor if factor != 1.0 else table[name]
        for name, (target, factor) in kinds.items()
    }
    return _timed(layout.header, columns, path.name)


def _kinds(header: Sequence[str], file: str) -> dict[str, tuple[str, float]]:
    """Return for each column's name the trace's column, and what its values are to be multiplied by."""
    script = tuple(header) == tuple(SCRIPT)
    kinds = {}
    for name in header:
        kind = _kind(SCRIPT[name] if script else name) if name else None
        if name and kind is None:
            message = f"{file}: the unit of the column {name!r} is not known"
            raise InvalidRequest(message, hint=HINT)
        if kind:
            kinds[name] = kind
    targets = [target for target, _ in kinds.values()]
    twice = [target for target in targets if targets.count(target) > 1]
    if twice or TIME not in targets:
        message = f"{file}: {'two columns' if twice else 'no column'} for {twice[0] if twice else TIME}"
        raise InvalidRequest(message, hint=HINT)
    return kinds


def _kind(name: str) -> Optional[tuple[str, float]]:
    plain = name.strip().lower().replace("\u00b5", "u").replace("\u03bc", "u")
    if plain == MARKER:
        return MARKER, 1.0
    match = NAME.fullmatch(plain)
    unit = UNITS.get(match["unit"] or match["suffix"]) if match else None
    if match is None or unit is None:
        return None
    words = [word for word in match["words"].split() if word not in NOT_A_CHANNEL]
    if unit[0] == TIME:
        return unit if words == ["time"] else None
    channel = "_".join(words) + match["number"] or "main"
    return f"{channel}_{unit[0]}", unit[1]


def _table(path: Path, layout: Layout) -> Mapping[str, np.ndarray]:
    """Return the columns as they stand in the file: float64 [n] each, the marker uint8."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    header = layout.header
    names = [str(number) for number in range(len(header))]  # pyarrow takes two columns of one name for one
    marks = {name: pa.string() for name, column in zip(names, header) if column.lower() == MARKER}
    read = [name for name, column in zip(names, header) if column]  # each line of PyMonsoon's ends in a comma
    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=names, skip_rows=1, encoding=layout.encoding),
            parse_options=pa_csv.ParseOptions(delimiter=layout.separator),
            convert_options=pa_csv.ConvertOptions(
                include_columns=read,
                column_types={**dict.fromkeys(read, pa.float64()), **marks},
                null_values=["", " ", "nan", "NaN", "NAN"],
                decimal_point=layout.decimal,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, ValueError, UnicodeError) as error:
        raise _unreadable(path, layout, str(error)) from None
    columns = {}
    for name in read:
        column, values = header[int(name)], table[name].combine_chunks()
        columns[column] = _marks(values, path) if name in marks else np.asarray(values)
        if columns[column].dtype == np.float64 and np.isinf(columns[column]).any():
            message = f"{path.name}: {column} is infinite somewhere"
            raise InvalidRequest(message, hint=HINT)
    return columns


def _layout(path: Path) -> Layout:
    with path.open("rb") as file:
        line = file.readline(HEADER_BYTES)
    encoding = "utf-16" if line.startswith(UTF16) else "utf-8"
    if encoding == "utf-16":
        with path.open(encoding="utf-16", errors="replace") as file:
            text = file.readline(HEADER_BYTES)
    else:
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError:  # of a Windows program, whose one letter beyond ASCII is that of uA
            text, encoding = line.decode("latin-1"), "latin-1"
    separator = next((each for each in SEPARATORS if each in text), "")
    header = [name.strip().strip('"') for name in text.rstrip("\r\n").split(separator or ",")]
    if not separator or not any(re.search("[A-Za-z]", name) for name in header):
        message = f"{path.name} is no table of a power trace: its first line names no columns"
        raise InvalidRequest(message, hint=HINT)
    if len(set(header)) < len(header):
        message = f"{path.name} has two columns of one name"
        raise InvalidRequest(message, hint=HINT)
    comma = separator != "," and _has_decimal_commas(path, encoding, separator)
    return Layout(header, encoding, separator, "," if comma else ".")


def _has_decimal_commas(path: Path, encoding: str, separator: str) -> bool:
    with path.open(encoding=encoding, errors="replace") as file:
        file.readline(HEADER_BYTES)
        first = file.readline(HEADER_BYTES)
    return any("," in field for field in first.split(separator))


def _unreadable(path: Path, layout: Layout, reason: str) -> InvalidRequest:
    """Return the error for a table that pyarrow does not read, with its reason."""
    lengths = re.search(r"Expected (\d+) columns, got (\d+)", reason)
    if "Empty CSV" in reason:
        return InvalidRequest(f"{path.name} holds no samples", hint=HINT)
    if lengths and layout.separator == "," and int(lengths[2]) > len(layout.header):
        message = (
            f"{path.name} has commas in its numbers and between its columns, so they cannot be told apart"
        )
        return InvalidRequest(message, hint="Export it with points as decimal marks, or with semicolons.")
    if "np.float64(" in reason:
        message = f"{path.name} has numbers written as np.float64(...), by PyMonsoon with NumPy 2"
        return InvalidRequest(message, hint=r"Mend it: sed -i 's/np.float64(\([^)]*\))/\1/g' FILE")
    if lengths:
        message = (
            f"{path.name} has a line of {lengths[2]} fields, and {len(layout.header)} columns: is it cut off?"
        )
        return InvalidRequest(message, hint="Remove the line if it is the last, or record it anew.")
    return InvalidRequest(
        f"{path.name} is not a table of numbers: {' '.join(reason.split())[:200]}", hint=HINT
    )


def _marks(values: Any, path: Path) -> np.ndarray:
    """Return a column of markers, which are numbers of 0 to 255 or that script's words, as uint8."""
    import numpy as np

    encoded = values.dictionary_encode()
    numbers = []
    for word in encoded.dictionary.to_pylist():
        plain = word.strip().lower()
        number = MARKS.get(
            plain, int(plain) if plain.isascii() and plain.isdigit() and len(plain) < 4 else 256
        )
        if number > 255:
            message = f"{path.name}: {word[:40]!r} is no marker"
            raise InvalidRequest(message, hint="Markers are the numbers 0 to 255, the bits of the inputs.")
        numbers.append(number)
    return np.array(numbers, np.uint8)[np.asarray(encoded.indices)] if numbers else np.empty(0, np.uint8)


def _timed(header: Sequence[str], columns: dict[str, np.ndarray], file: str) -> Trace:
    """Return the trace, with what is to be said of its time."""
    import numpy as np

    time_s = columns.pop(TIME)
    units = [name.rpartition("_")[0] for name in columns if name != MARKER]
    meta = Meta(
        meter="csv",
        device="unknown",
        note="a table, which says neither which meter it was nor how exact",
        channels={name: Channel(source="the file does not say") for name in units},
    )
    if PYMONSOON in header and len(time_s) > 1 and np.isfinite(time_s).all():
        time_s, meta = _pymonsoon(time_s, meta)
    check(Trace(time_s, columns, meta), file)
    steps = np.diff(time_s)
    step = float(np.median(steps)) if len(steps) else 0.0
    steady = len(steps) and np.mean(np.abs(steps - step) <= STEADY * step) >= SHARE_STEADY
    if not steady:
        return Trace(time_s, columns, meta)
    jumps = np.flatnonzero(steps > 1.5 * step)
    lost = int(np.minimum(np.rint(steps[jumps] / step) - 1, 2**31).sum())
    marked = int(
        sum(np.isnan(column) for name, column in columns.items() if name != MARKER).astype(bool).sum()
    )
    meta = dataclasses.replace(meta, rate_hz=float(f"{1 / step:.6g}"), dropped=meta.dropped + lost + marked)
    return _with_gaps(Trace(time_s, columns, meta), jumps, step)


def _with_gaps(trace: Trace, jumps: np.ndarray, step: float) -> Trace:
    """Return the trace with a row of NaN in each jump, one step after the row before it."""
    import numpy as np

    time_s = np.insert(trace.time_s, jumps + 1, trace.time_s[jumps] + step)
    columns = {
        name: np.insert(column, jumps + 1, 0 if name == MARKER else np.nan)
        for name, column in trace.columns.items()
    }
    return Trace(time_s, columns, trace.meta)


def _pymonsoon(time_s: np.ndarray, meta: Meta) -> tuple[np.ndarray, Meta]:
    """Return the time of a table with `Time(ms)`, which PyMonsoon writes over seconds of the host's clock.

    More samples than the meter takes (5 kHz) if they were ms, then they are seconds. Those are when a packet
    of up to three came, so they are no time base: the samples' number is one, and tells how many are missing.
    """
    import numpy as np

    span_s = float(time_s[-1] - time_s[0])
    if span_s <= 0 or (len(time_s) - 1) / span_s <= 1.5 * PYMONSOON_HZ:
        return time_s, dataclasses.replace(meta, note=f"{meta.note}; the time is in ms, as its column says")
    seconds = 1e3 * span_s
    missing = max(0, round(seconds * PYMONSOON_HZ) - (len(time_s) - 1))
    note = (
        f"{meta.note}; its Time(ms) holds seconds at which a computer got samples (PyMonsoon), so the "
        f"time is the samples' number at {PYMONSOON_HZ} Hz"
    )
    undated = missing if missing > 0.001 * len(time_s) else 0
    facts = dataclasses.replace(meta, note=note, device="Monsoon", dropped=undated, undated=undated)
    return np.arange(len(time_s)) / PYMONSOON_HZ, facts


def write_csv(path: Path, trace: Trace, channel: str = "main") -> None:
    """Write one channel as `Time(s),Main(mA),Main Voltage(V)`; a gap is a row with empty fields.

    Raises:
        InvalidRequest: the channel has no current or no voltage.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    current, voltage = trace.column(channel, "a"), trace.column(channel, "v")
    if current is None or voltage is None:
        there = ", ".join(trace.columns)
        message = f"this CSV needs current and voltage of the channel {channel}; there are {there}"
        raise InvalidRequest(message, hint="Write Parquet, which holds every trace.")
    rounded = (np.round(trace.time_s, 7), np.round(current * 1e3, 6), np.round(voltage, 6))
    table = pa.table([pa.array(column, from_pandas=True) for column in rounded], names=list(HEADER))
    with path.open("wb") as file:
        file.write((",".join(HEADER) + "\n").encode())
        pa_csv.write_csv(table, file, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
