"""Networks through the converters of Qualcomm's SDK: 1.x takes the frozen graph, 2.x the ONNX file.

The options' older names (`--graph`, `--dlc`; `--model_path`, `--dlc_path`) gave way to `--input_network` and
`--output_path` around 1.30; which it is the program's own help says. `-i` means an input's size in the older
and the network in the newer ones, so only long options are used.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools import arrays
from tools.snpe.sdk import CONVERTED, SAVED_QUANTISED, Sdk, reason
from tools.stage import InvalidRequest, Unsupported, progress, write_json

NEWER = "--input_network"
CALIBRATION_INPUTS = 64


def convert(sdk: Sdk, onnx: Path, frozen: Path, signature: Path, dlc: Path, inputs: Path) -> dict[str, Any]:
    """Write the network as the SDK's own DLC, in float, and what it takes; return what a result says of it.

    `inputs` is for those that run it and have no Python for the SDK: JSON, name -> shape.

    Raises:
        Unsupported, StageError: the converter refused.
    """
    older = sdk.number < (2,)
    program, network = ("snpe-tensorflow-to-dlc", frozen) if older else ("snpe-onnx-to-dlc", onnx)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        made = scratch / "network.dlc"
        newer = NEWER in sdk.call(program, "--help", scratch=scratch)
        named = {
            "snpe-tensorflow-to-dlc": ("--graph", "--dlc"),
            "snpe-onnx-to-dlc": ("--model_path", "--dlc_path"),
        }
        source, target = (NEWER, "--output_path") if newer else named[program]
        options = [source, str(network.resolve()), target, str(made)]
        if older:
            options += _tensorflow(signature)
        progress(0.1, f"{program} of {sdk.name}")
        sdk.make(made, CONVERTED, program, *options)
        about = info(sdk, made)
        write_json(inputs, about["inputs"])
        shutil.copyfile(made, dlc)
    return {**sdk.describe(), "converter": program, "options": "newer" if newer else "older", **about}


def quantize(
    sdk: Sdk, dlc: Path, calibration: Path, made: Path, *, bits: int, socs: Sequence[str]
) -> dict[str, Any]:
    """Quantise a DLC of the SDK's with representative inputs; return what a result says of it.

    1.x quantises in one program. 2.x does it in two: the second prepares the graph for the HTP of `socs`.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        listed = write_inputs(sdk, dlc, calibration, scratch)
        target = scratch / "quantised.dlc"
        options = [
            "--input_dlc",
            str(dlc.resolve()),
            "--input_list",
            str(listed),
            "--output_dlc",
            str(target),
        ]
        program = "snpe-dlc-quantize" if sdk.number < (2,) else "snpe-dlc-quant"
        if program == "snpe-dlc-quant":
            options += [
                "--act_bitwidth",
                str(bits),
                "--weights_bitwidth",
                "8",
                "--use_per_channel_quantization",
            ]
        elif bits != 8:
            message = f"{program} of {sdk.name} has no activations of {bits} bits"
            raise Unsupported(message, hint="Take int8, or an SDK 2.x.")
        progress(0.1, f"{program} of {sdk.name}")
        sdk.make(target, SAVED_QUANTISED, program, *options)
        prepared = ""
        if program == "snpe-dlc-quant":
            ready = scratch / "prepared.dlc"
            names = f"--htp_socs={','.join(socs)}"
            progress(0.6, f"snpe-dlc-graph-prepare for {', '.join(socs)}")
            preparer = "snpe-dlc-graph-prepare"
            sdk.make(ready, None, preparer, "--input_dlc", str(target), "--output_dlc", str(ready), names)
            target, prepared = ready, ", ".join(socs)
        shutil.copyfile(target, made)
    return {**sdk.describe(), "quantizer": program, "prepared_for": prepared}


