"""The uncertainty budget: its parts, and the interval that they make together.

JCGM 100:2008 (GUM): type A parts from the spread of what was measured, type B from what is known otherwise;
combined as the root of their squares (5.1.2), the interval by Student's t with the effective degrees of
freedom of Welch and Satterthwaite (G.4.1).
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import Sequence

LEVEL = 0.95
MANY = 1e6  # degrees of freedom of what is not estimated from a few values


@dataclasses.dataclass(frozen=True)
class Part:
    """One source of uncertainty: standard uncertainties of gross and net energy, in one unit for all."""

    name: str
    gross: float
    net: float
    freedom: float = MANY


def interval(value: float, parts: Sequence[tuple[float, float]]) -> list[float]:
    """Return the 95 % interval about a value, of parts (standard uncertainty, degrees of freedom)."""
    half = half_width(parts)
    return [value - half, value + half]


def half_width(parts: Sequence[tuple[float, float]]) -> float:
    """Return half of the 95 % interval."""
    squares = sum(error**2 for error, _ in parts)
    if not squares:
        return 0.0
    freedom = squares**2 / sum(error**4 / freedom for error, freedom in parts)
    return student(freedom) * math.sqrt(squares)


def student(freedom: float) -> float:
    """Return the two-sided 95 % quantile of Student's t with 1 degree of freedom or more, to 1 %.

    The distribution is exact for 1 and 2, and Abramowitz and Stegun's series 26.7.5 from 3 on; between whole
    numbers below 3 it is a straight line in 1 / freedom.
    """
    upper = (1 + LEVEL) / 2
    exact = {1: math.tan(math.pi * (upper - 0.5)), 2: (2 * upper - 1) / math.sqrt(2 * upper * (1 - upper))}
    if freedom < 3:
        low = 1 if freedom < 2 else 2
        share = (1 / low - 1 / max(freedom, 1)) / (1 / low - 1 / (low + 1))
        above = exact[2] if low == 1 else _series(3, upper)
        return exact[low] + share * (above - exact[low])
    return _series(freedom, upper)


def _series(freedom: float, upper: float) -> float:
    z = NormalDist().inv_cdf(upper)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
