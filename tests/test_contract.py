"""The contract between host and tools, and the rules that keep the two apart."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from host import ROOT, toolbox
from host.compose import load
from tools import stage
from tools.stage import (
    ERRORS,
    Input,
    InvalidRequest,
    Output,
    Request,
    Result,
    StageError,
    Tool,
    Unsupported,
    check_name,
)

OLDEST = (3, 7)  # Python in images/ of toolchains that have nothing newer
BACKPORTS = {"importlib_metadata", "typing_extensions"}  # of what is in the standard library since then
TOOL_MODULES = sorted((ROOT / "tools").rglob("*.py"))


def module_imports(tree: ast.Module) -> set[str]:
    """Top-level packages that a module imports when it is imported itself."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_contract_imports_the_standard_library_only() -> None:
    tree = ast.parse((ROOT / "tools" / "stage.py").read_text(), feature_version=OLDEST)
    every = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    every |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in every} - {"tools"} - BACKPORTS <= sys.stdlib_module_names
    assert {name for name in every if name.startswith("tools")} == {"tools"}  # tools.cli, in main() only


@pytest.mark.parametrize("path", TOOL_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tools_are_in_the_syntax_of_the_oldest_python(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)


@pytest.mark.parametrize("name", toolbox.tools())
def test_the_host_needs_no_toolchain_to_know_a_tool(name: str) -> None:
    path = Path(sys.modules[f"tools.{name}"].__file__ or "")
    assert module_imports(ast.parse(path.read_text())) <= sys.stdlib_module_names | {"tools"}


def test_one_name_in_every_place() -> None:
    images = {folder.name for folder in (ROOT / "images").iterdir() if folder.is_dir()}
    assert images == set(toolbox.tools())
    assert set(load(ROOT / "compose.yaml", {})) == set(toolbox.builds())
    assert all(tool.name == name for name, tool in toolbox.tools().items())


@pytest.mark.parametrize("build", toolbox.builds().values(), ids=toolbox.builds())
def test_locks_have_hashes_and_name_no_index(build: toolbox.Build) -> None:
    wanted, lock = build.lock.with_suffix(".in").read_text(), build.lock.read_text()
    assert f"typer=={'0.19.1' if build.python in ('3.7', '3.8') else '0.23.2'}" in wanted.split()
    assert "://" not in lock
    pins = [line for line in lock.splitlines() if line and not line.startswith((" ", "#", "--"))]
    assert all("==" in pin and pin.endswith("\\") for pin in pins)


def test_every_input_has_one_maker() -> None:
    """What the main job reads, some stage makes; files that only a person has are optional or given."""
    inputs = {
        name for command in toolbox.commands() for name in command.inputs if name not in command.optional
    }
    # `results` and `measured` the runner writes, a trained `checkpoint` and a `capture` a person has;
    # `described` each file format has a command for, a `trace` each meter, and the plan says which
    for artifact in inputs - {"results", "measured", "checkpoint", "described", "capture", "trace"}:
        assert toolbox.producer(artifact)


def toy() -> Tool:
    tool = Tool("toy", packages=("pytest", "there-is-no-such-package"))

    @tool.command(variants=({"size": 1}, {"size": 2}))
    def make(
        source: Input,
        made: Output = "{model}.txt",
        extra: Input | None = None,
        size: int = 1,
        name: str = "x",
    ) -> Result:
        """Make it."""
        if name == "unsupported":
            message = "no such operator"
            raise Unsupported(message, hint="Use another.", metrics={"seen": 1.0})
        if name == "bug":
            raise ZeroDivisionError(name)
        if name != "lazy":
            made.write_text(source.read_text() * size)
        return Result(metrics={"size": size})

    return tool


def folder_for(tmp_path: Path, **params: object) -> Path:
    folder = tmp_path / "stage"
    folder.mkdir()
    (tmp_path / "source.txt").write_text("abc")
    Request(
        tool="toy",
        command="make",
        inputs={"source": "../source.txt"},
        outputs={"made": "m.txt"},
        params=params,
    ).write(folder)
    return folder


def batch(tool: Tool, *folders: Path) -> int:
    """Run a batch in a child: it takes over standard output."""
    import os

    child = os.fork()
    if child == 0:
        os._exit(tool.batch(str(folder) for folder in folders))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_signature_is_the_declaration() -> None:
    command = toy().commands["make"]
    assert command.inputs == ("source", "extra")
    assert command.optional == ("extra",)
    assert command.outputs == {"made": "{model}.txt"}
    assert command.params == {"size": 1, "name": "x"}
    assert command.full_name == "toy.make"
    assert command.cached
    assert not command.fresh


def test_a_stage_from_request_to_result(tmp_path: Path) -> None:
    folder = folder_for(tmp_path, size=2)
    assert batch(toy(), folder) == 0
    result = Result.read(folder)
    assert (folder / "m.txt").read_text() == "abcabc"
    assert result.outputs == {"made": "m.txt"}
    assert result.metrics == {"size": 2}
    assert set(result.versions) == {"python", "pytest"}
    assert result.error is None


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("unsupported", Unsupported, "no such operator"),
        ("bug", StageError, "ZeroDivisionError: bug"),
        ("lazy", StageError, "without making m.txt"),
    ],
)
def test_errors_cross_the_border_as_their_class(
    tmp_path: Path, name: str, error: type[StageError], message: str
) -> None:
    folder = folder_for(tmp_path, name=name)
    assert batch(toy(), folder) == error.exit_code
    with pytest.raises(error, match=message) as caught:
        Result.read(folder).raise_error()
    assert type(caught.value) is error
    assert caught.value.hint


def test_a_failure_does_not_end_the_batch(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    bad, good = folder_for(first, name="bug"), folder_for(second, size=1)
    assert batch(toy(), bad, good) == 1
    assert (good / "m.txt").read_text() == "abc"


def test_another_tools_request_is_refused(tmp_path: Path) -> None:
    folder = tmp_path
    Request(tool="other", command="make", inputs={}, outputs={}, params={}).write(folder)
    assert batch(toy(), folder) == InvalidRequest.exit_code


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}'])
def test_a_result_of_another_schema_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InvalidRequest) as caught:
        Result.read(tmp_path)
    assert "images build" in caught.value.hint


def test_exit_codes_are_one_to_a_class() -> None:
    assert sorted(ERRORS) == [1, 2, 3, 4, 5, 6, 7]
    assert {error.status for error in ERRORS.values()} == {
        "failed",
        "unsupported",
        "no_device",
        "no_sdk",
        "wrong_output",
        "unavailable",
    }


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "a\n", "-x"])
def test_a_name_cannot_lead_out_of_its_folder(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_name(name, "model")


def test_writing_json_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    stage.write_json(path, {"a": 1})

    def interrupted(self: Path, text: str) -> None:
        with self.open("w") as file:
            file.write(text[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.write_json(path, {"a": 2})
    assert json.loads(path.read_bytes()) == {"a": 1}
