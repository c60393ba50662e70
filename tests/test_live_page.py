"""The live view in a real browser: what it shows, what a person does with it, what it holds in memory."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.bench.live_view import measure, recorded
from tests.lab.browser import CHROMIUM, Page, browser
from tests.lab.wave import SPIKE_A
from tools import trace

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt-get install chromium)")
LEAST_A, GREATEST_A = "row[4]", "row[7]"  # of the current, with one channel: main_a, main_v, main_w
BOX = "document.getElementById('plot').getBoundingClientRect()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with recorded(folder, 120.0) as (_, url):
        yield url


@pytest.fixture(scope="module")
def chromium(folder: Path) -> Iterator[Page]:
    with browser(folder) as page:
        yield page


@pytest.fixture
def page(chromium: Page, url: str) -> Iterator[Page]:
    chromium.problems.clear()
    chromium.open(url)
    chromium.wait("page.rows.length > 100 && page.state.samples")
    yield chromium
    assert not chromium.problems


def view(page: Page) -> tuple[float, float]:
    found = page.value("[page.view.from, page.view.to]")
    return found[0], found[1]


def plot_at(page: Page, x: float, y: float = 0.3) -> tuple[float, float]:
    """The place in the window that is at a share of the plot's width and height."""
    box = page.value(f"(({{x, y, width, height}}) => [x, y, width, height])({BOX})")
    return box[0] + x * box[2], box[1] + y * box[3]


def test_ten_seconds_of_5_khz_leave_no_trace_in_memory(tmp_path: Path) -> None:
    """tests/bench/live_view.py does it for a minute; its figures are in docs/power-live.md."""
    found = measure(tmp_path, 11.0)
    assert not found["problems"]
    assert found["wrong_rows"] == 0  # least, greatest and mean of each column are those of the file
    settled, last = found["steps"][3], found["steps"][-1]
    assert last["process_mb"] - settled["process_mb"] < 8
    more_points = last["page_points"] - settled["page_points"]
    assert (last["page_heap_mb"] - settled["page_heap_mb"]) * 1e6 < 300_000 + 400 * more_points
    assert last["page_points"] < 1300  # its width


def test_what_is_shown(page: Page) -> None:
    page.wait("page.state.dropped > 0 && page.state.now_s > 6")
    shown = page.value(
        "Object.fromEntries([...document.querySelectorAll('dd')].map(d => [d.id, d.textContent]))"
    )
    assert shown["now-main-v"].startswith("4.1")
    assert shown["now-main-v"].endswith(" V")
    assert shown["now-main-w"].endswith("W")
    assert int(shown["dropped"]) in (249, 498)
    assert page.value("document.getElementById('simulated').hidden") is False
    assert page.value("document.title") == "Wave W-1"
    greatest = page.value(f"Math.max(...page.rows.map((row) => {GREATEST_A} || 0))")
    assert greatest == np.float32(SPIKE_A)  # one sample among 5000 a second
    ink = page.value("""(() => { const c = document.getElementById('plot');
        const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let painted = 0; for (let i = 3; i < data.length; i += 4) painted += data[i] > 0;
        return painted / (c.width * c.height); })()""")
    assert 0.02 < ink < 0.9
    energy = page.value("page.state.energy_j.main")
    mean = energy / (page.value("page.state.now_s") or 1)
    assert 0.7 < mean < 1.2  # W, of the wave


def test_pause_and_zoom(page: Page) -> None:
    page.value("document.getElementById('pause').click()")
    before = view(page)
    time.sleep(0.6)
    assert view(page) == before
    assert page.value("document.getElementById('state').textContent") == "paused"
    page.mouse("mouseWheel", *plot_at(page, 0.5), deltaX=0, deltaY=-700)
    page.wait(f"page.view.to - page.view.from < {(before[1] - before[0]) / 2}")
    after = view(page)
    assert before[0] < after[0] < after[1] < before[1]
    start, end = plot_at(page, 0.4), plot_at(page, 0.6)
    page.mouse("mousePressed", *start, button="left", clickCount=1)
    page.mouse("mouseMoved", *end, button="left")
    page.mouse("mouseReleased", *end, button="left", clickCount=1)
    page.wait(f"page.view.to - page.view.from < {(after[1] - after[0]) / 3}")
    page.value("globalThis.old = page.rows")
    page.wait("page.rows !== old && page.rows.length > 10")
    left, right = view(page)
    assert page.value("page.rows[0][0]") <= left < page.value("page.rows[1][0]")  # a line to the edge
    page.value("document.getElementById('plot').dispatchEvent(new MouseEvent('dblclick'))")
    assert page.value("page.follows") is True
    page.wait(f"page.view.to > {right} + 0.2")


