"""Makes runs to report on: results.json as the schema wants it, with raw samples that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tools import profile

HOST = {
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.1.0-28-amd64",
    "cpu": "Intel(R) Core(TM) i7-8665U CPU @ 1.90GHz",
    "cores": 2,
    "memory_mb": 16_384,
    "governor": "powersave",
    "python": "3.11.7",
    "load_1m": 0.12,
}
NULLS = (
    *("latency_ms", "throughput_per_s", "samples", "load_ms", "first_inference_ms", "peak_rss_mb"),
    *("breakdown_ms", "correctness", "energy", "energy_reason", "energy_hint", "reason", "hint"),
)


def record(
    model: str = "squeezenet", backend: str = "tflite", status: str = "ok", **fields: Any
) -> dict[str, Any]:
    """Return a record with nothing measured; `fields` replace its own."""
    base = {
        "model": model,
        "backend": backend,
        "runtime": backend,
        "device": "CPU",
        "precision": "fp32",
        "engine": "venv",
        "status": status,
        **dict.fromkeys(NULLS),
        "simulated": False,
        "weights": weights(),
        "artifacts": {},
        "versions": {},
        "metadata": {},
    }
    if status != "ok":
        base |= {"reason": f"{backend} is not here", "hint": "Plug it in."}
    return {**base, **fields}


def weights(**fields: Any) -> dict[str, Any]:
    return {
        "source": "generated",
        "name": "seed 0",
        "sha256": None,
        "reason": "no published checkpoint of it is known",
        "hint": "Your own: --weights PATH",
        **fields,
    }


def latencies_ns(median_ms: float, count: int, *, seed: int = 0, drift: float = 0.0) -> np.ndarray:
    """Return `count` latencies as a laptop gives them: a long tail, a few interrupts, maybe drift."""
    random = np.random.default_rng(seed)
    ms = (
        median_ms
        * (0.97 + random.gamma(1.2, 0.025, count))
        * np.linspace(1 - drift / 2, 1 + drift / 2, count)
    )
    hit = random.random(count) < 0.006
    ms[hit] *= 1 + random.pareto(2.5, hit.sum())
    return np.round(1e6 * ms).astype("<i8")


def measured(folder: Path, ns: np.ndarray, **fields: Any) -> dict[str, Any]:
    """Return an ok record for these latencies and write them into a samples file below `folder`."""
    made = record(**fields)
    path = f"samples/{made['model']}.{made['backend']}.{made['runtime']}.{made['precision']}.i64"
    (folder / "samples").mkdir(exist_ok=True)
    ns.tofile(folder / path)
    ms = ns / 1e6
    p50, p90, p99 = np.percentile(ms, (50, 90, 99)).round(6).tolist()
    low, high = np.sort(ms)[
        [int(0.5 * len(ms) - 0.98 * len(ms) ** 0.5), int(0.5 * len(ms) + 0.98 * len(ms) ** 0.5)]
    ]
    summary = {"p50": p50, "p90": p90, "p99": p99, "mean": ms.mean(), "min": ms.min(), "max": ms.max()}
    values = {
        "latency_ms": {**summary, "n": len(ms), "ci95_rel": (high - low) / 2 / p50},
        "throughput_per_s": 1000 / ms.mean(),
        "samples": path,
        "load_ms": 7.3 * p50,
        "first_inference_ms": 1.9 * p50,
        "peak_rss_mb": 64.2 + p50,
        "correctness": correctness(),
        "metadata": {"threads": 2, "tolerance": {"cosine": 0.9999, "max_abs": 0.001, "top1_match": 1.0}},
    }
    return {**made, **{key: value for key, value in values.items() if not fields.get(key)}}


def correctness(**fields: Any) -> dict[str, Any]:
    return {
        "max_abs": 3.1e-7,
        "cosine": 0.99999994,
        "top1_match": 1.0,
        "top5_overlap": 1.0,
        "n_inputs": 16,
        **fields,
    }


def write(folder: Path, records: list[dict[str, Any]], **run: Any) -> Path:
    """Write results.json and return its path."""
    models = list(dict.fromkeys(record["model"] for record in records))
    stages = [
        {
            "stage": name,
            "model": model,
            "status": "ok",
            "cached": cached,
            "seconds": seconds,
            "key": 8 * "7f3a09",
        }
        for model in models
        for name, cached, seconds in [
            ("tf1.generate-weights", True, 0.0),
            ("tf1.freeze", True, 0.0),
            ("tf1.to-tflite", False, 2.31),
            ("tflite.benchmark", False, 10.4),
        ]
    ]
    base = {
        "id": "20251123-232256",
        "started": "2025-11-23T23:22:56+01:00",
        "argv": ["runner.py", "all", *(part for model in models for part in ("--model", model))],
        "engine": "venv",
        "builds": {"tf1": "tf1-legacy"},
        "engine_reason": "no Docker daemon answers at unix:///var/run/docker.sock",
        "host": HOST,
        "project_version": "0.1.0",
        "models": models,
        "weights": {model: weights() for model in models},
        "processes": [],
        "stages": stages,
    }
    path = folder / "results.json"
    path.write_text(json.dumps({"schema": 1, "run": {**base, **run}, "records": records}, indent=1))
    return path


def full_run(folder: Path) -> Path:
    """Write a run with a bit of everything: two models, wrong output, drift, a stand-in, many gaps."""
    records = []
    for seed, (model, factor) in enumerate([("squeezenet", 1.0), ("mobilenet_v2_1.0", 1.7)]):
        for number, (backend, runtime, precision, median_ms, count, drift) in enumerate(
            [
                ("tflite", "tflite-runtime", "fp32", 11.6, 860, 0.0),
                ("tflite", "litert", "fp32", 9.8, 1020, 0.0),
                ("onnx", "onnxruntime", "fp32", 8.3, 1204, 0.09),
                ("openvino", "openvino", "fp32", 6.12, 3000, 0.0),
            ]
        ):
            versions = {"python": "3.11.7", runtime: "2.14.0", "numpy": "1.26.4"}
            ns = latencies_ns(factor * median_ms, count, seed=10 * seed + number, drift=drift)
            names = {"model": model, "backend": backend, "runtime": runtime, "precision": precision}
            artifacts = {"tflite": f"../../models/{model}/{model}.tflite"} if backend == "tflite" else {}
            records.append(measured(folder, ns, **names, versions=versions, artifacts=artifacts))
            if model == "squeezenet":
                _add_energy(folder, records[-1], median_ms, number)
        records += _gaps(model)
    records += [stick(folder), stick(folder, "mobilenet_v2_1.0", "no_device"), emulated("mobilenet_v2_1.0")]
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / "squeezenet.tflite.benchmark.log").write_text("log\n")
    return write(folder, records)


def _add_energy(folder: Path, made: dict[str, Any], median_ms: float, number: int) -> None:
    """Add to a record what a meter found: an energy, or for the second one why there is none."""
    watt = 2.6 + 0.4 * number
    made["files"] = {"energy": f"energy{number}.json"}
    (folder / made["files"]["energy"]).write_text(
        json.dumps({"simulated": number == 3, "plot": plot(watt, refused=number == 1)})
    )
    if number == 1:
        made["energy_reason"] = "the clocks of meter and host differ by 1.3 % between the signatures"
        made["energy_hint"] = "The trace's time base is wrong, or samples are missing. Record it anew."
    else:
        made["energy"] = energy(watt * median_ms, simulated=number == 3, **(RAILS if number == 3 else {}))


RAILS = {
    "meter": {"name": "ina3221", "device": "NVIDIA Jetson Orin Nano Developer Kit", "rate_hz": 20.0},
    "channel": "VDD_IN",
    "scope": "rail VDD_IN, the input of the module",
    "budget_mj": {"window_edges": 0.00041, "spread": 0.0039},
    "channels_w": {"VDD_CPU_GPU_CV": 3.104, "VDD_IN": 7.6158, "VDD_SOC": 1.4271, "spare": -0.0004},
}


def energy(net_mj: float, **fields: Any) -> dict[str, Any]:
    return {
        "gross_mj": 1.7 * net_mj,
        "net_mj": net_mj,
        "net_ci95_mj": [0.985 * net_mj, 1.015 * net_mj],
        "idle_w": {"before": 1.71, "after": 1.74},
        "budget_mj": {
            "meter": 0.003 * net_mj,
            "sampling": 0.0,
            "window_edges": 0.0004 * net_mj,
            "alignment": 0.001 * net_mj,
            "baseline_drift": 0.005 * net_mj,
            "spread": 0.004 * net_mj,
        },
        "aligned_by": "signature",
        "windows": 6,
        "inferences": 1032,
        "meter": {
            "name": "monsoon",
            "device": "Monsoon HVPM",
            "serial": "24071",
            "rate_hz": 5000.0,
            "dropped": 0,
        },
        "scope": "main output of the power monitor",
        "simulated": False,
        "warnings": [],
        **fields,
    }


def plot(watt: float, *, refused: bool = False) -> dict[str, Any]:
    """Return a trace's plot: rest, signature, rest, six windows with a gap, rest, signature, rest."""
    random = np.random.default_rng(3)
    windows = [[8.75 + 2 * number, 10.75 + 2 * number] for number in range(6)]
    signatures = [[[at + on, at + off] for on, off in ((0, 0.75), (1.25, 1.5))] for at in (1.0, 26.75)]
    time_s = (np.arange(1000) + 0.5) * 0.0295
    spans = [*windows, *signatures[0], *signatures[1]]
    loaded = sum((time_s >= begin) & (time_s < end) for begin, end in spans)
    spread = 0.2 + random.gamma(1.0, 0.1, 1000)
    middle = 1.72 + watt * loaded
    rows = {"low_w": middle - spread, "high_w": middle + spread}
    shown = {
        key: [None if 700 < n < 712 else round(value, 4) for n, value in enumerate(row)]
        for key, row in rows.items()
    }
    found = {
        "windows": windows,
        "idle": [[0.2, 0.9], [3.0, 8.5], [21.0, 26.5], [28.5, 29.4]],
        "idle_line": [[0.0, 1.71], [29.5, 1.74]],
        "signatures": signatures,
    }
    return {"time_s": time_s.tolist(), **shown, **({key: [] for key in found} if refused else found)}


