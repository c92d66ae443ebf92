"""Pictures of detections: boxes, class colours, names and scores that can be read at any image size."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from frcnn.data.images import read_image, to_rgb
from frcnn.types import Prediction

_GREY = (150, 150, 150)
_GOLDEN_RATIO = 0.618034


def class_colours(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A colour for each class, as far apart as they go; the same for the same class list."""
    colours = {}
    for number, name in enumerate(classes):
        hue = (number * _GOLDEN_RATIO) % 1  # turning by the golden ratio spreads any number of hues
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.65)[number % 2], (0.95, 0.8)[number // 2 % 2])
        colours[name] = (round(255 * red), round(255 * green), round(255 * blue))
    return colours


def draw(
    image: str | Path | Image.Image,
    prediction: Prediction,
    *,
    classes: Sequence[str] | None = None,
    min_score: float = 0.5,
    background: np.ndarray | None = None,
    unregressed: np.ndarray | None = None,
) -> Image.Image:
    """A copy of the image with the detections drawn.

    Args:
        image: a file or a Pillow image.
        prediction: boxes in pixels of that image.
        classes: all classes of the model, so that colours are the same in all pictures.
        min_score: detections under it are not drawn.
        background: (N, 4) boxes drawn in thin grey lines, e.g. RoIs that are background.
        unregressed: (N, 4) boxes drawn in thin white lines, e.g. RoIs before regression.
    """
    picture = to_rgb(image).copy() if isinstance(image, Image.Image) else read_image(Path(image), any_size=True)
    colours = class_colours(classes if classes is not None else sorted(set(prediction.names)))
    pen = ImageDraw.Draw(picture)
    side = (picture.width * picture.height) ** 0.5
    line = max(2, round(side / 300))
    font = ImageFont.load_default(size=max(11, round(side / 48)))

    for boxes, colour in ((background, _GREY), (unregressed, (255, 255, 255))):
        for box in () if boxes is None else boxes:
            pen.rectangle(_ordered(box), outline=colour, width=max(1, line // 3))
    shown = [i for i, score in enumerate(prediction.scores) if score >= min_score]
    for i in reversed(shown):  # the surest on top
        pen.rectangle(_ordered(prediction.boxes[i]), outline=colours[prediction.names[i]], width=line)

    taken: list[tuple[float, float, float, float]] = []
    for i in shown:
        text = f"{prediction.names[i]} {prediction.scores[i]:.2f}"
        colour = colours[prediction.names[i]]
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        size = (right - left + 2 * line, bottom - top + 2 * line)
        place = _label_place(prediction.boxes[i], size, picture.size, taken)
        taken.append(place)
        pen.rectangle(place, fill=colour)
        pen.text((place[0] + line - left, place[1] + line - top), text, font=font, fill=_readable_on(colour))
    return picture


def _ordered(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, max(x1, x2), max(y1, y2)


def _label_place(
    box: np.ndarray,
    size: tuple[float, float],
    image: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Where the label covers no other label and lies inside the image: above the box, below it, or in it."""
    width, height = size
    x1, y1, _, y2 = _ordered(box)
    left = min(max(x1, 0), max(image[0] - width, 0))
    tops = [y1 - height, y2, y1, y2 - height]
    places = [(left, top, left + width, top + height) for top in tops if 0 <= top <= image[1] - height]
    free = [p for p in places if not any(_overlap(p, other) for other in taken)]
    fallback = min(max(y1 - height, 0), max(image[1] - height, 0))
    return next(iter(free or places), (left, fallback, left + width, fallback + height))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out (Rec. 709 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 140 else (255, 255, 255)
