"""The report tool: a run's results, or a network, in; one HTML page that needs no internet out."""

from __future__ import annotations

from pathlib import Path

from tools.stage import Input, Output, Result, Tool, progress

tool = Tool("report", packages=("matplotlib", "jinja2", "netron", "numpy"))


@tool.command(cached=False)
def render(results: Input, html: Output = "report.html") -> Result:
    """Write the report of a run as one self-contained HTML file.

    It reads `results` (results.json, schema 1) and, relative to it, the samples files. The page's links are
    relative to the folder of `results` too: it is meant to lie there. The same input gives the same bytes.

    Raises:
        InvalidRequest: `results` is not a results.json of schema 1.
    """
    from tools.report.page import page
    from tools.report.results import read

    run = read(results)
    text = page(run, on_progress=progress)
    Path(html).write_text(text, encoding="utf-8")
    return Result(metrics={"records": len(run.records), "report_kb": round(len(text.encode()) / 1000, 1)})


@tool.command()
def draw(described: Input, title: str, page: Output = "{model}.html") -> Result:
    """Draw a network, as tf1.describe or onnx.describe read it, on one self-contained HTML page.

    Raises:
        InvalidRequest: `described` is not such a description.
    """
    from tools.report import drawing

    network = drawing.read(described.read_text(encoding="utf-8"), described.name)
    page.write_text(drawing.page(network, title), encoding="utf-8")
    return Result(metrics={"layers": len(network["layers"])})
