"""What a table of layers may say: the language that networks are written in as data.

A table is a list of dicts, `{"name": "conv1", "op": "conv", "filters": 64, "kernel": 11}`; docs/zoo.md is its
manual. The host reads tables with `read` to refuse a bad one before anything runs, the tf1 tool to build them
(tools/tf1/networks/tables.py). Standard library only: both sides import it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, NoReturn, Optional

from tools.names import nearest
from tools.stage import InvalidRequest

IMAGE = "input"  # the name by which layers refer to what goes into their table
CLASSES = "classes"  # as a number of filters or units: as many as the network has classes
MAP, VECTOR, ANY = 4, 2, 0  # what an operation reads: [1, H, W, C], [1, units], or either
LAYERS_MAX = 10_000  # what a mistyped range would otherwise fill the memory with

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)*", re.ASCII)
RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
MANUAL = "docs/zoo.md says how to describe a network."
REQUIRED = object()  # the default of a key that has none


@dataclasses.dataclass(frozen=True)
class Key:
    """What a key of a layer may hold: `fits` decides it, `kind` says it to a person."""

    kind: str
    fits: Callable[[Any], bool]
    default: Any = REQUIRED


def is_text(value: Any) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def is_list(value: Any) -> bool:
    """Whether it is a list, with something in it or not."""
    return isinstance(value, list)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 31  # true is an int too, to Python


def count(default: Any = REQUIRED, most: Optional[int] = None) -> Key:
    """Return the key of a number of things, of which there may be a largest."""
    if most is None:
        return Key("a whole number from 1", _is_count, default)
    return Key(f"a whole number from 1 to {most}", lambda value: _is_count(value) and value <= most, default)


def choice(*choices: str) -> Key:
    """Return the key of one of some words; the first is the default."""
    return Key(f"one of {', '.join(choices)}", lambda value: value in choices, choices[0])


def _width() -> Key:
    return Key(f'a whole number from 1, or "{CLASSES}"', lambda value: _is_count(value) or value == CLASSES)


def number(default: Any, most: Optional[float] = None) -> Key:
    """Return the key of a number that need not be whole, of which there may be a largest."""
    limit = sys.float_info.max if most is None else most
    kind = "a number above 0" if most is None else f"a number above 0, up to {most}"
    return Key(kind, lambda value: type(value) in (int, float) and 0 < value <= limit, default)


def _flag() -> Key:
    return Key("true or false", lambda value: type(value) is bool, False)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation.

    Attributes:
        reads: MAP, VECTOR or ANY.
        keys: its keys besides name, op and input.
        joins: it reads several layers, `inputs`, instead of one.
    """

    reads: int
    keys: Mapping[str, Key]
    joins: bool = False


ACTIVATION = {"activation": choice("relu", "relu6", "sigmoid", "tanh", "none")}
JOINED = {"activation": dataclasses.replace(ACTIVATION["activation"], default="none")}
INITIAL = {"stddev": number(None)}  # of the truncated normal initialiser; without it, Glorot's uniform one
NORMED = {**ACTIVATION, **INITIAL, "batch_norm": _flag()}
POOL = {"kernel": count(), "stride": count(), "padding": choice("valid", "same")}
WINDOW = {"kernel": count(), "stride": count(1), "padding": choice("same", "valid")}

OPERATIONS: Mapping[str, Operation] = {
    "conv": Operation(MAP, {"filters": _width(), **WINDOW, **NORMED}),
    "depthwise": Operation(MAP, {**WINDOW, **NORMED}),
    "max_pool": Operation(MAP, POOL),
    "avg_pool": Operation(MAP, POOL),
    "global_avg_pool": Operation(MAP, {}),
    "lrn": Operation(
        MAP, {"radius": count(), "bias": number(1.0), "alpha": number(1.0), "beta": number(0.5)}
    ),
    "squeeze": Operation(MAP, {}),
    "flatten": Operation(MAP, {}),
    "fully_connected": Operation(VECTOR, {"units": _width(), **ACTIVATION, **INITIAL}),
    "concat": Operation(ANY, {}, joins=True),
    "add": Operation(ANY, JOINED, joins=True),
    "average": Operation(ANY, {}, joins=True),
    "block": Operation(ANY, {"layers": Key("a list of layers", is_list)}),
}
WITH_WEIGHTS = ("conv", "depthwise", "fully_connected")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer: all names expanded, its inputs named, every key of its operation there.

    A block's `keys["layers"]` are Layers themselves; their `input` is what the block reads.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    keys: Mapping[str, Any]


