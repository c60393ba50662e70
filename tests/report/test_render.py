"""The report as a stage: what is on the page, and that nothing else is needed to read it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import samples
from tests.report.samples import latencies_ns, measured, record
from tools import profile
from tools.stage import InvalidRequest

pytestmark = pytest.mark.tool
Render = Callable[[Path], str]


class Page(HTMLParser):
    """What a browser would load, where links go, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._style = False
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._style = tag == "style"
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "action", "srcset", "data"):
                self.links.append(value or "")
            if key == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else data


@pytest.fixture
def render(run_stage: Callable[..., Any]) -> Render:
    return lambda results: (
        run_stage("report", "render", inputs={"results": results})[0] / "report.html"
    ).read_text()


def test_page_needs_no_network_and_no_script(render: Render, tmp_path: Path) -> None:
    html = render(samples.full_run(tmp_path))
    page = Page(html)
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert not re.search(r"@import|url\((?!#)", html)
    for link in page.links:
        assert not re.match(r"[a-z]+:|//", link), link
        assert not link.startswith("#") or link[1:] in page.ids, link
        assert link.startswith(("#", "..")) or (tmp_path / link).exists(), link
    assert not [name for name, count in Counter(page.ids).items() if count > 1]
    assert not re.search(r"\b(nan|inf|None|undefined)\b", page.text, re.IGNORECASE)
    assert not re.search(r"#(0[1-5])\1\1", html)  # a sentinel colour that no CSS variable took the place of


def test_page_says_what_the_run_found(render: Render, tmp_path: Path) -> None:
    page = Page(render(samples.full_run(tmp_path)))
    for words in (
        "1.89\N{MULTIPLICATION SIGN} as fast openvino on CPU, 2 threads, fp32 is the fastest correct backend",
        "median 6.07 ms (±0.12 %), against 11.5 ms",
        "the baseline, tflite (tflite-runtime)",
        "All 4 measured backends agree",
        "Wrong output: openvino on CPU, 2 threads, int8",
        "it drifted: the last fifth of the inferences was 7.7 % slower",
        "The CPU governor is powersave",
        "SIMULATED",
        "The Qualcomm Neural Processing SDK is licensed and is not in sdk/snpe/.",
        "Download it with your account",
        "no Docker daemon answers at unix:///var/run/docker.sock; tf1 as tf1-legacy",
        "8 stages, 4 from the cache",
        "tflite-runtime 2.14.0",
        "Intel(R) Core(TM) i7-8665U",
    ):
        assert words in page.text.replace("\N{NO-BREAK SPACE}", " "), words
    # two plots for each record that was measured, a sweep, five traces, and energy over latency
    assert page.tags["svg"] == 2 * 9 + 1 + 5 + 1
    for link in (
        "results.json",
        "logs/squeezenet.tflite.benchmark.log",
        "../../models/squeezenet/squeezenet.tflite",
    ):
        assert link in page.links
    assert sum(link.endswith(".i64") for link in page.links) == 9


def test_page_says_which_weights_and_why(render: Render, tmp_path: Path) -> None:
    taken = samples.weights(
        source="published",
        name="net.tgz",
        sha256="ab" * 32,
        reason="fetched now",
        hint=None,
        imported={"format": "V2", "moving_averages": 107},
    )
    records = [measured(tmp_path, latencies_ns(8, 300), model="net", weights=taken), record(model="other")]
    text = Page(render(samples.write(tmp_path, records))).text
    assert "Weights: published (net.tgz, sha256 abababababab, moving averages of training), because:" in text
    assert "Weights: generated (seed 0), because: no published checkpoint of it is known." in text


def test_an_answer_that_rests_on_a_doubtful_number_says_so(render: Render, tmp_path: Path) -> None:
    slow = measured(tmp_path, latencies_ns(12, 400))
    fast = measured(tmp_path, latencies_ns(6, 400, drift=0.1), backend="onnx")
    page = Page(render(samples.write(tmp_path, [slow, fast])))
    assert "About 2.0\N{MULTIPLICATION SIGN} as fast, in doubt" in page.text
    assert "touch this comparison" in page.text


def test_features_have_no_classes_to_speak_of(render: Render, tmp_path: Path) -> None:
    found = measured(tmp_path, latencies_ns(5, 200), model="bert_tiny")
    found["correctness"] |= {"top1_match": None, "top5_overlap": None}
    text = Page(render(samples.write(tmp_path, [found]))).text
    assert "cosine 0.9999999 on 16 inputs" in text
    assert "same first class" not in text


