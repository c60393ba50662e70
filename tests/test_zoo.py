"""The zoo: names and sizes, a user's own networks, and what is said of those that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from host import ROOT, zoo
from host.engines.venv import sources
from tests.project import Project
from tools.stage import InvalidRequest

MINE = """
[thin]
about = "AlexNet with a thinner second layer and without its last convolution"
like = "alexnet_v2"
replace.conv2 = [{ name = "conv2", op = "conv", filters = 96, kernel = 5 }]
replace.conv5 = []

[twins]
about = "Two of a network of this file"
image_size = 224
channels = 3
classes = 10
layers = [
    { name = "left", op = "block", network = "thin" },
    { name = "right", op = "block", network = "thin", input = "input" },
    { name = "sum", op = "add", inputs = ["left", "right"] },
]

[small]
about = "MobileNet for ten classes"
like = "mobilenet_v2_1.4_96"
classes = 10
"""
SHORT = """
[mine]
about = "one layer"
image_size = 8
channels = 3
classes = 10
layers = [{layer}]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_every_network_of_the_zoo_can_be_found() -> None:
    found = [zoo.find(name) for name in zoo.names()]
    assert len(found) == len({model.name for model in found}) > 20
    for model in found:
        assert model.params["network"]
        assert model.params.get("image_size") or model.params["sequence_length"]


def test_exact_names_win_over_sizes() -> None:
    assert zoo.find("vgg_16").params["image_size"] == 224
    assert zoo.find("vgg_16_96").params["image_size"] == 96
    assert zoo.find("mobilenet_v2_1.4_96").params["depth_multiplier"] == 1.4
    assert zoo.find("mobilenet_v2_1.4_96").params["image_size"] == 96
    assert zoo.find("bert_tiny_64").params["sequence_length"] == 64


@pytest.mark.parametrize(
    "name", ["squeezenet_0", "squeezenet_096", "squeezenet_", "mobilenet_v1_96", "vgg_96"]
)
def test_names_that_are_no_size(name: str) -> None:
    with pytest.raises(InvalidRequest, match="there is no model"):
        zoo.find(name)


@pytest.mark.parametrize("name", ["bert_tiny_513", "bert_base_99999", "squeezenet_4097", "mobilenet_v1_99.0"])
def test_sizes_that_are_too_large(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} has ") as error:
        zoo.find(name)
    assert re.search("number (from 1|above 0, up) to", error.value.hint)


def test_another_size_keeps_the_scope_so_that_checkpoints_restore() -> None:
    table = zoo.find("alexnet_wd8_300").table
    assert table
    assert table["scope"] == "alexnet_wd8"


