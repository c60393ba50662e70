"""A phone that measures by itself: the bundle's scripts in phones' shells, and what import makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from host import ROOT
from host.phone_bundle import ON_PHONE, take
from host.results import SCHEMA_FILE
from tests.lab import virtual_phone
from tests.lab.virtual_phone import ADB, VirtualPhone
from tests.project import LAB, Project
from tools import gate
from tools.stage import InvalidRequest, WrongOutput

MISSING = virtual_phone.missing()
CANNED = LAB / "phone" / "canned_benchmark_model.sh"
NAMES = ["lenet.fp32.cpu", "lenet.fp32.gpu", "lenet.fp32.nnapi", "lenet.fp32.cpu-1"]
SHELLS = ["dash", "mksh", "busybox"]
GETPROP = """#!/bin/sh
case $1 in
    "") printf '[ro.mobile_accelerator.simulated]: [a test]\\n[ro.product.model]: [Termux]\\n' ;;
    ro.mobile_accelerator.simulated) echo "a test" ;;
esac
"""


def tools_of(shell: str, folder: Path) -> list[str]:
    """Return the words that start `shell` with nothing on its PATH but the programs that go with it."""
    folder.mkdir(exist_ok=True)
    (folder / "getprop").write_text(GETPROP)
    (folder / "getprop").chmod(0o755)
    if shell == "dash":
        return ["env", "-i", f"PATH={folder}:/bin:/usr/bin", "sh"]
    box, program = {
        "mksh": (ADB / "bin" / "toybox", ADB / "bin" / "mksh"),
        "busybox": (Path(shutil.which("busybox") or "busybox"), folder / "sh"),
    }[shell]
    if not box.exists():
        pytest.skip(f"no {box.name} here: tests/lab/install-adb.sh, or apt-get install busybox")
    listing = [str(box), *(["--list"] if shell == "busybox" else [])]
    for applet in subprocess.check_output(listing, text=True).split():
        (folder / applet).symlink_to(box)
    if shell == "mksh":
        shutil.copy(ADB / "usr" / "bin" / "original-awk", folder / "awk")
    return ["env", "-i", f"PATH={folder}", str(program)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(ROOT, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def packed(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as it is packed, whose program is the quick stand-in."""
    folder = tmp_path_factory.mktemp("packed")
    done = project.run(
        *("phone", "bundle", "--model", "lenet", "--budget-s", "0.1", "--rest-s", "0"),
        *("--benchmark-model", str(CANNED), "-o", str(folder / "bundle")),
    )
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "bundle"))


def run(bundle: Path, shell: str = "dash") -> subprocess.CompletedProcess[str]:
    argv = [*tools_of(shell, bundle.parent / f"programs-{shell}"), str(bundle / "run.sh")]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def on_the_phone(bundle: Path) -> dict[str, dict[str, Any]]:
    """The records of the phone's own results.json by the device, which keeps to the schema."""
    data = json.loads((bundle / "results" / "results.json").read_text())
    jsonschema.validate(data, json.loads(SCHEMA_FILE.read_text()))
    return {record["device"]: record for record in data["records"]}


def imported(project: Project, bundle: Path) -> dict[str, dict[str, Any]]:
    done = project.run("phone", "import", str(bundle))
    assert done.returncode in (0, 1, 6), done.stderr
    jsonschema.validate(project.results(), json.loads(SCHEMA_FILE.read_text()))
    return {record["device"]: record for record in project.results()["records"]}


@pytest.mark.tool
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_measures_all_and_writes_results(bundle: Path, shell: str) -> None:
    done = run(bundle, shell)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    records = on_the_phone(bundle)
    assert sorted(records) == sorted(["CPU 1 thread", f"CPU {os.cpu_count()} threads", "GPU", "NNAPI"])
    for record in records.values():
        assert (record["status"], record["engine"], record["simulated"]) == ("ok", "phone bundle", True)
        assert record["latency_ms"] | {"n": 6, "p50": 2.025, "min": 2.0, "max": 2.05} == record["latency_ms"]
        assert record["correctness"]["cosine"] == 1
    take.read(bundle)