def test_single_samples_are_seen_when_closest(page: Page) -> None:
    page.wait("page.state.now_s > 2")
    page.value("""(() => { const now = page.state.now_s; globalThis.old = page.rows; page.follows = false;
        page.view = {from: now - 0.5, to: now - 0.4}; page.span = 0.1; })()""")
    page.value("document.getElementById('closer').click()")
    page.wait("page.rows !== old && page.rows.length > 100")
    assert page.value("page.rows.every((row) => row[1] === 1)") is True
    assert page.value(f"page.rows.every((row) => {LEAST_A} === {GREATEST_A} || isNaN({LEAST_A}))") is True
    assert page.value("page.rows[51][0] - page.rows[50][0]") == pytest.approx(0.0002, rel=1e-3)


def test_saving(page: Page, folder: Path) -> None:
    page.value("document.getElementById('pause').click()")
    page.wait("page.rows.length > 100")
    left, right = view(page)
    for kind in ("png", "csv", "parquet"):
        page.value(f"document.getElementById('{kind}').click()")
        time.sleep(0.3)
    files = {path.suffix: path for path in _saved(folder / "downloads", 3)}
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    with files[".csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert left <= float(rows[0]["time_s"]) < float(rows[-1]["time_s"]) < right
    assert max(float(row["main_a_max"] or 0) for row in rows) <= SPIKE_A
    assert float(rows[-1]["main_j"]) > float(rows[0]["main_j"])
    part = trace.read(files[".parquet"])
    assert part.meta.simulated
    assert left <= part.time_s[0] < part.time_s[-1] < right
    assert len(part.time_s) == pytest.approx(5000 * (part.time_s[-1] - part.time_s[0]), rel=0.1)


def _saved(folder: Path, count: int) -> list[Path]:
    until = time.monotonic() + 15
    while True:
        found = [path for path in folder.glob("*") if path.suffix in (".png", ".csv", ".parquet")]
        if len(found) == count:
            return found
        assert time.monotonic() < until, list(folder.glob("*"))
        time.sleep(0.1)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone(chromium: Page, url: str, dark: bool) -> None:
    chromium.open(url, width=390, height=844, dark=dark)
    chromium.wait("page.rows.length > 50")
    assert chromium.value("document.documentElement.scrollWidth") == 390
    ink = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert ink == ("rgb(20, 23, 26)" if dark else "rgb(246, 247, 248)")
    small = (
        "[...document.querySelectorAll('button, select')].filter(b => b.getBoundingClientRect().height < 32)"
    )
    assert chromium.value(f"{small}.length") == 0
    before = view(chromium)
    chromium.value("document.getElementById('plot').scrollIntoView()")
    one, other = plot_at(chromium, 0.45), plot_at(chromium, 0.55)
    chromium.touch("touchStart", one, other)
    for step in range(1, 6):
        chromium.touch("touchMove", (one[0] - 15 * step, one[1]), (other[0] + 15 * step, other[1]))
    chromium.touch("touchEnd")
    chromium.wait(f"page.span < {(before[1] - before[0]) / 2}")
    chromium.touch("touchStart", one)
    for step in range(1, 6):
        chromium.touch("touchMove", (one[0] + 20 * step, one[1]))
    chromium.touch("touchEnd")
    chromium.wait("page.follows === false")
    assert chromium.value("document.getElementById('state').textContent") == "paused"


def test_the_end_and_a_lost_server(chromium: Page, tmp_path: Path) -> None:
    with recorded(tmp_path, 2.0) as (child, url):
        chromium.open(url)
        chromium.wait("page.state.ended")
        child.wait(20)
    assert chromium.value("document.getElementById('state').textContent") == "ended"
    assert chromium.value("page.state.now_s") == pytest.approx(2.0, abs=0.01)
    with recorded(tmp_path, 60.0) as (child, url):
        chromium.open(url)
        chromium.wait("page.rows.length > 5")
        child.kill()
        chromium.wait("document.getElementById('state').textContent === 'no connection'")
