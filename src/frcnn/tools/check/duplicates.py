"""Duplicate and near-duplicate images, and annotations that two images share."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from frcnn.data.near_duplicates import ImageHash, near_duplicate_pairs
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
    pairs = near_duplicate_pairs(hashes)
    for first, second in pairs:
        one, other = hashes[first], hashes[second]
        is_copy = one is not None and other is not None and one.digest == other.digest
        across = splits[first] != splits[second]
        kind = _KINDS[is_copy, across]
        message = f"is {'a copy' if is_copy else 'a near-duplicate'} of {records[first].image}" + (
            f" ({splits[second]} and {splits[first]}), so the test leaks from training; keep one" if across else ""
        )
        yield Problem(kind, records[second].image, message, other=records[first].image, level="warning")
    known = set(pairs)
    by_boxes = defaultdict(list)
    for index, record in enumerate(records):
        if record.class_names:
            by_boxes[record.boxes.tobytes(), record.class_names].append(index)
    for first, *others in by_boxes.values():
        for second in others:
            if (first, second) not in known:
                message = f"has exactly the boxes of {records[first].image}, another image; was its annotation copied?"
                yield Problem(
                    ProblemKind.COPIED_ANNOTATION,
                    records[second].image,
                    message,
                    other=records[first].image,
                    level="warning",
                )
