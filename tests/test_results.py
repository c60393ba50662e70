"""What a record says of the stages that its measurement builds upon."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from host import results
from host.pipeline import Outcome
from host.plan import Stage
from tools.stage import Input, Output, Result, Tool, Unsupported

tool = Tool("toy")


@tool.command()
def convert(onnx: Input, blob: Output = "{model}.blob") -> Result:
    return Result()


@tool.command(measures=True)
def benchmark(blob: Input) -> Result:
    return Result()


def test_a_conversion_that_failed_says_which_nodes_the_chip_cannot_take(tmp_path: Path) -> None:
    made = Stage(model="net", command=tool.commands["convert"], params={}, inputs={})
    asked = Stage(model="net", command=tool.commands["benchmark"], params={}, inputs={"blob": made})
    compiled = {"chip": "2480", "unsupported_layers": [{"node": "out", "operator": "Sin"}]}
    cause = Unsupported("no layer for out (Sin)", hint="Replace it.", metadata={"compiled": compiled})
    outcomes = {made: Outcome(error=cause), asked: Outcome(error=Unsupported("needs it"), blocker=made)}
    record = results.record(asked, outcomes, SimpleNamespace(name="venv"), tmp_path)
    assert record["metadata"]["made_by"] == {"toy.convert": {"compiled": compiled}}
