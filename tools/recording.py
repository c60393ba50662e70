"""What every meter's recording is: from its reader into a trace, until someone says stop.

A meter is a command of a tool with an output `trace` and `meter="name"` in its declaration. It opens the
device as a `Reader` and hands it to `record`, which does the rest. A recording ends after `duration_s` of the
meter's time, when a file `stop` appears beside request.json, on SIGINT or SIGTERM, or when the reader has no
more. What was sampled is kept in all of these, and when the device is lost too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Callable, ContextManager, Optional, Protocol, Sequence

from tools.stage import Result, StageError, emit, write_json
from tools.tally import Tally
from tools.trace import TIME, Clock, Meta, Writer, read, this_host
from tools.trace import chunk as as_chunk

if TYPE_CHECKING:
    from tools.trace import Chunk

STOP = Path("stop")  # the host makes it in the stage's folder
STARTED = Path("recording.json")  # the recorder makes it when the first samples are there, and says
SAMPLING = "sampling"  # as the event `{"meter": "sampling"}`
KEEP_S = 2.0  # of samples that are in memory only; a group of rows in the file
Listener = Callable[["Chunk", Meta], None]


@dataclasses.dataclass(frozen=True)
class Attached:
    """A meter that is there, as files of the kernel or an adb server say; it was not opened.

    Attributes:
        name: of the device, e.g. "Joulescope JS220".
        serial: what `meter_serial` chooses it by; "" where it needs no choice.
        problem: why it cannot be used as it is, "" if nothing is known to be in the way.
        hint: what to do about that.
    """

    name: str
    serial: str = ""
    problem: str = ""
    hint: str = ""


class Reader(Protocol):
    """An opened meter that samples. `meta` may change until the end: what was lost is known by then.

    Attributes:
        columns: of its chunks, without the time, e.g. ("main_a", "main_v").
    """

    columns: Sequence[str]
    meta: Meta

    def read(self) -> Optional[Chunk]:
        """Return the samples since the last call, waiting for 0.1 s at most; None: there will be no more.

        Raises:
            DeviceNotFound: the meter is gone.
            StageError: it says something that is not understood.
        """


def run(opened: ContextManager[Reader], trace: Path, *, duration_s: float, live_port: int) -> Result:
    """Do what every meter's command does: open the meter, record it to `trace`, and say what was recorded.

    A trace that is to be .csv is recorded as .parquet beside it first, and stays so if anything fails.
    `live_port`: of the page that shows the samples as they come, 0 for none.

    Raises:
        DeviceNotFound: there is no such meter, or it was lost; what was sampled before is in `trace`, and the
            error carries the metrics and metadata of it.
        Unavailable: the port cannot be had.
        StageError: as `record`.
    """
    import pyarrow.parquet  # noqa: F401 - takes up to a second, in which an opened meter would sample unread

    tally, file = Tally(duration_s), trace.with_suffix(".parquet")
    listeners: list[Listener] = [tally.add]
    with contextlib.ExitStack() as stack:
        if live_port:
            from tools.live_view import view

            listeners.append(stack.enter_context(view(live_port)))
        tally.say("waiting for the first sample")
        reader = stack.enter_context(opened)
        try:
            meta = record(reader, file, duration_s=duration_s, listeners=listeners)
            if trace != file:
                _convert(file, trace)
        except StageError as error:
            error.metrics, facts = tally.results(reader.meta)
            error.metadata = {**facts, **error.metadata}
            raise
    metrics, metadata = tally.results(meta)
    return Result(metrics=metrics, metadata=metadata)


def _convert(file: Path, trace: Path) -> None:
    """Make CSV of a recorded file, and remove that."""
    from tools.trace_files import write_csv

    write_csv(trace, read(file))
    file.unlink()


def record(
    reader: Reader, path: Path, *, duration_s: float = 0.0, listeners: Iterable[Listener] = ()
) -> Meta:
    """Write what `reader` samples to the trace `path`; return what the file says of itself.

    `duration_s` is in the meter's time, 0 for no limit. `listeners` get every chunk as it comes:
    a live view.

    Raises:
        DeviceNotFound: the meter was lost; the trace holds what was sampled, and says that it is incomplete.
        StageError: another failure of the reader, with the same trace; or there was no sample at all.
    """
    lost: Optional[StageError] = None
    with Writer(path, reader.columns, reader.meta) as file, _signals() as stopped:
        try:
            for chunk in _grouped(_until(reader, duration_s, stopped, listeners)):
                file.append(chunk)
        except StageError as error:
            lost = error
        meta = reader.meta
        if lost:
            meta = dataclasses.replace(meta, complete=False, note=str(lost))
        file.meta = meta
    if lost:
        kept = f"; {file.rows} samples are kept in {path.name}"
        message = f"{lost}{kept}"
        raise type(lost)(message, hint=lost.hint, metadata={"complete": False, "note": meta.note})
    if not file.rows:
        message = f"{meta.device or meta.meter} gave no sample"
        raise StageError(message, hint="Is it told to sample at all?")
    return meta


def _until(
    reader: Reader, duration_s: float, stopped: threading.Event, listeners: Iterable[Listener]
) -> Iterator[Chunk]:
    """Yield chunks until the recording is to end."""
    first_s: Optional[float] = None
    while not (stopped.is_set() or STOP.exists()):
        chunk = reader.read()
        if chunk is None:
            return
        if not len(chunk[TIME]):
            continue
        if first_s is None:
            first_s = float(chunk[TIME][0])
            said = {"monotonic_s": time.monotonic(), "resolution_s": _resolution_s(reader, chunk)}
            write_json(STARTED, said)
            emit({"meter": SAMPLING})
        if duration_s:
            chunk = {name: column[chunk[TIME] < first_s + duration_s] for name, column in chunk.items()}
            if not len(chunk[TIME]):
                return
        for listener in listeners:
            listener(chunk, reader.meta)
        yield chunk


def _resolution_s(reader: Reader, chunk: Chunk) -> float:
    """Return the time in which the meter tells nothing apart: its period, or what it averages over."""
    import numpy as np

    period_s: Optional[float] = getattr(reader, "period_s", None)  # of those that are asked
    if period_s is None and reader.meta.rate_hz:
        period_s = 1 / reader.meta.rate_hz
    elif period_s is None:
        period_s = float(np.median(np.diff(chunk[TIME]))) if len(chunk[TIME]) > 1 else 1.0
    return max([period_s, *(channel.average_s for channel in reader.meta.channels.values())])


def _grouped(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Join chunks to groups of rows of KEEP_S; what is there when the meter is lost precedes the error."""
    import numpy as np

    kept: list[Chunk] = []

    def joined() -> Chunk:
        return {name: np.concatenate([chunk[name] for chunk in kept]) for name in kept[0]}

    failure: Optional[BaseException] = None
    try:
        for chunk in chunks:
            kept.append(chunk)
            if chunk[TIME].size and chunk[TIME][-1] - kept[0][TIME][0] >= KEEP_S:
                yield joined()
                kept.clear()
    except StageError as error:
        failure = error
    if kept:
        yield joined()
    if failure:
        raise failure


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set for the time of the block, where they can be had."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {
        number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Polled:
    """A reader of what has to be asked: `ask` returns one reading of each column, at a steady period.

    The time is this host's CLOCK_MONOTONIC in the middle of the asking. A reading that takes longer than the
    period makes the next one late, never a second one in its place. `ask` returns None where there is no
    reading: a gap.
    """

    def __init__(
        self,
        ask: Callable[[], Optional[Sequence[float]]],
        columns: Sequence[str],
        meta: Meta,
        period_s: float,
    ) -> None:
        self.columns = columns
        self._meta = meta
        self._ask = ask
        self.period_s = period_s
        self._start_s = self._next_s = time.monotonic()
        self._longest_s = 0.0

    @property
    def meta(self) -> Meta:
        """What is known by now; the clock's error is half of the longest asking, at most."""
        return dataclasses.replace(self._meta, clock=Clock(this_host(), self._start_s, self._longest_s / 2))

    @meta.setter
    def meta(self, meta: Meta) -> None:
        self._meta = meta

    def read(self) -> Chunk:
        """Ask as often as falls into 0.1 s."""
        rows = []
        until_s = time.monotonic() + 0.1
        while self._next_s <= until_s:
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            before_s = time.monotonic()
            values = self._ask()
            after_s = time.monotonic()
            self._longest_s = max(self._longest_s, after_s - before_s)
            rows.append(
                [(before_s + after_s) / 2 - self._start_s, *(values or [float("nan")] * len(self.columns))]
            )
            self._next_s = max(self._next_s + self.period_s, after_s)
        if not rows:
            time.sleep(max(0.0, until_s - time.monotonic()))
        return as_chunk(rows, self.columns)


