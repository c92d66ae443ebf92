"""Measuring while training: what is kept, when it ends, and the average of weights."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_detector, train_tiny, write_tiny
from torch import Tensor

from frcnn.config import DataSettings, merge
from frcnn.data.dataset import open_dataset
from frcnn.evaluation.evaluate import evaluate
from frcnn.evaluation.measure import measure
from frcnn.nn.checkpoint import load
from frcnn.training import run as run_module
from frcnn.training.metrics import read_metrics
from frcnn.training.optimizer import make_average
from frcnn.training.validation import ValidationReport, mean_losses, validate

VALIDATED = ("train.validate_every=1", "data.val_fraction=0.3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "data")


def script(monkeypatch: pytest.MonkeyPatch, aps: list[float], losses: list[float] | None = None) -> list[dict]:
    """Measurements as written here, instead of real ones; the weights that they were made of."""
    seen: list[dict[str, Tensor]] = []

    def measured(detector, records, *, epoch: int, step: int) -> ValidationReport:
        number = len(seen)
        seen.append({name: tensor.clone() for name, tensor in detector.state_dict().items()})
        loss = losses[number] if losses else 1.0
        return ValidationReport(epoch, step, aps[number], 0.0, loss, {}, {})

    monkeypatch.setattr(run_module, "validate", measured)
    return seen


def test_a_share_of_the_training_images_is_set_aside(data: Path) -> None:
    whole = open_dataset(data, DataSettings())
    split = open_dataset(data, DataSettings(val_fraction=0.3))
    again = open_dataset(data, DataSettings(val_fraction=0.3))
    names = [[record.image.name for record in part] for part in (split.train, split.val)]
    assert [len(part) for part in names] == [4, 1]
    assert sorted(names[0] + names[1]) == sorted(record.image.name for record in whole.train)
    assert names == [[record.image.name for record in part] for part in (again.train, again.val)]
    assert len(split.test) == len(whole.test)


def test_measurements_are_told_and_the_best_is_kept(data: Path, tmp_path: Path, monkeypatch) -> None:
    seen = script(monkeypatch, [0.2, 0.6, 0.6, 0.4], [1.0, 0.9, 0.8, 0.1])
    lines: list[str] = []
    detector, run = train_tiny(data, tmp_path / "run", *VALIDATED, "train.epochs=4", log=lines.append)
    told = [line for line in read_metrics(run) if line["event"] == "validation"]
    assert [(line["epoch"], line["step"], line["mean_ap"]) for line in told] == [
        (1, 4, 0.2),
        (2, 8, 0.6),
        (3, 12, 0.6),
        (4, 16, 0.4),
    ]
    best, last = load(run).state_dict(), load(run / "last.safetensors").state_dict()
    torch.testing.assert_close(best, seen[2], rtol=0, atol=0)  # the same AP, a lower loss
    torch.testing.assert_close(last, seen[3], rtol=0, atol=0)
    torch.testing.assert_close(detector.state_dict(), best, rtol=0, atol=0)
    assert not (run / "best.safetensors").exists()
    assert "model.safetensors has the weights of epoch 3, the best; last.safetensors those of the last" in lines


def test_every_few_epochs_and_after_the_last(data: Path, tmp_path: Path, monkeypatch) -> None:
    script(monkeypatch, [0.1] * 3)
    settings = ("data.val_fraction=0.3", "train.validate_every=2", "train.epochs=5")
    _, run = train_tiny(data, tmp_path / "run", *settings)
    assert [line["epoch"] for line in read_metrics(run) if line["event"] == "validation"] == [2, 4, 5]


def test_training_ends_when_nothing_gets_better(data: Path, tmp_path: Path, monkeypatch) -> None:
    seen = script(monkeypatch, [0.1, 0.5, 0.4, 0.3, 0.9])
    lines: list[str] = []
    settings = (*VALIDATED, "train.epochs=9", "train.patience=2")
    _, run = train_tiny(data, tmp_path / "run", *settings, log=lines.append)
    assert len(seen) == 4
    assert "no better measurement in 2; training ends" in lines
    torch.testing.assert_close(load(run).state_dict(), seen[1], rtol=0, atol=0)


def test_alternating_is_measured_when_its_parts_belong_together(data: Path, tmp_path: Path, monkeypatch) -> None:
    script(monkeypatch, [0.1, 0.2])
    settings = (*VALIDATED, "train.scheme=alternating", "train.rpn_epochs=2", "train.roi_epochs=2")
    _, run = train_tiny(data, tmp_path / "run", *settings)
    assert [line["epoch"] for line in read_metrics(run) if line["event"] == "validation"] == [7, 8]


def test_a_validation_says_what_an_evaluation_says_and_the_losses(data: Path) -> None:
    detector = tiny_detector()
    records = open_dataset(data, DataSettings()).test
    report = validate(detector, records, epoch=3, step=7)
    evaluation = evaluate(detector, data)
    assert (report.mean_ap, report.coco_ap, report.recall) == (
        evaluation.mean_ap,
        evaluation.coco_ap,
        evaluation.recall,
    )
    assert report.losses == mean_losses(detector, records)  # the same samples every time
    assert report.loss == pytest.approx(sum(report.losses.values()))
    singles = [mean_losses(detector, records[i : i + 1]) for i in range(2)]
    for name in ("rpn_box", "roi_class"):
        # alone, the second is in the first place and draws other samples, so this is roughly the mean of the two
        assert report.losses[name] == pytest.approx(sum(single[name] for single in singles) / 2, rel=0.2)


def test_recall_is_in_the_evaluation(data: Path) -> None:
    records = open_dataset(data, DataSettings()).test
    evaluation = measure(tiny_detector(), records, split="test")
    assert set(evaluation.recall) == {50, 100, 300}
    assert 0 < evaluation.recall[300] <= 1
    assert f"{evaluation.recall[300]:.4f} at 300" in evaluation.table()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.validate_every=1",), r"no validation images with objects; set data\.val_fraction, e\.g\. 0\.2"),
        (("data.val_fraction=0.3",), r"sets images aside that nothing measures; set train\.validate_every too"),
        (("train.patience=1",), r"train\.patience counts measurements, and there are none"),
        (("train.validate_every=1", "data.val_set=val"), r"has no set 'val' .* train, test; data\.val_fraction sets"),
    ],
)
def test_settings_that_do_not_go_together(data: Path, tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tiny(data, tmp_path / "run", *settings)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------------------- averaged weights


def test_the_average_is_exponential_and_soon_forgets_the_beginning() -> None:
    detector = tiny_detector()
    average = make_average(detector, 0.9)
    name = "roi_head.logits.weight"
    expected = torch.zeros(())
    for step in range(12):
        with torch.no_grad():
            detector.get_parameter(name).fill_(float(step))
        average.update_parameters(detector)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = torch.tensor(0.0) if step == 0 else expected * decay + step * (1 - decay)
    torch.testing.assert_close(average.module.get_parameter(name)[0, 0], expected)
    same = "backbone.conv_layers.conv_stem.weight"
    assert torch.equal(
        average.module.get_parameter(same), detector.get_parameter(same)
    )  # what is fixed stays bit-equal


def test_the_average_takes_the_place_of_the_weights(data: Path, tmp_path: Path) -> None:
    averaged = load(train_tiny(data, tmp_path / "averaged", "train.ema_decay=0.5")[1]).state_dict()
    plain = load(train_tiny(data, tmp_path / "plain")[1]).state_dict()
    assert not torch.equal(averaged["roi_head.logits.weight"], plain["roi_head.logits.weight"])
    assert (merge(file=tmp_path / "averaged" / "config.yaml").train.ema_decay) == 0.5
