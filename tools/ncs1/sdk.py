"""The SDKs that drive a first-generation stick: which one the user gave, and how it is called.

None is part of this project: Intel's licences do not let it be passed on. What is recognised, in the folder
that the user gives or one level deeper:

    ncsdk-*/tk/mvNCCompile.py                                         NCSDK 1.x or 2.x
    deployment_tools/inference_engine/lib/intel64/usb-ma2450.mvcmd    OpenVINO, 2020.3 LTS at the latest

and in that folder `env/bin/python3`, a Python 3.5 to 3.7 with what the SDK needs; else one on PATH is taken.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Optional

from tools import ncsdk, vendor_sdk
from tools.ncs1.link import Worker
from tools.profile import Layer
from tools.stage import DeviceNotFound, SdkMissing, StageError, Unsupported

DOCS = "docs/first-generation.md says where to get one."
MISSING = f"Give NCSDK or OpenVINO 2020.3: --sdk ncs1=PATH. {DOCS}"
ENGINE = "deployment_tools/inference_engine"
FIRMWARE = f"{ENGINE}/lib/intel64/usb-ma2450.mvcmd"
PYTHONS = ("python3.7", "python3.6", "python3.5")


@dataclasses.dataclass(frozen=True)
class Network:
    """A frozen graph with one input and one output, by the names of their nodes, and their shapes."""

    frozen: Path
    input_name: str
    input_shape: Sequence[int]
    output_name: str
    output_shape: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Sdk(abc.ABC):
    """An SDK in `home`, run with the interpreter `python`; `scratch` is a folder for what it writes."""

    home: Path
    python: str
    scratch: Path

    kind: ClassVar[str]  # the worker's word for it
    runtime: ClassVar[str]  # the record's
    counters: ClassVar[str]  # whose the layers' times are
    evidence: ClassVar[Sequence[str]]  # what of it runs on the stick, or talks to it

    def describe(self) -> dict[str, Any]:
        """Return what a record says of it: version, and the sha256 of what runs on and talks to the stick."""
        sums = vendor_sdk.checksums(self.home, self.evidence)
        hashes = {path.name: digest for path, digest in sums.items()}
        about = {"version": self.version, "sha256": hashes}
        return {"runtime": self.runtime, "sdk": about, **vendor_sdk.simulated(self.home)}

    @property
    def version(self) -> str:
        """Return the version that version.txt or a folder's name says, else `unknown`."""
        for folder in (self.home, *list(self.home.parents)[:2]):
            file = folder / "version.txt"
            said = file.read_text(errors="replace") if file.is_file() else folder.name.lower()
            match = re.search(r"\d+\.[.\d]*\d", said)
            if match and (file.is_file() or "ncsdk" in said or "openvino" in said):
                return match[0]
        return "unknown"

    def environment(self) -> dict[str, str]:
        """Return the variables of its processes: its own libraries and modules, and a libusb without udev."""
        libraries = self.scratch / "lib"
        libraries.mkdir(exist_ok=True)
        self.link(libraries)
        paths = {
            "LD_LIBRARY_PATH": [libraries, *self.libraries()],
            "PYTHONPATH": self.modules(),
        }
        return vendor_sdk.environment({key: os.pathsep.join(map(str, value)) for key, value in paths.items()})

    def link(self, libraries: Path) -> None:
        """Link what its processes are to find by another name into `libraries`."""
        found = importlib.util.find_spec("libusb_package")
        if found and found.origin:
            _link(libraries / "libusb-1.0.so.0", Path(found.origin).with_name("libusb-1.0.so"))

    def libraries(self) -> list[Path]:
        """Return the folders of its shared libraries."""
        return []

    def modules(self) -> list[Path]:
        """Return the folders of its Python modules."""
        return []

    @abc.abstractmethod
    def convert(self, network: Network, shaves: int) -> tuple[list[str], tuple[int, ...]]:
        """Convert a network; return what the worker needs to run it, and the shape that it then takes.

        Raises:
            Unsupported: the SDK cannot, or not this network.
        """

    @abc.abstractmethod
    def profile(self, worker: Worker, network: Network, shaves: int) -> tuple[list[Layer], dict[str, Any]]:
        """Return the layers of the network that the worker runs, and what else the SDK says of their run."""

    def call(self, argv: Sequence[str], made: Sequence[Path]) -> str:
        """Run one of its programs; return what it printed, if it made the files `made`.

        Raises:
            Unsupported, DeviceNotFound, StageError: as the error says that it reported, if it did.
        """
        code, said = vendor_sdk.run([self.python, *argv], self.scratch, self.environment())
        name = Path(argv[0]).name
        error = ncsdk.find_error(said)
        if error:
            message = f"{name}: {error['message']}"
            raise _class_of(error["code"])(message, hint=error["hint"])
        if code or not all(path.is_file() for path in made):
            last = next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
            message = f"{name} ended with code {code}: {ncsdk.ANSI.sub('', last).strip()[:300]}"
            hint = f"The log says more. It needs what its requirements.txt names in {self.python}."
            raise StageError(message, hint=hint)
        return said


