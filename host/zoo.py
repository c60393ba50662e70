"""The model zoo: names of networks, the parameters that stages take from them, and their tables of layers.

Networks are described in TOML: those of `tools/models.toml`, and the user's own (`--model-file`).
docs/zoo.md is the manual.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from host import ROOT, rows
from host.rows import Row
from tools import layer_table
from tools.names import nearest
from tools.stage import InvalidRequest, check_name

FILE = ROOT / "tools" / "models.toml"
LISTING = "python runner.py models list"

SIZES = ("image_size", "sequence_length")  # what a number at the end of a name stands for
# what a name may say: no row has all of these
NAMED = {key: dataclasses.replace(rows.RULES[key], default=None) for key in (*SIZES, "depth_multiplier")}
NOT_PARAMS = (*rows.OF_ONE_ROW, *rows.TABLE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A network of the zoo: `params` go to every stage that takes a parameter of that name.

    `table` is what the tf1 tool builds the network from (tools/tf1/networks/tables.py); None where it knows
    the network itself.
    """

    name: str
    about: str
    params: Mapping[str, Any]
    table: Mapping[str, Any] | None = None


def names(file: Path | None = None) -> list[str]:
    """Return the names of all networks; of a family, those with the published depth multipliers."""
    return [name for row in _zoo(file).rows.values() for name in members(row)]


def members(row: Row) -> list[str]:
    """Return the names of a family's networks, or the one name of a row that is none."""
    multipliers = row.content.get("depth_multipliers")
    return [row.name.replace(rows.MULTIPLIER, str(m)) for m in multipliers] if multipliers else [row.name]


def families(file: Path | None = None) -> list[list[Model]]:
    """Return all networks, those that differ in their depth multiplier together.

    Raises:
        InvalidRequest: the description of one is wrong.
    """
    zoo = _zoo(file)
    return [_family(zoo, row) for row in zoo.rows.values()]


def listing(file: Path | None = None) -> dict[str, list[Model] | InvalidRequest]:
    """Return what `families` does, by the rows' names; an error for each row that is wrong."""
    zoo, found = _zoo(file), dict[str, list[Model] | InvalidRequest]()
    for row in zoo.rows.values():
        try:
            found[row.name] = _family(zoo, row)
        except InvalidRequest as error:
            found[row.name] = error
    return found


def _family(zoo: Zoo, row: Row) -> list[Model]:
    return [zoo.find(name) for name in members(row)]


def find(name: str, file: Path | None = None) -> Model:
    """Return the network of that name, at any depth multiplier and (`NAME_96`) any size of its input.

    Raises:
        InvalidRequest: there is none (the hint suggests the nearest), or its description is wrong.
    """
    return _zoo(file).find(name)


def find_all(wanted: Iterable[str], file: Path | None = None) -> list[Model]:
    """Return the networks of these names, each once."""
    return [find(name, file) for name in dict.fromkeys(wanted)]


def choose(wanted: Iterable[str], file: Path | None, *, every: bool) -> list[Model]:
    """Return the networks of these names, or every one that has a name of its own.

    Raises:
        InvalidRequest: both were asked for, or nothing.
    """
    names = list(wanted)
    if every == bool(names):
        message = "it takes either models or all of them"
        raise InvalidRequest(message, hint="e.g. --model squeezenet, or --all-models")
    return [model for family in families(file) for model in family] if every else find_all(names, file)


@functools.cache
def _zoo(file: Path | None) -> Zoo:
    zoo = Zoo(rows.read(FILE, str(FILE.relative_to(ROOT))))
    return zoo.extended(rows.read(file, str(file), user=True)) if file else zoo


class Zoo:
    """Networks by the names of their rows."""

    def __init__(self, found: Mapping[str, Row], listing: str = LISTING) -> None:
        self.rows = found
        self._listing = listing

    def extended(self, own: Mapping[str, Row]) -> Zoo:
        """Return the zoo with the user's own networks.

        Raises:
            InvalidRequest: one of them has a name that means another network already.
        """
        for row in own.values():
            check_name(row.name, f"model (in {row.file})")
            if self._match(row.name):
                row.refuse("is the name of a network of the zoo", "Give yours another name.")
        file = next(iter(own.values())).file
        return Zoo({**self.rows, **own}, f"{self._listing} --model-file {file}")

    def find(self, name: str) -> Model:
        """Return the network of that name; see the function `find`."""
        row, content = self._resolve(check_name(name, "model"), ())
        params = {key: value for key, value in content.items() if key not in NOT_PARAMS}
        table = None
        if "layers" in content:
            layer_table.read(content["layers"], row.where)
            table = {"scope": row.name, **{key: content[key] for key in rows.TABLE if key in content}}
            if not rows.is_scope(table["scope"]):
                row.refuse(f"cannot have the scope {table['scope']!r}", "Give it another: scope = NAME")
            params["network"] = row.name
        return Model(name=name, about=content["about"], params=params, table=table)

    def _match(self, name: str) -> tuple[Row, Mapping[str, str | None]] | None:
        """Return the row that `name` is of, and its `multiplier` and `size`; a row's own name comes first."""
        matches = [(row, rows.match(row.name, name)) for row in self.rows.values()]
        found = [(row, said) for row, said in matches if said is not None]
        return min(found, key=lambda pair: pair[1]["size"] is not None, default=None)

    def _resolve(self, name: str, trail: tuple[str, ...]) -> tuple[Row, dict[str, Any]]:
        """Return a network's row and what it says, with all that it takes from other rows written out.

        Raises:
            InvalidRequest: there is no such network, its row is wrong, or it needs itself.
        """
        found = self._match(name)
        if not found:
            message = f"there is no model {name!r}"
            raise InvalidRequest(message, hint=self._nearest(name))
        row, said = found
        if row.name in trail:
            circle = " -> ".join((*trail[trail.index(row.name) :], row.name))
            row.refuse(f"needs itself: {circle}", "Describe one of these without the others.")

        def part(of: str) -> dict[str, Any]:
            if not self._match(of):
                row.refuse(f"needs {of!r}, and there is no model of that name", self._nearest(of))
            return self._resolve(of, (*trail, row.name))[1]

        content = rows.resolve(row, part)
        if said.get("multiplier"):
            content["depth_multiplier"] = float(said["multiplier"] or 1)
        if said.get("size"):
            content |= {key: int(said["size"] or 0) for key in SIZES if key in content}
        for key, rule in NAMED.items():
            layer_table.check(content, key, rule, f"{row.file}: {name}")
        return row, content

    def _nearest(self, name: str) -> str:
        """Return the hint for the name of no network."""
        known = [member for row in self.rows.values() for member in members(row)]
        return nearest(name, known, f"All of them: {self._listing}")
