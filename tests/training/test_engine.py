"""The training loop: what learns, what stays, and that the same seed gives the same model."""

import math
import re
import weakref
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from tiny import CLASSES, OnStep, tiny_config, tiny_model, train_tiny, write_tiny
from torch import Tensor

from frcnn.config import DataSettings
from frcnn.data.augment import Augmentation
from frcnn.data.dataset import open_dataset
from frcnn.data.loader import epoch_order, load_batch
from frcnn.data.records import Record
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import load_model
from frcnn.nn.weights import find_weights
from frcnn.seeds import generator_of
from frcnn.training import engine
from frcnn.training.callbacks import Callback
from frcnn.training.checkpoint import read_checkpoint
from frcnn.training.debug_step import debug_step
from frcnn.training.engine import fit
from frcnn.training.optimizer import make_optimizer
from frcnn.training.reports import ProposalReport, StartReport, StepReport
from frcnn.training.schedule import images_per_step, warmup_steps
from frcnn.training.schemes import Part, end_to_end, phases_of
from frcnn.training.state import TrainingState
from frcnn.training.step import TrainingStep
from frcnn.types import Batch

PLAIN = ("train.epochs=1", "train.lr=0.01", "train.lr_decay=none", "train.momentum=0", "train.weight_decay=0")
"""A step moves every parameter by rate x gradient."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return open_dataset(write_tiny(tmp_path_factory.mktemp("tiny") / "data"), DataSettings()).train


def trained(
    state: TrainingState, records: Sequence[Record], precision: torch.dtype = torch.float32, workers: int = 1
) -> list[StepReport]:
    """Train; the reports of all steps."""
    reports: list[StepReport] = []
    state.precision = precision
    fit_all(state, records, OnStep(reports.append), workers=workers)
    return reports


def fit_all(state: TrainingState, records: Sequence[Record], *callbacks: Callback, workers: int = 1) -> None:
    with TemporaryDirectory() as folder:
        fit(state, records, run_dir=Path(folder), callbacks=callbacks, workers=workers)


def new_state(images: int, *overrides: str) -> TrainingState:
    """Of a tiny model, before the first step."""
    settings = tiny_config(*overrides).train
    steps = math.ceil(images / images_per_step(settings))
    return TrainingState(tiny_model(*overrides), settings, phases_of(settings), steps)


def state(model: FasterRCNN) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def movements(records: Sequence[Record], *overrides: str) -> dict[str, Tensor]:
    """How far one plain step moves each parameter."""
    training = new_state(len(records), *PLAIN, *overrides)
    model = training.model
    before = state(model)
    trained(training, records)
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


# ---------------------------------------------------------------------------------------------------- what learns


STAYING = {
    "conv layers": (("train.train_backbone=false",), ("backbone.",)),
    "conv layers and their statistics": (
        ("train.train_backbone=false", "base_model.freeze_batch_norm=false"),
        ("backbone.",),
    ),
    "layers before a node": (
        ("base_model.freeze_before=blocks.2",),
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
    training = new_state(3, "train.epochs=1", *overrides)
    model = training.model
    before = state(model)
    trained(training, records[:3])
    after = state(model)
    kept = [name for name in before if name.startswith(staying)]
    assert kept
    changed = [name for name in kept if not torch.equal(before[name], after[name])]
    assert changed == []
    for name in {name for name, _ in model.named_parameters()} - set(kept) - model.frozen:
        assert not torch.equal(before[name], after[name]), name


def test_batch_norm_that_is_not_frozen_learns(records: list[Record]) -> None:
    all_layers = "base_model.freeze_before=null"
    training = new_state(2, "train.epochs=1", "base_model.freeze_batch_norm=false", all_layers)
    model = training.model
    before = state(model)
    trained(training, records[:2])
    for name in (
        "backbone.conv_layers.bn1.weight",
        "backbone.conv_layers.bn1.bias",
        "backbone.conv_layers.bn1.running_mean",
    ):
        assert not torch.equal(before[name], model.state_dict()[name]), name


def test_biases_learn_at_a_multiple_of_the_rate(records: list[Record]) -> None:
    once, thrice = (movements(records[:1], f"train.bias_lr_mult={factor}") for factor in (1, 3))
    for name, movement in once.items():
        factor = 3 if name.endswith("bias") else 1
        torch.testing.assert_close(thrice[name], factor * movement, rtol=1e-3, atol=1e-6, msg=name)
    assert once["roi_head.logits.bias"].any()


def test_layers_without_pretrained_weights_learn_at_a_multiple_of_the_rate() -> None:
    model, settings = tiny_model(), tiny_config("train.new_layers_lr_mult=5", "train.bias_lr_mult=2").train
    model.newly_initialized = frozenset({"rpn.convs.0.weight", "rpn.convs.0.bias"})
    (phase,) = end_to_end(settings)
    optimizer = make_optimizer(model, phase, settings, torch.float32)
    names = {parameter: name for name, parameter in model.named_parameters()}
    factors = {names[p]: group["lr_mult"] for group in optimizer.param_groups for p in group["params"]}
    assert factors["rpn.convs.0.weight"] == 5
    assert factors["rpn.convs.0.bias"] == 10
    assert factors["rpn.deltas.weight"] == 1
    assert factors["rpn.deltas.bias"] == 2
    assert set(factors) == set(names.values()) - model.frozen


def test_the_gradient_is_no_longer_than_its_limit(records: list[Record]) -> None:
    moved = movements(records[:1], "train.bias_lr_mult=1", "train.lr=1", "train.clip_norm=0.1")
    norm = torch.stack([movement.norm() for movement in moved.values()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.1), rtol=1e-3, atol=0)


def test_it_overfits_one_image(records: list[Record]) -> None:
    config = tiny_config("train.epochs=40", "train.lr=0.01", "train.flip=false", "base_model.fc_channels=[64]")
    torch.manual_seed(0)
    model = build_model(config.model, CLASSES, find_weights(config.base_model, "auto", offline=True))
    training = TrainingState(model, config.train, phases_of(config.train), 1)
    losses = [report.loss for report in trained(training, records[:1])]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    batch = load_batch(records[:1], model.classes, model.settings.detector.resizing)
    with torch.no_grad():
        found = model(batch.images, batch.image_sizes, batch.original_sizes)
    assert set(found.labels[0, :2].tolist()) == {1, 2}


# ----------------------------------------------------------------------------------------------- steps and order


def test_the_same_seed_gives_the_same_weights_bit_by_bit(records: list[Record]) -> None:
    def weights(*overrides: str, workers: int = 1) -> dict[str, Tensor]:
        training = new_state(len(records), "train.epochs=2", "train.batch_size=2", *overrides)
        trained(training, records, workers=workers)
        return state(training.model)

    first = weights(workers=0)
    torch.testing.assert_close(weights(workers=3), first, rtol=0, atol=0)
    other = weights("train.seed=4")
    assert not torch.equal(other["roi_head.logits.weight"], first["roi_head.logits.weight"])


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, list[str]]]:
    """Whether each batch was mirrored, and its images."""
    seen = []

    def noted(records: Sequence[Record], *rest: object, augmentations: Sequence[Augmentation], **more: object) -> Batch:
        seen.append((augmentations[0].flip, [record.image.name for record in records]))
        return load_batch(records, *rest, augmentations=augmentations, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "load_batch", noted)
    return seen


@pytest.mark.parametrize(("flip", "expected"), [("true", [False, True, False]), ("false", [False] * 3)])
def test_images_are_mirrored_every_other_epoch(
    records: list[Record], loads: list[tuple[bool, list[str]]], flip: str, expected: list[bool]
) -> None:
    trained(new_state(1, "train.epochs=3", f"train.flip={flip}"), records[:1])
    assert [mirrored for mirrored, _ in loads] == expected


def test_every_epoch_sees_every_image_once_in_another_order(
    records: list[Record], loads: list[tuple[bool, list[str]]]
) -> None:
    reports = trained(new_state(len(records), "train.epochs=3", "train.batch_size=2"), records, workers=0)
    epochs = [[name for _, names in loads[start : start + 3] for name in names] for start in (0, 3, 6)]
    for names in epochs:
        assert sorted(names) == sorted(record.image.name for record in records)
    assert len({tuple(names) for names in epochs}) > 1
    assert [report.images for report in reports] == [2, 2, 1] * 3


def test_reports_name_phase_epoch_and_step(records: list[Record]) -> None:
    overrides = ("train.epochs=2", "train.lr=[0.001, 0.0005]", "train.lr_decay=none")
    reports = trained(new_state(2, *overrides), records[:2])
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


def test_a_smoke_test_is_one_epoch(records: list[Record]) -> None:
    assert len(trained(new_state(len(records), "train.epochs=9", "train.smoke_test=true"), records)) == len(records)


def test_the_detector_is_ready_to_predict_afterwards(records: list[Record]) -> None:
    training = new_state(1, "train.epochs=1")
    model = training.model
    trained(training, records[:1])
    assert not any(module.training for module in model.modules())


def test_layers_in_bfloat16_have_finite_losses(records: list[Record]) -> None:
    (report,) = trained(new_state(1, "train.epochs=1"), records[:1], torch.bfloat16)
    (exact,) = trained(new_state(1, "train.epochs=1"), records[:1])
    assert report.loss == pytest.approx(exact.loss, rel=0.2)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_lower_precisions_train(records: list[Record], precision: torch.dtype) -> None:
    """The scaler of fp16 starts so high that the first step overflows and is left out; the next ones count."""
    training = new_state(2, "train.epochs=6", "train.lr=0.002", "train.clip_norm=10")
    model = training.model
    before = state(model)
    reports = trained(training, records[:2], precision)
    assert all(math.isfinite(report.loss) for report in reports)
    after = state(model)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert not torch.equal(before["roi_head.logits.weight"], after["roi_head.logits.weight"])
    assert all(tensor.dtype == before[name].dtype for name, tensor in after.items())


@pytest.mark.parametrize("setting", ["train.batch_size=2", "train.accumulate=2"])
def test_a_step_of_two_images_takes_the_mean_of_their_gradients(records: list[Record], setting: str) -> None:
    """At twice the learning rate: it moves as far as the sum of two steps from the same weights, one image each."""
    two = movements(records[:2], setting, "train.clip_norm=null")
    order = epoch_order(2, seed=tiny_config().train.seed, epoch=0)
    assert sorted(order) == [0, 1]
    alone = [gradients(records, index) for index in range(2)]
    for name, movement in two.items():
        expected = -0.01 * 2 * (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(movement, expected, rtol=1e-3, atol=1e-6, msg=name)


def gradients(records: Sequence[Record], index: int) -> dict[str, Tensor]:
    """Of one image's losses, with the samples that it has in the first epoch; biases count twice."""
    model, settings = tiny_model(*PLAIN), tiny_config(*PLAIN).train
    training = TrainingStep(model, settings)
    training.set_modes()
    make_optimizer(model, end_to_end(settings)[0], settings, torch.float32)
    batch = load_batch(records[index : index + 1], model.classes, model.settings.detector.resizing)
    losses = training(batch, [generator_of(settings.seed, 0, index)])
    sum(losses.values()).backward()  # type: ignore[union-attr]
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad * (2 if name.endswith("bias") else 1)
        for name, p in model.named_parameters()
    }


