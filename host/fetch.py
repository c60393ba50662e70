"""Downloads over HTTP: resumed, retried, one at a time per file, and never half there under the final name.

The digest is the caller's business (host/checkpoints.py); here a file is whole when the server says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from urllib3.exceptions import HTTPError

from host.engines import Note
from tools.stage import InvalidRequest, StageError, Unavailable, write_json

MIRROR = "MOBILE_ACCELERATOR_MIRROR"
CHUNK_BYTES = 1 << 16  # what a stall can lose
LIMIT_BYTES = 4 << 30  # the largest checkpoint of the field's zoos is about 1 GB
REDIRECTS = 5
PASSING = (408, 425, 429)  # statuses below 500 that may be another one next time (RFC 9110, 8470, 6585)
ELSEWHERE = f"Try again later, name a mirror (${MIRROR}), or give your own checkpoint: --weights PATH"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait: for a connection, for the next bytes, and before each further try."""

    connect_s: float = 10.0
    read_s: float = 30.0
    waits_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)


class _PassingError(Exception):
    """What may go well at the next try."""


class _Session(requests.Session):
    """Takes proxies and certificates from the environment; follows no redirect from https to http."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = REDIRECTS
        self.headers["Accept-Encoding"] = "identity"  # else a server may unpack a .tgz on the way
        self.verify = os.environ.get("SSL_CERT_FILE") or True

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a redirect leads, as requests asks for it at each one."""
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https":
            resolved = urljoin(resp.url, target)
            if urlsplit(resolved).scheme != "https":
                message = f"{resp.url} redirects to {resolved}, which is not encrypted"
                raise Unavailable(message, hint=ELSEWHERE)
        return target


def mirrored(url: str) -> str:
    """Return where to fetch `url` from: the user's mirror, if there is one, takes scheme and host's place.

    Raises:
        InvalidRequest: the mirror is not an http(s) address.
    """
    base = os.environ.get(MIRROR, "")
    if not base:
        return url
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).netloc:
        message = f"${MIRROR} is {base!r}, which is not an http:// or https:// address"
        raise InvalidRequest(message, hint="Example: http://mirror.example/models")
    return base.rstrip("/") + urlsplit(url).path


