"""What Qualcomm's programs say on a phone when something is wrong, and what to do about it.

The messages are those of public issues: quic/sample-apps-for-qualcomm-neural-processing-sdk 59, quic/qidk 60,
gesanqiu/Chinese_MobileBert 1, commaai/openpilot 800. Texts without one of them are shown as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tools.stage import StageError, Unsupported

SKELS = (
    "The Hexagon did not find what it is to load, or may not load it: the SDK has no skel for this chip, or "
    "the phone takes signed ones only. Newer SDKs know newer chips; SNPE 1.40 still knows a Snapdragon 855."
)
# Pattern, class, what to do; the first that is found counts.
FAILURES: Sequence[tuple[str, type[StageError], str]] = (
    (r"testsig-\w+\.so.*Permission denied|apps_std_fopen_with_env failed", Unsupported, SKELS),
    (
        r"PF_VALIDATOR: ERROR: .*|SNPE is NOT supported for runtime \w+ on the device|Please use testsig.*",
        Unsupported,
        SKELS,
    ),
    (
        r"[Ss]elected runtime.*not (?:available|present).*|isRuntimeAvailable\(\w+\) == 0",
        Unsupported,
        "This chip, or this phone's software, has no such runtime for this SDK.",
    ),
    (
        r"QNN_GRAPH_ERROR_INVALID_OP_CONFIG.*|QnnGraph_addNode\(\) failed for layer: \S+.*",
        Unsupported,
        "This unit does not take the layer that is named; take another device, or another form of it.",
    ),
    (
        r"CANNOT LINK EXECUTABLE.*libgnustl_shared.*|library \"libgnustl_shared\.so\" not found",
        Unsupported,
        "The SDK's gcc builds need a library of the Android NDK r11; take an SDK with a clang build.",
    ),
    (
        r"CANNOT LINK EXECUTABLE.*|Segmentation fault",
        Unsupported,
        "The SDK's programs do not start on this Android; an older SDK may.",
    ),
    (
        r"error_code=\d+; error_message=[^;]*",
        StageError,
        "Convert the network again with this SDK: DLCs of SNPE 1 and 2 are not interchangeable.",
    ),
    (r"(?:inaccessible or )?not found|No such file or directory", StageError, "The log says more."),
)
# Not an error, but nothing that a reader should miss either.
WARNINGS: Sequence[tuple[str, str]] = (
    (
        r"No cache record in the DLC matches the target device \(?([\w ]*)\)?",
        "The DLC was not prepared for this phone's chip (--soc): it starts slower, and runs as fast.",
    ),
)


def raise_for(said: str, code: int, program: str) -> None:
    """Raise the error that a program's output stands for, if it failed or says that it did.

    Raises:
        Unsupported, StageError: with the program's own words.
    """
    for pattern, error, hint in FAILURES:
        match = re.search(pattern, said)
        if match and (code or error is Unsupported or "error_code" in match[0]):
            message = f"{program}: {match[0].strip()[:400]}"
            raise error(message, hint=hint)
    if code:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1][:400] if lines else "it said nothing"
        message = f"{program} ended with code {code}: {last}"
        raise StageError(message, hint="The log says more.")


def warnings(said: str) -> list[str]:
    """Return what the reader of a result should know of the program's output."""
    return [text for pattern, text in WARNINGS if re.search(pattern, said)]


def told(found: dict[str, Any]) -> None:
    """Raise StageError if a log of a run has no times: a failed execute never yields one."""
    if found["status"] != "ok":
        message = f"the network was not executed: {found['reason']}"
        raise StageError(message, hint=found["hint"])
