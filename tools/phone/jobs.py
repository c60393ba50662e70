"""Programs that run on the phone by themselves: nothing is asked of the phone while one runs.

The shell that starts a program waits for it, and says nothing until it ends. If the connection is lost in
between the program goes on, and is looked for from then on. Its time limit is kept on the phone, so a
program never outlives it, whatever became of the cable and of this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tools.phone.adb import Completed, ConnectionLost
from tools.stage import DeviceNotFound, StageError

if TYPE_CHECKING:
    from tools.phone.device import Phone

RUNS = "runs"
AWAY_LIMIT_S = 60.0  # after a program's own limit, for a phone to come back
LOOK_EVERY_S = 2.0

# `setsid` puts each into a session of its own: the end of the connection reaches none, and a kill reaches all
# that one started. KILL knows them by the folder's path, which is on every command line: their numbers may be
# other programs' by then.
JOB = """
folder=${0%/*}
cd "$folder" || exit 1
echo $$ >job
setsid sh "$folder/program.sh" </dev/null >stdout 2>stderr &
program=$!
echo $program >program
setsid sh -c "sleep $1; : >$folder/timed_out; kill -9 -$program" </dev/null >/dev/null 2>&1 &
guard=$!
echo $guard >guard
wait $program
echo $? >code.part && mv code.part code
kill -9 -$program -$guard
"""
IS = """
is() { grep -q "$1/" "/proc/$(cat "$1/$2")/cmdline"; } 2>/dev/null
alive() { [ ! -e "$1/code" ] && { is "$1" job || is "$1" program; }; }
"""
KILL = f"""{IS}
kill_job() {{ for each in job program guard; do is "$1" $each && kill -9 "-$(cat "$1/$each")"; done; }}
"""


@dataclasses.dataclass(frozen=True)
class Finished(Completed):
    """How a program ended; `lost` counts how often the connection was lost, which a record must say."""

    lost: int = 0


def run(phone: Phone, script: str, timeout_s: float) -> Finished:
    """Run a shell script on the phone, detached; its working directory is gone when this returns.

    Raises:
        StageError: it did not end within `timeout_s` and was killed, or something else killed it unseen.
        DeviceNotFound: the phone went away and did not come back, or runs another job.
    """
    _check_free(phone)
    folder = f"{phone.root}/{RUNS}/{uuid.uuid4().hex[:12]}"
    try:
        _write(phone, folder, {"job.sh": JOB, "program.sh": script})
        lost = _wait(phone, folder, timeout_s)
        return _collect(phone, folder, timeout_s, lost)
    finally:
        with contextlib.suppress(StageError):  # it is gone with the next clean-up, if the phone is away now
            phone.shell(f"{KILL}kill_job {folder}; rm -rf {folder}", timeout_s=30)


def kill_all(phone: Phone) -> None:
    """End what an earlier run left running on the phone, and remove its files."""
    runs = f"{phone.root}/{RUNS}"
    phone.shell(f"{KILL}for run in {runs}/*; do kill_job $run; done; rm -rf {runs}", timeout_s=30).check(
        "ending what runs"
    )


def _check_free(phone: Phone) -> None:
    command = f"{IS}\nfor each in {phone.root}/{RUNS}/*; do alive $each && echo $each; done; exit 0"
    running = phone.shell(command, timeout_s=30).check("looking for other runs").split()
    if running:
        message = f"another run measures on the phone {phone.serial} ({running[0].rpartition('/')[2]})"
        hint = "Wait for it; if its runner is gone: python runner.py phone clean"
        raise DeviceNotFound(message, hint=hint)


def _write(phone: Phone, folder: str, files: dict[str, str]) -> None:
    phone.shell(f"mkdir -p {folder}", timeout_s=30).check("making a folder")
    with phone.sync() as sync:
        for name, text in files.items():
            sync.send(io.BytesIO(text.encode()), f"{folder}/{name}")


def _wait(phone: Phone, folder: str, timeout_s: float) -> int:
    """Start the job and return when it ended; how often the connection was lost."""
    end = time.monotonic() + timeout_s + AWAY_LIMIT_S
    start = f"setsid sh {folder}/job.sh {timeout_s:g} </dev/null >/dev/null 2>&1 & wait $!"
    try:
        phone.shell(start, timeout_s=timeout_s + AWAY_LIMIT_S)
        return 0
    except ConnectionLost:
        return 1 + _wait_again(phone, folder, end)


def _wait_again(phone: Phone, folder: str, end: float) -> int:
    """Look for a job whose connection was lost until it ended; how often it was lost again."""
    lost, there = 0, False
    while True:
        time.sleep(LOOK_EVERY_S)
        try:
            phone.reconnect()
            there = phone.shell(f"{IS}alive {folder}", timeout_s=30).code == 0
            if not there:
                return lost
        except DeviceNotFound as error:
            lost, there = lost + there, False
            if time.monotonic() > end:
                message = f"the phone {phone.serial} went away while it measured, and did not return: {error}"
                raise DeviceNotFound(message, hint=error.hint) from None


def _collect(phone: Phone, folder: str, timeout_s: float, lost: int) -> Finished:
    files = {name: phone.shell(f"cat {folder}/{name}", timeout_s=60) for name in ("code", "stdout", "stderr")}
    if phone.shell(f"[ -e {folder}/timed_out ]", timeout_s=30).code == 0:
        message = f"the program on the phone did not end within {timeout_s:g} s and was killed"
        raise StageError(message, hint=_last_line(files) or "Give it more time, or a smaller network.")
    if files["code"].code:
        message = "the program on the phone was killed, and nothing there says by whom"
        raise StageError(
            message, hint="Android kills when memory is short: close apps, or restart the phone."
        )
    return Finished(
        stdout=files["stdout"].stdout,
        stderr=files["stderr"].stdout,
        code=int(files["code"].stdout),
        lost=lost,
    )


def _last_line(files: dict[str, Completed]) -> str:
    lines = [line for name in ("stderr", "stdout") for line in files[name].stdout.splitlines()[-1:]]
    return f"The last that it said: {lines[0]}" if lines else ""


@contextlib.contextmanager
def folder(phone: Phone) -> Iterator[str]:
    """Yield a folder on the phone for a program's files; it is gone afterwards."""
    path = f"{phone.root}/{RUNS}/{uuid.uuid4().hex[:12]}"
    phone.shell(f"mkdir -p {path}", timeout_s=30).check("making a folder")
    try:
        yield path
    finally:
        with contextlib.suppress(StageError):
            phone.shell(f"rm -rf {path}", timeout_s=60)
