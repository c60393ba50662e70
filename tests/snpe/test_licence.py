"""What Qualcomm's licence keeps back stays out of registries."""

from __future__ import annotations

import pytest

from host import catalog, images
from host.compose import Service
from host.docker_cli import Console
from host.engines.choose import services
from tools.stage import InvalidRequest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What would be pushed and pulled, instead of doing it."""
    found: dict[str, list[str]] = {}

    def note(verb: str) -> None:
        def take(wanted: list[Service], *_: object, **__: object) -> None:
            found[verb] = [service.name for service in wanted]

        monkeypatch.setattr(images, verb, take)

    note("push")
    note("pull")
    return found


def test_all_images_are_those_that_a_registry_may_have(
    asked: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.push_images([], registry="localhost:5000")
    catalog.pull_images([], registry="localhost:5000")
    assert asked["push"] == asked["pull"]
    assert "onnx" in asked["push"]
    assert "snpe" not in asked["push"]
    assert "left out: snpe; Qualcomm's AI Stack License" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [images.push, images.pull])
def test_one_that_is_named_is_refused(verb: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("images")
    snpe = services(folder)["snpe"]
    console = Console(log=folder / "log", note=print)
    with pytest.raises(InvalidRequest, match="not for a registry: Qualcomm's AI Stack License") as caught:
        verb([snpe], console, registry="localhost:5000")  # type: ignore[operator]
    assert "images build snpe" in caught.value.hint