def test_the_rate_follows_the_images_of_a_step_and_warms_up(records: list[Record]) -> None:
    settings = ("train.epochs=1", "train.lr=0.001", "train.lr_decay=none", "train.batch_size=2", "train.accumulate=2")
    reports = trained(new_state(len(records), *settings), records)
    assert [report.images for report in reports] == [4, 1]
    assert [report.lr for report in reports] == [0.004, 0.004]
    warming = trained(new_state(len(records), *settings, "train.warmup_steps=null"), records)
    assert [report.lr for report in warming] == pytest.approx([0.004 / 51, 0.004 * 2 / 51])
    assert warmup_steps(tiny_config("train.warmup_steps=null").train) == 0
    (alone,) = trained(new_state(len(records), *settings, "train.batch_size=16"), records)
    assert (alone.images, alone.lr) == (5, 0.005)  # there are no more


# ------------------------------------------------------------------------------------------------ alternating training


ALTERNATING = ("train.scheme=alternating", "train.rpn_epochs=1", "train.roi_epochs=1", "data.workers=0")


def parts_after_each_phase(training: TrainingState, records: Sequence[Record]) -> list[dict[str, dict[str, Tensor]]]:
    """The weights of backbone, RPN and RoI head before the first phase and after each."""

    def parts() -> dict[str, dict[str, Tensor]]:
        now = state(training.model)
        return {p.value: {name: t for name, t in now.items() if name.startswith(f"{p.value}.")} for p in Part}

    seen = [parts()]
    fit_all(training, records, OnStep(lambda _: training.position.begins_phase and seen.append(parts())))
    return seen


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_alternating_trains_what_the_table_says_and_nothing_else(records: list[Record]) -> None:
    training = new_state(3, *ALTERNATING, "base_model.freeze_batch_norm=false")  # statistics must stay too
    seen = parts_after_each_phase(training, records[:3])
    for number, phase in enumerate(training.phases):
        for part in Part:
            before, after = seen[number][part.value], seen[number + 1][part.value]
            assert same(before, after) == (part not in phase.train), (phase.name, part)
    assert len(seen) == 5


