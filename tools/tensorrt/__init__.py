"""TensorRT on a Jetson or any NVIDIA GPU: operators checked, an engine built, measured and profiled.

It runs where TensorRT is: in NVIDIA's image on a PC, in that of an L4T on a board (`jetpack`). It is driven
by its Python module (`bindings`, `cuda`, `session`, `by_python`) where that is, else by NVIDIA's program
trtexec (`trtexec`, `versions`, `log`, `measuring`); `places` chooses. `checking` and `operators` need no
TensorRT. `polygraphy` finds the layer at which an engine goes wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from tools import onnx_models
from tools.benchmark import Target, said_of
from tools.stage import Input, Output, Result, Tool, Unsupported, write_json
from tools.tensorrt import (
    building,
    by_python,
    checking,
    jetpack,
    log,
    measuring,
    places,
    polygraphy,
    ranges,
    versions,
)

tool = Tool(
    "tensorrt",
    packages=("onnxruntime", "onnx", "numpy"),
    builds={"l4t": "3.8", "l4t310": "3.10"},
    board_build=jetpack.board_build,
    restriction="built on NVIDIA's image it holds TensorRT, under NVIDIA's own licence agreement",
)

PRECISIONS = ("fp32", "fp16", "int8")
OLDEST_BOARD = "8.2"  # the last TensorRT of a TX2; what it takes, the newer ones take


@tool.command()
def check(onnx: Input, trt_check: Output = "{model}.trt-check.json", tensorrt: str = OLDEST_BOARD) -> Result:
    """Say which operators TensorRT's parser would not take, by version; it needs no TensorRT."""
    found = checking.check(onnx_models.read(onnx))
    checking.write(trt_check, found)
    chosen = checking.table_name(versions.parse(tensorrt))
    problems = found["versions"][chosen]
    layers = [{key: each[key] for key in ("node", "operator")} for each in problems if each["operator"]]
    said: Dict[str, Any] = {
        "compiled": {
            "chip": f"TensorRT {chosen}",
            "checked_only": True,
            "nodes": found["nodes"],
            "unsupported_layers": layers,
        },
        "opset": found["opset"],
        "problems": problems,
        "problems_by_version": {name: len(listed) for name, listed in found["versions"].items()},
    }
    return Result(metrics={"problems": len(problems)}, metadata=said)


@tool.command(fresh=True, on_board=True)
def gpu(trt_gpu: Output = "{model}.trt-gpu.json", tensorrt_api: str = "auto") -> Result:
    """Say which GPU and which TensorRT are here, what an engine is valid for, and by what it is driven."""
    found, why = places.choose(tensorrt_api)
    write_json(trt_gpu, found)  # without the reason: engines are kept by the content of this file
    return Result(metadata={**found, "api_why": why})


@tool.command()
def calibrate(onnx: Input, calibration: Input, trt_ranges: Output = "{model}.trt-ranges.json") -> Result:
    """Find each tensor's range over the representative inputs, for int8; it needs no TensorRT."""
    found = ranges.measure(onnx_models.read(onnx), calibration, trt_ranges)
    return Result(metrics={"tensors": len(found)})


@tool.command(on_board=True)
def build(
    onnx: Input,
    trt_gpu: Input,
    trt_check: Input,
    trt_engine: Output = "{model}.engine",
    trt_built: Output = "{model}.engine.json",
    workspace_mib: int = 1024,
    dla_core: int = -1,
) -> Result:
    """Build an engine in float32, without TF32."""
    order = building.Order(onnx, trt_gpu, trt_check, "fp32", workspace_mib, dla_core)
    return _build(order, trt_engine, trt_built)


@tool.command(on_board=True)
def build_fp16(
    onnx: Input,
    trt_gpu: Input,
    trt_check: Input,
    trt_engine_fp16: Output = "{model}.fp16.engine",
    trt_built_fp16: Output = "{model}.fp16.engine.json",
    workspace_mib: int = 1024,
    dla_core: int = -1,
) -> Result:
    """Build an engine that may compute in float16."""
    order = building.Order(onnx, trt_gpu, trt_check, "fp16", workspace_mib, dla_core)
    return _build(order, trt_engine_fp16, trt_built_fp16)