COMPILED = {
    "chip": "Myriad X (2480)",
    "shaves": 7,
    "cmx_slices": 9,
    "stages": 162,
    "hw_stages": 135,
    "stage_types": {"MyriadXHwOp": 269, "Pad": 33, "Copy": 12, "Sum": 10},
    "memory_bytes": {
        "bss": 3_010_560,
        "cmx": 524_288,
        "constants": 7_014_400,
        "input": 150_528,
        "output": 2_002,
    },
    "blob_bytes": 11_589_376,
    "streams": 1,
    "input_type": "FP16",
    "nodes": 105,
    "fused_nodes": {"Clip": 35, "Add": 2},
    "unsupported_layers": [],
}
FOR_MYRIAD_2 = {
    **COMPILED,
    "chip": "Myriad 2 (2450)",
    "shaves": 12,
    "stages": 171,
    "hw_stages": 0,
    "stage_types": {"Conv": 36, "DepthConv": 17, "Sum": 10, "Copy": 108},
    "unsupported_layers": None,
}


def stick(folder: Path, model: str = "squeezenet", status: str = "ok", **fields: Any) -> dict[str, Any]:
    """Return an example record of a stick, whose figures no stick gave: compiled, profiled, swept if `ok`."""
    compiled = {"ncs.convert": {"compiled": COMPILED}, "ncs.convert-2450": {"compiled": FOR_MYRIAD_2}}
    names = {"model": model, "backend": "ncs", "device": "MYRIAD", "precision": "fp16"}
    plan = f"{model}.plan.json"
    (folder / plan).write_text(json.dumps({"stages": steps()}))
    common = {**names, "artifacts": {"plan": plan}, **fields}
    if status != "ok":
        return record(status=status, metadata={"made_by": compiled}, **common)
    made = measured(folder, latencies_ns(23.4, 400, seed=99), simulated=True, **common)
    made["metadata"]["made_by"] = compiled
    made["breakdown_ms"] = {"device": 18.1, "transport": 4.27, "host": 0.93}
    made["files"] = {
        "profile": f"{model}.profile.json",
        "sweep": f"{model}.sweep.json",
        "energy": "energy9.json",
    }
    (folder / "energy9.json").write_text(json.dumps({"simulated": True, "plot": plot(1.1)}))
    made["energy"] = energy(26.0, simulated=True)
    times = np.random.default_rng(7).pareto(1.3, 64).round(4)
    layers = [
        profile.Layer(
            f"MobilenetV2/expanded_conv_{n}/project/Conv2D@FP16", "Convolution", "MyriadXHwOp", time
        )
        for n, time in enumerate(0.11 * times)
    ]
    profile.write(folder / made["files"]["profile"], layers, "Example: the plug-in's counters, per stage.")
    (folder / made["files"]["sweep"]).write_text(json.dumps(sweep()))
    return made


