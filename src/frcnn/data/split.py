"""Sharing images out to training, validation and test."""

from collections.abc import Callable, Sequence

import numpy as np

from frcnn.data.ahead import READERS, read_ahead
from frcnn.data.likeness import alike, groups, look_at
from frcnn.types import Record


def draw(
    records: Sequence[Record],
    fractions: Sequence[float],
    *,
    seed: int,
    on_image: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Share images out at random, so that each part has about its fraction of every class's images; the same for the
    same seed. Images that are alike go to the same part, or the test would only ask what was learned by heart.

    Args:
        fractions: of each part, e.g. (0.8, 0.1, 0.1); their sum is 1.
        on_image: called after each image is looked at.

    Returns:
        For each part, the places of its images among the records, in order.
    """
    looks = []
    for look in read_ahead(look_at, (record.image for record in records), workers=READERS):
        looks.append(look)
        on_image()
    return stratified([record.names for record in records], groups(len(records), alike(looks)), fractions, seed=seed)


def stratified(
    names: Sequence[Sequence[str]], group_of: np.ndarray, fractions: Sequence[float], *, seed: int
) -> list[np.ndarray]:
    """The parts of `draw`, for images with these classes in these groups, which stay together.

    Source:
        Iterative stratification, Sechidis et al. 2011: the rarest class first; each image goes where its class is
        missing most. Differs: images without objects are a class, whole groups are shared out, and a part that would
        stay empty gets one.
    """
    if not names:
        return [np.zeros(0, int) for _ in fractions]
    classes = sorted({name for each in names for name in each})
    has = np.zeros((len(names), len(classes) + 1), bool)  # the last column: no objects
    for image, each in enumerate(names):
        has[image, [classes.index(name) for name in set(each)]] = True
        has[image, -1] = not each
    order = np.argsort(group_of, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group_of[order])) + 1)
    members = [members[place] for place in np.random.default_rng(seed).permutation(len(members))]
    counts = np.array([has[each].sum(axis=0) for each in members]).reshape(len(members), -1)

    share = np.array(fractions, np.float64)
    missing = share[:, None] * has.sum(axis=0)  # (parts, classes)
    room = share * len(names)
    part_of = np.full(len(members), -1)
    while (part_of < 0).any():
        left = counts[part_of < 0].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, left.max() + 1)))
        for group in np.flatnonzero((part_of < 0) & (counts[:, rarest] > 0)):
            part = max(np.flatnonzero(share > 0), key=lambda part: (missing[part, rarest], room[part]))
            part_of[group] = part
            missing[part] -= counts[group]
            room[part] -= len(members[group])
    for part in np.flatnonzero(share > 0):
        if not (part_of == part).any():
            largest = np.argmax(np.bincount(part_of, minlength=len(share)))
            if (part_of == largest).sum() > 1:
                part_of[np.flatnonzero(part_of == largest)[-1]] = part
    return [
        np.sort(np.concatenate([members[group] for group in np.flatnonzero(part_of == part)] or [np.zeros(0, int)]))
        for part in range(len(share))
    ]