class Ncsdk(Sdk):
    """NCSDK 1.x and 2.x; `home` is the folder ncsdk-x86_64. Command lines: docs/tools of movidius/ncsdk."""

    kind = "ncsdk"
    runtime = "ncsdk"
    counters = "mvNCProfile's times on the stick, of a run of its own; a fused activation has no row."
    evidence = ("fw/*.mvcmd", "api/c/libmvnc.so.0")

    def link(self, libraries: Path) -> None:
        """Let libmvnc be found; it looks for its firmware in `mvnc` beside itself (mvnc_api.c)."""
        super().link(libraries)
        for name in ("libmvnc.so", "libmvnc.so.0"):
            _link(libraries / name, self.home / "api" / "c" / "libmvnc.so.0")
        _link(libraries / "mvnc", self.home / "fw")

    def modules(self) -> list[Path]:
        """Return the folder of its Python API, which its installer puts there and its archive lacks."""
        return [self.home / "api" / "python"]

    def convert(self, network: Network, shaves: int) -> tuple[list[str], tuple[int, ...]]:
        """Compile with mvNCCompile."""
        graph = self.scratch / "network.graph"
        self.call([*self._command("Compile", network, shaves), "-o", str(graph)], [graph])
        return [str(graph)], tuple(network.input_shape)

    def profile(self, worker: Worker, network: Network, shaves: int) -> tuple[list[Layer], dict[str, Any]]:
        """Return what mvNCProfile says, as tools/ncsdk.py reads it."""
        worker.close()  # mvNCProfile opens the stick itself
        found = ncsdk.parse(self.call(self._command("Profile", network, shaves), []))
        if found["status"] != "ok":
            raise StageError(found["reason"], hint=found["hint"])
        layers = [
            Layer(
                row["name"],
                "",
                f"{row['mflops']:g} MFLOPs, {row['bandwidth_mb_per_s']:g} MB/s",
                row["time_ms"],
            )
            for row in found["layers"]
        ]
        said = ("host_ms", "first_host_ms", "overhead_ms", "warnings")
        return layers, {"mvncprofile": {key: found[key] for key in said}}

    def _command(self, what: str, network: Network, shaves: int) -> list[str]:
        program = str(self.home / "tk" / f"mvNC{what}.py")
        ends = ["-in", network.input_name, "-on", network.output_name]
        shape = list(network.input_shape)
        size = ["-is", str(shape[2]), str(shape[1])] if len(shape) == 4 else []
        return [program, str(network.frozen), "-s", str(shaves), *ends, *size]


