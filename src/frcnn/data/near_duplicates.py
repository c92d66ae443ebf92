"""Near-duplicate images: resized, saved again, or the next frame of a video.

Each image is reduced to 16 x 16 gray cells. Two images are near-duplicates if their cells differ on average by at most
3 of 255, and by at most 15 % of the standard deviation of the cells of the flatter image. Different photos of one shelf
or one slide differ by 7 and more.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from frcnn.data.images import VerifiedImage, read_bytes, to_gray, verify_image

SIDE = 16
MAX_DIFFERENCE = 3.0
MAX_RELATIVE_DIFFERENCE = 0.15
_MIN_LIMIT = 0.5  # for an image of one color: saving it again changes as much


class ImageHash(NamedTuple):
    """A summary of an image in 300 bytes."""

    digest: bytes
    """Of the file; equal for exact copies."""
    gray: np.ndarray
    """(SIDE, SIDE) uint8."""


def hash_image(path: Path) -> ImageHash | None:
    """The hash of an image file; None: it cannot be read."""
    try:
        return hash_verified(path, verify_image(path))
    except (ValueError, OSError):
        return None


def hash_verified(path: Path, verified: VerifiedImage) -> ImageHash:
    """The hash of an image file that was just verified; it is not decoded again."""
    digest = hashlib.blake2b(read_bytes(path), digest_size=16).digest()
    return ImageHash(digest, np.asarray(to_gray(verified.image).resize((SIDE, SIDE), Image.Resampling.BOX)))


def near_duplicate_groups(hashes: Sequence[ImageHash | None]) -> np.ndarray:
    """(images,): the lowest index of the group of each image. Images are in one group if they are near-duplicates, or
    if a chain of near-duplicates connects them. An image that cannot be read is alone.

    The time grows with the number of images times that of groups, not with the number of pairs: twenty thousand frames
    of one still camera are one group after the first comparison.
    """
    group_of = np.arange(len(hashes))
    readable = np.array([index for index, each in enumerate(hashes) if each is not None], np.int64)
    if not len(readable):
        return group_of
    gray = np.stack([each.gray.ravel() for each in hashes if each is not None]).astype(np.int16)
    limit = np.clip(MAX_RELATIVE_DIFFERENCE * gray.std(axis=1), _MIN_LIMIT, MAX_DIFFERENCE)
    group = np.arange(len(gray))  # the lowest row of the group of each row
    for row, others in _candidates(gray):
        others = others[group[others] != group[row]]
        difference = np.abs(gray[others] - gray[row]).mean(axis=1)
        close = others[difference <= np.minimum(limit[others], limit[row])]
        if len(close):
            joined = np.unique(np.append(group[close], group[row]))
            group[np.isin(group, joined)] = joined[0]
    group_of[readable] = readable[group]
    return group_of


def _candidates(gray: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each row of `gray` with others that may be near-duplicates; each pair comes once.

    The mean difference of the cells is at least the difference of the images' means, and of the means of any sum in
    which each cell counts +1 or -1. So near-duplicates lie in the same bin or in neighboring bins of a grid over four
    such sums.
    """
    half = np.repeat([1, -1], SIDE // 2)
    one = np.ones(SIDE, int)
    signs = np.stack([np.outer(rows, columns).ravel() for rows, columns in product((one, half), repeat=2)])
    bins = np.floor(gray @ signs.T / gray.shape[1] / MAX_DIFFERENCE).astype(int)
    members: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, bin_ in enumerate(map(tuple, bins.tolist())):
        members[bin_].append(row)
    steps = [step for step in product((-1, 0, 1), repeat=4) if step > (0, 0, 0, 0)]
    for bin_, own in members.items():
        around = [members.get(tuple(np.add(bin_, step).tolist()), []) for step in steps]
        others = np.array([row for near in around for row in near], np.int64)
        rows = np.array(own, np.int64)
        for number, row in enumerate(own):
            near = np.concatenate((rows[number + 1 :], others))
            if len(near):
                yield row, near
