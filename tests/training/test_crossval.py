"""Cross-validation: every image is tested once, and differences are taken fold by fold."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import SETTINGS, draw_image, write_annotated

from frcnn.cli import main
from frcnn.config import DataSettings, from_dict, parse_overrides
from frcnn.data.dataset import open_dataset
from frcnn.training.crossval import CrossvalResult, FoldResult, crossval, estimate, load_crossval

QUICK = {**parse_overrides(SETTINGS), "train.epochs": 1, "base_model.weights": "none"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight training images and one test image, which cross-validation must not touch."""
    for number in range(9):
        folder = "testImages" if number == 8 else "positive"
        x, y = 6 * number, 5 * number
        objects = [("blue", (x, 4, x + 40, 44)), ("red", (60, y, 100, y + 30))]
        write_annotated(tmp_path / "photos" / folder / f"{number}.png", objects, seed=number)
    return tmp_path / "photos"


def test_the_folds_test_every_training_image_once_and_train_on_the_others(data: Path) -> None:
    tested: list[str] = []
    for fold in (1, 2, 3):
        dataset = open_dataset(data, DataSettings(fold=(fold, 3)))
        train, test = ({record.image.name for record in part} for part in (dataset.train, dataset.test))
        assert not train & test
        assert train | test == {f"{number}.png" for number in range(8)}
        tested += test
    assert sorted(tested) == [f"{number}.png" for number in range(8)]


def test_near_duplicates_are_in_one_fold(data: Path) -> None:
    image = draw_image([("red", (10, 10, 90, 60))], seed=7)
    for name in ("twin-1", "twin-2", "twin-3"):
        write_annotated(data / "positive" / f"{name}.png", [("red", (10, 10, 90, 60))], seed=7)
        image.save(data / "positive" / f"{name}.png")
    for fold in range(1, 5):
        test = open_dataset(data, DataSettings(fold=(fold, 4))).test
        assert sum("twin" in record.image.name for record in test) in (0, 3)


