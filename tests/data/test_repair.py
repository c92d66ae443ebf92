"""Repairs of boxes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frcnn.data.images import read_image
from frcnn.data.records import make_record
from frcnn.data.repair import RotatedImage, repair_boxes, repair_rotated, rotate_boxes

SIZE = (100, 200)


@pytest.mark.parametrize(
    ("box", "expected", "kind", "level"),
    [
        ((0, 0, 200, 100), (0, 0, 200, 100), None, None),
        ((-1, 0, 5, 5), (0, 0, 5, 5), "box outside the image", "repaired"),
        ((190, 0, 202, 5), (190, 0, 200, 5), "box outside the image", "repaired"),
        ((-1e-4, 0, 4, 100.01), (0, 0, 4, 100), None, None),
        ((-0.03, 0, 4, 5), (0, 0, 4, 5), "box outside the image", "repaired"),
        ((150, 0, 250, 5), (150, 0, 200, 5), "box outside the image", "repaired"),
        ((150, 0, 251, 5), None, "box outside the image", "left out"),
        ((199, 0, 201.5, 5), (199, 0, 200, 5), "box outside the image", "repaired"),
        ((201, 0, 202, 5), None, "box outside the image", "left out"),
        ((9, 2, 5, 8), (5, 2, 9, 8), "swapped corners", "repaired"),
        ((9, 8, 5, 2), (5, 2, 9, 8), "swapped corners", "repaired"),
        ((5, 5, 5, 9), None, "box without area", "left out"),
        ((0, 0, 0, 0), None, "box without area", "left out"),
        ((float("nan"), 0, 1, 1), None, "non-finite box", "left out"),
        ((0, 0, float("inf"), 1), None, "non-finite box", "left out"),
    ],
)
def test_one_box(box: tuple[float, ...], expected: tuple[float, ...] | None, kind: str, level: str) -> None:
    record, problems = repair_boxes(make_record(Path("1.jpg"), [((1, 1, 9, 9), "dog"), (box, "cat")]), SIZE)
    assert [(problem.kind, problem.level, problem.object) for problem in problems] == (
        [(kind, level, 1)] if kind else []
    )
    assert sum(problem.objects for problem in problems) == (expected is None)
    kept = [(1, 1, 9, 9), *([expected] if expected else [])]
    np.testing.assert_allclose(record.boxes, np.array(kept, np.float32))
    assert record.class_names == ("dog", "cat")[: len(kept)]
    assert len(record.ignore) == len(kept)


def test_an_object_without_class() -> None:
    record, problems = repair_boxes(make_record(Path("1.jpg"), [((1, 1, 9, 9), " ")]), SIZE)
    assert record.class_names == ()
    assert [(problem.kind, problem.level, problem.objects) for problem in problems] == [
        ("invalid object", "left out", 1)
    ]


def test_a_class_with_a_name_that_no_model_file_holds() -> None:
    names = ["x" * 1000, "y" * 1001]
    record, problems = repair_boxes(make_record(Path("1.jpg"), [((1, 1, 9, 9), name) for name in names]), SIZE)
    assert record.class_names == (names[0],)
    (problem,) = problems
    assert (problem.kind, problem.level, problem.lost) == ("invalid object", "left out", (names[1],))
    assert "the name of its class has 1,001 characters, more than 1,000; it is left out" in str(problem)
    assert len(str(problem)) < 700


def test_an_annotation_of_another_resolution() -> None:
    record, problems = repair_boxes(make_record(Path("1.jpg"), [((2, 4, 20, 40), "cat")], (200, 400)), SIZE)
    assert record.boxes.tolist() == [[1, 2, 10, 20]]
    assert record.size == SIZE
    assert [(problem.kind, problem.level) for problem in problems] == [("annotation of another resolution", "repaired")]


def test_a_box_without_area_does_not_keep_the_others_from_being_scaled() -> None:
    objects = [((2, 4, 20, 40), "cat"), ((30, 6, 30, 60), "cat")]
    record, problems = repair_boxes(make_record(Path("1.jpg"), objects, (200, 400)), SIZE)
    assert record.boxes.tolist() == [[1, 2, 10, 20]]
    assert [(each.kind, each.box) for each in problems] == [
        ("annotation of another resolution", None),
        ("box without area", (15, 3, 15, 30)),
    ]


@pytest.mark.parametrize("size", [(200, 300), (200, 100), (100, 200), (0, 0), None])
def test_other_sizes_scale_nothing(size: tuple[int, int] | None) -> None:
    record, problems = repair_boxes(make_record(Path("1.jpg"), [((2, 4, 20, 40), "cat")], size), SIZE)
    assert record.boxes.tolist() == [[2, 4, 20, 40]]
    differs = size in ((200, 300), (200, 100))
    assert [(each.kind, each.level) for each in problems] == [("size in the annotation differs", "warning")] * differs


@pytest.mark.parametrize("size", [(100, 200), (200, 100), (300, 700), None])
def test_the_size_of_a_rotated_image_is_that_with_or_without_its_rotation(size: tuple[int, int] | None) -> None:
    _, problems = repair_rotated([rotated((5, 10, 80, 95), 6, size)])
    kinds = {each.kind for each in problems} - {"boxes of the unrotated image"}
    assert kinds == ({"size in the annotation differs"} if size == (300, 700) else set())


@given(st.lists(st.tuples(*[st.floats(-300, 500, width=32)] * 4), max_size=5))
def test_what_is_left_can_be_trained_on(boxes: list[tuple[float, float, float, float]]) -> None:
    record, problems = repair_boxes(make_record(Path("1.jpg"), [(box, "cat") for box in boxes]), SIZE)
    assert len(record.boxes) + sum(problem.objects for problem in problems) == len(boxes)
    assert (record.boxes[:, :2] >= 0).all()
    assert (record.boxes[:, 2:] <= (200, 100)).all()
    assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()
    assert repair_boxes(record, SIZE) == (record, [])


def rotated(box: tuple[float, ...], orientation: int = 6, size: tuple[int, int] | None = None) -> RotatedImage:
    """A stored image of 100 x 200 pixels (height, width)."""
    return RotatedImage(make_record(Path(f"{orientation}.jpg"), [(box, "cat")], size), SIZE, orientation)


UNROTATED = (120, 5, 190, 30)
"""It fits the unrotated image only."""
ROTATED = (5, 120, 30, 190)
BOTH = (5, 10, 80, 95)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_of_the_unrotated_image_are_rotated(orientation: int, tmp_path: Path) -> None:
    """Where width and height are not exchanged, another image tells it."""
    image = Image.new("L", (200, 100))
    image.paste(255, BOTH)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "1.png", exif=exif)
    (record, _), problems = rotate_boxes([rotated(BOTH, orientation), rotated(UNROTATED)])
    assert [problem.kind for problem in problems] == ["boxes of the unrotated image"] * 2
    x1, y1, x2, y2 = record.boxes[0].astype(int)
    pixels = np.asarray(read_image(tmp_path / "1.png"))[:, :, 0]
    assert record.size == pixels.shape
    assert pixels[y1:y2, x1:x2].min() > 250
    assert pixels.sum() == pixels[y1:y2, x1:x2].sum()


@pytest.mark.parametrize(
    ("images", "expected", "warns"),
    [
        ([rotated(UNROTATED)], "r", False),
        ([rotated(ROTATED)], "-", False),
        ([rotated(BOTH)], "-", False),
        ([rotated(BOTH, size=(100, 200))], "r", False),
        ([rotated(BOTH, size=(200, 100))], "-", False),
        ([rotated(UNROTATED, size=(200, 100))], "-", False),  # its size is right, so its box is wrong
        ([rotated(UNROTATED), rotated(BOTH), rotated(BOTH, 3)], "rrr", False),
        ([rotated(ROTATED), rotated(BOTH), rotated(BOTH, 3)], "---", False),
        ([rotated(ROTATED), rotated(BOTH, size=(100, 200))], "--", False),  # boxes say more than sizes
        ([rotated(BOTH, size=(100, 200)), rotated(BOTH), rotated(BOTH, 8)], "rrr", False),
        ([rotated(UNROTATED), rotated(ROTATED), rotated(BOTH), rotated(BOTH, size=(100, 200))], "r--r", True),
        ([rotated(BOTH, size=(100, 200)), rotated(BOTH, size=(200, 100)), rotated(BOTH)], "r--", True),
        ([rotated((150, 150, 190, 190)), rotated(UNROTATED)], "-r", False),  # fits neither
        ([rotated((5, 5, 101.5, 90)), rotated(ROTATED)], "--", False),  # may leave the image by 2 pixels
        ([rotated((float("nan"), 5, 20, 30)), rotated(UNROTATED)], "rr", False),
    ],
)
def test_all_rotated_images_decide_together(images: list[RotatedImage], expected: str, warns: bool) -> None:
    records, problems = rotate_boxes(images)
    is_same = [np.array_equal(record.boxes, image.record.boxes) for record, image in zip(records, images, strict=True)]
    assert "".join("-" if same else "r" for same in is_same) == expected
    assert [problem.level for problem in problems] == ["warning"] * warns + ["repaired"] * expected.count("r")
    (repaired, more) = repair_rotated(images)
    assert [each for each in more if each in problems] == problems
    assert len(repaired) == len(images)