def info(sdk: Sdk, dlc: Path) -> dict[str, Any]:
    """Return what snpe-dlc-info says of a DLC: `inputs` (name -> shape), and the lines of its end.

    Raises:
        InvalidRequest: it is no DLC, or one of another generation.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = sdk.call("snpe-dlc-info", "--input_dlc", str(dlc.resolve()), scratch=Path(folder))
    inputs = input_shapes(said)
    if not inputs:
        message = f"snpe-dlc-info of {sdk.name} does not read {dlc.name}: {reason(said)}"
        raise InvalidRequest(message, hint="DLCs of SNPE 1 and 2 are not interchangeable: convert it again.")
    tail = {
        "macs": re.search(r"Total MACs per inference: (\S+)", said),
        "parameters": re.search(r"Total parameters: (\d+)", said),
        "converter_version": re.search(r"DLC created with converter version: (\S+)", said),
    }
    return {"inputs": inputs, **{key: match[1] for key, match in tail.items() if match}}


def input_shapes(said: str) -> dict[str, list[int]]:
    """Return the inputs in what snpe-dlc-info printed, by name.

    2.x has a table of them: `| Input Name | Dimensions | Type |`, `| images | 1,640,640,3 | Float_32 |`.
    1.x has them among the layers, of type `data`: `| 0 | input | data | input | input | 1x299x299x3 | A |`.
    """
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in said.splitlines()]
    heads = [number for number, row in enumerate(rows) if row[0].lower() == "input name"]
    if heads:
        table = [row for row in rows[heads[0] + 1 :] if len(row) > 1]
        found = itertools.takewhile(lambda row: re.fullmatch(r"[\d, x\[\]]+", row[1]), table)
        return {row[0]: _sizes(row[1]) for row in found}
    return {row[4]: _sizes(row[5]) for row in rows if len(row) > 5 and row[2].lower() == "data"}


def _sizes(text: str) -> list[int]:
    return [int(size) for size in re.findall(r"\d+", text)]


def read_inputs(path: Path) -> dict[str, tuple[int, ...]]:
    """Return what `convert` wrote of a DLC's inputs.

    Raises:
        InvalidRequest: it is not such a file.
    """
    try:
        return {name: tuple(map(int, shape)) for name, shape in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        message = f"{path.name} does not say what the DLC takes"
        raise InvalidRequest(message, hint="Make it again with snpe.convert-sdk.") from error


def write_inputs(sdk: Sdk, dlc: Path, calibration: Path, folder: Path) -> Path:
    """Write representative inputs as raw files into `folder`; return the list of them."""
    inputs = arrays.read_inputs(calibration)
    shapes = {name: tuple(shape) for name, shape in info(sdk, dlc)["inputs"].items()}
    count = min(CALIBRATION_INPUTS, len(next(iter(inputs.values()))))
    return raw_files(inputs, shapes, range(count), folder, relative=False)


def raw_files(
    inputs: arrays.Inputs,
    shapes: dict[str, tuple[int, ...]],
    indices: Sequence[int],
    folder: Path,
    *,
    relative: bool,
) -> Path:
    """Write inputs as snpe-net-run reads them: float32, no head, in the DLC's layout; return the list.

    A line is `path`, or `name:=path name:=path` of a network of several inputs.
    """
    import numpy as np

    lines = []
    for line, index in enumerate(indices):
        parts = []
        for number, (name, batch) in enumerate(arrays.fit(inputs, shapes, index).items()):
            path = folder / f"input_{line}_{number}.raw"
            np.ascontiguousarray(batch, "<f4").tofile(path)
            said = path.name if relative else str(path)
            parts.append(said if len(shapes) == 1 else f"{name}:={said}")
        lines.append(" ".join(parts))
    listed = folder / "list.txt"
    listed.write_text("\n".join(lines) + "\n")
    return listed


def _tensorflow(signature: Path) -> list[str]:
    """Return the ends of a frozen graph as its converter wants them."""
    try:
        said = json.loads(signature.read_text())
        inputs, output = said["inputs"], said["output"]
        sizes = {name: ",".join(map(str, about["shape"])) for name, about in inputs.items()}
    except (ValueError, KeyError, TypeError) as error:
        message = f"{signature.name} is not a signature with inputs and output"
        raise InvalidRequest(message, hint="Make it again with tf1.export.") from error
    return [
        *(part for name, size in sizes.items() for part in ("--input_dim", name, size)),
        "--out_node",
        output,
    ]
