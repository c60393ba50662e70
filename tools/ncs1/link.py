"""The other end of tools/ncs1/worker.py: a network on the stick, in a process of the SDK's own Python."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import movidius
from tools.stage import DeviceNotFound, StageError
from tools.usb import Host

if TYPE_CHECKING:
    import numpy as np

WORKER = Path(__file__).with_name("worker.py")
# What is said of a stick that is not there, or is no longer: by mvncapi.py, the MYRIAD plug-in, worker.py.
GONE = re.compile(
    r"NC_ERROR|X_LINK_|DEVICE_NOT_FOUND|no Neural Compute Stick|Status\.(ERROR|TIMEOUT|GONE|MYRIAD_ERROR)"
)


class Worker:
    """A process with a network on the stick; a context manager that ends it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start it: argv is the interpreter, then the worker's kind and what that takes.

        Raises:
            DeviceNotFound: there is no stick.
            StageError: the SDK could not be used, or not this network.
        """
        receive, send = os.pipe(), os.pipe()
        python, kind, *arguments = argv
        command = [python, str(WORKER), kind, str(send[0]), str(receive[1]), *arguments]
        self._child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(send[0], receive[1]),
        )
        os.close(send[0])
        os.close(receive[1])
        self._answers, self._requests = os.fdopen(receive[0], "rb"), os.fdopen(send[1], "wb")
        try:
            self.facts: dict[str, Any] = json.loads(self._read())
        except BaseException:
            self.close()
            raise

    def ask(self, letter: bytes, payload: bytes = b"") -> bytes:
        """Return the answer to a request of worker.py's.

        Raises:
            DeviceNotFound: the stick does not answer any more.
            StageError: something else went wrong in the SDK.
        """
        with contextlib.suppress(BrokenPipeError):  # it ended; what it said last is read below
            self._requests.write(letter + struct.pack("<I", len(payload)) + payload)
            self._requests.flush()
        return self._read()

    def close(self) -> None:
        """End the process, and with it its hold on the stick."""
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> bytes:
        head = self._answers.read(5)
        payload = self._answers.read(struct.unpack("<I", head[1:])[0]) if len(head) == 5 else b""
        if head[:1] == b"+":
            return payload
        if head[:1] == b"-":
            raise _failure(payload.decode(errors="replace"))
        message = f"the SDK's process ended with code {self._child.wait()}"
        raise StageError(message, hint="The log says more.")


def _failure(said: str) -> StageError:
    line = " ".join(said.split())[:400]
    if GONE.search(said):
        now, hint = movidius.instead(movidius.examine(Host.current()))
        message = f"the first-generation stick does not answer: {line}; on USB now: {now}"
        return DeviceNotFound(message, hint=hint)
    hint = "The log says more; docs/first-generation.md says what the SDK needs."
    return StageError(f"the SDK failed: {line}", hint=hint)


class StickSession:
    """A network on the stick, as tools/benchmark.py uses it.

    An inference is one message to the worker and one back, which is part of what is measured: 0.014 ms
    (tests/bench/ncs1_link.py). The least that was published of this stick is 3 ms.
    """

    def __init__(
        self, worker: Worker, input_shapes: Mapping[str, tuple[int, ...]], output_shape: Sequence[int]
    ) -> None:
        self._worker = worker
        self._output_shape = list(output_shape)
        self.input_shapes = input_shapes
        self.metadata: dict[str, Any] = {"device_name": worker.facts["device_name"]}

    def feed(self, batches: Mapping[str, np.ndarray]) -> None:
        """Set the input; both SDKs take one only."""
        import numpy as np

        [batch] = batches.values()
        self._worker.ask(b"f", batch.astype(np.float32).tobytes())

    def infer(self) -> None:
        """Run one inference."""
        self._worker.ask(b"i")

    def output(self) -> np.ndarray:
        """Return the output; one of another length than it should be stays flat, and the gate refuses it."""
        import numpy as np

        values = np.frombuffer(self._worker.ask(b"o"), np.float32).copy()
        fits = values.size == math.prod(self._output_shape)
        return values.reshape(self._output_shape if fits else [1, -1])

    def operations(self) -> Mapping[str, int]:
        """Return nothing: the SDKs do not say; the chip computes in float16."""
        return {}