def test_networks_of_the_users_own(tmp_path: Path) -> None:
    mine = write(tmp_path, MINE)
    assert zoo.names(mine)[-3:] == ["thin", "twins", "small"]
    assert "thin" not in zoo.names()
    thin, twins, small = (zoo.find(name, mine) for name in ("thin", "twins", "small"))
    assert thin.table
    assert [layer["name"] for layer in thin.table["layers"]][2:6] == ["conv2", "pool2", "conv3", "conv4"]
    assert thin.table["scope"] == "thin"
    assert twins.table
    assert twins.table["layers"][1]["layers"] == thin.table["layers"]
    assert small.params == {
        **zoo.find("mobilenet_v2_1.4").params,
        "image_size": 96,
        "classes": 10,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine\n", "mine.toml is not TOML: "),
        ("", "mine.toml describes no network"),
        ("layers = []", "mine.toml: 'layers' is outside of a network"),
        (SHORT.replace("mine", "squeezenet"), "squeezenet is the name of a network of the zoo"),
        (SHORT.replace("mine", "vgg_16_64"), "vgg_16_64 is the name of a network of the zoo"),
        (SHORT.replace("[mine]", '["../x"]'), "'../x' is not a name for a model"),
        (SHORT.replace("[mine]", '["my+net"]'), "my+net cannot have the scope 'my+net'"),
        (SHORT.replace("about", "abuot"), "mine lacks the key 'about'"),
        (SHORT.replace("classes", "klasses"), "mine lacks the key 'classes'"),
        (SHORT + "clases = 3", "mine has no key 'clases'. Did you mean classes?"),
        (SHORT.replace("image_size = 8", "image_size = true"), "mine has image_size = true."),
        (SHORT + 'preprocessing = "imagenet"', "It has to be one of inception, vgg, lenet, cifarnet"),
        (SHORT.replace("[{layer}]", "[]"), "mine.toml: mine has no layers"),
        (SHORT.replace("[{layer}]", "3"), "mine has layers = 3. It has to be a list of layers"),
        (SHORT + "labels_offset = true", "mine has labels_offset = true. It has to be 0 or 1"),
        (SHORT.replace("size = 8", "size = 2000000000"), "It has to be a whole number from 1 to 4096"),
        (SHORT + "sequence_length = 5", "mine has no key 'sequence_length'"),
        (SHORT + 'scope = "Input"', 'mine has scope = "Input"'),
        (SHORT + 'published = "http://x"', "mine has no key 'published'"),
        (
            SHORT.replace("{layer}", '{ name = "a{5..2}", op = "flatten" }'),
            "mine.toml: mine: layer 'a{5..2}' is a range of none",
        ),
        (SHORT.replace("{layer}", '{ name = "a", op = "flatten" }'), "mine.toml: mine has no weights"),
        ('[mine]\nabout = "x"\nnetwork = "bogus"\nfoo = 3', "mine.toml: mine has no key 'network'. `like`"),
        ('[mine]\nabout = "x"\nlike = "bert_tiny"\nnetwork = "bert_base"', "mine has no key 'network'"),
        ('[mine]\nabout = "x"\nlike = "bert_tiny"\nfoo = 3', "mine.toml: mine has no key 'foo'"),
        ('[mine]\nabout = "x"\nlike = "bert_tiny"\nsequence_length = -5', "has sequence_length = -5."),
        ('[mine]\nabout = "x"\nlike = "bert_tiny"\nsequence_length = 513', "from 1 to 512"),
        ('[mine]\nabout = "x"\nlike = "bert_tiny_513"', "bert_tiny_513 has sequence_length = 513"),
        (
            '[mine]\nabout = "x"\nlike = "mobilenet_v2_1.4"\ndepth_multiplier = -1.0',
            "mine.toml: mine has depth_multiplier = -1.0. It has to be a number above 0",
        ),
        (
            '[mine]\nabout = "x"\nlike = "mobilenet_v2_1.4"\ndepth_multipliers = [1.0]',
            "mine.toml: mine has no key 'depth_multipliers'",
        ),
        (
            SHORT.replace("{layer}", '{ name = "a", op = "block", network = "Thin" }'),
            "mine.toml: mine needs 'Thin', and there is no model of that name",
        ),
        (SHORT.replace("layers", "# layers"), "mine has no layers, and is not like a network that has some"),
        (SHORT + "replace.a = []", "mine has `replace`, and is like no network"),
        (
            '[mine]\nabout = "x"\nlike = "alexnet_v3"',
            "mine.toml: mine needs 'alexnet_v3', and there is no model of that name. Did you mean alexnet_v2",
        ),
        (
            '[mine]\nabout = "x"\nlike = "alexnet_v2"\nreplace.conv9 = []',
            "replaces 'conv9', which is no layer",
        ),
        ('[mine]\nabout = "x"\nlike = "bert_tiny"\nreplace.a = []', "cannot replace layers of bert_tiny"),
        ('[mine]\nabout = "x"\nlike = "bert_tiny"\nsequence_length = "9"', 'has sequence_length = "9"'),
        (
            '[mine]\nabout = "x"\nlike = "other"\n[other]\nabout = "y"\nlike = "mine"',
            "mine needs itself: mine -> other -> mine",
        ),
        (
            SHORT.replace("{layer}", '{ name = "a", op = "block", network = "mobilenet_v1_1.0" }'),
            "mine has mobilenet_v1_1.0 as a block, which is no table of layers",
        ),
    ],
)
def test_files_that_describe_no_network(tmp_path: Path, text: str, said: str) -> None:
    layer = '{ name = "a", op = "conv", filters = "classes", kernel = 8, padding = "valid" }'
    mine = write(tmp_path, text.replace("{layer}", layer))
    with pytest.raises(InvalidRequest) as error:
        zoo.find_all(sorted(set(zoo.names(mine)) - set(zoo.names())), mine)
    assert said in error.value.one_line()


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        zoo.find("squeezenet", tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="is not TOML"):
        zoo.find("squeezenet", tmp_path / "mine.toml")


