"""What was found in the tiles of a photo is told once."""

from collections.abc import Sequence

import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from hypothesis import strategies as st

from frcnn.inference.tiling import WindowDetections, merge_windows

SIZE = (300, 500)
LEFT, RIGHT, WHOLE = (0, 0, 300, 300), (200, 0, 500, 300), (0, 0, 500, 300)


@st.composite
def founds(draw: st.DrawFn) -> WindowDetections:
    """Boxes of two classes in any window, at its borders and inside."""
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        window = draw(st.sampled_from((LEFT, RIGHT, WHOLE)))
        x1, x2 = sorted(draw(st.lists(st.integers(window[0] // 50, window[2] // 50), min_size=2, max_size=2)))
        y1, y2 = sorted(draw(st.lists(st.integers(0, 6), min_size=2, max_size=2)))
        box = (50 * x1, 50 * y1, 50 * x2, 50 * y2)
        rows.append((window, box, draw(st.integers(1, 2)), draw(st.integers(1, 4)) / 4))
    return found(rows)


def found(rows: Sequence[tuple[tuple[float, ...], tuple[float, ...], int, float]]) -> WindowDetections:
    """Of (window, box, label, score)."""
    windows, boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return WindowDetections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        np.array(windows, np.float32).reshape(-1, 4),
    )


def merged(*rows: tuple[tuple[float, ...], tuple[float, ...], int, float]) -> list[tuple[list[float], float]]:
    """Boxes and scores."""
    boxes, scores, _, _ = merge_windows(found(rows), SIZE)
    return list(zip(boxes.tolist(), scores.tolist(), strict=True))


# -------------------------------------------------------------------------------------------------------------- merging


def test_an_object_in_the_overlap_is_told_once_with_its_best_score() -> None:
    assert merged((LEFT, (220, 10, 280, 60), 1, 0.5), (RIGHT, (222, 10, 280, 60), 1, 0.75)) == [
        ([222, 10, 280, 60], 0.75)
    ]


@pytest.mark.parametrize("cut_score", [0.25, 1.0], ids=["surer whole", "surer cut"])
def test_a_cut_box_stands_neither_beside_nor_instead_of_the_whole_one(cut_score: float) -> None:
    assert merged((LEFT, (260, 10, 300, 60), 1, cut_score), (RIGHT, (260, 10, 340, 60), 1, 0.5)) == [
        ([260, 10, 340, 60], 0.5)
    ]
    assert merged((LEFT, (290, 10, 300, 60), 1, cut_score), (RIGHT, (290, 10, 400, 60), 1, 0.5)) == [
        ([290, 10, 400, 60], 0.5)
    ]


def test_pieces_of_an_object_that_only_the_whole_photo_shows_whole_do_not_stand_beside_it() -> None:
    rows = [(LEFT, (100, 10, 300, 290), 1, 0.25), (RIGHT, (200, 10, 450, 290), 1, 0.25)]
    whole = (WHOLE, (101, 11, 449, 289), 1, 0.5)
    assert merged(whole, *rows) == [([101, 11, 449, 289], 0.5)]
    for row in rows:
        assert merged(whole, row) == [([101, 11, 449, 289], 0.5)]


def test_pieces_of_an_object_that_nothing_shows_whole_are_joined() -> None:
    assert merged((LEFT, (100, 10, 300, 90), 1, 0.5), (RIGHT, (200, 12, 450, 90), 1, 0.75)) == [
        ([100, 10, 450, 90], 0.75)
    ]


def test_a_piece_alone_stays() -> None:
    assert merged((LEFT, (100, 10, 300, 90), 1, 0.5)) == [([100, 10, 300, 90], 0.5)]


def test_what_the_border_of_the_photo_cuts_off_is_whole() -> None:
    rows = ((LEFT, (0, 0, 50, 50), 1, 0.5), (LEFT, (10, 250, 90, 300), 1, 0.25), (RIGHT, (440, 0, 500, 40), 1, 1.0))
    assert len(merged(*rows, *((WHOLE, box, label, 0.1) for _, box, label, _ in rows))) == 3


def test_a_sliver_goes_with_the_other_pieces_of_its_object() -> None:
    """By itself it does not agree with the whole one, which is a few pixels off."""
    rows = [
        (LEFT, (100, 10, 300, 90), 1, 0.5),
        (RIGHT, (200, 10, 310, 90), 1, 0.5),
        ((290, 0, 500, 300), (290, 10, 310, 90), 1, 1.0),
        (WHOLE, (100, 10, 299, 90), 1, 0.25),
    ]
    assert merged(*rows) == [([100, 10, 310, 90], 1.0)]


def test_neighbors_and_other_classes_stay() -> None:
    rows = [
        (LEFT, (150, 10, 300, 90), 1, 0.5),  # cut
        (RIGHT, (200, 100, 350, 190), 1, 0.5),  # cut, elsewhere
        (RIGHT, (200, 10, 350, 90), 2, 0.5),  # cut, of another class
        (WHOLE, (150, 10, 350, 290), 1, 0.5),  # another, which the cut ones lie in
    ]
    assert len(merged(*rows)) == 4


@given(founds())
def test_merging_again_changes_nothing(found: WindowDetections) -> None:
    once = merge_windows(found, SIZE)
    for value, again in zip(once, merge_windows(once, SIZE), strict=True):
        np.testing.assert_array_equal(again, value)


@given(founds())
def test_nothing_is_lost_and_nothing_made_up(found: WindowDetections) -> None:
    """Scores fall, each class stays, and every side of a box is that of a box that was found."""
    boxes, scores, labels, windows = merge_windows(found, SIZE)
    assert (scores[:-1] >= scores[1:]).all()
    assert set(labels.tolist()) == set(found.labels.tolist())
    assert set(scores.tolist()) <= set(found.scores.tolist())
    assert _holds(windows, boxes).all()
    for box, label in zip(boxes, labels, strict=True):
        of_class = found.boxes[found.labels == label]
        assert all((of_class[:, side] == box[side]).any() for side in range(4))


def _holds(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return ((outer[:, :2] <= inner[:, :2]) & (inner[:, 2:] <= outer[:, 2:])).all(axis=1)
