"""The user's own pictures, packed into one file that a stage can read."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.zoo import Model
from tools.stage import InvalidRequest

LIMIT = 200  # pictures; the gate runs each on every backend, and a calibration wants a hundred or so
LIMIT_BYTES = 256_000_000  # of one; image.preprocess reads no more either


def require_image_network(model: Model) -> None:
    """Raise InvalidRequest if the network takes something else than pictures."""
    if "image_size" not in model.params:
        message = f"{model.name} takes no pictures: its row in the model zoo has no image_size"
        raise InvalidRequest(message, hint="Leave the pictures out, or use an image network.")


@contextmanager
def packed(source: Path) -> Iterator[Path]:
    """Yield a zip of the files in a folder and those below it, or of one file; it is gone afterwards.

    The same pictures give the same bytes: sorted by name, stored, without times. Which of the files are
    pictures, the tool finds out.

    Raises:
        InvalidRequest: there is nothing to pack, or too much, or it cannot be read.
    """
    files = _files(source)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "pictures.zip")
        try:
            with zipfile.ZipFile(archive, "w") as target:
                for name, path in files.items():
                    target.writestr(zipfile.ZipInfo(name), path.read_bytes())
        except OSError as error:
            message = f"{error.filename} cannot be read: {error.strerror}"
            raise InvalidRequest(message, hint="Check the path.") from None
        yield archive


def _files(source: Path) -> dict[str, Path]:
    """Return the files by their names in the zip, in order."""
    hint = "Give a picture, or a folder of pictures."
    if source.is_file():
        found = {source.name: source}
    elif source.is_dir():
        found = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
    else:
        message = f"there are no pictures at {source}"
        raise InvalidRequest(message, hint=hint)
    if not found:
        message = f"the folder {source} holds no files"
        raise InvalidRequest(message, hint=hint)
    if len(found) > LIMIT:
        message = f"{source} holds {len(found)} files, {LIMIT} pictures are the most that are taken"
        raise InvalidRequest(message, hint="Give a folder with a sample of them.")
    if large := [name for name, path in found.items() if path.stat().st_size > LIMIT_BYTES]:
        message = f"{large[0]} is larger than {LIMIT_BYTES / 1e6:.0f} MB, too large for a picture"
        raise InvalidRequest(message, hint="Take it out of the folder.")
    return {printable(name): found[name] for name in sorted(found)}


def printable(name: str) -> str:
    """Return a file's name as text that can be written, also where its bytes are none."""
    return name.encode(errors="replace").decode()