def test_the_command_line_takes_a_file_of_networks(tmp_path: Path) -> None:
    mine = write(tmp_path, MINE)
    project = Project(ROOT, tmp_path / "work")
    listed = project.call(project.argv("models", "list", "--model-file", str(mine)))
    assert "twins" in listed.stdout
    shown = project.call(project.argv("models", "show", "thin", "--model-file", str(mine)))
    assert "conv2" in shown.stdout
    assert "filters 96" in shown.stdout
    planned = project.run("plan", "--model", "thin", "--model-file", str(mine), "--json")
    assert json.loads(planned.stdout)["stages"][0]["stage"] == "tf1.export"
    assert not list((project.work / "store").iterdir())
    wrong = project.run("prepare", "--model", "thine", "--model-file", str(mine))
    assert wrong.returncode == 2
    assert "Did you mean thin" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_an_edit_of_the_zoo_makes_nothing_anew() -> None:
    """No tool reads it; in a tool's identity it would change the key of every stage in the store."""
    assert zoo.FILE not in sources("tf1")
    assert ROOT / "tools" / "layer_table.py" in sources("tf1")


def test_one_broken_row_leaves_the_others_listed(tmp_path: Path) -> None:
    mine = write(tmp_path, f'{MINE}\n[broken]\nabout = "x"\nlike = "alexnet_v4"\n')
    project = Project(ROOT, tmp_path / "work")
    listed = project.call(project.argv("models", "list", "--model-file", str(mine)))
    assert listed.returncode == 2
    [line] = [line for line in listed.stdout.splitlines() if line.startswith("broken ")]
    assert "error: " in line
    assert "broken needs 'alexnet_v4'" in " ".join(listed.stdout.split())
    assert all(name in listed.stdout for name in ("squeezenet", "twins", "small"))
    as_json = project.call(project.argv("models", "list", "--model-file", str(mine), "--json"))
    assert as_json.returncode == 2
    assert {"squeezenet", "twins"} <= {model["name"] for model in json.loads(as_json.stdout)}
    assert "broken needs 'alexnet_v4'" in as_json.stderr


def test_what_is_shown_of_a_network(tmp_path: Path) -> None:
    project = Project(ROOT, tmp_path / "work")
    shown = project.call(project.argv("models", "show", "inception_v3", "--work", str(project.work)))
    assert re.search(r"^preprocessing +inception", shown.stdout, re.MULTILINE)
    assert re.search(r"^sha256 +not known", shown.stdout, re.MULTILINE)
    assert not re.search(r"None|nobody", shown.stdout)
    tokens = project.call(project.argv("models", "show", "bert_tiny", "--work", str(project.work)))
    assert "preprocessing" not in tokens.stdout


@pytest.mark.tool
def test_an_impossible_shape_is_told_once(tmp_path: Path) -> None:
    small = '{ name = "a", op = "conv", filters = "classes", kernel = 9, padding = "valid" }'
    mine = write(tmp_path, SHORT.replace("{layer}", small))
    project = Project(ROOT, tmp_path / "work")
    done = project.run("prepare", "--model", "mine", "--model-file", str(mine))
    assert done.returncode == 2
    assert done.stderr.count("its window is 9 x 9") == done.stdout.count("its window is 9 x 9") == 1
    assert done.stderr.count("not run: needs tf1.export\n") == 3
    assert "3 stages that need it were not run" in done.stdout
    reasons = [stage["reason"] for stage in project.results()["run"]["stages"]]
    assert all(reason.startswith("needs tf1.export, which failed: ") for reason in reasons[1:])
