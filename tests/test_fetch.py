"""Published checkpoints: verified, trusted once, here whole or not at all, and used."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import tarfile
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from host import ROOT, checkpoints, programs, weights, zoo
from host.checkpoints import LOCK, Fetched, Published, published
from host.fetch import MIRROR, Patience
from host.store import Store
from host.weights import Chooser, given
from tests.lab import http_server as lab
from tests.lab import phone_program
from tests.lab.http_server import FileServer, serving
from tests.project import Project, soon
from tools.stage import InvalidRequest, StageError

MODEL = "mobilenet_v1_0.25"
URL = "http://download.tensorflow.org/models/mobilenet_v1_2018_02_22/mobilenet_v1_0.25_224.tgz"
PATH = "/models/mobilenet_v1_2018_02_22/mobilenet_v1_0.25_224.tgz"
NAME = "mobilenet_v1_0.25_224.ckpt"
WEIGHTS = {f"./{NAME}.index": b"index", f"./{NAME}.data-00000-of-00001": os.urandom(300_000)}
HASTE = Patience(connect_s=1, read_s=0.5, waits_s=(0.01,))


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


ARCHIVE = packed({**WEIGHTS, "./mobilenet_v1_0.25_224_frozen.pb": b"graph"})
KNOWN = Published(model=MODEL, url=URL, checkpoint=NAME, sha256=sha256(ARCHIVE))
UNKNOWN = dataclasses.replace(KNOWN, sha256=None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    with serving() as running:
        running.files[PATH] = ARCHIVE
        monkeypatch.setenv(MIRROR, running.url)
        monkeypatch.setenv(LOCK, str(tmp_path / "trust" / "models.lock.toml"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


def fetch(wanted: Published, work: Path, **options: Any) -> Fetched:
    return checkpoints.fetch(wanted, work, note=print, patience=HASTE, **options)


def left(work: Path) -> list[str]:
    return sorted(path.name for path in (work / "downloads").iterdir() if path.suffix != ".lock")


def test_a_known_file(server: FileServer, tmp_path: Path) -> None:
    here = fetch(KNOWN, tmp_path)
    assert here.sha256 == sha256(ARCHIVE)
    assert [path.read_bytes() for path in here.files.values()] == list(WEIGHTS.values())
    assert list(here.files) == ["checkpoint", "checkpoint_data"]
    assert left(tmp_path) == [KNOWN.key]
    assert fetch(KNOWN, tmp_path) == here
    assert len(server.requests) == 1


def test_a_program_for_phones(server: FileServer, tmp_path: Path) -> None:
    wanted = programs.PUBLISHED["benchmark_model"]
    address = urlsplit(wanted.url).path
    with pytest.raises(InvalidRequest, match="no checksum is known"):
        fetch(wanted, tmp_path)
    server.files[address] = b"<html>Log in to this network</html>"
    with pytest.raises(InvalidRequest, match="is no program for Android"):
        fetch(wanted, tmp_path, trust=True)
    assert not left(tmp_path)
    assert not programs.fetched(Store(tmp_path))
    server.files[address] = phone_program.header(machine=183)
    here = fetch(wanted, tmp_path, trust=True)
    entry = programs.fetched(Store(tmp_path))["benchmark_model"]
    assert entry
    assert entry.sha256["benchmark_model"] == here.sha256
    assert wanted.url in entry.given
    server.files[address] = phone_program.header(machine=40)  # tomorrow's
    with pytest.raises(StageError, match="is not the file that it should be"):
        fetch(wanted, tmp_path / "other")


def test_two_names_of_one_archive(server: FileServer, tmp_path: Path) -> None:
    said: list[str] = []
    first = checkpoints.fetch(KNOWN, tmp_path, note=said.append)
    assert said == [f"fetching {server.url}{PATH}"]  # of the mirror, which was asked
    smaller = published(f"{MODEL}_64")
    assert smaller
    second = dataclasses.replace(smaller, sha256=KNOWN.sha256)
    assert fetch(second, tmp_path) == first
    assert len(server.requests) == 1


def test_two_archives_of_one_name(server: FileServer, tmp_path: Path) -> None:
    """And two checkpoints of one archive: each has its own place."""
    second = dataclasses.replace(KNOWN, url="http://download.tensorflow.org/other/" + KNOWN.archive)
    server.files["/other/" + KNOWN.archive] = ARCHIVE
    third = dataclasses.replace(KNOWN, checkpoint="mobilenet_v1_0.25_224_frozen.pb")
    folders = {path.parent for one in (KNOWN, second, third) for path in fetch(one, tmp_path).files.values()}
    assert len(folders) == 3


def test_a_file_of_format_v1(server: FileServer, tmp_path: Path) -> None:
    server.files[PATH] = packed({NAME: b"all in one"})
    here = fetch(UNKNOWN, tmp_path, trust=True)
    assert here.files["checkpoint"].read_bytes() == b"all in one"
    assert "checkpoint_data" not in here.files


def test_wrong_bytes(server: FileServer, tmp_path: Path) -> None:
    other = packed({**WEIGHTS, "more": b""})
    server.files[PATH] = other
    with pytest.raises(StageError) as error:
        fetch(KNOWN, tmp_path)
    said = f"{server.url}{PATH} is not the file that it should be: its sha256 is {sha256(other)}, not "
    assert str(error.value) == said + sha256(ARCHIVE)
    assert not left(tmp_path)
    server.files[PATH] = ARCHIVE
    assert fetch(KNOWN, tmp_path)


def test_trust_on_first_use(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no checksum is known") as refused:
        fetch(UNKNOWN, tmp_path / "one")
    assert refused.value.hint.endswith(f"fetch {MODEL} --trust-on-first-use")
    assert not server.requests

    fetch(UNKNOWN, tmp_path / "one", trust=True)
    entry = tomllib.loads(checkpoints.lock_file().read_text())[URL]
    assert entry["sha256"] == sha256(ARCHIVE)
    assert entry["size_bytes"] == len(ARCHIVE)
    assert entry["date"]
    assert fetch(UNKNOWN, tmp_path / "two").sha256 == sha256(ARCHIVE)  # trusted everywhere from then on

    server.files[PATH] = packed({**WEIGHTS, "more": b""})
    for trust in (False, True):
        with pytest.raises(StageError, match=f"not {sha256(ARCHIVE)}"):
            fetch(UNKNOWN, tmp_path / "three", trust=trust)


def test_another_trust_is_kept(server: FileServer, tmp_path: Path) -> None:
    fetch(UNKNOWN, tmp_path, trust=True)
    second = dataclasses.replace(UNKNOWN, model="other", url=URL.replace("0.25", "0.5"))
    server.files[PATH.replace("0.25", "0.5")] = ARCHIVE
    fetch(second, tmp_path, trust=True)
    assert set(tomllib.loads(checkpoints.lock_file().read_text())) == {URL, second.url}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>Please log in</html>", "is a web page, not an archive"),
        (packed({"../evil": b"", **WEIGHTS}), "leads out of its folder"),
        (packed({"other.ckpt": b""}), f"does not hold the checkpoint {NAME}"),
        (packed({f"{NAME}.index": b""}), f"does not hold the checkpoint {NAME}"),
        (ARCHIVE[:-100], "damaged or truncated"),
    ],
)
def test_what_deserves_no_trust(server: FileServer, tmp_path: Path, content: bytes, said: str) -> None:
    server.files[PATH] = content
    with pytest.raises(StageError, match=said):
        fetch(UNKNOWN, tmp_path, trust=True)
    assert not left(tmp_path)
    assert not checkpoints.lock_file().exists()


def test_a_damaged_lock_file(server: FileServer, tmp_path: Path) -> None:
    checkpoints.lock_file().parent.mkdir()
    checkpoints.lock_file().write_text('["http://x"]\nsha256 = "no digest"\n')
    with pytest.raises(InvalidRequest, match="is not a lock file of this program"):
        fetch(UNKNOWN, tmp_path, trust=True)


def test_a_changed_file(server: FileServer, tmp_path: Path) -> None:
    here = fetch(KNOWN, tmp_path)
    here.files["checkpoint_data"].write_bytes(b"changed")
    with pytest.raises(StageError, match="was changed after it was fetched"):
        checkpoints.find(KNOWN, tmp_path)


def test_no_space_to_unpack(server: FileServer, tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the kernel refuses the write in the same place."""
    server.files[PATH] = packed({f"{NAME}.index": b"", f"{NAME}.data-00000-of-00001": bytes(3_000_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StageError, match="File too large"):
            fetch(UNKNOWN, tmp_path, trust=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(tmp_path) == [f"{KNOWN.key}.part", f"{KNOWN.key}.part.json"]  # the archive is good
    assert fetch(UNKNOWN, tmp_path, trust=True)
    assert server.gets(PATH) == ["", f"bytes={len(server.files[PATH])}-"]


def test_the_table_of_published_checkpoints() -> None:
    wanted = published("mobilenet_v2_1.4")
    assert wanted
    assert wanted.url == "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_1.4_224.tgz"
    assert wanted.checkpoint == "mobilenet_v2_1.4_224.ckpt"
    assert wanted.size_bytes == 135_977_516
    assert published("mobilenet_v2_1.40") == dataclasses.replace(wanted, model="mobilenet_v2_1.40")
    assert published("mobilenet_v2_1.4_96")  # another image size has the same weights
    assert published("mobilenet_v2_0.36") is None
    assert published("inception_v3_0299") is None  # no size, so it may be the name of a user's own network
    assert published("squeezenet") is None
    for name in checkpoints.all_published():
        entry = published(name)
        assert entry
        assert entry.sha256 is None or len(entry.sha256) == 64
        assert "published" not in zoo.find(name).params


def test_the_choice(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`published` is replaced by a table of one network, whose archive the lab's server has."""
    monkeypatch.setattr(checkpoints, "published", lambda model: KNOWN if model == MODEL else None)
    planned = Chooser("auto", tmp_path, print, may_fetch=False).choose(MODEL)
    assert (planned.source, planned.pending) == ("published", True)
    assert not server.requests  # a plan asks nobody
    fetched = Chooser("auto", tmp_path, print).choose(MODEL)
    assert (fetched.source, fetched.reason, fetched.sha256) == ("published", "fetched now", KNOWN.sha256)
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")
    again = Chooser("auto", tmp_path, print).choose(MODEL)
    assert (again.source, again.files) == ("published", fetched.files)
    other = Chooser("auto", tmp_path, print).choose("squeezenet")
    assert (other.source, other.reason) == ("generated", "no published checkpoint of it is known")
    assert other.hint
    with pytest.raises(InvalidRequest, match="no published checkpoint of squeezenet is known"):
        Chooser("published", tmp_path, print).choose("squeezenet")
    assert Chooser("generated", tmp_path, print).choose(MODEL).source == "generated"


def test_auto_takes_no_wrong_bytes(server: FileServer, tmp_path: Path) -> None:
    chosen = Chooser("auto", tmp_path, print).choose(MODEL)  # the real table: another digest
    assert chosen.source == "generated"
    assert "its sha256 is" in chosen.reason
    assert chosen.hint


def test_no_network_costs_little_and_once(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tricks[PATH] = [lambda *_: time.sleep(2)]
    monkeypatch.setattr(weights, "CONTACT_S", 0.3)
    chooser, begun = Chooser("auto", tmp_path, print), time.monotonic()
    chosen = [chooser.choose(model) for model in (MODEL, "mobilenet_v1_0.5", "mobilenet_v2_1.0")]
    assert time.monotonic() - begun < 1.5
    assert {choice.source for choice in chosen} == {"generated"}
    assert "cannot be reached" in chosen[2].reason
    assert len(server.requests) == 1


def test_a_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "one.ckpt").write_bytes(b"V1")
    for name in ("two.ckpt.index", "two.ckpt.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"V2")
    assert list(given(tmp_path / "one.ckpt").files) == ["checkpoint"]
    for name in ("two.ckpt", "two.ckpt.index"):
        assert list(given(tmp_path / name).files) == ["checkpoint", "checkpoint_data"]
    assert given(tmp_path / "one.ckpt").sha256 == sha256(b"V1")
    (tmp_path / "two.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(InvalidRequest, match="is not the prefix of a checkpoint"):
        given(tmp_path / "two.ckpt")


def with_table(folder: Path, server: FileServer) -> Project:
    """Return a copy of the project, with a table in which what the server has is the right file."""
    made = dataclasses.replace(Project.copy(folder), mirror=server.url)
    table = made.folder / "tools" / "models.toml"
    recorded = published(MODEL)
    assert recorded
    text = table.read_text().replace(str(recorded.sha256), sha256(server.files[PATH]))
    table.write_text(text)
    return made


@pytest.fixture
def project(server: FileServer, tmp_path: Path) -> Project:
    return with_table(tmp_path / "project", server)


def command(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.call([*project.argv(*arguments), "--work", str(project.work)])


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*project.argv(*arguments), "--work", str(project.work)],
        env={**os.environ, **project.environment},
        text=True,
        stderr=subprocess.PIPE,
    )


def test_a_killed_fetch_goes_on(server: FileServer, project: Project) -> None:
    server.tricks[PATH] = [lab.stall, None]
    part = project.work / "downloads" / f"{KNOWN.key}.part"
    with start(project, "fetch", MODEL) as running:
        assert soon(lambda: part.exists() and part.stat().st_size > 100_000, 10)
        running.send_signal(signal.SIGKILL)
    assert left(project.work) == [f"{KNOWN.key}.part", f"{KNOWN.key}.part.json"]
    done = command(project, "fetch", MODEL)
    assert done.returncode == 0, done.stderr
    assert left(project.work) == [KNOWN.key]
    assert server.gets(PATH)[1].startswith("bytes=1")


def test_two_at_a_time_fetch_once(server: FileServer, project: Project) -> None:
    waiting = threading.Event()

    def when_the_second_waits(handler: lab.Handler, content: bytes) -> None:
        waiting.wait(20)
        handler.give(content)

    server.tricks[PATH] = [when_the_second_waits]
    with start(project, "fetch", MODEL) as first:
        assert soon(lambda: server.requests, 10)
        with start(project, "fetch", MODEL) as second:
            assert second.stderr
            assert "another process has" in second.stderr.readline()
            waiting.set()
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(server.requests) == 1


def test_all(server: FileServer, project: Project) -> None:
    """One can be had, the others are refused or not there; each says so, and the exit code is the first's."""
    server.tricks = {
        path: [lab.status(404)]
        for name in checkpoints.all_published()
        if (entry := published(name)) and (path := "/" + entry.url.split("/", 3)[3]) != PATH
    }
    done = command(project, "fetch", "--all")
    assert done.returncode == 7
    states = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "here since" in states[MODEL]
    assert "answers 404" in states["mobilenet_v2_1.4"]
    assert "no checksum is known" in states["inception_v3"]
    shown = json.loads(command(project, "models", "show", MODEL, "--json").stdout)["published"]
    assert shown["here"].startswith("since ")
    assert shown["sha256"] == sha256(ARCHIVE)
    cleaned = command(project, "clean", "--downloads")
    assert cleaned.returncode == 0, cleaned.stderr
    assert command(project, "models", "show", MODEL).stdout.count("no; python runner.py fetch") == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["fetch"], 2, "takes the names of networks, or --all"),
        (["fetch", "squeezenet"], 2, "no published checkpoint of squeezenet is known"),
        (["fetch", "mobilenet_v1_0.26"], 2, "Did you mean mobilenet_v1_0.25"),
        (["fetch", "nosuch"], 2, "there is no model 'nosuch'"),
        (["fetch", "resnet_v1_50"], 2, "--trust-on-first-use"),
        (["prepare", "--model", "squeezenet", "--weights", "published"], 2, "no published checkpoint"),
        (["prepare", "--model", "mobilenet_v2_1.4", "--weights", "published"], 7, "answers 404"),
    ],
)
def test_a_wrong_command_line(
    server: FileServer, tmp_path: Path, arguments: list[str], exit_code: int, said: str
) -> None:
    project = Project(ROOT, tmp_path / "work", server.url)
    done = command(project, *arguments)
    assert done.returncode == exit_code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.tool
def test_fetched_weights_are_used(server: FileServer, tmp_path: Path) -> None:
    """From the archive to the frozen graph, which is the one that the checkpoint was made for."""
    maker = Project(ROOT, tmp_path / "made", server.url)
    made = maker.run("prepare", "--model", MODEL, "--weights", "generated")
    assert made.returncode == 0, made.stderr
    folder = maker.work / "models" / MODEL
    suffixes = (".index", ".data-00000-of-00001")
    archive = packed({f"{NAME}{end}": (folder / f"{MODEL}.ckpt{end}").read_bytes() for end in suffixes})
    server.files[PATH] = archive
    project = with_table(tmp_path / "project", server)

    done = project.run("prepare", "--model", MODEL)
    assert done.returncode == 0, done.stderr
    assert f"{MODEL}: published weights (mobilenet_v1_0.25_224.tgz), because: fetched now." in done.stdout
    run = project.results()["run"]
    stages = [stage["stage"] for stage in run["stages"]]
    assert stages == ["tf1.export", "tf1.import-weights", "tf1.freeze", "tf1.reference"]
    taken = run["weights"][MODEL]
    assert (taken["source"], taken["sha256"]) == ("published", sha256(archive))
    assert taken["imported"]["variables"] == 137
    frozen = f"models/{MODEL}/{MODEL}.frozen.pb"
    assert (project.work / frozen).read_bytes() == (maker.work / frozen).read_bytes()

    plan = json.loads(project.run("plan", "--model", MODEL, "--json").stdout)
    assert {stage["action"] for stage in plan["stages"][:4]} == {"cached"}
    assert plan["weights"][MODEL]["reason"].startswith("here since they were fetched")
