"""The commands that work on data: convert, data, and --format and --split of the others."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from tiny import SETTINGS, write_annotated, write_tiny

from frcnn.cli import main
from frcnn.config import DataSettings
from frcnn.data import dataset, split
from frcnn.tools import download
from frcnn.tools.convert import convert_dataset

TRAIN = ["--weights", "none", "--offline", *(a for s in (*SETTINGS, "train.epochs=1") for a in ("--set", s))]


def without_sets(folder: Path) -> Path:
    """A CSV file with all images."""
    convert_dataset(write_tiny(folder / "tiny"), folder / "data", "csv", DataSettings())
    (folder / "data" / "test.csv").unlink()
    return folder / "data"


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_tiny(tmp_path / "data"), tmp_path / "out"
    assert main(["convert", str(data), str(out), "--to", "coco", "--link"]) == 0
    assert capsys.readouterr().out == f"{out}: 5 train, 2 test images, 12 objects, format coco\n"
    assert main(["convert", str(data), str(out), "--to", "coco"]) == 2
    assert "out: exists and is not overwritten" in capsys.readouterr().err
    assert main(["convert", str(data), str(tmp_path / "x"), "--to", "json"]) == 2
    assert "to json: frcnn cannot write this format; choose one of folders, map_files" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["link", "folder", "absolute", "parent"])
def test_images_outside_of_the_folder_are_copied_only_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """Data from strangers may name any file."""
    data, private = tmp_path / "data", tmp_path / "private"
    convert_dataset(write_tiny(tmp_path / "tiny"), data, "csv", DataSettings())
    image = next((data / "images").iterdir())
    private.mkdir()
    if how == "folder":
        (data / "images").rename(private / "images")
        (data / "images").symlink_to(private / "images")
    else:
        image.rename(private / image.name)
    if how == "link":
        image.symlink_to(private / image.name)
    if how in ("absolute", "parent"):
        name = str(private / image.name) if how == "absolute" else f"../private/{image.name}"
        for table in data.glob("*.csv"):
            table.write_text(table.read_text().replace(f"images/{image.name}", name))

    assert main(["check", str(data)]) == 0
    assert "image outside the folder (1)" in capsys.readouterr().out
    for command in (["convert", str(data), str(tmp_path / "out"), "--to", "coco"], ["check", str(data), "--fix"]):
        command += [str(tmp_path / "fixed")] if command[-1] == "--fix" else []
        assert main(command) == 2
        assert re.search(
            rf"data: {'7 images are' if how == 'folder' else '1 image is'} outside of this folder, because .*"
            r"\.png.*; --follow-links",
            capsys.readouterr().err,
        )
        assert main([*command, "--follow-links"]) == 0
        capsys.readouterr()
    for copy in ("out", "fixed"):
        assert len([path for path in (tmp_path / copy).rglob("*.png") if not path.is_symlink()]) == 7


@pytest.mark.parametrize("inside", ["images", "photos.zip"])
def test_a_link_out_of_the_folder_is_reported_once(
    inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also if a split is drawn; also if the link is to an archive."""
    data = without_sets(tmp_path)
    table = data / "train.csv"
    if inside == "photos.zip":
        shutil.make_archive(str(data / "photos"), "zip", data, "images")
        shutil.rmtree(data / "images")
        table.write_text(table.read_text().replace("images/", "photos.zip@/images/"))
    (data / inside).rename(tmp_path / inside)
    (data / inside).symlink_to(tmp_path / inside)
    for option in ([], ["--split", "0.5,0.25,0.25"]):
        assert main(["check", str(data), *option]) == 0
        assert "image outside the folder (1)" in capsys.readouterr().out
    assert main(["convert", str(data), str(tmp_path / "out"), "--to", "coco"]) == 2
    assert "5 images are outside of this folder" in capsys.readouterr().err


def test_convert_draws_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = without_sets(tmp_path)
    command = ["convert", str(data), "--to", "yolo", "--split", "0.6,0.2,0.2"]
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main([*command[:2], str(tmp_path / name), *command[2:], "--seed", seed]) == 0
    assert "3 train, 1 val, 1 test images" in capsys.readouterr().out
    lists = [(tmp_path / name / "test.txt").read_text() for name in "abc"]
    assert lists[0] == lists[1] != lists[2]
    assert main([*command[:2], str(tmp_path / "d"), "--to", "yolo", "--split", "0.6,0.2"]) == 2
    assert "data.split [0.6, 0.2]: give three fractions, for train, val and test" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path / "d"), "--to", "yolo", "--seed", "1"]) == 2
    assert "--seed 1: no split is drawn; add --split TRAIN,VAL,TEST" in capsys.readouterr().err


def test_train_and_evaluate_with_a_split_and_a_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[tuple[str, str]] = Counter()

    def counted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path: (calls.update([(name, path.name)]), function(path))[1])

    data, run = without_sets(tmp_path), tmp_path / "run"
    counted(dataset, "verify_image")
    counted(split, "hash_image")
    write_annotated(data / "more" / "9.png", [("red", (10, 10, 50, 50))])  # in another format
    assert main(["train", str(data), "--out", str(run), *TRAIN]) == 2
    assert "has annotations in two formats for different images" in capsys.readouterr().err
    assert main(["train", str(data), "--out", str(run), "--format", "csv", "--split", "0.6,0.2,0.2", *TRAIN]) == 0
    text = capsys.readouterr().out
    assert "train 3 images" in text
    assert len(calls) == 2 * 5  # training, evaluation and pictures hash and verify each image once in all
    assert set(calls.values()) == {1}
    assert "the validation images are not used" in text
    assert json.loads((run / "metrics.json").read_text())["images"] == 1
    assert main(["evaluate", str(run), "--data", str(data), "--split", "train", "--format", "csv", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3  # the split of the training
    assert main(["evaluate", str(run), "--data", str(data), "--format", "coco"]) == 2


@pytest.mark.parametrize("form", ["pascal_voc", "coco", "yolo", "csv", "map_files"])
def test_all_copies_give_the_same_numbers(tmp_path: Path, form: str) -> None:
    """Trained, and measured."""
    data = write_tiny(tmp_path / "data")
    assert main(["convert", str(data), str(tmp_path / form), "--to", form]) == 0
    results = []
    for name in ("data", form):
        run = tmp_path / f"run-{name}"
        assert main(["train", str(tmp_path / name), "--out", str(run), *TRAIN]) == 0
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        measured = json.loads((run / "metrics.json").read_text())
        results.append(([line["losses"] for line in lines], measured["per_class"], measured["map"], measured["recall"]))
    assert results[0] == results[1]


def test_public_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, out: Path, **options: object) -> Path:
        options["on_bytes"]("Grocery.zip", 5, 10)  # type: ignore[operator]
        raise ConnectionError(f"{name} {out} {options['given']}: no source")

    monkeypatch.setattr(download, "fetch", fetch)
    assert main(["data", "grocery", str(tmp_path / "out"), "--from", "usb"]) == 2
    output = capsys.readouterr()
    assert "30 photos of a refrigerator, 8 classes; license: MIT" in output.out
    assert f"frcnn: error: grocery {tmp_path}/out usb: no source" in output.err
