"""The load in a trace of which nobody says when inferences ran: one long box above the idle power.

It is the box of the largest area (power above idle x time): a short burst does not win by its height, nor a
slow drift by its length. What is like it elsewhere in the trace makes it a guess, and is refused.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional, Sequence

from tools.energy import levels
from tools.energy.levels import Stretch
from tools.energy.refusals import Refused

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power

BLOCKS, FEWEST = 6000, 20  # in all of the trace
STRETCHES = 60  # with more of them it is a ripple that is cut, and longer blocks are taken
PASSES = 3  # from a first look to a load and an idle power that fit each other
LADDER, LOWEST = 24, 0.02  # heights of the boxes that are tried: from the highest stretch to that share
INSIDE = 0.25  # of the load's height: what is below that is not part of it
OTHER, OTHER_S = 0.1, 0.5  # of the load's height, seconds: what stands out by more, and longer, is not idle
FEW = 2  # times on a side that are other work; more on both sides are how this device idles
DECAYS = 1.5  # times as much at its beginning as at its end: that is no steady work
UNUSUAL = 5.0  # times the usual distance from the idle level, or it is idle
ALIKE_AREA, ALIKE_TIME, ALIKE_HEIGHT = 0.2, 0.3, 0.03  # of the load's: what has that could be the load too
SLIVER, READINGS = 0.02, 5  # of the load's time, readings: a shorter stretch in it is no level of its own
STEP, SUDDEN = 0.15, 0.6  # of the load's height; of a step, right beside it: a slope has a quarter there
PIECE = 0.1  # of the load's energy: as much at another level may be other work that touches it
HINT = "Say when the inferences ran (--windows), or record a trace with one load between two times of idle."


@dataclasses.dataclass(frozen=True)
class Load:
    """The load that was found.

    Attributes:
        others: times of other activity, which is neither load nor idle.
        beside_w: power above idle of such activity right beside the load, which may go on under it.
        blur_s: its edges may be that far from where they were found.
    """

    start_s: float
    end_s: float
    others: Sequence[tuple[float, float]]
    beside_w: float
    blur_s: float


@dataclasses.dataclass(frozen=True)
class _Box:
    first: int
    end: int  # one past the last stretch
    height_w: float
    seconds: float

    @property
    def area_j(self) -> float:
        return self.height_w * self.seconds


@dataclasses.dataclass(frozen=True)
class _View:
    """A trace without its drift: stretches, what is idle, and the load."""

    parts: Sequence[Stretch]
    idle_w: float
    usual_w: float  # distance of idle stretches from it
    load: _Box


def find(power: Power) -> Load:
    """Return the load in a trace.

    Raises:
        Refused: there is none, it is not between two times of idle, or something else could be it as well.
    """
    time_s, mean_w, block_s = _blocks(power)
    view = _look(time_s, mean_w, block_s)
    parts, load = view.parts, view.load
    start_s, end_s = parts[load.first].start_s, parts[load.end - 1].end_s
    where = f"the load {_span(parts, load)}"
    for missing, side in ((load.first == 0, "before"), (load.end == len(parts), "after")):
        if missing:
            message = f"there is no idle power {side} {where}"
            raise Refused(message, hint="Record some seconds of idle before and after the load.")
    _refuse_alike(view, where)
    _refuse_levels(power, view, where)
    others = _others(view)
    start_s = levels.edge(power, start_s, 2 * block_s)
    end_s = levels.edge(power, end_s, 2 * block_s)
    ramps_s = [
        levels.ramp(power, at_s, sign, min(load.seconds / 4, 1.0))
        for at_s, sign in ((start_s, 1), (end_s, -1))
    ]
    return Load(
        start_s=start_s,
        end_s=end_s,
        others=others,
        beside_w=max((_beside_w(view, one) for one in others), default=0.0),
        blur_s=max(block_s / 10, power.resolution_s, *ramps_s),
    )


def _blocks(power: Power) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the trace as blocks in which there are few stretches: middles, mean powers, their length.

    What alternates faster (inferences of half a second with pauses) becomes one level in longer blocks.
    """
    total_s = power.end_s - power.start_s
    block_s = max(total_s / BLOCKS, levels.BLOCK_S, power.step_s)
    while True:
        count = int(total_s / block_s)
        if count < FEWEST:
            message = f"the trace of {total_s:.3g} s is too short, or changes too often, to find a load in it"
            raise Refused(message, hint=HINT)
        time_s, mean_w = power.blocks(power.start_s, power.end_s, count)
        mean_w = levels.filled(mean_w)
        parts = levels.stretches(time_s, mean_w - _drift(mean_w, time_s) * time_s, STRETCHES)
        if len(parts) < STRETCHES:
            return time_s, mean_w, total_s / count
        block_s *= 2


