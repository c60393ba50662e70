"""Makes runs to report on: results.json as the schema wants it, with raw samples that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

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
    *("correctness", "energy", "reason", "hint"),
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
        records += _gaps(model)
    ns = latencies_ns(23.4, 400, seed=99)
    records.append(
        measured(
            folder, ns, model="squeezenet", backend="ncs", device="MYRIAD", precision="fp16", simulated=True
        )
    )
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / "squeezenet.tflite.benchmark.log").write_text("log\n")
    return write(folder, records)


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
