"""A pen that draws soft shapes on one transparent sprite."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageFont

Rng = random.Random
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what Pillow returns whenever a size is given
    return font


def _closed_spline(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """Return a closed Catmull-Rom curve through `points`, with `steps` vertices between two of them."""
    b = np.asarray(points, dtype=np.float64)
    a, c, d = np.roll(b, 1, axis=0), np.roll(b, -1, axis=0), np.roll(b, -2, axis=0)
    t = np.linspace(0, 1, steps, endpoint=False).reshape(-1, 1, 1)
    curve = b + t * ((c - a) / 2 + t * (a - 2.5 * b + 2 * c - d / 2 + t * (1.5 * (b - c) + (d - a) / 2)))
    return [(float(x), float(y)) for x, y in curve.transpose(1, 0, 2).reshape(-1, 2)]


class Pen:
    """Draws on one transparent sprite whose corners are (0, 0) and (1, 1), y pointing down.

    Colors are strings as Pillow reads them, ``#rrggbb`` or ``#rrggbbaa``. Every shape takes `soft`,
    the blur of its edge as a fraction of the sprite's width, and `inside`, which keeps it within
    what is drawn already (labels, highlights).

    Args:
        width: Width of the sprite in pixels.
        height: Height of the sprite in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGBA", (width, height))

    def _pixels(self, points: Iterable[Point]) -> list[Point]:
        return [(x * self.width, y * self.height) for x, y in points]

    def _paint(self, mask: Image.Image, color: str, soft: float = 0, inside: bool = False) -> None:
        red, green, blue, *rest = ImageColor.getrgb(color)
        opacity = rest[0] if rest else 255
        if soft:
            mask = mask.filter(ImageFilter.GaussianBlur(soft * self.width))
        if inside:
            mask = ImageChops.multiply(mask, self.image.getchannel("A").point(lambda a: 255 if a else 0))
        layer = Image.new("RGBA", self.image.size, (red, green, blue))
        layer.putalpha(mask.point(lambda m: m * opacity // 255))
        self.image.alpha_composite(layer)

    def _blank(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", self.image.size)
        return mask, ImageDraw.Draw(mask)

    def polygon(self, points: Iterable[Point], color: str, **how: Any) -> None:
        """Fill the polygon with these corners."""
        mask, draw = self._blank()
        draw.polygon(self._pixels(points), fill=255)
        self._paint(mask, color, **how)

    def face(self, points: Sequence[Point], color: str, light: str) -> None:
        """Fill one face of a box, then lay the translucent color `light` over it."""
        self.polygon(points, color)
        self.polygon(points, light)

    def spline(self, points: Sequence[Point], color: str, **how: Any) -> None:
        """Fill a smooth closed curve through the points."""
        self.polygon(_closed_spline(points), color, **how)

    def fruit(self, half: Sequence[Point], color: str, **how: Any) -> None:
        """Fill a smooth body, symmetric about x = 0.5, from its right half's (half width, y), top first."""
        right = [(0.5 + dx, y) for dx, y in half]
        self.spline(right + [(1 - x, y) for x, y in reversed(right)], color, **how)

    def turned(self, rings: Sequence[Point], color: str, **how: Any) -> None:
        """Fill a lathe-turned body, symmetric about x = 0.5, from its (y, half width), top first."""
        right: list[Point] = []
        for (y0, r0), (y1, r1) in pairwise(rings):
            for t in np.linspace(0, 1, 12):
                right.append((0.5 + r0 + (r1 - r0) * float(t * t * (3 - 2 * t)), y0 + (y1 - y0) * float(t)))
        self.polygon(right + [(1 - x, y) for x, y in reversed(right)], color, **how)

    def oval(self, box: Box, color: str, **how: Any) -> None:
        """Fill the ellipse in `box`."""
        self.ovals([box], color, **how)

    def ovals(self, boxes: Iterable[Box], color: str, **how: Any) -> None:
        """Fill several ellipses at once."""
        mask, draw = self._blank()
        for x0, y0, x1, y1 in boxes:
            draw.ellipse(self._pixels([(x0, y0), (x1, y1)]), fill=255)
        self._paint(mask, color, **how)

    def bar(self, box: Box, color: str, radius: float = 0, **how: Any) -> None:
        """Fill a rectangle whose corners are rounded by `radius`, a fraction of the sprite's width."""
        mask, draw = self._blank()
        x0, y0, x1, y1 = box
        draw.rounded_rectangle(self._pixels([(x0, y0), (x1, y1)]), radius * self.width, fill=255)
        self._paint(mask, color, **how)

    def lines(self, paths: Iterable[Sequence[Point]], color: str, thick: float = 0.02, **how: Any) -> None:
        """Draw open lines; `thick` is a fraction of the sprite's width."""
        mask, draw = self._blank()
        for path in paths:
            draw.line(self._pixels(path), fill=255, width=max(2, round(thick * self.width)), joint="curve")
        self._paint(mask, color, **how)

    def specks(self, rng: Rng, count: int, color: str, size: float = 0.03, **how: Any) -> None:
        """Scatter dots over what is drawn already."""
        squash = self.width / self.height
        spots = [(rng.random(), rng.random(), size * rng.uniform(0.4, 1)) for _ in range(count)]
        self.ovals([(x, y, x + s, y + s * squash) for x, y, s in spots], color, inside=True, **how)

    def text(self, words: str, box: Box, color: str, turn: int = 0) -> None:
        """Write `words` as large as fits into `box`, turned counterclockwise by `turn` degrees."""
        (x0, y0), (x1, y1) = self._pixels([(box[0], box[1]), (box[2], box[3])])
        room = (x1 - x0, y1 - y0) if turn % 180 == 0 else (y1 - y0, x1 - x0)
        left, top, right, bottom = _font(100).getbbox(words, stroke_width=3)
        size = max(4, int(100 * min(room[0] / (right - left), room[1] / (bottom - top))))
        line = Image.new("L", (math.ceil(room[0]), math.ceil(room[1])))
        ImageDraw.Draw(line).text(
            (room[0] / 2, room[1] / 2), words, 255, _font(size), anchor="mm", stroke_width=size * 3 // 100
        )
        mask, _ = self._blank()
        mask.paste(line.rotate(turn, expand=True), (round(x0), round(y0)))
        self._paint(mask, color)

    def _shade(self, gain: npt.NDArray[np.float64]) -> None:
        pixels = np.asarray(self.image).astype(np.float64)
        pixels[..., :3] *= gain[..., None]
        self.image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def shade_round(self, depth: float = 0.5) -> None:
        """Shade as a body turned about a vertical axis: each row by its own left and right edge."""
        solid = np.asarray(self.image)[..., 3] > 0
        first, last = solid.argmax(axis=1), self.width - 1 - solid[:, ::-1].argmax(axis=1)
        across = (np.arange(self.width) - first[:, None]) / np.maximum(last - first, 1)[:, None]
        self._shade(1.08 - depth * np.abs((across - 0.36) / 0.64).clip(0, 1) ** 2.2)

    def shade_ball(self, depth: float = 0.55) -> None:
        """Shade as a ball lit from the upper left."""
        y, x = np.mgrid[0 : self.height, 0 : self.width]
        away = np.hypot(x / self.width - 0.36, y / self.height - 0.3)
        self._shade(1.12 - depth * (away / 0.75) ** 1.8)

    @contextmanager
    def turned_part(self) -> Iterator["Pen"]:
        """Lend a second pen for a part with edges of its own, such as a cap; shade it and lay it on top."""
        part = Pen(self.width, self.height)
        yield part
        part.shade_round()
        self.image.alpha_composite(part.image)

    def shine(self, box: Box, opacity: int = 150) -> None:
        """Add a soft reflection of the lamp."""
        self.oval(box, f"#ffffff{opacity:02x}", soft=0.03, inside=True)
