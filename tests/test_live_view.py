"""What a live view keeps and serves, without a browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import math
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.lab.wave import GAP_SAMPLES, RATE_HZ, SPIKE_A, Wave, current_a
from tools import trace
from tools.live_view import history as live_history
from tools.live_view import view
from tools.live_view.history import COUNT, FIXED, LOST, MARKERS, START, History
from tools.recording import Listener
from tools.running_energy import RunningEnergy
from tools.stage import Unavailable
from tools.trace import TIME, Meta

if TYPE_CHECKING:
    from tools.trace import Chunk

META = Meta("wave", "Wave", "W-1", rate_hz=RATE_HZ, simulated=True)
COLUMNS = ("main_a", "main_v", "marker")


def chunks(samples: int, seed: int = 0) -> Iterator[Chunk]:
    """Yield so many samples of the wave in pieces of odd sizes; 4.2 V."""
    random = np.random.default_rng(seed)
    first = 0
    while first < samples:
        number = np.arange(first, min(samples, first + int(random.integers(1, 900))))
        first += len(number)
        current = current_a(number)
        volts = np.where(np.isnan(current), np.nan, 4.2)
        marker = (number // RATE_HZ % 2).astype(np.uint8)
        yield {TIME: number / RATE_HZ, "main_a": current, "main_v": volts, "marker": marker}


def whole(samples: int) -> Chunk:
    parts = list(chunks(samples))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize(
    ("start_s", "end_s", "width_s"),
    [(0.0, 20.0, 0.02), (3.3, 3.4, 0.0001), (1.0, 2.0, 0.0013), (0.0, 20.0, 30.0), (19.9, math.inf, 0.01)],
)
def test_rows_are_the_samples_in_them(start_s: float, end_s: float, width_s: float) -> None:
    """Also one sample among many is kept, whatever level it is taken of."""
    kept, samples = History(COLUMNS), whole(20 * RATE_HZ)
    for chunk in chunks(20 * RATE_HZ):
        kept.add(chunk)
    rows = kept.columns(start_s, end_s, width_s)
    inside = rows[(rows[:, START] >= start_s) & (rows[:, START] < end_s)]
    assert inside[-1, START] >= min(end_s, 20.0) - max(width_s, 0.001)
    ends = np.append(rows[1:, START], math.inf)
    for row, end in list(zip(rows, ends, strict=True))[: None if end_s > 20 else -1]:
        of = (samples[TIME] >= row[START]) & (samples[TIME] < end)
        assert row[COUNT] == of.sum()
        assert row[MARKERS] == samples["marker"][of].max()
        current = samples["main_a"][of]
        for place, series in ((0, current), (1, samples["main_v"][of]), (2, current * 4.2)):
            found = row[[FIXED + place, FIXED + 3 + place, FIXED + 6 + place]]
            known = series[~np.isnan(series)]
            wanted = [known.min(), known.max(), known.mean()] if len(known) else [np.nan] * 3
            np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert row[LOST] == np.isnan(current).sum()
    assert len(rows) <= (min(end_s, 20.0) - start_s) / width_s + 3


def test_memory_has_a_bound_and_old_samples_become_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_history, "BUDGET_BYTES", 1 << 20)
    kept = History(COLUMNS)
    for number in range(200):  # 40 minutes
        times = number * 12 + np.arange(600) / 50
        kept.add({TIME: times, "main_a": times, "main_v": np.ones(600), "marker": np.zeros(600)})
    tables = [level._table.nbytes for level in kept._levels]
    assert sum(tables) < 14 << 20  # LEAST_ROWS of each
    rows = kept.columns(0.0, 2400.0, 2.0)
    assert rows[0, START] == 0.0
    assert 2398.0 <= rows[-1, START] < 2400.0
    assert rows[:, COUNT].sum() == 200 * 600
    _, width_s = kept.samples(1000.0, 1001.0)
    assert width_s > 0
    newest, width_s = kept.samples(2399.0, 2400.0)
    assert (len(newest), width_s) == (50, 0.0)


def test_energy_over_gaps_and_of_counters() -> None:
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    watts = np.array([2.0, 4.0, np.nan, 6.0, 6.0])
    joules = np.array([10.0, 13.0, np.nan, 20.0, 21.0])
    energy = RunningEnergy(["main_a", "main_v", "gpu_w", "cpu_j", "volts_v"])
    for part in (slice(0, 2), slice(2, 3), slice(3, 5)):
        found = energy.add(
            {
                TIME: seconds[part],
                "main_a": watts[part],
                "main_v": np.ones(5)[part],
                "gpu_w": 2 * watts[part],
                "cpu_j": joules[part],
                "volts_v": np.ones(5)[part],
            }
        )
    by_name = {channel.name: channel for channel in energy.channels}
    assert (by_name["main"].energy_j, by_name["main"].known_s) == (3.0 + 6.0, 2.0)
    assert by_name["gpu"].energy_j == 18.0
    assert (by_name["cpu"].energy_j, by_name["cpu"].known_s) == (11.0, 4.0)  # it counts through a gap
    assert found["cpu"][0].tolist() == [3.5, 1.0]  # W since the reading before
    assert not by_name["volts"].measures
    assert energy.recorded_s == 4.0


def test_a_counter_has_no_power_before_its_second_reading_and_no_gap_there() -> None:
    kept = History(["cpu_j"])
    kept.add({TIME: np.array([0.0, 1.0, 2.0]), "cpu_j": np.array([5.0, 7.0, np.nan])})
    rows = kept.columns(0.0, 9.0, 0.0)
    assert kept.series == ["cpu_w"]
    assert rows[:, LOST].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(rows[:, FIXED], [np.nan, 2.0, np.nan])
    assert rows[:, -1].tolist() == [0.0, 2.0, 2.0]


@contextlib.contextmanager
def served(samples: int = 0) -> Iterator[tuple[int, Listener]]:
    """Serve a live view on a free port; give the port and the listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with view(port) as listener:
        for chunk in chunks(samples):
            listener(chunk, META)
        yield port, listener


