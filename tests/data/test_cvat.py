"""CVAT's XML: shapes, splits, videos, and how images are named."""

from pathlib import Path

import numpy as np
import pytest
from reading import read_folder
from tiny import draw_image

from frcnn.data.formats import cvat, pascal_voc

BOX = (
    '<box label="cat" source="manual" occluded="0" xtl="10.50" ytl="20.00" xbr="30.00" ybr="40.25" z_order="0"{}></box>'
)
CAT_BOX = [10.5, 20, 30, 40.25]


def image(number: int, name: str, *shapes: str, more: str = "") -> str:
    return f'<image id="{number}" name="{name}" {more} width="128" height="96">{"".join(shapes)}</image>'


def put(folder: Path, *elements: str, meta: str = "", file: str = "annotations.xml") -> None:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    text = f"<annotations><version>1.1</version><meta>{meta}</meta>{''.join(elements)}</annotations>"
    (folder / file).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def put_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image([]).save(folder / name)


def names(folder: Path) -> dict[str, list[str]]:
    """The images of each split, without a problem."""
    splits, problems = read_folder(folder)
    assert not problems
    return {split: [record.image.name for record in records] for split, records in splits.items()}


CUBOID = "".join(
    f' {axis}{corner}{side}="{value + (3 if side == "2" else 0)}"'
    for axis, low, high in (("x", 10, 40), ("y", 20, 50))
    for side in "12"
    for corner, value in (
        ("tl", low),
        ("bl", low if axis == "x" else high),
        ("tr", high if axis == "x" else low),
        ("br", high),
    )
)
SHAPES = {
    "box": (BOX.format(""), CAT_BOX),
    "upright box": (BOX.format(' rotation="0.00"'), CAT_BOX),
    "rotated box": (
        '<box label="cat" xtl="40" ytl="35" xbr="60" ybr="45" rotation="90.00"/>',
        [45, 30, 55, 50],
    ),
    "slanted box": (
        '<box label="cat" xtl="40" ytl="30" xbr="60" ybr="50" rotation="45"/>',
        [50 - 200**0.5, 40 - 200**0.5, 50 + 200**0.5, 40 + 200**0.5],
    ),
    "polygon": ('<polygon label="cat" points="5.00,50.00;9.00,20.00;30.50,41.00"/>', [5, 20, 30.5, 50]),
    "ellipse": ('<ellipse label="cat" cx="50" cy="40" rx="20" ry="10"/>', [30, 30, 70, 50]),
    "rotated ellipse": ('<ellipse label="cat" cx="50" cy="40" rx="20" ry="10" rotation="90"/>', [40, 20, 60, 60]),
    "slanted ellipse": (
        '<ellipse label="cat" cx="50" cy="40" rx="20" ry="10" rotation="45"/>',
        [50 - 250**0.5, 40 - 250**0.5, 50 + 250**0.5, 40 + 250**0.5],
    ),
    "mask": ('<mask label="cat" rle="3, 5, 7" left="10" top="20" width="5" height="3"/>', [10, 20, 15, 23]),
    "cuboid": (f'<cuboid label="cat"{CUBOID}/>', [10, 20, 43, 53]),
}


@pytest.mark.parametrize(("shape", "box"), SHAPES.values(), ids=SHAPES)
def test_shapes(shape: str, box: list[float], tmp_path: Path) -> None:
    put_images(tmp_path, "images/a.png")
    put(tmp_path, image(0, "a.png", shape))
    splits, problems = read_folder(tmp_path)
    (record,) = splits["all"]
    np.testing.assert_allclose(record.boxes, [box], rtol=1e-6)
    assert (record.class_names, record.size) == (("cat",), (96, 128))
    assert not problems


