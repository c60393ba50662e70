"""The energy of a record: what the energy tool found in a trace, or why there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host.pipeline import Outcome
from host.plan import Stage

Found = dict[str, Any]
OF_BOARD = "Measure it in a run without --device, with a meter of this machine's."
METER = ("device", "serial", "firmware", "rate_hz", "supply_v", "note")  # what is kept of what it says


def of(
    stage: Stage, outcomes: Mapping[Stage, Outcome], meter: Mapping[str, Any] | None, folder: Path
) -> Found:
    """Return the fields of a measurement's record that are about energy, and the `files` that hold it.

    `meter` is that of the run. A measurement that is not ok has no energy, for the record's own reason; of
    one that is and has none, `energy_reason` says why, unless no meter was asked for.
    """
    if meter is None or outcomes[stage].status != "ok":
        return _none(None, None)
    mine = [other for other in outcomes if other.of is stage]
    if not mine:
        here = f"{meter['name']} is on the board, and this ran here"
        return _none(f"no meter: {meter['reason'] or here}", meter["hint"] or OF_BOARD)
    files = {key: path for other in mine for key, path in _files(outcomes[other], folder).items()}
    for other in mine:
        if error := outcomes[other].error:
            return {**_none(str(error), error.hint), "files": files}
    if "energy" not in files:
        return {**_none("the run broke off before its energy was calculated", None), "files": files}
    said = json.loads((folder / files["energy"]).read_text())
    if said["status"] != "ok":
        return {**_none(said["reason"], said["hint"]), "files": files}
    recorded = outcomes[mine[0]].result
    assert recorded
    return {**_none(None, None), "energy": _energy(said, recorded.metadata), "files": files}


def _none(reason: str | None, hint: str | None) -> Found:
    hint = (hint or "See the stage's log.") if reason else None
    return {"energy": None, "energy_reason": reason, "energy_hint": hint, "files": {}}


def _files(outcome: Outcome, folder: Path) -> dict[str, str]:
    if outcome.result is None or outcome.folder is None:
        return {}
    return {
        key: os.path.relpath(outcome.folder / name, folder) for key, name in outcome.result.outputs.items()
    }


def _energy(said: Mapping[str, Any], meter: Mapping[str, Any]) -> Found:
    """Return the energy as results.json has it, of energy.json and what the recording said of the meter."""
    energy = said["energy_per_inference_mj"]
    return {
        "gross_mj": energy["gross"],
        "gross_ci95_mj": energy["gross_ci95"],
        "net_mj": energy["net"],
        "net_ci95_mj": energy["net_ci95"],
        "idle_w": {side: said["idle_w"][side] for side in ("before", "after")},
        "budget_mj": {part: both["net"] for part, both in said["budget_mj"].items()},
        "channels_w": said["channels_w"],
        "mean_v_times_mean_i_mj": said["mean_v_times_mean_i_mj"],
        "aligned_by": said["alignment"]["by"],
        "windows": said["window"]["count"],
        "inferences": said["window"]["inferences"],
        "channel": said["channel"],
        "scope": said["scope"],
        "meter": {
            "name": said["meter"],
            **{key: meter[key] for key in METER if meter.get(key) not in (None, "")},
        },
        "dropped": said["dropped"],
        "simulated": said["simulated"],
        "warnings": said["warnings"],
    }
