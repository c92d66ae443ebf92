"""Which of a folder's splits train, validate and test."""

from pathlib import Path

import pytest

from frcnn.config import DataSettings
from frcnn.data.dataset import choose_splits


@pytest.mark.parametrize(
    ("names", "settings", "train", "val", "test"),
    [
        ("", {}, None, None, None),
        ("all", {}, "all", None, None),
        ("train", {}, "train", None, None),
        ("train test", {}, "train", None, "test"),
        ("train valid", {}, "train", None, "valid"),
        ("train2017 val2017", {}, "train2017", None, "val2017"),
        ("Training validation Testing", {}, "Training", "validation", "Testing"),
        ("train val trainval test", {}, "trainval", None, "test"),
        ("train val trainval test", {"test_split": "val"}, "train", None, "val"),
        ("train val trainval", {}, "train", None, "val"),
        ("train val trainval test", {"train_split": "train"}, "train", "val", "test"),
        ("val test", {}, "val", None, "test"),
        ("val", {}, "val", None, None),
        ("test", {}, "test", None, None),
        ("test2017", {}, "test2017", None, None),
        ("test", {"test_split": "test"}, None, None, "test"),
        ("all train test", {}, "train", None, "test"),
        ("test train traintest", {}, "train", None, "test"),
        ("train trainvaltest val", {}, "train", None, "val"),
        ("traintest", {}, "traintest", None, None),
        ("test train traintest", {"train_split": "traintest"}, "traintest", None, "test"),
        ("photos test", {}, "photos", None, "test"),
        ("train val test", {"train_split": "val"}, "val", None, "test"),
        ("train val test", {"val_split": "test"}, "train", "test", "test"),
    ],
)
def test_splits(names: str, settings: dict[str, str], train: str | None, val: str | None, test: str | None) -> None:
    chosen = choose_splits(Path("data"), names.split(), DataSettings(**settings))
    assert chosen == {"train": train, "val": val, "test": test}


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        ("all a", {}, r"has several splits all \(the annotations outside of the splits\), a; choose"),
        ("a b", {}, r"data: has several splits a, b; choose the one to train on with data\.train_split"),
        ("train test1 test2", {}, r"several splits test1, test2; choose the one to test on with data\.test_split"),
        ("train", {"test_split": "x"}, r"has no split 'x' \(data\.test_split\); its splits: train"),
        ("train", {"val_split": "x"}, r"data\.val_fraction sets some training images aside"),
    ],
)
def test_splits_that_cannot_be_chosen(names: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_splits(Path("data"), names.split(), DataSettings(**settings))
