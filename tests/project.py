"""A copy of the project that a test may add a tool to, and its runner as a user would start it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host import ROOT

LAB = Path(__file__).parent / "lab"
NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens on: no test ever fetches from the internet
SMALL = """
[small]
about = "one convolution"
image_size = 32
channels = 3
classes = 5
layers = [
    { name = "conv", op = "conv", filters = 4, kernel = 3 },
    { name = "pool", op = "global_avg_pool" },
    { name = "flat", op = "flatten" },
    { name = "logits", op = "fully_connected", units = "classes", activation = "none" },
]
"""
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "work", "tests", "docs")


def soon(what: Callable[[], object], limit_s: float = 15.0) -> bool:
    """Whether something is so within a while."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


@dataclasses.dataclass(frozen=True)
class Project:
    """A copy of the project in `folder`, with a work folder of its own."""

    folder: Path
    work: Path
    mirror: str = NOWHERE

    @property
    def environment(self) -> dict[str, str]:
        """What keeps a test's traffic and a test's trust to the test."""
        return {
            "MOBILE_ACCELERATOR_MIRROR": self.mirror,
            "MOBILE_ACCELERATOR_LOCK": str(self.work.parent / "models.lock.toml"),
            "NO_PROXY": "127.0.0.1",
        }

    @classmethod
    def copy(cls, folder: Path) -> Project:
        shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
        return cls(folder, folder / "work")

    def add_tool(
        self, name: str, module: Path, lock: Path = LAB / "requirements.txt", settings: str = "*tool"
    ) -> None:
        """One module, one image folder, one compose service, and nothing else."""
        shutil.copy(module, self.folder / "tools" / f"{name}.py")
        image = self.folder / "images" / name
        image.mkdir()
        shutil.copy(lock, image / "requirements.txt")
        shutil.copy(lock.with_suffix(".in"), image / "requirements.in")
        compose = self.folder / "compose.yaml"
        text = compose.read_text()
        service = f"""  {name}:
    <<: {settings}
    image: mobile-accelerator/{name}:${{MOBILE_ACCELERATOR_VERSION:-0.1.0}}
    build: {{<<: *build, args: {{<<: *args, TOOL: {name}}}}}

"""
        compose.write_text(text.replace("\nsecrets:", f"\n{service}secrets:"))

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.folder / "runner.py"), *arguments]

    def run(self, *arguments: str, engine: str = "venv") -> subprocess.CompletedProcess[str]:
        """Run a command that takes --work and --engine, to its end."""
        argv = self.argv(*arguments, "--work", str(self.work), "--engine", engine)
        return self.call(argv)

    def call(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def results(self, run: str = "latest") -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.work / "runs" / run / "results.json").read_text())
        return data

    def parts(self) -> list[Path]:
        """Whatever is half-made in the work folder."""
        return [path for path in self.work.rglob("*.part") if "stages" not in path.parts]