def _look(time_s: np.ndarray, mean_w: np.ndarray, block_s: float) -> _View:
    """Return load and idle power that fit each other: the drift is that of what is not the load."""
    drift = _drift(mean_w, time_s)
    idle_w: Optional[float] = None
    for _ in range(PASSES):
        parts = levels.stretches(time_s, mean_w - drift * time_s, STRETCHES)
        if idle_w is None:
            idle_w = min(parts[0].level_w, parts[-1].level_w)
        box = _largest(parts, idle_w, set())
        if box is None:
            message = "no load stands out from the idle power in this trace"
            raise Refused(message, hint=HINT)
        load = _extended(parts, box, idle_w)
        rest = [*parts[: load.first], *parts[load.end :]]
        free = (time_s < parts[load.first].start_s) | (time_s > parts[load.end - 1].end_s)
        if not rest or free.sum() < 3:
            break
        moved = levels.slope(time_s[free], mean_w[free]) - drift
        drift += moved
        idle_w = _middle(rest) - moved * float(time_s[free].mean())
    usual_w = _middle([dataclasses.replace(part, level_w=abs(part.level_w - idle_w)) for part in rest])
    return _View(parts, idle_w, usual_w, load)


def _drift(power_w: np.ndarray, time_s: np.ndarray) -> float:
    """Return a first guess of the drift, W/s: the median of differences over a twentieth of the trace.

    Few of these differences hold a step, which therefore does not change it.
    """
    import numpy as np

    lag = max(len(power_w) // 20, 1)
    return float(np.median(power_w[lag:] - power_w[:-lag]) / (time_s[lag] - time_s[0]))


def _middle(parts: Sequence[Stretch]) -> float:
    """Return the median level by time."""
    ordered = sorted(parts, key=lambda part: part.level_w)
    half_s = sum(part.seconds for part in parts) / 2
    so_far_s = 0.0
    for part in ordered:
        so_far_s += part.seconds
        if so_far_s >= half_s:
            return part.level_w
    return 0.0


def _largest(parts: Sequence[Stretch], idle_w: float, without: set[int]) -> Optional[_Box]:
    """Return the box of the largest area, of stretches that are not in `without`."""
    heights = [0.0 if index in without else part.level_w - idle_w for index, part in enumerate(parts)]
    top = max(heights)
    if top <= 0:
        return None
    boxes = [
        _Box(first, end, low, sum(part.seconds for part in parts[first:end]))
        for low in (top * LOWEST ** (step / (LADDER - 1)) * 0.999 for step in range(LADDER))
        for first, end in levels.groups([height >= low for height in heights])
    ]
    return max(boxes, key=lambda box: box.area_j)


def _extended(parts: Sequence[Stretch], box: _Box, idle_w: float) -> _Box:
    """Return a box with its neighbours that are loaded too, and with its mean height."""
    above_w = idle_w + INSIDE * _height(parts, box.first, box.end, idle_w)
    first, end = box.first, box.end
    while first > 0 and parts[first - 1].level_w >= above_w:
        first -= 1
    while end < len(parts) and parts[end].level_w >= above_w:
        end += 1
    seconds = sum(part.seconds for part in parts[first:end])
    return _Box(first, end, _height(parts, first, end, idle_w), seconds)


def _height(parts: Sequence[Stretch], first: int, end: int, idle_w: float) -> float:
    area_j = sum((part.level_w - idle_w) * part.seconds for part in parts[first:end])
    return area_j / sum(part.seconds for part in parts[first:end])


def _others(view: _View) -> list[tuple[float, float]]:
    """Return the times of what is neither load nor idle; what is short may be a part of idle power."""
    limit_w = max(OTHER * view.load.height_w, UNUSUAL * view.usual_w)
    marked = [
        not view.load.first <= index < view.load.end and abs(part.level_w - view.idle_w) > limit_w
        for index, part in enumerate(view.parts)
    ]
    found = [(view.parts[first].start_s, view.parts[end - 1].end_s) for first, end in levels.groups(marked)]
    found = [(start_s, end_s) for start_s, end_s in found if end_s - start_s >= OTHER_S]
    load_s = view.parts[view.load.first].start_s
    before = sum(end_s <= load_s for _, end_s in found)
    return [] if min(before, len(found) - before) > FEW else found


def _beside_w(view: _View, span: tuple[float, float]) -> float:
    """Return the power above idle of other activity that is right beside the load, 0 of any else.

    What decays after the load is its own end, and not something that went on under it.
    """
    start_s, end_s = view.parts[view.load.first].start_s, view.parts[view.load.end - 1].end_s
    inside = [part for part in view.parts if span[0] <= part.start_s and part.end_s <= span[1]]
    if start_s - span[1] >= OTHER_S or span[0] - end_s >= OTHER_S:
        return 0.0
    first_w, last_w = inside[0].level_w - view.idle_w, inside[-1].level_w - view.idle_w
    if span[0] >= end_s and first_w > DECAYS * abs(last_w):
        return 0.0
    return abs(sum((part.level_w - view.idle_w) * part.seconds for part in inside)) / (span[1] - span[0])


def _refuse_alike(view: _View, where: str) -> None:
    """Refuse a trace in which another box could be the load."""
    parts, load = view.parts, view.load
    found = _largest(parts, view.idle_w, set(range(load.first, load.end)))
    if found is None:
        return
    other = dataclasses.replace(found, height_w=_height(parts, found.first, found.end, view.idle_w))
    if other.height_w < ALIKE_HEIGHT * load.height_w or not _abrupt(view, other):
        return
    if other.area_j >= ALIKE_AREA * load.area_j or other.seconds >= ALIKE_TIME * load.seconds:
        message = f"{where} and what ran {_span(parts, other)} could both be the inferences"
        raise Refused(message, hint=HINT)


def _span(parts: Sequence[Stretch], box: _Box) -> str:
    start_s, end_s = parts[box.first].start_s, parts[box.end - 1].end_s
    return f"from {abs(start_s) if abs(start_s) < 5e-3 else start_s:.2f} to {end_s:.2f} s"


def _refuse_levels(power: Power, view: _View, where: str) -> None:
    """Refuse a load that steps to another level once or twice: either may be other work that touches it.

    More steps are the load's own (pauses between inferences), and slopes are too (throttling).
    """
    shortest_s = max(SLIVER * view.load.seconds, READINGS * power.resolution_s)
    inside = [part for part in view.parts[view.load.first : view.load.end] if part.seconds >= shortest_s]
    steps = [
        index
        for index in range(1, len(inside))
        if _is_step(power, inside[index - 1], inside[index], view.load.height_w)
    ]
    if not 1 <= len(steps) <= FEW:
        return
    pieces = [
        _Box(
            first,
            end,
            _height(inside, first, end, view.idle_w),
            sum(part.seconds for part in inside[first:end]),
        )
        for first, end in zip([0, *steps], [*steps, len(inside)])
    ]
    most = max(pieces, key=lambda piece: piece.area_j)
    rest = [piece for piece in pieces if abs(piece.height_w - most.height_w) >= STEP * view.load.height_w]
    if sum(piece.area_j for piece in rest) >= PIECE * view.load.area_j:
        levels_w = f"{most.height_w:.3g} and {rest[0].height_w:.3g} W above idle"
        message = f"{where} has two levels of power, {levels_w}, and either could be that of the inferences"
        raise Refused(message, hint=HINT)


def _is_step(power: Power, left: Stretch, right: Stretch, height_w: float) -> bool:
    """Whether the level changes at once from one stretch to the next, by the quarters that touch."""
    change_w = right.level_w - left.level_w
    before_w, _ = power.known(left.end_s - left.seconds / 4, left.end_s)
    after_w, _ = power.known(right.start_s, right.start_s + right.seconds / 4)
    return abs(change_w) >= STEP * height_w and (after_w - before_w) / change_w >= SUDDEN


def _abrupt(view: _View, box: _Box) -> bool:
    """Whether a box stands out from its neighbours: a drift is cut into stairs, which do not.

    A short stretch beside it may be the block that holds its edge; what is beyond that counts. The load says
    nothing about it, so idle time that reaches from the trace's start to the load does not stand out.
    """
    known = set(range(len(view.parts))) - set(range(view.load.first, view.load.end))
    sides = (box.first - 1, box.first - 2), (box.end, box.end + 1)
    outside = [
        min(view.parts[index].level_w for index in side if index in known)
        for side in sides
        if side[0] in known
    ]
    inside = max(part.level_w for part in view.parts[box.first : box.end])
    return bool(outside) and inside - max(outside) >= 0.5 * box.height_w
