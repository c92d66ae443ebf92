"""Which images are the same, or nearly: shrunken, saved again, a frame later.

Two images are alike if their 16 x 16 cells of grey differ on average by no more than 3 of 255, and no more than 15 % of
what the cells of the flatter one vary by themselves (standard deviation). Different photos of the same shelf or slide
differ by 7 and more.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from frcnn.data.images import UNREADABLE, open_image, read_bytes, turn_upright

SIDE = 16
MAX_DIFFERENCE = 3.0
MAX_SHARE = 0.15
_LEAST = 0.5  # of an image of one colour: what saving again changes


class Look(NamedTuple):
    """What an image looks like, in 300 bytes."""

    digest: bytes
    """Of the file: equal for exact copies."""
    grey: np.ndarray
    """(SIDE, SIDE) uint8."""


def look_at(path: Path) -> Look | None:
    """None for what cannot be read."""
    try:
        digest = hashlib.blake2b(read_bytes(path), digest_size=16).digest()
        with open_image(path) as image:
            image.draft("L", (8 * SIDE, 8 * SIDE))  # JPEG only: decodes few pixels
            turn_upright(image)
            return Look(digest, np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)))
    except UNREADABLE:
        return None


def alike(looks: Sequence[Look | None]) -> list[tuple[int, int]]:
    """Pairs of places, the lower one first, of images that are alike."""
    places = [place for place, look in enumerate(looks) if look is not None]
    if not places:
        return []
    grey = np.stack([look.grey.ravel() for look in looks if look is not None]).astype(np.int16)
    limit = np.clip(MAX_SHARE * grey.std(axis=1), _LEAST, MAX_DIFFERENCE)
    found: list[tuple[int, int]] = []
    for first, others in _candidates(grey):
        difference = np.abs(grey[others] - grey[first]).mean(axis=1)
        close = others[difference <= np.minimum(limit[others], limit[first])]
        found += [(min(pair), max(pair)) for pair in ((places[first], places[other]) for other in close)]
    return sorted(found)


def groups(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(count,): the same number for what a chain of pairs connects."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for first, second in pairs:
        parent[root(max(first, second))] = root(min(first, second))
    return np.array([root(place) for place in range(count)], np.int64)


def _candidates(grey: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each place, with some others; every pair that may be alike comes once.

    The mean difference of all cells is not less than that of the images' means, nor of any sum in which each cell
    counts +1 or -1. So images that are alike are in the same box or in neighbouring ones of a grid over four such sums.
    """
    half = np.repeat([1, -1], SIDE // 2)
    one = np.ones(SIDE, int)
    signs = np.stack([np.outer(rows, columns).ravel() for rows, columns in product((one, half), repeat=2)])
    boxes = np.floor(grey @ signs.T / grey.shape[1] / MAX_DIFFERENCE).astype(int)
    members: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, box in enumerate(map(tuple, boxes.tolist())):
        members[box].append(place)
    steps = [step for step in product((-1, 0, 1), repeat=4) if step > (0, 0, 0, 0)]
    for box, own in members.items():
        around = [members.get(tuple(np.add(box, step).tolist()), []) for step in steps]
        others = np.array([place for near in around for place in near], np.int64)
        for number, place in enumerate(own):
            near = np.concatenate((np.array(own[number + 1 :], np.int64), others))
            if len(near):
                yield place, near