def test_step_2_starts_from_the_base_models_weights_again(records: list[Record]) -> None:
    training = new_state(3, *ALTERNATING, "train.roi_lr=1e-30", "train.weight_decay=0")  # step 2 moves nothing
    start, one, two, *_ = parts_after_each_phase(training, records[:3])
    assert not same(start["backbone"], one["backbone"])
    assert same(start["backbone"], two["backbone"])
    assert same(start["roi_head"], one["roi_head"])


@pytest.mark.parametrize("restart", [False, True])
def test_step_3_continues_with_the_rpn_or_restarts_it(records: list[Record], restart: bool) -> None:
    state_ = new_state(2, *ALTERNATING, f"train.restart_rpn={str(restart).lower()}", "train.rpn_lr=0.01")
    model = state_.model
    start = {name: t.clone() for name, t in model.state_dict().items() if name.startswith("rpn.")}
    step_1: dict[str, Tensor] = {}
    now: dict[str, Tensor] = {}
    begin_phase = state_.begin_phase

    def rpn() -> dict[str, Tensor]:
        return {name: t.clone() for name, t in model.state_dict().items() if name.startswith("rpn.")}

    def watch() -> None:
        begin_phase()
        if state_.position.phase == 2:
            now.update(rpn())
            state_.should_stop = True

    state_.begin_phase = watch  # type: ignore[method-assign]
    fit_all(state_, records[:2], OnStep(lambda report: report.phase == "1 rpn" and step_1.update(rpn())))
    assert same(now, start if restart else step_1)
    assert not same(start, step_1)