def test_a_fold_can_be_read_alone_and_validated(data: Path) -> None:
    """`frcnn evaluate RUN_DIR` reads the test images only."""
    alone = open_dataset(data, DataSettings(fold=(2, 4)), ("test",)).test
    with_val = open_dataset(data, DataSettings(fold=(2, 4), val_fraction=0.3))
    assert [record.image for record in alone] == [record.image for record in with_val.test]
    parts = (with_val.train, with_val.val, with_val.test)
    assert sum(map(len, parts)) == len({record.image for part in parts for record in part}) == 8


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Trainings that take no time; the run directory of each."""
    run_dirs: list[Path] = []

    def train(data: Path, *, out: Path, settings: dict[str, Any], **_: Any) -> Any:
        run_dirs.append(out)
        map50 = 0.5 + settings["data.fold"][0] / 10 + settings.get("train.lr", 0)
        return SimpleNamespace(metrics=SimpleNamespace(map50=map50, map=map50 / 2, images=4))

    monkeypatch.setattr("frcnn.training.crossval.train", train)
    return run_dirs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": [0, 4]}, "fold.0' = 0"),
        ({"fold": [5, 4]}, "1 <= k <= n"),
        ({"fold": [1, 1]}, "n >= 2"),
        ({"fold": 3}, "give two numbers"),
        ({"fold": [1, 4], "split": [0.8, 0, 0.2]}, "both choose the test images"),
    ],
)
def test_impossible_folds_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(DataSettings, settings)


def test_each_fold_is_trained_and_its_result_kept(data: Path, tmp_path: Path) -> None:
    result = crossval(data, folds=2, seeds=(1,), out=tmp_path / "cv", settings=QUICK, progress=False)
    assert [(each.fold, each.seed) for each in result.results] == [(1, 1), (2, 1)]
    assert sum(each.images for each in result.results) == 8
    assert all((each.run_dir / "model.safetensors").is_file() for each in result.results)
    assert load_crossval(tmp_path / "cv") == result
    assert str(tmp_path) not in (tmp_path / "cv" / "crossval.json").read_text()
    shutil.copytree(data, other := tmp_path / "other" / "photos")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        crossval(other, folds=2, seeds=(1,), out=tmp_path / "cv", settings=QUICK, progress=False)
    assert "95% interval" in str(result)


def test_an_interrupted_cross_validation_resumes(instant: list[Path], data: Path, tmp_path: Path) -> None:
    def stop(result: FoldResult) -> None:
        if result.fold == 2:
            raise KeyboardInterrupt

    out = tmp_path / "cv"
    with pytest.raises(KeyboardInterrupt):
        crossval(data, folds=3, out=out, settings=QUICK, on_fold=stop)
    assert [each.fold for each in load_crossval(out).results] == [1, 2]
    result = crossval(data, folds=3, out=out, settings=QUICK)
    assert [each.fold for each in result.results] == [1, 2, 3]
    assert crossval(data, folds=2, seeds=(1, 2), out=tmp_path / "seeds", settings=QUICK).seeds == (1, 2)
    assert [each.name for each in instant[3:]] == ["fold-1-seed-1", "fold-1-seed-2", "fold-2-seed-1", "fold-2-seed-2"]
    assert [each.name for each in instant[:3]] == [f"fold-{fold}-seed-3" for fold in (1, 2, 3)]
    with pytest.raises(FileExistsError, match="is not overwritten"):
        crossval(data, folds=2, out=out, settings=QUICK)


def test_without_a_folder_the_interrupted_one_resumes_and_a_finished_one_is_returned(
    instant: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(result: FoldResult) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        crossval(data, folds=2, settings=QUICK, on_fold=stop)
    for _ in range(2):
        assert crossval(data, folds=2, settings=QUICK).folder == Path("runs/photos-crossval")
    assert instant == [Path("runs/photos-crossval") / f"fold-{fold}-seed-3" for fold in (1, 2)]


def test_changed_labels_and_settings_are_trained_on_anew(
    instant: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished folds were trained on the old ones, and the folds are drawn from the labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("train: {lr: 0.01}\n")
    arguments = {"folds": 2, "settings": QUICK, "config": tmp_path / "own.yaml"}
    first = crossval(data, **arguments)
    write_annotated(data / "positive" / "0.png", [("red", (60, 0, 100, 30))], seed=0)
    second = crossval(data, **arguments)
    (tmp_path / "own.yaml").write_text("train: {lr: 0.02}\n")
    third = crossval(data, **arguments)
    folders = [Path("runs") / f"photos-crossval{number}" for number in ("", "-2", "-3")]
    assert [each.folder for each in (first, second, third)] == folders
    assert len(instant) == 6
    with pytest.raises(FileExistsError, match="with other data or settings"):
        crossval(data, **arguments, out=first.folder)


def test_what_cannot_be_evaluated_or_compared_is_said_before_the_first_training(
    instant: list[Path], data: Path, tmp_path: Path
) -> None:
    baseline = crossval(data, folds=3, out=tmp_path / "three", settings=QUICK)
    instant.clear()
    with pytest.raises(ValueError, match="because it has folds 3, not 2"):
        crossval(data, folds=2, out=tmp_path / "two", settings=QUICK, baseline=baseline)
    for number in range(7):
        for file in (data / "positive").glob(f"{number}.*"):
            file.unlink()
    with pytest.raises(ValueError, match="1 training image has objects, too few for 2 folds; label more images"):
        crossval(data, folds=2, out=tmp_path / "few", settings=QUICK)
    assert not instant


@pytest.mark.usefixtures("instant")
def test_the_command_compares_with_a_baseline(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert main(["crossval", str(data), "--folds", "2", "--out", str(first), "--set=train.lr=0.01"]) == 0
    command = ["crossval", str(data), "--folds", "2", "--out", str(second), "--set=train.lr=0.03"]
    capsys.readouterr()
    assert main([*command, "--baseline", str(first), "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["results"][1]["map50"] == pytest.approx(0.73)
    assert "Mean AP +0.0200 (+0.0200 to +0.0200), clear" in printed.err


def result_of(values: list[float], **settings: object) -> CrossvalResult:
    results = [FoldResult(fold, 1, Path(f"fold-{fold}"), 5, value, value / 2) for fold, value in enumerate(values, 1)]
    return CrossvalResult(
        Path("cv"), len(values), (1,), {"data": "d", "folds": len(values), **settings}, tuple(results)
    )


def test_a_difference_is_taken_fold_by_fold() -> None:
    """Hard and easy folds hide nothing, if both settings have them."""
    better, worse = result_of([0.91, 0.52, 0.73, 0.33]), result_of([0.90, 0.50, 0.72, 0.31])
    difference = better.minus(worse)
    assert difference.mean == pytest.approx(0.015)
    assert difference.low > 0
    assert better.estimate().low < worse.estimate().mean
    with pytest.raises(ValueError, match=r"data other, not d"):
        better.minus(result_of([0.9, 0.5, 0.7, 0.3], data="other"))


def test_the_interval_is_students() -> None:
    """Against the textbook: t(0.975, 3) = 3.182."""
    found = estimate([1.0, 2.0, 3.0, 4.0])
    half = 3.182 * math.sqrt(5 / 3) / 2
    assert found == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    assert estimate([0.5]).high == math.inf


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_interval_holds_the_mean_and_shrinks_with_more_values(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=count).tolist()
    found, twice = estimate(values), estimate(values * 2)
    assert found.low <= found.mean <= found.high
    assert twice.high - twice.low < found.high - found.low


def test_a_damaged_result_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "crossval.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        load_crossval(tmp_path)
    with pytest.raises(FileNotFoundError, match="name the folder"):
        load_crossval(tmp_path / "nothing")
