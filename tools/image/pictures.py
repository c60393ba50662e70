"""Pictures as files: which are read, how they become 8-bit grey or RGB, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tools.stage import InvalidRequest, progress

# Those that Pillow reads by itself: for EPS, say, it starts Ghostscript on the file.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Cameras of 50 million fit; under 2 GB while it is decoded (WebP; others half of it).
LIMIT_PIXELS = 64_000_000
EXIF_ORIENTATION = 0x0112  # tag of Exif 2.32, section 4.6.4 A
LIMIT_BYTES = 256_000_000  # 64 million pixels of 4 bytes each, not compressed

Image.MAX_IMAGE_PIXELS = None  # Pillow's limit, 179 million; `_open` has its own, before anything is decoded


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, decoded.

    Attributes:
        pixels: 8 bits each; mode `L` or `RGB`.
        size: width and height as in the file, upright.
        notes: what was done to it that its owner may not expect.
    """

    pixels: Image.Image
    size: tuple[int, int]
    notes: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of `pixels`."""
        return self.pixels.height, self.pixels.width


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a zip, in its order, or of the one file that `path` is.

    Raises:
        InvalidRequest: the zip is empty or damaged, or a file in it is too large.
    """
    if not zipfile.is_zipfile(path):
        yield path.name, path.read_bytes()
        return
    hint = "The runner packs a folder or a file by itself: --images FOLDER."
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for index, member in enumerate(members):
                progress(index / len(members), member.filename)
                if member.file_size > LIMIT_BYTES:
                    message = f"{member.filename} has {member.file_size / 1e6:.0f} MB"
                    raise InvalidRequest(message, hint=f"At most {LIMIT_BYTES / 1e6:.0f} MB are read.")
                yield member.filename, archive.read(member)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # encrypted, or compressed oddly
        message = f"{path.name} cannot be unpacked: {error}"
        raise InvalidRequest(message, hint=hint) from error
    if not members:
        message = f"{path.name} holds no files"
        raise InvalidRequest(message, hint=hint)


def decode(name: str, data: bytes, channels: int, image_size: int) -> Picture:
    """Decode a picture: upright, the first frame, grey or RGB, transparent parts on white.

    Colour profiles are ignored, as TensorFlow's decoders do. What is over four times as large as the network
    takes is averaged over squares of pixels first: bilinear interpolation would look at every fourth only.

    Raises:
        InvalidRequest: it is no picture, damaged, too large, or its values have no known range.
    """
    try:
        with _open(name, data) as opened:
            notes = _notes(opened)
            picture = ImageOps.exif_transpose(opened)
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        message = f"{name} is a damaged picture: {error}"
        raise InvalidRequest(message, hint="Save it again, or take it out.") from error
    size = picture.size
    picture = _colours(name, picture, "L" if channels == 1 else "RGB", notes)
    factor = min(size) // (2 * image_size)
    if factor > 1:
        picture = picture.reduce(factor)
        notes.append(f"averaged over {factor} x {factor} pixels")
    if min(size) < image_size:
        notes.append(f"enlarged from {size[0]} x {size[1]} pixels")
    return Picture(picture, size, notes)


def _open(name: str, data: bytes) -> Image.Image:
    """Read a picture's header."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        message = f"{name} is not a picture that can be read"
        raise InvalidRequest(message, hint=f"Formats: {', '.join(FORMATS)}.") from None
    width, height = picture.size
    if width * height > LIMIT_PIXELS:
        message = f"{name} has {width} x {height} pixels; the limit is {LIMIT_PIXELS / 1e6:.0f} million"
        raise InvalidRequest(message, hint="Make it smaller; the network sees a few hundred pixels only.")
    return picture


def _notes(picture: Image.Image) -> list[str]:
    frames = getattr(picture, "n_frames", 1)
    notes = [f"the first of {frames} frames"] if frames > 1 else []
    picture.seek(0)  # counting the frames may have moved it
    if picture.getexif().get(EXIF_ORIENTATION, 1) != 1:
        notes.append("turned as its EXIF orientation says")
    return notes


def _colours(name: str, picture: Image.Image, mode: str, notes: list[str]) -> Image.Image:
    """Return the picture in `mode`, `L` or `RGB`, with 8 bits; add what that took to `notes`."""
    if picture.mode.startswith("I;16"):
        notes.append("16 bits rounded to 8")
        rounded = np.round(np.arange(1 << 16) / 257).astype(np.uint8)
        picture = Image.fromarray(rounded[np.asarray(picture)])
    if picture.mode in ("I", "F"):
        message = f"{name} has 32 bits a pixel, whose range is not known"
        raise InvalidRequest(message, hint="Save it with 8 or 16 bits.")
    if picture.has_transparency_data:
        notes.append("transparent parts laid on white")
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode not in ("1", "L", "P", "RGB", "RGBA"):
        notes.append(f"{picture.mode} turned into {'grey' if mode == 'L' else mode}")
    return picture.convert(mode)
