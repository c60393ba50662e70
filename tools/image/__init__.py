"""Pictures in, as the networks want them; and the names of what the networks answered."""

from __future__ import annotations

from typing import Any, Optional

from tools.stage import Input, InvalidRequest, Output, Result, Tool, WrongOutput, write_json

tool = Tool("image", packages=("pillow", "numpy"))


@tool.command()
def sample(pictures: Output = "generated-sample.png") -> Result:
    """Draw the picture that is taken where the user gives none: a traffic light."""
    from tools.image.scene import DESCRIPTION, draw

    draw(pictures)
    return Result(metadata={"generated": True, "description": DESCRIPTION})


@tool.command()
def preprocess(
    pictures: Input,
    image_size: int = 0,
    channels: int = 0,
    preprocessing: str = "inception",
    images: Output = "{model}.images.npz",
) -> Result:
    """Turn a picture, or a zip of pictures, into a network's input: `inputs/input`, [n, H, W, C] float32.

    What is no picture, too large or damaged is left out with a warning, as long as one picture is left.

    Raises:
        InvalidRequest: no picture is left, the network takes none, or a parameter is unknown.
    """
    import numpy as np

    from tools import arrays
    from tools.image import recipes
    from tools.image.pictures import decode, read

    if not image_size:
        message = "the network takes no pictures: its row in the model zoo has no image_size"
        raise InvalidRequest(message, hint="Leave the pictures out, or use an image network.")
    prepare = recipes.find(preprocessing, image_size, channels)
    rows, taken, skipped = [], [], {}
    for name, data in read(pictures):
        try:
            picture = decode(name, data, channels, image_size)
        except InvalidRequest as error:
            skipped[name] = error
            continue
        rows.append(prepare(np.asarray(picture.pixels, np.float32).reshape(*picture.shape, channels)))
        taken.append({"name": name, "size": picture.size, "notes": picture.notes})
    if not rows:
        raise next(iter(skipped.values()))
    arrays.write(images, inputs={"input": np.stack(rows)})
    return Result(
        metrics={"n_images": len(rows)},
        metadata={
            "preprocessing": preprocessing,
            "pictures": taken,
            "skipped": {name: str(error) for name, error in skipped.items()},
            "warnings": [f"left out: {error.one_line()}" for error in skipped.values()],
        },
    )


@tool.command()
def label(
    expected: Optional[Input] = None,
    answers: Optional[Input] = None,
    labels: Optional[Input] = None,
    labels_offset: int = 0,
    top: int = 5,
    precision: str = "fp32",
    table: Output = "{model}.labels.json",
) -> Result:
    """Name the classes that a network rates highest, for each picture.

    `answers` are a backend's, `expected` the reference graph's; both are files with the array `outputs`,
    [n, classes]. With both, those of `answers` are named, and it is said whether they are right within the
    precision's tolerance. `labels` has one name a line, ImageNet's are known.

    Raises:
        InvalidRequest: there is nothing to name, or as many names as classes are needed and were not given.
    """
    from tools.arrays import read_outputs
    from tools.image import names

    given = [path for path in (answers, expected) if path]
    if not given:
        message = "there are no answers to name"
        raise InvalidRequest(message, hint="python runner.py label --model NAME makes them.")
    if top < 1:
        message = f"top is {top}"
        raise InvalidRequest(message, hint="Give the number of classes to name, 5 is usual.")
    outputs = [read_outputs(path) for path in given]
    classes, warnings = names.for_classes(outputs[0].shape[1], labels, labels_offset)
    write_json(table, names.highest(outputs[0], classes, top))
    metrics, verdict = _compare(*outputs, precision) if len(outputs) > 1 else ({}, {})
    return Result(metrics=metrics, metadata={**verdict, "warnings": warnings})


def _compare(answers: Any, expected: Any, precision: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Return how far the answers are off, and whether the gate takes them."""
    from tools import gate

    try:
        return gate.check(answers, expected, precision), {"agrees": True}
    except WrongOutput as error:
        return error.metrics, {"agrees": False, "reason": str(error)}
