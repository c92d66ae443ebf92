"""Duplicate and near-duplicate images, and annotations that two images share."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from frcnn.data.near_duplicates import ImageHash, near_duplicate_groups
from frcnn.data.problems import Problem, ProblemKind
from frcnn.data.records import Record

_KINDS = {
    (True, False): ProblemKind.DUPLICATES,
    (True, True): ProblemKind.LEAKED_DUPLICATES,
    (False, False): ProblemKind.NEAR_DUPLICATES,
    (False, True): ProblemKind.LEAKED_NEAR_DUPLICATES,
}
"""By whether the files are equal, and whether they are in two splits."""


def find_duplicates(
    records: Sequence[Record], hashes: Sequence[ImageHash | None], splits: Sequence[str]
) -> Iterator[Problem]:
    """Warnings about duplicate and near-duplicate images, and about different images with the same boxes.

    Args:
        hashes: of each record's image; None: it cannot be read.
        splits: of each record.
    """
    groups = near_duplicate_groups(hashes)
    members = defaultdict(list)
    for index, group in enumerate(groups.tolist()):
        members[group].append(index)
    for own in members.values():
        for second, first in _partners(own, hashes, splits):
            one, other = hashes[first], hashes[second]
            is_copy = one is not None and other is not None and one.digest == other.digest
            across = splits[first] != splits[second]
            message = f"is {'a copy' if is_copy else 'a near-duplicate'} of {records[first].image}" + (
                f" ({splits[second]} and {splits[first]}), so the test leaks from training; keep one" if across else ""
            )
            kind = _KINDS[is_copy, across]
            yield Problem(kind, records[second].image, message, other=records[first].image, level="warning")
    by_boxes = defaultdict(list)
    for index, record in enumerate(records):
        if record.class_names:
            by_boxes[record.boxes.tobytes(), record.class_names].append(index)
    for first, *others in by_boxes.values():
        for second in others:
            if groups[first] != groups[second]:
                message = f"has exactly the boxes of {records[first].image}, another image; was its annotation copied?"
                yield Problem(
                    ProblemKind.COPIED_ANNOTATION,
                    records[second].image,
                    message,
                    other=records[first].image,
                    level="warning",
                )


def _partners(
    group: Sequence[int], hashes: Sequence[ImageHash | None], splits: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Each image of a group but the first, and the earlier one that a warning names: one of another split before one of
    its own, and a copy before others."""
    first_of: dict[tuple[bytes | None, str], int] = {}  # by digest and split; digest None: any
    known_splits: set[str] = set()
    for index in group:
        image, own = hashes[index], splits[index]
        digests = (image.digest if image is not None else None, None)
        others = sorted(known_splits - {own})
        choices = [(digest, split) for split in (*others, own) for digest in digests]
        known = sorted((key for key in choices if key in first_of), key=lambda key: (key[1] == own, key[0] is None))
        if known:
            yield index, first_of[known[0]]
        for digest in digests:
            first_of.setdefault((digest, own), index)
        known_splits.add(own)
