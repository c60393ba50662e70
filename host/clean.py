"""`clean`: give back room, and nothing that was not named."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from host import show
from host.engines.venv import cache_folder
from host.run import run_names
from host.store import Store
from tools.stage import InvalidRequest, check_name


def clean(
    work: Path, *, keys: Iterable[str], store: bool, runs: bool, environments: bool, downloads: bool
) -> None:
    """Remove what is named; what a killed run left half-made goes in any case.

    Raises:
        InvalidRequest: the store has no entry of a key.
    """
    base = Store(work.resolve()).work
    with Store(base).locked():
        targets = [_entry(base, key) for key in keys]
        targets += [base / "store", base / "models"] if store else []
        targets += [base / "runs"] if runs else []
        targets += [base / "downloads"] if downloads else []
        targets += [cache_folder() / "venvs"] if environments else []
        for target in targets:
            size = _megabytes(target)
            shutil.rmtree(target, ignore_errors=True)
            print(f"removed {target} ({size:.0f} MB)")
    if not targets:
        _usage(base)


def _entry(work: Path, key: str) -> Path:
    folder = work / "store" / check_name(key, "key")
    if not folder.is_dir():
        message = f"the store has no entry {key}"
        raise InvalidRequest(message, hint="The keys are in results.json and in python runner.py plan")
    return folder


def _usage(work: Path) -> None:
    places = {
        "store": (work / "store", "--store"),
        f"runs ({len(run_names(work))})": (work / "runs", "--runs"),
        "downloads": (work / "downloads", "--downloads"),
        "environments": (cache_folder() / "venvs", "--environments"),
    }
    rows = [(name, f"{_megabytes(path):.0f}", flag, str(path)) for name, (path, flag) in places.items()]
    show.table(("what", "MB", "removed by", "where"), rows)


def _megabytes(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6
