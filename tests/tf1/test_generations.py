"""TensorFlow 2.15 and 1.15 run the same code, read each other's files, and compute the same function."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host import ROOT
from host.engines.venv import installed_python, tool_environment
from host.toolbox import builds
from tests.project import Project
from tests.tf1.conftest import FREEZE, GENERATE, Run, pick, zoo_row
from tools.stage import Unsupported

NEW, OLD = "tf1", "tf1-legacy"
MODELS = ["squeezenet", "mobilenet_v2_1.0"]
FROZEN = ("frozen", "signature")
TOLERANCE = 1e-5  # of the outputs' spread: both sum in float32, in another order

Made = dict[str, Path]
BothMade = Callable[[str], dict[str, Made]]


@pytest.fixture(scope="session")
def old_python() -> Path:
    """Return the interpreter for the older generation; without one there is nothing to compare."""
    version = builds()[OLD].python
    python = installed_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine (pyenv install {version}), which {OLD} needs")
    return python


@pytest.fixture(scope="session")
def both(tf1: Run, old_python: Path) -> BothMade:
    """Return what each generation makes of a model, by its service's name."""

    @functools.cache
    def make(model: str) -> dict[str, Made]:
        return {service: _made(tf1, model, service) for service in (NEW, OLD)}

    return make


def _made(tf1: Run, model: str, service: str) -> Made:
    made: Made = tf1("export", model, {}, **zoo_row(model), service=service)
    made |= tf1("generate-weights", model, pick(made, GENERATE), service=service)
    return made | tf1("freeze", model, pick(made, FREEZE), save_weights=True, service=service)


def _outputs(tf1: Run, model: str, made: Made, service: str) -> tuple[np.ndarray, np.ndarray]:
    path = tf1("reference", model, pick(made, FROZEN), n_inputs=3, service=service)["reference"]
    with np.load(path) as reference:
        return reference["inputs/input"], reference["outputs"]


def _differ(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of how far the outputs lie apart."""
    return float(np.abs(found - expected).max() / np.ptp(expected))


pytestmark = pytest.mark.tool


@pytest.mark.parametrize("model", MODELS)
def test_generated_weights_have_the_same_names_and_bytes(both: BothMade, model: str) -> None:
    with np.load(both(model)[NEW]["weights"]) as new, np.load(both(model)[OLD]["weights"]) as old:
        assert new.files == old.files
        for name in new.files:
            assert new[name].tobytes() == old[name].tobytes(), name


@pytest.mark.parametrize("model", MODELS)
def test_one_checkpoint_gives_the_same_outputs(tf1: Run, both: BothMade, model: str) -> None:
    new, old = both(model)[NEW], both(model)[OLD]
    checkpoint = pick(new, ("ckpt_index", "ckpt_data"))
    frozen = tf1("freeze", model, {**pick(old, ("graph", "signature")), **checkpoint}, service=OLD)
    inputs, expected = _outputs(tf1, model, new, NEW)
    same_inputs, found = _outputs(tf1, model, {**old, **frozen}, OLD)
    assert np.array_equal(inputs, same_inputs)
    assert _differ(found, expected) < TOLERANCE


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("writer", "reader"), [(NEW, OLD), (OLD, NEW)])
def test_each_reads_the_others_files(tf1: Run, both: BothMade, model: str, writer: str, reader: str) -> None:
    made = both(model)[writer]
    again = tf1("freeze", model, pick(made, FREEZE), service=reader)
    _, expected = _outputs(tf1, model, made, writer)
    for frozen in (made["frozen"], again["frozen"]):
        _, found = _outputs(tf1, model, {**made, "frozen": frozen}, reader)
        assert _differ(found, expected) < TOLERANCE


def test_every_module_is_one_for_the_older_python(
    old_python: Path, tool_python: Callable[[str], Path]
) -> None:
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "tools" / "tf1").rglob("*.py")]
    modules = [".".join(path.parts) for path in files if path.name != "__main__"]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    argv = [tool_python(OLD), "-c", code, *modules]
    done = subprocess.run(argv, env=tool_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tools.tf1.networks.nasnet" in modules


def test_the_older_one_names_what_it_cannot_convert(tf1: Run, both: BothMade, tmp_path: Path) -> None:
    made = both("squeezenet")[OLD]
    odd = tmp_path / "m.frozen.pb"
    odd.write_bytes(made["frozen"].read_bytes().replace(b"Relu", b"Atan"))
    with pytest.raises(Unsupported, match="cannot be converted to TFLite: Atan"):
        tf1("to-tflite", "m", {**pick(made, FROZEN), "frozen": odd}, service=OLD)


def test_the_older_one_is_asked_for_by_its_version(tmp_path: Path, old_python: Path) -> None:
    project = Project(ROOT, tmp_path / "work")
    arguments = ("--model", "squeezenet", "--tensorflow", "1.15")
    done = project.run("run", "tf1.export", *arguments)
    assert done.returncode == 0, done.stderr
    run = json.loads((project.work / "runs" / "latest" / "run.json").read_text())
    assert run["builds"] == {NEW: OLD}
    [stage] = run["stages"]
    result = json.loads((project.work / "store" / stage["key"] / "result.json").read_text())
    assert result["versions"]["tensorflow"] == "1.15.5"
    assert _actions(project, *arguments)["tf1.export"] == "cached"
    assert _actions(project, *arguments[:2])["tf1.export"] == "run"  # the other generation's is another


def _actions(project: Project, *arguments: str) -> dict[str, str]:
    stages = json.loads(project.run("plan", "--json", *arguments).stdout)["stages"]
    return {stage["stage"]: stage["action"] for stage in stages}


@pytest.fixture
def no_interpreters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every Python but the one that runs the tests."""
    for variable in ("PATH", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "MOBILE_ACCELERATOR_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")


@pytest.mark.usefixtures("no_interpreters")
def test_no_interpreter_is_told(tmp_path: Path) -> None:
    project = Project(ROOT, tmp_path / "work")
    done = project.run("run", "tf1.export", "--model", "squeezenet", "--tensorflow", "1.15")
    assert done.returncode == 7, done.stderr
    assert "unavailable" in done.stdout
    assert "the environment of tf1-legacy could not be made: error: No interpreter found for Python 3.7" in (
        " ".join(done.stdout.split())
    )
    assert "It needs Python 3.7" in done.stdout


@pytest.mark.usefixtures("no_interpreters")
def test_pyenvs_newest_is_found(tmp_path: Path) -> None:
    versions = tmp_path / "PYENV_ROOT" / "versions"
    assert installed_python("3.7") is None
    for name in ("3.7.9", "3.7.16", "3.70.1", "3.8.18"):
        (versions / name / "bin").mkdir(parents=True)
        (versions / name / "bin" / "python3.7").touch()
    assert installed_python("3.7") == versions / "3.7.16" / "bin" / "python3.7"