@pytest.mark.tool
def test_import_makes_a_run_of_what_the_phone_wrote(project: Project, bundle: Path) -> None:
    run(bundle)
    there, here = on_the_phone(bundle), imported(project, bundle)
    assert there.keys() == here.keys()
    for device, record in here.items():
        assert (record["status"], record["engine"], record["simulated"]) == ("ok", "phone bundle", True)
        assert (record["backend"], record["runtime"]) == ("android", "tflite")
        for key, value in there[device]["latency_ms"].items():
            assert key == "ci95_rel" or record["latency_ms"][key] == pytest.approx(value)
        assert (
            there[device]["correctness"].items()
            <= {
                **record["correctness"],
                **dict.fromkeys(("cosine", "max_abs", "top5_overlap")),
                **{key: there[device]["correctness"][key] for key in ("cosine", "max_abs", "top5_overlap")},
            }.items()
        )
        assert record["weights"]["source"] == "generated"
        assert record["versions"]["benchmark_model"].startswith("sha256:")
        assert "tf1.to-tflite" in record["metadata"]["bundle"]["made_by"]
    assert (project.work / "runs" / "latest" / "report.html").exists()


@pytest.mark.tool
def test_what_went_wrong_has_no_time_here_or_there(project: Project, bundle: Path) -> None:
    many = str(os.cpu_count())
    for unit, fault in {many: "wrong", "1": "stale", "GPU": "falls back", "NNAPI": "killed"}.items():
        (bundle / f"fault.{unit}").write_text(fault)
    assert run(bundle).returncode == 0
    for records in (on_the_phone(bundle), imported(project, bundle)):
        said = {device: (record["status"], record["reason"]) for device, record in records.items()}
        wanted = {
            f"CPU {many} threads": ("wrong_output", "differs from the reference"),
            "CPU 1 thread": ("wrong_output", "right before the timing, but not in the timed runs"),
            "GPU": ("unsupported", "runs nothing of the network"),
            "NNAPI": ("failed", "benchmark_model was ended"),
        }
        assert said.keys() == wanted.keys()
        for device, (status, why) in wanted.items():
            assert said[device][0] == status
            assert why in said[device][1]
            assert records[device]["latency_ms"] is None


@pytest.mark.tool
def test_a_phone_without_awk_leaves_the_comparison_and_so_the_time_to_import(
    project: Project, bundle: Path
) -> None:
    argv = tools_of("mksh", bundle.parent / "programs")
    (bundle.parent / "programs" / "awk").unlink()
    subprocess.run([*argv, str(bundle / "run.sh")], check=True, capture_output=True)
    for record in on_the_phone(bundle).values():
        assert record["status"] == "failed"
        assert "phone import" in record["hint"]
    assert {record["status"] for record in imported(project, bundle).values()} == {"ok"}


@pytest.mark.tool
def test_killed_in_the_middle_it_goes_on_where_it_was(project: Project, bundle: Path) -> None:
    (bundle / "fault.GPU").write_text("slow")
    argv = [*tools_of("dash", bundle.parent / "programs-dash"), str(bundle / "run.sh")]
    process = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (bundle / "results" / NAMES[1] / "answers").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (done, *rest) = imported(project, bundle).values()
    assert done["status"] == "ok"
    for record in rest:
        assert (record["status"], record["engine"]) == ("failed", "phone bundle")
        assert "was not measured on the phone, or not to its end" in record["reason"]
    (bundle / "fault.GPU").unlink()
    again = run(bundle)
    assert f"{NAMES[0]}: done before" in again.stdout
    assert {record["status"] for record in on_the_phone(bundle).values()} == {"ok"}


def edit(bundle: Path, name: str, old: bytes = b"", new: bytes = b"") -> None:
    path = bundle / name
    path.write_bytes(path.read_bytes().replace(old, new) if old else path.read_bytes()[:-1])


@pytest.mark.tool
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: edit(b, "lenet.fp32/network.tflite"), "network.tflite was changed since it was packed"),
        (lambda b: edit(b, "lenet.fp32/reference.f32"), "reference.f32 was changed"),
        (lambda b: edit(b, "manifest.json", b"32/plan.sh", b"33/plan.sh"), "plan.sh is missing"),
        (lambda b: edit(b, "manifest.json", b'"seed 0"', b'"seed 1"'), "results of another bundle"),
        (lambda b: edit(b, "manifest.json", b'"phone_bundle": 1', b'"phone_bundle": 2'), "format 2"),
        (lambda b: edit(b, "manifest.json", b"{", b""), "is no phone bundle"),
        (lambda b: edit(b, "manifest.json", b'"networks"', b'"nets"'), "is damaged"),
        (lambda b: edit(b, "manifest.json", b'"lenet"', b'"../lenet"'), "not a name for a network"),
        (
            lambda b: edit(b, f"results/{NAMES[0]}/timed", b"avg=2050", b"avg=1050"),
            "timed was changed since it",
        ),
        (lambda b: edit(b, f"results/{NAMES[1]}/3"), "/3 was changed since it was measured"),
        (lambda b: (b / f"results/{NAMES[1]}/last").unlink(), "last is missing since it was measured"),
        (lambda b: (b / f"results/{NAMES[1]}/more").touch(), "more was put there"),
        (
            lambda b: edit(b, "results/results.json", b'"p50": 2.025', b'"p50": 1.025'),
            "results.json was changed",
        ),
        (lambda b: shutil.rmtree(b / "results"), "not run on a phone yet"),
    ],
)
def test_what_was_changed_since_is_not_imported(
    measured: Path, tmp_path: Path, change: Callable[[Path], object], why: str
) -> None:
    bundle = Path(shutil.copytree(measured, tmp_path / "bundle"))
    change(bundle)
    with pytest.raises(InvalidRequest, match=why):
        take.read(bundle)


