"""VGG Image Annotator: projects and exports, of JSON and CSV, and every shape."""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from data.layouts import Photo, put, put_image, put_json
from data.reading import read_folder

from frcnn.data.formats import via
from frcnn.data.problems import Problem
from frcnn.data.records import Records

PHOTO = Photo("1.png", 128, 96, ())
RECT = {"name": "rect", "x": 1, "y": 2, "width": 29, "height": 38}
CAT = ("cat", [1, 2, 30, 40])
Objects = list[tuple[str, list[float]]]


def region(shape: dict[str, Any] = RECT, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(name: str, *regions: dict[str, Any]) -> dict[str, Any]:
    return {"filename": name, "size": 9, "regions": list(regions), "file_attributes": {}}


def export(*entries: dict[str, Any]) -> dict[str, Any]:
    return {f"{each['filename']}9": each for each in entries}


def first_version(*entries: dict[str, Any]) -> dict[str, Any]:
    """Numbered regions, and fields in another order."""
    return {
        f"{each['filename']}9": {"fileref": "", "size": 9, "filename": each["filename"], "base64_img_data": ""}
        | {"file_attributes": {}, "regions": {str(i): one for i, one in enumerate(each["regions"])}}
        for each in entries
    }


def project(*entries: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {"_via_settings": {"ui": {}, "core": {}}, "_via_attributes": {"region": {}, "file": {}}}
    return settings | {"_via_img_metadata": export(*entries), "_via_data_format_version": "2.0.10"}


def table(*entries: dict[str, Any], mark: str = "") -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        f"{mark}filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes".split(
            ","
        )
    )
    for each in entries:
        regions = each["regions"] or [region({})]
        for number, one in enumerate(regions):
            cells = json.dumps(one["shape_attributes"]), json.dumps(one["region_attributes"])
            writer.writerow((each["filename"], 9, "{}", len(each["regions"]), number, *cells))
    return out.getvalue()


def read(folder: Path) -> tuple[dict[str, Objects], list[Problem]]:
    splits, problems = read_folder(folder)
    return {image: found for records in splits.values() for image, found in objects(records).items()}, problems


def objects(records: Records) -> dict[str, Objects]:
    return {r.image.name: list(zip(r.class_names, r.boxes.round(3).tolist(), strict=True)) for r in records}


@pytest.mark.parametrize("write", [export, first_version, project, table])
def test_every_kind_of_file(tmp_path: Path, write: Any) -> None:
    for name in ("1.png", "b c.png"):
        put_image(tmp_path / "images" / name, PHOTO)
    entries = (entry("1.png"), entry("b c.png", region(kind="cat"), region(kind="dog")))
    written = write(*entries)
    put(tmp_path / ("a.csv" if write is table else "a.json"), written if write is table else json.dumps(written))
    assert read(tmp_path) == ({"1.png": [], "b c.png": [CAT, ("dog", CAT[1])]}, [])


def test_a_table_that_begins_with_a_number_sign(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put(tmp_path / "a.csv", table(entry("1.png", region(kind="cat")), mark="#"))
    assert read(tmp_path) == ({"1.png": [CAT]}, [])


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (RECT, [1, 2, 30, 40]),
        (RECT | {"x": "1", "width": 300}, [1, 2, 301, 40]),
        ({"name": "polygon", "all_points_x": [1, 60, 30], "all_points_y": [50, 20, 90]}, [1, 20, 60, 90]),
        ({"name": "circle", "cx": 50, "cy": 40, "r": 5}, [45, 35, 55, 45]),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10}, [30, 30, 70, 50]),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": 1.5707963267948966}, [40, 20, 60, 60]),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 5, "ry": 5, "theta": 0.7}, [45, 35, 55, 45]),
    ],
)
def test_shapes(tmp_path: Path, shape: dict[str, Any], box: list[float]) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "a.json", export(entry("1.png", region(shape, kind="cat"))))
    assert read(tmp_path) == ({"1.png": [("cat", box)]}, [])