def read(layers: Any, where: str) -> list[Layer]:
    """Return the layers of a table, each after those that it reads, the network's output last.

    Args:
        layers: the table, as TOML or JSON give it.
        where: what errors call the table, e.g. its file and network.

    Raises:
        InvalidRequest: it is no table, names an operation, key or layer that is not there, has two layers of
            one name, goes round in a circle, is too large, has no weights, or has no end or several.
    """
    found = _read(layers, where)
    if not any(map(_has_weights, found)):
        refuse(where, "has no weights", f"At least one layer has to be one of {', '.join(WITH_WEIGHTS)}.")
    folded: dict[str, str] = {}
    for path in _paths(found):
        if path.lower() in folded:
            what = f"has layers {folded[path.lower()]!r} and {path!r}"
            refuse(where, what, "TensorFlow takes these for one name, in whatever case; change one of them.")
        folded[path.lower()] = path
    return found


def _read(layers: Any, where: str) -> list[Layer]:
    """Return the layers of a table or of a block; see `read`."""
    if not isinstance(layers, list) or not layers:
        refuse(where, "has no layers; `layers` is a list of at least one", MANUAL)
    expanded = expand(layers, where)
    found: dict[str, Layer] = {}
    before, size = IMAGE, 0
    for raw in expanded:
        layer = _layer(raw, before, where)
        size += _size(layer)
        if size > LAYERS_MAX:
            what = f"has more than {LAYERS_MAX} layers, those in blocks counted"
            refuse(where, what, "Is a range mistyped?")
        if layer.name in found:
            refuse(where, f"has two layers named {layer.name!r}", "A name is one layer's only.")
        found[layer.name] = layer
        before = layer.name
    return _ordered(found, where)


def expand(layers: Iterable[Any], where: str) -> list[dict[str, Any]]:
    """Write out ranges: `conv{3..5}` are three layers, the first of which reads what `input` says.

    Raises:
        InvalidRequest: a layer has no name, or a range is none.
    """
    found: list[dict[str, Any]] = []
    for raw in layers:
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            refuse(where, f"has a layer without a name: {str(raw)[:80]}", MANUAL)
        where_layer = f"{where}: layer {raw['name']!r}"
        match = RANGE.search(raw["name"])
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        if last < first or len(found) + last - first >= LAYERS_MAX:
            what = f"is a range of none, or of more than {LAYERS_MAX} layers"
            refuse(where_layer, what, "The form is name{first..last}.")
        if match and "inputs" in raw:
            what = "is a range, and each of a range reads the one before"
            refuse(where_layer, what, "Write its layers out, or put them into a block.")
        for number in range(first, last + 1):
            copy = {**raw, "name": RANGE.sub(str(number), raw["name"])}
            if number > first:
                copy.pop("input", None)
            found.append(copy)
    return found


def _layer(raw: Mapping[str, Any], before: str, where: str) -> Layer:
    """Check one layer and fill in its defaults; `before` is the layer that it reads if it names none."""
    name, op = raw["name"], raw.get("op")
    where_layer = f"{where}: layer {name!r}"
    if not NAME.fullmatch(name) or name == IMAGE:
        what = "cannot be called that" if name != IMAGE else "has the name of what goes into the table"
        refuse(where_layer, what, "Use letters, digits, '_', '.', '-', and '/' between parts.")
    if not isinstance(op, str) or op not in OPERATIONS:
        what = f"has no operation {op!r}" if "op" in raw else "lacks the key 'op'"
        refuse(where_layer, what, nearest(op, OPERATIONS))
    operation = OPERATIONS[op]
    source = "inputs" if operation.joins else "input"
    allowed = {"name", "op", source, *operation.keys}
    for key in raw:
        if key not in allowed:
            refuse(where_layer, f"({op}) has no key {key!r}", nearest(key, sorted(allowed)))
    keys = {key: check(raw, key, rule, f"{where_layer} ({op})") for key, rule in operation.keys.items()}
    if op == "block":
        keys["layers"] = _read(keys["layers"], f"{where}: {name}")
    return Layer(name, op, _inputs(raw, before, source, f"{where_layer} ({op})"), keys)


