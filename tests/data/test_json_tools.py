"""The JSON files of annotation tools: Label Studio, Create ML, VoTT, Supervisely."""

import base64
import json
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.layouts import LAYOUTS, TOY
from data.reading import read_folder
from PIL import Image
from tiny import draw_image

from frcnn.data.formats import FORMATS
from frcnn.data.problems import Problem, ProblemKind
from frcnn.data.tree import Tree

Found = list[tuple[str, list[list[float]], tuple[str, ...]]]


def put_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image([]).save(folder / name)


def put(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def read(folder: Path, split: str = "all") -> tuple[Found, list[Problem]]:
    """Name, boxes and classes of each image; and what was reported."""
    splits, problems = read_folder(folder)
    assert list(splits) == [split]
    return [(r.image.name, r.boxes.tolist(), r.class_names) for r in splits[split]], problems


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


# --------------------------------------------------------------------------------------------------- Label Studio


def shape(x: float, y: float, width: float, height: float, *labels: str, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": list(labels)} | more
    return {"type": "rectanglelabels", "original_width": 128, "original_height": 96, "value": value}


def other_shape(**value: Any) -> dict[str, Any]:
    return {"type": "x", "original_width": 128, "original_height": 96, "value": value}


BOX = shape(25, 25, 50, 50, "cat")


def test_label_studio(tmp_path: Path) -> None:
    put_images(tmp_path, "images/1.png", "0a1b2c3d-2.png", "sub/3.png", "4.png", "a b.png")
    choice = {"type": "choices", "value": {"choices": ["sharp"]}}
    turned = shape(50, 50, 12.5, 50, "dog", rotation=90)
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-1.png"}, "annotations": [{"result": [BOX]}]},
        {"id": 2, "data": {"photo": "/data/upload/1/0a1b2c3d-2.png"}, "annotations": [{"result": []}]},
        {
            "id": 3,
            "data": {"image": "/data/local-files/?d=sub/3.png"},
            "annotations": [{"result": [BOX]}, {"result": [turned, choice]}, {"result": [BOX], "was_cancelled": True}],
        },
        {"id": 4, "data": {"text": "hello", "image": "s3://bucket/dir/a%20b.png"}, "completions": [{"result": [BOX]}]},
        {"id": 5, "data": {"image": "4.png"}, "annotations": [{"result": [shape(1, 2, 3, 4, "cat", "dog"), BOX]}]},
        {"id": 6, "data": {"text": "hello"}, "annotations": [{"result": []}]},
        {"id": 7, "data": {"image": "gone.png"}, "annotations": [{"result": [BOX]}]},
    ]
    file = put(tmp_path / "project-1.json", tasks)
    found, problems = read(tmp_path)
    assert found == [
        ("1.png", [[32, 24, 96, 72]], ("cat",)),
        ("0a1b2c3d-2.png", [], ()),
        ("3.png", [pytest.approx([64 - 48, 48, 64, 64])], ("dog",)),  # turned about its corner
        ("a b.png", [[32, 24, 96, 72]], ("cat",)),
        ("4.png", [[32, 24, 96, 72]], ("cat",)),
    ]
    several, labels, no_image, gone = problems
    assert str(several) == f"{file}, task 3: has 2 annotations; the last one is taken"
    assert several.level == "warning"
    assert str(labels).startswith(f"{file}, task 5: a shape has 2 labels; ")
    assert (labels.objects, labels.images) == (1, 0)
    assert str(no_image) == f"{file}, task 6: names no image"
    assert str(gone).startswith(f"{file}, task 7: there is no image gone.png")
    assert (gone.level, gone.objects, gone.images) == ("left out", 1, 1)


@pytest.mark.parametrize(
    ("result", "box"),
    [
        (other_shape(x=25, y=25, width=50, height=50, labels=["cat"]), [32, 24, 96, 72]),  # labeled with another tool
        (other_shape(points=[[25, 25], [75, 50], [50, 75]], polygonlabels=["cat"]), [32, 24, 96, 72]),
        (other_shape(x=50, y=50, radiusX=25, radiusY=25, ellipselabels=["cat"]), [32, 24, 96, 72]),
        (other_shape(x=50, y=50, radiusX=25, radiusY=25, rotation=90, ellipselabels=["cat"]), [40, 16, 88, 80]),
        (shape("25", "25", "50", "50", "cat"), [32, 24, 96, 72]),  # type: ignore[arg-type]
        (shape(25, 25, 50, 50, "cat") | {"original_width": 128.0}, [32, 24, 96, 72]),
        (shape(90, 90, 20, 20, "cat"), [115.2, 86.4, 140.8, 105.6]),  # leaves the image
    ],
)
def test_shapes_of_label_studio(result: dict[str, Any], box: list[float], tmp_path: Path) -> None:
    put_images(tmp_path, "1.png")
    task = {"id": 1, "annotations": [{"result": [result]}], "data": {"image": "1.png"}}
    put(tmp_path / "a.json", [task])
    assert read(tmp_path) == ([("1.png", [pytest.approx(box)], ("cat",))], [])
    flat = {key: value for key, value in result.items() if key not in ("value", "type")} | result["value"]
    put(tmp_path / "a.json", [{"image": "/data/upload/1.png", "id": 1, "label": [flat], "annotation_id": 3}])
    assert read(tmp_path) == ([("1.png", [pytest.approx(box)], ("cat",))], [])


def test_what_is_no_box_in_label_studio(tmp_path: Path) -> None:
    put_images(tmp_path, "1.png")
    brush = other_shape(rle=[1, 2], brushlabels=["cat"])
    broken = shape(1, 2, 3, 4, "cat") | {"original_width": None}
    points = [other_shape(x=1, y=2, width=1, keypointlabels=["eye"])] * 3
    result = [BOX, brush, broken, *points]
    put(tmp_path / "a.json", [{"id": 1, "data": {"image": "1.png"}, "annotations": [{"result": result}]}])
    found, problems = read(tmp_path)
    assert found == [("1.png", [[32, 24, 96, 72]], ("cat",))]
    assert [problem.objects for problem in problems] == [1, 1, 0]
    assert {problem.level for problem in problems} == {"left out", "warning"}
    assert "3 shapes without a box: points" in problems[-1].message


def test_tasks_that_nobody_has_annotated_are_told_once(tmp_path: Path) -> None:
    put_images(tmp_path, *(f"{n}.png" for n in range(5)))
    data = [{"id": n, "data": {"image": f"{n}.png"}} for n in range(5)]
    tasks = [
        data[0] | {"annotations": [{"result": [BOX]}]},
        data[1] | {"annotations": []},
        data[2] | {"annotations": [], "predictions": [{"result": [BOX]}]},
        data[3] | {"predictions": [{"result": [BOX]}]},
        data[4] | {"annotations": [{"result": [BOX], "was_cancelled": True}]},
    ]
    put(tmp_path / "a.json", tasks)
    found, problems = read(tmp_path)
    assert found == [("0.png", [[32, 24, 96, 72]], ("cat",))]
    assert "4 of 5 tasks not annotated (2 with predictions that nobody has confirmed)" in only(problems).message
    assert (only(problems).level, only(problems).images) == ("warning", 0)
    put(tmp_path / "a.json", [tasks[3]])
    assert read(tmp_path)[0] == []


def test_a_file_for_each_task(tmp_path: Path) -> None:
    """As Label Studio writes annotations to a cloud's storage."""
    put_images(tmp_path, "images/a.png", "images/b.png")
    for number, name in enumerate("ab", start=1):
        task = {"id": number, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.png"}}
        put(tmp_path / f"annotations/{number}.json", {"id": number, "result": [BOX], "task": task})
    found, problems = read(tmp_path)
    assert found == [(f"{name}.png", [[32, 24, 96, 72]], ("cat",)) for name in "ab"]
    assert not problems


# ------------------------------------------------------------------------------------------------------ Create ML


def createml(label: object = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "coordinates": {"x": 20, "y": 30, "width": 10, "height": 8} | more}


@pytest.mark.parametrize(("image", "annotations"), [("image", "annotations"), ("imagefilename", "annotation")])
def test_createml(image: str, annotations: str, tmp_path: Path) -> None:
    put_images(tmp_path, "1.png", "2.png")
    wrong: list[object] = [createml(label=None), createml(x="a"), "cat"]
    entries = [
        {image: "/home/me/1.png", annotations: [createml(), createml("dog", x="21.5")]},
        {image: "2.png", annotations: []},
        {image: "3.png", annotations: [createml()]},
        {image: "2.png", annotations: wrong},
    ]
    file = put(tmp_path / "a.json", entries[:3])
    found, problems = read(tmp_path)
    assert found == [("1.png", [[15, 26, 25, 34], [16.5, 26, 26.5, 34]], ("cat", "dog")), ("2.png", [], ())]
    assert str(only(problems)).startswith(f"{file}, image 3 ('3.png'): there is no image 3.png")
    assert (only(problems).images, only(problems).objects) == (1, 1)
    put(file, entries[:1] + entries[3:])
    assert [(p.level, p.objects) for p in read(tmp_path)[1]] == [("left out", 1)] * 3


# ----------------------------------------------------------------------------------------------------------- VoTT


def asset(name: str, *regions: dict[str, Any]) -> dict[str, Any]:
    image = {"format": "png", "id": "0f", "name": name, "path": f"file:C:/x/{name}", "state": 2, "type": 1}
    return {"asset": image | {"size": {"width": 128, "height": 96}}, "regions": list(regions), "version": "2.2.0"}


def region(*tags: str, **more: Any) -> dict[str, Any]:
    box = {"left": 1.5, "top": 2, "width": 30, "height": 40}
    return {"id": "r", "type": "RECTANGLE", "tags": list(tags), "boundingBox": box, "points": []} | more


POLYGON = region("dog", boundingBox=None, points=[{"x": 5, "y": 6}, {"x": 30, "y": 8}, {"x": 7, "y": 20}])
VOTT = [asset("a%20b.png", region("cat"), POLYGON), asset("2.png", region("cat"))]
VOTT_FOUND = [
    ("a b.png", [[1.5, 2, 31.5, 42], [5, 6, 30, 20]], ("cat", "dog")),
    ("2.png", [[1.5, 2, 31.5, 42]], ("cat",)),
]


def vott_export(folder: Path) -> None:
    tags = [{"name": f"tag {number} of many", "color": "#ff0000"} for number in range(200)]
    put(folder / "vott-json-export" / "set-export.json", {"name": "set", "tags": tags, "assets": dict(enumerate(VOTT))})


def vott_assets(folder: Path) -> None:
    for number, one in enumerate(VOTT):
        put(folder / f"{number}-asset.json", one)


@pytest.mark.parametrize("write", [(vott_export,), (vott_assets,), (vott_export, vott_assets)])
def test_vott(write: tuple[Callable[[Path], None], ...], tmp_path: Path) -> None:
    put_images(tmp_path, "a b.png", "2.png")
    for each in write:
        each(tmp_path)
    assert read(tmp_path) == (VOTT_FOUND, [])


def test_the_path_in_vott_tells_images_of_one_name_apart(tmp_path: Path) -> None:
    put_images(tmp_path, "monday/1.png", "tuesday/1.png")
    one = asset("1.png", region("cat"))
    one["asset"]["path"] = "file:C:/Users/me/tuesday/1.png"
    put(tmp_path / "0f-asset.json", one)
    splits, problems = read_folder(tmp_path)
    assert [record.image.parent.name for record in splits["all"]] == ["tuesday"]
    assert not problems


def test_what_is_wrong_in_vott(tmp_path: Path) -> None:
    put_images(tmp_path, "1.png", "2.png", "4.png")
    put(tmp_path / "1-asset.json", asset("1.png", region(), region("cat", boundingBox={"left": 1}), region("cat")))
    put(tmp_path / "2-asset.json", asset("2.png"))
    put(tmp_path / "3-asset.json", asset("3.png", region("cat")))
    (tmp_path / "4-asset.json").write_text(json.dumps(VOTT[0])[:-9])
    found, problems = read(tmp_path)
    assert found == [("1.png", [[1.5, 2, 31.5, 42]], ("cat",))]
    assert [(p.kind, p.objects, p.images) for p in problems] == [
        ("invalid object", 1, 0),
        ("invalid object", 1, 0),
        ("missing image", 1, 1),
        ("unreadable annotation", 0, 1),
        ("image without annotation", 0, 0),
    ]
    assert {problem.level for problem in problems} == {"left out", "warning"}


# ---------------------------------------------------------------------------------------------------- Supervisely


def thing(name: str, kind: str | None, *points: tuple[float, float], **more: Any) -> dict[str, Any]:
    return {
        "classTitle": name,
        "geometryType": kind,
        "tags": [],
        "points": {"exterior": [list(point) for point in points], "interior": []},
    } | more


def bitmap(mode: str) -> dict[str, Any]:
    """A mask of 20 x 10 pixels with its ones at x 4..8 and y 2..5."""
    mask = Image.new("L", (20, 10))
    mask.paste(255, (4, 2, 9, 6))
    white = Image.new("L", mask.size, 255)
    image = Image.merge("RGBA", (white, white, white, mask)) if mode == "RGBA" else mask.convert(mode)
    out = BytesIO()
    image.save(out, "PNG", **({"transparency": 0} if mode == "P" else {}))
    data = base64.b64encode(zlib.compress(out.getvalue())).decode()
    return {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [30, 40]}}


def supervisely(folder: Path, name: str, *objects: dict[str, Any]) -> Path:
    content = {"description": "", "tags": [], "size": {"height": 96, "width": 128}, "objects": list(objects)}
    return put(folder / "ann" / f"{name}.json", content)


def test_supervisely(tmp_path: Path) -> None:
    put(tmp_path / "meta.json", {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []})
    for split in ("train", "test"):
        put_images(tmp_path / split / "img", "1.png", "2.png")
        supervisely(tmp_path / split, "2.png")
    shapes = [
        thing("cat", "rectangle", (1, 2), (30, 40)),
        thing("dog", "polygon", (5, 6), (30, 8), (7, 20)),
        thing("cat", None, (1, 2), (3, 4), bitmap=None),
        thing("eye", "point", (3, 4)),
        thing("edge", "line", (3, 4), (5, 6)),
        {"classTitle": "pose", "geometryType": "graph", "nodes": {"a": {"loc": [1, 2]}}},
    ]
    supervisely(tmp_path / "train", "1.png", *shapes)
    supervisely(tmp_path / "test", "1.png", bitmap("1"), bitmap("RGBA"), bitmap("P"), bitmap("L"))
    splits, problems = read_folder(tmp_path)
    found = {split: [(r.image.name, r.boxes.tolist(), r.class_names) for r in splits[split]] for split in splits}
    assert found["train"] == [
        ("1.png", [[1, 2, 30, 40], [5, 6, 30, 20], [1, 2, 3, 4]], ("cat", "dog", "cat")),
        ("2.png", [], ()),
    ]
    assert found["test"] == [("1.png", [[34, 42, 39, 46]] * 4, ("cat",) * 4), ("2.png", [], ())]
    assert {record.image.parent.parent.name for record in splits["test"]} == {"test"}
    assert "3 shapes without a box: points, lines or the like" in only(problems).message
    assert (only(problems).level, only(problems).objects) == ("warning", 0)


def test_what_is_wrong_in_supervisely(tmp_path: Path) -> None:
    put_images(tmp_path / "img", "1.png", "3.png")
    broken = bitmap("1") | {"bitmap": {"data": "eJw", "origin": [1, 2]}}
    supervisely(tmp_path, "1.png", thing("cat", "rectangle", (1, 2), (30, 40)), broken, thing("cat", "polygon"))
    supervisely(tmp_path, "2.png", thing("cat", "rectangle", (1, 2), (30, 40)))
    file = supervisely(tmp_path, "3.png", thing("cat", "rectangle", (1, 2), (30, 40)))
    file.write_text(file.read_text()[:-9])
    found, problems = read(tmp_path)
    assert found == [("1.png", [[1, 2, 30, 40]], ("cat",))]
    assert [(p.kind, p.objects, p.images) for p in problems] == [
        ("invalid object", 1, 0),
        ("invalid object", 1, 0),
        ("missing image", 1, 1),
        ("unreadable annotation", 0, 1),
    ]


# ------------------------------------------------------------------------------------------------------- any JSON


def test_boxes_of_cityscapes_belong_to_its_images(tmp_path: Path) -> None:
    put_images(tmp_path, "leftImg8bit/train/bonn/bonn_1_leftImg8bit.png")
    persons = [{"instanceId": 24000, "bbox": [1, 2, 30, 40], "bboxVis": [1, 2, 3, 4], "label": "pedestrian"}]
    put(tmp_path / "persons/train/bonn/bonn_1_gtBboxCityPersons.json", {"objects": persons})
    found, problems = read(tmp_path, "train")
    assert found == [("bonn_1_leftImg8bit.png", [[1, 2, 31, 42]], ("pedestrian",))]
    assert not problems


def test_more_about_an_object_may_say_that_it_is_ignored(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png")
    boxes = [
        {
            "tag": "person",
            "hbox": [1, 2, 3, 4],
            "fbox": [1, 2, 30, 40],
            "head_attr": {"ignore": 1},
            "extra": {"occ": 0},
        },
        {"tag": "mask", "fbox": [5, 6, 7, 8], "extra": {"ignore": 1}},
    ]
    put(tmp_path / "annotation_train.odgt", {"ID": "a", "gtboxes": boxes})
    splits, _ = read_folder(tmp_path)
    assert splits["train"][0].class_names == ("person", "mask")
    assert splits["train"][0].ignore.tolist() == [False, True]


DETECTED = {"_cls": "Detection", "label": "cat", "bounding_box": [0.5, 0.5, 0.25, 0.25], "confidence": 0.8}


@pytest.mark.parametrize(
    ("labels", "is_annotated"),
    [
        ({"tags": [], "ground_truth": None}, False),  # FiftyOne: nobody has labeled it
        ({"tags": ["new"]}, False),
        ({"tags": [], "ground_truth": {"_cls": "Detections", "detections": []}}, True),
        ({"ground_truth": None, "predictions": {"detections": [DETECTED]}}, False),
        ({"ground_truth": {"detections": []}, "predictions": {"detections": [DETECTED]}}, True),
        ({"detections": [{"category": "1", "conf": 0.8, "bbox": [0.1, 0.1, 0.5, 0.5]}]}, False),  # MegaDetector
        ({"labels": None}, True),  # BDD100K: nothing is there
        ({"labels": []}, True),
    ],
)
def test_images_without_objects_and_without_labels_differ(
    labels: dict[str, Any], is_annotated: bool, tmp_path: Path
) -> None:
    put_images(tmp_path, "1.png", "2.png")
    box = {"_cls": "Detection", "label": "cat", "bounding_box": [0.25, 0.25, 0.5, 0.5]}
    samples = [
        {"filepath": "1.png", "tags": [], "ground_truth": {"_cls": "Detections", "detections": [box]}},
        {"filepath": "2.png"} | labels,
    ]
    file = put(tmp_path / "samples.json", {"samples": samples})
    found, problems = read(tmp_path)
    assert found[0] == ("1.png", [[32, 24, 96, 72]], ("cat",))
    if is_annotated:
        assert found[1:] == [("2.png", [], ())]
    else:
        assert not found[1:]
    message = f"{file}: 1 image has no list of objects, and so no annotation"
    assert (message in map(str, problems)) == (not is_annotated)


def labelbox(name: str, labels: list[Any]) -> dict[str, Any]:
    return {"data_row": {"id": "c1", "external_id": name}, "projects": {"c2": {"labels": labels}}}


@pytest.mark.parametrize(
    "files",
    [
        {  # V7
            f"annotations/{name}.json": {
                "item": {"name": f"{name}.png", "slots": [{"type": "image"}]},
                "annotations": [{"name": "cat", "bounding_box": {"x": 32, "y": 24, "w": 64, "h": 48}}] * count,
            }
            for name, count in (("1", 1), ("2", 0))
        },
        {  # Dataloop
            f"json/{name}.json": {
                "filename": f"/{name}.png",
                "annotations": [
                    {"label": "cat", "type": "box", "coordinates": [{"x": 32, "y": 24}, {"x": 96, "y": 72}]}
                ]
                * count,
            }
            for name, count in (("1", 1), ("2", 0))
        },
        {  # Labelbox: 2.png was labeled and has no objects, nobody has labeled 3.png
            "export.json": [
                labelbox(
                    "1.png",
                    [
                        {
                            "annotations": {
                                "objects": [
                                    {
                                        "name": "cat",
                                        "bounding_box": {"top": 24, "left": 32, "height": 48, "width": 64},
                                    }
                                ]
                            }
                        }
                    ],
                ),
                labelbox("2.png", [{"annotations": {"objects": []}}]),
                labelbox("3.png", []),
            ]
        },
    ],
    ids=["V7", "Dataloop", "Labelbox"],
)
def test_images_that_somebody_has_labeled_as_empty(files: dict[str, Any], tmp_path: Path) -> None:
    put_images(tmp_path, "1.png", "2.png", "3.png")
    for name, content in files.items():
        put(tmp_path / name, content)
    records, _ = read(tmp_path)
    assert records == [("1.png", [[32, 24, 96, 72]], ("cat",)), ("2.png", [], ())]


@pytest.mark.parametrize(
    "answer",
    [
        "<loc0256><loc0128><loc0768><loc0512> red cat ; <loc0000><loc0000><loc0512><loc1023> dog",
        "red cat<loc_125><loc_250><loc_500><loc_750>dog<loc_0><loc_0><loc_999><loc_500>",
    ],
)
def test_answers_of_language_models(answer: str, tmp_path: Path) -> None:
    put_images(tmp_path, "a.png", "b.png")  # 128 x 96
    lines = [{"image": "a.png", "prefix": "detect", "suffix": answer}, {"image": "b.png", "suffix": answer}]
    (tmp_path / "_annotations.train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found, problems = read(tmp_path, "train")
    assert [(name, names) for name, _, names in found] == [(name, ("red cat", "dog")) for name in ("a.png", "b.png")]
    np.testing.assert_allclose(found[0][1], [[16, 24, 64, 72], [0, 0, 128, 48]], atol=0.2)
    assert only(problems).kind == ProblemKind.FRACTIONS


def test_files_of_one_image_decide_together_what_four_numbers_are(tmp_path: Path) -> None:
    """The box of the first file could be x, y, width, height; that of the second one could not."""
    put_images(tmp_path, "image/a.png", "image/b.png")
    for name, box in (("a", [1, 2, 30, 40]), ("b", [70, 50, 120, 90])):
        item = {"bounding_box": box, "category_id": 1, "category_name": "shirt"}
        put(tmp_path / f"annos/{name}.json", {"source": "user", "pair_id": 1, "item1": item, "item2": item})
    found, problems = read(tmp_path)
    boxes = {name: boxes for name, boxes, _ in found}
    assert boxes == {"a.png": [[1, 2, 30, 40]] * 2, "b.png": [[70, 50, 120, 90]] * 2}
    assert only(problems).kind == ProblemKind.CORNERS


@pytest.mark.parametrize("box", [{"points": [10, 20, 40, 50]}, {"box": {"xyxy": [10, 20, 40, 50]}}])
def test_keys_that_mean_corners(box: dict[str, Any], tmp_path: Path) -> None:
    """Though x, y, width, height would be inside of the image, too."""
    put_images(tmp_path, "a.png")
    put(tmp_path / "all.json", [{"image": "a.png", "objects": [{"label": "cat"} | box]}])
    assert read(tmp_path) == ([("a.png", [[10, 20, 40, 50]], ("cat",))], [])


def test_rows_of_yolo_in_json(tmp_path: Path) -> None:
    """As Ultralytics writes NDJSON."""
    put_images(tmp_path, "images/a.png")
    lines = [
        {"type": "dataset", "class_names": {"0": "cat", "1": "dog"}},
        {
            "type": "image",
            "file": "a.png",
            "annotations": {"boxes": [[1, 0.5, 0.5, 0.5, 0.25], [0, 0.25, 0.5, 0.5, 1]]},
        },
    ]
    (tmp_path / "set.ndjson").write_text("\n".join(map(json.dumps, lines)))
    found, _ = read(tmp_path)
    assert found == [("a.png", [[32, 36, 96, 60], [0, 0, 64, 96]], ("dog", "cat"))]


def ultralytics(name: str, split: str) -> dict[str, Any]:
    return {"type": "image", "file": name, "split": split, "annotations": {"boxes": [[0, 0.5, 0.5, 0.5, 0.5]]}}


def vertex(name: str, split: str) -> dict[str, Any]:
    box = {"displayName": "0", "xMin": 0.25, "yMin": 0.25, "xMax": 0.75, "yMax": 0.75}
    use = {"aiplatform.googleapis.com/ml_use": split}
    return {"imageGcsUri": f"gs://x/{name}", "boundingBoxAnnotations": [box], "dataItemResourceLabels": use}


def fiftyone(name: str, split: str) -> dict[str, Any]:
    box = {"label": "0", "bounding_box": [0.25, 0.25, 0.5, 0.5]}
    return {"filepath": name, "tags": ["sunny", split], "ground_truth": {"detections": [box]}}


@pytest.mark.parametrize("write", [ultralytics, vertex, fiftyone])
def test_images_say_their_split(write: Callable[[str, str], dict[str, Any]], tmp_path: Path) -> None:
    """A test image must not be trained on."""
    said = {"1.png": "train", "2.png": "validation", "3.png": "TEST", "4.png": "train"}
    put_images(tmp_path, *said)
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(write(*image)) for image in said.items()))
    splits, _ = read_folder(tmp_path)
    found = {split: [record.image.name for record in records] for split, records in splits.items()}
    assert found == {"train": ["1.png", "4.png"], "validation": ["2.png"], "test": ["3.png"]}
    assert all(
        (record.class_names, record.boxes.tolist()) == (("0",), [[32, 24, 96, 72]])
        for records in splits.values()
        for record in records
    )


def test_files_of_one_image_say_their_split(tmp_path: Path) -> None:
    said = {"a": "train", "b": "test", "c": "the first day"}
    put_images(tmp_path, *(f"{name}.png" for name in said))
    for name, split in said.items():
        put(tmp_path / f"{name}.json", {"image": f"{name}.png", "set": split, "boxes": [{"bbox": [1, 2, 30, 40]}]})
    splits, _ = read_folder(tmp_path)
    found = {split: [record.image.stem for record in records] for split, records in splits.items()}
    assert found == {"all": ["a", "c"], "test": ["b"]}


def test_a_train_in_the_image_is_no_split(tmp_path: Path) -> None:
    put_images(tmp_path, "1.png", "2.png")
    put(tmp_path / "samples.json", {"samples": [fiftyone("1.png", "train"), fiftyone("2.png", "bus")]})
    assert [name for name, *_ in read(tmp_path)[0]] == ["1.png", "2.png"]


def test_objects_without_a_class_are_reported(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png", "b.png")
    put(tmp_path / "all.json", [{"image": f"{name}.png", "boxes": [{"bbox": [1, 2, 30, 40]}]} for name in "ab"])
    found, problems = read(tmp_path)
    assert [names for _, _, names in found] == [("object",), ("object",)]
    assert only(problems).kind == ProblemKind.NO_CLASSES


# ------------------------------------------------------------------------------------------------------- all four


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if "json" in layout.files.lower()])
def test_a_file_is_of_one_format(name: str, tmp_path: Path) -> None:
    """No other reader of JSON takes the files of this one; except the reader of any JSON, which is asked last."""
    layout = LAYOUTS[name]
    layout.write(tmp_path, TOY)
    tree = Tree(tmp_path)
    forms = {form: FORMATS[form] for form in FORMATS if ".json" in FORMATS[form].SUFFIXES}
    for file in tree.with_suffix(".json"):
        taken = {form for form, module in forms.items() if module.recognizes(file, tree.start(file))}
        assert taken <= {layout.format, "json"}, file


@pytest.mark.parametrize(
    "content",
    [
        [{"image": "1.png", "detections": [{"class_name": "cat", "xyxy": [1, 2, 3, 4]}]}],
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
        {"map50": 0.5, "per_class": {"cat": 0.5}, "objects": 3},
        {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []},
        {"name": "set", "tags": [], "sourceConnection": {"encrypted": "x"}, "assets": {}},
        {"name": "frcnn", "size": {"width": 1}, "dependencies": {}},
        [],
        {},
    ],
)
def test_other_json_is_no_data(content: Any, tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", content)
    start = Tree(tmp_path).start(file)
    names = ("coco", "label_studio", "createml", "vott", "supervisely")
    assert [name for name in names if FORMATS[name].recognizes(file, start)] == []
