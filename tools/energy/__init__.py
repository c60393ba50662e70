"""Energy per inference of a power trace, with an uncertainty; refused where the trace cannot carry it.

`per-inference` lays the windows in which inferences ran on a trace, or finds the load in it, and subtracts
the idle power; docs/energy.md says how and with what limits. `convert` turns a file of a meter's own program
into a trace, and a trace into what these programs read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional

from tools import windows as window_files
from tools.stage import Input, InvalidRequest, Output, Result, Tool, write_json

if TYPE_CHECKING:
    from tools.trace import Trace

tool = Tool("energy", packages=("numpy", "pyarrow"))

FORMS = ("parquet", "csv", "pt4")


@tool.command()
def per_inference(
    trace: Input,
    windows: Optional[Input] = None,
    energy: Output = "{model}.energy.json",
    inferences: int = 0,
    channel: str = "",
) -> Result:
    """Tell the energy of an inference, gross and net, or why it cannot be told.

    A refusal is a result with the status `refused`, not an error: what it says goes into the results.
    """
    from tools import trace_files

    given = window_files.read(windows) if windows else None
    document = describe(trace_files.read(trace), given, inferences, channel)
    write_json(energy, document)
    return Result(metrics=_metrics(document), metadata=_metadata(document))


def describe(
    trace: Trace, given: Optional[window_files.Windows], inferences: int, channel: str
) -> dict[str, Any]:
    """Return the document of a trace's energy, or of its refusal, with what draws the trace under `plot`.

    Raises:
        InvalidRequest: the channel is not there, or no number of inferences was given.
    """
    from tools.energy import document, estimate, integral
    from tools.energy.refusals import Refused

    estimate.check_count(given, inferences)
    taken = integral.choose(trace, channel)
    power = None
    try:
        power = integral.of_channel(trace, taken)
        found = estimate.of_power(trace, power, given, inferences)
    except Refused as why:
        drawn = document.plot(power, None) if power else None
        return {**document.refused(trace, given, taken, why), "plot": drawn}
    return {**document.of(trace, given, found), "plot": document.plot(power, found)}


def _metrics(document: Mapping[str, Any]) -> dict[str, float]:
    if document["status"] != "ok":
        return {}
    found = document["energy_per_inference_mj"]
    return {
        "energy_per_inference_gross_mj": found["gross"],
        "energy_per_inference_net_mj": found["net"],
        "idle_before_w": document["idle_w"]["before"],
        "idle_after_w": document["idle_w"]["after"],
        "dropped": document["dropped"],
    }


def _metadata(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return all but what is drawn and the rows of windows, which are in the file."""
    return {key: value for key, value in document.items() if key not in ("plot", "windows", "schema")}


@tool.command()
def convert(
    capture: Input, converted: Output = "{model}.converted", form: str = "parquet", channel: str = "main"
) -> Result:
    """Write a trace, of whatever format, as `form`: parquet, csv (`Time(s),Main(mA),Main Voltage(V)`) or pt4.

    CSV and PT4 hold one channel with current and voltage.
    """
    from tools import trace as traces
    from tools import trace_files

    if form not in FORMS:
        message = f"a trace cannot be written as {form!r}"
        raise InvalidRequest(message, hint=f"Choose one of {', '.join(FORMS)}.")
    found = trace_files.read(capture)
    if form == "csv":
        trace_files.write_csv(converted, found, channel)
    elif form == "pt4":
        trace_files.write_pt4(converted, found)
    else:
        traces.write(converted, found)
    meta = found.meta
    metadata = {
        "channels": list(found.channels),
        "meter": meta.meter,
        "device": meta.device,
        "simulated": meta.simulated,
        "note": meta.note,
        "rate_hz": meta.rate_hz,
    }
    seconds = float(found.time_s[-1] - found.time_s[0])
    return Result(
        metrics={"samples": len(found.time_s), "seconds": seconds, "dropped": meta.dropped}, metadata=metadata
    )
