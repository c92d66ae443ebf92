"""Classes that are one another's mirror image are found by their looks; others are not."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from frcnn.data.records import Record, make_record
from frcnn.planning.mirror import _thumbnails, mirrored_by_looks

SHAPES = {
    "forth": [(0, 8), (22, 8), (22, 0), (40, 15), (22, 30), (22, 22), (0, 22)],  # arrows, named by no side
    "back": [(40, 8), (18, 8), (18, 0), (0, 15), (18, 30), (18, 22), (40, 22)],
    "block": [(0, 0), (40, 0), (40, 30), (0, 30)],
    "flag": [(0, 0), (40, 0), (0, 30)],  # not symmetrical, but nothing is its mirror image
    "tent": [(20, 0), (40, 30), (0, 30)],
}


def photos(folder: Path, *names: str, count: int = 20) -> list[Record]:
    """Images with one object of each class, of slightly different sizes, places and colors."""
    rng, records = np.random.default_rng(0), []
    for number in range(count):
        image = Image.fromarray(rng.integers(0, 60, (200, 300, 3), dtype=np.uint8))
        boxes = []
        for column, name in enumerate(names):
            scale, x, y = rng.uniform(0.8, 1.3), 8 + 60 * column + rng.uniform(0, 4), rng.uniform(5, 150)
            outline = [(x + scale * a, y + scale * b) for a, b in SHAPES[name]]
            ImageDraw.Draw(image).polygon(outline, fill=tuple(rng.integers(120, 255, 3).tolist()))
            boxes.append(((x - 2, y - 2, x + scale * 40 + 2, y + scale * 30 + 2), name))
        image.save(folder / f"{number}.png")
        records.append(make_record(folder / f"{number}.png", boxes))
    return records


def test_arrows_in_two_directions_are_one_anothers_mirror_image(tmp_path: Path) -> None:
    assert mirrored_by_looks(photos(tmp_path, "forth", "block", "back", "tent")) == ("back", "forth")


def test_also_in_a_long_list_that_is_ordered_by_class(tmp_path: Path) -> None:
    (tmp_path / "forth").mkdir()
    (tmp_path / "back").mkdir()
    forth, back = (photos(tmp_path / name, name) for name in ("forth", "back"))
    assert mirrored_by_looks(forth * 16 + back * 16) == ("back", "forth")


def test_symmetrical_and_single_shapes_are_not(tmp_path: Path) -> None:
    assert mirrored_by_looks(photos(tmp_path, "block", "flag", "tent", "forth")) == ()


def test_few_objects_or_one_class_say_nothing(tmp_path: Path) -> None:
    records = photos(tmp_path, "forth", "back", count=9)
    assert mirrored_by_looks(records) == ()
    assert mirrored_by_looks([record._replace(class_names=("arrow", "arrow")) for record in records * 2]) == ()


def test_ignored_objects_and_boxes_without_pixels_do_not_count(tmp_path: Path) -> None:
    records = photos(tmp_path, "forth", "back")
    ignored = [record._replace(ignore=np.ones(2, bool)) for record in records]
    assert mirrored_by_looks(ignored) == ()
    tiny = [record._replace(boxes=record.boxes[:, [0, 1, 0, 1]] + np.float32((0, 0, 1, 1))) for record in records]
    assert mirrored_by_looks(tiny) == ()


def test_of_thousands_of_objects_in_an_image_few_are_looked_at(tmp_path: Path) -> None:
    [record] = photos(tmp_path, "forth", "back", count=1)
    crowd = make_record(record.image, [(box, name) for box, name in zip(record.boxes, "ab", strict=True)] * 1000)
    assert {name: len(found) for name, found in _thumbnails(crowd).items()} == {"a": 40, "b": 40}
