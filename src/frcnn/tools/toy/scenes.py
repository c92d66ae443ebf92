"""Scenes: objects on shelves, lit. They are drawn at `SUPERSAMPLE` times the final size and scaled down at the end."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from frcnn.tools.toy.pen import Pen, Rng
from frcnn.tools.toy.sprites import CLUTTER, KINDS, Kind

SUPERSAMPLE = 2
MIN_SIDE = 36  # final pixels; a smaller object could not be named any more
MAX_OVERLAP = 0.2  # of the narrower neighbor's width; two neighbors then hide at most 40 %
TALLEST_CM = 31.0


def draw_sprite(kind: Kind, height: int, rng: Rng) -> Image.Image:
    """Draw one object, leaning and tinted at random, cropped to its pixels.

    Args:
        kind: the kind of object.
        height: Its height in supersampled pixels, before it leans.
        rng: Source of chance.

    Returns:
        An RGBA image; the bounding box of its non-transparent pixels is the whole image.
    """
    pen = Pen(round(height * kind.width_cm / kind.height_cm), height)
    kind.draw(pen, rng)
    sprite = pen.image
    if rng.random() < 0.5:
        lean = rng.uniform(-kind.lean_degrees, kind.lean_degrees)
        sprite = sprite.rotate(lean, Image.Resampling.BICUBIC, expand=True)
    red, green, blue, alpha = sprite.split()
    bright = rng.uniform(0.88, 1.08)
    gains = [bright * rng.uniform(0.97, 1.03) for _ in range(3)]
    bands = [
        band.point([min(255, round(value * gain)) for value in range(256)])
        for band, gain in zip((red, green, blue), gains, strict=True)
    ]
    # Rotation leaves a fringe that nobody can see; it must not widen the box.
    alpha = alpha.point(lambda a: a if a >= 24 else 0)
    return Image.merge("RGBA", [*bands, alpha]).crop(alpha.getbbox())


class Placed(NamedTuple):
    """A sprite at its place in a scene, in supersampled pixels."""

    name: str
    sprite: Image.Image
    left: int
    top: int

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the smallest box in final pixels around the sprite, as x1, y1, x2, y2.

        Args:
            width: Width of the final image, at which the box is clipped.
            height: Height of the final image.
        """
        right, bottom = self.left + self.sprite.width, self.top + self.sprite.height
        return (
            max(0, self.left // SUPERSAMPLE),
            max(0, self.top // SUPERSAMPLE),
            min(width, -(-right // SUPERSAMPLE)),
            min(height, -(-bottom // SUPERSAMPLE)),
        )


class Shelf(NamedTuple):
    """A shelf in supersampled pixels: its front edge, the depth it shows, and the room above it."""

    front: int
    depth: int
    room: int


def _hang_shelves(height: int, count: int, rng: Rng) -> list[Shelf]:
    depth = height // 28
    shares = [rng.uniform(0.85, 1.15) for _ in range(count)]
    bottom = height * rng.uniform(0.95, 0.98)
    shelves, above = [], 0.0
    for share in shares:
        front = above + bottom * share / sum(shares)
        shelves.append(Shelf(round(front), depth, round(front - above - 1.6 * depth)))
        above = front
    return shelves


def _draw_fridge(size: tuple[int, int], shelves: Sequence[Shelf], rng: Rng) -> Image.Image:
    """Draw the empty refrigerator: walls, and shelves of glass or wire."""
    width, height = size
    wall, low = rng.choice((("#f1f4f5", "#c3cbd0"), ("#e3ecf2", "#a9bac6"), ("#f3efe6", "#c9c1b2")))
    ramp = Image.linear_gradient("L").resize(size)
    fridge = Image.composite(Image.new("RGB", size, low), Image.new("RGB", size, wall), ramp)
    draw = ImageDraw.Draw(fridge, "RGBA")
    inset = round(width * rng.uniform(0.05, 0.09))
    for edge, corner in ((0, inset), (width, width - inset)):
        draw.polygon([(edge, 0), (corner, 0), (corner, height), (edge, height)], fill=(60, 75, 90, 50))
        draw.line([(corner, 0), (corner, height)], fill=(50, 60, 70, 70), width=4)
    glass = rng.random() < 0.6
    gap = width // 28  # between two wires
    for front, depth, _ in shelves:
        back, lip = front - depth, depth // 4
        surface = [(inset, back), (width - inset, back), (width, front), (0, front)]
        if glass:
            draw.polygon(surface, fill=(190, 222, 220, 130))
            draw.line([(inset, back), (width - inset, back)], fill=(120, 150, 155, 160), width=3)
            draw.rectangle((0, front, width, front + lip), fill=(226, 244, 240))
            draw.rectangle((0, front + lip, width, front + 2 * lip), fill=(130, 165, 165))
        else:
            for x in range(0, width + gap, gap):
                far = inset + x * (width - 2 * inset) // width
                draw.line([(far, back), (x, front)], fill=(150, 156, 162), width=4)
            for y, thick in ((back, 5), (front, 2 * lip)):
                draw.line([(0, y), (width, y)], fill=(120, 126, 132), width=thick)
                draw.line([(0, y - thick // 4), (width, y - thick // 4)], fill=(232, 236, 238), width=thick // 3)
        under = front + 2 * lip
        for reach in range(depth, 0, -3):  # the shade that the shelf throws on the wall below it
            draw.rectangle((0, under, width, under + reach), fill=(30, 40, 50, 4))
    return fridge


def _fill_shelf(names: Sequence[str], shelf: Shelf, width: int, scale: float, rng: Rng) -> list[Placed]:
    """Place objects side by side on one shelf, farthest first.

    Args:
        names: Names of groceries or clutter.
        shelf: Where they stand.
        width: Width of the scene in supersampled pixels.
        scale: Supersampled pixels per centimeter.
        rng: Source of chance.
    """
    if not names:
        return []
    kinds = [KINDS[name] for name in names]
    sizes = [min(shelf.room, kind.height_cm * scale * rng.triangular(0.75, 1.35, 1.0)) for kind in kinds]
    spread = sum(size * kind.width_cm / kind.height_cm for size, kind in zip(sizes, kinds, strict=True))
    squeeze = min(1.0, 0.88 * width / spread)
    sprites = []
    for kind, size in zip(kinds, sizes, strict=True):
        least = SUPERSAMPLE * MIN_SIDE * max(1.0, kind.height_cm / kind.width_cm)
        sprites.append(draw_sprite(kind, round(max(least, size * squeeze)), rng))

    # Neighbors have a gap or a small overlap between them. So have the first and the last object and the edges of the
    # picture. The gaps divide the free room among them.
    widths = [sprite.width for sprite in sprites]
    narrower = [min(pair) for pair in pairwise([widths[0], *widths, widths[-1]])]
    odds = [0.12, *[0.4] * (len(names) - 1), 0.12]
    laps = [
        rng.uniform(MAX_OVERLAP / 3, MAX_OVERLAP) * side if rng.random() < chance else 0.0
        for side, chance in zip(narrower, odds, strict=True)
    ]
    gaps = [0.0 if lap else rng.uniform(0.2, 1) for lap in laps]
    unit = (width - sum(widths) + sum(laps)) / (sum(gaps) or 1)
    placed, x = [], 0.0
    for name, sprite, gap, lap in zip(names, sprites, gaps, laps, strict=False):  # but the right end's
        x += gap * unit - lap
        bottom = shelf.front - round(shelf.depth * rng.uniform(0.1, 0.6))
        placed.append(Placed(name, sprite, round(x), bottom - sprite.height))
        x += sprite.width
    return sorted(placed, key=lambda each: each.top + each.sprite.height)


def _throw_shadows(scene: Image.Image, placed: Iterable[Placed]) -> None:
    """Darken the shelf under each object. Shadows are soft, so they are drawn at an eighth of the size."""
    small = Image.new("L", (scene.width // 8, scene.height // 8))
    draw = ImageDraw.Draw(small)
    for _, sprite, left, top in placed:
        right, bottom = left + sprite.width, top + sprite.height
        draw.ellipse([v / 8 for v in (left - 8, bottom - 24, right + 24, bottom + 10)], fill=170)
    mask = small.filter(ImageFilter.GaussianBlur(2)).resize(scene.size, Image.Resampling.BICUBIC)
    scene.paste("#1c242c", mask=mask)


def _light(image: Image.Image, rng: Rng) -> Image.Image:
    """Light the finished scene as a lamp and a camera would: tone, gradient, vignette, blur, noise."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    warmth = rng.uniform(-0.07, 0.07)
    tone = rng.uniform(0.72, 1.08) * np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    y = np.linspace(-1, 1, image.height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, image.width, dtype=np.float32)
    falloff = 1 - rng.uniform(0, 0.16) * y - rng.uniform(0, 0.14) * (x * x + y * y)
    pixels = np.asarray(image, dtype=np.float32) * tone * falloff[..., None]
    grain = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape, dtype=np.float32)
    pixels += rng.uniform(1, 5) * grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_scene(names: Sequence[str], rng: Rng) -> tuple[Image.Image, list[Placed]]:
    """Draw a refrigerator with these groceries and some clutter.

    Args:
        names: Class names, one for each object; a name may occur twice.
        rng: Source of chance.

    Returns:
        The RGB image, and every object in it from back to front, clutter included.
    """
    sides = round(800 * rng.uniform(0.94, 1.06)), round(600 * rng.uniform(0.94, 1.06))
    width, height = sides if rng.random() < 0.5 else sides[::-1]
    size = width * SUPERSAMPLE, height * SUPERSAMPLE
    shelves = _hang_shelves(size[1], rng.choice((2, 2, 3) if width > height else (2, 3, 3, 4)), rng)
    scale = sum(shelf.room for shelf in shelves) / len(shelves) / TALLEST_CM * rng.uniform(0.95, 1.45)

    clutter = rng.randint(1, 4) if names else rng.choice((9, 7, 4, 0))
    standing = [*names, *rng.choices(list(CLUTTER), k=clutter)]
    rng.shuffle(standing)
    rows: list[list[str]] = [[] for _ in shelves]
    for name in standing:
        emptiest = min(rows, key=lambda row: sum(KINDS[other].width_cm for other in row))
        emptiest.append(name)

    scene = _draw_fridge(size, shelves, rng)
    placed: list[Placed] = []
    for row, shelf in zip(rows, shelves, strict=True):
        placed += _fill_shelf(row, shelf, size[0], scale, rng)
    _throw_shadows(scene, placed)
    for each in placed:
        scene.paste(each.sprite, (each.left, each.top), each.sprite)
    return _light(scene.resize((width, height), Image.Resampling.LANCZOS), rng), placed
