"""Random splits: stratified by class, near-duplicates kept together."""

from collections.abc import Sequence

import numpy as np

from frcnn.data.near_duplicates import hash_image, near_duplicate_groups
from frcnn.data.prefetch import READ_THREADS, prefetch
from frcnn.data.records import Record


def draw_split(
    records: Sequence[Record],
    fractions: Sequence[float],
    *,
    seed: int,
) -> list[np.ndarray]:
    """Split images at random. The split is stratified by class. Near-duplicate images stay in the same part, so that no
    test image leaks from training. The same seed gives the same split.

    Args:
        fractions: of each part, e.g. (0.8, 0.1, 0.1); their sum is 1.

    Returns:
        For each part, the sorted indices of its records.
    """
    hashes = list(prefetch(hash_image, (record.image for record in records), workers=READ_THREADS))
    groups = near_duplicate_groups(hashes)
    return stratified([record.class_names for record in records], groups, fractions, seed=seed)


def stratified(
    class_names: Sequence[Sequence[str]], group_of: np.ndarray, fractions: Sequence[float], *, seed: int
) -> list[np.ndarray]:
    """`draw_split` for images with these classes.

    Args:
        class_names: of the objects of each image.
        group_of: (images,) the group of each image; a group stays together.

    Source:
        Iterative stratification, Sechidis et al. 2011: the rarest class first; each image goes to the part that lacks
        most of its class. Differs: images without objects are a class, whole groups are assigned, and a part that would
        stay empty gets a group.
    """
    if not class_names:
        return [np.zeros(0, int) for _ in fractions]
    classes = sorted({name for each in class_names for name in each})
    has = np.zeros((len(class_names), len(classes) + 1), bool)  # the last column: no objects
    for image, each in enumerate(class_names):
        has[image, [classes.index(name) for name in set(each)]] = True
        has[image, -1] = not each
    order = np.argsort(group_of, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group_of[order])) + 1)
    members = [members[index] for index in np.random.default_rng(seed).permutation(len(members))]
    counts = np.array([has[each].sum(axis=0) for each in members]).reshape(len(members), -1)

    fraction = np.array(fractions, np.float64)
    missing = fraction[:, None] * has.sum(axis=0)  # (parts, classes)
    room = fraction * len(class_names)
    part_of = np.full(len(members), -1)
    while (part_of < 0).any():
        left = counts[part_of < 0].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, left.max() + 1)))
        for group in np.flatnonzero((part_of < 0) & (counts[:, rarest] > 0)):
            part = max(np.flatnonzero(fraction > 0), key=lambda part: (missing[part, rarest], room[part]))
            part_of[group] = part
            missing[part] -= counts[group]
            room[part] -= len(members[group])
    for part in np.flatnonzero(fraction > 0):
        if not (part_of == part).any():
            largest = np.argmax(np.bincount(part_of, minlength=len(fraction)))
            if (part_of == largest).sum() > 1:
                part_of[np.flatnonzero(part_of == largest)[-1]] = part
    return [
        np.sort(np.concatenate([members[group] for group in np.flatnonzero(part_of == part)] or [np.zeros(0, int)]))
        for part in range(len(fraction))
    ]
