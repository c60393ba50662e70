"""PT5, the format of PowerTool 5.x. NOT VERIFIED: no real file was to be had.

After two readers of others: as PT4, but a current is 32 bits of uA, without the coarse bit. They leave open
two things. The voltage's step is 500 or 250 uV (by the hardware, in a way that contradicts itself for the
HVPM): the one is taken with which the samples come nearest to what the output was set to. And a missing
sample has the voltage 0xFFFF, which is above what any meter measures, so the current, on which they disagree,
is not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.trace import MARKER, Trace, check
from tools.trace_files import powertool
from tools.trace_files.powertool import RATE_HZ, Capture
from tools.trace_files.pt4 import MISSING_VOLTAGE, meta_of

if TYPE_CHECKING:
    import numpy as np

STEP_A = 1e-6
VOLT_STEPS = (500e-6, 250e-6)  # of the word without its two lowest bits
NOT_VERIFIED = "PT5 as others read it, not verified on a real file"


def read(capture: Capture) -> Trace:
    """Read the samples of an opened file.

    Raises:
        InvalidRequest: there are fewer than the header counts, or none.
    """
    import numpy as np

    names = capture.header.channels
    layout = np.dtype([(name, "<i4") for name in names] + [("voltage", "<u2")])
    table = capture.samples.view(layout)
    words = np.ascontiguousarray(table["voltage"])
    there = words != MISSING_VOLTAGE
    volt = _volt(words[there] & ~np.uint16(3), capture.header.supply_v, capture.status.hardware_revision)
    columns = {f"{name}_a": np.where(there, table[name] * STEP_A, np.nan) for name in names}
    columns[f"{capture.voltage_channel}_v"] = np.where(there, (words & ~np.uint16(3)) * volt, np.nan)
    if capture.header.mask & powertool.MARKERS:
        columns[MARKER] = np.where(there, words & 3, 0).astype(np.uint8)
    marked = int(np.count_nonzero(~there))
    absent = powertool.undated(capture, len(table), marked)
    note = f"{NOT_VERIFIED}; voltage step taken as {volt * 1e6:g} uV"
    meta = meta_of(capture, dropped=marked + absent, undated=absent, note=note)
    return check(Trace(np.arange(len(table)) / RATE_HZ, columns, meta), capture.path.name)


def _volt(words: np.ndarray, supply_v: float, revision: int) -> float:
    """Return the step that brings the samples nearest to the output's setting; without it, by revision."""
    import numpy as np

    if len(words) and 0 < supply_v < 20:
        middle = float(np.median(words))
        return min(VOLT_STEPS, key=lambda volt: abs(middle * volt - supply_v))
    return VOLT_STEPS[0] if revision >= powertool.REVISION_B else VOLT_STEPS[1]