def steps() -> list[dict[str, Any]]:
    """Return a plan's stages: as many of each type as COMPILED says, four to a layer, two in a step."""
    types = [kind for kind, number_of in COMPILED["stage_types"].items() for _ in range(number_of)]
    return [
        {
            "step": number // 2,
            "name": f"MobilenetV2/expanded_conv_{number // 4}/project/Conv2D@tile={number % 4 + 1}/4",
            "type": kind,
            "hw": "CONV" if kind == "MyriadXHwOp" else None,
            "shaves": 0 if kind == "MyriadXHwOp" else 7,
            "layer": f"MobilenetV2/expanded_conv_{number // 4}/project/Conv2D",
            "layer_type": "Convolution",
        }
        for number, kind in enumerate(types)
    ]


def sweep() -> dict[str, Any]:
    """Return latency over SHAVEs: more of them help less and less, and too many do not compile."""
    ok = {"n": 300, "status": "ok", "reason": None}
    points = [
        {"shaves": n, "p50_ms": 19.5 + 14.2 / n, "ci95_rel": 0.06 / n + 0.004, **ok}
        for n in range(1, 12)
        if n != 5
    ]
    failed = {"p50_ms": None, "ci95_rel": None, "n": 0, "status": "failed"}
    points.insert(4, {"shaves": 5, **failed, "reason": "The device was gone after 112 inferences."})
    reason = "The compiler refused 12 SHAVEs: a network gets 11 at most."
    return {
        "parameter": "shaves",
        "points": [*points, {"shaves": 12, **failed, "status": "unsupported", "reason": reason}],
    }


