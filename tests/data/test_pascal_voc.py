"""Pascal VOC: XML files anywhere, lists of names, and what other programs write."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reading import read_folder
from tiny import draw_image, read_split

from frcnn.config import DataSettings, make_config
from frcnn.data.dataset import open_dataset
from frcnn.data.discover import discover
from frcnn.data.formats import pascal_voc
from frcnn.data.formats.xml_files import root_tag
from frcnn.data.problems import Problem, ProblemKind
from frcnn.data.records import Annotation
from frcnn.data.tree import Tree

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
SETTINGS = make_config().data


def thing(name: object, difficult: object, *box: object) -> str:
    return f"<object><name>{name}</name><difficult>{difficult}</difficult>{BOX.format(*box)}</object>"


CAT = thing("cat", 0, 11, 21, 30, 40)
CAT_BOX = [10, 20, 30, 40]


def put(folder: Path, image: str, xml: str, *objects: str, head: str = "") -> None:
    """An image and its annotation."""
    for file in (folder / image, folder / xml):
        file.parent.mkdir(parents=True, exist_ok=True)
    draw_image([]).save(folder / image)
    (folder / xml).write_text(f"<annotation>{head}{''.join(objects)}</annotation>")


def put_listed(folder: Path, name: str, *objects: str) -> None:
    put(folder, f"JPEGImages/{name}.png", f"Annotations/{name}.xml", *objects)


def put_list(folder: Path, name: str, text: str) -> None:
    file = folder / "ImageSets" / "Main" / f"{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    put_listed(tmp_path, "a", thing("dog", 0, 1, 1, 10, 20), thing("cat", 1, 5, 6, 128, 96))
    put_listed(tmp_path, "b", thing("dog", 0, 7, 7, 8, 8))
    put_listed(tmp_path, "c")
    put_listed(tmp_path, "d", thing("cat", 0, "2.5", "3.5", "9.5", "8"))
    for name, text in {"train": "a\n", "val": "b\n", "trainval": "a\nb\n", "test": "c\nd\n"}.items():
        put_list(tmp_path, name, text)
    return tmp_path


def names(folder: Path, split: str, **changes: object) -> list[str]:
    settings = SETTINGS.model_copy(update=changes)
    return [record.image.stem for record in read_split(folder, split, settings)]


def stems(folder: Path) -> dict[str, list[str]]:
    """The images of each split, without a problem."""
    splits, problems = read_folder(folder)
    assert not problems
    return {split: [record.image.stem for record in records] for split, records in splits.items()}


def kinds(problems: list[Problem]) -> list[tuple[str, str, int, int]]:
    return [(problem.kind, problem.level, problem.images, problem.objects) for problem in problems]


# --------------------------------------------------------------------------------------------------------------- boxes


def test_boxes_are_one_based_and_inclusive(voc: Path) -> None:
    first, second = read_split(voc, "train", SETTINGS)
    np.testing.assert_array_equal(first.boxes, [[0, 0, 10, 20], [4, 5, 128, 96]])  # the whole width and height
    np.testing.assert_array_equal(second.boxes, [[6, 6, 8, 8]])
    (empty, fractions) = read_split(voc, "test", SETTINGS)
    assert empty.boxes.shape == (0, 4)
    np.testing.assert_array_equal(fractions.boxes, [[1.5, 2.5, 9.5, 8]])


def capitals(text: str) -> str:
    """The names of all elements begin with a capital, and those of sides have two: <XMin>."""
    text = re.sub("<(/?)([xy])(m..)>", lambda tag: f"<{tag[1]}{tag[2].upper()}{tag[3].capitalize()}>", text)
    return re.sub("<(/?)([a-z])", lambda tag: f"<{tag[1]}{tag[2].upper()}", text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("<a/>", "a"),
        ("\n <?xml version='1.0'?>\n<!-- <b> --> <!DOCTYPE a [<!ELEMENT b (c)>]>\n<!-- > --><A b='1'>", "a"),
        ("<!-- one --><?two?><!-- three --><a>", "a"),
        ("<!-- one <a>", None),
        ("<?xml <a>", None),
        ("<!-- one --> text <a>", None),
        ("", None),
    ],
)
def test_the_root_stands_behind_comments(text: str, name: str | None) -> None:
    assert root_tag(text.encode()) == name


@pytest.mark.parametrize("mark", ["<!--", "<?", "<!DOCTYPE [", "<!DOCTYPE [] "])
def test_marks_without_an_end_take_no_time(mark: str) -> None:
    start = time.process_time()
    assert root_tag((mark * (1 << 16))[: 1 << 16].encode()) is None
    assert time.process_time() - start < 0.2


def test_a_file_may_begin_with_a_long_comment(tmp_path: Path) -> None:
    for number in range(2):
        put(tmp_path, f"{number}.png", f"{number}.xml", CAT)
        file = tmp_path / f"{number}.xml"
        file.write_text(f"<?xml version='1.0'?><!-- {'x' * 20_000} -->\n{file.read_text()}")
    assert sum(map(len, read_folder(tmp_path)[0].values())) == 2


def test_names_of_elements_may_have_capitals(tmp_path: Path) -> None:
    head = "<filename>photo.png</filename><size><width>128</width><height>96</height></size>"
    cube = "<polygon><x1>3</x1><y1>4</y1><x2>20</x2><y2>4</y2><x3>20</x3><y3>9</y3></polygon>"
    objects = thing("cat", 1, 11, 21, 30, 40), f"<object><name>dog</name>{cube}</object>"
    put(tmp_path / "small", "photo.png", "a.xml", *objects, head=head)
    put(tmp_path / "large", "photo.png", "a.xml", *objects, head=head)
    file = tmp_path / "large" / "a.xml"
    file.write_text(capitals(file.read_text()))
    assert "<Bndbox><XMin>11</XMin>" in file.read_text()
    small, large = (read_split(tmp_path / name, "train", SETTINGS)[0] for name in ("small", "large"))
    assert large.class_names == ("cat", "dog")
    assert (large.boxes.tolist(), large.ignore.tolist()) == ([CAT_BOX, [3, 4, 20, 9]], [True, False])
    assert large.size == small.size == (96, 128)
    np.testing.assert_array_equal(large.boxes, small.boxes)

    tree = Tree(tmp_path / "large")
    (source,) = pascal_voc.sources(tree, [file], SETTINGS)
    cat, dog = pascal_voc.read_image(source, large.image, tree) or []
    pascal_voc.write_image(source, large.image, [cat._replace(name="cow", ignore=False), dog], tree)
    assert re.findall("<(?:Name|Difficult|XMin)>[^<]*", file.read_text()) == [
        *("<Name>cow", "<Difficult>0", "<XMin>11", "<Name>dog")
    ]
    assert "<name>" not in file.read_text()


def test_difficult_is_kept(voc: Path) -> None:
    first = read_split(voc, "train", SETTINGS)[0]
    assert first.class_names == ("dog", "cat")
    assert first.ignore.tolist() == [False, True]


@pytest.mark.parametrize("first", ["0", "0.0", "0.4"])
def test_a_box_at_0_tells_that_its_writer_counts_from_0(first: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", thing("cat", 0, first, 5, 30, 40))
    put(tmp_path, "b.png", "b.xml", CAT)
    splits, problems = read_folder(tmp_path)
    assert [record.boxes.tolist() for record in splits["all"]] == [
        [[pytest.approx(float(first)), 5, 30, 40]],
        [[11, 21, 30, 40]],
    ]
    assert kinds(problems) == [("pixels from 0", "repaired", 0, 0)]
    assert "so the 2 annotations must count from 0" in problems[0].message


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (-3, 5, 30, 40), (0, 5, 0, 40)])
def test_what_is_no_box_does_not_tell_it(box: tuple[int, ...], tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", thing("cat", 0, *box), CAT)
    splits, problems = read_folder(tmp_path)
    assert splits["all"][0].boxes[1].tolist() == CAT_BOX
    assert not problems


ROTATED = "<robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>{}</angle></robndbox>"
CORNERS = "".join(
    f"<x_{name}>{x}</x_{name}><y_{name}>{y}</y_{name}>"
    for name, x, y in [("left_top", 50, 30), ("right_top", 60, 40), ("right_bottom", 50, 50), ("left_bottom", 40, 40)]
)
SHAPES = {
    "polygon": (
        "<polygon><x1>5</x1><y1>50</y1><x2>9</x2><y2>20</y2><x3>30.5</x3><y3>41</y3></polygon>",
        [5, 20, 30.5, 50],
    ),
    "points of a polygon": (
        "<polygon><username>me</username><pt><x>5</x><y>50</y></pt><!-- a --><pt><x>30</x><y>20</y></pt></polygon>",
        [5, 20, 30, 50],
    ),
    "rotated by 0": (ROTATED.format(0), [40, 35, 60, 45]),
    "rotated by 90": (ROTATED.format(np.pi / 2), [45, 30, 55, 50]),
    "rotated by 45": (
        ROTATED.format(-np.pi / 4),
        [50 - 450**0.5 / 2, 40 - 450**0.5 / 2, 50 + 450**0.5 / 2, 40 + 450**0.5 / 2],
    ),
    "corners": (f"<robndbox>{CORNERS}</robndbox>", [40, 30, 60, 50]),
    "bndbox and polygon": (BOX.format(11, 21, 30, 40) + "<polygon><x1>1</x1><y1>1</y1></polygon>", CAT_BOX),
    "another order": ("<bndbox><xmax>30</xmax><xmin> 11 </xmin><ymax>40</ymax><ymin>21</ymin></bndbox>", CAT_BOX),
    "decimal comma": (BOX.format("11,5", 21, "30,5", 40), [10.5, 20, 30.5, 40]),
    "a part": (BOX.format(11, 21, 30, 40) + f"<part><name>head</name>{BOX.format(12, 22, 15, 25)}</part>", CAT_BOX),
    "exponent": (BOX.format("1.1e1", 21, 30, 40), CAT_BOX),
}


def test_names_keep_their_spaces(tmp_path: Path) -> None:
    """Whether 'cat ' is 'cat', a person decides: `frcnn check` warns."""
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    objects = [f"<object><name>{name}</name>{box}" for name in ("cat", "cat ", "  ")]
    put(tmp_path, "a.png", "a.xml", "".join(objects))
    splits, problems = read_folder(tmp_path)
    assert splits["all"][0].class_names == ("cat", "cat ")
    assert [problem.kind for problem in problems] == ["invalid object"]


@pytest.mark.parametrize(("shape", "box"), SHAPES.values(), ids=SHAPES)
def test_shapes(shape: str, box: list[float], tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", f"<object><name>\n  cat\n</name>{shape}</object>")
    splits, problems = read_folder(tmp_path)
    (record,) = splits["all"]
    assert record.class_names == ("cat",)
    np.testing.assert_allclose(record.boxes, [box], rtol=1e-6)
    assert [problem.level for problem in problems] == ["warning"] * ("robndbox" in shape)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            thing("cat", 0, 1, 1, "wide", 5),
            r"object 2 \('cat'\): its bndbox must have the numbers xmin, ymin, xmax, ymax",
        ),
        (thing("", 0, 1, 1, 2, 5), r"object 2 \(''\): has no name"),
        ("<object><name>cat</name></object>", r"object 2 \('cat'\): its bndbox must"),
        ("<object><name>cat</name><polygon/></object>", r"object 2 \('cat'\): its bndbox must"),
    ],
)
def test_a_wrong_object_is_left_out(wrong: str, message: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", CAT, wrong, CAT)
    splits, problems = read_folder(tmp_path)
    assert splits["all"][0].boxes.tolist() == [CAT_BOX, CAT_BOX]
    assert kinds(problems) == [("invalid object", "left out", 0, 1)]
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path, DataSettings(strict=True))


# -------------------------------------------------------------------------------------------------------------- splits


def test_splits(voc: Path) -> None:
    assert names(voc, "train") == ["a", "b"]
    assert names(voc, "test") == ["c", "d"]
    assert names(voc, "train", train_split="train") == ["a"]
    assert names(voc, "test", test_split="val") == ["b"]


def test_without_test_txt_it_is_train_and_val(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "test.txt").unlink()
    assert (names(voc, "train"), names(voc, "test")) == (["a"], ["b"])
    (voc / "ImageSets" / "Main" / "val.txt").unlink()
    assert names(voc, "test") == []


def test_the_list_of_one_class_counts_only_if_it_is_named(voc: Path) -> None:
    put_list(voc, "dog_trainval", "a  1\nb -1\nd  0\n")
    assert set(read_folder(voc)[0]) == {"train", "val", "trainval", "test"}
    assert names(voc, "train", train_split="dog_trainval") == ["a", "d"]


def test_a_list_of_a_split_may_have_any_name(voc: Path) -> None:
    put_list(voc, "train_2007", "a\n")
    assert names(voc, "train", train_split="train_2007") == ["a"]


def test_names_with_spaces_are_whole_lines(voc: Path) -> None:
    put_listed(voc, "my photo 1", CAT)
    put_list(voc, "train", "my photo 1\na\n")
    assert names(voc, "train", train_split="train") == ["my photo 1", "a"]


@pytest.mark.parametrize(
    "line",
    [
        "{0}",
        "{0}.png",
        "{0}.xml",
        "JPEGImages/{0}.png",
        "JPEGImages\\{0}.png",
        "/home/me/voc/JPEGImages/{0}.png",
        "./JPEGImages/{0}.png ./Annotations/{0}.xml",
        "  {0}  \r",
    ],
)
@pytest.mark.parametrize("place", ["ImageSets/Main", "ImageSets", ".", "splits"])
def test_lists_in_other_words_and_places(line: str, place: str, voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets")
    (voc / place).mkdir(parents=True, exist_ok=True)
    for split, listed in {"train": "ab", "test": "dc"}.items():
        (voc / place / f"{split}.txt").write_text("\n" + "".join(line.format(name) + "\n" for name in listed))
    (voc / "labels.txt").write_text("cat\ndog\n")
    (voc / "train_log.txt").write_text("epoch 1\nepoch 2\n")
    assert stems(voc) == {"train": ["a", "b"], "test": ["d", "c"]}


def test_lists_of_segmentation_are_others(voc: Path) -> None:
    for kind in ("Segmentation", "Layout", "Action"):
        (voc / "ImageSets" / kind).mkdir()
        (voc / "ImageSets" / kind / "train.txt").write_text("c\n")
    assert stems(voc)["train"] == ["a"]


def test_image_sets_count_more_than_other_lists(voc: Path) -> None:
    (voc / "train.txt").write_text("c\nd\n")
    assert stems(voc)["train"] == ["a"]


def test_several_years_of_a_devkit(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("data")
    for year in ("VOC2007", "VOC2012"):
        for name in ("1", "2"):
            put_listed(folder / "VOCdevkit" / year, f"{year[3:]}_{name}", CAT)
        put_list(folder / "VOCdevkit" / year, "train", f"{year[3:]}_1\n")
        put_list(folder / "VOCdevkit" / year, "val", f"{year[3:]}_2\n")
    assert stems(folder) == {"train": ["2007_1", "2012_1"], "val": ["2007_2", "2012_2"]}


def test_several_folders_with_lists_of_the_same_names(tmp_path: Path) -> None:
    for number, folder in enumerate(("camera1", "camera2"), start=1):
        for name in ("000", "001"):
            put_listed(tmp_path / folder, name, thing("cat", 0, number, number, 30, 40))
        put_list(tmp_path / folder, "train", "000\n000\n")
        put_list(tmp_path / folder, "test", "001\n")
    splits, problems = read_folder(tmp_path)
    found = {
        split: [(record.image.relative_to(tmp_path).parts[0], record.boxes[0, 0]) for record in records]
        for split, records in splits.items()
    }
    assert found == {split: [("camera1", 0), ("camera2", 1)] for split in ("test", "train")}
    assert not problems


LAYOUTS: dict[str, tuple[str, str]] = {
    "apart": ("{split}/images/{name}.png", "{split}/annotations/{name}.xml"),
    "beside": ("{split}/{name}.png", "{split}/{name}.xml"),
    "split below": ("images/{split}/{name}.png", "annotations/{split}/{name}.xml"),
    "folders of the images": ("{split}/{name}.png", "annotations/{name}.xml"),
    "folders of the annotations": ("images/{name}.png", "{split}_xmls/{name}.xml"),
    "deeper": ("images/{split}/day1/{name}.png", "xml/{split}/day1/{name}.xml"),
    "suffix twice": ("{split}/{name}.png", "{split}/{name}.xml.xml"),
    "both suffixes": ("{split}/{name}.png", "{split}/{name}.png.xml"),
}


@pytest.mark.parametrize(("image", "xml"), LAYOUTS.values(), ids=LAYOUTS)
def test_folders_tell_splits(image: str, xml: str, tmp_path: Path) -> None:
    for split, name in (("train", "test_1"), ("train", "a"), ("valid", "b"), ("test", "train_2")):
        put(tmp_path, image.format(split=split, name=name), xml.format(split=split, name=name), CAT)
    assert {split: set(found) for split, found in stems(tmp_path).items()} == {
        "train": {"a", "test_1"},
        "valid": {"b"},
        "test": {"train_2"},
    }


def test_without_lists_and_folders_there_is_one_split(voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets")
    assert stems(voc) == {"all": ["a", "b", "c", "d"]}
    for part in ("Annotations", "JPEGImages"):  # as a labeling tool leaves them, all in one folder
        for file in (voc / part).iterdir():
            file.rename(voc / file.name)
        (voc / part).rmdir()
    assert stems(voc) == {"all": ["a", "b", "c", "d"]}


def test_a_missing_split_is_named(voc: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no split 'mine' \(data\.train_split\); its splits: test, train, trainval, val"
    ):
        names(voc, "train", train_split="mine")


# -------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(
    "head",
    [
        "<filename>b.png</filename>",
        "<folder>images</folder><filename>b</filename>",
        "<filename>photo of a cat</filename><path>C:\\Users\\me\\images\\b.png</path>",
        "<filename>b.jpg</filename>",
    ],
)
def test_an_annotation_of_another_name_says_its_image(head: str, tmp_path: Path) -> None:
    put(tmp_path, "images/b.png", "xml/0001.xml", CAT, head=head)
    assert stems(tmp_path) == {"all": ["b"]}


def test_a_name_that_was_left_behind_is_not_used(tmp_path: Path) -> None:
    """Photos were renamed or augmented; <filename> still names the old one."""
    for name in ("1", "2", "3"):
        put(tmp_path, f"images/{name}.png", f"xml/{name}.xml", CAT, head="<filename>1.png</filename>")
    assert stems(tmp_path) == {"all": ["1", "2", "3"]}
    (tmp_path / "images" / "2.png").unlink()
    splits, problems = read_folder(tmp_path)
    assert [record.image.stem for record in splits["all"]] == ["1", "3"]
    assert kinds(problems) == [("missing image", "left out", 1, 1)]


def test_the_annotation_chooses_between_two_images(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        head = f"<folder>{day}</folder><filename>1.png</filename>"
        put(tmp_path, f"photos/{day}/1.png", f"xml/{day}-1.xml", CAT, head=head)
    splits, problems = read_folder(tmp_path)
    assert [record.image.parent.name for record in splits["all"]] == ["day1", "day2"]
    assert not problems
    for number, day in enumerate(("day1", "day2")):
        path = f"<path>/home/me/{day}/7.png</path>"
        put(tmp_path / "paths", f"photos/{day}/7.png", f"xml/part{number}/7.xml", CAT, head=path)
    splits, problems = read_folder(tmp_path / "paths")
    assert [record.image.parent.name for record in splits["all"]] == ["day1", "day2"]
    assert not problems
    put(tmp_path / "near", "photos/7.png", "data/xml/7.xml", CAT, head="<path>/home/me/photos/7.png</path>")
    (tmp_path / "near" / "data" / "thumbs").mkdir()
    draw_image([]).save(tmp_path / "near" / "data" / "thumbs" / "7.png")
    (record,) = read_folder(tmp_path / "near")[0]["all"]
    assert record.image.parent.name == "photos"
    put(tmp_path / "one", "a.png", "a.xml", CAT, head="<filename>a.png</filename>")
    draw_image([]).save(tmp_path / "one" / "a.jpg")
    splits, problems = read_folder(tmp_path / "one")
    assert [record.image.name for record in splits["all"]] == ["a.png"]
    assert kinds(problems) == [("image without annotation", "warning", 0, 0)]


def test_images_without_annotation_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "xml/a.xml", CAT)
    draw_image([]).save(tmp_path / "images" / "b.png")
    (tmp_path / "logos").mkdir()
    draw_image([]).save(tmp_path / "logos" / "c.png")  # not beside annotated images
    splits, problems = read_folder(tmp_path)
    assert [record.image.stem for record in splits["all"]] == ["a"]
    expected = [("b.png", "image without annotation", 0)]
    assert [(problem.path.name, problem.kind, problem.images) for problem in problems] == expected
    (tmp_path / "xml" / "b.xml").write_text("")
    _, problems = read_folder(tmp_path)
    assert [(problem.path.name, problem.kind, problem.images) for problem in problems] == expected


def test_what_is_listed_and_missing_is_left_out(voc: Path) -> None:
    put_list(voc, "test", "c\nghost\nd\n")
    (voc / "Annotations" / "d.xml").unlink()
    splits, problems = read_folder(voc)
    assert [record.image.stem for record in splits["test"]] == ["c"]
    assert kinds(problems) == [
        ("missing image", "left out", 1, 0),
        ("image without annotation", "warning", 0, 0),
    ]
    assert str(problems[0]).startswith(f"{voc}/ImageSets/Main/test.txt, line 2: there is no image ghost")


def test_an_image_that_is_annotated_twice(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", CAT)
    put(tmp_path, "a.png", "backup/a.xml", CAT)
    splits, problems = read_folder(tmp_path)
    assert (len(splits["all"]), kinds(problems)) == (1, [("image annotated twice", "warning", 0, 0)])
    put(tmp_path, "a.png", "backup/a.xml", CAT, CAT)
    splits, problems = read_folder(tmp_path)
    assert (len(splits["all"]), kinds(problems)) == (1, [("image annotated twice", "left out", 0, 2)])


def test_a_missing_image_is_not_replaced_by_one_with_an_annotation_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "a b.png", "a b.xml", CAT)
    shutil.copy(tmp_path / "a b.xml", tmp_path / "a%20b.xml")
    splits, (problem,) = read_folder(tmp_path)
    assert [record.image.name for record in splits["all"]] == ["a b.png"]
    assert (problem.kind, problem.path.name, problem.objects) == (ProblemKind.MISSING_IMAGE, "a%20b.xml", 1)


# --------------------------------------------------------------------------------------------------------------- files

TEXT = (
    "<annotation><filename>a.png</filename><object><name>Käse 奶酪</name>"
    + BOX.format(11, 21, 30, 40)
    + "</object></annotation>"
)
ENCODED: dict[str, bytes] = {
    "UTF-8": TEXT.encode(),
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "declared": b'<?xml version="1.0" encoding="utf-8"?>\r\n' + TEXT.encode(),
    "UTF-16": f'<?xml version="1.0" encoding="utf-16"?>{TEXT}'.encode("utf-16"),
    "UTF-8 that says UTF-16": b'<?xml version="1.0" encoding="utf-16"?>' + TEXT.encode(),
    "GB18030": f'<?xml version="1.0" encoding="GB18030"?>{TEXT}'.encode("gb18030"),
    "comment and DOCTYPE": f"<!-- by me -->\n<!DOCTYPE annotation>\n{TEXT}".encode(),
}


@pytest.mark.parametrize("content", ENCODED.values(), ids=ENCODED)
def test_encodings(content: bytes, tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml")
    (tmp_path / "a.xml").write_bytes(content)
    splits, problems = read_folder(tmp_path)
    assert [(record.class_names, record.boxes.tolist()) for record in splits["all"]] == [(("Käse 奶酪",), [CAT_BOX])]
    assert not problems


BOMB = '<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotation><folder>&b;</folder></annotation>'
BROKEN: dict[str, tuple[bytes, str]] = {
    "cut off": (TEXT.encode()[:-20], "not an XML file that can be read"),
    "not UTF-8": (TEXT.encode("gb18030"), "not an XML file that can be read"),
    "entities": (BOMB.encode(), "defines entities, which may expand without end"),
    "entities in UTF-16": (BOMB.encode("utf-16"), "defines entities"),
    "unknown encoding": (b'<?xml version="1.0" encoding="klingon"?>' + TEXT.encode(), "encoding klingon is not known"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_among_many_is_left_out(content: bytes, message: str, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}.png", f"{name}.xml", CAT)
    (tmp_path / "b.xml").write_bytes(content)
    splits, problems = read_folder(tmp_path)
    assert [record.image.stem for record in splits["all"]] == ["a", "c"]
    assert kinds(problems) == [("unreadable annotation", "left out", 1, 0)]
    assert message in problems[0].message


@pytest.mark.parametrize(
    "text",
    ["<annotations><image name='a.png'/></annotations>", "<html></html>", "<annotationx/>", "annotation", "", "{}"],
)
def test_other_files_are_not_recognized(text: str, tmp_path: Path) -> None:
    assert not pascal_voc.recognizes(tmp_path / "a.xml", text.encode())


def test_the_size_is_that_of_the_annotation(tmp_path: Path) -> None:
    sizes = {"a": (256, 192), "b": (0, 0), "c": ("", "")}
    for name, (width, height) in sizes.items():
        head = f"<size><width>{width}</width><height>{height}</height></size>"
        put(tmp_path, f"{name}.png", f"{name}.xml", CAT, head=head)
    assert [record.size for record in read_folder(tmp_path)[0]["all"]] == [(192, 256), None, None]


# ----------------------------------------------------------------------------------------------------------- real sets


def test_of_the_blood_cells_two_boxes_are_wrong(shared: Path) -> None:
    """Real photos; whoever labeled them clicked twice without drawing."""
    splits, problems = read_folder(shared / "datasets" / "bccd")
    assert {name: len(records) for name, records in splits.items()} == {
        "train": 205,
        "val": 87,
        "trainval": 292,
        "test": 72,
    }
    assert sum(sum(splits[split].class_counts.values()) for split in ("train", "val", "test")) == 4888
    assert not problems
    dataset = open_dataset(shared / "datasets" / "bccd", SETTINGS)
    assert [(problem.path.stem, problem.kind, problem.place) for problem in dataset.problems] == [
        ("BloodImage_00338", "box without area", "object 13 ('RBC')"),
        ("BloodImage_00343", "box without area", "object 4 ('RBC')"),
    ]


def test_annotations_apart_from_the_images(shared: Path) -> None:
    splits, problems = read_folder(shared / "datasets" / "raccoon")
    assert {name: (len(records), records.class_counts) for name, records in splits.items()} == {
        "all": (200, {"raccoon": 217})
    }
    assert not problems


# -------------------------------------------------------------------------------------------------------------- edited


def edit(folder: Path, name: str, change: Callable[[list[Annotation]], list[Annotation]]) -> str:
    """Change the objects of an image; the text of its file afterwards."""
    found = discover(folder, SETTINGS)
    source = found.sources[0]
    (image,) = [each for each in pascal_voc.images(source, found.tree) if each.stem == name]
    objects = pascal_voc.read_image(source, image, found.tree)
    pascal_voc.write_image(source, image, change(objects or []), found.tree)
    return next(folder.rglob(f"{name}.xml")).read_text()


def test_an_edit_keeps_what_frcnn_does_not_know(tmp_path: Path) -> None:
    extra = "<pose>Left</pose><part><name>head</name></part>"
    unknown = "<object><name>ghost</name></object>"
    put(
        tmp_path,
        "images/a.png",
        "xml/a.xml",
        CAT.replace("<difficult>", f"{extra}<difficult>"),
        unknown,
        head="<!-- me --><source/>",
    )
    text = edit(
        tmp_path, "a", lambda objects: [objects[0]._replace(box=(1, 2, 30, 40)), Annotation((5, 6, 7, 9), "dog")]
    )
    for kept in ("<!-- me -->", "<source />", "<pose>Left</pose>", "<name>head</name>", "<name>ghost</name>"):
        assert kept in text
    splits, _ = read_folder(tmp_path)
    assert splits["all"][0].boxes.tolist() == [[1, 2, 30, 40], [5, 6, 7, 9]]


def test_an_edit_counts_as_the_others_do(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", thing("cat", 0, 0, 5, 30, 40))
    put(tmp_path, "b.png", "b.xml", CAT)
    text = edit(tmp_path, "b", lambda objects: [*objects, Annotation((5, 6, 70, 90), "dog")])
    assert BOX.format(11, 21, 30, 40) in "".join(text.split())
    assert BOX.format(5, 6, 70, 90) in "".join(text.split())


def test_a_new_annotation_goes_where_the_others_are(tmp_path: Path) -> None:
    put(tmp_path, "images/day1/a.png", "xml/day1/a.xml", CAT)
    put(tmp_path, "images/day2/b.png", "xml/day2/b.xml", CAT)
    draw_image([]).save(tmp_path / "images" / "day2" / "c.png")
    edit(tmp_path, "c", lambda objects: [Annotation((10, 20, 30, 40), "cat")])
    assert (tmp_path / "xml" / "day2" / "c.xml").is_file()
    assert read_folder(tmp_path)[0]["all"][2].boxes.tolist() == [CAT_BOX]


def test_a_broken_annotation_is_not_edited(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", CAT)
    put(tmp_path, "b.png", "b.xml", CAT)
    (tmp_path / "b.xml").write_text("<annotation>")
    with pytest.raises(
        ValueError,
        match=r"b\.xml, line 1, column 13: not an XML file that can be read \(no element found\): '<annotation>'",
    ):
        edit(tmp_path, "b", lambda objects: objects)


def test_the_annotation_of_an_image_can_be_removed(voc: Path) -> None:
    tree = Tree(voc)
    source = next(source for source in discover(voc, SETTINGS).sources if source.split == "train")
    (image,) = pascal_voc.images(source, tree)
    pascal_voc.write_image(source, image, None, tree)
    assert not (voc / "Annotations" / "a.xml").exists()
    assert pascal_voc.read_image(source, image, tree) is None


def test_all_splits_count_from_the_same_number(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"train/{number}.png", f"train/{number}.xml", thing("cat", 0, 0, 5, 30, 40))
    put(tmp_path, "val/9.png", "val/9.xml", thing("cat", 0, 11, 21, 30, 40))
    splits, _ = read_folder(tmp_path)
    assert splits["val"][0].boxes.tolist() == [[11, 21, 30, 40]]


def test_one_box_at_zero_is_a_mistake(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.xml", *[CAT] * 150, thing("cat", 0, 0, 5, 30, 40))
    splits, problems = read_folder(tmp_path)
    assert splits["all"][0].boxes[0].tolist() == CAT_BOX
    assert "pixels from 0" not in [problem.kind for problem in problems]


def test_lists_with_class_species_and_breed(tmp_path: Path) -> None:
    """As those of Oxford's pets."""
    for name in ("Pug_0", "Pug_1", "Pug_2"):
        put(tmp_path, f"images/{name}.png", f"annotations/xmls/{name}.xml", CAT)
    draw_image([]).save(tmp_path / "images" / "Pug_3.png")
    (tmp_path / "annotations" / "trainval.txt").write_text("Pug_0 1 1 1\nPug_1 1 1 1\nPug_3 1 1 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("Pug_2 1 1 1\n")
    splits, problems = read_folder(tmp_path)
    found = {split: [record.image.stem for record in records] for split, records in splits.items()}
    assert found == {"test": ["Pug_2"], "trainval": ["Pug_0", "Pug_1"]}
    assert [problem.kind for problem in problems] == ["image without annotation"]
