"""A stick that is simulated, on a USB bus that is real: in a guest of its own for each run."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from tests.lab.usb.guest import Guest


@dataclasses.dataclass(frozen=True)
class Run:
    """What a command printed next to a stick, and what the stick saw."""

    code: int | None
    output: str
    events: list[dict[str, Any]]
    firmware: bytes

    @property
    def products(self) -> list[str]:
        """The ids under which the stick was on the bus, in that order."""
        return [event["product"] for event in self.events if event["event"] == "plugged in"]

    @property
    def asked(self) -> list[tuple[str, str]]:
        """What the plug-in wanted of the booted stick: kinds of XLink events, and streams."""
        return [(e["kind"], e["stream"]) for e in self.events if e["event"] == "xlink event"]


BesideStick = Callable[..., Run]


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    return Guest.make(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def beside_stick(guest: Guest, tmp_path: Path) -> BesideStick:
    """Run a command in the guest while a stick is plugged in; `tmp_path` is there too."""

    def run(*command: object, fault: str = "none", limit_s: float = 240) -> Run:
        stick = [sys.executable, "-m", "tests.lab.usb.stick", "--report", str(tmp_path), "--fault", fault]
        outcome = guest.run(*stick, *map(str, command), shared=tmp_path, limit_s=limit_s, cwd=ROOT)
        firmware = tmp_path / "firmware"
        return Run(
            code=outcome.code,
            output=outcome.output,
            events=[json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()],
            firmware=firmware.read_bytes() if firmware.exists() else b"",
        )

    return run