def test_page_says_what_a_stick_did(render: Render, tmp_path: Path) -> None:
    html = render(samples.write(tmp_path, [samples.stick(tmp_path)]))
    assert sum(map(float, re.findall(r"flex-grow: ([\d.]+)", html))) == pytest.approx(
        100, abs=0.1
    )  # a full bar
    page = Page(html)
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "device 18.1 ms transport 4.27 ms host 0.930 ms",
        "Myriad X (2480)ncs.convert 162, 135 in hardware",
        "MyriadXHwOp 269, Pad 33, Copy 12, Sum 10",
        "7 SHAVEs, 9 CMX slices",
        "fused nodes: Clip: 35, Add: 2",
        "bss 3.01 MB, cmx 524 kB, constants 7.01 MB, input 151 kB, output 2,002 B",
        "Myriad 2 (2450)ncs.convert-2450 171, 0 in hardware",
        "Plan: 324 stages in 162 steps, squeezenet.plan.json",
        "64 layers, 13.7 ms in all. Example: the plug-in's counters, per stage.",
        "54 cheaper layers, 4.56 ms",
        "over shaves fastest at 11: 20.8 ms",
        "shaves 5: failed. The device was gone after 112 inferences.",
        "shaves 12: unsupported. The compiler refused 12 SHAVEs",
    ):
        assert words in text, words
    times = [float(ms) for ms in re.findall(r"MyriadXHwOp([\d.]+) [\d.]+ %", text)]
    assert len(times) == 64
    assert times == sorted(times, reverse=True)
    assert {"squeezenet.profile.json", "squeezenet.sweep.json", "squeezenet.plan.json"} <= set(page.links)


def test_page_says_without_a_device_what_was_compiled_and_checked(render: Render, tmp_path: Path) -> None:
    gone = samples.stick(tmp_path, status="no_device")
    text = Page(render(samples.write(tmp_path, [gone, samples.emulated("squeezenet")]))).text
    for words in (
        "not measured: why; compiled all the same",
        "Myriad X (2480)ncs.convert 162, 135 in hardware",
        "Plan: 324 stages in 162 steps",
        "checked on an emulator, not timed: why",
        "agrees with the reference within the tolerance: cosine 0.9999871",
        "emulated ncs (openvino) on MYRIAD, fp16 OpenVINO computed it on the CPU with weights",
        "Not measured: 1 no device (why).",
    ):
        assert words in text, words


def test_a_compiler_that_says_little(render: Render, tmp_path: Path) -> None:
    compiled = {
        "chip": "orin",
        "workspace_mb": 16,
        "shaves": None,
        "unsupported_layers": [{"node": "out", "operator": "Sin"}],
    }
    gone = record(status="no_device", metadata={"made_by": {"trt.build": {"compiled": compiled}, "onnx": {}}})
    text = Page(render(samples.write(tmp_path, [gone]))).text
    assert re.search(r"orin\s?trt\.build\W*workspace \(MB\): 16\W*out \(Sin\)", text)
    assert "all the same" not in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("points", "svgs", "words"),
    [
        (samples.sweep()["points"][:1], 3, "fastest at 1: 33.7"),
        (samples.sweep()["points"][-1:], 2, "shaves 12: unsupported."),
        ([], 2, "Nothing was tried"),
    ],
    ids=["one", "all failed", "none"],
)
def test_a_sweep_of_few_points(
    render: Render, tmp_path: Path, points: list[dict[str, Any]], svgs: int, words: str
) -> None:
    made = samples.stick(tmp_path)
    (tmp_path / made["files"]["sweep"]).write_text(json.dumps({"parameter": "shaves", "points": points}))
    page = Page(render(samples.write(tmp_path, [made])))
    assert words in page.text
    assert page.tags["svg"] == svgs + 1  # and its power trace


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is missing"),
        (b"", "is cut off or corrupt"),
        (b"\xff", "is cut off or corrupt"),
        (b"[]", "is cut off or corrupt"),
        (b'{"schema": 1, "counters": "", "total_ms": NaN, "layers": []}', "is cut off or corrupt"),
        (b'{"parameter": "shaves", "points": [{"shaves": "1"}], "stages": [1]}', "is cut off or corrupt"),
    ],
)
def test_other_files_that_cannot_be_shown(
    render: Render, tmp_path: Path, content: bytes | None, words: str
) -> None:
    made = samples.stick(tmp_path)
    files = {**made["files"], **made["artifacts"]}
    for path in files.values():
        (tmp_path / path).unlink()
        if content is not None:
            (tmp_path / path).write_bytes(content)
    page = Page(render(samples.write(tmp_path, [made])))
    for name, path in files.items():
        assert f"The {name} file {path} {words}." in page.text
    assert page.tags["svg"] == 2


def test_same_input_same_bytes(render: Render, tmp_path: Path) -> None:
    results = samples.full_run(tmp_path)
    assert render(results) == render(results)


