"""The training loop: what learns, what stays, and that the same seed gives the same detector."""

from collections.abc import Sequence

import pytest
import torch
from tiny import CLASSES, tiny_config, tiny_detector, write_tiny
from torch import Tensor

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset
from frcnn.data.loader import load_batch
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.weights import find_weights
from frcnn.training import loop
from frcnn.training.loop import StepReport, fit, make_optimizer
from frcnn.training.phases import end_to_end
from frcnn.types import Batch, Record

PLAIN = ("train.epochs=1", "train.lr=0.01", "train.lr_decay=none", "train.momentum=0", "train.weight_decay=0")
"""A step moves every parameter by rate x gradient."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return open_dataset(write_tiny(tmp_path_factory.mktemp("tiny") / "data"), DataSettings()).train


def trained(
    detector: FasterRCNN, records: Sequence[Record], precision: torch.dtype = torch.float32
) -> list[StepReport]:
    phases = end_to_end(detector.config.train)
    return list(fit(detector, records, phases, device=torch.device("cpu"), precision=precision))


def state(detector: FasterRCNN) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def movements(records: Sequence[Record], *overrides: str) -> dict[str, Tensor]:
    """How far one plain step moves each parameter."""
    detector = tiny_detector(*PLAIN, *overrides)
    before = state(detector)
    trained(detector, records[:1])
    return {name: parameter.detach() - before[name] for name, parameter in detector.named_parameters()}


# ---------------------------------------------------------------------------------------------------- what learns


STAYING = {
    "conv layers": (("train.conv_layers=false",), ("backbone.",)),
    "conv layers and their statistics": (
        ("train.conv_layers=false", "base_model.freeze_batch_norm=false"),
        ("backbone.",),
    ),
    "layers before a node": (
        ("base_model.train_from_node=blocks.2",),
        (
            "backbone.conv_layers.conv_stem",
            "backbone.conv_layers.bn1",
            "backbone.conv_layers.blocks.0",
            "backbone.conv_layers.blocks.1",
        ),
    ),
    "batch norm": (
        (),
        ("backbone.conv_layers.bn1", "backbone.conv_layers.blocks.0.0.bn1", "backbone.conv_layers.blocks.4.2.bn3"),
    ),
}


@pytest.mark.parametrize(("overrides", "staying"), STAYING.values(), ids=STAYING)
def test_what_is_not_trained_stays_bit_equal_and_the_rest_changes(
    records: list[Record], overrides: tuple[str, ...], staying: tuple[str, ...]
) -> None:
    detector = tiny_detector("train.epochs=1", *overrides)
    before = state(detector)
    trained(detector, records[:3])
    after = state(detector)
    kept = [name for name in before if name.startswith(staying)]
    assert kept
    changed = [name for name in kept if not torch.equal(before[name], after[name])]
    assert changed == []
    for name in {name for name, _ in detector.named_parameters()} - set(kept) - detector.fixed:
        assert not torch.equal(before[name], after[name]), name


def test_batch_norm_that_is_not_frozen_learns(records: list[Record]) -> None:
    detector = tiny_detector("train.epochs=1", "base_model.freeze_batch_norm=false")
    before = state(detector)
    trained(detector, records[:2])
    for name in (
        "backbone.conv_layers.bn1.weight",
        "backbone.conv_layers.bn1.bias",
        "backbone.conv_layers.bn1.running_mean",
    ):
        assert not torch.equal(before[name], detector.state_dict()[name]), name


def test_biases_learn_at_a_multiple_of_the_rate(records: list[Record]) -> None:
    once, thrice = (movements(records, f"train.bias_lr_mult={factor}") for factor in (1, 3))
    for name, movement in once.items():
        factor = 3 if name.endswith("bias") else 1
        torch.testing.assert_close(thrice[name], factor * movement, rtol=1e-3, atol=1e-6, msg=name)
    assert once["roi_head.logits.bias"].any()


def test_layers_without_pretrained_weights_learn_at_a_multiple_of_the_rate() -> None:
    detector = tiny_detector("train.new_layers_lr_mult=5", "train.bias_lr_mult=2")
    detector.fresh = frozenset({"rpn.convs.0.weight", "rpn.convs.0.bias"})
    (phase,) = end_to_end(detector.config.train)
    optimizer = make_optimizer(detector, phase, detector.config.train)
    names = {parameter: name for name, parameter in detector.named_parameters()}
    factors = {names[p]: group["lr_mult"] for group in optimizer.param_groups for p in group["params"]}
    assert factors["rpn.convs.0.weight"] == 5
    assert factors["rpn.convs.0.bias"] == 10
    assert factors["rpn.deltas.weight"] == 1
    assert factors["rpn.deltas.bias"] == 2
    assert set(factors) == set(names.values()) - detector.fixed


def test_the_gradient_is_no_longer_than_its_limit(records: list[Record]) -> None:
    moved = movements(records, "train.bias_lr_mult=1", "train.lr=1", "train.clip_norm=0.1")
    norm = torch.stack([movement.norm() for movement in moved.values()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.1), rtol=1e-3, atol=0)


def test_one_image_is_learned_by_heart(records: list[Record]) -> None:
    config = tiny_config("train.epochs=40", "train.lr=0.01", "train.flip=false", "base_model.fc_channels=[64]")
    torch.manual_seed(0)
    detector = FasterRCNN(config, CLASSES, find_weights(config.base_model, "auto", offline=True))
    losses = [report.loss for report in trained(detector, records[:1])]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    batch = load_batch(records[:1], detector.classes, detector.config.detector.image)
    with torch.no_grad():
        found = detector(batch.images, batch.image_sizes, batch.original_sizes)
    (prediction,) = detector.to_predictions(found, ["0.png"])
    assert set(prediction.names[:2]) == set(CLASSES)


# --------------------------------------------------------------------------------------------------- how it goes on


def test_the_same_seed_gives_the_same_weights_bit_by_bit(records: list[Record]) -> None:
    def weights(*overrides: str) -> dict[str, Tensor]:
        detector = tiny_detector("train.epochs=2", "train.batch_size=2", *overrides)
        trained(detector, records)
        return state(detector)

    first = weights("data.workers=0")
    torch.testing.assert_close(weights("data.workers=3"), first, rtol=0, atol=0)
    other = weights("train.seed=4")
    assert not torch.equal(other["roi_head.logits.weight"], first["roi_head.logits.weight"])


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, list[str]]]:
    """Whether each batch was mirrored, and its images."""
    seen = []

    def noted(records: Sequence[Record], *, flip: bool, **rest: object) -> Batch:
        seen.append((flip, [record.image.name for record in records]))
        return load_batch(records, flip=flip, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "load_batch", noted)
    return seen


@pytest.mark.parametrize(("flip", "expected"), [("true", [False, True, False]), ("false", [False] * 3)])
def test_images_are_mirrored_every_other_epoch(
    records: list[Record], loads: list[tuple[bool, list[str]]], flip: str, expected: list[bool]
) -> None:
    trained(tiny_detector("train.epochs=3", f"train.flip={flip}"), records[:1])
    assert [mirrored for mirrored, _ in loads] == expected


def test_every_epoch_sees_every_image_once_in_another_order(
    records: list[Record], loads: list[tuple[bool, list[str]]]
) -> None:
    reports = trained(tiny_detector("train.epochs=3", "train.batch_size=2", "data.workers=0"), records)
    epochs = [[name for _, names in loads[start : start + 3] for name in names] for start in (0, 3, 6)]
    for names in epochs:
        assert sorted(names) == sorted(record.image.name for record in records)
    assert len({tuple(names) for names in epochs}) > 1
    assert [report.images for report in reports] == [2, 2, 1] * 3


def test_reports_say_where_training_stands(records: list[Record]) -> None:
    overrides = ("train.epochs=2", "train.lr=[0.001, 0.0005]", "train.lr_decay=none")
    reports = trained(tiny_detector(*overrides), records[:2])
    assert [(report.phase, report.epoch, report.step, report.steps) for report in reports] == [
        ("end to end", 1, 1, 4),
        ("end to end", 1, 2, 4),
        ("end to end", 2, 3, 4),
        ("end to end", 2, 4, 4),
    ]
    assert [report.lr for report in reports] == [0.001, 0.001, 0.0005, 0.0005]
    for report in reports:
        assert set(report.losses) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}
        assert report.loss == pytest.approx(sum(report.losses.values()), rel=1e-4)
        assert report.seconds > 0


def test_fast_mode_is_one_epoch(records: list[Record]) -> None:
    assert len(trained(tiny_detector("train.epochs=9", "train.fast=true"), records)) == len(records)


def test_the_detector_is_ready_to_predict_afterwards(records: list[Record]) -> None:
    detector = tiny_detector("train.epochs=1")
    trained(detector, records[:1])
    assert not any(module.training for module in detector.modules())


def test_layers_in_bfloat16_have_finite_losses(records: list[Record]) -> None:
    (report,) = trained(tiny_detector("train.epochs=1"), records[:1], torch.bfloat16)
    (exact,) = trained(tiny_detector("train.epochs=1"), records[:1])
    assert report.loss == pytest.approx(exact.loss, rel=0.2)


def test_a_loss_that_is_not_finite_names_phase_step_and_image(records: list[Record]) -> None:
    detector = tiny_detector("data.workers=0")
    steps = fit(
        detector, records[:1], end_to_end(detector.config.train), device=torch.device("cpu"), precision=torch.float32
    )
    next(steps)
    with torch.no_grad():
        detector.roi_head.logits.bias.fill_(torch.nan)
    expected = r"loss is nan at phase 'end to end', step 2 \(.*roi_class=nan.*\), image .*0\.png; a lower train\.lr"
    with pytest.raises(FloatingPointError, match=expected):
        next(steps)
