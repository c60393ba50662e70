"""Stand-ins for Qualcomm's SDK: a .zip in the layout of a real one, whose programs compute on this machine.

Nothing of the real ones is in it, and everything is SIMULATED.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

PARTS = Path(__file__).parent / "snpe"
HOST = "bin/x86_64-linux-clang"
# Layout -> folder in the .zip, kind of phone, what the Hexagon loads, options of the converters
LAYOUTS = {
    "1.17.1": ("snpe-1.17.1", "aarch64-android-clang3.8", "lib/dsp/libsnpe_dsp_skel.so", "older"),
    "1.66.0.3729": ("snpe-1.66.0.3729", "aarch64-android-clang8.0", "lib/dsp/libSnpeHtpV69Skel.so", "newer"),
    "2.14.2.230905": (
        "snpe/2.14.2.230905",
        "aarch64-android",
        "lib/hexagon-v73/unsigned/libSnpeHtpV73Skel.so",
        "newer",
    ),
    "2.41.0.251128": (
        "qairt/2.41.0.251128",
        "aarch64-android",
        "lib/hexagon-v73/unsigned/libSnpeHtpV73Skel.so",
        "newer",
    ),
}


def make(folder: Path, version: str, *, phone: Path, python: Path | None = None, fault: str = "") -> Path:
    """Write the .zip of an SDK and return its path.

    Args:
        folder: where to, under a name that says nothing, as real ones have.
        version: a key of `LAYOUTS`.
        phone: the interpreter of the programs that run on the phone.
        python: one that the SDK brings along for its converters, in `env`.
        fault: what it does wrong; see tests/lab/snpe.
    """
    top, target, skel, options = LAYOUTS[version]
    converters = ("snpe-onnx-to-dlc", "snpe-tensorflow-to-dlc")
    quantizers = ("snpe-dlc-quantize",) if version < "2" else ("snpe-dlc-quant", "snpe-dlc-graph-prepare")
    values = {"@VERSION@": version, "@OPTIONS@": options, "@FAULT@": fault}
    files = {
        **{f"{HOST}/{name}": _script("converter.py", "/usr/bin/env python3", values) for name in converters},
        **{f"{HOST}/{name}": _script("quantizer.py", "/usr/bin/env python3", values) for name in quantizers},
        f"{HOST}/snpe-dlc-info": _script("dlc_info.py", "/usr/bin/env python3", values),
        # a program, not a script of Python, and without the right to be executed as all of them
        f"{HOST}/snpe-diagview": f'#!/bin/sh\nexec {phone} "$SNPE_ROOT/{HOST}/diagview.py" "$@"\n',
        f"{HOST}/diagview.py": _script("diagview.py", "/usr/bin/env python3", values),
        f"bin/{target}/snpe-net-run": _script("net_run.py", str(phone), values),
        f"bin/{target}/snpe-throughput-net-run": _script("net_run.py", str(phone), values),
        f"lib/{target}/libSNPE.so": "simulated",
        f"lib/{target}/libc++_shared.so": "simulated",
        "lib/python/simulated.py": "",
        skel: "simulated",
        "SIMULATED": "",
    }
    if python:
        files["env/bin/python3"] = f'#!/bin/sh\nexec {python} "$@"\n'
    path = folder / "sdk.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(f"{top}/{name}"), text)  # made without modes
    return path


def of_generation_1(dlc: Path, made: Path) -> None:
    """Write a stand-in's DLC as one of SNPE 1."""
    with zipfile.ZipFile(dlc) as archive, zipfile.ZipFile(made, "w") as changed:
        about = json.loads(archive.read("about.json"))
        changed.writestr("about.json", json.dumps({**about, "generation": 1}))
        changed.writestr("network.onnx", archive.read("network.onnx"))


def _script(part: str, interpreter: str, values: dict[str, str]) -> str:
    text = (PARTS / part).read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    return f"#!{interpreter}\n{text}"
