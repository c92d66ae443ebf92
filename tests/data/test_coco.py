"""COCO and its dialects."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.layouts import LAYOUTS, TOY, all_photos, classes, coco_content, put_json
from data.reading import read_folder
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask
from tiny import draw_image

from frcnn.config import DataSettings
from frcnn.data.discover import discover
from frcnn.data.formats import coco
from frcnn.data.formats.masks import around
from frcnn.data.formats.source import Source
from frcnn.data.problems import Problem, ProblemKind
from frcnn.data.records import Annotation, Records
from frcnn.data.tree import Tree

Content = dict[str, Any]


def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> Content:
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": 7, "iscrowd": 0, **more}


def content(**changes: Any) -> Content:
    return {
        "info": {"year": 2020},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 128, "height": 96} for i in (1, 2)],
        "annotations": [
            annotation(1, 1, 7, [10, 20, 30, 40]),
            annotation(2, 2, 3, [1.5, 2.5, 10, 10]),
            annotation(3, 1, 3, [0, 0, 128, 96], iscrowd=1),
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        **changes,
    }


def put(file: Path, text: Content | str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    return file


def put_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("1.png", "2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image([]).save(folder / name)


def objects(records: Records) -> list[tuple[str, list[tuple[str, list[float], bool]]]]:
    """The class, box and ignore of each object, by image."""
    return [(r.image.name, list(zip(r.class_names, r.boxes.tolist(), r.ignore.tolist(), strict=True))) for r in records]


EXPECTED = [
    ("1.png", [("dog", [10, 20, 40, 60], False), ("cat", [0, 0, 128, 96], True)]),
    ("2.png", [("cat", [1.5, 2.5, 11.5, 12.5], False)]),
]


def read_one(folder: Path, split: str = "train") -> tuple[Records, list[Problem]]:
    splits, problems = read_folder(folder)
    assert list(splits) == [split]
    return splits[split], problems


@pytest.mark.parametrize(
    ("split", "file", "images"),
    [
        ("train2017", "annotations/instances_train2017.json", "train2017"),
        ("train", "annotations/instances_train.json", "images/train"),
        ("train", "annotations/train.json", "images"),
        ("valid", "valid/_annotations.coco.json", "valid"),
        ("train", "train/annotations.json", "train/images"),
        ("all", "labels.json", "data"),
        ("all", "annotations/instances_default.json", "images/default"),
        ("all", "result.json", "images"),
        ("all", "deep/in/the/tree/x.json", "elsewhere"),
    ],
)
def test_layouts(split: str, file: str, images: str, tmp_path: Path) -> None:
    put_images(tmp_path / images)
    put(tmp_path / file, content())
    records, problems = read_one(tmp_path, split)
    assert (objects(records), problems) == (EXPECTED, [])
    assert records[0].image.parent == tmp_path / images
    assert records[0].size == (96, 128)


def changed(list_name: str, change: Callable[[Content], Content]) -> Content:
    return content(**{list_name: [change(one) for one in content()[list_name]]})


def without(*keys: str) -> Callable[[Content], Content]:
    return lambda one: {key: value for key, value in one.items() if key not in keys}


def with_polygon(one: Content) -> Content:
    x, y, w, h = one["bbox"]
    return without("bbox")(one) | {"segmentation": [[x, y, x + w, y, x + w, y + h], [x, y + h, x + 1, y + 1, x, y]]}


def with_flat_polygon(one: Content) -> Content:
    return with_polygon(one) | {"segmentation": [*chain(*with_polygon(one)["segmentation"])]}


DIALECTS = {
    "image ids as text": changed("annotations", lambda one: one | {"image_id": str(one["image_id"])}),
    "ids as floats": changed("annotations", lambda one: one | {"image_id": float(one["image_id"])}),
    "ids as floats in text": changed("annotations", lambda one: one | {"category_id": f"{one['category_id']}.0"}),
    "text ids of images": changed("images", lambda one: one | {"id": str(one["id"])}),
    "text ids of classes": changed("categories", lambda one: one | {"id": str(one["id"])}),
    "no ids": changed("annotations", without("id", "area")),
    "numbers as text": changed("annotations", lambda one: one | {"bbox": [str(side) for side in one["bbox"]]}),
    "polygons only": changed("annotations", with_polygon),
    "flat polygons": changed("annotations", with_flat_polygon),
    "polygons and null": changed("annotations", lambda one: with_polygon(one) | {"bbox": None}),
    "crowds as text": changed("annotations", lambda one: one | {"iscrowd": str(one["iscrowd"])}),
    "filename": changed("images", lambda one: without("file_name")(one) | {"filename": one["file_name"]}),
    "no sizes": changed("images", without("width", "height")),
    "sizes of 0": changed("images", lambda one: one | {"width": 0, "height": 0}),
    "sizes as text": changed("images", lambda one: one | {"width": "128", "height": "96.0"}),
    "no size": changed("images", lambda one: one | {"width": 128.0, "height": None}),
    "Windows": changed("images", lambda one: one | {"file_name": "images\\" + one["file_name"]}),
    "another computer": changed("images", lambda one: one | {"file_name": "/content/x/" + one["file_name"]}),
    "NaN": changed("annotations", lambda one: one | {"area": float("nan")}),
    "annotation": without("annotations")(content()) | {"annotation": content()["annotations"]},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(dialect: str, tmp_path: Path) -> None:
    put_images(tmp_path / "images")
    put(tmp_path / "annotations" / "instances_train.json", DIALECTS[dialect])
    records, problems = read_one(tmp_path)
    assert (objects(records), problems) == (EXPECTED, [])
    assert records[0].size == (None if dialect in ("no sizes", "sizes of 0", "no size") else (96, 128))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    put_images(tmp_path)
    (tmp_path / "a.json").write_bytes(json.dumps(content(), indent=2).encode(encoding))
    assert objects(read_one(tmp_path, "all")[0]) == EXPECTED


@pytest.mark.parametrize("order", [("annotations", "categories", "images"), ("categories", "annotations", "images")])
def test_the_lists_may_come_in_any_order(order: tuple[str, ...], tmp_path: Path) -> None:
    put_images(tmp_path)
    many = [annotation(n, 1, 7, [1, 2, 3, 4]) for n in range(200)]  # longer than the start that tells the format
    put(tmp_path / "a.json", {key: content(annotations=many)[key] for key in order})
    assert read_one(tmp_path, "all")[0].class_counts == {"dog": 200}


@pytest.mark.parametrize("box", [[], [None] * 4, [float("nan")] * 4])
def test_an_empty_box_marks_an_image_without_objects(box: list[None], tmp_path: Path) -> None:
    put_images(tmp_path, "1.png", "2.png")
    empty = {"id": 9, "image_id": 2, "bbox": box, "category_id": 0, "segmentation": []}
    put(tmp_path / "train.json", content(annotations=[annotation(1, 1, 7, [1, 2, 3, 4]), empty]))
    records, problems = read_one(tmp_path)
    assert objects(records) == [("1.png", [("dog", [1, 2, 4, 6], False)]), ("2.png", [])]
    assert problems == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (annotation(9, 5, 3, [0, 0, 1, 1]), "annotation 9: there is no image 5"),
        (annotation(9, 1, 8, [0, 0, 1, 1]), "annotation 9: there is no category 8"),
        (annotation(9, 1, 3, [0, 0, 1]), "annotation 9: bbox [0, 0, 1] must be four numbers: x, y, width, height"),
        (annotation(9, 1, 3, ["a", 0, 1, 2]), "bbox ['a', 0, 1, 2] must be four numbers"),  # type: ignore[list-item]
        ({"image_id": 1, "category_id": 3, "bbox": {"x": 1}}, "annotation 2: bbox {'x': 1} must be four numbers"),
        ({"image_id": 1, "category_id": 3}, "annotation 2: bbox None must be four numbers"),
        ({"image_id": 1, "category_id": 3, "segmentation": {"size": [2, 2], "counts": "x"}}, "must be four numbers"),
    ],
)
def test_a_wrong_annotation_is_left_out(wrong: Content, message: str, tmp_path: Path) -> None:
    put_images(tmp_path)
    put(tmp_path / "train.json", content(annotations=[annotation(1, 1, 7, [1, 2, 3, 4]), wrong]))
    records, (problem,) = read_one(tmp_path)
    assert records.class_counts == {"dog": 1}
    assert message in str(problem)
    assert (problem.level, problem.objects, problem.images) == ("left out", 1, 0)


def test_boxes_come_out_as_they_are(tmp_path: Path) -> None:
    put_images(tmp_path)
    boxes = [[100, 90, 29, 6], [-3, 5, 10, 10], [30, 30, -10, -5], [5, 5, 0, 0]]
    put(tmp_path / "train.json", content(annotations=[annotation(n, 1, 7, box) for n, box in enumerate(boxes)]))
    records, problems = read_one(tmp_path)
    np.testing.assert_array_equal(
        records[0].boxes, [[100, 90, 129, 96], [-3, 5, 7, 15], [30, 30, 20, 25], [5, 5, 5, 5]]
    )
    assert problems == []


def test_a_missing_image_is_left_out(tmp_path: Path) -> None:
    put_images(tmp_path, "2.png")
    put(tmp_path / "train.json", content())
    records, (problem,) = read_one(tmp_path)
    assert objects(records) == EXPECTED[1:]
    assert "image 1: there is no image 1.png" in str(problem)
    assert (problem.level, problem.objects, problem.images) == ("left out", 2, 1)


@pytest.mark.parametrize("sizes", [{}, {"width": 0, "height": 0}])
def test_boxes_in_fractions_become_pixels(sizes: dict[str, int], tmp_path: Path) -> None:
    """As Azure exports them."""
    put_images(tmp_path)
    scaled = [
        one | {"bbox": [side / size for side, size in zip(one["bbox"], (128, 96) * 2, strict=True)]}
        for one in content()["annotations"]
    ]
    put(tmp_path / "train.json", content(images=[o | sizes for o in content()["images"]], annotations=scaled))
    records, (problem,) = read_one(tmp_path)
    assert objects(records) == EXPECTED
    assert (problem.level, problem.kind) == ("repaired", "boxes in fractions")
    tree, (source,) = opened(tmp_path)
    with pytest.raises(ValueError, match=r"train\.json: boxes are fractions, not pixels; edit a copy"):
        list(coco.images(source, tree))


def test_fractions_are_known_though_a_box_leaves_the_image(tmp_path: Path) -> None:
    put_images(tmp_path)
    put(tmp_path / "train.json", content(annotations=[annotation(1, 1, 7, [0.5, 0.25, 0.5625, 0.5])]))
    records, (problem,) = read_one(tmp_path)
    assert (records[0].boxes.tolist(), problem.kind) == ([[64, 24, 136, 72]], "boxes in fractions")


def test_a_box_of_one_pixel_is_no_fraction(tmp_path: Path) -> None:
    put_images(tmp_path)
    put(tmp_path / "train.json", content(annotations=[annotation(1, 1, 7, [0, 0, 1, 1])]))
    records, problems = read_one(tmp_path)
    assert (records[0].boxes.tolist(), problems) == ([[0, 0, 1, 1]], [])


@pytest.mark.parametrize("mark", [1, "1", True])
def test_ignored_objects(mark: object, tmp_path: Path) -> None:
    """COCO files of Pascal VOC have "ignore" for difficult objects."""
    put_images(tmp_path)
    file = put(tmp_path / "train.json", changed("annotations", lambda one: one | {"iscrowd": 0, "ignore": mark}))
    assert [record.ignore.tolist() for record in read_one(tmp_path)[0]] == [[True, True], [True]]
    tree, (source,) = opened(tmp_path)
    (one,) = coco.read_image(source, tmp_path / "2.png", tree) or []
    assert one.ignore
    coco.write_image(source, tmp_path / "2.png", [one._replace(ignore=False)], tree)
    assert [record.ignore.tolist() for record in read_one(tmp_path)[0]] == [[True, True], [False]]
    put(file, changed("annotations", lambda one: one | {"iscrowd": 0, "ignore": 0}))
    assert not any(record.ignore.any() for record in read_one(tmp_path)[0])


def test_two_classes_of_one_name_are_one(tmp_path: Path) -> None:
    put_images(tmp_path)
    put(tmp_path / "train.json", content(categories=[{"id": 7, "name": "cat"}, {"id": 3, "name": "cat"}]))
    assert read_one(tmp_path)[0].class_counts == {"cat": 3}


# --------------------------------------------------------------------------------------------------- several files


def test_files_of_splits(tmp_path: Path) -> None:
    put_images(tmp_path / "train", "1.png", "2.png")
    put_images(tmp_path / "val", "1.png", "2.png")
    put(tmp_path / "annotations" / "train.json", content())
    put(tmp_path / "annotations" / "val.json", content(annotations=[]))
    splits, problems = read_folder(tmp_path)
    assert {split: {r.image.parent.name for r in records} for split, records in splits.items()} == {
        "train": {"train"},
        "val": {"val"},
    }
    assert problems == []


def test_files_of_no_split_are_merged(tmp_path: Path) -> None:
    put_images(tmp_path / "images", "1.png", "2.png", "3.png")
    put(tmp_path / "task_a.json", content())
    other = content(
        images=[{"id": 1, "file_name": "3.png"}],
        categories=[{"id": 1, "name": "bird"}, {"id": 2, "name": "dog"}],
        annotations=[annotation(1, 1, n, [1, 2, 3, 4]) for n in (1, 2)],
    )
    put(tmp_path / "task_b.json", other)
    records, problems = read_one(tmp_path, "all")
    assert objects(records) == [*EXPECTED, ("3.png", [(name, [1, 2, 4, 6], False) for name in ("bird", "dog")])]
    assert problems == []


def test_an_image_that_is_listed_twice_is_one_error(tmp_path: Path) -> None:
    put_images(tmp_path / "images")
    first, second = put(tmp_path / "a.json", content()), put(tmp_path / "b.json", content())
    (problem,) = read_one(tmp_path, "all")[1]
    assert problem.level == "error"
    assert str(problem).startswith(f"{second}: 1.png (id 1) is also image 1 of {first}; list each image once")
    assert str(problem).endswith("(2 images of this file)")
    second.unlink()
    again = [*content()["images"], {"id": 5, "file_name": "./images/1.png"}]
    put(first, content(images=again))
    (problem,) = read_one(tmp_path, "all")[1]
    assert str(problem).startswith(f"{first}: ./images/1.png (id 5) is also image 1 of {first}")
    assert problem.level == "error"


def test_images_with_one_id_are_one_error(tmp_path: Path) -> None:
    put_images(tmp_path)
    images = [one | {"id": 1} for one in content()["images"]]
    file = put(tmp_path / "train.json", content(images=images, annotations=[annotation(1, 1, 7, [1, 2, 3, 4])]))
    (problem,) = read_one(tmp_path)[1]
    assert str(problem) == f"{file}: image id 1 appears twice: 1.png and 2.png; give every image its own"
    assert problem.level == "error"


def test_categories_with_one_id_are_an_error(tmp_path: Path) -> None:
    put_images(tmp_path)
    categories = [*content()["categories"], {"id": "7", "name": "cow"}, {"id": 3, "name": "cat"}]
    file = put(tmp_path / "train.json", content(categories=categories))
    (problem,) = read_one(tmp_path)[1]
    assert str(problem) == f"{file}: category id 7 appears twice: dog and cow; give every category its own"
    assert problem.level == "error"


def test_folders_of_images_tell_the_splits_of_one_file(tmp_path: Path) -> None:
    """A test image must not be trained on."""
    names = ("train/1.png", "test/2.png", "test/3.png")
    put_images(tmp_path / "images", *names)
    images = [{"id": number, "file_name": Path(name).name} for number, name in enumerate(names, start=1)]
    gone = {"id": 9, "file_name": "gone.png"}
    wrong = annotation(9, 2, 99, [1, 2, 3, 4])
    annotations = [*content()["annotations"], wrong]
    file = put(tmp_path / "labels.json", content(images=[*images, gone], annotations=annotations))
    splits, problems = read_folder(tmp_path)
    assert {split: objects(records) for split, records in splits.items()} == {
        "train": EXPECTED[:1],
        "test": [EXPECTED[1], ("3.png", [])],
    }
    assert [(str(problem.kind), problem.place) for problem in problems] == [
        ("missing image", "image 9"),  # of the first split
        ("unknown class", "annotation 9"),
    ]

    put_images(tmp_path / "images/test", "new.png")
    tree, sources = opened(tmp_path)
    listed = {
        source.split: [tree.relative(image).as_posix() for image in coco.images(source, tree)] for source in sources
    }
    in_test = [f"images/test/{name}.png" for name in ("2", "3", "new")]
    assert listed == {"train": ["images/train/1.png"], "test": in_test}
    _, test = sources
    new = tmp_path / "images/test/new.png"
    coco.write_image(test, new, [Annotation((5, 6, 7, 8), "dog")], tree)
    assert [one.name for one in coco.read_image(test, new, tree) or []] == ["dog"]
    assert len(json.loads(file.read_text())["images"]) == 5
    assert [record.image.name for record in read_folder(tmp_path)[0]["test"]] == ["2.png", "3.png", "new.png"]


def test_files_without_annotations_are_told_once(tmp_path: Path) -> None:
    put_images(tmp_path / "images", "1.png", "2.png", "3.png")
    put(tmp_path / "annotations" / "instances_train.json", content())
    put(tmp_path / "annotations" / "image_info_test.json", without("annotations")(content()))
    found = discover(tmp_path, DataSettings())
    assert found.splits == ["train"]
    assert found.notes == ["COCO files without labels of objects (1)"]
    assert objects(read_one(tmp_path)[0]) == EXPECTED


def test_captions_and_key_points_are_about_the_same_images(tmp_path: Path) -> None:
    put_images(tmp_path / "train2017")
    for name in ("instances", "captions", "person_keypoints", "stuff"):
        put(tmp_path / "annotations" / f"{name}_train2017.json", content())
    records, problems = read_one(tmp_path, "train2017")
    assert (objects(records), problems) == (EXPECTED, [])
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    (tmp_path / "annotations" / "captions_train2017.json").unlink()
    (tmp_path / "annotations" / "stuff_train2017.json").unlink()
    assert objects(read_one(tmp_path, "train2017")[0]) == EXPECTED


def test_damaged_files_are_named(tmp_path: Path) -> None:
    put_images(tmp_path)
    text = json.dumps(content())
    for broken, message in (
        (text[:-2], r"train\.json, line 1, column \d+: not a JSON file \(.*'.+ \"cat\"\}'$"),
        (text.replace('"id": 1, "file_name"', '"file_name"'), r"train\.json: not COCO's format, .*`id`"),
    ):
        put(tmp_path / "train.json", broken)
        with pytest.raises(ValueError, match=message):
            read_folder(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
        [{"image": "1.png", "detections": []}],
        {"images": [{"image": "1.png", "detections": []}]},
        {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "a cat"}]},
        {"info": {}, "map": 0.5, "categories": ["cat"]},
        {"shapes": [], "imagePath": "1.png"},
    ],
)
def test_other_json_files_are_not_coco(other: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(other))
    assert not coco.recognizes(file, Tree(tmp_path).start(file))


# -------------------------------------------------------------------------------------------------------- in place


def opened(folder: Path) -> tuple[Tree, list[Source]]:
    found = discover(folder, DataSettings())
    return found.tree, found.sources


def test_every_image_belongs_to_one_split(tmp_path: Path) -> None:
    put_images(tmp_path / "images", "1.png", "2.png", "3.png", "4.png", "new.png")
    put_images(tmp_path / "val", "5.png", "new.png")
    put(tmp_path / "val.json", content(images=[{"id": 1, "file_name": f"{n}.png"} for n in (3, 5)]))
    put(tmp_path / "train.json", content())
    tree, sources = opened(tmp_path)
    found = {
        source.split: [tree.relative(image).as_posix() for image in coco.images(source, tree)] for source in sources
    }
    assert found == {
        "train": ["images/1.png", "images/2.png", "images/4.png", "images/new.png"],
        "val": ["images/3.png", "val/5.png", "val/new.png"],
    }
    assert coco.class_names(sources, tree) == ["dog", "cat"]


def test_files_without_images_take_all(tmp_path: Path) -> None:
    put_images(tmp_path / "images")
    put(tmp_path / "train.json", content(images=[], annotations=[]))
    tree, (source,) = opened(tmp_path)
    first, _ = coco.images(source, tree)
    assert coco.read_image(source, first, tree) is None
    coco.write_image(source, first, [Annotation((1, 2, 30, 40), "bird")], tree)
    records, problems = read_one(tmp_path)
    assert (objects(records), problems) == ([("1.png", [("bird", [1, 2, 30, 40], False)])], [])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_edited_in_place(dialect: str, tmp_path: Path) -> None:
    """The fields and keys of the file stay, and what is edited is read again."""
    put_images(tmp_path / "images", "1.png", "2.png", "new.png")
    file = put(tmp_path / "train.json", DIALECTS[dialect])
    tree, (source,) = opened(tmp_path)
    first, second, new = coco.images(source, tree)
    dog, cat = coco.read_image(source, first, tree) or []
    assert [dog[:3], cat[:3]] == [((10, 20, 40, 60), "dog", False), ((0, 0, 128, 96), "cat", True)]
    moved = dog._replace(box=(11, 21, 31, 41))
    coco.write_image(source, first, [cat, moved, Annotation((1, 2, 3, 4), "bird")], tree)
    coco.write_image(source, new, [Annotation((5, 6, 7, 8), "dog", True)], tree)
    coco.write_image(source, second, None, tree)
    records, problems = read_one(tmp_path)
    assert problems == []
    assert objects(records) == [
        ("1.png", [("cat", [0, 0, 128, 96], True), ("dog", [11, 21, 31, 41], False), ("bird", [1, 2, 3, 4], False)]),
        ("new.png", [("dog", [5, 6, 7, 8], True)]),
    ]
    written = json.loads(file.read_text())
    assert set(written) == set(DIALECTS[dialect])
    assert ["segmentation" in one for one in written.get("annotations", written.get("annotation"))] == [
        "polygons" in dialect,
        *[False] * 3,
    ]
    assert all(("filename" in one) == (dialect == "filename") for one in written["images"])
    assert [one.get("area") for one in written.get("annotations", written.get("annotation"))][1:] == [400, 4, 4]


def test_sums_of_decimals_are_decimals(tmp_path: Path) -> None:
    put_images(tmp_path)
    put(tmp_path / "train.json", content(annotations=[annotation(1, 1, 7, [0.1, 10.1, 0.2, 10.2])]))
    tree, (source,) = opened(tmp_path)
    (one,) = coco.read_image(source, tmp_path / "1.png", tree) or []
    assert one.box == (0.1, 10.1, 0.3, 20.3)


def test_what_cannot_be_read_is_kept(tmp_path: Path) -> None:
    put_images(tmp_path)
    wrong = [annotation(8, 1, 99, [1, 2, 3, 4]), annotation(9, 1, 7, [1, 2])]
    file = put(tmp_path / "train.json", content(annotations=[*content()["annotations"], *wrong]))
    tree, (source,) = opened(tmp_path)
    first, _ = coco.images(source, tree)
    coco.write_image(source, first, [], tree)
    assert json.loads(file.read_text())["annotations"] == [content()["annotations"][1], *wrong]


def test_an_image_that_is_listed_twice_is_not_edited(tmp_path: Path) -> None:
    put_images(tmp_path / "images")
    put(tmp_path / "train.json", content())
    put(tmp_path / "val.json", content())
    tree, (source, _) = opened(tmp_path)
    with pytest.raises(ValueError, match=r"1\.png: is listed in .*\.json and in .*\.json; one list must have it"):
        coco.read_image(source, tmp_path / "images" / "1.png", tree)


# ---------------------------------------------------------------------------------------------------------- masks


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_the_box_around_a_mask_is_that_of_pycocotools(seed: int, height: int, width: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width), np.uint8)
    y, x = rng.integers(0, height), rng.integers(0, width)
    pixels[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = 1
    pixels &= rng.random((height, width)) < density
    encoded = mask.encode(np.asfortranarray(pixels))
    text = encoded["counts"].decode()
    flat = pixels.T.ravel()
    lengths = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)])
    runs = [0] * int(flat[0]) + lengths.tolist()
    expected = None if not pixels.any() else tuple(mask.toBbox(encoded).tolist())
    for counts in (text, runs):
        assert around({"size": [height, width], "counts": counts}) == expected


@pytest.mark.parametrize("columns", [slice(0, 3), slice(1, 4), slice(0, 5)])
def test_runs_that_go_on_in_the_next_column(columns: slice) -> None:
    pixels = np.zeros((7, 5), np.uint8)
    pixels[:, columns] = 1
    pixels[0, columns.start] = 0
    encoded = mask.encode(np.asfortranarray(pixels))
    text = encoded["counts"].decode()
    assert around({"size": [7, 5], "counts": text}) == tuple(mask.toBbox(encoded).tolist())


def test_masks_give_boxes(tmp_path: Path) -> None:
    put_images(tmp_path)
    pixels = np.zeros((96, 128), np.uint8)
    pixels[20:60, 10:40] = 1
    encoded = mask.encode(np.asfortranarray(pixels))
    segmentation = {"size": [96, 128], "counts": encoded["counts"].decode()}
    put(
        tmp_path / "train.json",
        content(annotations=[{"image_id": 1, "category_id": 7, "segmentation": segmentation, "iscrowd": 1}]),
    )
    assert objects(read_one(tmp_path)[0])[0] == ("1.png", [("dog", [10, 20, 40, 60], True)])


def test_broken_masks_give_none() -> None:
    for counts in ("x", [1, 2], [5, -1, 0], [[1]], None, "0" * 10_000):
        assert around({"size": [2, 2], "counts": counts}) is None
    for segmentation in ({}, {"size": [2]}, [], [[]], [[1]], "a", [["a", "b"]], None):
        assert around(segmentation) is None


# ------------------------------------------------------------------------------------------------------ real photos


def test_hituav(shared: Path) -> None:
    """Keys "annotation" and "filename", category 0, images in sub-folders."""
    splits, problems = read_folder(shared / "datasets" / "hituav")
    counts = {split: (len(records), int(records.box_counts.sum())) for split, records in splits.items()}
    assert counts == {"val": (290, 2460), "test": (160, 1275)}
    assert problems == []


def test_a_file_of_other_images_is_left_aside(tmp_path: Path) -> None:
    """TACO's repository has a second file, whose images are downloaded apart."""
    LAYOUTS["coco_one_file"].write(tmp_path, TOY)
    names = classes(TOY)
    other = [photo._replace(name=f"other_{number}.jpg") for number, photo in enumerate(all_photos(TOY))]
    put_json(tmp_path / "unofficial.json", coco_content(other, names))
    splits, problems = read_folder(tmp_path)
    assert len(splits["all"]) == 3
    (problem,) = problems
    assert (problem.kind, problem.level, problem.objects) == (ProblemKind.MISSING_IMAGE, "warning", 0)
    assert "none of its 3 images is in the folder" in problem.message
