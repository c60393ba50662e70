"""What there is: the networks of the zoo and the images of the tools; build, pull and push these."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from host import checkpoints, images, show, toolbox, zoo
from host.compose import Service
from host.engines.choose import services
from host.jobs import note
from tools.stage import InvalidRequest, StageError


def list_models(*, as_json: bool) -> None:
    """Print the zoo."""
    found = [zoo.find(name) for name in zoo.names()]
    if as_json:
        show.print_json([dataclasses.asdict(model) for model in found])
    else:
        show.table(("model", "about"), [(model.name, model.about) for model in found])


def show_model(name: str, work: Path, *, as_json: bool) -> None:
    """Print what is known of one network, and of its published checkpoint."""
    model = dataclasses.asdict(zoo.find(name))
    weights = _published(name, work)
    if as_json:
        show.print_json({**model, "published": weights or None})
    else:
        print(f"{model['name']}: {model['about']}")
        show.table(("parameter", "value"), [(key, str(value)) for key, value in model["params"].items()])
        print()
        if weights:
            show.table(("published checkpoint", ""), [(key, str(value)) for key, value in weights.items()])
        else:
            print("published checkpoint: none is known; your own: --weights PATH")


def _published(name: str, work: Path) -> dict[str, str | int | None]:
    """Return what is known of a network's published checkpoint, empty if there is none."""
    wanted = checkpoints.published(name)
    if wanted is None:
        return {}
    here = checkpoints.find(wanted, work.resolve())
    flag = "" if wanted.sha256 or checkpoints.digest(wanted) else f" {checkpoints.TRUST}"
    digest = here.sha256 if here else checkpoints.digest(wanted)
    return {
        "url": wanted.url,
        "checkpoint": wanted.checkpoint,
        "size_bytes": wanted.size_bytes,
        "sha256": digest,
        "sha256_from": "tools/models.toml" if wanted.sha256 else "your lock file" if digest else "nobody",
        "here": f"since {here.date}" if here else f"no; python runner.py fetch {name}{flag}",
    }


def fetch_models(names: Sequence[str], work: Path, *, all_models: bool, trust: bool) -> int:
    """Fetch published checkpoints, one after the other; return the first failure's exit code, else 0.

    Raises:
        InvalidRequest: none is named, or there is no such network, or none is published of it.
    """
    if all_models == bool(names):
        message = "fetch takes the names of networks, or --all"
        raise InvalidRequest(message, hint=f"Published: {', '.join(checkpoints.all_published())}")
    wanted = [_wanted(name) for name in names or checkpoints.all_published()]
    rows, errors = [], []
    for entry in wanted:
        try:
            here = checkpoints.fetch(entry, work.resolve(), note=note, trust=trust)
            rows.append((entry.model, f"here since {here.date}", here.sha256))
        except StageError as error:
            rows.append((entry.model, error.one_line(), ""))
            errors.append(error)
    if len(wanted) == 1 and errors:
        raise errors[0]
    show.table(("model", "state", "sha256"), rows)
    return errors[0].exit_code if errors else 0


def _wanted(name: str) -> checkpoints.Published:
    if entry := checkpoints.published(name):
        return entry
    zoo.find(name)
    message = f"no published checkpoint of {name} is known"
    known = checkpoints.all_published()
    raise InvalidRequest(message, hint=toolbox.nearest(name, known, ", ".join(known)))


def build_images(tools: Sequence[str], *, base: str | None, offline_base: bool) -> None:
    """Build the images of these tools (all, if none is named)."""
    images.build(_services(tools), _console(), base=base, offline_base=offline_base)


def pull_images(tools: Sequence[str], *, registry: str) -> None:
    """Take the images of these tools from a registry."""
    images.pull(_services(tools), _console(), registry=registry)


def push_images(tools: Sequence[str], *, registry: str) -> None:
    """Put the images of these tools into a registry."""
    images.push(_services(tools), _console(), registry=registry)


def list_images(*, as_json: bool) -> None:
    """Print every tool's image, there or not."""
    wanted = _services([])
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


def _services(tools: Sequence[str]) -> list[Service]:
    known = services(Path())
    for tool in tools:
        if tool not in known:
            message = f"there is no tool {tool!r}"
            raise InvalidRequest(message, hint=toolbox.nearest(tool, known, ", ".join(known)))
    return [known[tool] for tool in tools or known]


def _console() -> images.Console:
    return images.Console(log=images.log_file(), note=note)
