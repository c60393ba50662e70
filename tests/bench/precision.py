"""What each precision costs in accuracy, and does the gate tell it from a fault?

    python -m tests.bench.precision [--model NAME ...] [--work WORK]

Runs every network in every precision on the CPU of every backend, and prints for each the lowest cosine, the
largest error as a part of the largest spread of a reference output, and how many first classes are the same.
The last two rows of each network are controls, faults that every precision's limits should refuse: noise of
a tenth of the weights' standard deviation, and the weights of each layer shuffled.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host import ROOT
from host.engines.venv import environment, tool_environment
from tools import gate

MODELS = ("squeezenet", "mobilenet_v1_1.0", "mobilenet_v2_1.0", "alexnet_v2", "bert_tiny")
CONTROLS = """
import json, sys
from pathlib import Path
import numpy as np
from tools import arrays, gate
from tools.stage import WrongOutput
from tools.tf1 import graphs, references
from tools.tf1.runtime import tf

frozen, signature, reference = map(Path, sys.argv[1:])
ends = graphs.read_signature(signature)
inputs, expected = arrays.read_reference(reference)
random = np.random.default_rng(0)


def disturbed(values):
    return values + 0.1 * values.std() * random.standard_normal(values.shape)


def other(values):
    return random.permutation(values.ravel()).reshape(values.shape)


def judge(change):
    graph = graphs.read(frozen)
    for node in graph.node:
        values = tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else np.zeros(1)
        if values.dtype == np.float32 and values.ndim > 1:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(change(values).astype(np.float32)))
    found = references.outputs(graphs.load(graph, frozen), ends, inputs)
    taken_for = []
    for precision in gate.TOLERANCES:
        try:
            metrics = gate.check(found, expected, precision)
            taken_for.append(precision)
        except WrongOutput as error:
            metrics = error.metrics
    spread = gate.limits(expected, "fp32")["max_abs"] / gate.TOLERANCES["fp32"].error
    return {"correctness": {key[len("correctness_"):]: value for key, value in metrics.items()},
            "spread": spread, "taken_for": taken_for}


print(json.dumps({"noise of 10 %": judge(disturbed), "weights shuffled": judge(other)}))
"""


def measure(models: list[str], work: Path) -> list[Mapping[str, Any]]:
    """Run the main job in every precision; return the records of what ran."""
    argv = [sys.executable, "runner.py", "all", "--work", str(work), "--engine", "venv", "--budget-s", "0.2"]
    argv += ["--weights", "generated"]
    for option, values in (("--model", models), ("--precision", list(gate.TOLERANCES))):
        argv += [word for value in values for word in (option, value)]
    subprocess.run(argv, cwd=ROOT, stdout=sys.stderr, check=False)  # a wrong output is a row here, no error
    document = json.loads((work / "runs" / "latest" / "results.json").read_text())
    return [record for record in document["records"] if record["correctness"]]


def controls(model: str, work: Path) -> Mapping[str, Any]:
    """Return what the gate says of the two faults."""
    folder = work / "models" / model
    files = [str(folder / f"{model}.{kind}") for kind in ("frozen.pb", "signature.json", "reference.npz")]
    argv = [str(environment("tf1", lambda text: print(text, file=sys.stderr))), "-c", CONTROLS, *files]
    done = subprocess.run(argv, env=tool_environment(), stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def cell(correctness: Mapping[str, float | None], spread: float) -> str:
    """Return cosine, relative error and first classes as one cell."""
    cosine, error, top1 = (correctness[key] for key in ("cosine", "max_abs", "top1_match"))
    if cosine is None or error is None:
        return "not finite"
    return f"{cosine:.5f} / {error / spread:.1%}" + ("" if top1 is None else f" / {top1:.0%}")


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--model", action="append", help="a network of the zoo; some small ones if none is named"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="where its files are, or are made")
    options = parser.parse_args()
    models = options.model or list(MODELS)
    records = measure(models, options.work.resolve())
    print("Lowest cosine / largest error / same first class; **bold**: refused (a control: taken).\n")
    print(f"| network | runtime | {' | '.join(gate.TOLERANCES)} |")
    print(f"|---|---|{'---|' * len(gate.TOLERANCES)}")
    for model in models:
        mine = [record for record in records if record["model"] == model]
        for runtime in dict.fromkeys(record["runtime"] for record in mine):
            cells = dict.fromkeys(gate.TOLERANCES, "-")
            for record in (record for record in mine if record["runtime"] == runtime):
                precision = record["precision"]
                spread = record["metadata"]["tolerance"]["max_abs"] / gate.TOLERANCES[precision].error
                text = cell(record["correctness"], spread)
                cells[precision] = text if record["status"] in ("ok", "emulated") else f"**{text}**"
            print(f"| {model} | {runtime} | {' | '.join(cells.values())} |")
        for name, found in controls(model, options.work.resolve()).items():
            text = cell(found["correctness"], found["spread"])
            cells = {key: f"**{text}**" if key in found["taken_for"] else text for key in gate.TOLERANCES}
            print(f"| {model} | {name} | {' | '.join(cells.values())} |")


if __name__ == "__main__":
    main()
