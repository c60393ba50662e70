"""Planning: names, parameters, and which stages a target needs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from host import toolbox, zoo
from host.plan import Planner, main_job, parse_settings, prepare
from host.store import Store
from tests.project import Project
from tools.stage import InvalidRequest

BACKENDS = ("onnx", "openvino", "tflite")


def planner(name: str = "squeezenet", **settings: object) -> Planner:
    return Planner(zoo.find(name), {}, settings)


def test_the_main_job_in_order() -> None:
    names = [stage.name for stage in main_job(planner(), BACKENDS)]
    assert names[:4] == ["tf1.export", "tf1.generate-weights", "tf1.freeze", "tf1.reference"]
    assert len(set(names)) == len(names)
    for before, after in [
        ("tf1.freeze", "tf1.to-onnx"),
        ("tf1.to-onnx", "onnx.benchmark"),
        ("openvino.convert", "openvino.benchmark[CPU,fp32]"),
        ("tf1.to-tflite", "tflite.benchmark[tflite]"),
        ("tf1.reference", "tflite.benchmark[litert]"),
    ]:
        assert names.index(before) < names.index(after)


def test_prepare_ends_with_the_reference() -> None:
    assert [stage.command.name for stage in prepare(planner())] == [
        "export",
        "generate-weights",
        "freeze",
        "reference",
    ]


def test_parameters_come_from_the_zoo_then_settings_then_the_target() -> None:
    made = planner("mobilenet_v2_1.4", budget_s=3.0)
    target = made.add(toolbox.find("onnx.benchmark"), {"threads": 1})
    assert target.params["budget_s"] == 3.0
    assert target.params["threads"] == 1
    [export] = [stage for stage in made.stages if stage.name == "tf1.export"]
    assert export.params["network"] == "mobilenet_v2"
    assert export.params["depth_multiplier"] == 1.4
    assert export.outputs["graph"] == "mobilenet_v2_1.4.inf.pb"


def test_a_given_file_replaces_what_makes_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.onnx"
    mine.write_text("not a network")
    entry = Store(tmp_path / "work").take_in({"onnx": mine})
    made = Planner(zoo.find("squeezenet"), {"onnx": entry}, {})
    target = made.add(toolbox.find("onnx.benchmark"))
    assert "tf1.to-onnx" not in [stage.name for stage in made.stages]
    assert target.inputs["onnx"] is entry


def test_a_precision_reads_what_is_made_for_it() -> None:
    made = planner()
    stages = main_job(made, ("openvino", "tflite"), ("int8", "fp32", "int8"))
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)  # so are their logs' and folders' names
    named = dict(zip(names, stages, strict=True))
    quantised, plain = (named[f"tflite.benchmark{which}"] for which in ("[int8,litert]", "[litert]"))
    assert {source.name for source in quantised.needs()} == {"tf1.to-tflite-int8", "tf1.reference"}
    assert {source.name for source in plain.needs()} == {"tf1.to-tflite", "tf1.reference"}
    assert (quantised.made_as, plain.made_as) == ({"tflite": "tflite_int8"}, {})
    on_gpu = named["openvino.benchmark[GPU,int8]"]
    assert on_gpu.made_as == {"xml": "xml_int8", "bin": "bin_int8"}
    assert names.count("openvino.quantize") == names.count("tf1.calibration") == 1


def test_what_computes_in_one_precision_only_reads_the_usual_file_in_it() -> None:
    """The stick's compiler makes its own float16, although onnx.to-fp16 makes an `onnx_fp16`."""
    made = planner()
    command = toolbox.find("ncs.benchmark")
    usual, other = made.add(command), made.add(command, {"precision": "int8"})
    assert (usual.params["precision"], usual.made_as) == ("fp16", {})
    assert other.made_as == {"onnx": "onnx_int8"}


def test_without_a_precision_each_variant_has_its_own() -> None:
    names = [stage.name for stage in main_job(planner(), ("openvino",))]
    assert [name for name in names if "benchmark" in name] == [
        f"openvino.benchmark[{which}]" for which in ("CPU,fp32", "GPU,fp16", "NPU,fp16")
    ]


def test_variants_that_differ_in_the_precision_only_are_one_where_it_is_given() -> None:
    names = [stage.name for stage in main_job(planner(), ("snpe",), ("int16",))]
    assert [name for name in names if "emulate" in name] == ["snpe.emulate[int16]"]
    assert {"snpe.context-int16", "snpe.convert-int16", "snpe.compare-int16"} < set(names)


def test_the_chip_reaches_all_stages_that_compile_for_it() -> None:
    stages = main_job(planner(soc="sm8650"), ("snpe",))
    chips = {stage.name: stage.params["soc"] for stage in stages if "soc" in stage.params}
    assert chips.keys() == {
        "snpe.context",
        "snpe.context-int8",
        "snpe.emulate[fp16]",
        "snpe.emulate[int8]",
        "snpe.quantize-sdk",
    }
    assert set(chips.values()) == {"sm8650"}