def test_points_and_lines_are_left_out_with_one_count(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    point, line = {"name": "point", "cx": 1, "cy": 2}, {"name": "polyline", "all_points_x": [1], "all_points_y": [2]}
    regions = (region(point, kind="tip"), region(kind="cat"), region(line), region(point))
    put_json(tmp_path / "a.json", export(entry("1.png", *regions)))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [CAT]}
    counts = "2 of the kind point, 1 of the kind polyline"
    assert f"3 shapes without a box: points, lines or the like, which are no objects ({counts})" in str(problem)
    assert (problem.level, problem.objects) == ("warning", 0)


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        (({"anything": "cat"}, {"anything": "dog"}), ("cat", "dog")),
        (({"id": "7", "Class Name": "cat"}, {"id": "8", "Class Name": "dog"}), ("cat", "dog")),
        (({"note": "x", "label": "cat"}, {"note": "", "label": "dog"}), ("cat", "dog")),
        (({"type": "animal", "name": "cat"}, {"type": "animal", "name": "dog"}), ("cat", "dog")),
        (({"kind": {"cat": True}}, {"kind": {"cat": False, "dog": True}}), ("cat", "dog")),
        (({"quality": {"good": True}, "kind": "cat"}, {"quality": {}, "kind": "dog"}), ("cat", "dog")),
        (({"cat": "1", "dog": ""}, {"cat": "", "dog": "1"}), ("cat", "dog")),
        (({"cat": "cat"}, {"dog": "yes"}), ("cat", "dog")),
        (({"cat": "1"}, {"cat": "1"}), ("cat", "cat")),
        (({"number": "1"}, {"number": "2"}), ("1", "2")),
        (({"class": "1"}, {"class": "1"}), ("1", "1")),
        (({}, {}), ("object", "object")),
    ],
)
def test_one_attribute_is_the_class(
    tmp_path: Path, attributes: tuple[dict[str, Any], ...], names: tuple[str, ...]
) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "a.json", export(entry("1.png", *(region(**each) for each in attributes))))
    found, problems = read(tmp_path)
    assert found == {"1.png": [(name, CAT[1]) for name in names]}
    assert [problem.level for problem in problems] == ["warning"] * (names[0] == "object")


def test_an_empty_attribute_in_csv_is_no_json(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    written = table(entry("1.png", region(kind="cat", note="?"), region(kind="?")))
    put(tmp_path / "a.csv", written.replace('""?""', "undefined"))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [CAT]}
    assert "has no kind" in str(problem)


def test_a_line_that_ends_where_it_begins_is_an_outline(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    closed = {"name": "polyline", "all_points_x": [10, 40, 40, 10, 10], "all_points_y": [10, 10, 31, 31, 12]}
    opened = {"name": "polyline", "all_points_x": [10, 40, 40, 10], "all_points_y": [10, 10, 30, 30]}
    put_json(tmp_path / "a.json", export(entry("1.png", region(closed, name="cat"), region(opened, name="cat"))))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [("cat", [10, 10, 40, 31])]}
    assert "1 of the kind polyline" in str(problem)


def test_attributes_that_could_all_be_the_class_are_named(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "a.json", export(entry("1.png", region(animal="cat", color="red"))))
    with pytest.raises(ValueError, match=r"the attributes animal, color; rename the one that is the class to class"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (region(kind=""), "1.png, region 2: has no kind"),
        (region(), "1.png, region 2: has no kind"),
        (region(kind={"cat": True, "dog": True}), "1.png, region 2: has no kind"),
        (region({}, kind="cat"), "1.png, region 2: is not a shape with a box: {}"),
        (region(RECT | {"x": None}, kind="cat"), "is not a shape with a box: {'name': 'rect', 'x': None"),
        (region({"name": "polygon", "all_points_x": [], "all_points_y": []}, kind="cat"), "is not a shape with a box"),
    ],
)
def test_regions_that_are_no_objects_are_left_out(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "a.json", export(entry("1.png", region(kind="cat"), bad)))
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [CAT]}
    assert message in str(problem)
    assert (problem.level, problem.objects) == ("left out", 1)


def test_two_files_of_the_same_images_are_read_once(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    entries = (entry("1.png", region(kind="cat"), region({"name": "point"})), entry("gone.png", region(kind="cat")))
    put_json(tmp_path / "a.json", export(*entries))
    put(tmp_path / "b.csv", table(*entries))
    found, problems = read(tmp_path)
    assert found == {"1.png": [CAT]}
    assert [(problem.kind, problem.images, problem.objects) for problem in problems] == [
        ("missing image", 1, 1),
        ("shape without box", 0, 0),
    ]
    put(tmp_path / "b.csv", table(entry("1.png", region(kind="dog"))))
    found, problems = read(tmp_path)
    assert found == {"1.png": [CAT]}
    assert problems[1].kind == "image annotated twice"
    assert "b.csv: has other regions of" in str(problems[1])


def test_an_image_that_is_listed_again_has_the_regions_of_one_entry(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "a.json", {"1.png9": entry("1.png"), "1.png8": entry("1.png", region(kind="cat"))})
    assert read(tmp_path) == ({"1.png": [CAT]}, [])


def test_a_broken_file_among_others_is_left_out(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", PHOTO)
    put_json(tmp_path / "a.json", export(entry("1.png", region(kind="cat"))))
    put(tmp_path / "b.json", json.dumps(export(entry("1.png", region(kind="cat"))))[:-3])
    found, (problem,) = read(tmp_path)
    assert found == {"1.png": [CAT]}
    assert (problem.kind, problem.path.name) == ("unreadable annotation", "b.json")
    (tmp_path / "a.json").unlink()
    with pytest.raises(ValueError, match=r"b\.json, line 1, column \d+: not a JSON file"):
        read(tmp_path)


def test_folders_of_images_give_the_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put_image(tmp_path / split / f"{split}.png", PHOTO)
    put_json(tmp_path / "via_project.json", project(*(entry(f"{s}.png", region(kind="cat")) for s in ("train", "val"))))
    splits, _ = read_folder(tmp_path)
    assert {split: list(objects(records)) for split, records in splits.items()} == {
        "train": ["train.png"],
        "val": ["val.png"],
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}',
        '{"images": [{"id": 1, "filename": "1.png"}], "annotation": [], "categories": []}',
        '{"shapes": [{"label": "cat", "points": [[1, 2]]}], "imagePath": "1.png"}',
        '[{"filename": "1.png", "score": 0.5, "box": [1, 2, 3, 4]}]',
        '{"region": {"kind": {"type": "text"}}, "file": {}}',
        "",
    ],
)
def test_other_json_is_not_via(text: str) -> None:
    assert not via.recognizes(Path("a.json"), text.encode())


