"""The chips with a Hexagon Tensor Processor (HTP) that a network can be compiled for.

Numbers and architectures: `QcomChipset` and `HtpArch` of ExecuTorch's backends/qualcomm/serialization/
qc_schema.py (commit 0e9182a), which Qualcomm maintains there; the numbers are the `soc_model` of QNN, the
column "SoC Model" of the table "Supported Snapdragon devices" in its documentation. Which of them have no
float16 is what Qualcomm's compiler says: it places no float16 convolution on them (tests/snpe/test_socs.py).
"""

from __future__ import annotations

import dataclasses

from tools.names import nearest
from tools.stage import InvalidRequest

DEFAULT = "sm8550"


@dataclasses.dataclass(frozen=True)
class Soc:
    """A chip: its name, QNN's number for it, the architecture of its HTP, and whether that has float16."""

    name: str
    soc_model: int
    htp_arch: int
    float16: bool = True

    @property
    def htp(self) -> str:
        """The HTP as a record names it."""
        return f"HTP v{self.htp_arch} ({self.name})"


SOCS = (
    Soc("sm8350", 30, 68),
    Soc("sa8295", 39, 68),
    Soc("sa8540", 62, 68),
    Soc("qcm6490", 93, 68, float16=False),
    Soc("sm8450", 36, 69),
    Soc("sm8475", 42, 69),
    Soc("sxr2230p", 53, 69),
    Soc("sm8550", 43, 73),
    Soc("sa8255", 52, 73),
    Soc("qcs9100", 77, 73),
    Soc("sxr1230p", 45, 73, float16=False),
    Soc("ssg2115p", 46, 73, float16=False),
    Soc("ssg2125p", 58, 73, float16=False),
    Soc("sm8650", 57, 75),
    Soc("sm8750", 69, 79),
    Soc("sxr2330p", 75, 79),
    Soc("sm8845", 97, 81),
    Soc("sm8850", 87, 81),
    Soc("sa8797", 72, 81),
    Soc("sar2230p", 95, 81, float16=False),
    Soc("sw6100", 96, 81, float16=False),
)


def find(name: str) -> Soc:
    """Return the chip of a name, in whatever case.

    Raises:
        InvalidRequest: none is known; the hint suggests the nearest.
    """
    known = {soc.name: soc for soc in SOCS}
    if name.lower() not in known:
        message = f"there is no chip {name!r} among those that a network can be compiled for"
        listing = f"Those known: {', '.join(known)}."
        raise InvalidRequest(message, hint=nearest(name, known, listing))
    return known[name.lower()]
