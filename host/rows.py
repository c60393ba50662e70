"""One row of the model zoo, as TOML describes it: what it may say, and what it takes from other rows."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from tools import layer_table
from tools.layer_table import MANUAL, NAME, Key, choice, count, is_list, is_text, number, shown
from tools.names import nearest
from tools.stage import InvalidRequest

MULTIPLIER = "{depth_multiplier}"  # in a row's name: the row is a family
SIDE_MAX = 4096  # pixels; one layer of 64 channels at that size is 4 GB, above it nothing here can measure
WIDTH_MAX = 10  # times the usual one: a hundred times the weights, which are 1 GB then
POSITIONS = 512  # of the Transformers, as the checkpoints have them (tools/tf1/networks/encoders.py)
Content = dict[str, Any]


def is_scope(value: Any) -> bool:
    """Whether TensorFlow takes it as a scope, and it is not what the graph's own ends are called."""
    return is_text(value) and bool(NAME.fullmatch(value)) and value.lower() not in ("input", "output")


SCOPE = Key("a name, but neither `input` nor `output`", is_scope, None)

KEYS: Mapping[str, Key] = {
    "about": Key("a text, at best with the paper", is_text),
    "like": Key("the name of a network", is_text, None),
    "replace": Key("a table: a layer's name = a list of layers", lambda value: isinstance(value, dict), None),
    "layers": Key("a list of layers", is_list, None),
    "image_size": count(most=SIDE_MAX),
    "channels": count(),
    "classes": count(),
    "labels_offset": Key("0 or 1", lambda value: type(value) is int and value in (0, 1), 0),
    "preprocessing": choice("inception", "vgg", "lenet", "cifarnet"),
    "scope": SCOPE,
    "end_point": SCOPE,
}
OF_CODE: Mapping[str, Key] = {  # only those have them that are like a network which has
    "sequence_length": count(None, most=POSITIONS),
    "depth_multiplier": number(None, most=WIDTH_MAX),
}
RULES = {**KEYS, **OF_CODE}
TABLE = ("scope", "end_point", "layers")  # what the tf1 tool builds a network from
OF_ONE_ROW = (
    "about",
    "published",
    "depth_multipliers",
)  # what a network does not have from the one that it is like


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A network as its file describes it; in a file of the `user`'s it cannot be one that is code."""

    name: str
    file: str
    content: Mapping[str, Any]
    user: bool = False

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"{self.file}: {self.name}"

    def refuse(self, what: str, hint: str = MANUAL) -> NoReturn:
        """Raise the error that this row is wrong."""
        layer_table.refuse(self.where, what, hint)


def match(row: str, name: str) -> Mapping[str, str | None] | None:
    """Return what `name` says if it is one of the row called `row`, else None.

    That is its `size`, the number at the end, None where there is none; of a family also its `multiplier`.
    """
    multiplier = r"(?P<multiplier>(?!0\.0+(?:_|$))\d+\.\d+)"
    expression = re.escape(row).replace(re.escape(MULTIPLIER), multiplier)
    found = re.fullmatch(expression + r"(?:_(?P<size>[1-9]\d{0,5}))?", name)
    return found.groupdict() if found else None


def read(path: Path, file: str, *, user: bool = False) -> dict[str, Row]:
    """Return the rows of a TOML file, which errors call `file`; `user`: it is not the zoo's own.

    Raises:
        InvalidRequest: it cannot be read, is not TOML, or describes no network.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise InvalidRequest(message, hint="Check the path.") from None
    except (ValueError, RecursionError) as error:
        message = f"{file} is not TOML: {error}"
        raise InvalidRequest(message, hint=MANUAL) from None
    if not content:
        message = f"{file} describes no network"
        raise InvalidRequest(message, hint=MANUAL)
    for name, row in content.items():
        if not isinstance(row, dict):
            message = f"{file}: {name!r} is outside of a network"
            raise InvalidRequest(message, hint="A network begins with its name in brackets: [my_network]")
    return {name: Row(name=name, file=file, content=row, user=user) for name, row in content.items()}


def resolve(row: Row, find: Callable[[str], Content]) -> Content:
    """Return what a row says, with `like`, `replace` and blocks that are networks written out.

    Args:
        row: the row.
        find: returns what another network's row says, resolved.

    Raises:
        InvalidRequest: the row lacks a key, or has one that it may not, or of a wrong type.
    """
    base = find(row.content["like"]) if is_text(row.content.get("like")) else {}
    content = {key: value for key, value in base.items() if key not in OF_ONE_ROW} | dict(row.content)
    _check(row, content, base)
    content.pop("like", None)
    replaced = content.pop("replace", {})
    if "layers" in content:
        layers = _replace(row, content["layers"], replaced) if replaced else content["layers"]
        content["layers"] = [_whole(row, layer, find) for layer in layers]
    elif "network" not in content:
        row.refuse("has no layers, and is not like a network that has some")
    elif replaced:
        row.refuse(f"cannot replace layers of {row.content['like']}, which is no table of layers")
    return content


def _check(row: Row, content: Content, base: Content) -> None:
    """Check the keys of a row; those of a network that is code are that network's own."""
    if row.user and "network" in row.content:
        row.refuse("has no key 'network'", "`like` makes a variant of a network that the zoo has.")
    is_code = "network" in content and "layers" not in content
    for key, rule in RULES.items():
        if key in content or key == "about" or not is_code:
            layer_table.check(content, key, rule, row.where)
    if "replace" in row.content and "like" not in row.content:
        row.refuse("has `replace`, and is like no network")
    known = [*KEYS, *(key for key in base if key not in (*KEYS, *OF_ONE_ROW, "network"))]
    for key in row.content:
        if key not in known and "network" not in row.content:
            row.refuse(f"has no key {key!r}", nearest(key, known))
        if key in base and type(base[key]) is not type(row.content[key]):
            row.refuse(f"has {key} = {shown(row.content[key])}", f"It has to be like {shown(base[key])}.")


def _replace(row: Row, layers: list[Any], replaced: Mapping[str, Any]) -> list[Any]:
    """Return layers with those named in `replaced` exchanged, each for one, several or none."""
    written_out = layer_table.expand(layers, row.where)
    names = [layer["name"] for layer in written_out]
    for name, others in replaced.items():
        if name not in names:
            what = f"replaces {name!r}, which is no layer of {row.content['like']}"
            row.refuse(what, nearest(name, names))
        if not isinstance(others, list):
            row.refuse(f"replaces {name!r} by {shown(others)}", "It takes a list of layers; [] is none.")
    return [other for layer in written_out for other in replaced.get(layer["name"], [layer])]


def _whole(row: Row, layer: Any, find: Callable[[str], Content]) -> Any:
    """Return a layer; a block that is another network, here or in a block, has its layers instead."""
    if not isinstance(layer, dict) or layer.get("op") != "block":
        return layer
    block = dict(layer)
    if is_text(block.get("network")):
        name = block.pop("network")
        part = find(name)
        if "layers" not in part:
            row.refuse(f"has {name} as a block, which is no table of layers")
        block["layers"] = part["layers"]
    if isinstance(block.get("layers"), list):
        block["layers"] = [_whole(row, inner, find) for inner in block["layers"]]
    return block
