"""Validation during training: which weights are stored, early stopping, and the average of weights."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_config, tiny_model, train_tiny, write_tiny
from torch import Tensor

from frcnn.cli.training_log import TrainingLog
from frcnn.config import DataSettings, make_config
from frcnn.data.dataset import open_dataset
from frcnn.evaluation.evaluate import evaluate
from frcnn.inference.runtimes import TorchRuntime
from frcnn.nn.model_file import load_model
from frcnn.training import engine
from frcnn.training.loggers import read_metrics
from frcnn.training.optimizer import make_average
from frcnn.training.reports import ValidationReport
from frcnn.training.state import Best
from frcnn.training.validation import mean_losses, validate

VALIDATED = ("train.validate_every=1", "data.val_fraction=0.3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "data")


def script(monkeypatch: pytest.MonkeyPatch, aps: list[float], losses: list[float] | None = None) -> list[dict]:
    """Measurements as written here, instead of real ones; the weights that they were made of."""
    seen: list[dict[str, Tensor]] = []

    def measured(model, records, settings, *, epoch: int, step: int, workers: int) -> ValidationReport:
        number = len(seen)
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        loss = losses[number] if losses else 1.0
        return ValidationReport(epoch, step, aps[number], 0.0, loss, {}, {})

    monkeypatch.setattr(engine, "validate", measured)
    return seen


def test_a_fraction_of_the_training_images_becomes_the_validation_split(data: Path) -> None:
    whole = open_dataset(data, DataSettings())
    split = open_dataset(data, DataSettings(val_fraction=0.3))
    again = open_dataset(data, DataSettings(val_fraction=0.3))
    names = [[record.image.name for record in part] for part in (split.train, split.val)]
    assert [len(part) for part in names] == [4, 1]
    assert sorted(names[0] + names[1]) == sorted(record.image.name for record in whole.train)
    assert names == [[record.image.name for record in part] for part in (again.train, again.val)]
    assert len(split.test) == len(whole.test)


def test_validations_are_logged_and_the_best_weights_are_stored(data: Path, tmp_path: Path, monkeypatch) -> None:
    seen = script(monkeypatch, [0.2, 0.6, 0.6, 0.4], [1.0, 0.9, 0.8, 0.1])
    result = train_tiny(data, tmp_path / "run", *VALIDATED, "train.epochs=4")
    run = result.run_dir
    logged = [line for line in read_metrics(run) if line["event"] == "validation"]
    assert [(line["epoch"], line["step"], line["map50"]) for line in logged] == [
        (1, 4, 0.2),
        (2, 8, 0.6),
        (3, 12, 0.6),
        (4, 16, 0.4),
    ]
    best, last = load_model(run).state_dict(), load_model(run / "last.safetensors").state_dict()
    torch.testing.assert_close(best, seen[2], rtol=0, atol=0)  # the same AP, a lower loss
    torch.testing.assert_close(last, seen[3], rtol=0, atol=0)
    torch.testing.assert_close(result.detector.model.state_dict(), best, rtol=0, atol=0)
    assert not (run / "best.safetensors").exists()
    assert result.best == Best(map50=0.6, loss=0.8, epoch=3, waited=1)


def test_every_few_epochs_and_after_the_last(data: Path, tmp_path: Path, monkeypatch) -> None:
    script(monkeypatch, [0.1] * 3)
    settings = ("data.val_fraction=0.3", "train.validate_every=2", "train.epochs=5")
    run = train_tiny(data, tmp_path / "run", *settings).run_dir
    assert [line["epoch"] for line in read_metrics(run) if line["event"] == "validation"] == [2, 4, 5]


def test_training_ends_when_ap_does_not_improve(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    seen = script(monkeypatch, [0.1, 0.5, 0.4, 0.3, 0.9])
    settings = (*VALIDATED, "train.epochs=9", "train.patience=2")
    run = train_tiny(data, tmp_path / "run", *settings, callbacks=[TrainingLog()]).run_dir
    assert len(seen) == 4
    assert "early stopping: no better one in the last 2 validations\n" in capsys.readouterr().out
    torch.testing.assert_close(load_model(run).state_dict(), seen[1], rtol=0, atol=0)


def test_alternating_is_validated_in_its_last_phase(data: Path, tmp_path: Path, monkeypatch) -> None:
    script(monkeypatch, [0.1, 0.2])
    settings = (*VALIDATED, "train.scheme=alternating", "train.rpn_epochs=2", "train.roi_epochs=2")
    run = train_tiny(data, tmp_path / "run", *settings).run_dir
    assert [line["epoch"] for line in read_metrics(run) if line["event"] == "validation"] == [7, 8]


def test_a_validation_equals_an_evaluation_with_losses(data: Path) -> None:
    model = tiny_model()
    records = open_dataset(data, DataSettings()).test
    report = validate(model, records, tiny_config().train, epoch=3, step=7)
    evaluation = evaluate(TorchRuntime(model), records)
    assert (report.map50, report.map, report.recall) == (
        evaluation.map50,
        evaluation.map,
        evaluation.recall,
    )
    assert report.losses == mean_losses(model, records, tiny_config().train)  # the same samples every time
    assert report.loss == pytest.approx(sum(report.losses.values()))
    singles = [mean_losses(model, records[i : i + 1], tiny_config().train) for i in range(2)]
    for name in ("rpn_box", "roi_class"):
        # alone, the second image has index 0 and other samples, so this is roughly the mean of the two
        assert report.losses[name] == pytest.approx(sum(single[name] for single in singles) / 2, rel=0.2)


def test_recall_is_in_the_evaluation(data: Path) -> None:
    records = open_dataset(data, DataSettings()).test
    evaluation = evaluate(TorchRuntime(tiny_model()), records)
    assert set(evaluation.recall) == {50, 100, 300}
    assert 0 < evaluation.recall[300] <= 1
    assert f"{evaluation.recall[300]:.4f} at 300" in str(evaluation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.validate_every=1",), r"no validation images with objects; set data\.val_fraction, e\.g\. 0\.2"),
        (("data.val_fraction=0.3",), r"the validation images would not be used; set train\.validate_every too"),
        (("train.patience=1",), r"'train\.patience' = 1 has no effect: it needs train\.validate_every"),
        (
            ("train.validate_every=1", "data.val_split=val"),
            r"has no split 'val' .* train, test; data\.val_fraction sets",
        ),
    ],
)
def test_settings_that_do_not_go_together(data: Path, tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tiny(data, tmp_path / "run", *settings)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------------------- averaged weights


def test_the_average_is_exponential_with_a_short_warmup() -> None:
    model = tiny_model()
    average = make_average(model, 0.9)
    name = "roi_head.logits.weight"
    expected = torch.zeros(())
    for step in range(12):
        with torch.no_grad():
            model.get_parameter(name).fill_(float(step))
        average.update_parameters(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = torch.tensor(0.0) if step == 0 else expected * decay + step * (1 - decay)
    torch.testing.assert_close(average.module.get_parameter(name)[0, 0], expected)
    same = "backbone.conv_layers.conv_stem.weight"
    assert torch.equal(average.module.get_parameter(same), model.get_parameter(same))  # what is fixed stays bit-equal


def test_the_average_replaces_the_weights(data: Path, tmp_path: Path) -> None:
    averaged = load_model(train_tiny(data, tmp_path / "averaged", "train.ema_decay=0.5").run_dir).state_dict()
    plain = load_model(train_tiny(data, tmp_path / "plain").run_dir).state_dict()
    assert not torch.equal(averaged["roi_head.logits.weight"], plain["roi_head.logits.weight"])
    assert (make_config(file=tmp_path / "averaged" / "config.yaml").train.ema_decay) == 0.5