@tool.command(on_board=True)
def build_int8(
    onnx: Input,
    trt_gpu: Input,
    trt_check: Input,
    trt_ranges: Input,
    trt_engine_int8: Output = "{model}.int8.engine",
    trt_built_int8: Output = "{model}.int8.engine.json",
    workspace_mib: int = 1024,
    dla_core: int = -1,
) -> Result:
    """Build an engine that may compute in int8, by ranges of the representative inputs, else in float16."""
    order = building.Order(onnx, trt_gpu, trt_check, "int8", workspace_mib, dla_core, trt_ranges)
    return _build(order, trt_engine_int8, trt_built_int8)


@tool.command(
    measures=True, on_board=True, variants=tuple({"precision": precision} for precision in PRECISIONS)
)
def benchmark(
    trt_engine: Input,
    trt_built: Input,
    trt_gpu: Input,
    reference: Input,
    samples: Output = "{model}.trt-latency_ns.i64",
    profile: Output = "{model}.trt-profile.json",
    device: str = "GPU",
    precision: str = "fp32",
    cuda_graph: bool = False,
    transfers: bool = True,
    spin_wait: bool = True,
    budget_s: float = 10.0,
) -> Result:
    """Check the engine against the reference, then measure its single-stream latency, and its layers."""
    target = _target(device, precision, budget_s)
    with said_of(target), polygraphy.named_in_hint(precision):
        subject = measuring.Subject(trt_engine, trt_built, trt_gpu, target, cuda_graph, transfers, spin_wait)
        return _way(subject).benchmark(subject, reference, samples, profile)


@tool.command(on_board=True)
def infer(
    trt_engine: Input,
    trt_built: Input,
    trt_gpu: Input,
    images: Input,
    answers: Output = "{model}.tensorrt-answers.npz",
    device: str = "GPU",
    precision: str = "fp32",
) -> Result:
    """Run the engine on inputs (`inputs/<name>`) and write what it answers (`outputs`)."""
    target = _target(device, precision, 1.0)
    subject = measuring.Subject(trt_engine, trt_built, trt_gpu, target)
    return _way(subject).infer(subject, images, answers)


@tool.command(cached=False, on_board=True)
def profile(
    trt_engine: Input,
    trt_built: Input,
    trt_gpu: Input,
    reference: Input,
    trt_layers: Output = "{model}.trt-layers.json",
    precision: str = "fp32",
) -> Result:
    """Check the engine against the reference, then measure the time of each of its layers."""
    target = _target("GPU", precision, 1.0)
    with said_of(target), polygraphy.named_in_hint(precision):
        subject = measuring.Subject(trt_engine, trt_built, trt_gpu, target)
        return _way(subject).profile(subject, reference, trt_layers)


@tool.command(cached=False, on_board=True)
def compare(
    onnx: Input,
    trt_gpu: Input,
    reference: Input,
    trt_comparison: Output = "{model}.trt-compare.json",
    fp16: bool = False,  # not `precision`: that would have the planner give a file of float16 (host/plan.py)
    workspace_mib: int = 1024,
    n_inputs: int = 2,
) -> Result:
    """Compare each layer with ONNX Runtime by NVIDIA's Polygraphy, and name the first that is off."""
    precision = "fp16" if fp16 else "fp32"
    order = polygraphy.Order(onnx, trt_gpu, reference, precision, workspace_mib, n_inputs)
    return polygraphy.compare(order, trt_comparison)


@tool.parser
def parse_log(file: Path) -> Dict[str, Any]:
    """Read what trtexec printed, or a file of its --exportTimes or --exportProfile."""
    return log.read(file)


def _build(order: building.Order, engine: Path, built: Path) -> Result:
    said = building.build(order, engine, built)
    return Result(
        metrics={"size_bytes": engine.stat().st_size, "build_s": said.pop("build_s")},
        metadata={key: value for key, value in said.items() if key not in ("schema", "inputs")},
        versions={"tensorrt": said["tensorrt"]},
    )


def _way(subject: measuring.Subject) -> Any:
    """Return the module that measures."""
    return by_python if subject.api == places.PYTHON else measuring


def _target(device: str, precision: str, budget_s: float) -> Target:
    if device != "GPU":
        message = f"the device is {device!r}, and an engine runs on what it was built for"
        raise Unsupported(message, hint="Build it for a DLA: --dla-core 0.")
    return Target("tensorrt", device, precision, 0, budget_s, precisions=PRECISIONS)