def test_every_outlier_of_many_samples_is_drawn(render: Render, tmp_path: Path) -> None:
    ns = np.round(1e6 * np.random.default_rng(1).normal(8, 0.05, 100_000)).astype("<i8")
    ns[[500, 70_000]] = 60_000_000, 90_000_000
    html = render(samples.write(tmp_path, [measured(tmp_path, ns)]))
    assert len(html) < 1_000_000
    distribution, over_time = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    dots = re.search(r'd="([^"]*)"[^>]*stroke: var\(--dots\)', distribution)
    x = sorted({float(start) for start in re.findall(r"M([\d.]+) ", dots[1])})
    assert [right - left > 20 for left, right in zip(x[-4:], x[-3:], strict=False)] == [False, True, True]
    edge = re.search(r'd="([^"]*)"[^>]*stroke: var\(--mark\); stroke-width: 1.6', over_time)
    assert len(re.findall("M", edge[1])) == 2


def test_axes_of_small_numbers_have_them(render: Render, tmp_path: Path) -> None:
    ns = np.round(np.random.default_rng(1).normal(15_000, 300, 500)).astype("<i8")
    html = render(samples.write(tmp_path, [measured(tmp_path, ns)]))
    for plot in re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL):
        labels = [label.removesuffix(" ms") for label in re.findall(r">([\d.]+(?: ms)?)</text>", plot)]
        assert len(set(labels)) == len(labels)
        assert "0" not in labels


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "samples/squeezenet.tflite.tflite.fp32.i64 is missing"),
        (b"", "is cut off or corrupt"),
        (b"1234567890", "is cut off or corrupt"),
        (np.array([5, -1], "<i8").tobytes(), "is cut off or corrupt"),
    ],
)
def test_samples_that_cannot_be_shown(
    render: Render, tmp_path: Path, content: bytes | None, words: str
) -> None:
    made = measured(tmp_path, latencies_ns(8, 300))
    path = tmp_path / made["samples"]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    page = Page(render(samples.write(tmp_path, [made])))
    assert words in page.text
    assert page.tags["svg"] == 0


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_or_equal_samples(render: Render, tmp_path: Path, count: int) -> None:
    made = measured(tmp_path, latencies_ns(8, 300))
    np.full(count, 8_000_000, "<i8").tofile(tmp_path / made["samples"])
    made["latency_ms"] |= {"n": count, "ci95_rel": None}
    page = Page(render(samples.write(tmp_path, [made])))
    assert page.tags["svg"] == 2
    assert "too few rounds" in page.text


def test_nothing_measured(render: Render, tmp_path: Path) -> None:
    gone = [
        record(backend="ncs", status="no_device"),
        record(status="failed", reason="Out of memory. " * 300),
    ]
    page = Page(render(samples.write(tmp_path, gone)))
    assert "Nothing measured" in page.text
    assert "ncs is not here" in page.text
    assert "Nothing measured" in Page(render(samples.write(tmp_path, [], models=["squeezenet"]))).text
    assert "no model was asked for" in Page(render(samples.write(tmp_path, []))).text


def test_layers_that_were_counted_in_cycles_are_not_shown_as_time(render: Render, tmp_path: Path) -> None:
    phone = samples.stick(tmp_path)
    layers = [profile.Layer("conv", "", "DSP", None, cycles=7466069.0), profile.Layer("in", "", "CPU", 0.5)]
    profile.write(tmp_path / phone["files"]["profile"], layers, "A Hexagon's.")
    text = " ".join(Page(render(samples.write(tmp_path, [phone]))).text.split())
    assert "0.500 ms and 7,466,069 cycles in all. A Hexagon's." in text
    assert "Time (ms) Cycles Share" in text


