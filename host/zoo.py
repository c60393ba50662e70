"""The model zoo, `tools/models.toml`: names of networks and the parameters that stages take from them."""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from host import ROOT
from host.toolbox import nearest
from tools.stage import InvalidRequest, check_name

MULTIPLIER = "{depth_multiplier}"
NOT_PARAMS = ("about", "depth_multipliers", "published")
LISTING = "python runner.py models list"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A network of the zoo: `params` go to every stage that takes a parameter of that name."""

    name: str
    about: str
    params: Mapping[str, Any]


@functools.cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    """Every network's table; a published checkpoint may stand in the file before its network does."""
    tables = tomllib.loads((ROOT / "tools" / "models.toml").read_text())
    return {name: table for name, table in tables.items() if "network" in table}


def names() -> list[str]:
    """Return the names of all networks; of a family, those with the published depth multipliers."""
    found = []
    for name, table in _tables().items():
        multipliers = table.get("depth_multipliers")
        found += [name.replace(MULTIPLIER, str(m)) for m in multipliers] if multipliers else [name]
    return found


def find(name: str) -> Model:
    """Return the network of that name, at any depth multiplier.

    Raises:
        InvalidRequest: there is none; the hint suggests the nearest.
    """
    check_name(name, "model")
    for pattern, table in _tables().items():
        expression = re.escape(pattern).replace(re.escape(MULTIPLIER), r"(\d+\.\d+)")
        if match := re.fullmatch(expression, name):
            multiplier = {"depth_multiplier": float(match[1])} if match.groups() else {}
            if 0.0 in multiplier.values():
                break
            params = {key: value for key, value in table.items() if key not in NOT_PARAMS}
            return Model(name=name, about=table["about"], params=params | multiplier)
    message = f"there is no model {name!r}"
    raise InvalidRequest(message, hint=nearest(name, names(), LISTING))