def _size(layer: Layer) -> int:
    """Return how many layers a layer is: itself, and of a block those in it."""
    return 1 + sum(map(_size, layer.keys.get("layers", ())))


def _paths(layers: Iterable[Layer], prefix: str = "") -> Iterator[str]:
    """Yield the scopes of all layers; that of one in a block begins with the block's."""
    for layer in layers:
        yield prefix + layer.name
        yield from _paths(layer.keys.get("layers", ()), f"{prefix}{layer.name}/")


def _has_weights(layer: Layer) -> bool:
    """Whether a layer, or of a block one in it, has weights."""
    return layer.op in WITH_WEIGHTS or any(map(_has_weights, layer.keys.get("layers", ())))


def check(raw: Mapping[str, Any], key: str, rule: Key, where: str) -> Any:
    """Return the value of a key, or its default.

    Raises:
        InvalidRequest: it is missing and has no default, or it may not hold that.
    """
    if key not in raw:
        if rule.default is REQUIRED:
            refuse(where, f"lacks the key {key!r}", f"It is {rule.kind}.")
        return rule.default
    if not rule.fits(raw[key]):
        refuse(where, f"has {key} = {shown(raw[key])}", f"It has to be {rule.kind}.")
    return raw[key]


def _inputs(raw: Mapping[str, Any], before: str, source: str, where: str) -> tuple[str, ...]:
    if source == "input":
        found = [raw.get("input", before)]
    else:
        found = raw.get("inputs", [])
        if not isinstance(found, list) or len(found) < 2:
            refuse(where, "needs `inputs`, a list of two layers or more", MANUAL)
    if not all(isinstance(name, str) for name in found):
        refuse(where, f"has {source} = {shown(raw[source])}", "Layers are named by text.")
    return tuple(found)


def _ordered(layers: Mapping[str, Layer], where: str) -> list[Layer]:
    """Sort so that each layer follows its inputs; not by graphlib, which TensorFlow 1's Pythons lack."""
    for layer in layers.values():
        for name in layer.inputs:
            if name not in layers and name != IMAGE:
                what = f"reads {name!r}, which is no layer"
                refuse(f"{where}: layer {layer.name!r}", what, nearest(name, [IMAGE, *layers]))
    waiting, done, before = dict(layers), {IMAGE: 0}, 0
    while len(done) > before:
        before = len(done)
        for layer in list(waiting.values()):
            if all(name in done for name in layer.inputs):
                done[layer.name] = len(done)
                del waiting[layer.name]
    if waiting:
        circle = " -> ".join(_circle(waiting))
        refuse(where, f"goes round in a circle: {circle}", "A layer cannot read what it makes.")
    read_by_some = {name for layer in layers.values() for name in layer.inputs}
    ends = [name for name in layers if name not in read_by_some]
    if len(ends) > 1:
        what = f"has {len(ends)} ends: nothing reads {', '.join(ends[:5])}"
        refuse(where, what, "One layer, the output, is read by none; join or remove the others.")
    return [layers[name] for name in done if name != IMAGE]


def _circle(waiting: Mapping[str, Layer]) -> list[str]:
    """Return the names along one circle, the first again as the last, in the direction of the data."""
    path = [next(iter(waiting))]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in waiting[path[-1]].inputs if name in waiting))
    return path[path.index(path[-1]) :][::-1]


def shown(value: Any) -> str:
    """Return a value as TOML writes it, or nearly so: `true`, `3.0`, `"same"`."""
    return json.dumps(value, default=str, ensure_ascii=False)[:80]


def refuse(where: str, what: str, hint: str) -> NoReturn:
    """Raise the error that `where` is wrong."""
    message = f"{where} {what}"
    raise InvalidRequest(message, hint=hint)
