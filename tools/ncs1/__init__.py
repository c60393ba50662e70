"""The first-generation Neural Compute Stick (Myriad 2), driven by an SDK that the user supplies.

What this tool does with a stick was never tried on one: it is written from the SDKs' manuals and sources, and
tested with stand-ins (tests/lab/ncs1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from tools import movidius
from tools import profile as layer_times
from tools.benchmark import Target, run
from tools.ncs1.link import StickSession, Worker
from tools.ncs1.sdk import find, read_signature
from tools.stage import Input, InvalidRequest, Output, Result, StageError, Tool

tool = Tool("ncs1", packages=("numpy", "libusb-package"), sdk=True)
SHAVES = 12  # all that Myriad 2 has


class Stick:
    """A network on the stick: converted by the SDK, run in the SDK's Python; a context manager."""

    def __init__(self, frozen: Path, signature: Path, shaves: int) -> None:
        self._frozen, self._signature, self._shaves = frozen, signature, shaves
        self._open = contextlib.ExitStack()
        self.metadata: dict[str, Any] = {}

    def __enter__(self) -> Stick:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def load(self) -> StickSession:
        """Convert the network and put it on the stick; errors carry what is known of the SDK.

        Raises:
            SdkMissing, Unsupported, DeviceNotFound, StageError: what is in the way.
        """
        try:
            return self._load()
        except StageError as error:
            error.metadata = {**self.metadata, **error.metadata}
            raise

    def _load(self) -> StickSession:
        scratch = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        self._sdk = find(tool.sdk_folder(), scratch)
        self.metadata = self._sdk.describe()
        self._network = read_signature(self._frozen, _signature(self._signature))
        arguments, shape = self._sdk.convert(self._network, self._shaves)
        argv = [self._sdk.python, self._sdk.kind, *arguments]
        self._worker = self._open.enter_context(Worker(argv, self._sdk.environment(), scratch))
        inputs = self._worker.facts["inputs"] or {self._network.input_name: shape}
        shapes = {name: tuple(shape) for name, shape in inputs.items()}
        session = StickSession(self._worker, shapes, self._network.output_shape)
        self.metadata["sdk"]["versions"] = self._worker.facts["versions"]
        session.metadata.update(self.metadata)
        return session

    def profile(self, path: Path) -> Result:
        """Write the layers' times; return their sum, and a warning if there are none.

        That is no error: the latency is measured by then.
        """
        try:
            layers, said = self._sdk.profile(self._worker, self._network, self._shaves)
        except StageError as error:
            layers, said = [], {"warnings": [f"There is no profile of the layers: {error}."]}
        layer_times.write(path, layers, self._sdk.counters)
        device_ms = sum(layer.time_ms for layer in layers)
        return Result(metrics={"breakdown_device_ms": device_ms} if layers else {}, metadata=said)


@tool.command(measures=True)
def benchmark(
    plan_2450: Input,
    frozen: Input,
    signature: Input,
    reference: Input,
    samples: Output = "{model}.ncs1-latency_ns.i64",
    profile: Output = "{model}.ncs1-profile.json",
    shaves: int = SHAVES,
    precision: str = "fp16",
    budget_s: float = 10.0,
) -> Result:
    """Convert with the SDK, check against the reference, measure the latency, and profile the layers.

    `plan_2450`, what OpenVINO 2021.4 compiles for this chip, is not run: no SDK's firmware is known to take
    it. It is asked for so that what its making says of the network stands in every record, SDK or not.
    """
    target = Target("ncs1", "Myriad 2", precision, 0, budget_s)
    with Stick(frozen, signature, shaves) as stick:

        def load() -> StickSession:
            movidius.require_fp16(precision)
            return stick.load()

        measured = run(load, target, reference, samples)
        profiled = stick.profile(profile)
    metrics = {**measured.metrics, **profiled.metrics}
    other_ms = metrics["latency_p50_ms"] - metrics.get("breakdown_device_ms", math.inf)
    if other_ms > 0:  # the profile is another run's, on a stick that may have been warmer
        metrics["breakdown_host_and_usb_ms"] = other_ms
    warnings = [*measured.metadata.get("warnings", []), *profiled.metadata.get("warnings", [])]
    metadata = {**measured.metadata, **profiled.metadata, **({"warnings": warnings} if warnings else {})}
    return dataclasses.replace(measured, metrics=metrics, metadata=metadata)


def _signature(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text())
        return {key: said[key] for key in ("inputs", "output", "output_shape")}
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path.name} is not a signature with inputs, output and output_shape"
        raise InvalidRequest(message, hint="Make it again with tf1.export.") from error