@pytest.fixture(scope="module")
def measured(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = Path(shutil.copytree(packed, tmp_path_factory.mktemp("measured") / "bundle"))
    assert run(bundle).returncode == 0
    return bundle


@pytest.mark.tool
def test_a_zip_and_a_tar_are_taken_as_the_folder_is_and_a_cut_one_is_not(
    measured: Path, tmp_path: Path
) -> None:
    whole = take.read(measured)
    packed = Path(shutil.make_archive(str(tmp_path / "b"), "zip", measured.parent, "bundle"))
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(measured, "bundle")
    for archive in (packed, tmp_path / "b.tar"):
        assert take.read(archive) == whole
        archive.write_bytes(archive.read_bytes()[:100_000])
        with pytest.raises(InvalidRequest, match=r"cut off|no phone bundle|missing"):
            take.read(archive)


@pytest.mark.tool
def test_the_phone_says_so_if_the_bundle_did_not_get_there_whole(bundle: Path) -> None:
    edit(bundle, "lenet.fp32/network.tflite")
    done = run(bundle)
    assert done.returncode == 1
    assert "network.tflite is not what was packed" in done.stderr


def test_a_bundle_needs_a_program_and_a_new_name(project: Project, tmp_path: Path) -> None:
    def refused(*words: str) -> tuple[int, str]:
        done = project.run("phone", "bundle", "--model", "lenet", *words)
        return done.returncode, done.stderr

    code, said = refused("-o", str(tmp_path / "b"))
    assert (code, "fetch benchmark_model" in said) == (7, True)
    code, said = refused("-o", str(tmp_path / "b"), "--benchmark-model", str(ROOT / "README.md"))
    assert (code, "neither ELF nor a script" in said) == (2, True)
    code, said = refused("-o", str(tmp_path))
    assert (code, "there already" in said) == (2, True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    if MISSING:
        pytest.skip(MISSING)
    with VirtualPhone(tmp_path_factory.mktemp("phone"), data_mb=128) as lab:
        yield lab


@pytest.mark.tool
def test_on_the_virtual_phone_by_adb_shell(
    lab: VirtualPhone, project: Project, packed: Path, tmp_path: Path
) -> None:
    phone, there = lab.phone, "/data/local/tmp/mobile_accelerator/bundle"
    files = {str(path.relative_to(packed)): path for path in packed.rglob("*") if path.is_file()}
    phone.push(files, "bundle")
    phone.shell("cat /dev/zero >/data/filler")
    full = phone.shell(f"sh {there}/run.sh", timeout_s=120)
    assert full.code == 1
    assert "is the storage full?" in full.stderr
    phone.shell("rm /data/filler")
    done = phone.shell(f"sh {there}/run.sh", timeout_s=120)
    assert done.code == 0, done.stderr
    phone.shell(f"cd {there}/.. && tar -cf bundle.tar bundle").check("packing")
    phone.pull(f"{there}.tar", tmp_path / "bundle.tar")
    records = imported(project, tmp_path / "bundle.tar")
    assert sorted(records) == ["CPU 1 thread, big cores", "CPU 4 threads", "GPU", "NNAPI"]
    for record in records.values():
        assert (record["status"], record["simulated"]) == ("ok", True)
        about = record["metadata"]
        assert about["device_name"] == "Example Virtual 4 (SM8150)"
        assert about["conditions_before"]["temperatures_degc"]["cpu-0-0-usr"] == 31.5
        assert about["conditions_after"]["battery_percent"] == 83
    assert records["CPU 4 threads"]["metadata"]["cores"] == [4, 5, 6, 7]
    assert {"f0", "80"} <= set(lab.read("/vendor/etc/taskset").split())


AWKS = [awk for awk in ("mawk", "gawk", str(ADB / "usr" / "bin" / "original-awk")) if shutil.which(awk)]


def awk_says(awk: str, found: Any, expected: Any, precision: str, last: Any = None) -> tuple[str, str, Any]:
    """Return what gate.awk says of the outputs, as run.sh calls it."""
    limit = gate.tolerance(precision)
    n, k = expected.shape
    parts = [expected.astype("<f4"), b"answers", found.astype("<f4")]
    parts += [] if last is None else [b"last", last.astype("<f4")]
    text = b"".join(
        part + b"\n"
        if isinstance(part, bytes)
        else subprocess.run(
            ["od", "-A", "n", "-v", "-t", "f4"], input=part.tobytes(), capture_output=True, check=True
        ).stdout
        for part in parts
    )
    values: dict[str, Any] = {
        "n": n,
        "k": k,
        "scale": 0.0,
        "zero": 0,
        "classes": 1,
        "cosine": limit.cosine,
        "error": limit.error,
        "noise": limit.noise,
        "top1": limit.top1_match,
        "response": gate.RESPONSE,
    }
    words = [word for name, value in values.items() for word in ("-v", f"{name}={value}")]
    said = subprocess.run(
        [awk, *words, "-f", str(ON_PHONE / "gate.awk")], input=text, capture_output=True, check=True
    )
    verdict, reason, correctness = said.stdout.decode().splitlines()
    return verdict, reason, json.loads(correctness)


@pytest.mark.parametrize("awk", AWKS)
def test_the_gate_in_awk_is_the_gate(awk: str) -> None:
    random = np.random.default_rng(0)
    expected = random.dirichlet(np.full(50, 0.1), size=6)
    cases = {
        "right": expected + random.normal(scale=1e-5, size=expected.shape),
        "off": expected + random.normal(scale=0.05, size=expected.shape),
        "one value": expected + 0.5 * (np.arange(expected.size).reshape(expected.shape) == 70),
        "shuffled": expected[[1, 2, 3, 4, 5, 0]],
        "constant": np.tile(expected[:1], (6, 1)),
        "half of it constant": (expected + expected.mean(axis=0)) / 2,
        "not finite": np.where(expected == expected.max(), np.nan, expected),
        "noise of int8": expected + random.normal(scale=0.02, size=expected.shape),
    }
    verdicts = set()
    for name, found in cases.items():
        for precision in gate.TOLERANCES:
            verdict, reason, said = awk_says(awk, found, expected, precision)
            verdicts.add(verdict)
            try:
                metrics, message = gate.check(found.astype("f4"), expected.astype("f4"), precision), ""
            except WrongOutput as error:
                metrics, message = error.metrics, str(error)
            assert (verdict == "ok") == (not message), (name, precision)
            assert message == (f"{reason} ({precision})" if reason else "") or name == "not finite"
            for key in ("cosine", "max_abs", "top1_match"):
                want = metrics[f"correctness_{key}"]
                assert said[key] == (want if want is None else pytest.approx(want, rel=1e-4, abs=1e-6))
    assert verdicts == {"ok", "wrong"}
    assert awk_says(awk, expected, expected, "fp32", last=expected[:1])[0] == "ok"
    assert awk_says(awk, expected, expected, "int8", last=expected[2:3])[0] == "wrong"


def test_a_quantised_output_is_compared_as_the_numbers_it_stands_for(tmp_path: Path) -> None:
    expected = np.random.default_rng(0).dirichlet(np.full(50, 0.1), size=4)
    held = np.round(expected * 256 - 128).astype("i1")
    (tmp_path / "e").write_bytes(expected.astype("<f4").tobytes())
    (tmp_path / "f").write_bytes(held.tobytes())
    words = "-v n=4 -v k=50 -v scale=0.00390625 -v zero=-128 -v classes=1 -v cosine=0.93 -v error=0.6"
    script = f"""cd {tmp_path} && {{ od -A n -v -t f4 e; echo answers; od -A n -v -t d1 f; }} |
        awk {words} -v noise=0.03 -v top1=0.5 -v response=0.5 -f {ON_PHONE / "gate.awk"}"""
    said = subprocess.check_output(["sh", "-c", script], text=True).splitlines()
    assert said[0] == "ok", said
    assert json.loads(said[2])["max_abs"] < 1 / 256


def test_an_archive_that_is_no_bundle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(InvalidRequest, match="no phone bundle"):
        take.read(tmp_path / "x.zip")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        take.read(tmp_path / "nothing.zip")