class Arrival:
    """Where a meter's own clock is on this host's, from when its samples arrive.

    A sample is late by what is between meter and host, never early. So the smallest difference between the
    two clocks is the nearest to the truth, and the spread of the differences bounds the error. The first and
    the last `SPAN_S` of a recording tell how the clocks drift apart.
    """

    SPAN_S = 10.0

    def __init__(self) -> None:
        self._first: list[tuple[float, float]] = []  # (time of the meter, difference), of the first SPAN_S
        self._last: list[tuple[float, float]] = []

    def saw(self, time_s: float) -> None:
        """Note that the sample of the meter's `time_s` has just arrived."""
        seen = (time_s, time.monotonic() - time_s)
        if not self._first or time_s - self._first[0][0] < self.SPAN_S:
            self._first.append(seen)
        self._last = [one for one in self._last if time_s - one[0] < self.SPAN_S] + [seen]

    @property
    def clock(self) -> Optional[Clock]:
        """What is known by now, None before the first sample."""
        if not self._first:
            return None
        differences = [difference for _, difference in self._first]
        elapsed_s = self._last[-1][0] - self._first[0][0]
        drift = None
        if elapsed_s >= 2 * self.SPAN_S:
            drift = abs(min(difference for _, difference in self._last) - min(differences)) / elapsed_s
        return Clock(this_host(), min(differences), max(differences) - min(differences), drift)