@pytest.mark.parametrize("artifact", ["onnx", "onnx_int8_dynamic"])
def test_a_given_file_is_read_in_any_precision(tmp_path: Path, artifact: str) -> None:
    mine = tmp_path / "mine.onnx"
    mine.write_text("not a network")
    entry = Store(tmp_path / "work").take_in({artifact: mine})
    made = Planner(zoo.find("squeezenet"), {artifact: entry}, {})
    target = made.add(toolbox.find("onnx.benchmark"), {"precision": "int8-dynamic"})
    assert target.inputs["onnx"] is entry
    assert target.made_as.get("onnx", "onnx") == artifact
    assert "onnx.quantize-dynamic" not in [stage.name for stage in made.stages]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(InvalidRequest) as stage:
        toolbox.find("tflite.benchmrk")
    assert "tflite.benchmark" in stage.value.hint
    with pytest.raises(InvalidRequest) as model:
        zoo.find("squeznet")
    assert "squeezenet" in model.value.hint


@pytest.mark.parametrize("name", ["../squeezenet", "mobilenet_v2_x", "mobilenet_v2_0.0", "squeezenet/x"])
def test_names_that_are_no_network(name: str) -> None:
    with pytest.raises(InvalidRequest):
        zoo.find(name)


def test_any_depth_multiplier() -> None:
    assert zoo.find("mobilenet_v1_0.37").params["depth_multiplier"] == 0.37


def test_settings_have_the_types_of_the_command() -> None:
    command = toolbox.find("onnx.benchmark")
    assert parse_settings(["threads=2", "budget_s=1"], command) == {"threads": 2, "budget_s": 1.0}
    for bad in ("threads", "threads=two", "=1"):
        with pytest.raises(InvalidRequest):
            parse_settings([bad], command)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no parameter 'colour'"):
        planner().add(toolbox.find("onnx.benchmark"), {"colour": "red"})


def test_every_command_has_help() -> None:
    from typer.main import get_command

    import runner

    group = get_command(runner.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help or command.short_help, name
    assert CliRunner().invoke(runner.app, ["all", "--help"]).exit_code == 0
    assert "instead of a model" in CliRunner().invoke(runner.app, ["flops", "--help"]).stdout  # an argument's


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["all", "--model", "squeznet"], 2, "Did you mean squeezenet"),
        (["run", "tflite.benchmrk", "--model", "squeezenet"], 2, "Did you mean tflite.benchmark"),
        (["all", "--model", "../squeezenet"], 2, "is not a name"),
        (["all", "--model", "squeezenet", "--backend", "tflit"], 2, "Did you mean tflite"),
        (["all", "--model", "squeezenet", "--weights", "nowhere.ckpt"], 2, "not the prefix of a checkpoint"),
        (["run", "onnx.benchmark", "--model", "squeezenet", "--input", "onnx"], 2, "--input name=path"),
        (["run", "onnx.benchmark", "--model", "squeezenet", "--input", "onnx=nowhere"], 2, "cannot be read"),
        (["run", "onnx.benchmark", "--model", "squeezenet", "--set", "threads=x"], 2, "--set name=value"),
        (["all", "--model", "squeezenet", "--engine", "podman"], 2, "no engine 'podman'"),
        (
            ["all", "--model", "squeezenet", "--precision", "int4"],
            2,
            "Precisions: fp32, fp16, int8-dynamic, int8",
        ),
        (
            ["run", "onnx.benchmark", "--model", "squeezenet", "--set", "precision=int4"],
            2,
            "Precisions: fp32",
        ),
        (["all", "--model", "squeezenet", "--precision", "INT8"], 2, "Did you mean int8?"),
        (["all", "--model", "squeezenet", "--precision", "int-8"], 2, "Did you mean int8?"),
        (["all", "--model", "squeezenet", "--weights", "generted"], 2, "Did you mean generated?"),
        (["all", "--model", "BERT_TINY"], 2, "Did you mean bert_tiny?"),
        (["models", "show", "bert_base_99999"], 2, "from 1 to 512"),
        (
            ["run", "onnx.benchmark", "--model", "squeezenet", "--set", "precison=int8"],
            2,
            "Did you mean precision?",
        ),
        (["all", "--model", "squeezenet", "--tensorflow", "1.14"], 2, "Choose one of 2.15, 1.15"),
        (["report", "nowhere"], 2, "there is no run 'nowhere'"),
        (["all", "--model", "squeezenet", "--soc", "sm8551"], 2, "Did you mean sm8550?"),
        (["run", "snpe.emulate", "--model", "squeezenet", "--soc", "sm8551"], 2, "Did you mean sm8550?"),
    ],
)
def test_a_wrong_command_line_says_what_to_do(
    tmp_path: Path, arguments: list[str], exit_code: int, said: str
) -> None:
    project = Project(Path(__file__).parents[1], tmp_path / "work")
    done = project.call([*project.argv(*arguments), "--work", str(project.work)])
    assert done.returncode == exit_code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_plan_runs_nothing_and_is_quick(tmp_path: Path) -> None:
    project = Project(Path(__file__).parents[1], tmp_path / "work")
    begun = time.monotonic()
    done = project.run("plan", "--model", "squeezenet")
    assert done.returncode == 0, done.stderr
    assert "tf1.generate-weights" in done.stdout
    assert not list((project.work / "store").iterdir())
    assert time.monotonic() - begun < 5  # the aim, 0.4 s, is measured by tests/bench/runner_overhead.py
