"""Files of power traces that other programs write and read: PowerTool's PT4 and PT5, and CSV.

    trace = read(Path("capture.pt4"))     # by what is in it, whatever it is called
    write_csv(Path("trace.csv"), trace)

Every reader returns a `Trace` (tools/trace.py), checked, whose `meta.note` says what the file left open.
Needs numpy and pyarrow.
"""

from __future__ import annotations

from pathlib import Path

from tools import trace
from tools.stage import InvalidRequest
from tools.trace import Trace
from tools.trace_files import csv, powertool, pt4, pt5
from tools.trace_files.csv import write_csv
from tools.trace_files.pt4 import write_pt4

__all__ = ["read", "write_csv", "write_pt4"]

PARQUET = b"PAR1"  # the first bytes, Apache Parquet format, "File format"
HEAD_BYTES = 4096


def read(path: Path) -> Trace:
    """Read a trace of any of these formats, or of this project's own.

    Raises:
        InvalidRequest: it is none of them, it is damaged or cut off, or one cannot calculate with it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        message = f"{path.name} cannot be read: {error.strerror}"
        raise InvalidRequest(message, hint=trace.HINT) from None
    if not head:
        message = f"{path.name} is empty"
        raise InvalidRequest(message, hint=trace.HINT)
    if head.startswith(PARQUET):
        return trace.read(path)
    if powertool.is_capture(head):
        capture = powertool.open_capture(path)
        return pt5.read(capture) if capture.wide else pt4.read(capture)
    if b"\0" in head and not head.startswith(csv.UTF16):
        message = f"{path.name} is neither a power trace nor a table of text"
        raise InvalidRequest(message, hint="PT4, PT5, CSV and this project's own Parquet files can be read.")
    return csv.read(path)
