"""What there is: the networks of the zoo and the images of the tools; build, pull and push these."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from host import images, show, toolbox, zoo
from host.compose import Service
from host.engines.choose import services
from host.jobs import note
from tools.stage import InvalidRequest


def list_models(*, as_json: bool) -> None:
    """Print the zoo."""
    found = [zoo.find(name) for name in zoo.names()]
    if as_json:
        show.print_json([dataclasses.asdict(model) for model in found])
    else:
        show.table(("model", "about"), [(model.name, model.about) for model in found])


def show_model(name: str, *, as_json: bool) -> None:
    """Print what is known of one network."""
    model = dataclasses.asdict(zoo.find(name))
    if as_json:
        show.print_json(model)
    else:
        print(f"{model['name']}: {model['about']}")
        show.table(("parameter", "value"), [(key, str(value)) for key, value in model["params"].items()])


def build_images(tools: Sequence[str], *, base: str | None, offline_base: bool) -> None:
    """Build the images of these tools; if none is named, all that compose.yaml gives no profile."""
    images.build(chosen(tools), _console(), base=base, offline_base=offline_base)


def pull_images(tools: Sequence[str], *, registry: str) -> None:
    """Take the images of these tools from a registry."""
    images.pull(chosen(tools), _console(), registry=registry)


def push_images(tools: Sequence[str], *, registry: str) -> None:
    """Put the images of these tools into a registry."""
    images.push(chosen(tools), _console(), registry=registry)


def list_images(*, as_json: bool) -> None:
    """Print every tool's image, there or not."""
    wanted = services(Path()).values()
    here = {image.tool: image for image in images.list_images(wanted)}
    if as_json:
        show.print_json([dataclasses.asdict(image) for image in here.values()])
        return
    rows = []
    for service in wanted:
        image = here.get(service.name)
        size = f"{image.size_bytes / 1e6:.0f}" if image else "-"
        rows.append((service.name, service.image, size, image.created[:19] if image else "not here"))
    show.table(("tool", "image", "MB", "made"), rows)


def chosen(tools: Sequence[str]) -> list[Service]:
    """Return the services of these names; if none is named, all without a profile.

    Raises:
        InvalidRequest: there is none of a name.
    """
    known = services(Path())
    for tool in tools:
        if tool not in known:
            message = f"there is no tool {tool!r}"
            raise InvalidRequest(message, hint=toolbox.nearest(tool, known, ", ".join(known)))
    return [known[tool] for tool in tools or known if tools or not known[tool].profiles]


def _console() -> images.Console:
    return images.Console(log=images.log_file(), note=note)