def get(port: int, path: str, host: str = "") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    return answer, b"" if path.startswith("/stream") and answer.status == 200 else answer.read()


def events(port: int, query: str) -> Iterator[dict[str, Any]]:
    answer, _ = get(port, f"/stream?{query}")
    assert answer.headers["Content-Type"] == "text/event-stream"
    with answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def rows_of(event: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(event["data"]), "<f8").reshape(event["rows"], -1)


def test_a_stream_brings_what_is_new_and_ends() -> None:
    with served(6 * RATE_HZ) as (port, listener):
        stream = events(port, "span=2&columns=100")
        first = next(stream)
        assert first["about"]["series"] == ["main_a", "main_v", "main_w"]
        assert (first["about"]["simulated"], first["samples"]) == (True, 6 * RATE_HZ)
        rows = rows_of(first)
        assert len(rows) <= 103
        assert rows[:, FIXED + 3].max() == SPIKE_A
        number = 6 * RATE_HZ + np.arange(10)
        more = {TIME: number / RATE_HZ, "main_a": np.full(10, 7.0), "main_v": np.ones(10)}
        listener({**more, "marker": np.zeros(10)}, META)
        event = next(event for event in stream if "data" in event)
        assert len(rows_of(event)) <= 3
        assert rows_of(event)[-1, FIXED + 3] == 7.0
        assert event["now_s"] == number[-1] / RATE_HZ
        past = rows_of(next(events(port, "from=1&to=1.1&columns=1000")))
        assert (past[:, COUNT] == 1).all()  # single samples, and one on either side
        assert len(past) == 502
    assert list(stream)[-1]["ended"]


def test_only_this_machine_is_answered() -> None:
    with served(100) as (port, _):
        answer, page = get(port, "/")
        assert (answer.status, b"<title>" in page) == (200, True)
        assert "default-src 'none'" in str(answer.headers["Content-Security-Policy"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert get(port, "/", f"localhost:{port}")[0].status == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
            for path in ("/", "/stream?span=1&columns=9", "/samples.parquet?from=0&to=1"):
                assert get(port, path, host)[0].status == 403
        for line in subprocess.check_output(["ss", "-Hltn"], text=True).splitlines():
            if (address := line.split()[3]).endswith(f":{port}"):
                assert address == f"127.0.0.1:{port}"


def test_page_asks_for_nothing_from_elsewhere() -> None:
    folder = Path(live_history.__file__).parent
    for path in folder.glob("page.*"):
        assert "//" not in path.read_text().replace("// ", "").replace("http://www.w3.org", ""), path


def test_what_is_no_view_is_refused() -> None:
    bad = ("span=0&columns=100", "span=nan&columns=100", "span=1&columns=100000", "from=2&to=1&columns=100")
    with served(100) as (port, _):
        for query in (*bad, "from=x&to=1&columns=100", ""):
            assert get(port, f"/stream?{query}")[0].status == 400, query
        assert get(port, "/samples.parquet?from=0")[0].status == 400
        for path in ("/../__init__.py", "/history.py", "/page"):
            assert get(port, path)[0].status == 404, path


def test_a_browser_that_takes_nothing_holds_nobody_up() -> None:
    with served(1000) as (port, listener), contextlib.ExitStack() as stack:
        for _ in range(20):  # more than there are streams
            sleeper = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            request = f"GET /stream?span=100&columns=4096 HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            sleeper.sendall(request.encode())
        time.sleep(0.5)
        longest = 0.0
        for chunk in chunks(20 * RATE_HZ, seed=1):
            begun = time.monotonic()
            listener({**chunk, TIME: chunk[TIME] + 1}, META)
            longest = max(longest, time.monotonic() - begun)
        assert longest < 0.5
        assert get(port, "/stream?span=1&columns=9")[0].status == 503
        begun = time.monotonic()
    assert time.monotonic() - begun < 3


def test_samples_in_view_are_kept_as_a_trace(tmp_path: Path) -> None:
    with served(3 * RATE_HZ) as (port, _):
        answer, content = get(port, "/samples.parquet?from=1&to=2")
        assert answer.status == 200
        assert get(port, "/samples.parquet?from=8&to=9")[0].status == 404
    path = tmp_path / "part.parquet"
    path.write_bytes(content)
    part = trace.read(path)
    np.testing.assert_allclose(part.columns["main_a"], current_a(np.arange(RATE_HZ, 2 * RATE_HZ)), rtol=1e-6)
    assert part.meta.simulated
    assert "a part of a recording" in part.meta.note
    with served() as (port, _):
        assert get(port, "/samples.parquet?from=1&to=2")[0].status == 404


def test_a_port_in_use_is_an_error() -> None:
    with served() as (port, _), pytest.raises(Unavailable, match=f"port {port}"), view(port):
        pass


def test_the_wave_is_what_it_says() -> None:
    meter = Wave("W-1", channels=2, lost_after_s=0.0, speed=50.0)
    parts = [meter.read()]
    while not len(parts[-1][TIME]) or parts[-1][TIME][-1] < 4:
        parts.append(meter.read())
    number = np.round(np.concatenate([part[TIME] for part in parts]) * RATE_HZ).astype(int)
    current = np.concatenate([part["main_a"] for part in parts])
    np.testing.assert_allclose(current, current_a(number), rtol=1e-6)
    gaps = np.diff(number)[np.diff(number) > 1]
    assert meter.meta.dropped == (gaps - 1).sum() == GAP_SAMPLES - 1
