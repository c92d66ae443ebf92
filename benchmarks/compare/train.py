"""One training step, from pixels to new weights: frcnn compared with torchvision."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from compare.pairs import Pair, input_size_of, make_pair, without_tf32
from compare.timing import OURS, PRECISIONS, Row, apart, interleaved
from frcnn.config import TrainSettings
from frcnn.data.loader import batch_to
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.seeds import generator_of
from frcnn.training.optimizer import make_optimizer, set_rate
from frcnn.training.schemes import phases_of
from frcnn.training.step import TrainingStep
from frcnn.types import Batch, Target

_THEIR_LOSSES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "roi_class": "loss_classifier",
    "roi_box": "loss_box_reg",
}
_OBJECTS = 9
_RATE = 1e-5  # so small that random weights stay what they are
_ALL = 10**6  # samples: all that there are, so that it does not matter who is drawn


def bench_train(
    base_models: Sequence[str],
    device: torch.device,
    precision: Callable[[FasterRCNN], torch.dtype],
    rounds: int,
    prepare: Callable[[FasterRCNN], FasterRCNN] = lambda model: model,
) -> Iterator[Row]:
    """One photo with some objects: forward, four losses, gradients, SGD with momentum and weight decay.

    Args:
        prepare: changes how ours runs, e.g. compiles it, not what it computes.

    Raises:
        AssertionError: the losses are not the same.
    """
    for name in base_models:
        size = input_size_of(name)
        pair = make_pair(name, size).to(device)
        prepare(pair.ours)
        check = same_losses(pair)
        pair = make_pair(name, size).to(device)
        dtype = precision(pair.ours)
        batch = photo_batch(pair)
        our_step = training_step(prepare(pair.ours), pair.settings, dtype)
        check += f"; {_learning(pair.ours):,} weights and biases that learn"
        assert _learning(pair.ours) == _learning(pair.theirs), f"{check}, torchvision {_learning(pair.theirs):,}"
        with apart(_their_step, name, size, device) as their_way:
            ways: dict[str, Callable[[], object]] = {OURS: partial(our_step, batch), "torchvision": their_way}
            seconds = interleaved(ways, rounds=rounds, device=device)
        work = f"{name}, {size[1]} x {size[0]}, training step"
        yield Row("train", work, check, seconds, precision=PRECISIONS[dtype])


@without_tf32
@torch.no_grad()
def same_losses(pair: Pair) -> str:
    """Check that both losses are the same; returns what was compared.

    Changes the pair: all anchors and the best proposals are samples.
    """
    batch, ours, theirs = photo_batch(pair), pair.ours, pair.theirs
    train, detector = pair.settings, ours.settings.detector
    sampled = {"sample_size": _ALL, "positive_fraction": 1.0, "sigma": 3.0}  # sigma: torchvision's, in both losses
    proposals = detector.train_proposals.model_copy(update={"post_nms_top_n": 300})
    train = train.model_copy(
        update={"rpn": train.rpn.model_copy(update=sampled), "roi": train.roi.model_copy(update=sampled)}
    )
    ours.settings = ours.settings.model_copy(
        update={"detector": detector.model_copy(update={"train_proposals": proposals})}
    )
    _sample_as_ours(pair._replace(settings=train))
    found = TrainingStep(ours, train)(batch, [generator_of(0)])
    expected = theirs.train()(*_their_inputs(pair, batch))
    for name, loss in found.items():
        theirs_of_it = expected[_THEIR_LOSSES[name]]
        assert_close(
            loss, theirs_of_it, rtol=1e-3, atol=1e-4, msg=f"{name}: {loss:.5f}, torchvision {theirs_of_it:.5f}"
        )
    return "the four losses within 0.1 %"


def _sample_as_ours(pair: Pair) -> None:
    """Let torchvision's train on as many anchors and RoIs, of as many proposals. Its own detectors' numbers differ from
    our presets'."""
    theirs, rules, proposals = pair.theirs, pair.settings, pair.ours.settings.detector.train_proposals
    for sampler, own in ((theirs.rpn.fg_bg_sampler, rules.rpn), (theirs.roi_heads.fg_bg_sampler, rules.roi)):
        sampler.batch_size_per_image, sampler.positive_fraction = own.sample_size, own.positive_fraction
    theirs.rpn._pre_nms_top_n["training"] = proposals.pre_nms_top_n
    theirs.rpn._post_nms_top_n["training"] = proposals.post_nms_top_n
    theirs.rpn.nms_thresh, theirs.rpn.score_thresh = proposals.nms_threshold, proposals.score_threshold


def photo_batch(pair: Pair) -> Batch:
    """The photo with objects on a grid. They do not overlap, so that the best object of each anchor is unique."""
    height, width = pair.image.height, pair.image.width
    places = torch.cartesian_prod(torch.arange(3), torch.arange(3))[:_OBJECTS]
    corners = (places * torch.tensor([width / 3, height / 3])) + 20
    boxes = torch.cat((corners, corners + torch.rand(_OBJECTS, 2) * 120 + 60), dim=1)
    labels = torch.arange(_OBJECTS) % len(pair.ours.classes) + 1
    target = Target(boxes, labels, torch.zeros(_OBJECTS, dtype=torch.bool))
    return batch_to(Batch(*pair.our_inputs(), [target], ["photo"]), pair.device)


def _their_inputs(pair: Pair, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    (target,) = batch.targets
    return [pair.their_input()], [{"boxes": target.boxes, "labels": target.labels}]


def training_step(
    model: FasterRCNN, settings: TrainSettings, dtype: torch.dtype, rate: float = _RATE
) -> Callable[[Batch], Tensor]:
    """A function that takes one step on a batch, as `frcnn train` does, and returns the loss before it."""
    (phase,) = phases_of(settings)
    optimizer = make_optimizer(model, phase, settings, dtype)
    set_rate(optimizer, rate)
    training = TrainingStep(model, settings, phase.train)
    training.set_modes()

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(batch.images.device.type, dtype, enabled=dtype != torch.float32):
            losses = training(batch, [generator_of(0)])
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _their_step(name: str, size: tuple[int, int], device: torch.device) -> Callable[[], None]:
    pair = make_pair(name, size).to(device)
    return their_step(pair, photo_batch(pair))


def their_step(pair: Pair, batch: Batch) -> Callable[[], None]:
    """A function like that of `training_step`, for torchvision's model, always on the same batch."""
    _sample_as_ours(pair)
    model, settings = pair.theirs.train(), pair.settings
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, _RATE, settings.momentum, weight_decay=settings.weight_decay)
    images, targets = _their_inputs(pair, batch)

    def step() -> None:
        optimizer.zero_grad()
        losses = model(images, targets)
        sum(losses.values()).backward()
        optimizer.step()

    return step


def _learning(model: nn.Module) -> int:
    """Number of parameters that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
