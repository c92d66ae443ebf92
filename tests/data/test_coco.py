"""COCO's layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import draw_image

from frcnn.config import merge
from frcnn.data.dataset import open_dataset, read_split

SETTINGS = merge().data


def annotation(image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    return {"id": 10 * image + category, "image_id": image, "category_id": category, "bbox": box, **more}


def write(folder: Path, name: str, *annotations: dict[str, Any], images: str | None = None, **changes: Any) -> None:
    place = folder / (name if images is None else images)
    for path in (place, folder / "annotations"):
        path.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        draw_image([]).save(place / f"{name}-{number}.png")
    content = {
        "images": [{"id": i, "file_name": f"{name}-{i}.png", "width": 128, "height": 96} for i in (1, 2)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": list(annotations),
        **changes,
    }
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train2017", annotation(1, 7, [10, 20, 30, 40]), annotation(1, 3, [0, 0, 128, 96], iscrowd=1))
    write(tmp_path, "val2017", annotation(2, 3, [1.5, 2.5, 10, 10]))
    return tmp_path


def test_boxes_classes_and_crowds(folder: Path) -> None:
    first, empty = read_split(folder, "train", SETTINGS)
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [0, 0, 128, 96]])
    assert first.names == ("dog", "cat")
    assert first.difficult.tolist() == [False, True]
    assert empty.boxes.shape == (0, 4)
    assert empty.image == folder / "train2017" / "train2017-2.png"


def test_it_opens_as_a_data_set(folder: Path) -> None:
    dataset = open_dataset(folder, SETTINGS)
    assert dataset.classes == ("cat", "dog")
    assert [record.image.name for record in dataset.test] == ["val2017-1.png", "val2017-2.png"]


@pytest.mark.parametrize("images", ["images/train2017", "images"])
def test_images_may_lie_elsewhere(tmp_path: Path, images: str) -> None:
    write(tmp_path, "train2017", annotation(1, 7, [10, 20, 30, 40]), images=images)
    assert read_split(tmp_path, "train", SETTINGS)[0].image == tmp_path / images / "train2017-1.png"


def test_sets_are_chosen(folder: Path) -> None:
    write(folder, "train2014")
    with pytest.raises(ValueError, match=r"several sets train2014, train2017; choose one with data\.train_set"):
        read_split(folder, "train", SETTINGS)
    assert read_split(folder, "train", SETTINGS.model_copy(update={"train_set": "train2014"}))
    with pytest.raises(ValueError, match=r"no set 'mine' \(data\.test_set\); its sets: train2014, train2017, val2017"):
        read_split(folder, "test", SETTINGS.model_copy(update={"test_set": "mine"}))
    (folder / "annotations" / "instances_val2017.json").unlink()
    assert not read_split(folder, "test", SETTINGS)


def test_rounding_at_the_border_is_forgiven_and_no_more(folder: Path) -> None:
    write(folder, "val2017", annotation(1, 3, [100, 90, 28.01, 6.01]))
    np.testing.assert_array_equal(read_split(folder, "test", SETTINGS)[0].boxes, [[100, 90, 128, 96]])
    write(folder, "val2017", annotation(1, 3, [100, 90, 29, 6]))
    with pytest.raises(ValueError, match=r"object 1 \('cat'\): box \(100, 90, 129, 96\) must lie inside the image"):
        read_split(folder, "test", SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (annotation(5, 3, [0, 0, 1, 1]), r"annotation 53: there is no image 5"),
        (annotation(1, 9, [0, 0, 1, 1]), r"annotation 19: there is no category 9"),
        (annotation(1, 3, [0, 0, 1]), r"annotation 13: bbox \[0, 0, 1\] must be four numbers: x, y, width, height"),
        (annotation(1, 3, ["a", 0, 1, 2]), r"bbox \['a', 0, 1, 2\] must be four numbers"),
        (annotation(1, 3, {"x": 1}), r"annotation 13: bbox \{'x': 1\} must be four numbers"),
        (annotation(1, 3, 7), "annotation 13: bbox 7 must be four numbers"),
    ],
)
def test_a_wrong_annotation_is_named(folder: Path, wrong: dict[str, Any], message: str) -> None:
    write(folder, "val2017", wrong)
    with pytest.raises(ValueError, match=message):
        read_split(folder, "test", SETTINGS)


def test_a_damaged_file_is_named(folder: Path) -> None:
    file = folder / "annotations" / "instances_val2017.json"
    file.write_text("{")
    with pytest.raises(ValueError, match=r"instances_val2017\.json: not a JSON file"):
        read_split(folder, "test", SETTINGS)
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"instances_val2017\.json: not COCO's format, .*'categories'"):
        read_split(folder, "test", SETTINGS)
