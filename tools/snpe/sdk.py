"""Qualcomm's SDK: which one the user gave, what it needs, and how its programs are called.

None of it is part of this project, nor may be: the user has it from Qualcomm. It is recognised by what is in
the folder given, or one or two levels deeper (`snpe-2.9.0.4462/`, `qairt/2.41.0.251128/`):

    bin/x86_64-linux-clang/snpe-dlc-info     and converters: Python scripts, or programs
    lib/aarch64-android*/libSNPE.so          the runtime for a phone; since 2.11 with no compiler in its name
    lib/dsp/*.so                             what the Hexagon loads; since 2.11 lib/hexagon-v*/unsigned/*.so
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from tools import vendor_sdk
from tools.stage import SdkMissing, StageError, Unsupported

DOCS = "docs/snapdragon.md says where to get one."
MISSING = f"Give SNPE or QAIRT, zip or folder: --sdk snpe=PATH (or --snpe-sdk PATH). {DOCS}"
HOST = "bin/x86_64-linux-clang"
MARK = f"{HOST}/snpe-dlc-info"
VERSION = re.compile(r"(?:^|-)(\d+(?:\.\d+){2,4})$")  # of snpe-1.31.0.522, 2.14.2.230905
SAVED_QUANTISED = re.compile(r"Saved quantized dlc to|Writing quantized model", re.IGNORECASE)
CONVERTED = re.compile(r"Conversion completed successfully|INFO_CONVERSION_SUCCESS")
ERROR = re.compile(r"\bERROR\b|\berror_code=(\d+)|^\w*Error: ")


@dataclasses.dataclass(frozen=True)
class Needs:
    """What the converters of SDKs need from version `since` on, and who says so.

    `build` is this project's build for it, "" where there can be none: its Python has no packages any more.
    """

    since: tuple[int, ...]
    system: str
    python: str
    frameworks: str
    build: str
    source: str


# The newest first. What is between two versions that somebody wrote about is taken to be as the older one.
NEEDS = (
    Needs(
        since=(2, 26),
        system="Ubuntu 22.04",
        python="3.10",
        frameworks="ONNX 1.16, TensorFlow 2.10.1",
        build="sdk310",
        source="docs.qualcomm.com 80-70014-15BY and 80-70029-15B; luxonis/modelconverter docker/rvc4",
    ),
    Needs(
        since=(2, 11),
        system="Ubuntu 20.04",
        python="3.8",
        frameworks="ONNX 1.11 or 1.12, TensorFlow 2.10.1, PyTorch 1.13.1, TFLite 2.3.0",
        build="sdk38",
        source="docs.qualcomm.com 80-70015-15B; microsoft/Olive create_python_env.sh before f23e9bc7b",
    ),
    Needs(
        since=(1, 32),
        system="Ubuntu 18.04",
        python="3.6",
        frameworks="ONNX 1.6, TensorFlow 1.15 or 2.3",
        build="",
        source="docs.qualcomm.com 80-63195-1; quic/qidk README (of 1.60 to 2.10; 1.32 to 1.59 unverified)",
    ),
    Needs(
        since=(1, 0),
        system="Ubuntu 14.04 or 16.04",
        python="2.7",
        frameworks="TensorFlow 1.8 to 1.14, ONNX 1.2; numpy 1.8.1, protobuf 2.5.0",
        build="",
        source="doc/html/setup.html of SNPE 1.17.1",
    ),
)


@dataclasses.dataclass(frozen=True)
class Sdk:
    """An SDK in `home`."""

    home: Path
    version: str

    @property
    def number(self) -> tuple[int, ...]:
        """The version as numbers; (2,) where it is unknown and the files are those of 2.x, else (1,)."""
        if self.version:
            return tuple(map(int, self.version.split(".")))
        return (2,) if self.has("snpe-dlc-quant") else (1,)

    @property
    def name(self) -> str:
        """As a person names it."""
        kind = "QAIRT" if self.home.parent.name == "qairt" or self.number >= (2, 22) else "SNPE"
        return f"{kind} {self.version or 'of an unknown version'}"

    @property
    def needs(self) -> Needs:
        """What its converters need."""
        return next(needs for needs in NEEDS if self.number >= needs.since)

    def has(self, program: str) -> bool:
        """Whether there is such a program for this machine."""
        return (self.home / HOST / program).is_file()

    def describe(self) -> dict[str, Any]:
        """Return what a record says of it: version, what it needs, and sha256 of what drives the network."""
        patterns = (
            f"{HOST}/snpe-*-to-dlc",
            "bin/aarch64-android*/snpe-net-run",
            "lib/aarch64-android*/libSNPE.so",
        )
        sums = vendor_sdk.checksums(self.home, patterns)
        hashes = {str(path.relative_to(self.home)): digest for path, digest in sums.items()}
        needs = f"{self.needs.system}, Python {self.needs.python}"
        about = {"name": self.name, "version": self.version, "needs": needs, "sha256": hashes}
        return {"sdk": about, **vendor_sdk.simulated(self.home)}

    def call(self, program: str, *arguments: str, scratch: Path) -> str:
        """Run one of its programs for this machine and return all that it printed, whatever its exit code.

        Qualcomm's programs end with 0 after some errors, so what they print and leave is what counts; see
        `made`. A program that lost its right to be executed runs all the same.

        Raises:
            Unsupported: the SDK has no such program.
            SdkMissing: there is no Python for it.
        """
        path = self.home / HOST / program
        if not path.is_file():
            message = f"{self.name} has no {program}"
            raise Unsupported(message, hint=f"Is it the package for Linux, and whole? {DOCS}")
        _, said = vendor_sdk.run([*self._launcher(path, scratch), *arguments], scratch, self._environment())
        return said

    def make(self, target: Path, success: Optional[re.Pattern[str]], program: str, *arguments: str) -> None:
        """Run a program that is to make the file `target`; believe it if the file is there and it says so.

        Raises:
            Unsupported: it did not, and named an operator or an option that it does not know.
            StageError: it did not.
        """
        said = self.call(program, *arguments, scratch=target.parent)
        there = target.is_file() and target.stat().st_size > 0
        if there and (success is None or success.search(said)):
            return
        target.unlink() if target.exists() else None
        message = f"{program} of {self.name} made nothing: {reason(said)}"
        if "No module named" in said or "ImportError" in said:
            raise StageError(
                message, hint=f"Its Python lacks a package; it needs {self.needs.frameworks}. {DOCS}"
            )
        if re.search(
            r"not supported|unsupported|unrecognized arguments|OP_NOT_SUPPORTED", said, re.IGNORECASE
        ):
            raise Unsupported(
                message, hint="The log says more; another SDK, or another form of the network, may do."
            )
        raise StageError(message, hint="The log says more.")

    def _launcher(self, path: Path, scratch: Path) -> list[str]:
        """Return the words that start a program: it may be a script of Python, and may not be executable."""
        with path.open("rb") as file:
            head = file.readline(200)
        if head.startswith(b"#!") and b"python" in head:
            return [self._python(), str(path)]
        if os.access(path, os.X_OK):
            return [str(path)]
        copy = scratch / path.name  # the SDK is not ours to change, and may be read-only
        shutil.copyfile(path, copy)
        copy.chmod(0o755)
        return [str(copy)]

    def _python(self) -> str:
        """Return an interpreter of the version that the converters need."""
        wanted = self.needs.python
        own = self.home / "env" / "bin" / "python3"
        if os.access(own, os.X_OK):
            return str(own)
        if ".".join(map(str, sys.version_info[:2])) == wanted:
            return sys.executable
        found = shutil.which(f"python{wanted}")
        # pyenv has stand-ins on PATH that fail
        if (
            found is None
            or subprocess.run([found, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode
        ):
            message = f"there is no Python {wanted} here, which the converters of {self.name} need"
            raise SdkMissing(message, hint=f"Put one at {own}. {DOCS}")
        return found

    def _environment(self) -> dict[str, str]:
        """Return the variables that the SDK's envsetup.sh sets, as far as its programs need them."""
        return vendor_sdk.environment(
            {
                "SNPE_ROOT": str(self.home),
                "QNN_SDK_ROOT": str(self.home),
                "PATH": f"{self.home / HOST}:{os.environ.get('PATH', '')}",
                "LD_LIBRARY_PATH": f"{self.home / 'lib' / 'x86_64-linux-clang'}",
                "PYTHONPATH": f"{self.home / 'lib' / 'python'}",
                "PYTHONDONTWRITEBYTECODE": "1",
            }
        )


