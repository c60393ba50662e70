"""The report in a real browser: on a desk and on a phone, in light and in dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report import samples

CHROMIUM = shutil.which("chromium")
CSS = Path(__file__).parents[2] / "tools" / "report" / "page.css"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
)
# Runs in a copy of the page, whose own policy would forbid it.
CHECK = """<script>
const box = element => element.getBoundingClientRect();
const visible = element => box(element).width > 0 && box(element).height > 0;
for (const folded of document.querySelectorAll("details")) folded.open = true;
document.documentElement.dataset.found = JSON.stringify({
  viewport: innerWidth,
  content: document.documentElement.scrollWidth,
  background: getComputedStyle(document.body).backgroundColor,
  dots: getComputedStyle(document.querySelector('svg.plot path[style*="--dots"]')).stroke,
  plots: [...document.querySelectorAll('svg.plot')].filter(visible).map(plot => box(plot).width),
  beyond: [...document.querySelectorAll(
    'p, dt, dd, h1, h2, h3, figure, svg.plot, summary, ul, .parts, .scroll, .badge')]
    .filter(element => box(element).right > innerWidth + 1).map(element => element.outerHTML.slice(0, 80)),
  overflowing: [...document.querySelectorAll('.bars dd')]
    .filter(element => element.scrollWidth > element.clientWidth).map(element => element.outerHTML),
  plotText: parseFloat(getComputedStyle(document.querySelector('svg.plot text')).fontSize)
    * box(document.querySelector('svg.plot')).width / 440,
  cards: getComputedStyle(document.querySelector('table.cards tbody tr')).display,
});
</script>"""


# A window has a smallest width, above a phone's; a frame has none.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark"><body style="margin: 0">
<iframe srcdoc="{page}" width="{width}" height="900" style="border: 0; color-scheme: light dark"></iframe>
<script>
onload = () => {{ document.title = frames[0].document.documentElement.dataset.found; }};
</script>"""


@pytest.fixture(scope="module")
def page(run_stage: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of a full run, with a script in it that looks at the page."""
    if CHROMIUM is None:
        pytest.skip("no Chromium to open the report in (Debian: apt-get install chromium)")
    run = tmp_path_factory.mktemp("run")
    folder, _ = run_stage("report", "render", inputs={"results": samples.full_run(run)})
    text = (folder / "report.html").read_text()
    checked = re.sub(r"<meta http-equiv=.*?>", "", text).replace("</body>", f"{CHECK}</body>")
    assert checked.count("<script>") == 1
    return checked


def look(page: str, width: int, folder: Path, *flags: str) -> dict[str, Any]:
    """Open the page in a frame of this width (px) and return what CHECK found."""
    framed = folder / "framed.html"
    framed.write_text(FRAME.format(page=html.escape(page), width=width))
    argv = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        *flags,
        "--dump-dom",
        framed.as_uri(),
    ]
    dom = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", dom)[1]))


@pytest.mark.tool
@pytest.mark.parametrize(("width", "cards"), [(390, "grid"), (1280, "table-row")])
@pytest.mark.parametrize(
    ("scheme", "colours"), [("light", ("#f6f7f8", "#5b7590")), ("dark", ("#14171a", "#86a3c0"))]
)
def test_page_in_a_browser(
    page: str, tmp_path: Path, width: int, cards: str, scheme: str, colours: tuple[str, str]
) -> None:
    dark = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    found = look(page, width, tmp_path, "--window-size=1400,1000", dark)
    assert found["viewport"] == width
    assert found["content"] == width  # nothing makes the page scroll sideways
    assert not found["beyond"]
    assert not found["overflowing"]  # a bar leaves its number the room that it takes
    assert (found["background"], found["dots"]) == tuple(map(_css_rgb, colours))
    assert len(found["plots"]) == 25
    assert min(found["plots"]) > 300
    assert found["plotText"] > 10  # px
    assert found["cards"] == cards


def _css_rgb(colour: str) -> str:
    return f"rgb({', '.join(str(part) for part in bytes.fromhex(colour[1:]))})"


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_has_contrast(theme: int) -> None:
    """WCAG 2.1, 1.4.3: 4.5 for text; 1.4.11: 3 for what a plot shows."""
    block = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.DOTALL)[theme]
    colour = {name: _luminance(value) for name, value in re.findall(r"--([\w-]+): (#\w+)", block)}
    for back in ("page", "box"):
        for name in ("ink", "ink-2", "link", "good", "bad", "warn", "sim"):
            assert _contrast(colour[name], colour[back]) >= 4.5, (name, back)
        for name in ("dots", "mark"):
            assert _contrast(colour[name], colour[back]) >= 3, (name, back)
    assert _contrast(colour["dots"], colour["stripe"]) >= 3  # a bar in a simulated row
    assert _contrast(colour["ink"], colour["warn-box"]) >= 4.5
    assert _contrast(colour["ink-2"], colour["stripe"]) >= 4.5


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [part / 255 for part in bytes.fromhex(digits)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
