"""The toy data set in motion: groceries that pass in front of one another, with the true box and identity of each."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from frcnn.tools.toy.pen import Rng
from frcnn.tools.toy.scenes import MIN_SIDE, SUPERSAMPLE, TALLEST_CM, draw_scene, draw_sprite
from frcnn.tools.toy.sprites import GROCERIES, KINDS

LEAST_VISIBLE = 0.2
"""Part of an object that must be seen; with less, it has no true box in this frame."""
ROWS = 2
CLASSES = 3
"""Of a video: objects of one class pass each other too."""


class Truth(NamedTuple):
    """An object in a frame."""

    identity: int
    """From 1."""
    name: str
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 of the whole object, also of what is hidden, within the image."""


class _Mover(NamedTuple):
    name: str
    sprite: Image.Image
    start: float
    speed: float
    """Pixels per frame, to the right."""
    bottom: float

    def left(self, frame: int, width: int) -> float:
        """It turns around where a third of it is outside of the image."""
        low, high = -self.sprite.width / 3, width - 2 * self.sprite.width / 3
        way = (self.start + self.speed * frame - low) % (2 * (high - low))
        return low + min(way, 2 * (high - low) - way)


def moving_toy(seed: int, *, frames: int, objects: int = 8) -> Iterator[tuple[Image.Image, list[Truth]]]:
    """The frames of one video."""
    rng = Rng(f"moving/{seed}")
    background, _ = draw_scene([], rng)
    movers = []
    kinds = rng.sample(sorted(GROCERIES), CLASSES)
    for number, name in enumerate(rng.choices(kinds, k=objects)):
        kind = KINDS[name]
        height = max(1.5 * MIN_SIDE, background.height / ROWS * rng.uniform(0.8, 1) * kind.height_cm / TALLEST_CM)
        sprite = draw_sprite(kind, round(SUPERSAMPLE * height), rng)
        small = sprite.resize((sprite.width // SUPERSAMPLE, sprite.height // SUPERSAMPLE), Image.Resampling.LANCZOS)
        bottom = background.height * ((number % ROWS + 0.9) / ROWS + rng.uniform(0, 0.03))
        start, speed = rng.uniform(0, background.width), rng.choice((-1, 1)) * rng.uniform(2, 8)
        movers.append(_Mover(name, small, start, speed, bottom))
    movers.sort(key=lambda each: each.bottom)  # from back to front
    for frame in range(frames):
        yield _drawn(background, movers, frame)


def _drawn(background: Image.Image, movers: list[_Mover], frame: int) -> tuple[Image.Image, list[Truth]]:
    image = background.copy()
    nearest = np.zeros((image.height, image.width), int)  # which object is seen in each pixel, from 1
    areas = []
    for identity, mover in enumerate(movers, 1):
        place = (round(mover.left(frame, image.width)), round(mover.bottom) - mover.sprite.height)
        image.paste(mover.sprite, place, mover.sprite)
        mask = Image.new("L", image.size)
        mask.paste(mover.sprite.getchannel("A"), place)
        nearest[np.asarray(mask) > 0] = identity
        areas.append(np.count_nonzero(np.asarray(mover.sprite.getchannel("A"))))
    truths = []
    for identity, (mover, area) in enumerate(zip(movers, areas, strict=True), 1):
        if np.count_nonzero(nearest == identity) < LEAST_VISIBLE * area:
            continue
        left, top = round(mover.left(frame, image.width)), round(mover.bottom) - mover.sprite.height
        right, bottom = left + mover.sprite.width, top + mover.sprite.height
        box = (max(0, left), max(0, top), min(image.width, right), min(image.height, bottom))
        truths.append(Truth(identity, mover.name, box))
    return image, truths