def test_text_of_the_run_stays_text(render: Render, tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    bad = record(
        model=evil, backend=evil, status="failed", reason=evil, hint=evil, artifacts={evil: f"../{evil}"}
    )
    shown = measured(
        tmp_path, latencies_ns(8, 300), device=evil, versions={evil: evil}, artifacts={"x": "javascript:0"}
    )
    stick = samples.stick(tmp_path)
    stick["metadata"]["made_by"] = {evil: {"compiled": {"chip": evil, "stage_types": {evil: 1}, evil: evil}}}
    stick["breakdown_ms"] = {evil: 1.0}
    profile.write(tmp_path / stick["files"]["profile"], [profile.Layer(evil, evil, evil, 1.0)], evil)
    bad_point = {evil: 1, "status": evil, "reason": evil}
    (tmp_path / stick["files"]["sweep"]).write_text(json.dumps({"parameter": evil, "points": [bad_point]}))
    (tmp_path / stick["artifacts"]["plan"]).write_text(json.dumps({"stages": [{evil: evil}]}))
    host = {evil: evil, "list": [evil], "map": {evil: None}}
    html = render(samples.write(tmp_path, [bad, shown, stick], host=host, engine_reason=evil, argv=[evil]))
    assert Page(html).tags["script"] == 0
    assert evil in Page(html).text
    assert "javascript:" not in html


def test_other_schema_is_refused(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"schema": 2}')
    with pytest.raises(InvalidRequest, match="has schema 2"):
        render(path)


def test_energy_is_told_with_interval_idle_power_and_meter(render: Render, tmp_path: Path) -> None:
    page = Page(render(samples.full_run(tmp_path)))
    for words in (
        "23.3 mJ net, \N{PLUS-MINUS SIGN}0.35 mJ gross 39.5 mJ",
        "idle 1.71 W before, 1.74 W after",
        "6 windows, 1,032 inferences, placed by signature",
        "Monsoon HVPM 24071: main output of the power monitor",
        "windows differ",
        "No energy. the clocks of meter and host differ by 1.3 % between the signatures",
        "Record it anew.",
    ):
        assert words in page.text, words
    assert page.text.count("SIMULATED") >= 3  # the stick's rows, its energy's among them


CHANNELS = "Mean power in the windows"


def of_channels(html: str) -> list[tuple[str, str, str]]:
    """Name, length of the bar, and what is told of each channel, in the page's order."""
    shown = html.split(f'aria-label="{CHANNELS}"')[1].split("</dl>")[0]
    row = r'<dt>(.*?)</dt>\s*<dd><span class="bar" style="width: (.*?)"></span> (.*?)</dd>'
    return re.findall(row, shown)


def test_the_power_of_a_meters_channels(render: Render, tmp_path: Path) -> None:
    html = render(samples.full_run(tmp_path))
    assert of_channels(html) == [
        ("<strong>VDD_IN</strong>", "45.0%", "7.62&nbsp;W"),  # the energy's own
        ("VDD_CPU_GPU_CV", "18.3%", "3.10&nbsp;W"),
        ("VDD_SOC", "8.4%", "1.43&nbsp;W"),
        ("spare", "0.0%", "-0.000400&nbsp;W"),  # an offset below zero has no bar
    ]
    assert html.count(f'aria-label="{CHANNELS}"') == 1  # of the row that has channels
    around = html.split(f'aria-label="{CHANNELS}"')[0].rsplit('<div class="plotrow', 1)[1]
    assert around.startswith(" simulated")
    assert "SIMULATED" in around
    assert "not to be added up" in Page(html).text


def test_channels_are_named_as_the_meter_names_them(render: Render, tmp_path: Path) -> None:
    made = measured(tmp_path, latencies_ns(8, 300))
    made["energy"] = samples.energy(23.0, channel="package-0", channels_w={"<b>core": 9.0, "package-0": 8.0})
    html = render(samples.write(tmp_path, [made]))
    assert of_channels(html) == [  # parts that overlap may read above the whole
        ("<strong>package-0</strong>", "40.0%", "8.00&nbsp;W"),
        ("&lt;b&gt;core", "45.0%", "9.00&nbsp;W"),
    ]


@pytest.mark.parametrize("channels", [{}, {"channels_w": {}}, {"channels_w": {"main": 4.2}}])
def test_one_channel_has_no_power_of_its_own(
    render: Render, tmp_path: Path, channels: dict[str, Any]
) -> None:
    made = measured(tmp_path, latencies_ns(8, 300))
    made["energy"] = samples.energy(23.0, channel="main", **channels)
    text = Page(render(samples.write(tmp_path, [made]))).text
    assert "Uncertainty of the net energy" in text
    assert CHANNELS not in text
    assert "added up" not in text


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"plot": samples.plot(1.0, refused=True)}, "No energy. it bends"),
        ({"plot": None}, "There is no power in the trace."),
        ({"plot": {"time_s": [0]}}, "is cut off or corrupt"),
        (None, "is missing"),
    ],
)
def test_a_refused_energy_shows_what_there_is(
    render: Render, tmp_path: Path, file: dict[str, Any] | None, words: str, simulated: bool
) -> None:
    made = measured(tmp_path, latencies_ns(8, 300))
    made |= {"files": {"energy": "e.json"}, "energy_reason": "it bends", "energy_hint": "Straighten it."}
    if file:
        (tmp_path / "e.json").write_text(json.dumps({"simulated": simulated, **file}))
    page = Page(render(samples.write(tmp_path, [made])))
    assert words in page.text
    assert "Straighten it." in page.text
    drawn = bool(file and file["plot"] and len(file["plot"]["time_s"]) > 1)
    assert page.tags["svg"] == 2 + drawn
    assert ("SIMULATED" in page.text) == (drawn and simulated)