def test_recall_is_reported_when_proposals_are_stored(records: list[Record]) -> None:
    reports: list[ProposalReport] = []

    class Recorder(Callback):
        def on_proposals(self, report: ProposalReport, state: TrainingState) -> None:
            reports.append(report)

    fit_all(new_state(2, *ALTERNATING), records[:2], Recorder())
    seen = [(report.phase, report.step, set(report.recall)) for report in reports]
    assert seen == [
        ("2 roi", 2, {50, 100, 300}),
        ("4 roi", 6, {50, 100, 300}),
    ]


def test_stored_proposals_are_not_mapped_when_they_are_removed(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows does not remove a file that is mapped."""
    mapped: list[weakref.ref[np.ndarray]] = []
    open_proposals, remove_proposals = engine.open_proposals, engine.remove_proposals

    def opened(path: Path) -> np.ndarray:
        found = open_proposals(path)
        mapped.append(weakref.ref(found))
        return found

    def removed(run_dir: Path) -> None:
        assert all(each() is None for each in mapped)
        remove_proposals(run_dir)

    monkeypatch.setattr(engine, "open_proposals", opened)
    monkeypatch.setattr(engine, "remove_proposals", removed)
    fit_all(new_state(2, *ALTERNATING), records[:2])
    assert len(mapped) == 2


# ------------------------------------------------------------------------------------------------------------ callbacks


def test_a_callback_may_ask_for_the_phase_after_the_last_step(records: list[Record]) -> None:
    seen: list[str] = []
    state = new_state(2, *ALTERNATING)
    fit_all(state, records[:2], OnStep(lambda report: seen.append(state.phase.name)))
    assert seen[-1] == "4 roi"


def test_a_training_that_stops_before_its_first_step_stores_its_model(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_start(self, report: StartReport, state: TrainingState) -> None:
            state.should_stop = True

    result = train_tiny(write_tiny(tmp_path / "data"), tmp_path / "run", callbacks=[Stop()])
    assert (result.run_dir / "model.safetensors").is_file()


def test_a_callback_stops_training_after_its_step(records: list[Record]) -> None:
    class Stop(Callback):
        def on_step(self, report: StepReport, state: TrainingState) -> None:
            state.should_stop = report.step == 3

    reports: list[StepReport] = []
    state = new_state(len(records), "train.epochs=2")
    fit_all(state, records, Stop(), OnStep(reports.append))
    assert [report.step for report in reports] == [1, 2, 3]
    assert not any(module.training for module in state.model.modules())


def test_a_stopped_training_stores_its_model(tmp_path: Path) -> None:
    """The same weights as after as many steps of a training that ends there."""

    class Recorder(Callback):
        def __init__(self) -> None:
            self.events: list[str] = []
            self.weights: dict[str, Tensor] = {}

        def on_start(self, report: StartReport, run_state: TrainingState) -> None:
            self.events.append(f"start {report.step}/{report.steps}, {len(report.dataset.train)} images")

        def on_step(self, report: StepReport, run_state: TrainingState) -> None:
            self.events.append(f"step {report.step}")
            run_state.should_stop = report.step == 2
            self.weights = state(run_state.model)

        def on_end(self, run_state: TrainingState) -> None:
            self.events.append("end")

        def on_test(self, images: int, total: int) -> None:
            self.events.append(f"test {images}/{total}")

    recorder = Recorder()
    result = train_tiny(write_tiny(tmp_path / "data"), tmp_path / "run", callbacks=[recorder])
    assert recorder.events == ["start 0/10, 5 images", "step 1", "step 2", "end", "test 1/2", "test 2/2"]
    torch.testing.assert_close(load_model(result.run_dir).state_dict(), recorder.weights, rtol=0, atol=0)
    assert result.metrics is not None
    assert result.metrics.images == 2


# ------------------------------------------------------------------------------------------- losses that are not finite


def test_a_loss_that_is_not_finite_names_phase_step_and_image(records: list[Record]) -> None:
    state = new_state(1)
    model = state.model
    spoil = OnStep(lambda _: model.roi_head.logits.bias.data.fill_(torch.nan))
    expected = r"loss is nan at phase 'end to end', step 2 \(.*roi_class=nan.*\), image .*0\.png; try a lower train\.lr"
    with pytest.raises(FloatingPointError, match=expected):
        fit_all(state, records[:1], spoil)


def test_a_step_that_fails_is_saved_and_can_be_computed_again(tmp_path: Path) -> None:
    """Only the image that spoils the step is named and saved, with the weights of that moment."""
    data = write_tiny(tmp_path / "data")
    weights: dict[str, Tensor] = {}

    class Spoil(Callback):
        def on_step(self, report: StepReport, run_state: TrainingState) -> None:
            with torch.no_grad():
                run_state.model.roi_head.deltas.weight.fill_(torch.inf)
                run_state.model.roi_head.logits.weight.normal_(std=0.5)  # so that dropout shows
            weights.update(state(run_state.model))

    expected = r"step 2 \(.*roi_box=(nan|inf).*failed-step\.pt holds this step for frcnn\.training\.debug_step"
    settings = ("data.use_negative=false", "base_model.dropout=0.5")
    with pytest.raises(FloatingPointError, match=expected) as error:
        train_tiny(data, tmp_path / "run", *settings, "train.checkpoint_seconds=0", callbacks=[Spoil()])
    assert "the weights were not finite before this step" in str(error.value)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()  # of such weights
    kept = read_checkpoint(tmp_path / "run" / "failed-step.pt")
    torch.testing.assert_close(kept["weights"], weights, rtol=0, atol=0, equal_nan=True)
    losses = debug_step(tmp_path / "run" / "failed-step.pt")
    for name in ("rpn_objectness", "roi_class"):
        reported = re.search(rf"{name}=([\d.]+)", str(error.value))
        assert reported is not None
        assert losses[name] == pytest.approx(float(reported[1]), rel=1e-4)  # as many digits as are printed; dropout too
    assert not math.isfinite(losses["roi_box"])
