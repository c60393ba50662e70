"""The drawing of a network in a real browser, by mouse and by keys; and Netron, kept from phoning home."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host import ROOT
from tests.project import Project
from tests.report.test_browser import CHROMIUM, FLAGS, FRAME, _contrast, _css_rgb, _luminance
from tools.stage import InvalidRequest

pytestmark = pytest.mark.tool
REPORT = ROOT / "tools" / "report"

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium to open the page in (Debian: apt-get install chromium)"
)


def layer(name: str, operation: str, *inputs: str, **more: Any) -> dict[str, Any]:
    described = {"params": 0, "macs": 0, "operations": 0, "share": 0.0, "nodes": [f"{name}/a", f"{name}/b"]}
    shapes = {"input_shapes": [[1, 8, 8, 3]] * len(inputs), "output_shape": [1, 8, 8, 3]}
    return {"name": name, "operation": operation, "inputs": list(inputs), **described, **shapes, **more}


def network(*layers: dict[str, Any]) -> dict[str, Any]:
    ends = {
        "inputs": [{"name": "image:0", "shape": [1, 8, 8, 3]}],
        "outputs": [{"name": "output:0", "shape": [1, 10]}],
    }
    totals = {key: sum(layer[key] for layer in layers) for key in ("params", "macs", "operations")}
    return {
        "format": "TensorFlow frozen graph",
        "notes": [],
        "not_counted": {},
        **totals,
        **ends,
        "layers": layers,
    }


def small() -> dict[str, Any]:
    """A network with two branches in a group of its own, and a name that is an attack."""
    return network(
        layer("net/conv1", "Conv2D 7x7/2, BiasAdd, Relu", "image:0", params=14208, macs=177020928, share=0.9),
        layer("net/fire/squeeze", "Conv2D 1x1", "net/conv1", params=9, macs=9, share=0.1),
        layer("net/fire/left", "Conv2D 1x1", "net/fire/squeeze"),
        layer("net/fire/right", "Conv2D 3x3", "net/fire/squeeze"),
        layer("net/fire/concat", "ConcatV2", "net/fire/left", "net/fire/right"),
        layer("net/</script><img src=x onerror=alert(1)>", "Identity", "net/fire/concat"),
        layer("net/pool", "AvgPool 8x8", "net/</script><img src=x onerror=alert(1)>"),
        layer("output", "Softmax", "net/pool"),
    )


def large(cells: int = 20, branches: int = 15) -> dict[str, Any]:
    """As many layers as NASNet has, in cells that read the two before them."""
    layers, ends = [], ["image:0", "image:0"]
    for cell in range(cells):
        scope = f"cell_{cell}"
        names = [f"{scope}/branch_{branch}" for branch in range(branches)]
        layers += [layer(f"{name}/filter", "Conv2D 3x3", ends[n % 2]) for n, name in enumerate(names)]
        layers += [layer(f"{name}/point", "Conv2D 1x1", f"{name}/filter") for name in names]
        layers.append(layer(f"{scope}/concat", "ConcatV2", *(f"{name}/point" for name in names)))
        ends = [f"{scope}/concat", ends[0]]
    return network(*layers)


@pytest.fixture(scope="module")
def drawn(run_stage: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    def draw(described: dict[str, Any]) -> str:
        path = tmp_path_factory.mktemp("layers") / "m.layers.json"
        path.write_text(json.dumps(described))
        folder, _ = run_stage("report", "draw", inputs={"described": path}, params={"title": "net"})
        return (folder / "m.html").read_text()

    return draw


# Runs in a copy of the page, whose own policy would forbid nothing of it: it is one more script.
DRIVE = """<script type="module">
const all = (selector, at = document) => [...at.querySelectorAll(selector)];
const visible = text => all(".box").find(box => box.querySelector(".name").textContent === text);
const press = key => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {{ key, bubbles: true }}));
const found = {{}};
{script}
document.documentElement.dataset.found = JSON.stringify(found);
</script></body>"""


def drive(page: str, script: str, folder: Path, width: int = 1280, *flags: str) -> dict[str, Any]:
    """Open the page in a frame of this width (px), run the script in it, return what it puts into `found`."""
    framed = folder / "framed.html"
    driven = page.replace("</body>", DRIVE.format(script=script))
    framed.write_text(FRAME.format(page=html.escape(driven), width=width))
    argv = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", *flags]
    dom = subprocess.run(
        [*argv, "--dump-dom", framed.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    return dict(json.loads(html.unescape(re.search(r"<title>(\{.*?\})</title>", dom)[1])))


def test_the_page_needs_nothing_from_elsewhere(drawn: Callable[..., str]) -> None:
    page = drawn(small())
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)|@import|url\((?!#)", page)
    assert "MIT License" in page  # of the layout, which is in the page
    assert "<img" not in page


@needs_chromium
def test_a_small_network(drawn: Callable[..., str], tmp_path: Path) -> None:
    script = """
    const box = element => element.getBoundingClientRect();
    const boxes = all(".box .outline").map(box);
    found.boxes = boxes.length;
    found.frames = all(".frame text").map(text => text.textContent);
    found.overlaps = boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right
      && a.top < b.bottom && b.top < a.bottom)).length;
    found.edges = all(".edge").length;
    found.down = box(visible("squeeze")).bottom < box(visible("left")).top;
    found.lines = all("text", visible("conv1")).map(text => text.textContent);
    found.images = document.images.length;
    visible("conv1").dispatchEvent(new MouseEvent("click", { bubbles: true }));
    found.details = document.getElementById("details").textContent;
    found.rows = document.querySelectorAll("tbody tr").length;
    """
    found = drive(drawn(small()), script, tmp_path)
    assert (found["boxes"], found["edges"], found["rows"]) == (9, 9, 8)
    assert found["frames"] == ["\u2212 fire"]
    assert found["overlaps"] == 0
    assert found["down"]
    numbers = "1\u00d78\u00d78\u00d73, 14.2\u00a0k params, 177\u00a0M MACs"
    assert found["lines"] == ["conv1", "Conv2D 7x7/2, BiasAdd, Relu", numbers]
    assert found["images"] == 0
    assert "177,020,928 (90.0% of all)" in found["details"]
    assert "net/conv1/a" in found["details"]


@needs_chromium
def test_by_keyboard(drawn: Callable[..., str], tmp_path: Path) -> None:
    script = """
    const here = () => document.activeElement.querySelector(".name").textContent;
    found.reached = all('.box[tabindex="0"]').length;
    all('.box[tabindex="0"]')[0].focus();
    found.way = [here()];
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowDown", "ArrowUp"]) {
      press(key);
      found.way.push(here());
    }
    press("+");
    document.getElementById("close").click();
    found.closed = all(".group .name").map(text => text.textContent);
    const search = document.getElementById("search");
    search.value = "RIGHT";
    search.dispatchEvent(new Event("input"));
    found.hits = document.getElementById("found").textContent;
    search.focus();
    press("Enter");
    found.chosen = document.querySelector(".chosen .name").textContent;
    """
    found = drive(drawn(small()), script, tmp_path)
    assert found["reached"] == 1
    way = found["way"]
    assert way[:3] == ["image", "conv1", "squeeze"]
    assert {way[3], way[4]} == {"left", "right"} or way[3] == way[4] == "right"
    assert way[5] == "concat"
    assert way[6] in ("left", "right")
    assert found["closed"] == ["fire"]
    assert found["hits"] == "1 found"
    assert found["chosen"] == "right"


@needs_chromium
def test_a_large_network_starts_closed_and_opens_in_seconds(
    drawn: Callable[..., str], tmp_path: Path
) -> None:
    script = """
    found.start = all(".box").length;
    const begun = performance.now();
    visible("cell_3").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
    found.cell = all(".box").length;
    found.cell_s = (performance.now() - begun) / 1000;
    document.getElementById("open").click();
    found.all = all(".box").length;
    found.all_s = (performance.now() - begun) / 1000;
    """
    found = drive(drawn(large()), script, tmp_path)
    assert found["start"] == 1 + 20
    assert found["cell"] == 1 + 19 + 15 + 1  # the branches of one cell, still closed, and its end
    assert found["all"] == 1 + 20 * 31
    assert found["cell_s"] < 5
    assert found["all_s"] < 30, found


@needs_chromium
@pytest.mark.parametrize(("width", "scheme", "colour"), [(1280, 1, "#f6f7f8"), (390, 0, "#14171a")])
def test_on_a_phone_and_in_the_dark(
    drawn: Callable[..., str], tmp_path: Path, width: int, scheme: int, colour: str
) -> None:
    script = """
    found.content = document.documentElement.scrollWidth;
    found.background = getComputedStyle(document.body).backgroundColor;
    found.text = parseFloat(getComputedStyle(document.querySelector(".name")).fontSize)
      * document.querySelector("svg").getBoundingClientRect().width
      / document.querySelector("svg").viewBox.baseVal.width;
    """
    flag = f"--blink-settings=preferredColorScheme={scheme}"
    found = drive(drawn(small()), script, tmp_path, width, flag)
    assert found["content"] == width  # the graph scrolls, the page does not
    assert found["background"] == _css_rgb(colour)
    assert found["text"] > 9  # px


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(theme: int) -> None:
    """WCAG 2.1, 1.4.11: 3 for what a drawing shows."""
    blocks = [re.findall(r":root \{(.*?)\}", (REPORT / name).read_text(), re.DOTALL) for name in SHEETS]
    pairs = re.findall(r"--([\w-]+): (#\w+)", blocks[0][theme] + blocks[1][theme])
    colour = {name: _luminance(value) for name, value in pairs}
    for name in ("product", "depthwise", "pool", "join", "end", "other"):
        assert _contrast(colour[name], colour["page"]) >= 3, name


SHEETS = ("page.css", "drawing.css")


@pytest.mark.parametrize("content", ["", "[]", '{"layers": []}', "\x00\x01"])
def test_what_is_no_description(run_stage: Callable[..., Any], tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.layers.json"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=r"m\.layers\.json is not a description of a network"):
        run_stage("report", "draw", inputs={"described": path}, params={"title": "m"})


@pytest.fixture
def netron(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command that starts Netron for a file, and the address that it prints."""
    file = tmp_path / "net work.json"
    file.write_text("{}")
    argv = Project(ROOT, tmp_path / "work").argv("visualize", "--netron", str(file))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout
            yield started, re.search(r"http://127\.0\.0\.1:\d+/", started.stdout.readline())[0]
        finally:
            started.send_signal(signal.SIGINT)
            started.wait(timeout=20)