class Openvino(Sdk):
    """OpenVINO 2020.3 LTS; `home` is the folder that holds deployment_tools. Paths: its bin/setupvars.sh."""

    kind = "openvino"
    runtime = "openvino-2020.3"
    counters = "The MYRIAD plug-in's times on the stick, of a run with its counters on."
    evidence = (FIRMWARE, f"{ENGINE}/lib/intel64/libmyriadPlugin.so")

    def libraries(self) -> list[Path]:
        """Return the folders that setupvars.sh names, as far as the plug-in needs them."""
        parts = (f"{ENGINE}/lib/intel64", f"{ENGINE}/external/tbb/lib", "deployment_tools/ngraph/lib")
        return [self.home / part for part in parts]

    def modules(self) -> list[Path]:
        """Return the Python API's folder for this interpreter."""
        return [self.home / "python" / f"python{_version(self.python)}"]

    def convert(self, network: Network, shaves: int) -> tuple[list[str], tuple[int, ...]]:
        """Convert to IR with its Model Optimizer; the plug-in compiles that when it loads it."""
        optimizer = self.home / "deployment_tools" / "model_optimizer" / "mo.py"
        if not optimizer.is_file():
            message = f"{self.home.name} has no Model Optimizer, and reads no network without it"
            raise Unsupported(message, hint=f"Give the package `dev`, not `runtime`. {DOCS}")
        made = [self.scratch / f"network{suffix}" for suffix in (".xml", ".bin")]
        options = {
            "--input_model": network.frozen,
            "--input": network.input_name,
            "--output": network.output_name,
            "--input_shape": json.dumps(list(network.input_shape)).replace(" ", ""),
            "--data_type": "FP16",
            "--model_name": "network",
            "--output_dir": self.scratch,
        }
        self.call([str(optimizer), *(str(part) for item in options.items() for part in item)], made)
        shape = tuple(network.input_shape)
        if len(shape) == 4:  # the Model Optimizer turns NHWC into NCHW
            shape = (shape[0], shape[3], shape[1], shape[2])
        return [str(path) for path in made], shape

    def profile(self, worker: Worker, network: Network, shaves: int) -> tuple[list[Layer], dict[str, Any]]:
        """Return the plug-in's performance counters."""
        return [Layer(**layer) for layer in json.loads(worker.ask(b"p"))], {}


def find(folder: Optional[Path], scratch: Path) -> Sdk:
    """Return the SDK in `folder`.

    Raises:
        SdkMissing: there is none, or no Python to run it with.
    """
    if folder is None:
        message = "a first-generation stick needs an SDK of Intel's that nobody may pass on"
        raise SdkMissing(message, hint=MISSING)
    for pattern, kind, depth in (("ncsdk-*/tk/mvNCCompile.py", Ncsdk, 1), (FIRMWARE, Openvino, 4)):
        found = [path for start in ("", "*/") for path in sorted(folder.glob(start + pattern))]
        if found:
            return kind(found[0].parents[depth], _python(folder), scratch)
    message = f"{folder} is neither NCSDK nor an OpenVINO with the firmware of the first generation"
    hint = f"Newer OpenVINOs than 2020.3 have none (usb-ma2450.mvcmd). {DOCS}"
    raise SdkMissing(message, hint=hint)


def _python(folder: Path) -> str:
    own = folder / "env" / "bin" / "python3"
    candidates = [str(own), *filter(None, map(shutil.which, PYTHONS))]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and _version(candidate):
            return candidate
    message = f"there is no Python 3.5 to 3.7 for the SDK: neither {own} nor on PATH"
    raise SdkMissing(message, hint="docs/first-generation.md shows how to put one into `env` of its folder.")


def _version(python: str) -> str:
    """Return an interpreter's version, `3.7`; nothing if it does not run."""
    argv = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=False).stdout.decode().strip()


def _class_of(code: int) -> type[StageError]:
    if code in ncsdk.UNSUPPORTED:
        return Unsupported
    return DeviceNotFound if code in ncsdk.NO_DEVICE else StageError


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)


def read_signature(frozen: Path, said: Mapping[str, Any]) -> Network:
    """Return the network that a signature describes.

    Raises:
        Unsupported: it has several inputs, which neither SDK's interface here takes.
    """
    if len(said["inputs"]) != 1:
        message = f"the network has {len(said['inputs'])} inputs, and NCSDK takes one"
        raise Unsupported(message, hint="The networks of the table with one input are those for pictures.")
    [(name, about)] = said["inputs"].items()
    return Network(frozen.resolve(), name, about["shape"], said["output"], said["output_shape"])