def test_many_images_take_little_time(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", PHOTO)
    for number in range(1, 2000):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    put_json(
        tmp_path / "a.json", export(*(entry(f"{number}.png", *[region(kind="cat")] * 10) for number in range(2000)))
    )
    start = time.perf_counter()
    assert len(read_folder(tmp_path)[0]["all"]) == 2000
    assert time.perf_counter() - start < 10


def test_the_real_rice_leaves(shared: Path) -> None:
    splits, problems = read_folder(shared / "datasets" / "riceleaf")
    assert {split: len(records) for split, records in splits.items()} == {"train": 98, "val": 16}
    counts = {split: sum(records.class_counts.values()) for split, records in splits.items()}
    assert counts == {"train": 625, "val": 149}  # one of them has no area
    assert splits["train"].class_counts == {"bacteria": 112, "brown_spot": 376, "leaf_smut": 137}
    assert [(problem.kind, problem.objects) for problem in problems] == [("invalid object", 1)] * 2


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_json_and_csv_of_the_real_rice_leaves_say_the_same(shared: Path, tmp_path: Path, suffix: str) -> None:
    for file in (shared / "datasets" / "riceleaf" / "val").iterdir():
        if file.suffix != f".{suffix}":
            (tmp_path / file.name).symlink_to(file)
    records = read_folder(tmp_path)[0]["all"]
    expected = read_folder(shared / "datasets" / "riceleaf")[0]["val"]
    assert objects(records) == objects(expected)


@pytest.mark.parametrize(
    ("xy", "box"),
    [
        ([2, 10, 20, 30, 40], [10, 20, 40, 60]),
        ([3, 30, 40, 5], [25, 35, 35, 45]),
        ([4, 30, 40, 5, 10], [25, 30, 35, 50]),
        ([7, 10, 20, 40, 25, 30, 60], [10, 20, 40, 60]),
    ],
)
def test_shapes_of_via_3(tmp_path: Path, xy: list[float], box: list[float]) -> None:
    put_image(tmp_path / "a.jpg", PHOTO)
    attributes = json.dumps({"1": {"aname": "kind", "options": {"5": "cat"}}})
    head = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
    text = f"# Exported using VGG Image Annotator\n# ATTRIBUTE = {attributes}\n# CSV_HEADER = {head}\n"
    point = '"1_b","[""a.jpg""]",0,"[]","[1,5,6]","{""1"":""5""}"\n'
    put(tmp_path / "a.csv", text + f'"1_a","[""a.jpg""]",0,"[]","{json.dumps(xy)}","{{""1"":""5""}}"\n' + point)
    found, problems = read(tmp_path)
    assert found == {"a.jpg": [("cat", box)]}
    assert len(problems) == 1  # the point


def test_a_project_of_via_3_without_its_files_names_the_part(tmp_path: Path) -> None:
    put_image(tmp_path / "a.jpg", PHOTO)
    put_json(tmp_path / "via.json", {"project": {"pid": "x", "vid_list": ["1"]}, "view": {"1": {"fid_list": ["7"]}}})
    with pytest.raises(ValueError, match="missing or wrong: 'file'"):
        read(tmp_path)


VIA_3 = (
    "# Exported using VGG Image Annotator\n"
    "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
    '"1_a","[""a.jpg""]",0,"[]","[7,%s]","{}"\n'
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (table(entry("a.jpg", region({"name": "polygon", "all_points_x": [1] * 50_000}, kind="cat"))), 2),
        (VIA_3 % ",".join(["1"] * 70_000), 3),
    ],
    ids=["VIA 2", "VIA 3"],
)
def test_a_cell_that_is_too_long_is_an_error_of_its_line(text: str, line: int, tmp_path: Path) -> None:
    put_image(tmp_path / "a.jpg", PHOTO)
    put(tmp_path / "a.csv", text)
    with pytest.raises(ValueError, match=rf"a\.csv.* line {line}, .*field larger than field limit") as error:
        read(tmp_path)
    assert len(str(error.value)) < 1000
