"""Which Docker client builds, and how a command's failure is told. The clients here are small scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.docker_cli import Console, builder, client
from tools.stage import Unavailable

OLD = 'echo "Docker version 20.10.24+dfsg1, build 297e128"; [ "$1" = --version ]'
NEW = 'echo "Docker version 28.2.2, build e6534b4"; [ "$1" = --version ]'
NEW_WITH_BUILDX = 'echo "Docker version 28.2.2, build e6534b4"'
PODMAN = 'echo "podman version 4.3.1"'


def on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, *scripts: str) -> list[str]:
    """Put one `docker` a folder on PATH, and nothing else; return their paths."""
    paths = [folder / str(number) / "docker" for number in range(len(scripts))]
    for path, script in zip(paths, scripts, strict=True):
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", ":".join(str(path.parent) for path in paths))
    return [str(path) for path in paths]


@pytest.mark.parametrize(
    ("scripts", "chosen"),
    [
        ([OLD], 0),
        ([NEW, OLD], 1),
        ([NEW_WITH_BUILDX, OLD], 0),
        ([NEW, NEW_WITH_BUILDX], 1),
        ([PODMAN, OLD], 1),
    ],
)
def test_a_client_that_can_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scripts: list[str], chosen: int
) -> None:
    paths = on_path(monkeypatch, tmp_path, *scripts)
    assert builder() == paths[chosen]
    assert client() == paths[0]


def test_no_client_that_can_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path(monkeypatch, tmp_path, NEW)
    with pytest.raises(Unavailable, match="buildx plug-in is missing") as caught:
        builder()
    assert "docker-buildx" in caught.value.hint


def test_no_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no docker client") as caught:
        client()
    assert "--engine venv" in caught.value.hint


def test_a_failed_command_is_told_by_its_last_lines(tmp_path: Path) -> None:
    notes: list[str] = []
    lines: list[str] = []
    console = Console(log=tmp_path / "log.txt", note=notes.append, live=lines.append)
    argv = ["sh", "-c", 'for n in 1 2 3 4 5; do echo "line $n"; echo; done; echo "the reason" >&2; exit 3']
    with pytest.raises(Unavailable) as caught:
        console.run(argv, failed="it did not work", hint="Do this")
    assert str(caught.value) == "it did not work: line 3 | line 4 | line 5 | the reason"
    assert caught.value.hint == f"Do this (log: {tmp_path / 'log.txt'})"
    assert notes == [f"$ sh -c '{argv[2]}'"]
    assert lines[0] == "line 1"
    assert "line 1\n" in console.log.read_text()
    console.run(["true"], failed="it did not work", hint="")
    assert console.log.read_text().endswith("$ true\n")
