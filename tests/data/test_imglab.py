"""imglab, the labeling program of dlib."""

from pathlib import Path

from data.layouts import Photo, put, put_image
from data.reading import read_folder

from frcnn.config import DataSettings
from frcnn.data.formats import imglab
from frcnn.data.tree import Tree


def dataset(*images: str) -> str:
    return f"<dataset><name>x</name><images>{''.join(images)}</images></dataset>"


def test_boxes(tmp_path: Path) -> None:
    put_image(tmp_path / "a.jpg", Photo("a.jpg", 100, 80, ()))
    boxes = (
        "<box top='20' left='10' width='30' height='40'/>"
        "<box top='1' left='2' width='3' height='4' ignore='1'><label>cat</label></box>"
        "<box top='1' left='2' width='x' height='4'><label>dog</label></box>"
    )
    put(tmp_path / "data.xml", dataset(f"<image file='old/a.jpg'>{boxes}</image>", "<image file='gone.jpg'/>"))
    splits, problems = read_folder(tmp_path)
    (record,) = splits["all"]
    assert record.boxes.tolist() == [[10, 20, 40, 60], [2, 1, 5, 5]]
    assert (record.class_names, record.ignore.tolist()) == (("object", "cat"), [False, True])
    assert [(problem.kind, problem.place, problem.lost) for problem in problems] == [
        ("invalid object", "image old/a.jpg, object 3 ('dog')", ("dog",)),
        ("missing image", "image gone.jpg", ()),
    ]


def test_splits_by_the_folders_of_images_and_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    put_image(tmp_path / "train" / "a.jpg", Photo("a.jpg", 100, 80, ()))
    put_image(tmp_path / "test" / "b.jpg", Photo("b.jpg", 100, 80, ()))
    put(tmp_path / "faces.xml", dataset("<image file='train/a.jpg'/>", "<image file='test/b.jpg'/>"))
    put(tmp_path / "z.xml", "<dataset><images>")
    splits, problems = read_folder(tmp_path)
    assert {split: [record.image.name for record in records] for split, records in splits.items()} == {
        "train": ["a.jpg"],
        "test": ["b.jpg"],
        "all": [],
    }
    assert [(problem.kind, problem.path.name) for problem in problems] == [("unreadable annotation", "z.xml")]


def test_other_data_sets_are_not_its_own(tmp_path: Path) -> None:
    put(tmp_path / "a.xml", "<dataset><row a='1'/></dataset>")
    assert not imglab.recognizes(tmp_path / "a.xml", b"<dataset><row a='1'/></dataset>")
    assert imglab.sources(Tree(tmp_path), [], DataSettings()) == []
