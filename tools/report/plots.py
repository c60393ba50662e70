"""The plots, drawn with matplotlib as SVG that takes its colours and its font from the page.

Every sample is shown: dots that fall on the same pixel are drawn once, and dots that touch in a column are
one stroke, so a plot of any number of samples stays small and no outlier is lost.
"""

from __future__ import annotations

import html
import io
import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tools.report.details import Power

with tempfile.TemporaryDirectory() as _folder:  # a container's root and home are read-only
    os.environ.setdefault("MPLCONFIGDIR", _folder)
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline
    from matplotlib.ticker import FixedLocator, NullLocator

WIDTH, HEIGHT = 440, 128  # px of the page at scale 1: one inch is 72 of matplotlib's points
FONT_PX = 12
LOG_FROM = 4  # an axis is logarithmic when its largest value is more than this many times its smallest
FEW = 300  # samples, up to which dots and bins are large
BIN_PX, BIN_PX_FEW = 3, 9
DOT_PX, DOT_PX_FEW = 1.6, 3
INTERVAL_PX, MEDIAN_PX = 3, 6
LETTER_PX, LINE_PX = 6.5, 14  # of a label: the width of a letter in the page's fonts, about
WINDOWS = 60  # of the running median

# Sentinel colours -> the page's CSS variables, so that one drawing serves light and dark.
COLOURS = {
    "#010101": "--ink-2",
    "#020202": "--line",
    "#030303": "--dots",
    "#040404": "--fill",
    "#050505": "--mark",
}
INK, LINE, DOTS, FILL, MARK = COLOURS

Limits = tuple[float, float]


def limits(samples: Sequence[np.ndarray]) -> Limits:
    """Return the range (ms) that shows all samples, with a margin of 3 % of its length."""
    low, high = min(map(np.min, samples)), max(map(np.max, samples))
    if low == high:
        return 0.9 * low, 1.1 * high
    if high > LOG_FROM * low:
        margin = (high / low) ** 0.03
        return low / margin, high * margin
    margin = 0.03 * (high - low)
    return low - margin, high + margin


def is_log(range_ms: Limits) -> bool:
    """True where an axis of this range is logarithmic."""
    return range_ms[1] > LOG_FROM * range_ms[0]


def distribution(samples: np.ndarray, range_ms: Limits, name: str) -> str:
    """Draw a histogram above all samples (ms), with p50, p90 and p99, on the range of its model.

    Returns:
        An `<svg>` element; its ids begin with `name`.
    """
    with _figure(bottom=22) as (figure, axes):
        _scale(axes, "x", range_ms)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
        edges = _edges(range_ms, axes.bbox.width, BIN_PX_FEW if len(samples) <= FEW else BIN_PX)
        heights = np.histogram(samples, edges)[0]
        axes.stairs(
            0.36 + 0.62 * heights / max(1, heights.max()), edges, baseline=0.36, fill=True, color=FILL
        )
        jitter = 0.06 + 0.22 * (np.arange(len(samples)) * 0.618034 % 1)  # golden ratio: even and repeatable
        _dots(axes, samples, jitter)
        for quantile, style in ((50, "-"), (90, "--"), (99, ":")):
            axes.axvline(np.percentile(samples, quantile), color=MARK, linestyle=style, linewidth=1.3)
        return _svg(figure, name, _distribution_words(samples))