CURL = "import sys, urllib.request as u; r = u.urlopen(u.Request(sys.argv[1], headers={'Host': sys.argv[2]}))"


def test_netron_serves_the_file_and_nothing_else(netron: tuple[subprocess.Popen[str], str]) -> None:
    started, address = netron
    host = address[len("http://") : -1]

    def get(path: str, name: str = host) -> str:
        code = f"{CURL}; print(r.headers['Content-Security-Policy']); print(r.read(2000).decode())"
        argv = [sys.executable, "-c", code, address + path, name]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    page = get("")
    assert page.startswith("default-src 'self'")
    assert '<meta name="file" content="/data/net%20work.json">' in page
    assert '<meta name="version" content="0.0.0">' in page  # to which Netron has no telemetry
    assert get("data/net%20work.json").endswith("{}\n")
    for path in ("data/other.json", "data/..%2Fx", "server.py", "..%2Fserver.py", "%2e%2e/netron/index.html"):
        assert get(path) == "", path
    assert get("", "evil.example") == ""

    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=20) == 0


@needs_chromium
def test_netron_does_not_phone_home(netron: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    _, address = netron
    log = tmp_path / "net.json"
    argv = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"]
    subprocess.run(
        [*argv, "--virtual-time-budget=20000", "--dump-dom", address],
        capture_output=True,
        timeout=120,
        check=True,
    )
    asked = set(re.findall(r'"url":"(.*?)"', log.read_text()))
    assert any(url.startswith(address + "data/net%20work.json") for url in asked)
    assert not [url for url in asked if "ipinfo" in url or "analytics" in url]
