"""What mvNCProfile prints, read: both formats, runs that failed, and whatever else a file may hold.

The texts are made here, in the formats of the toolkit's manual and of published measurements
(csarron/ncs, parser/profiles and exp/runtime); the numbers in them are not measurements.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from host import ROOT
from tools import ncsdk

BANNER = "\x1b[1mmvNCProfile v02.00, Copyright @ Movidius Ltd 2016\x1b[0m\n\nUSB: Transferring Data...\n"
RUNS = """\x1b[94mTime to Execute :  34.0  ms\x1b[39m
USB: Myriad Execution Finished
\x1b[94mTime to Execute :  30.5  ms\x1b[39m
USB: Myriad Execution Finished
"""
OLD = f"""{BANNER}{RUNS}Network Summary

Detailed Per Layer Profile
Layer      Name                                 MFLOPs    Bandwidth MB/s        time(ms)
{"=" * 88}
0          conv1                                94.090           1381.51           17.32
1          inception 3a/1x1                      0.518            194.08            1.90
{"-" * 88}
           Total inference time                                                    19.22
{"-" * 88}

Generating Profile Report 'output_report.html'...
"""
NEW = f"""{BANNER}{RUNS}USB: Myriad Connection Closing.
USB: Myriad Connection Closed.
Network Summary

Detailed Per Layer Profile
                                                               Bandwidth   time
#    Name                                                MFLOPs  (MB/s)    (ms)
{"=" * 79}
0    conv1                                                240.3  1904.9   7.398
1    pool3                                                  0.8  1718.3   0.907
{"-" * 79}
                                   Total inference time                    8.30
{"-" * 79}
Generating Profile Report 'output_report.html'...
"""
STOPPED = BANNER


def test_the_older_format() -> None:
    found = ncsdk.parse(OLD)
    assert found["status"] == "ok"
    assert (found["total_ms"], found["host_ms"], found["first_host_ms"]) == (19.22, 30.5, 34.0)
    assert found["overhead_ms"] == 11.28
    assert found["layers"] == [
        {"name": "conv1", "mflops": 94.09, "bandwidth_mb_per_s": 1381.51, "time_ms": 17.32},
        {"name": "inception 3a/1x1", "mflops": 0.518, "bandwidth_mb_per_s": 194.08, "time_ms": 1.9},
    ]
    assert not found["warnings"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_newer_format(line_end: str) -> None:
    found = ncsdk.parse(NEW.replace("\n", line_end))
    assert (found["status"], found["total_ms"], found["host_ms"]) == ("ok", 8.3, 30.5)
    assert [layer["time_ms"] for layer in found["layers"]] == [7.398, 0.907]
    assert not found["warnings"]


@pytest.mark.parametrize(
    ("text", "reason", "layers"),
    [
        (STOPPED, "stopped after 'USB: Transferring Data...'", 0),
        (OLD[: OLD.index("Network Summary")], "stopped after 'USB: Myriad Execution Finished'", 0),
        (OLD[: OLD.index("1          inception")], "cut off after 1 layers", 1),
        (OLD[: OLD.index("1.90")], "cut off after 1 layers", 1),
        (OLD[: OLD.index("17.32")], "cut off after 0 layers", 0),
        (NEW[: NEW.index("    8.30")], "cut off after 2 layers", 2),
        (OLD + NEW, "2 profiles", 2),
        ("", "empty", 0),
        ("\n\n", "empty", 0),
        ("hello", "not the output of mvNCProfile", 0),
        ("Total inference time 3.00", "not the output of mvNCProfile", 0),
    ],
)
def test_without_a_whole_table_it_failed(text: str, reason: str, layers: int) -> None:
    found = ncsdk.parse(text)
    assert found["status"] == "failed"
    assert reason in found["reason"]
    assert found["hint"]
    assert len(found["layers"]) == layers


def test_no_cut_of_a_good_file_passes_for_a_good_one() -> None:
    end = OLD.index("19.22") + len("19.2") + 1
    assert {ncsdk.parse(OLD[:length])["status"] for length in range(end)} == {"failed"}


def test_rows_that_do_not_add_up_are_told() -> None:
    [warning] = ncsdk.parse(OLD.replace("19.22", "23.37"))["warnings"]
    assert warning == "the layers' times sum to 19.22 ms, the total says 23.37 ms"
    garbled = ncsdk.parse(OLD.replace("194.08", "nan"))
    assert [layer["name"] for layer in garbled["layers"]] == ["conv1"]
    assert "not a layer" in garbled["warnings"][0]


def test_rows_rounded_apart_are_not() -> None:
    assert not ncsdk.parse(OLD.replace("19.22", "19.23"))["warnings"]


def test_an_error_code_gets_its_hint() -> None:
    text = "\x1b[91m[Error 5] Toolkit Error: Stage Details Not Supported: Sin\x1b[0m"
    found = ncsdk.parse(BANNER + text)
    assert found["status"] == "failed"
    assert found["error_code"] == 5
    assert found["reason"] == "[Error 5] Toolkit Error: Stage Details Not Supported: Sin"
    assert "-on" in found["hint"]
    unknown = ncsdk.parse("[Error 99] Something new")
    assert (unknown["error_code"], unknown["hint"]) == (99, "See the log.")


@pytest.mark.parametrize("content", [os.urandom(5000), b"\x00" * 100, NEW.encode("utf-16-le")])
def test_binary_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.txt"
    path.write_bytes(content)
    assert ncsdk.read(path)["status"] == "failed"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than 4 MB" in ncsdk.read(path)["reason"]


def test_no_line_is_slow_to_read() -> None:
    """A pattern that tries again from every space would take hours for these."""
    line = "1 " + " " * 1_000_000 + "x" + " 1" * 500_000
    assert ncsdk.parse(f"{'=' * 88}\n{line}\nTotal inference time" + " " * 1_000_000)["status"] == "failed"


PARSE = """
from pathlib import Path
from tools import ncsdk
from tools.stage import Tool

tool = Tool("toy")


@tool.parser
def parse_profile(file: Path):
    '''Read what mvNCProfile printed.'''
    return ncsdk.read(file)


tool.main()
"""


def parse(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", PARSE, *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_parser_is_a_command_of_its_tool(tmp_path: Path) -> None:
    path = tmp_path / "profile.txt"
    path.write_text(NEW)
    shown = parse("parse-profile", str(path), "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert json.loads(shown.stdout) == ncsdk.parse(NEW)
    table = parse("parse-profile", str(path)).stdout.splitlines()
    assert "total_ms       8.3" in table
    assert "pool3  0.8     1718.3              0.907" in table
    assert "Read what mvNCProfile printed." in parse("parse-profile", "--help").stdout


def test_a_failed_run_is_json_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "profile.txt"
    path.write_text(STOPPED)
    done = parse("parse-profile", str(path), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "failed"
    assert done.stderr.count("\n") == 1
    assert "did not answer" in done.stderr
    assert parse("parse-profile", str(tmp_path / "none.txt")).returncode == 2