def emulated(model: str, **fields: Any) -> dict[str, Any]:
    """Return a record of a network that was checked where its time means nothing."""
    return record(
        model,
        "ncs",
        "emulated",
        runtime="openvino",
        device="MYRIAD",
        precision="fp16",
        correctness=correctness(cosine=0.9999871, max_abs=0.0021),
        metadata={"tolerance": {"cosine": 0.999, "top1_match": 0.95}},
        reason="OpenVINO computed it on the CPU with weights rounded to FP16: no stick is plugged in.",
        hint="Plug in a Neural Compute Stick 2 to measure. See what is there: python runner.py devices",
        **fields,
    )


def _gaps(model: str) -> list[dict[str, Any]]:
    wrong = correctness(cosine=0.8213, max_abs=0.41, top1_match=0.0625, top5_overlap=0.2)
    return [
        record(
            model,
            "openvino",
            "wrong_output",
            precision="int8",
            correctness=wrong,
            metadata={"threads": 2, "tolerance": {"cosine": 0.99, "top1_match": 0.9}},
            reason="Cosine similarity 0.8213 is below 0.99 and only 1 of 16 inputs keeps its first class.",
            hint="Calibrate with your own images: --set calibration=FOLDER.",
        ),
        record(
            model,
            "openvino",
            "no_device",
            device="GPU",
            precision="fp16",
            reason="OpenVINO sees no GPU on this host (its devices: CPU).",
            hint="Install the Intel compute runtime, or leave the row out with --backend.",
        ),
        record(
            model,
            "snpe",
            "no_sdk",
            device="DSP",
            precision="int8",
            reason="The Qualcomm Neural Processing SDK is licensed and is not in sdk/snpe/.",
            hint="Download it with your account and unpack it to sdk/snpe/.",
        ),
    ]
