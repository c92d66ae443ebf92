"""The training loop: what learns, what stays, and that the same seed gives the same detector."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from tiny import CLASSES, tiny_config, tiny_detector, train_tiny, write_tiny
from torch import Tensor

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset
from frcnn.data.loader import epoch_order, load_batch
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.weights import find_weights
from frcnn.ops.sampling import generator_of
from frcnn.training import loop, run
from frcnn.training.checkpoint import read_checkpoint
from frcnn.training.loop import ProposalReport, StepReport, fit
from frcnn.training.optimizer import make_optimizer
from frcnn.training.phases import Part, end_to_end, phases_of
from frcnn.training.replay import replay
from frcnn.training.run import build
from frcnn.training.schedule import images_per_step, warmup_steps
from frcnn.training.state import TrainingState
from frcnn.training.step import TrainingStep
from frcnn.types import Batch, Record

PLAIN = ("train.epochs=1", "train.lr=0.01", "train.lr_decay=none", "train.momentum=0", "train.weight_decay=0")
"""A step moves every parameter by rate x gradient."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return open_dataset(write_tiny(tmp_path_factory.mktemp("tiny") / "data"), DataSettings()).train


def trained(
    detector: FasterRCNN, records: Sequence[Record], precision: torch.dtype = torch.float32
) -> list[StepReport]:
    """Train; the reports of all steps."""
    with TemporaryDirectory() as folder:
        state = new_state(detector, len(records))
        reports = list(fit(state, records, folder=Path(folder), device=torch.device("cpu"), precision=precision))
    return [report for report in reports if isinstance(report, StepReport)]


def new_state(detector: FasterRCNN, images: int) -> TrainingState:
    settings = detector.config.train
    return TrainingState(detector, phases_of(settings), math.ceil(images / images_per_step(settings)))


def state(detector: FasterRCNN) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def movements(records: Sequence[Record], *overrides: str) -> dict[str, Tensor]:
    """How far one plain step moves each parameter."""
    detector = tiny_detector(*PLAIN, *overrides)
    before = state(detector)
    trained(detector, records)
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
    all_layers = "base_model.train_from_node=null"
    detector = tiny_detector("train.epochs=1", "base_model.freeze_batch_norm=false", all_layers)
    before = state(detector)
    trained(detector, records[:2])
    for name in (
        "backbone.conv_layers.bn1.weight",
        "backbone.conv_layers.bn1.bias",
        "backbone.conv_layers.bn1.running_mean",
    ):
        assert not torch.equal(before[name], detector.state_dict()[name]), name


def test_biases_learn_at_a_multiple_of_the_rate(records: list[Record]) -> None:
    once, thrice = (movements(records[:1], f"train.bias_lr_mult={factor}") for factor in (1, 3))
    for name, movement in once.items():
        factor = 3 if name.endswith("bias") else 1
        torch.testing.assert_close(thrice[name], factor * movement, rtol=1e-3, atol=1e-6, msg=name)
    assert once["roi_head.logits.bias"].any()


def test_layers_without_pretrained_weights_learn_at_a_multiple_of_the_rate() -> None:
    detector = tiny_detector("train.new_layers_lr_mult=5", "train.bias_lr_mult=2")
    detector.fresh = frozenset({"rpn.convs.0.weight", "rpn.convs.0.bias"})
    (phase,) = end_to_end(detector.config.train)
    optimizer = make_optimizer(detector, phase, detector.config.train, torch.float32)
    names = {parameter: name for name, parameter in detector.named_parameters()}
    factors = {names[p]: group["lr_mult"] for group in optimizer.param_groups for p in group["params"]}
    assert factors["rpn.convs.0.weight"] == 5
    assert factors["rpn.convs.0.bias"] == 10
    assert factors["rpn.deltas.weight"] == 1
    assert factors["rpn.deltas.bias"] == 2
    assert set(factors) == set(names.values()) - detector.fixed


def test_the_gradient_is_no_longer_than_its_limit(records: list[Record]) -> None:
    moved = movements(records[:1], "train.bias_lr_mult=1", "train.lr=1", "train.clip_norm=0.1")
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

    def noted(records: Sequence[Record], *rest: object, flip: bool, **more: object) -> Batch:
        seen.append((flip, [record.image.name for record in records]))
        return load_batch(records, *rest, flip=flip, **more)  # type: ignore[arg-type]

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


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_lower_precisions_train(records: list[Record], precision: torch.dtype) -> None:
    """The scaler of fp16 starts so high that the first step overflows and is left out; the next ones count."""
    detector = tiny_detector("train.epochs=6", "train.lr=0.002", "train.clip_norm=10")
    before = state(detector)
    reports = trained(detector, records[:2], precision)
    assert all(math.isfinite(report.loss) for report in reports)
    after = state(detector)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert not torch.equal(before["roi_head.logits.weight"], after["roi_head.logits.weight"])
    assert all(tensor.dtype == before[name].dtype for name, tensor in after.items())


