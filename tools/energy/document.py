"""What is told of an energy: one JSON document for people's scripts, the results and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from tools.energy import integral
from tools.energy.estimate import Estimate
from tools.energy.refusals import Refused
from tools.stage import InvalidRequest
from tools.trace import Trace
from tools.windows import Windows

if TYPE_CHECKING:
    import numpy as np

    from tools.energy.integral import Power

SCHEMA = 1  # 1: first version
DRAWN = 1000  # stretches of a drawn trace, a minimum and a maximum each
UNKNOWN = "nothing is known of the meter's own error: the interval is without it"
MEANS_APART = 0.01  # of the energy: mean V x mean I is not the energy then, and it is said


def of(trace: Trace, given: Optional[Windows], found: Estimate) -> dict[str, Any]:
    """Return the document of an energy: millijoules per inference, its interval, and what it rests on."""
    per = 1e3 / found.inferences
    windows, side = found.placement.windows, found.baseline
    product = _product_mj(trace, found)
    gross, net = float(found.gross_j.sum()) * per, float(found.net_j.sum()) * per
    return {
        **_head(trace, given, found.power.channel),
        "status": "ok",
        "reason": None,
        "hint": None,
        "inferences": round(found.inferences),
        "energy_per_inference_mj": {
            "gross": gross,
            "net": net,
            "gross_ci95": found.interval_mj("gross"),
            "net_ci95": found.interval_mj("net"),
        },
        "window": {
            "start_s": windows[0].start_s,
            "end_s": windows[-1].end_s,
            "seconds": float(found.cells.seconds.sum()),
            "inferences": round(found.inferences),
            "count": len(windows),
        },
        "windows": _rows(found),
        "idle_w": {
            "before": side.before.level_w,
            "after": side.after.level_w,
            "seconds_before": side.before.seconds,
            "seconds_after": side.after.seconds,
            "drift_w_per_s": side.drift_w_per_s,
            "error": side.error_w(found.cells.middle_s),
        },
        "channels_w": _channels_w(trace, found),
        "alignment": {"by": found.placement.by, "error_s": found.placement.error_s, **found.placement.facts},
        "budget_mj": {part.name: {"gross": part.gross * per, "net": part.net * per} for part in found.parts},
        "mean_v_times_mean_i_mj": product,
        "lost_s": found.lost_s,
        "warnings": [*found.warnings, *_warnings(found, gross, product)],
    }


def refused(trace: Trace, given: Optional[Windows], channel: str, why: Refused) -> dict[str, Any]:
    """Return the document of a refusal: no energy, but why not and what to do."""
    nothing = dict.fromkeys(("energy_per_inference_mj", "window", "idle_w"))
    return {
        **_head(trace, given, channel),
        "status": "refused",
        "reason": str(why),
        "hint": why.hint,
        **nothing,
    }


def _head(trace: Trace, given: Optional[Windows], channel: str) -> dict[str, Any]:
    meta = trace.meta
    return {
        "schema": SCHEMA,
        "simulated": meta.simulated or bool(given and given.simulated),
        "meter": meta.meter,
        "device": meta.device,
        "serial": meta.serial,
        "channel": channel,
        "scope": meta.channels[channel].scope if channel in meta.channels else "",
        "channels": list(trace.channels),
        "rate_hz": meta.rate_hz,
        "samples": len(trace.time_s),
        "dropped": meta.dropped,
        "note": meta.note,
    }


def _rows(found: Estimate) -> list[dict[str, float]]:
    """Return a row for each window, or for each of the parts that stand for windows."""
    made = found.cells
    return [
        {
            "start_s": float(start_s),
            "end_s": float(end_s),
            "inferences": float(count),
            "gross_mj": float(gross * 1e3 / count),
            "net_mj": float(net * 1e3 / count),
        }
        for start_s, end_s, count, gross, net in zip(
            made.start_s, made.end_s, made.count, found.gross_j, found.net_j
        )
    ]


def _channels_w(trace: Trace, found: Estimate) -> dict[str, float]:
    """Return the mean power of each of the trace's channels in the windows, of those that are known."""
    import numpy as np

    starts, ends = found.cells.start_s, found.cells.end_s
    means = {}
    for channel in trace.channels:
        try:
            own = channel == found.power.channel
            power = found.power if own else integral.of_channel(trace, channel)
        except (Refused, InvalidRequest):  # current alone, a counter that falls: what is told is of another
            continue
        mean_w, lost_s = power.known(starts, ends)
        known_s = ends - starts - lost_s
        if known_s.sum() > 0:
            means[channel] = float(np.nansum(mean_w * known_s) / known_s.sum())
    return means


def _product_mj(trace: Trace, found: Estimate) -> Optional[float]:
    """Return what mean voltage x mean current would give, mJ per inference; None without the two."""
    import numpy as np

    current, voltage = (trace.column(found.power.channel, unit) for unit in "av")
    if current is None or voltage is None:
        return None
    total = 0.0
    for start_s, end_s in zip(found.cells.start_s, found.cells.end_s):
        low, high = np.searchsorted(trace.time_s, (start_s, end_s))
        if high > low:
            mean = float(np.nanmean(current[low:high])) * float(np.nanmean(voltage[low:high]))
            total += mean * float(end_s - start_s)
    return total * 1e3 / found.inferences


def _warnings(found: Estimate, gross: float, product: Optional[float]) -> list[str]:
    texts = [UNKNOWN] if found.power.facts.gain_error is None else []
    if product is not None and abs(product - gross) > MEANS_APART * gross:
        texts.append(
            f"mean voltage x mean current is {product / gross - 1:+.1%} off: the voltage follows the load"
        )
    return texts


def plot(power: Power, found: Optional[Estimate]) -> dict[str, Any]:
    """Return what a picture of the trace needs: minima and maxima of the power, windows, idle times.

    Of a trace that was refused there are neither windows nor idle times.
    """
    import numpy as np

    edges = np.linspace(power.start_s, power.end_s, min(DRAWN, len(power.time_s) // 2 or 1) + 1)
    low_w, high_w = _extremes(power, edges)
    drawn = {
        "time_s": [round(float(at), 6) for at in (edges[:-1] + edges[1:]) / 2],
        "low_w": low_w,
        "high_w": high_w,
    }
    if found is None:
        return {**drawn, "windows": [], "idle": [], "idle_line": [], "signatures": []}
    return {
        **drawn,
        "windows": [[one.start_s, one.end_s] for one in found.placement.windows],
        "idle": [list(span) for span in found.idle],
        "idle_line": [[at, float(found.baseline.level_w(at))] for at in edges[[0, -1]].tolist()],
        "signatures": [[list(each) for each in one] for one in found.placement.signatures],
    }


def _extremes(power: Power, edges: np.ndarray) -> tuple[list[Optional[float]], list[Optional[float]]]:
    """Return the lowest and highest power between edges; None where nothing is known, a counter's mean."""
    import numpy as np

    if power.power_w is None:
        mean, _ = power.known(edges[:-1], edges[1:])
        shown = [float(f"{each:.6g}") if np.isfinite(each) else None for each in mean]
        return shown, shown
    first = np.searchsorted(power.time_s, edges[:-1])
    empty = first == np.append(first[1:], len(power.time_s))
    starts = np.minimum(first, len(power.time_s) - 1)
    found = []
    for extreme in (np.minimum, np.maximum):
        values = extreme.reduceat(power.power_w, starts)
        found.append([None if gone else float(f"{each:.6g}") for each, gone in zip(values, empty)])
    return found[0], found[1]
