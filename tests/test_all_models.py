"""`prepare --all-models`: every network of the zoo in one plan, or a word on what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from host import ROOT, jobs, zoo
from host.options import Networks
from host.store import Store
from tests.project import Project
from tools.stage import InvalidRequest


def test_one_plan_has_every_network(tmp_path: Path) -> None:
    networks = Networks(all_models=True, weights="generated")
    stages = jobs.plan_prepare(networks, None)(Store(tmp_path / "work"), False)
    models = [stage.model for stage in stages]
    assert {"squeezenet", "mobilenet_v2_1.4", "bert_base"} <= set(models)
    assert len(models) == 4 * len(set(models)) == 4 * len(networks.found())
    assert {stage.command.tool for stage in stages} == {"tf1"}
    assert models == sorted(models, key=models.index)  # one network after the other: one graph is kept


@pytest.mark.parametrize("arguments", [[], ["--model", "squeezenet", "--all-models"]])
def test_models_or_all_of_them(tmp_path: Path, arguments: list[str]) -> None:
    done = Project(ROOT, tmp_path / "work").run("prepare", *arguments)
    assert done.returncode == 2
    assert "either models or all of them" in done.stderr


def test_a_network_that_is_not_there_is_not_every_network() -> None:
    with pytest.raises(InvalidRequest, match="no model 'squeeznet'"):
        zoo.choose(["squeeznet"], None, every=False)


@pytest.mark.tool
def test_memory_of_a_large_network_is_given_back(tmp_path: Path) -> None:
    """One process prepares AlexNet (200 MB of weights); what it holds afterwards is what it began with."""
    from tests.bench.zoo import prepare

    small, large, again = prepare(["lenet", "alexnet_v2", "cifarnet"], tmp_path / "work")
    assert [row["status"] for row in (small, large, again)] == ["ok"] * 3
    assert large["peak_mb"] > small["peak_mb"] + 400
    assert again["held_mb"] < small["held_mb"] + 100, json.dumps([small, large, again])
