"""The generated test picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

SIZE = (400, 300)  # pixels, as small as the pictures of ImageNet
SCALE = 4  # drawn larger by this and averaged: Pillow's circles have steps
DESCRIPTION = "A traffic light, drawn by MobileAccelerator's image.sample; not a photograph."

SKY = ((70, 130, 200), (200, 222, 240))  # top and horizon, RGB
LAMPS = ((214, 40, 38), (96, 76, 22), (28, 74, 44))  # red is on


def draw(path: Path) -> None:
    """Write the picture as PNG; its text says that it is generated."""
    text = PngImagePlugin.PngInfo()
    for key, value in (("Title", "Traffic light"), ("Description", DESCRIPTION), ("Source", "generated")):
        text.add_text(key, value)
    _scene().reduce(SCALE).save(path, format="PNG", pnginfo=text, optimize=True)


def _scene() -> Image.Image:
    width, height = (SCALE * length for length in SIZE)
    fade = np.linspace(0, 1, height)[:, None, None]
    sky = np.round(np.array(SKY[0]) * (1 - fade) + np.array(SKY[1]) * fade).astype(np.uint8)
    picture = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).copy())
    pen = ImageDraw.Draw(picture)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
        return tuple(SCALE * length for length in (left, top, right, bottom))

    pen.polygon([(0, height), (0, SCALE * 235), (width, SCALE * 215), (width, height)], fill=(86, 120, 62))
    for left, top, right in ((0, 150, 70), (78, 118, 128), (300, 132, 362), (366, 165, 400)):
        pen.rectangle(box(left, top, right, 232), fill=(150, 146, 150))
        for x in range(left + 8, right - 8, 14):
            for y in range(top + 8, 215, 18):
                pen.rectangle(box(x, y, x + 6, y + 9), fill=(98, 104, 120))
    pen.rectangle(box(192, 190, 206, 300), fill=(70, 72, 76))
    pen.rounded_rectangle(box(160, 20, 238, 212), SCALE * 12, fill=(30, 32, 34))
    pen.rounded_rectangle(box(166, 26, 232, 206), SCALE * 9, fill=(46, 48, 50))
    for row, colour in enumerate(LAMPS):
        top = 33 + 58 * row
        pen.ellipse(box(172, top, 226, top + 54), fill=(18, 18, 18))
        pen.ellipse(box(176, top + 4, 222, top + 50), fill=colour)
        pen.pieslice(box(168, top - 4, 230, top + 58), 200, 340, fill=(24, 25, 27))  # the visor
        pen.ellipse(box(176, top + 10, 222, top + 50), fill=colour)
    pen.ellipse(box(188, 48, 206, 64), fill=(255, 150, 120))  # the glow of the lamp that is on
    return picture