def test_points_lines_and_tags_are_no_objects(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png", "b.png")
    points = '<points label="tip" points="3.00,3.00"/>'
    line = '<polyline label="lane" points="3.00,3.00;5.00,5.00"/>'
    skeleton = f'<skeleton label="man">{points}</skeleton>'
    put(tmp_path, image(0, "a.png", points, BOX.format(""), line), image(1, "b.png", skeleton, '<tag label="good"/>'))
    splits, problems = read_folder(tmp_path)
    assert [record.class_names for record in splits["all"]] == [("cat",), ()]
    assert [(problem.level, problem.objects, problem.message.split()[0]) for problem in problems] == [
        ("warning", 0, "3")
    ]


def test_the_mark_of_pascal_voc(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png")
    marked = [
        BOX.format("").replace("></", f'><attribute name="difficult">{mark}</attribute></')
        for mark in ("true", "false")
    ]
    put(tmp_path, image(0, "a.png", *marked))
    assert read_folder(tmp_path)[0]["all"][0].ignore.tolist() == [True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        '<box label="cat" xtl="a" ytl="20" xbr="30" ybr="40"/>',
        '<box label="" xtl="1" ytl="20" xbr="30" ybr="40"/>',
        '<polygon label="cat" points=""/>',
        '<mask label="cat" rle="1, 2"/>',
        '<star label="cat"/>',
    ],
)
def test_a_wrong_shape_is_left_out(wrong: str, tmp_path: Path) -> None:
    put_images(tmp_path, "a.png")
    put(tmp_path, image(0, "a.png", wrong, BOX.format("")))
    splits, problems = read_folder(tmp_path)
    assert splits["all"][0].boxes.tolist() == [CAT_BOX]
    assert [(problem.kind, problem.level, problem.objects) for problem in problems] == [
        ("invalid object", "left out", 1)
    ]


# -------------------------------------------------------------------------------------------------------------- splits


def task(number: int, name: str, subset: str = "") -> str:
    return f"<task><id>{number}</id><name>{name}</name><subset>{subset}</subset></task>"


def test_subsets_are_splits(tmp_path: Path) -> None:
    put_images(tmp_path, "images/Train/a.png", "images/Test/a.png", "images/default/b.png")
    subsets = {"Train": "a.png", "Test": "a.png", "default": "b.png", "spare": "b.png"}
    elements = [image(0, name, more=f'subset="{subset}" task_id="7"') for subset, name in subsets.items()]
    put(tmp_path, *elements)
    assert names(tmp_path) == {"train": ["a.png"], "test": ["a.png"], "all": ["b.png"], "spare": ["b.png"]}
    splits, _ = read_folder(tmp_path)
    assert [splits[split][0].image.parent.name for split in ("train", "test")] == ["Train", "Test"]


def test_tasks_are_splits(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png", "b.png", "c.png")
    tasks = (
        f"<project><tasks>{task(3, 'birds train 2')}{task(4, 'more', 'Validation')}{task(5, 'third')}</tasks></project>"
    )
    elements = [
        image(0, name, more=f'task_id="{number}"') for number, name in ((3, "a.png"), (4, "b.png"), (5, "c.png"))
    ]
    put(tmp_path, *elements, meta=tasks)
    assert names(tmp_path) == {"train": ["a.png"], "validation": ["b.png"], "all": ["c.png"]}


def test_files_tell_splits(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png", "b.png", "c.png")
    put(tmp_path, image(0, "a.png"), meta=task(1, "my task", "default"), file="train.xml")
    put(tmp_path, image(0, "b.png"), meta=task(2, "test"), file="batch2.xml")
    put(tmp_path, image(0, "c.png"), file="valid/annotations.xml")
    assert names(tmp_path) == {"test": ["b.png"], "train": ["a.png"], "valid": ["c.png"]}


def test_folders_of_images_tell_splits(tmp_path: Path) -> None:
    put_images(tmp_path, "images/train/a.png", "images/test/b.png")
    put(tmp_path, image(0, "train/a.png"), image(1, "b.png"))
    assert names(tmp_path) == {"train": ["a.png"], "test": ["b.png"]}


# -------------------------------------------------------------------------------------------------------------- images


def test_frames_of_a_video(tmp_path: Path) -> None:
    put_images(tmp_path, *(f"images/frame_{number:06d}.png" for number in range(4)))
    shape = '<box frame="{}" outside="{}" occluded="0" keyframe="1" xtl="{}" ytl="2" xbr="30" ybr="40"></box>'
    one = "".join(shape.format(frame, int(frame == 2), 10 + frame) for frame in range(3))
    tracks = f'<track id="0" label="cat">{one}</track><track id="1" label="dog">{shape.format(1, 0, 5)}</track>'
    put(tmp_path, tracks, meta="<task><original_size><width>128</width><height>96</height></original_size></task>")
    records = read_folder(tmp_path)[0]["all"]
    assert [(record.image.name, record.class_names, record.boxes[:, 0].tolist()) for record in records] == [
        ("frame_000000.png", ("cat",), [10]),
        ("frame_000001.png", ("cat", "dog"), [11, 5]),
    ]
    assert records[0].size == (96, 128)


@pytest.mark.parametrize(("name", "file"), [("", "7.png"), ("", "frame_000007.png"), ("clip", "frame_000007.png")])
def test_images_that_are_named_by_their_number(name: str, file: str, tmp_path: Path) -> None:
    put_images(tmp_path, file)
    put(tmp_path, image(7, name, BOX.format("")))
    assert names(tmp_path) == {"all": [file]}


def test_a_missing_image_is_left_out(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png")
    put(tmp_path, image(0, "a.png"), image(1, "b.png", BOX.format("")))
    splits, problems = read_folder(tmp_path)
    assert len(splits["all"]) == 1
    (problem,) = problems
    assert (problem.kind, problem.level, problem.images, problem.objects) == (
        "missing image",
        "left out",
        1,
        1,
    )
    assert str(problem).startswith(f"{tmp_path}/annotations.xml, image b.png: there is no image b.png")


def test_a_broken_file_is_left_out(tmp_path: Path) -> None:
    put_images(tmp_path, "a.png")
    put(tmp_path, image(0, "a.png"), file="1.xml")
    (tmp_path / "2.xml").write_text("<annotations><meta></meta><image ")
    splits, problems = read_folder(tmp_path)
    assert len(splits["all"]) == 1
    assert [(problem.kind, problem.path.name) for problem in problems] == [("unreadable annotation", "2.xml")]


def test_it_is_not_pascal_voc() -> None:
    start = b'<?xml version="1.0"?>\n<annotations>\n<version>1.1</version><meta>'
    file = Path("a.xml")
    assert cvat.recognizes(file, start)
    assert not pascal_voc.recognizes(file, start)
    assert not cvat.recognizes(file, b"<annotation><folder>a</folder></annotation>")
    assert not cvat.recognizes(file, b"<annotations><note/></annotations>")
