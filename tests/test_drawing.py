"""Pictures of detections."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from frcnn.drawing import class_colours, draw
from frcnn.types import Prediction

Rectangle = tuple[float, float, float, float]

GREY = (40, 40, 40)
CLASSES = ("cat", "dog")
SIZES = [(80, 60), (60, 80), (640, 480), (4000, 3000)]  # (width, height), as Pillow has them
CORNERS = {
    "upper left": (0.0, 0.0, 0.4, 0.4),
    "upper right": (0.7, 0.0, 1.0, 0.3),
    "lower left": (0.0, 0.8, 0.3, 1.0),
    "lower right": (0.9, 0.9, 1.0, 1.0),
    "middle": (0.4, 0.4, 0.6, 0.6),
    "all": (0.0, 0.0, 1.0, 1.0),
    "beyond": (-0.2, -0.2, 1.2, 1.2),
    "a point": (0.5, 0.5, 0.5, 0.5),
}


def plain(size: tuple[int, int] = (200, 100)) -> Image.Image:
    return Image.new("RGB", size, GREY)


def found(*detections: tuple[str, float, tuple[float, ...]]) -> Prediction:
    return Prediction(
        "photo.jpg",
        np.array([box for _, _, box in detections], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in detections], np.float32),
        tuple(name for name, _, _ in detections),
    )


def scaled(box: tuple[float, ...], size: tuple[int, int]) -> tuple[float, ...]:
    return box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[Rectangle]:
    """The filled rectangles that are drawn: the labels' grounds."""
    places = []
    rectangle = ImageDraw.ImageDraw.rectangle

    def noted(self: ImageDraw.ImageDraw, xy: Any, fill: Any = None, outline: Any = None, width: int = 1) -> None:
        if fill is not None:
            places.append(xy)
        rectangle(self, xy, fill=fill, outline=outline, width=width)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", noted)
    return places


@pytest.mark.parametrize("size", SIZES)
def test_picture_has_the_size_of_the_image_which_stays_as_it_is(size: tuple[int, int]) -> None:
    image = plain(size)
    picture = draw(image, found(("cat", 0.9, scaled((0.2, 0.2, 0.8, 0.8), size))))
    assert picture.size == size
    assert picture.mode == "RGB"
    assert picture.tobytes() != image.tobytes()
    assert image.tobytes() == plain(size).tobytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CLASSES)
def test_edges_have_the_colour_of_the_class(size: tuple[int, int], name: str) -> None:
    box = scaled((0.25, 0.5, 0.75, 0.9), size)
    picture = draw(plain(size), found((name, 0.9, box)), classes=CLASSES)
    colour = class_colours(CLASSES)[name]
    x1, y1, x2, y2 = (round(v) for v in box)
    middle = ((x1 + x2) // 2, (y1 + y2) // 2 + size[1] // 10)
    assert picture.getpixel((x1, middle[1])) == colour
    assert picture.getpixel((x2, middle[1])) == colour
    assert picture.getpixel((middle[0], y2)) == colour
    assert picture.getpixel(middle) == GREY


def test_the_edges_of_a_box_as_large_as_the_image_can_be_seen() -> None:
    picture = draw(plain((400, 300)), found(("cat", 0.9, (0, 0, 400, 300))), classes=CLASSES)
    colour = class_colours(CLASSES)["cat"]
    assert {picture.getpixel(place) for place in ((0, 150), (399, 150), (200, 299))} == {colour}


@pytest.mark.parametrize("box", CORNERS.values(), ids=CORNERS.keys())
@pytest.mark.parametrize("size", SIZES)
def test_labels_lie_inside_the_image(labels: list[Rectangle], size: tuple[int, int], box: tuple[float, ...]) -> None:
    draw(plain(size), found(("cat", 0.9, scaled(box, size))))
    ((left, top, right, bottom),) = labels
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_labels_can_be_read_at_any_size(labels: list[Rectangle]) -> None:
    for size in SIZES:
        draw(plain(size), found(("cat", 0.9, scaled((0.2, 0.4, 0.8, 0.8), size))))
    heights = [bottom - top for _, top, _, bottom in labels]
    assert min(heights) >= 10
    assert heights[-1] >= 0.02 * 3000


def test_labels_of_neighbours_do_not_cover_each_other(labels: list[Rectangle]) -> None:
    boxes = [(100, 100, 300, 300), (110, 100, 310, 300), (120, 105, 320, 300)]
    draw(plain((640, 480)), found(*[("cat", 0.9 - i / 10, box) for i, box in enumerate(boxes)]))
    assert len(labels) == 3
    for i, a in enumerate(labels):
        for b in labels[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize(("score", "drawn"), [(0.49, False), (0.5, True), (0.51, True)])
def test_below_min_score_nothing_is_drawn(score: float, drawn: bool) -> None:
    picture = draw(plain(), found(("cat", score, (20, 20, 80, 80))), min_score=0.5)
    assert (picture.tobytes() != plain().tobytes()) == drawn


def test_no_detections_no_change() -> None:
    assert draw(plain(), found()).tobytes() == plain().tobytes()


def test_the_surest_box_lies_on_top() -> None:
    same = (20.0, 20.0, 180.0, 90.0)
    picture = draw(plain(), found(("cat", 0.9, same), ("dog", 0.8, same)), classes=CLASSES)
    assert picture.getpixel((180, 60)) == class_colours(CLASSES)["cat"]


def test_background_and_unregressed_boxes_are_grey_and_white() -> None:
    grey, white = np.array([[10.0, 10, 60, 60]]), np.array([[70.0, 10, 120, 60]])
    picture = draw(plain(), found(), background=grey, unregressed=white)
    assert picture.getpixel((10, 30)) == (150, 150, 150)
    assert picture.getpixel((120, 30)) == (255, 255, 255)


def test_an_inverted_box_is_no_error() -> None:
    draw(plain(), found(("cat", 0.9, (80, 80, 20, 20))))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_kind_of_image_becomes_rgb(mode: str) -> None:
    assert draw(plain().convert(mode), found()).mode == "RGB"


def test_a_file_is_read_the_way_up_that_a_person_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    plain((200, 100)).save(path, exif=exif)
    assert draw(path, found()).size == draw(str(path), found()).size == (100, 200)


def test_colours_follow_the_class_list_alone() -> None:
    names = [f"class {number}" for number in range(20)]
    assert class_colours(names) == class_colours(tuple(names))
    assert list(class_colours(names)) == names


@pytest.mark.parametrize("count", [1, 2, 20])
def test_colours_are_distinct(count: int) -> None:
    colours = list(class_colours([str(number) for number in range(count)]).values())
    for i, one in enumerate(colours):
        for other in colours[:i]:
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 10
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
