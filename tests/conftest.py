"""Fixtures that all tests share; tests that need more than Python run with their option only."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from host.engines.venv import VenvEngine, environment
from host.session import Session
from host.toolbox import tools
from tests.project import NOWHERE
from tools.stage import Request, Result

os.environ["MOBILE_ACCELERATOR_MIRROR"] = NOWHERE

NEEDS = {"docker": "a Docker engine", "usb": "QEMU, for a USB bus with simulated devices (docs/usb-lab.md)"}

RunStage = Callable[..., tuple[Path, Result]]


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, needs in NEEDS.items():
        parser.addoption(f"--run-{marker}", action="store_true", help=f"also run the tests that need {needs}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, needs in NEEDS.items():
            if marker in item.keywords and not config.getoption(f"--run-{marker}"):
                item.add_marker(pytest.mark.skip(reason=f"needs {needs}: --run-{marker}"))


def note(text: str) -> None:
    print(text, file=sys.stderr)


@pytest.fixture(scope="session")
def tool_python() -> Callable[[str], Path]:
    """Return the interpreter of a tool's locked environment, which is made on first use."""
    return lambda tool: environment(tool, note)


@pytest.fixture(scope="session")
def run_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunStage]:
    """Run a stage through the contract in the tool's own environment; one process per tool for all tests.

    `service` names another build of the tool than its usual one.
    """
    with stages_in(tmp_path_factory.mktemp("work")) as run:
        yield run


@contextlib.contextmanager
def stages_in(work: Path) -> Iterator[RunStage]:
    """Run stages as `run_stage` does, in processes of their own: with the variables that are set now."""
    sessions: dict[str, Session] = {}
    count = 0

    def run(
        tool: str,
        command: str,
        *,
        inputs: Mapping[str, Path] | None = None,
        params: Mapping[str, Any] | None = None,
        model: str = "m",
        service: str = "",
    ) -> tuple[Path, Result]:
        nonlocal count
        count += 1
        folder = work / f"{count:03d}-{tool}-{command}"
        folder.mkdir()
        declared = tools()[tool].commands[command]
        Request(
            tool=tool,
            command=command,
            inputs={key: str(path) for key, path in (inputs or {}).items()},
            outputs={key: name.replace("{model}", model) for key, name in declared.outputs.items()},
            params=dict(params or {}),
        ).write(folder)
        service = service or tool
        if service not in sessions or not sessions[service].alive:
            engine = VenvEngine(why="tests", builds={tool: service})
            sessions[service] = Session(engine.start(tool, work, note), work)
        with (folder / "log.txt").open("w") as log:
            result = sessions[service].run(folder, log=log, on_progress=lambda *_: None, limit_s=300)
        result.raise_error()
        return folder, result

    yield run
    for session in sessions.values():
        session.__exit__(None, None, None)
