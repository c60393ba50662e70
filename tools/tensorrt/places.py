"""Which GPU and which TensorRT are here, and by what TensorRT is driven: its Python module, or trtexec.

It is chosen once, by tensorrt.gpu, whose file all later stages read; so that no run mixes the two.
"""

from __future__ import annotations

import platform
from typing import Any, Dict, Tuple

from tools.stage import InvalidRequest, SdkMissing
from tools.tensorrt import bindings, cuda, trtexec, versions

PYTHON, TRTEXEC = "tensorrt-python", "trtexec"  # as records name them
CHOICES = {"auto": "", "python": PYTHON, "trtexec": TRTEXEC}


def choose(wanted: str) -> Tuple[Dict[str, Any], str]:
    """Return what `describe` does of `auto`, `python` or `trtexec`, and why it is that one.

    Raises:
        InvalidRequest: it is none of the three.
        DeviceNotFound, SdkMissing, Unavailable: as `describe`.
    """
    if wanted not in CHOICES:
        message = f"there is no way {wanted!r} to TensorRT"
        raise InvalidRequest(message, hint=f"Choose one of {', '.join(CHOICES)}: --tensorrt-api auto")
    if wanted != "auto":
        return describe(CHOICES[wanted]), "asked for"
    module, why_not = bindings.find()
    if module is None:
        return describe(TRTEXEC), why_not
    return describe(PYTHON), "TensorRT's Python module is here"


def describe(api: str) -> Dict[str, Any]:
    """Return which GPU and which TensorRT are here, all that an engine depends on, and `api` itself.

    Raises:
        DeviceNotFound: no NVIDIA GPU.
        SdkMissing, Unavailable: no TensorRT, or none that starts.
        Unsupported: a TensorRT that is too old.
    """
    if api == TRTEXEC:
        return {**trtexec.describe(), "api": api}
    module, why_not = bindings.find()
    if module is None:
        raise SdkMissing(why_not, hint=f"Take trtexec (--tensorrt-api trtexec), or {bindings.HINT}")
    version = versions.parse(module.__version__)
    versions.require(version)
    name, capability = cuda.gpu()
    return {
        "tensorrt": versions.text(version),
        "gpu": name,
        "compute_capability": capability,
        "machine": platform.machine(),
        "simulated": bool(getattr(module, "SIMULATED", False)),
        "api": api,
    }