@pytest.mark.parametrize("setting", ["train.batch_size=2", "train.accumulate=2"])
def test_a_step_of_two_images_takes_the_mean_of_their_gradients(records: list[Record], setting: str) -> None:
    """At twice the rate: so it moves as far as the two images alone, from the same place, together."""
    two = movements(records[:2], setting, "train.clip_norm=null")
    order = epoch_order(2, seed=tiny_config().train.seed, epoch=0)
    assert sorted(order) == [0, 1]
    alone = [gradients(records, index) for index in range(2)]
    for name, movement in two.items():
        expected = -0.01 * 2 * (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(movement, expected, rtol=1e-3, atol=1e-6, msg=name)


def gradients(records: Sequence[Record], index: int) -> dict[str, Tensor]:
    """Of one image's losses, with the samples that it has in the first epoch; biases count twice."""
    detector = tiny_detector(*PLAIN)
    training = TrainingStep(detector)
    training.set_modes()
    make_optimizer(detector, end_to_end(detector.config.train)[0], detector.config.train, torch.float32)
    batch = load_batch(records[index : index + 1], detector.classes, detector.config.detector.image)
    losses = training(batch, [generator_of(detector.config.train.seed, 0, index)])
    sum(losses.values()).backward()  # type: ignore[union-attr]
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad * (2 if name.endswith("bias") else 1)
        for name, p in detector.named_parameters()
    }


def test_the_rate_follows_the_images_of_a_step_and_warms_up(records: list[Record]) -> None:
    settings = ("train.epochs=1", "train.lr=0.001", "train.lr_decay=none", "train.batch_size=2", "train.accumulate=2")
    reports = trained(tiny_detector(*settings), records)
    assert [report.images for report in reports] == [4, 1]
    assert [report.lr for report in reports] == [0.004, 0.004]
    warming = trained(tiny_detector(*settings, "train.warmup_steps=null"), records)
    assert [report.lr for report in warming] == pytest.approx([0.004 / 51, 0.004 * 2 / 51])
    assert warmup_steps(tiny_config("train.warmup_steps=null").train) == 0
    (alone,) = trained(tiny_detector(*settings, "train.batch_size=16"), records)
    assert (alone.images, alone.lr) == (5, 0.005)  # there are no more


# ------------------------------------------------------------------------------------------------ alternating training


ALTERNATING = ("train.scheme=alternating", "train.rpn_epochs=1", "train.roi_epochs=1", "data.workers=0")


def parts_after_each_phase(detector: FasterRCNN, records: Sequence[Record]) -> list[dict[str, dict[str, Tensor]]]:
    """The weights of backbone, RPN and RoI head before the first phase and after each."""

    def parts() -> dict[str, dict[str, Tensor]]:
        now = state(detector)
        return {p.value: {name: t for name, t in now.items() if name.startswith(f"{p.value}.")} for p in Part}

    seen = [parts()]
    with TemporaryDirectory() as folder:
        training = new_state(detector, len(records))
        steps = fit(training, records, folder=Path(folder), device=torch.device("cpu"), precision=torch.float32)
        for report in steps:
            if isinstance(report, StepReport) and training.position[1:3] == (0, 0):
                seen.append(parts())
    return seen


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_alternating_trains_what_the_table_says_and_nothing_else(records: list[Record]) -> None:
    detector = tiny_detector(*ALTERNATING, "base_model.freeze_batch_norm=false")  # statistics must stay too
    seen = parts_after_each_phase(detector, records[:3])
    for number, phase in enumerate(phases_of(detector.config.train)):
        for part in Part:
            before, after = seen[number][part.value], seen[number + 1][part.value]
            assert same(before, after) == (part not in phase.train), (phase.name, part)
    assert len(seen) == 5


def test_step_2_starts_from_the_base_models_weights_again(records: list[Record]) -> None:
    detector = tiny_detector(*ALTERNATING, "train.roi_lr=1e-30", "train.weight_decay=0")  # step 2 moves nothing
    start, one, two, *_ = parts_after_each_phase(detector, records[:3])
    assert not same(start["backbone"], one["backbone"])
    assert same(start["backbone"], two["backbone"])
    assert same(start["roi_head"], one["roi_head"])


