"""The toy data set: its files, its boxes, and that a failure leaves nothing behind."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frcnn.tools import toy
from frcnn.tools.toy import scenes, write_toy
from frcnn.tools.toy.sprites import CLASSES, CLUTTER, KINDS

NAMES = [
    "avocado",
    "orange",
    "butter",
    "champagne",
    "eggBox",
    "gerkin",
    "joghurt",
    "ketchup",
    "orangeJuice",
    "onion",
    "pepper",
    "tomato",
    "water",
    "milk",
    "tabasco",
    "mustard",
]


@pytest.fixture(scope="module")
def default_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy") / "groceries"
    write_toy(out)
    return out


def read_boxes(image: Path) -> list[list[int]]:
    return [[int(v) for v in row.split("\t")] for row in image.with_suffix(".bboxes.tsv").read_text().splitlines()]


def read_labels(image: Path) -> list[str]:
    return image.with_suffix(".bboxes.labels.tsv").read_text().splitlines()


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_class_names() -> None:
    assert sorted(CLASSES) == sorted(NAMES)
    assert isinstance(CLASSES, tuple)


def test_layout_of_the_default_set(default_set: Path) -> None:
    assert sorted(p.name for p in default_set.iterdir()) == ["negative", "positive", "testImages"]
    for folder, count in (("positive", 32), ("testImages", 8)):
        kinds = (".jpg", ".bboxes.tsv", ".bboxes.labels.tsv")
        expected = {f"{number}{kind}" for number in range(count) for kind in kinds}
        assert {p.name for p in (default_set / folder).iterdir()} == expected
    assert {p.name for p in (default_set / "negative").iterdir()} == {f"{number}.jpg" for number in range(4)}


def test_boxes_lie_in_their_images(default_set: Path) -> None:
    images = [*default_set.glob("positive/*.jpg"), *default_set.glob("testImages/*.jpg")]
    for path in images:
        with Image.open(path) as image:
            width, height = image.size
        boxes = read_boxes(path)
        assert 6 <= len(boxes) <= 10
        assert len(read_labels(path)) == len(boxes)
        for x1, y1, x2, y2 in boxes:
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert min(x2 - x1, y2 - y1) >= 28


@pytest.mark.parametrize(("folder", "least"), [("positive", 10), ("testImages", 3)])
def test_every_class_occurs_often_enough(default_set: Path, folder: str, least: int) -> None:
    counts = Counter(label for path in (default_set / folder).glob("*.jpg") for label in read_labels(path))
    assert set(counts) == set(NAMES)
    assert min(counts.values()) >= least


@pytest.mark.parametrize("name", [*CLASSES, *CLUTTER])
def test_sprite_is_cropped_to_what_is_drawn(name: str) -> None:
    for seed in range(3):
        sprite = scenes.draw_sprite(KINDS[name], 150, random.Random(seed))
        assert sprite.getchannel("A").getbbox() == (0, 0, *sprite.size)


def test_boxes_fit_the_drawn_objects() -> None:
    """An object drawn alone, in the scene's supersampling, spans its box to within a pixel."""
    image, placed = draw_all_classes(0)
    for thing in placed:
        alone = Image.new("L", (image.width * scenes.SUPERSAMPLE, image.height * scenes.SUPERSAMPLE))
        alone.paste(thing.sprite.getchannel("A"), (thing.left, thing.top))
        seen = alone.reduce(scenes.SUPERSAMPLE).point(lambda a: 255 if a else 0).getbbox()
        assert seen is not None
        assert np.abs(np.subtract(thing.box(*image.size), seen)).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_no_object_is_hidden_by_more_than_two_fifths(seed: int) -> None:
    image, placed = draw_all_classes(seed)
    owner = Image.new("L", (image.width * scenes.SUPERSAMPLE, image.height * scenes.SUPERSAMPLE))
    for number, thing in enumerate(placed, start=1):
        owner.paste(number, (thing.left, thing.top), thing.sprite.getchannel("A").point(lambda a: 255 if a else 0))
    for number, thing in enumerate(placed, start=1):
        drawn = np.count_nonzero(np.asarray(thing.sprite)[..., 3])
        assert np.count_nonzero(np.asarray(owner) == number) >= 0.6 * drawn, thing.name


def draw_all_classes(seed: int) -> tuple[Image.Image, list[scenes.Placed]]:
    image, placed = scenes.draw_scene(CLASSES, random.Random(seed))
    assert set(CLASSES) <= {thing.name for thing in placed}
    return image, placed


def test_seed_decides_the_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("same", 3), ("other", 4)):
        write_toy(tmp_path / name, seed=seed, num_train=1, num_test=1, num_negative=1)
    first, same, other = (all_bytes(tmp_path / name) for name in ("a", "same", "other"))
    assert first == same
    assert first.keys() == other.keys()
    assert all(first[path] != other[path] for path in first)


def test_images_of_one_set_differ(default_set: Path) -> None:
    pictures = [path.read_bytes() for path in default_set.rglob("*.jpg")]
    assert len(set(pictures)) == len(pictures) == 44


def test_full_folder_is_left_untouched(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "letter.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match=r"mine.*another folder"):
        write_toy(out, num_train=1, num_test=0, num_negative=0)
    assert all_bytes(tmp_path) == {"mine/letter.txt": b"keep me"}


def test_file_in_the_way_is_left_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    with pytest.raises(FileExistsError, match="mine"):
        write_toy(tmp_path / "mine", num_train=1, num_test=0, num_negative=0)
    assert all_bytes(tmp_path) == {"mine": b"keep me"}


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    write_toy(tmp_path, num_train=0, num_test=0, num_negative=1)
    assert list(all_bytes(tmp_path)) == ["negative/0.jpg"]
    assert (tmp_path / "positive").is_dir()


def test_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = scenes.draw_scene
    drawn: list[list[str]] = []

    def draw_one_only(names: list[str], rng: random.Random) -> tuple[Image.Image, list[scenes.Placed]]:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(names)
        return draw(names, rng)

    monkeypatch.setattr(toy, "draw_scene", draw_one_only)
    with pytest.raises(KeyboardInterrupt):
        write_toy(tmp_path / "groceries", num_train=2)
    assert drawn
    assert list(tmp_path.iterdir()) == []
