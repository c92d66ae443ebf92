"""A random data set in each layout, with junk and damage that can be repaired: frcnn reads the same records, and it
reports the planted damage and nothing else."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from data.layouts import LAYOUTS, Box, Photo, Splits, all_photos
from hypothesis import given, settings
from PIL import Image

from frcnn.config import DataSettings
from frcnn.data.dataset import SPLITS, Dataset
from frcnn.data.problems import Problem, ProblemKind

EXAMPLES = int(os.environ.get("FRCNN_EXAMPLES", "8"))
"""Data sets for each layout. FRCNN_EXAMPLES=1000 takes a night."""

JUNK = {
    "__MACOSX/._a.jpg": b"x",
    ".DS_Store": b"x",
    "Thumbs.db": b"x",
    "desktop.ini": b"[.ShellClassInfo]\n",
    "notes.jpg:Zone.Identifier": b"[ZoneTransfer]",
    ".ipynb_checkpoints/a.json": b"{}",
    ".ipynb_checkpoints/a-checkpoint.jpg": b"x",
    ".git/config": b"[core]\n",
    "README.md": b"# My data\n1 2 3 4 5\n",
    "README.roboflow.txt": b"Hard Hats - v1\n==============\n\nIt includes 3 images.\n",
    "LICENSE": b"MIT",
    "notes.txt": b"1 these photos were taken in May\n",
    "requirements.txt": b"numpy==1.2\ntorch\n",
    "runs/a/config.yaml": b"data: {}\n",
    "runs/a/local.yaml": b"data: {}\n",
    "train.py": b"import os\n",
    "results.csv": b"epoch,loss,map\n0,1.5,0.1\n",
    "predictions.json": b'{"detections": []}',
    "package.json": b'{"name": "a", "version": "1.0.0", "images": [], "categories": ["x"]}',
    "settings.json": b"[]",
    "model.onnx": b"\x08\x07\x12\x07pytorch",
    "docker-compose.yml": b"services:\n  train:\n    image: x\n",
    "label_map.pbtxt": b"item {\n  id: 1\n  name: 'x'\n}\n",
    "pom.xml": b"<project><name>x</name></project>\n",
    "backup.zip": b"PK\x05\x06" + bytes(18),
}
"""Files that are no data."""

SWAPPABLE = {"pascal_voc", "csv", "cvat", "kitti", "folders", "map_files"}
"""Formats in which the order of the corners means something, so they can be swapped."""
LISTED = {name for name, layout in LAYOUTS.items() if layout.format in ("csv", "json")} | {
    "cub",
    "mot",
    "via_csv",
    "via_3_csv",
    "vott",
}
"""Layouts that list objects, so they have no images without one."""
TRAIN_AND_TEST = {"cub", "csv_automl", "folders", "imglab", "kitti", "map_files", "yolo_darknet"}
"""Layouts that have no val."""
OF_FRAMES = {"mot", "ua_detrac"}
"""Layouts that number the images; of two folders, the one with the most images is the sequence."""
ONLY_LETTERS = {"csv_kaggle", "kitti", "mot", "text_dota", "text_keras", "text_list_of_spaces"}
"""Layouts in which the name of a class has no spaces, or a number is something else."""
FOLDERS_OF_SPLITS = {
    *("voc_split_folders", "voc_split_suffixes", "voc_split_subfolders", "coco", "coco_split_folders"),
    *(
        "coco_other_keys",
        "yolo",
        "yolo_split_folders",
        "yolo_yaml_elsewhere",
        "csv_split_folders",
        "via",
        "via_csv",
        "via_3_csv",
    ),
    *(
        "csv_open_images",
        "labelme_apart",
        "createml",
        "kitti",
        "mot",
        "ua_detrac",
        "supervisely",
        "folders",
        "map_files",
    ),
}
"""Layouts in which two splits may have images of the same name."""

CLASS_NAMES = ("cat", "dog", "traffic light", "Käse", "酸奶", "O'Brien", "7", "a&b")
STEMS = ("1", "10", "a 1", "b-2", "ü", "酸", "x%20y", "v1.2", "IMG_0001", "cat", "photo (2)", "a,b", "100%")

NUMBERS = ("2", "0003", "44", "567", "12", "25", "6", "1234", "78", "9999", "15", "803")


class Damage(NamedTuple):
    """Of one box: what the file says, what is right, and what is reported."""

    bad: Box
    good: Box | None
    """None: the object is left out."""
    kinds: tuple[ProblemKind, ...]


def beyond(photo: Photo, by: float) -> Damage:
    """A pixel or two outside."""
    return Damage((10, 12, photo.width + by, 20), (10, 12, photo.width, 20), (ProblemKind.OUTSIDE,))


def before(photo: Photo, by: float) -> Damage:
    return Damage((-by, 12, 9, 20), (0, 12, 9, 20), (ProblemKind.OUTSIDE,))


def swapped(photo: Photo, by: float) -> Damage:
    return Damage((22, 12, 10, 20), (10, 12, 22, 20), (ProblemKind.SWAPPED_CORNERS,))


def swapped_and_beyond(photo: Photo, by: float) -> Damage:
    bad = photo.width + by, photo.height + by, 10, 12
    return Damage(bad, (10, 12, photo.width, photo.height), (ProblemKind.SWAPPED_CORNERS, ProblemKind.OUTSIDE))


def half_inside(photo: Photo, by: float) -> Damage:
    bottom = photo.height + 13 + by
    return Damage(
        (10, photo.height - 20, 20, bottom), (10, photo.height - 20, 20, photo.height), beyond(photo, by).kinds
    )


def mostly_outside(photo: Photo, by: float) -> Damage:
    return Damage((10, photo.height - 4, 20, photo.height + 13 + by), None, (ProblemKind.OUTSIDE,))


def far_away(photo: Photo, by: float) -> Damage:
    return Damage((photo.width + 20, 12, photo.width + 40, 20), None, (ProblemKind.OUTSIDE,))


def without_area(photo: Photo, by: float) -> Damage:
    return Damage((10, 12, 10, 20), None, (ProblemKind.WITHOUT_AREA,))


BOX_DAMAGE: tuple[Callable[[Photo, float], Damage], ...] = (
    *(beyond, before, swapped, swapped_and_beyond, half_inside, mostly_outside, far_away, without_area),
)
IMAGE_DAMAGE = {
    "missing": ("left out", ProblemKind.MISSING_IMAGE),
    "broken": ("left out", ProblemKind.UNREADABLE_IMAGE),
    "truncated": ("repaired", ProblemKind.TRUNCATED_IMAGE),
    "renamed": None,
}
"""What is reported."""


class Planted(NamedTuple):
    written: Splits
    expected: Splits
    problems: Counter[tuple[str, str, str]]
    """How often (level, kind, stem of the image)."""
    lost_objects: int
    lost_images: int
    images: dict[str, tuple[str, ...]]
    """By the kind of damage, the names of the images that have it."""


@st.composite
def photos(draw: st.DrawFn, layout: str, name: str, class_names: tuple[str, ...]) -> Photo:
    width, height = draw(st.integers(34, 60)), draw(st.integers(34, 60))
    whole = layout == "csv_retinanet"

    def side(low: int, high: int) -> float:
        return draw(st.integers(low, high)) if whole else draw(st.integers(2 * low, 2 * high)) / 2

    def box() -> Box:
        x1, y1 = side(0, width - 8), side(0, height - 8)
        return x1, y1, side(int(x1) + 4, width), side(int(y1) + 4, height)

    count = draw(st.integers(layout in LISTED, 3))
    return Photo(name, width, height, tuple((draw(st.sampled_from(class_names)), box()) for _ in range(count)))


@st.composite
def data_sets(draw: st.DrawFn, layout: str) -> Splits:
    """At most eight images in up to three splits."""
    more = ("test",) if layout in TRAIN_AND_TEST else ("val", "test")
    splits = ("train", *draw(st.sets(st.sampled_from(more)).map(sorted)))
    class_names = [name for name in CLASS_NAMES if name.isalpha() or layout not in ONLY_LETTERS]
    names = tuple(draw(st.lists(st.sampled_from(class_names), min_size=1, max_size=3, unique=True)))
    suffixes = st.sampled_from((".jpg", ".png", ".JPG", ".jpeg"))
    free, data = [stem for stem in STEMS + NUMBERS if stem.isdecimal() or layout not in OF_FRAMES], {}
    for split in splits:
        stems = draw(st.lists(st.sampled_from(free), min_size=1, max_size=4, unique=True))
        if layout not in FOLDERS_OF_SPLITS:
            free = [stem for stem in free if stem not in stems]
        data[split] = tuple(draw(photos(layout, stem + draw(suffixes), names)) for stem in stems)
        if not any(photo.objects for photo in data[split]):  # empty files tell no format
            first, *others = data[split]
            data[split] = (first._replace(objects=((names[0], (1, 2, 30, 31)),)), *others)
    if layout == "csv_corners_in_one_cell":  # a box that is too large to be x, y, width, height
        first, *others = data["train"]
        large = names[0], (20, 20, first.width, first.height)
        data["train"] = (first._replace(objects=(*first.objects, large)), *others)
    return data


@st.composite
def plans(draw: st.DrawFn, layout: str) -> Planted:
    """A data set, and damage for some of its boxes and images."""
    form = LAYOUTS[layout].format
    allowed = [
        make
        for make in BOX_DAMAGE
        # A box of Pascal VOC that begins before the image looks as if pixels were counted from 0.
        if (form in SWAPPABLE or make not in (swapped, swapped_and_beyond))
        and (form != "pascal_voc" or make is not before)
        # Corners that are not in order look like x, y, width, height.
        and (layout != "csv_corners_in_one_cell" or make not in (swapped, swapped_and_beyond, without_area))
        # Four digits of a fraction make an area; fractions without a header are known by most of the boxes.
        and (layout != "json_fiftyone" or make is not without_area)
        and (layout != "json_azure" or make is without_area)
    ]
    data = draw(data_sets(layout))
    count = Counter(photo.name for photo in all_photos(data))
    # Each split keeps its first image, so that none is without images.
    unique = [photo.name for of_split in data.values() for photo in of_split[1:] if count[photo.name] == 1]
    kinds = (
        draw(st.dictionaries(st.sampled_from(unique), st.sampled_from(sorted(IMAGE_DAMAGE)), max_size=2))
        if unique
        else {}
    )
    problems: Counter[tuple[str, str, str]] = Counter()
    written: dict[str, list[Photo]] = {}
    expected: dict[str, list[Photo]] = {}
    lost_objects = lost_images = 0
    for split, of_split in data.items():
        for photo in of_split:
            kind = kinds.get(photo.name)
            if kind == "truncated" and photo.name.endswith(".png"):
                kind = kinds[photo.name] = "broken"
            bad, good = list(photo.objects), list(photo.objects)
            if kind == "missing" and form == "yolo" and not photo.objects:
                kind = kinds[photo.name] = "renamed"  # an empty file without an image says nothing
            damages = draw(st.lists(st.sampled_from(allowed), max_size=2)) if photo.objects else []
            for make in damages:
                damage = make(photo, draw(st.integers(1, 2)))
                name = photo.objects[0][0]
                bad.append((name, damage.bad))
                if damage.good is not None:
                    good.append((name, damage.good))
                elif kind not in ("missing", "broken"):
                    lost_objects += 1
                if kind not in ("missing", "broken"):
                    for number, each in enumerate(damage.kinds):
                        is_last = number == len(damage.kinds) - 1
                        level = "left out" if damage.good is None and is_last else "repaired"
                        problems[level, each, photo.stem] += 1
            written.setdefault(split, []).append(photo._replace(objects=tuple(bad)))
            expected.setdefault(split, [])
            if kind in ("missing", "broken"):
                lost_images += 1
                lost_objects += len(bad)
            else:
                expected[split].append(photo._replace(objects=tuple(good)))
            if kind is not None and IMAGE_DAMAGE[kind] is not None:
                problems[*IMAGE_DAMAGE[kind], photo.stem] += 1
    by_kind = {kind: tuple(name for name in kinds if kinds[name] == kind) for kind in IMAGE_DAMAGE}
    return Planted(
        {split: tuple(each) for split, each in written.items()},
        {split: tuple(each) for split, each in expected.items()},
        problems,
        lost_objects,
        lost_images,
        by_kind,
    )


def spoil(folder: Path, images: dict[str, tuple[str, ...]]) -> None:
    files = {file.name: file for file in folder.rglob("*")}
    for name in images["missing"]:
        files[name].unlink()
    for name in images["broken"]:
        files[name].write_bytes(b"hello")
    for name in images["truncated"]:
        files[name].write_bytes(files[name].read_bytes()[:-12])
    for name in images["renamed"]:  # another format than the suffix says
        other = "PNG" if not name.endswith(".png") else "WEBP"
        with Image.open(files[name]) as image:
            image.load()
        image.save(files[name], format=other)


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=EXAMPLES)
@given(draw=st.data(), junk=st.sets(st.sampled_from(sorted(JUNK)), max_size=8))
def test_planted_damage_is_reported(
    name: str, draw: st.DataObject, junk: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    layout, folder = LAYOUTS[name], tmp_path_factory.mktemp("damage")
    planted = draw.draw(plans(name))
    layout.write(folder, planted.written)
    spoil(folder, planted.images)
    for path in junk:
        if not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(JUNK[path])

    dataset = Dataset(folder, DataSettings(force=True))
    assert dataset.discovery.format == layout.format
    expected = dict(planted.expected)
    if not layout.has_splits:
        expected = {"train": tuple(all_photos(expected))}
    elif "test" not in expected and "val" in expected:
        expected["test"] = expected.pop("val")
    for split in SPLITS:
        read = {record.image.name: record for record in dataset.records(split)}
        assert set(read) == {photo.name for photo in expected.get(split, ())}
        for photo in expected.get(split, ()):
            assert list(read[photo.name].class_names) == [name for name, _ in photo.objects]
            boxes = np.array([box for _, box in photo.objects]).reshape(-1, 4)
            np.testing.assert_allclose(read[photo.name].boxes, boxes, atol=1e-2)
    told = [problem for problem in dataset.problems if problem.level != "warning" and "point" not in problem.message]
    stems = {photo.stem for photo in all_photos(planted.written)}
    assert Counter(map(partial(key, stems=stems), told)) == planted.problems
    assert sum(problem.objects for problem in told) == planted.lost_objects
    assert sum(problem.images for problem in told) == planted.lost_images


def key(problem: Problem, stems: Collection[str]) -> tuple[str, str, str]:
    """The level, the kind, and the image; a missing one is only named."""
    stem = problem.path.stem
    if stem not in stems:
        message = re.sub(r"; \d+ images? (is|are) in .*", "", problem.message)
        message += " " + unquote(message)
        longest = sorted(stems, key=len, reverse=True)
        stem = next((each for each in longest if re.search(rf"(?<!\w){re.escape(each)}(?!\w)", message)), stem)
    return problem.level, problem.kind, stem


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_and_a_broken_image_are_left_out(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    splits = {
        "train": tuple(Photo(f"t{number}.jpg", 40, 40, (("cat", (2, 3, 20, 30)),)) for number in range(30)),
        "test": (Photo("e1.jpg", 40, 40, (("cat", (2, 3, 20, 30)),)),),
    }
    layout.write(tmp_path, splits)
    images = {path.name: path for path in tmp_path.rglob("*.jpg")}
    images["t3.jpg"].unlink()
    images["t4.jpg"].write_bytes(b"hello")
    dataset = Dataset(tmp_path, DataSettings())
    names = {record.image.name for split in SPLITS for record in dataset.records(split)}
    assert names == {photo.name for photo in all_photos(splits)} - {"t3.jpg", "t4.jpg"}
    lost = [problem for problem in dataset.problems if problem.images]
    assert len(lost) == 2
    assert {problem.level for problem in lost} == {"left out"}
    missing = "frame 3" if name in OF_FRAMES else "t3"
    assert any(missing in str(problem) for problem in lost)
    assert any("t4" in str(problem) for problem in lost)


@pytest.mark.parametrize(
    "name", [name for name in LAYOUTS if not name.startswith(("yolo", "folders")) and name not in OF_FRAMES]
)
def test_two_candidates_for_an_image_stop_and_are_named(name: str, tmp_path: Path) -> None:
    """Both copies are in folders that no rule prefers. YOLO's labels and
    CNTK's folders belong to the image at their own place only."""
    splits = {
        "train": tuple(Photo(f"t{number}.jpg", 40, 40, (("cat", (2, 3, 20, 30)),)) for number in range(12)),
        "test": (Photo("e1.jpg", 40, 40, (("cat", (2, 3, 20, 30)),)),),
    }
    LAYOUTS[name].write(tmp_path, splits)
    (image,) = tmp_path.rglob("t3.jpg")
    content = image.read_bytes()
    image.unlink()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t3.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"may be one/t3\.jpg or two/t3\.jpg; remove one of them"):
        Dataset(tmp_path, DataSettings()).verify()
