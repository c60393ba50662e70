"""Downloads from a real server on loopback that breaks every promise it can."""

from __future__ import annotations

import itertools
import os
import resource
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import ROOT
from host.fetch import MIRROR, Patience, download, locked, mirrored, unreachable
from tests.lab import http_server as lab
from tests.lab.http_server import FileServer, Trick, serving
from tools.stage import InvalidRequest, StageError, Unavailable

CONTENT = bytes(itertools.islice(itertools.cycle(range(251)), 3_000_000))
PATH = "/models/net.tgz"
HASTE = Patience(connect_s=1, read_s=0.3, waits_s=(0.01, 0.01))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.delenv(MIRROR, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        running.files[PATH] = CONTENT
        yield running


def get(server: FileServer, folder: Path, size: int | None = None, url: str = "") -> bytes:
    part = folder / "net.part"
    download(url or server.url + PATH, part, size_bytes=size, patience=HASTE, note=print)
    return part.read_bytes()


def test_a_file(server: FileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert get(server, tmp_path, len(CONTENT)) == CONTENT
    assert capfd.readouterr().err == ""  # no bar: that is no terminal


@pytest.mark.parametrize("trick", [lab.truncate, lab.reset, lab.stall])
def test_what_breaks_off_goes_on_from_there(server: FileServer, tmp_path: Path, trick: Trick) -> None:
    server.tricks[PATH] = [trick, None]
    assert get(server, tmp_path) == CONTENT
    whole, rest = server.gets(PATH)
    assert whole == ""
    assert 1_400_000 < int(rest.removeprefix("bytes=").rstrip("-")) <= 1_500_000


@pytest.mark.parametrize("second", [lab.ignore_range, lab.other_part])
def test_a_server_that_ignores_ranges_starts_over(server: FileServer, tmp_path: Path, second: Trick) -> None:
    server.tricks[PATH] = [lab.truncate, second, None]
    assert get(server, tmp_path) == CONTENT


def test_a_file_that_changed_meanwhile_starts_over(server: FileServer, tmp_path: Path) -> None:
    server.tricks[PATH] = [lab.truncate]
    with pytest.raises(Unavailable, match="could not be fetched"):
        get(server, tmp_path)
    server.tricks[PATH] = []
    about = tmp_path / "net.part.json"
    about.write_text(about.read_text().replace("one", "an older one"))
    assert get(server, tmp_path) == CONTENT


def test_a_whole_part_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    get(server, tmp_path)
    assert get(server, tmp_path) == CONTENT  # the server says so: 416
    assert len(server.gets(PATH)) == 2
    assert get(server, tmp_path, len(CONTENT)) == CONTENT  # the length says so
    assert len(server.gets(PATH)) == 2


@pytest.mark.parametrize("passing", [500, 503, 429])
def test_an_error_that_passes(server: FileServer, tmp_path: Path, passing: int) -> None:
    server.tricks[PATH] = [lab.status(passing), None]
    assert get(server, tmp_path) == CONTENT


@pytest.mark.parametrize(("code", "tries"), [(404, 1), (403, 1), (500, 3)])
def test_an_error_that_stays(server: FileServer, tmp_path: Path, code: int, tries: int) -> None:
    server.tricks[PATH] = [lab.status(code)]
    with pytest.raises(Unavailable, match=f"answers {code}") as error:
        get(server, tmp_path)
    assert "--weights PATH" in error.value.hint
    assert len(server.gets(PATH)) == tries


def test_a_stall_ends(server: FileServer, tmp_path: Path) -> None:
    server.tricks[PATH] = [lab.stall]
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="Read timed out"):
        get(server, tmp_path)
    assert time.monotonic() - begun < 3
    assert (tmp_path / "net.part").stat().st_size > 1_400_000  # for the next time


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_length_that_is_too_long(server: FileServer, tmp_path: Path, size: int | None) -> None:
    server.tricks[PATH] = [lab.lie_longer]
    if size is None:  # all bytes are here, and the server's own 416 says so at the second try
        server.tricks[PATH].append(None)
        assert get(server, tmp_path) == CONTENT
        return
    with pytest.raises(StageError, match=f"is {size + 1000} bytes long, and {size} are recorded"):
        get(server, tmp_path, size)


def test_a_length_that_is_too_short(server: FileServer, tmp_path: Path) -> None:
    server.tricks[PATH] = [lab.lie_shorter]
    with pytest.raises(StageError, match=f"is {len(CONTENT) // 2} bytes long, and {len(CONTENT)} are"):
        get(server, tmp_path, len(CONTENT))


def test_no_length_and_an_encoding_that_is_none(server: FileServer, tmp_path: Path) -> None:
    server.tricks[PATH] = [lab.without_length]
    assert get(server, tmp_path) == CONTENT
    server.tricks[PATH] = [lab.gzip_on_the_way]
    assert get(server, tmp_path) == CONTENT


def test_nobody_there(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(Unavailable, match="Connection refused") as error:
        get(server, tmp_path, url="http://127.0.0.1:9/x.tgz")
    assert len(error.value.one_line().splitlines()) == 1


def test_redirects(server: FileServer, tmp_path: Path) -> None:
    server.tricks["/old.tgz"] = [lab.redirect(PATH)]
    assert get(server, tmp_path, url=f"{server.url}/old.tgz") == CONTENT
    server.tricks["/round.tgz"] = [lab.redirect("/round.tgz")]
    with pytest.raises(Unavailable, match="redirects more than 5 times"):
        get(server, tmp_path, url=f"{server.url}/round.tgz")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1 in one file, made now, good for a day."""
    path = tmp_path / "tls.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=lab"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path) + ".crt"]
    subprocess.run(argv, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


def test_encryption_is_checked_and_kept(
    server: FileServer, tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with serving(context) as secure:
        secure.files[PATH] = CONTENT
        secure.tricks["/out.tgz"] = [lab.redirect(server.url + PATH)]
        with pytest.raises(Unavailable, match="certificate is not trusted") as error:
            get(secure, tmp_path)
        assert "SSL_CERT_FILE" in error.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert get(secure, tmp_path) == CONTENT
        with pytest.raises(Unavailable, match="which is not encrypted"):
            get(secure, tmp_path, url=f"{secure.url}/out.tgz")
    assert not server.requests


def test_no_space(server: FileServer, tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the kernel refuses the write in the same place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    try:
        with pytest.raises(StageError, match="File too large") as error:
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "clean" in error.value.hint
    assert get(server, tmp_path) == CONTENT
    assert server.gets(PATH) == ["", "bytes=1500000-"]


def test_the_mirror(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR, "http://mirror.example:81/base/")
    assert mirrored("https://a.example/b/c.tgz") == "http://mirror.example:81/base/b/c.tgz"
    monkeypatch.setenv(MIRROR, "mirror.example")
    with pytest.raises(InvalidRequest, match="not an http:// or https:// address"):
        mirrored("https://a.example/b/c.tgz")


def test_reachable_or_not_is_known_soon(server: FileServer) -> None:
    assert unreachable(server.url + PATH, 1) == ""
    assert unreachable(server.url + "/nothing", 1) == ""  # somebody answers, that is all
    assert "Connection refused" in unreachable("http://127.0.0.1:9/", 1)
    begun = time.monotonic()
    server.tricks[PATH] = [lambda *_: time.sleep(2)]
    assert unreachable(server.url + PATH, 0.2)
    assert time.monotonic() - begun < 1


HOLDER = """
import sys, time
from pathlib import Path
from host.fetch import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(0.7)
"""


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    path, notes = tmp_path / "net.lock", []
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        begun = time.monotonic()
        with locked(path, notes.append):
            assert time.monotonic() - begun > 0.3
        holder.wait()
    assert notes == ["another process has net under way; waiting for it"]