def unreachable(url: str, limit_s: float) -> str:
    """Return why no server answers for `url` within `limit_s`, empty if one does, whatever it says.

    In a thread of its own, because looking up a name can take longer than any timeout of a socket.
    """
    answers: list[str] = []

    def ask() -> None:
        try:
            with _Session() as session:
                session.head(mirrored(url), timeout=limit_s, allow_redirects=False)
            answers.append("")
        except requests.RequestException as error:
            answers.append(_reason(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit_s)
    return answers[0] if answers else f"no answer within {limit_s:g} s"


def download(
    url: str, part: Path, *, size_bytes: int | None = None, patience: Patience | None = None, note: Note
) -> None:
    """Bring all of `url` into `part`, going on from what an earlier try left there.

    Args:
        url: what to fetch.
        part: the file to write; what is there of it stays on every failure but a wrong length.
        size_bytes: the length that the file has to have, if it is known.
        patience: how long to wait, and how often to try.
        note: told about every further try.

    Raises:
        Unavailable: the server cannot be reached, refuses, stalls or breaks off, in spite of further tries.
        StageError: the file has another length than it should, or the disk is full.
    """
    address, patience = mirrored(url), patience or Patience()
    with _Session() as session, _bar(Path(urlsplit(url).path).name, size_bytes) as progress:
        for wait_s in (*patience.waits_s, None):
            try:
                _try(session, address, part, size_bytes, patience, progress)
                return
            except _PassingError as error:
                if wait_s is None:
                    message = f"{address} could not be fetched: {error}"
                    raise Unavailable(message, hint=f"What is here is kept. {ELSEWHERE}") from None
                note(f"{error}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
            except OSError as error:
                raise disk_error(error, part) from None


def _try(
    session: _Session,
    address: str,
    part: Path,
    size_bytes: int | None,
    patience: Patience,
    progress: Callable[[int, int | None], None],
) -> None:
    have, validator = _left_from_before(part, address)
    if size_bytes and have == size_bytes:
        return
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    timeout = (patience.connect_s, patience.read_s)
    try:
        response = session.get(address, headers=headers, stream=True, timeout=timeout)
    except requests.exceptions.SSLError as error:
        message = f"{address}: its certificate is not trusted ({_reason(error)})"
        hint = "Behind a proxy that inspects TLS name its certificate: SSL_CERT_FILE=FILE"
        raise Unavailable(message, hint=hint) from None
    except requests.TooManyRedirects:
        message = f"{address} redirects more than {REDIRECTS} times"
        raise Unavailable(message, hint=ELSEWHERE) from None
    except requests.RequestException as error:
        raise _PassingError(_reason(error)) from None
    with response:
        start = _start(response, have, part)
        if start is None:
            return
        announced = response.headers.get("Content-Length", "")
        total = start + int(announced) if announced.isdecimal() else None
        _check_length(address, total, size_bytes, part)
        if not start:
            _begin(part, address, response)
        _receive(response, part, start, progress, total or size_bytes)
    _check_length(address, part.stat().st_size, size_bytes, part)


def _start(response: requests.Response, have: int, part: Path) -> int | None:
    """Return the offset that the answer's body belongs at, None if the file is whole already.

    Raises:
        _PassingError: another answer may come next time.
        Unavailable: it will not.
    """
    status, said = response.status_code, response.headers.get("Content-Range", "")
    if status == 200:
        return 0  # also where we asked for a part: the file changed, or the server knows no parts
    if status == 206 and have and said.startswith(f"bytes {have}-"):
        return have
    if status == 416 and have and said == f"bytes */{have}":
        return None
    if status in (206, 416):
        part.unlink()
        message = f"the server answers {status} for another part than was asked for"
        raise _PassingError(message)
    message = f"{response.url}: the server answers {status} {response.reason}"
    if status in PASSING or status >= 500:
        raise _PassingError(message)
    hint = f"Give the proxy's user and password in HTTPS_PROXY. {ELSEWHERE}" if status == 407 else ELSEWHERE
    raise Unavailable(message, hint=hint)


def _receive(
    response: requests.Response,
    part: Path,
    start: int,
    progress: Callable[[int, int | None], None],
    total: int | None,
) -> None:
    """Write the body at its offset; a length that the server broke its word on is an error of urllib3's."""
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        try:
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                progress(file.tell(), total)
                if file.tell() > LIMIT_BYTES:
                    message = f"{response.url} sent more than {LIMIT_BYTES >> 30} GiB"
                    raise StageError(message, hint="That is no checkpoint. Is the address right?")
        except HTTPError as error:
            raise _PassingError(_reason(error)) from None
        finally:
            file.flush()
            os.fsync(file.fileno())


def _left_from_before(part: Path, address: str) -> tuple[int, str]:
    """Return how many bytes are here and how the server names their version, (0, "") if that is of no use."""
    try:
        about = json.loads(_about(part).read_text())
        if about["address"] == address and about["validator"]:
            return part.stat().st_size, about["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _begin(part: Path, address: str, response: requests.Response) -> None:
    """Write down what version of the file the bytes will be of: for If-Range, which takes no weak ETag."""
    part.unlink(missing_ok=True)
    tag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    write_json(_about(part), {"address": address, "validator": validator})


def _about(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    """Remove what a download left."""
    part.unlink(missing_ok=True)
    _about(part).unlink(missing_ok=True)


def _check_length(address: str, found: int | None, wanted: int | None, part: Path) -> None:
    if wanted is None or found is None or found == wanted:
        return
    discard(part)
    message = f"{address} is {found} bytes long, and {wanted} are recorded"
    raise StageError(message, hint="A proxy or a captive portal may have answered in its place.")


def disk_error(error: OSError, path: Path) -> StageError:
    """Return what a failed write means: no space, mostly."""
    message = f"{error.filename or path}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "Free some space (python runner.py clean) and start it again: it goes on from there."
        return StageError(message, hint=hint)
    return StageError(message, hint="Check the work folder, or choose another with --work")


def _reason(error: BaseException) -> str:
    """The cause of a network error in words: requests and urllib3 wrap it several times."""
    cause: Any = error
    while inner := getattr(cause, "reason", None) or (cause.args[0] if cause.args else None):
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = " ".join(str(cause).split())
    return (text.partition(": ")[2] or text if text.startswith(("HTTP", "<")) else text).rstrip(".")


@contextlib.contextmanager
def locked(path: Path, note: Note) -> Iterator[None]:
    """Hold the lock file `path`; say so if another process has it, and wait for that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:  # the kernel frees it, however we end
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"another process has {path.stem} under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _bar(name: str, size_bytes: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar where standard error is a terminal; yield what moves it: (done, total) in bytes."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=size_bytes)
        yield lambda done, total: progress.update(task, completed=done, total=total)
