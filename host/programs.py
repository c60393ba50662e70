"""Programs that run on a phone: those that are published, by `runner.py fetch NAME`, or the user's own file.

The address of TensorFlow's nightly builds has another file every night, and no checksums. So one is taken by
--trust-on-first-use only, and is from then on the one that is meant, as with checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from host import checkpoints
from host.checkpoints import Published
from host.store import Entry, Store

# README.md of tensorflow/lite/tools/benchmark; for arm64-v8a, the ABI of phones since 2015
NIGHTLY = "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest"
BENCHMARK_MODEL = "benchmark_model"
PUBLISHED = {
    BENCHMARK_MODEL: Published(
        model=BENCHMARK_MODEL,
        url=f"{NIGHTLY}/android_aarch64_benchmark_model",
        artifact=BENCHMARK_MODEL,
    )
}


def given(path: Path | None) -> list[str]:
    """Return the user's program, if there is one, as an input of stages: `name=path`."""
    return [f"{BENCHMARK_MODEL}={path}"] if path else []


def fetched(store: Store) -> dict[str, Entry | None]:
    """Return the programs that were fetched into this work folder, by the names of stages' inputs."""
    found: dict[str, Entry | None] = {}
    for wanted in PUBLISHED.values():
        if here := checkpoints.find(wanted, store.work):
            found |= {
                name: store.take_in({name: path}, f"{wanted.url}, fetched on {here.date}")
                for name, path in here.files.items()
            }
    return found
