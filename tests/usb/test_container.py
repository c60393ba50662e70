"""The image `ncs` with the settings of compose.yaml: a stick that becomes another device is seen there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.usb.conftest import Run
from tests.usb.test_stick import NOT_INITIALISED, NOT_SENT

pytestmark = [pytest.mark.usb, pytest.mark.docker]

Runs = Mapping[str, Run]


def test_the_tools_container_boots_the_stick_and_speaks_to_what_comes_back(in_container: Runs) -> None:
    run = in_container["as in compose.yaml"]
    assert run.products == ["2485", "f63b"]
    assert run.asked == [("ping", ""), ("create stream", "deviceMonitor")]


def test_with_the_first_node_alone_the_booted_stick_is_not_reached(in_container: Runs) -> None:
    run = in_container["the node alone"]
    assert run.products == ["2485", "f63b"]
    assert run.asked == []
    assert "Failed connection to device" in run.output
    assert run.error == NOT_INITIALISED


def test_without_the_udev_rules_the_container_cannot_open_the_stick(in_container: Runs) -> None:
    run = in_container["before the udev rules"]
    assert (run.products, run.firmware) == (["2485"], b"")
    assert NOT_SENT in run.output
    assert "bulk write" not in run.output
    assert run.error == NOT_INITIALISED


def test_the_runner_calls_the_stick_what_the_plugin_then_meets(in_container: Runs) -> None:
    assert in_container["before the udev rules"].states == ["host only", "host only"]
    assert in_container["as in compose.yaml"].states == ["ready", "stale"]
