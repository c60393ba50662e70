"""What there is: the networks of the zoo and the images of the tools; build, pull and push these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from host import checkpoints, images, programs, show, zoo
from host.compose import Service
from host.engines.choose import services
from host.jobs import note
from host.rows import KEYS
from host.zoo import Model
from tools.layer_table import Layer, read
from tools.names import nearest
from tools.stage import InvalidRequest, StageError

IMAGE_DEFAULTS = {key: KEYS[key].default for key in ("preprocessing", "labels_offset")}
SHAPE = ("image_size", "image_size", "channels", "sequence_length")  # what of a row is its input's shape


def list_models(file: Path | None, *, as_json: bool) -> int:
    """Print the zoo, a family in one row; return the exit code of the first row that is wrong, else 0."""
    listed = zoo.listing(file)
    wrong = [entry for entry in listed.values() if isinstance(entry, InvalidRequest)]
    if as_json:
        families = [entry for entry in listed.values() if not isinstance(entry, InvalidRequest)]
        show.print_json([dataclasses.asdict(model) for family in families for model in family])
        for error in wrong:
            note(f"error: {error.one_line()}")
    else:
        show.table(("model", "input", "classes", "about"), [_row(*item) for item in listed.items()])
        print("\nNAME_SIZE is a network at another size of its input, e.g. squeezenet_96")
    return wrong[0].exit_code if wrong else 0


def _row(row: str, family: Sequence[Model] | InvalidRequest) -> tuple[str, ...]:
    if isinstance(family, InvalidRequest):
        return row, "-", "-", f"error: {family.one_line()}"
    names, params = [model.name for model in family], family[0].params
    shape = [str(params[key]) for key in SHAPE if key in params]
    name = names[0] if len(names) == 1 else _family_name(names)
    return name, " x ".join(shape), str(params.get("classes", "-")), family[0].about


def _family_name(names: Sequence[str]) -> str:
    """`mobilenet_v1_0.25|0.5|0.75|1.0`."""
    stem = names[0].rpartition("_")[0]
    return f"{stem}_{'|'.join(name.removeprefix(stem + '_') for name in names)}"


def show_model(name: str, file: Path | None, work: Path, *, as_json: bool) -> None:
    """Print what is known of one network, and of its published checkpoint."""
    model = zoo.find(name, file)
    weights = _published(model.name, work)
    if as_json:
        show.print_json({**dataclasses.asdict(model), "published": weights or None})
        return
    print(f"{model.name}: {model.about}")
    params = {**(IMAGE_DEFAULTS if "image_size" in model.params else {}), **model.params}
    show.table(("parameter", "value"), [(key, str(value)) for key, value in params.items()])
    if model.table:
        print()
        show.table(("layer", "operation", "reads", "keys"), _layer_rows(read(model.table["layers"], name)))
    print()
    if weights:
        said = [(key, "not known" if value is None else str(value)) for key, value in weights.items()]
        show.table(("published checkpoint", ""), said)
    else:
        print("published checkpoint: none is known; your own: --weights PATH")


def _layer_rows(layers: Iterable[Layer], indent: str = "") -> Iterator[tuple[str, ...]]:
    """Yield a row for each layer, with a block's layers below it."""
    for layer in layers:
        keys = {key: value for key, value in layer.keys.items() if key != "layers" and value is not None}
        said = ", ".join(f"{key} {value}" for key, value in keys.items())
        yield indent + layer.name, layer.op, ", ".join(layer.inputs), said
        yield from _layer_rows(layer.keys.get("layers", []), indent + "  ")


def _published(name: str, work: Path) -> dict[str, str | int | None]:
    """Return what is known of a network's published checkpoint, empty if there is none."""
    wanted = checkpoints.published(name)
    if wanted is None:
        return {}
    here = checkpoints.find(wanted, work.resolve())
    flag = "" if wanted.sha256 or checkpoints.digest(wanted) else f" {checkpoints.TRUST}"
    digest = here.sha256 if here else checkpoints.digest(wanted)
    source = "tools/models.toml" if wanted.sha256 else "your lock file" if digest else None
    return {
        "url": wanted.url,
        "checkpoint": wanted.checkpoint,
        "size_bytes": wanted.size_bytes,
        "sha256": digest,
        "sha256_from": source,
        "here": f"since {here.date}" if here else f"no; python runner.py fetch {name}{flag}",
    }


def fetch_models(names: Sequence[str], work: Path, *, all_models: bool, trust: bool) -> int:
    """Fetch published checkpoints and programs, in turn; return the first failure's exit code, else 0.

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
    if entry := checkpoints.published(name) or programs.PUBLISHED.get(name):
        return entry
    zoo.find(name)
    message = f"no published checkpoint of {name} is known"
    raise InvalidRequest(message, hint=nearest(name, [*checkpoints.all_published(), *programs.PUBLISHED]))


def build_images(tools: Sequence[str], *, base: str | None, offline_base: bool) -> None:
    """Build the images of these tools; if none is named, all that compose.yaml gives no profile."""
    images.build(chosen(tools), _console(), base=base, offline_base=offline_base)


def pull_images(tools: Sequence[str], *, registry: str) -> None:
    """Take the images of these tools from a registry; if none is named, all that may be in one."""
    images.pull(_public(tools), _console(), registry=registry)


def push_images(tools: Sequence[str], *, registry: str) -> None:
    """Put the images of these tools into a registry; if none is named, all that may be in one."""
    images.push(_public(tools), _console(), registry=registry)


def _public(tools: Sequence[str]) -> list[Service]:
    """Return the services of these names; if none is named, those that no vendor's licence keeps back."""
    services = chosen(tools)
    if tools:
        return services
    for service in services:
        if why := images.restriction(service):
            note(f"left out: {service.name}; {why}")
    return [service for service in services if not images.restriction(service)]


def list_images(*, as_json: bool) -> None:
    """Print every tool's image, there or not."""
    wanted = services(Path()).values()
    here = {image.tool: image for image in images.list_images(wanted)}
    if as_json:
        why = {service.name: images.restriction(service) for service in wanted}
        found = [{**dataclasses.asdict(image), "restriction": why[name]} for name, image in here.items()]
        show.print_json(found)
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
            raise InvalidRequest(message, hint=nearest(tool, known))
    return [known[tool] for tool in tools or known if tools or not known[tool].profiles]


def _console() -> images.Console:
    return images.Console(log=images.log_file(), note=note)
