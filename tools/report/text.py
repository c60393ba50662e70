"""Numbers and names as a person reads them: significant digits, units, relative links."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional
from urllib.parse import quote

NONE = "\N{EN DASH}"  # what a cell shows where there is nothing
FILTERS = (  # what the template uses
    *("number", "ms", "percent", "share", "interval", "cosine", "ratio"),
    *("status", "fact", "href", "label", "short", "size", "shape", "tensor"),
)
NBSP = "\N{NO-BREAK SPACE}"  # number and unit stay on one line


def number(value: Optional[float], digits: int = 3) -> str:
    """Show `digits` significant digits: 0.0123, 12.3, 1,235, 1.2e-07; never less than the whole number."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def short(value: float) -> str:
    """Show a count in three digits with a prefix: 14.2 k, 177 M; 1,001 stays as it is below ten thousand."""
    if value < 10_000:
        return f"{value:,.0f}"
    exponent = min(int(math.log10(value)) // 3, 4)
    return f"{number(value / 1000**exponent)}{NBSP}{' kMGT'[exponent]}"


def size(number_of_bytes: float) -> str:
    """Show a size given in bytes: 11.6 MB, of 10^6 bytes each; 9,000 B below ten kilobytes."""
    return f"{short(number_of_bytes)}{NBSP if number_of_bytes < 10_000 else ''}B"


def shape(sizes: Sequence[int]) -> str:
    """Show a tensor's shape, its sizes with multiplication signs between."""
    return "\N{MULTIPLICATION SIGN}".join(map(str, sizes)) or "scalar"


def tensor(name: str) -> str:
    """Show a tensor's name; TensorFlow's `:0` says only that it is an operation's first."""
    return name.removesuffix(":0")


def ms(value: Optional[float]) -> str:
    """Show a time given in ms, with its unit."""
    return NONE if value is None else f"{number(value)}{NBSP}ms"


def percent(fraction: Optional[float]) -> str:
    """Show a fraction in percent, to two significant digits and no finer than 0.01 %."""
    if fraction is None:
        return NONE
    return f"{number(100 * fraction, 2)}{NBSP}%" if fraction >= 0.001 else f"{100 * fraction:.2f}{NBSP}%"


def share(fraction: Optional[float]) -> str:
    """Show how much agrees, rounded down: 100 % only where all does."""
    return NONE if fraction is None else f"{math.floor(1000 * fraction) / 10:g}{NBSP}%"


def interval(ci95_rel: Optional[float]) -> str:
    """Show half the width of the median's 95 % interval, relative to the median."""
    return "no interval" if ci95_rel is None else f"±{percent(ci95_rel)}"


def cosine(value: Optional[float]) -> str:
    """Show a cosine similarity: it is the distance to 1 that counts, so seven decimals."""
    return NONE if value is None else f"{value:.7f}".rstrip("0").rstrip(".")


def ratio(value: float, rough: bool = False) -> str:
    """Show a ratio of two latencies, with one digit less where it is known roughly."""
    return f"{value:.{2 - rough if value < 10 else 0}f}\N{MULTIPLICATION SIGN}"


def count(number_of: int, noun: str) -> str:
    """Show a number with its noun in the right form."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"


def status(name: str) -> str:
    """Show a status as words."""
    return name.replace("_", " ").replace("sdk", "SDK")


def fact(value: Any) -> str:
    """Show any value of a JSON file in one line."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {fact(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(fact, value))
    return str(value)


def href(path: str) -> str:
    """Return a path as a relative link; quoting makes a scheme (`javascript:`) a plain file name."""
    return quote(path.lstrip("/"), safe="/")


def label(key: str) -> str:
    """Return a field's name as words, its unit last: `memory_mb` -> `memory (MB)`."""
    units = {"mb": "MB", "ms": "ms", "s": "s", "mhz": "MHz", "c": "°C", "mj": "mJ", "w": "W"}
    *words, last = key.split("_")
    return f"{' '.join(words)} ({units[last]})" if words and last in units else key.replace("_", " ")