def over_time(samples: np.ndarray, name: str) -> str:
    """Draw all samples (ms) in the order they were taken, with the running median.

    The axis ends at p50 + 3 (p99 - p50), or few outliers would flatten what this plot is for: drift. A sample
    above it is a stroke on the upper edge; how large it is, `distribution` shows.

    Returns:
        An `<svg>` element; its ids begin with `name`.
    """
    with _figure(bottom=22, left=46) as (figure, axes):
        p50, p99 = np.percentile(samples, (50, 99))
        above = samples > max(p50 + 3 * (p99 - p50), samples.min())
        _scale(axes, "y", limits([samples[~above]]))
        count = len(samples)
        axes.set_xlim(0.5 - 0.01 * count, 0.5 + 1.01 * count)
        ticks = [1, count] if count > 1 else [1]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.set_xticklabels([f"inference {ticks[0]}", *(f"{tick:,}" for tick in ticks[1:])])
        axes.xaxis.get_ticklabels()[0].set_horizontalalignment("left")
        axes.xaxis.get_ticklabels()[-1].set_horizontalalignment("right" if count > 1 else "left")
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        places = np.arange(1, count + 1)
        _dots(axes, places[~above], samples[~above])
        _edge(axes, places[above])
        windows = np.array_split(samples, min(WINDOWS, max(1, count // 5)))
        ends = np.cumsum([len(window) for window in windows])
        middles = ends - np.array([(len(window) - 1) / 2 for window in windows])
        axes.plot(middles, [np.median(window) for window in windows], color=MARK, linewidth=1.5)
        return _svg(figure, name, _time_words(samples))


def sweep(points: Sequence[tuple[float, float, float]], every: Sequence[float], name: str) -> str:
    """Draw medians (ms) over a parameter, each with its 95 % interval.

    Args:
        points: the parameter's value, the median in ms, and half its interval in ms.
        every: all values that were tried; those without a median are a gap at their place.
        name: what the ids begin with.

    Returns:
        An `<svg>` element.
    """
    x, p50, half = np.array(points, dtype=float).T
    with _figure(bottom=22, left=46) as (figure, axes):
        _scale(axes, "y", limits([p50 - half, p50 + half]))
        margin = 0.04 * (max(every) - min(every)) or 0.5
        axes.set_xlim(min(every) - margin, max(every) + margin)
        axes.xaxis.set_major_locator(FixedLocator(_thinned(every, 12)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.plot(x, p50, color=MARK, linewidth=1.5)
        low, middle, high = (
            axes.transData.transform(np.column_stack((x, y))) for y in (p50 - half, p50, p50 + half)
        )
        _strokes(axes, low, high, DOTS, INTERVAL_PX)
        _strokes(axes, middle, middle, MARK, MEDIAN_PX)
        return _svg(figure, name, _sweep_words(points))


def power(trace: Power, name: str) -> str:
    """Draw a power trace (W over s) as a band from the least to the largest power, and the idle power in it.

    Windows are shaded from top to bottom, signatures are bars on the lower edge.

    Returns:
        An `<svg>` element; its ids begin with `name`.
    """
    time_s, low, high = (
        np.array(column, dtype=float) for column in (trace.time_s, trace.low_w, trace.high_w)
    )
    begin_s, end_s = time_s[0], time_s[-1]
    bottom, top = min(float(np.nanmin(low)), 0.0), float(np.nanmax(high))
    with _figure(bottom=22, left=46) as (figure, axes):
        _scale(axes, "y", (bottom, 1.08 * top if top > bottom else bottom + 1), "W", is_linear=True)
        _scale(axes, "x", (0.0, float(end_s - begin_s)), "s", is_linear=True)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        for start, end in trace.windows:
            inset = min(0.002 * (end_s - begin_s), 0.1 * (end - start))  # back to back they are told apart
            axes.axvspan(start - begin_s + inset, end - begin_s - inset, color=MARK, alpha=0.14, linewidth=0)
        # a line too: where least and largest are the same, a band cannot be seen
        axes.fill_between(time_s - begin_s, low, high, color=DOTS, linewidth=0.8, edgecolor=DOTS)
        for start, end in trace.idle:
            level = np.interp([start, end], *zip(*trace.idle_line))
            axes.plot(np.array([start, end]) - begin_s, level, color=MARK, linewidth=1.5)
        for start, end in trace.signatures:
            axes.plot(np.array([start, end]) - begin_s, [bottom, bottom], color=INK, linewidth=5)
        words = f"Power over {end_s - begin_s:.0f} s, from {np.nanmin(low):.3g} to {top:.3g} W"
        return _svg(figure, name, f"{words}, with {len(trace.windows)} windows of inferences")


def trade_off(points: Sequence[tuple[str, float, float, float]], name: str) -> str:
    """Draw net energy (mJ) with its 95 % interval over median latency (ms): the best is down left.

    Args:
        points: label, latency, energy, half of the energy's interval.
        name: what the ids begin with.

    Returns:
        An `<svg>` element.
    """
    x, energy, half = np.array([point[1:] for point in points], dtype=float).T
    with _figure(bottom=22, left=46) as (figure, axes):
        _scale(axes, "x", (0.0, 1.08 * float(x.max())), is_linear=True)
        _scale(
            axes,
            "y",
            (min(float((energy - half).min()), 0.0), 1.12 * float((energy + half).max())),
            "mJ",
            is_linear=True,
        )
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        low, middle, high = (
            axes.transData.transform(np.column_stack((x, y))) for y in (energy - half, energy, energy + half)
        )
        _strokes(axes, low, high, DOTS, INTERVAL_PX)
        _strokes(axes, middle, middle, MARK, MEDIAN_PX)
        _labels(axes, [point[0] for point in points], middle)
        words = ", ".join(f"{label}: {ms:.3g} ms, {mj:.3g} mJ" for label, ms, mj, _ in points)
        return _svg(figure, name, f"Net energy over median latency: {html.escape(words)}")


def _sweep_words(points: Sequence[tuple[float, float, float]]) -> str:
    return "Median latency over the parameter: " + ", ".join(f"{at:g}: {p50:.3g} ms" for at, p50, _ in points)


def _distribution_words(samples: np.ndarray) -> str:
    p50, p90, p99 = np.percentile(samples, (50, 90, 99))
    return (
        f"Distribution of {len(samples):,} latencies from {samples.min():.3g} to {samples.max():.3g} ms; "
        f"p50 {p50:.3g} ms, p90 {p90:.3g} ms, p99 {p99:.3g} ms"
    )


def _time_words(samples: np.ndarray) -> str:
    fifth = max(1, len(samples) // 5)
    first, last = np.median(samples[:fifth]), np.median(samples[-fifth:])
    return (
        f"{len(samples):,} latencies in the order they were taken; median of the first fifth {first:.3g} ms, "
        f"of the last fifth {last:.3g} ms"
    )


@contextmanager
def _figure(bottom: int, left: int = 6) -> Iterator[tuple[Figure, Any]]:
    """Yield an empty figure and its axes, margins in px, in matplotlib's own style and not the user's."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "report",
                "path.simplify": False,
                "font.size": FONT_PX,
                "axes.edgecolor": LINE,
                "xtick.color": LINE,
                "ytick.color": LINE,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "xtick.major.size": 3,
                "ytick.major.size": 0,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
            }
        )
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        box = (left / WIDTH, bottom / HEIGHT, (WIDTH - left - 6) / WIDTH, (HEIGHT - bottom - 4) / HEIGHT)
        yield figure, figure.add_axes(box, facecolor="none")


def _scale(axes: Any, which: str, span: Limits, unit: str = "ms", *, is_linear: bool = False) -> None:
    """Set the range of one axis, its scale, and a few round ticks."""
    getattr(axes, f"set_{which}lim")(span)
    axis = getattr(axes, f"{which}axis")
    if is_log(span) and not is_linear:
        getattr(axes, f"set_{which}scale")("log")
    ticks = _ticks(span, 6 if which == "x" else 4, is_linear=is_linear)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    getattr(axes, f"set_{which}ticklabels")(
        [f"{tick:.10g}" for tick in ticks[:-1]] + [f"{ticks[-1]:.10g} {unit}"]
    )


def _ticks(span: Limits, most: int, *, is_linear: bool) -> list[float]:
    """Return 2 to `most` round values in the range: 1-2-5 steps, or powers of ten where that is too many."""
    low, high = span
    if is_linear or not is_log(span):
        step = 10.0 ** math.floor(math.log10(high - low) - 1)
        steps = (step * factor for factor in (1, 2, 5, 10, 20, 50, 100))
        step = next(size for size in steps if math.floor(high / size) - math.ceil(low / size) < most)
        return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return _thinned(ticks, most)


def _thinned(ticks: Sequence[float], most: int) -> Sequence[float]:
    return ticks[:: math.ceil(len(ticks) / most)]


def _edges(range_ms: Limits, width_px: float, bin_px: float) -> np.ndarray:
    """Return the histogram's bin edges: bins of equal width on the page."""
    bins = round(width_px / bin_px)
    return np.geomspace(*range_ms, bins + 1) if is_log(range_ms) else np.linspace(*range_ms, bins + 1)


def _dots(axes: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Draw one dot per sample, on a grid of half a pixel; dots that overlap in a column become one stroke."""
    pixels = np.unique(np.round(2 * axes.transData.transform(np.column_stack((x, y)))), axis=0)
    right, up = np.diff(pixels, axis=0).T
    apart = (right > 0) | (up > 2)
    first = np.concatenate(([True], apart))
    last = np.concatenate((apart, [True]))
    _strokes(axes, pixels[first] / 2, pixels[last] / 2, DOTS, DOT_PX_FEW if len(x) <= FEW else DOT_PX)


def _edge(axes: Any, x: np.ndarray) -> None:
    """Draw a stroke on the upper edge for each sample above it."""
    columns = (
        np.unique(np.round(2 * axes.transData.transform(np.column_stack((x, np.ones_like(x))))[:, 0])) / 2
    )
    top = np.full_like(columns, axes.bbox.y1)
    _strokes(axes, np.column_stack((columns, top - 5)), np.column_stack((columns, top)), MARK, DOT_PX)


def _strokes(axes: Any, begin: np.ndarray, end: np.ndarray, colour: str, width_px: float) -> None:
    """Draw lines with round ends between points in px, as one path."""
    points = np.stack((begin, end), axis=1).reshape(-1, 2)
    outline = Outline(points, [Outline.MOVETO, Outline.LINETO] * len(begin))
    axes.add_artist(
        PathPatch(outline, transform=None, fill=False, edgecolor=colour, linewidth=width_px, capstyle="round")
    )


def _labels(axes: Any, labels: Sequence[str], points: np.ndarray) -> None:
    """Write labels beside points (px), from the top down; one that would lie on another, or on a point, goes
    below it."""
    placed = [(x - MEDIAN_PX, x + MEDIAN_PX, y) for x, y in points]  # from, to, height
    for index in np.argsort(-points[:, 1], kind="stable"):
        x, y = points[index]
        width = LETTER_PX * len(labels[index])
        is_right = x + width > WIDTH - 6
        begin = x - 7 - width if is_right else x + 7
        for left, right, height in sorted(placed, key=lambda one: -one[2]):
            if begin < right and left < begin + width and abs(y - height) < LINE_PX:
                y = height - LINE_PX
        placed.append((begin, begin + width, y))
        side = "right" if is_right else "left"
        at = (x - 7 if is_right else x + 7, y)
        axes.annotate(labels[index], at, xycoords="figure pixels", ha=side, va="center", color=INK)


def _rounded(tag: str) -> str:
    """Return a tag with its numbers to a tenth of a pixel."""
    return re.sub(r"\d+\.\d{2,}", lambda digits: f"{float(digits[0]):.1f}".removesuffix(".0"), tag)


def _svg(figure: Figure, name: str, words: str) -> str:
    """Return the figure as an element for the page: its colours and font, ids of its own, words for ears."""
    file = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    body = text[text.index("</defs>") + len("</defs>") :]  # what is before it would style the whole page
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"<[^>]*>", lambda tag: _rounded(tag[0]), body)  # not what is to be read between tags
    body = re.sub(r" font-family: [^;\"]*;", "", body)  # the page's own
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r"M ([\d.]+ )([\d.]+) \nL \1([\d.]+) \n", r"M\1\2V\3", body)  # the strokes of the dots
    for colour, variable in COLOURS.items():
        body = body.replace(colour, f"var({variable})")
    head = f'<svg class="plot" role="img" aria-label="{words}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return head + re.sub(r"\s*\n\s*", " ", body).strip()
