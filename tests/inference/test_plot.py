"""Pictures of detections."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from tiny import detections_of

from frcnn.colors import class_color, contrast_color
from frcnn.inference import plot
from frcnn.inference.plot import draw, legible

Rectangle = tuple[float, float, float, float]

GRAY = (40, 40, 40)
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
    return Image.new("RGB", size, GRAY)


def plotted(image: Image.Image, *detections: tuple[str, float, tuple[float, ...]], **boxes: Any) -> Image.Image:
    found = detections_of(*detections)
    return draw(image, found.xyxy, found.confidence, found.class_name, **boxes)


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
    picture = plotted(image, ("cat", 0.9, scaled((0.2, 0.2, 0.8, 0.8), size)))
    assert picture.size == size
    assert picture.mode == "RGB"
    assert picture.tobytes() != image.tobytes()
    assert image.tobytes() == plain(size).tobytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CLASSES)
def test_edges_have_the_color_of_the_class(size: tuple[int, int], name: str) -> None:
    box = scaled((0.25, 0.5, 0.75, 0.9), size)
    picture = plotted(
        plain(size),
        (name, 0.9, box),
    )
    color = class_color(name)
    x1, y1, x2, y2 = (round(v) for v in box)
    middle = ((x1 + x2) // 2, (y1 + y2) // 2 + size[1] // 10)
    assert picture.getpixel((x1, middle[1])) == color
    assert picture.getpixel((x2, middle[1])) == color
    assert picture.getpixel((middle[0], y2)) == color
    assert picture.getpixel(middle) == GRAY


def test_the_edges_of_a_box_as_large_as_the_image_can_be_seen() -> None:
    picture = plotted(
        plain((400, 300)),
        ("cat", 0.9, (0, 0, 400, 300)),
    )
    color = class_color("cat")
    assert {picture.getpixel(place) for place in ((0, 150), (399, 150), (200, 299))} == {color}


@pytest.mark.parametrize("box", CORNERS.values(), ids=CORNERS.keys())
@pytest.mark.parametrize("size", SIZES)
def test_labels_lie_inside_the_image(labels: list[Rectangle], size: tuple[int, int], box: tuple[float, ...]) -> None:
    plotted(plain(size), ("cat", 0.9, scaled(box, size)))
    ((left, top, right, bottom),) = labels
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_labels_can_be_read_at_any_size(labels: list[Rectangle]) -> None:
    for size in SIZES:
        plotted(plain(size), ("cat", 0.9, scaled((0.2, 0.4, 0.8, 0.8), size)))
    heights = [bottom - top for _, top, _, bottom in labels]
    assert min(heights) >= 10
    assert heights[-1] >= 0.02 * 3000


def test_labels_of_neighbors_do_not_cover_each_other(labels: list[Rectangle]) -> None:
    boxes = [(100, 100, 300, 300), (110, 100, 310, 300), (120, 105, 320, 300)]
    plotted(plain((640, 480)), *[("cat", 0.9 - i / 10, box) for i, box in enumerate(boxes)])
    assert len(labels) == 3
    for i, a in enumerate(labels):
        for b in labels[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_no_detections_no_change() -> None:
    assert plotted(plain()).tobytes() == plain().tobytes()


def test_the_surest_box_lies_on_top() -> None:
    same = (20.0, 20.0, 180.0, 90.0)
    picture = plotted(
        plain(),
        ("cat", 0.9, same),
        ("dog", 0.8, same),
    )
    assert picture.getpixel((180, 60)) == class_color("cat")


def test_background_and_unregressed_boxes_are_gray_and_white() -> None:
    gray, white = np.array([[10.0, 10, 60, 60]]), np.array([[70.0, 10, 120, 60]])
    picture = plotted(plain(), background=gray, unregressed=white)
    assert picture.getpixel((10, 30)) == (150, 150, 150)
    assert picture.getpixel((120, 30)) == (255, 255, 255)


def test_an_inverted_box_is_no_error() -> None:
    plotted(plain(), ("cat", 0.9, (80, 80, 20, 20)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_kind_of_image_becomes_rgb(mode: str) -> None:
    assert plotted(plain().convert(mode)).mode == "RGB"


def test_the_color_of_a_class_depends_on_its_name_alone() -> None:
    assert class_color("cat") == class_color("cat") == (77, 191, 169)
    assert class_color("cat") != class_color("dog")
    colors = [class_color(f"class {number}") for number in range(100)]
    assert all(0 <= channel <= 255 for color in colors for channel in color)
    assert len(set(colors)) > 95


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (255, 255, 0), (0, 0, 255)])
def test_text_on_a_color_is_black_or_white(color: tuple[int, int, int]) -> None:
    assert contrast_color(color) == ((255,) * 3 if sum(color) <= 255 else (0,) * 3)


CYRILLIC, CHINESE = "\u0434\u043e\u043c", "\u4e2d"


def test_letters_that_pillows_font_lacks_are_drawn_with_another() -> None:
    assert legible("cat", 20) == ("cat", legible("dog", 20)[1])
    text, font = legible(f"{CYRILLIC} \u1e9e", 20)
    assert text == f"{CYRILLIC} \u1e9e"
    assert font.getname()[0] == "DejaVu Sans"  # type: ignore[union-attr]
    assert len({bytes(font.getmask(letter)) for letter in CYRILLIC}) == 3
    assert legible("\u00f6", 20)[0] == "\u00f6"


def test_letters_that_no_font_has_are_written_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Pillow has no FreeType, and only its first, small font."""
    monkeypatch.setattr(plot, "_faces", list)
    assert legible(f"{CHINESE} cat", 20)[0] == "\\u4e2d cat"
    monkeypatch.setattr(plot, "_own_font", lambda size: ImageFont.load_default_imagefont())
    assert legible(f"caf\u00e9 {CYRILLIC[0]} {CHINESE}", 20)[0] == "cafe \\u0434 \\u4e2d"
    plotted(plain(), (f"\u00f6 {CHINESE}", 0.9, (10, 30, 90, 90)))


def test_a_font_of_the_system_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plot._faces()
    monkeypatch.setattr(plot.ImageFont, "truetype", lambda *args: pytest.fail("looked for again"))
    monkeypatch.setattr(plot, "_own_font", lambda size: ImageFont.load_default_imagefont())
    for size in (11, 12, 300):
        assert legible(CYRILLIC, size)[0] == CYRILLIC