@pytest.mark.parametrize("restart", [False, True])
def test_step_3_goes_on_with_the_rpn_or_begins_again(records: list[Record], restart: bool) -> None:
    detector = tiny_detector(*ALTERNATING, f"train.restart_rpn={str(restart).lower()}", "train.rpn_lr=0.01")
    state_ = new_state(detector, 2)
    start = {name: t.clone() for name, t in detector.state_dict().items() if name.startswith("rpn.")}
    begun: dict[str, Tensor] = {}
    now: dict[str, Tensor] = {}
    begin = state_.begin

    def watch(*arguments: object) -> None:  # a phase begins
        begin(*arguments)
        if state_.position.phase == 2:
            now.update((name, t.clone()) for name, t in detector.state_dict().items() if name.startswith("rpn."))

    state_.begin = watch  # type: ignore[method-assign]
    with TemporaryDirectory() as folder:
        for report in fit(
            state_, records[:2], folder=Path(folder), device=torch.device("cpu"), precision=torch.float32
        ):
            if isinstance(report, StepReport) and report.phase == "1 rpn":
                begun = {name: t.clone() for name, t in detector.state_dict().items() if name.startswith("rpn.")}
            if now:
                break
    assert same(now, start if restart else begun)
    assert not same(start, begun)


def test_recall_is_told_when_proposals_are_kept(records: list[Record]) -> None:
    detector = tiny_detector(*ALTERNATING)
    with TemporaryDirectory() as folder:
        steps = fit(
            new_state(detector, 2),
            records[:2],
            folder=Path(folder),
            device=torch.device("cpu"),
            precision=torch.float32,
        )
        told = [(r.phase, r.step, set(r.recall)) for r in steps if isinstance(r, ProposalReport)]
    assert told == [("2 roi", 2, {50, 100, 300}), ("4 roi", 6, {50, 100, 300})]


# ------------------------------------------------------------------------------------------------- losses of no use


def test_a_loss_that_is_not_finite_names_phase_step_and_image(records: list[Record]) -> None:
    detector = tiny_detector("data.workers=0")
    state = new_state(detector, 1)
    steps = fit(state, records[:1], folder=Path(), device=torch.device("cpu"), precision=torch.float32)
    next(steps)
    with torch.no_grad():
        detector.roi_head.logits.bias.fill_(torch.nan)
    expected = r"loss is nan at phase 'end to end', step 2 \(.*roi_class=nan.*\), image .*0\.png; a lower train\.lr"
    with pytest.raises(FloatingPointError, match=expected):
        next(steps)


def test_a_step_that_fails_is_kept_and_can_be_computed_again(tmp_path: Path, monkeypatch) -> None:
    """Only the image that spoils the step is named and kept, with the weights of that moment."""
    data = write_tiny(tmp_path / "data")
    weights: dict[str, Tensor] = {}

    def spoil(report: StepReport) -> None:
        (detector,) = built
        with torch.no_grad():
            detector.roi_head.deltas.weight.fill_(torch.inf)
            detector.roi_head.logits.weight.normal_(std=0.5)  # so that dropout shows
        weights.update(state(detector))

    built: list[FasterRCNN] = []
    monkeypatch.setattr(run, "build", lambda *args, **more: built.append(build(*args, **more)) or built[0])

    expected = r"step 2 \(.*roi_box=(nan|inf).*failed-step\.pt keeps this step for frcnn\.training\.replay"
    settings = ("data.use_negative=false", "base_model.dropout=0.5")
    with pytest.raises(FloatingPointError, match=expected) as error:
        train_tiny(data, tmp_path / "run", *settings, "train.checkpoint_seconds=0", on_step=spoil)
    assert "the weights were not finite any more" in str(error.value)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()  # of such weights
    kept = read_checkpoint(tmp_path / "run" / "failed-step.pt")
    torch.testing.assert_close(kept["detector"], weights, rtol=0, atol=0, equal_nan=True)
    losses = replay(tmp_path / "run" / "failed-step.pt")
    for name in ("rpn_objectness", "roi_class"):
        told = re.search(rf"{name}=([\d.]+)", str(error.value))
        assert told is not None
        assert losses[name] == pytest.approx(float(told[1]), rel=1e-4)  # as many digits as are told; dropout too
    assert not math.isfinite(losses["roi_box"])
