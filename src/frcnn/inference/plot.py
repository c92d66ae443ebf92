"""Pictures of detections: boxes, class names and confidences that can be read at any image size."""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from frcnn.colors import class_color, contrast_color
from frcnn.data.images import to_rgb

_GRAY = (150, 150, 150)
_WHITE = (255, 255, 255)
_FONTS = (
    *("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf"),  # Linux: European letters
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc"),  # East Asian ones
    *("DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
    *("segoeui.ttf", "arial.ttf", "msyh.ttc", "simsun.ttc", "YuGothM.ttc", "msgothic.ttc", "malgun.ttf"),  # Windows
    *("Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial.ttf"),  # macOS
)
"""Pillow looks for these files in the system's folders of fonts."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw(
    image: Image.Image,
    boxes: np.ndarray,
    confidence: np.ndarray,
    class_name: Sequence[str] | np.ndarray,
    *,
    tracker_id: np.ndarray | None = None,
    background: np.ndarray | None = None,
    unregressed: np.ndarray | None = None,
) -> Image.Image:
    """A copy of the image, as RGB, with detections drawn.

    Args:
        image: any mode.
        boxes: (N, 4) xyxy, pixels of the image.
        confidence: (N,) 0..1, highest first.
        class_name: (N,) names.
        tracker_id: (N,) numbers of objects, written before the names; -1: none.
        background: (M, 4) boxes drawn in thin gray lines, e.g. RoIs that are background.
        unregressed: (M, 4) boxes drawn in thin white lines, e.g. RoIs before regression.
    """
    picture = to_rgb(image).copy()
    pen = ImageDraw.Draw(picture)
    side = (picture.width * picture.height) ** 0.5
    line = max(2, round(side / 300))

    for thin, color in ((background, _GRAY), (unregressed, _WHITE)):
        for box in () if thin is None else thin:
            pen.rectangle(_ordered(box), outline=color, width=max(1, line // 3))
    colors = [class_color(str(name)) for name in class_name]
    for box, color in zip(boxes[::-1], colors[::-1], strict=True):  # the highest confidence on top
        pen.rectangle(_ordered(box), outline=color, width=line)

    labels: list[tuple[float, float, float, float]] = []
    numbers = [-1] * len(boxes) if tracker_id is None else tracker_id.tolist()
    for box, score, name, number, color in zip(boxes, confidence, class_name, numbers, colors, strict=True):
        text, font = legible(f"{f'#{number} ' if number >= 0 else ''}{name} {score:.2f}", max(11, round(side / 48)))
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        size = (right - left + 2 * line, bottom - top + 2 * line)
        label = _label_box(box, size, picture.size, labels)
        labels.append(label)
        pen.rectangle(label, fill=color)
        pen.text((label[0] + line - left, label[1] + line - top), text, font=font, fill=contrast_color(color))
    return picture


def legible(text: str, size: int) -> tuple[str, Font]:
    """A text as it can be drawn on this machine, and the font for it: of those with most of its letters, Pillow's own
    if possible. A letter that the font lacks is written in ASCII: "o" for "ö", else "\\u4e2d".

    Args:
        size: height, pixels.
    """
    own = _own_font(size)
    if all(_has(own, letter) for letter in text):
        return text, own
    fonts = [own, *(face.font_variant(size=size) for face in _faces())]
    font = max(fonts, key=lambda font: sum(_has(font, letter) for letter in text))
    return "".join(letter if _has(font, letter) else _in_ascii(letter) for letter in text), font


def _in_ascii(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or letter.encode("unicode_escape").decode()


@cache
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size=size)


@cache
def _faces() -> list[ImageFont.FreeTypeFont]:
    """Fonts with more letters than Pillow's own: those of matplotlib and of the system."""

    def found() -> Iterator[ImageFont.FreeTypeFont]:
        matplotlib = find_spec("matplotlib")  # not imported: exported files run without it
        folders = matplotlib.submodule_search_locations if matplotlib is not None else None
        dejavu = [str(Path(folder, "mpl-data/fonts/ttf/DejaVuSans.ttf")) for folder in folders or ()]
        for name in (*dejavu, *_FONTS):
            try:
                yield ImageFont.truetype(name)
            except (OSError, ImportError):  # no such file; or Pillow was built without FreeType
                continue

    return list(found())


@lru_cache(maxsize=10_000)
def _has(font: Font, letter: str) -> bool:
    """A font draws the same box for every letter that it lacks."""
    if not isinstance(font, ImageFont.FreeTypeFont):
        return letter.isascii()
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask("\U0010ffff"))


def _ordered(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, max(x1, x2), max(y1, y2)


def _label_box(
    box: np.ndarray,
    size: tuple[float, float],
    image: tuple[int, int],
    labels: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """The label's box: above, below or in the object's box, inside the image, and without overlap with other labels, if
    possible."""
    width, height = size
    x1, y1, _, y2 = _ordered(box)
    left = min(max(x1, 0), max(image[0] - width, 0))
    tops = [y1 - height, y2, y1, y2 - height]
    candidates = [(left, top, left + width, top + height) for top in tops if 0 <= top <= image[1] - height]
    free = [p for p in candidates if not any(_overlap(p, other) for other in labels)]
    fallback = min(max(y1 - height, 0), max(image[1] - height, 0))
    return next(iter(free or candidates), (left, fallback, left + width, fallback + height))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
