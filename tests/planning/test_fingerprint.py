"""The figures of a data set that a plan is made from."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies
from hypothesis import given

from frcnn.data.records import Record, make_record
from frcnn.planning.fingerprint import QUANTILES, _overlapping, fingerprint, mirrored_classes

SQUARE = (10.0, 10.0, 30.0, 30.0)


def record(*objects: tuple[tuple[float, float, float, float], str], size: tuple[int, int] = (100, 100)) -> Record:
    return make_record(Path("a.png"), list(objects), size)


def test_counts_and_quantiles() -> None:
    wide = (100, 200)
    records = [
        record((SQUARE, "cat"), ((0, 0, 80, 20), "dog"), size=wide),
        record(size=(50, 50)),
        record((SQUARE, "cat"), size=wide),
    ]
    found = fingerprint(records)
    assert (found.images, found.empty_images, found.objects) == (3, 1, 3)
    middle = QUANTILES.index(0.5)
    assert (found.shorter_side[0], found.longer_side[-1], found.shape[middle]) == (50, 200, 2)
    assert found.size == pytest.approx((20, 20, 20, 20, 30, 38, 40), abs=0.1)
    assert found.relative_size[-1] == 0.2
    assert (found.aspect_ratio[0], found.aspect_ratio[-1]) == (0.25, 1)
    assert found.shortest_side == (20,) * len(QUANTILES)
    assert (found.objects_per_image[0], found.objects_per_image[-1]) == (1, 2)
    assert {name: (each.objects, each.images) for name, each in found.classes.items()} == {"cat": (2, 2), "dog": (1, 1)}
    assert found.classes["dog"].size == (40,) * len(QUANTILES)


def test_ignored_objects_do_not_count() -> None:
    crowd = record((SQUARE, "cat"), ((0, 0, 5, 5), "cat"))._replace(ignore=np.array([False, True]))
    found = fingerprint([crowd])
    assert (found.objects, found.size[0]) == (1, 20)


def test_there_must_be_an_object() -> None:
    with pytest.raises(ValueError, match="no training image has an object"):
        fingerprint([record()])


def test_objects_that_overlap() -> None:
    twice = record((SQUARE, "cat"), ((15, 10, 35, 30), "cat"), ((60, 60, 70, 70), "cat"), ((12, 10, 32, 30), "dog"))
    alone = record((SQUARE, "cat"))
    assert fingerprint([twice, alone]).overlapping == pytest.approx(2 / 5)


@given(
    boxes=strategies.crowded_boxes(min_count=1, min_side=1),
    images=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    names=st.lists(st.sampled_from("ab"), min_size=12, max_size=12),
)
def test_overlaps_are_those_of_all_pairs(boxes, images, names) -> None:  # type: ignore[no-untyped-def]
    """Twin: every pair of boxes."""
    from frcnn.ops.boxes import iou

    count = len(boxes)
    ious = iou(boxes, boxes)
    expected = [
        any(ious[i, j] >= 0.3 and images[i] == images[j] and names[i] == names[j] for j in range(count) if j != i)
        for i in range(count)
    ]
    found = _overlapping(boxes.numpy().astype(float), np.array(images[:count]), np.array(names[:count]))
    assert found == pytest.approx(np.mean(expected))


LEFT, RIGHT, ANYWHERE = np.linspace(0.1, 0.4, 30), np.linspace(0.6, 0.9, 30), np.linspace(0.05, 0.95, 30)


@pytest.mark.parametrize(
    ("centers", "mirrored"),
    [
        ({"left arrow": ANYWHERE, "right arrow": ANYWHERE, "cat": ANYWHERE}, ("left arrow", "right arrow")),
        ({"turn-left": ANYWHERE[:1], "turn-right": ANYWHERE[:1]}, ("turn-left", "turn-right")),
        ({"LeftHand": ANYWHERE, "RightHand": ANYWHERE}, ("LeftHand", "RightHand")),
        ({"hand_L": ANYWHERE, "hand_R": ANYWHERE}, ("hand_L", "hand_R")),
        ({"left": ANYWHERE, "cat": ANYWHERE}, ()),
        ({"turnleft": ANYWHERE, "turnright": ANYWHERE}, ("turnleft", "turnright")),
        ({"LEFTARROW": ANYWHERE, "RIGHTARROW": ANYWHERE}, ("LEFTARROW", "RIGHTARROW")),
        ({"bright": ANYWHERE, "cleft": ANYWHERE, "lever": ANYWHERE, "river": ANYWHERE}, ()),
        ({"mine": RIGHT, "theirs": LEFT, "date": ANYWHERE}, ("mine", "theirs")),
        ({"mine": RIGHT, "date": ANYWHERE}, ()),
        ({"mine": RIGHT[:10], "theirs": LEFT[:10]}, ()),
        ({"mine": np.r_[RIGHT, LEFT[:10]], "theirs": LEFT}, ()),
    ],
    ids=[
        "words",
        "few",
        "camel case",
        "letters",
        "one of them",
        "end",
        "start",
        "inside words",
        "sides",
        "one side",
        "too few",
        "both",
    ],
)
def test_classes_that_a_mirror_image_would_confuse(centers: dict[str, np.ndarray], mirrored: tuple[str, ...]) -> None:
    assert mirrored_classes(centers) == mirrored
