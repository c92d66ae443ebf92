"""Images that are in a data set more than once, and annotations that are."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from frcnn.data.likeness import Look, alike
from frcnn.data.problems import Problem
from frcnn.types import Record


def copies(records: Sequence[Record], looks: Sequence[Look | None], splits: Sequence[str]) -> Iterator[Problem]:
    """Warnings about images that are the same, or nearly, and about boxes that are the same on different images.

    Args:
        looks, splits: of each record.
    """
    pairs = alike(looks)
    for first, second in pairs:
        one, other = looks[first], looks[second]
        same = one is not None and other is not None and one.digest == other.digest
        where = (splits[first], splits[second])
        across = where[0] != where[1]
        kind = f"{'same' if same else 'nearly the same'} image{' in two splits' if across else ' twice'}"
        rule = f"is {'a copy of' if same else 'nearly the same image as'} {records[first].image}" + (
            f" ({where[1]} and {where[0]}), so the test asks what was learned by heart; keep one" if across else ""
        )
        yield Problem(kind, records[second].image, rule, other=records[first].image, level="warning")
    known = set(pairs)
    with_boxes = defaultdict(list)
    for place, record in enumerate(records):
        if record.names:
            with_boxes[record.boxes.tobytes(), record.names].append(place)
    for places in with_boxes.values():
        for other_place in places[1:]:
            if (places[0], other_place) not in known:
                rule = f"has exactly the boxes of {records[places[0]].image}, another image; was its annotation copied?"
                first_image, image = records[places[0]].image, records[other_place].image
                yield Problem("annotation of another image", image, rule, other=first_image, level="warning")
