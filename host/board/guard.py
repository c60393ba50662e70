"""What waits on the board while a run has it, and leaves it as it was when the run ends, however it ends.

It holds the board's lock, so there is one run on a board at a time. It reads signs of life on its standard
input: its end (the runner ended, or was killed), or silence (a cable was pulled), means that the run is over.
Then the run's containers are removed, the power mode is set back, and the run's files go; what was carried
stays. A board that lost its power in the middle is put in order by the next run's guard, which does the same
first.
"""

from __future__ import annotations

import dataclasses

from host.board.ssh import BEAT_S, BUSY, Connection, Destination

LABEL = "mobile-accelerator.board"  # of containers; its value is the folder, so other users' are not ours
SILENCE_S = 3 * BEAT_S
LOCK_WAIT_S = SILENCE_S + 15  # a lost run's guard gives up within that

COMPLAINT = "the power mode could not be set back, which the next run tries again"
HOME = 'cd "${XDG_CACHE_HOME:-$HOME/.cache}/mobile-accelerator"'
# nvpmodel may ask whether to reboot, on its standard input
RESTORE = """
restore() {
    [ -e power_mode ] || return 0
    sudo -n nvpmodel -m "$(cat power_mode)" </dev/null >&2 || return 1
    [ ! -e clocks ] || sudo -n jetson_clocks --restore "$PWD/clocks" >&2 || return 1
    rm -f power_mode clocks
}
"""
GUARD = f"""
trap '' HUP PIPE
mkdir -p "${{XDG_CACHE_HOME:-$HOME/.cache}}/mobile-accelerator" && {HOME} && mkdir -p store || exit 1
{RESTORE}
clean() {{
    left=$(docker ps --all --quiet --filter "label={LABEL}=$PWD" 2>/dev/null)
    [ -z "$left" ] || docker rm --force $left >/dev/null
    rm -rf work store/*.part
    restore || echo "{COMPLAINT}: sudo nvpmodel -m $(cat power_mode)" >&2
}}
exec 9>lock
flock -w %WAIT% 9 || {{ echo "another run is using the board"; exit {BUSY}; }}
clean
mkdir work || exit 1
echo "ready $PWD $(id -u):$(id -g)"
while IFS= read -r -t %SILENCE% _; do :; done
clean
"""
LOOKER = "echo 'ready -'; exec cat >/dev/null"


@dataclasses.dataclass(frozen=True)
class Place:
    """This project's folder on the board, and whose it is (`uid:gid`)."""

    folder: str
    user: str


def take(destination: Destination) -> tuple[Connection, Place]:
    """Connect and take the board for a run; what another one left there is removed first.

    Raises:
        DeviceNotFound: the board cannot be reached.
        StageError: another run has it, or its disk is full.
    """
    script = GUARD.replace("%WAIT%", f"{LOCK_WAIT_S:g}").replace("%SILENCE%", f"{SILENCE_S:g}")
    connection = Connection(destination, script, wait_s=LOCK_WAIT_S)
    folder, _, user = connection.greeting.rpartition(" ")
    return connection, Place(folder, user)


def look(destination: Destination) -> Connection:
    """Connect to look at the board only; a run that has it is not disturbed."""
    return Connection(destination, LOOKER)
