"""Pictures of every kind, in the environment of the image tool; and the names of classes."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import ROOT
from tests.conftest import RunStage
from tools.stage import InvalidRequest, Result

pytestmark = pytest.mark.tool

SLIM = {"image_size": 64, "channels": 3}
# Drawn by Pillow, which the tests do not have: 120 x 80, the left half dark, the right half light.
DRAW = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image

folder = Path(sys.argv[1])
grey = np.full((80, 120), 40, np.uint8)
grey[:, 60:] = 200
picture = Image.fromarray(grey)
rgb = picture.convert("RGB")
rgb.save(folder / "rgb.png")
picture.save(folder / "gray.png")
picture.convert("1").save(folder / "one-bit.png")
picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
Image.fromarray(grey.astype(np.int32) * 999).save(folder / "int32.tif")
Image.fromarray(grey.astype(np.float32)).save(folder / "float.tif")
palette = picture.convert("P")
palette.save(folder / "palette.png", transparency=40)
clear = rgb.convert("RGBA")
clear.putalpha(0)
clear.save(folder / "clear.png")
rgb.resize((1, 1)).save(folder / "dot.png")
inverse = Image.fromarray(255 - grey)
picture.save(folder / "moving.gif", save_all=True, append_images=[inverse, picture])
exif = Image.Exif()
exif[0x0112] = 6  # the camera was held so that the left of the file is the top
rgb.save(folder / "turned.jpg", exif=exif, quality=95)
rgb.resize((1200, 800)).save(folder / "photo.png")
data = (folder / "turned.jpg").read_bytes()
(folder / "cut.jpg").write_bytes(data[: len(data) // 2])
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, tool_python: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    subprocess.run([tool_python("image"), "-c", DRAW, folder], check=True)
    (folder / "text.txt").write_text("no picture")
    (folder / "empty.png").touch()
    (folder / "huge.png").write_bytes(png(20_000, 20_000))
    return folder


def png(width: int, height: int) -> bytes:
    """A black picture of 1 bit a pixel, which is small as a file whatever its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes((width // 8 + 1) * height), 1))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


Preprocess = Callable[..., tuple[Any, Result]]


@pytest.fixture
def preprocess(run_stage: RunStage) -> Preprocess:
    def run(pictures: Path, **params: Any) -> tuple[Any, Result]:
        folder, result = run_stage("image", "preprocess", inputs={"pictures": pictures}, params=SLIM | params)
        with np.load(folder / result.outputs["images"]) as arrays:
            return arrays["inputs/input"], result

    return run


@pytest.mark.parametrize(
    ("name", "left", "right", "note"),
    [
        ("rgb.png", 40, 200, None),
        ("gray.png", 40, 200, None),
        ("cmyk.jpg", 40, 200, "CMYK turned into RGB"),
        ("deep.png", 40, 200, "16 bits rounded to 8"),
        ("palette.png", 255, 200, "transparent parts laid on white"),
        ("clear.png", 255, 255, "transparent parts laid on white"),
        ("moving.gif", 40, 200, "the first of 3 frames"),
        ("photo.png", 40, 200, "averaged over 6 x 6 pixels"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_picture(
    drawn: Path, preprocess: Preprocess, name: str, left: int, right: int, note: str | None, channels: int
) -> None:
    images, result = preprocess(drawn / name, channels=channels)
    assert images.shape == (1, 64, 64, channels)
    assert images.dtype == np.float32
    pixels = (images[0] + 1) * 127.5
    assert pixels[:, :28] == pytest.approx(left, abs=3)
    assert pixels[:, 36:] == pytest.approx(right, abs=3)
    [picture] = result.metadata["pictures"]
    assert picture["name"] == name
    assert picture["notes"] == ([note.replace("RGB", "grey") if channels == 1 else note] if note else [])


def test_upright(drawn: Path, preprocess: Preprocess) -> None:
    images, result = preprocess(drawn / "turned.jpg")
    pixels = (images[0] + 1) * 127.5
    assert pixels[:28] == pytest.approx(40, abs=4)
    assert pixels[36:] == pytest.approx(200, abs=4)
    [picture] = result.metadata["pictures"]
    assert picture["size"] == [80, 120]
    assert picture["notes"] == ["turned as its EXIF orientation says"]


def test_one_pixel_is_enlarged_and_said_so(drawn: Path, preprocess: Preprocess) -> None:
    for preprocessing in ("inception", "vgg", "lenet", "cifarnet"):
        images, result = preprocess(drawn / "dot.png", preprocessing=preprocessing)
        assert np.isfinite(images).all()
        assert np.ptp(images, axis=(1, 2)).max() == 0
        assert result.metadata["pictures"][0]["notes"] == ["enlarged from 1 x 1 pixels"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text.txt", "text.txt is not a picture that can be read. Formats: AVIF, BMP"),
        ("empty.png", "empty.png is not a picture"),
        ("cut.jpg", "cut.jpg is a damaged picture"),
        ("int32.tif", "int32.tif has 32 bits a pixel, whose range is not known. Save it with 8 or 16 bits."),
        ("float.tif", "float.tif has 32 bits a pixel"),
        ("huge.png", "huge.png has 20000 x 20000 pixels; the limit is 64 million. Make it smaller"),
    ],
)
def test_what_is_refused(drawn: Path, preprocess: Preprocess, name: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        preprocess(drawn / name)
    assert said in caught.value.one_line()


@pytest.mark.parametrize(("name", "exit_code"), [("huge.png", 2), ("large.png", 0)])
def test_a_decompression_bomb_takes_no_memory(
    drawn: Path, tmp_path: Path, tool_python: Callable[[str], Path], name: str, exit_code: int
) -> None:
    """Also the largest that is taken stays below a gigabyte."""
    (drawn / "large.png").write_bytes(png(8000, 8000))
    argv = [tool_python("image"), "-m", "tools.image", "preprocess", "--pictures", drawn / name]
    argv += ["--image-size", "64", "--channels", "3", "--images", tmp_path / "images.npz"]
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=ROOT,
        env={"OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr


def test_a_folder_with_other_files_in_it(drawn: Path, preprocess: Preprocess, tmp_path: Path) -> None:
    archive = pack(tmp_path, *(drawn / name for name in ("gray.png", "huge.png", "rgb.png", "text.txt")))
    images, result = preprocess(archive)
    assert images.shape == (2, 64, 64, 3)
    assert [picture["name"] for picture in result.metadata["pictures"]] == ["gray.png", "rgb.png"]
    assert set(result.metadata["skipped"]) == {"huge.png", "text.txt"}
    assert [warning.split(" ")[:3] for warning in result.metadata["warnings"]] == [
        ["left", "out:", "huge.png"],
        ["left", "out:", "text.txt"],
    ]


def pack(folder: Path, *paths: Path) -> Path:
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    return folder / "pictures.zip"


def test_a_folder_without_pictures(drawn: Path, preprocess: Preprocess, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"text\.txt is not a picture"):
        preprocess(pack(tmp_path, drawn / "text.txt"))
    with pytest.raises(InvalidRequest, match="holds no files"):
        preprocess(pack(tmp_path))
    data = pack(tmp_path, drawn / "rgb.png").read_bytes()
    (tmp_path / "pictures.zip").write_bytes(data.replace(b"IDAT", b"IDOT"))
    with pytest.raises(InvalidRequest, match="cannot be unpacked: Bad CRC-32"):
        preprocess(tmp_path / "pictures.zip")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"image_size": 0}, "the network takes no pictures: its row in the model zoo has no image_size"),
        ({"preprocessing": "vggg"}, "there is no preprocessing 'vggg'"),
        ({"preprocessing": "vgg", "channels": 1}, "'vgg' is not for 1 channels"),
        ({"channels": 4}, "not for 4 channels"),
    ],
)
def test_parameters_that_make_no_sense(
    drawn: Path, preprocess: Preprocess, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        preprocess(drawn / "rgb.png", **params)


AS_IN_SLIM = """
import sys
import numpy as np
import tensorflow as tf
from tools.image import recipes

slim = tf.compat.v1.image
bilinear = lambda image, *size: slim.resize_bilinear(image[None], size, align_corners=False)[0].numpy()
worst = 0.0
for height, width in ((375, 500), (500, 333), (224, 224), (97, 640), (30, 20)):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.float32)
    central = slim.central_crop(tf.constant(pixels / 255), 0.875)
    wanted = (bilinear(central, 299, 299) - 0.5) * 2
    worst = max(worst, np.abs(recipes.inception(pixels, 299) - wanted).max())

    scale = 256 / min(height, width)
    large = bilinear(pixels, round(height * scale), round(width * scale))
    top, left = (large.shape[0] - 224) // 2, (large.shape[1] - 224) // 2
    wanted = large[top : top + 224, left : left + 224] - [123.68, 116.779, 103.939]
    worst = max(worst, np.abs(recipes.vgg(pixels, 224) - wanted).max() / 128)

digit = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.float32)
worst = max(worst, np.abs(recipes.lenet(digit, 28) - (digit - 128.0) / 128.0).max())
flat = np.full((32, 32, 3), 7, np.float32)
for photo in (np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.float32), flat):
    wanted = slim.per_image_standardization(photo).numpy()
    worst = max(worst, np.abs(recipes.cifarnet(photo, 32) - wanted).max())
print(worst)
"""


def test_preprocessing_is_what_tensorflow_computes(tool_python: Callable[[str], Path]) -> None:
    """On TensorFlow's own operations, in the order in which TF-Slim's evaluation calls them."""
    done = subprocess.run(
        [tool_python("tf1"), "-c", AS_IN_SLIM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4  # float32 positions on 640 pixels, times a step of 255


def test_the_sample_says_that_it_is_generated_and_is_always_the_same(run_stage: RunStage) -> None:
    made = [run_stage("image", "sample")[0] / "generated-sample.png" for _ in range(2)]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert b"Source\0generated" in made[0].read_bytes()
    assert b"not a photograph" in made[0].read_bytes()


@pytest.fixture
def label(run_stage: RunStage, tmp_path: Path) -> Callable[..., tuple[list[list[dict[str, Any]]], Result]]:
    def run(
        outputs: Any, expected: Any = None, labels: str | None = None, **params: Any
    ) -> tuple[list[list[dict[str, Any]]], Result]:
        inputs = {}
        for name, array in {"answers": outputs, "expected": expected}.items():
            if array is not None:
                inputs[name] = tmp_path / f"{name}.npz"
                np.savez(inputs[name], outputs=np.asarray(array, np.float32))
        if labels is not None:
            inputs["labels"] = tmp_path / "labels.txt"
            inputs["labels"].write_text(labels)
        folder, result = run_stage("image", "label", inputs=inputs, params=params)
        return json.loads((folder / result.outputs["table"]).read_text()), result

    return run


Label = Callable[..., Any]


@pytest.mark.parametrize(("count", "labels_offset"), [(1001, 0), (1000, 1)])
def test_imagenet_with_and_without_background(label: Label, count: int, labels_offset: int) -> None:
    outputs = np.zeros((2, count))
    light = 921 - labels_offset  # of the 1000 classes, "traffic light" is number 920
    outputs[0, [light, 1 - labels_offset, count - 1]] = 0.9, 0.08, 0.02
    outputs[1, 0] = 1
    (first, second), _ = label(outputs, labels_offset=labels_offset, top=3)
    assert [row["name"] for row in first] == ["traffic light", "tench", "toilet tissue"]
    assert [row["class"] for row in first] == [light, 1 - labels_offset, count - 1]
    assert first[0]["score"] == pytest.approx(0.9)
    assert second[0]["name"] == ("tench" if labels_offset else "background")


def test_few_classes_have_numbers_until_they_are_named(label: Label) -> None:
    outputs = np.eye(10)[[3]]
    [[first, *_]], result = label(outputs)
    assert first["name"] == "class 3"
    assert "10 classes are not ImageNet's 1001" in result.metadata["warnings"][0]
    [[first, *others]], result = label(outputs, labels="".join(f"digit {n}\n" for n in range(10)), top=99)
    assert first["name"] == "digit 3"
    assert len(others) == 9
    assert result.metadata["warnings"] == []


def test_label_file_of_the_wrong_length(label: Label) -> None:
    with pytest.raises(InvalidRequest) as caught:
        label(np.eye(1001)[:1], labels="name\n" * 1000)
    assert str(caught.value) == "labels.txt has 1000 names, the network has 1001 classes"
    assert "labels_offset is 0 for this network, so the first line names the background" in caught.value.hint
    with pytest.raises(InvalidRequest) as caught:
        label(np.eye(1000)[:1], labels="name\n" * 1001, labels_offset=1)
    assert str(caught.value) == "labels.txt has 1001 names, the network has 1000 classes"
    assert "labels_offset is 1 for this network, so there is no background" in caught.value.hint


def test_whether_a_backend_agrees(label: Label) -> None:
    expected = np.random.default_rng(0).dirichlet(np.ones(1001) / 9, 2)
    table, result = label(expected + 1e-7, expected)
    assert result.metadata["agrees"] is True
    assert table[0][0]["class"] == expected[0].argmax()
    _, result = label(expected[::-1], expected)
    assert result.metadata["agrees"] is False
    assert "differs from the reference" in result.metadata["reason"]
    assert result.metrics["correctness_cosine"] < 0.9


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (np.full((1, 10), np.nan), "not finite"),
        (np.zeros((2, 3, 4)), r"but \[2, 3, 4\]"),
        (None, "no answers"),
    ],
)
def test_answers_that_are_none(label: Label, outputs: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        label(outputs)