def find(folder: Optional[Path]) -> Sdk:
    """Return the SDK in `folder`.

    Raises:
        SdkMissing: none was given, or it is something else.
    """
    if folder is None:
        message = "SNPE's converters and runtimes are in an SDK of Qualcomm's that nobody may pass on"
        raise SdkMissing(message, hint=MISSING)
    for start in ("", "*/", "*/*/"):
        found = sorted(folder.glob(start + MARK))
        if len(found) > 1:
            names = ", ".join(str(path.parents[2].relative_to(folder)) for path in found)
            message = f"there are {len(found)} SDKs in {folder.name}: {names}"
            raise SdkMissing(message, hint="Give the folder of one of them: --sdk snpe=PATH")
        if found:
            home = found[0].parents[2]
            return Sdk(home, _version(home))
    raise _something_else(folder)


def reason(said: str) -> str:
    """Return the line of a program's output that says why it failed: the last error, else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.search(line)]
    return (errors or lines or ["it said nothing"])[-1][:400]


def build_for(folder: Path) -> str:
    """Return the build of this tool that an SDK's converters need, "" for the usual one.

    An SDK that has its own Python (`env/bin/python3`) needs none.
    """
    try:
        found = find(folder)
    except SdkMissing:
        return ""
    return "" if (found.home / "env" / "bin" / "python3").exists() else found.needs.build


def _version(home: Path) -> str:
    """Return the version that the folder's name says; "" where it was renamed and says none."""
    match = VERSION.search(home.name)
    return match[1] if match else ""


def _something_else(folder: Path) -> SdkMissing:
    qnn = next(
        (path for start in ("", "*/", "*/*/") for path in folder.glob(f"{start}lib/*/libQnnHtp.so")), None
    )
    other = f"it is QNN's ({qnn.parents[2].name}), which has none of SNPE's programs" if qnn else ""
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    message = f"what was given is no SNPE and no QAIRT: {other or f'there is no {MARK} in it, but {names}'}"
    return SdkMissing(message, hint=MISSING)
