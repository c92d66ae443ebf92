"""The choices of a plan: each function looks at the fingerprint and chooses settings that belong together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from frcnn.config import Config, ModelSettings, TrainSettings, base_model_names, dump, flat
from frcnn.config.schema import MAX_BOXES
from frcnn.data.tiles import OVERLAP
from frcnn.messages import duration, listed, plural
from frcnn.planning.fingerprint import QUANTILES, Fingerprint, Quantiles
from frcnn.planning.sizes import LARGEST_INPUT, MOST_ENLARGED, Sizes
from frcnn.resizing import input_size as input_size_of

FEW_IMAGES, FEW_OBJECTS = 10, 5
TOO_SMALL = 10.0
"""Pixels at the input: smaller objects have too few pixels to be recognized."""
EPOCHS = {"end_to_end": ("epochs",), "alternating": ("rpn_epochs", "roi_epochs")}
"""Scheme -> the settings that say how long it trains."""
STEPS = 6000
"""Steps of one image that a training should have."""
MIN_EPOCHS, MAX_EPOCHS = 8, 40
_ENOUGH_FRACTION = 0.25
"""Of the epochs without a budget. With fewer, the plan says that they may be too few."""
MIN_EPOCHS_OF_TILES = 4
"""Several tiles show the same object."""


class Machine(NamedTuple):
    """What a plan must know about the computer."""

    cores: int
    cache_memory: int
    """Bytes that decoded images may take; see `frcnn.data.image_cache`."""
    cache_disk: int
    """Bytes of files that decoded images may take."""


class Choice(NamedTuple):
    """Settings that belong together, and why they have these values."""

    settings: dict[str, Any]
    """By dotted name."""
    reason: str


SMALL, SMALL_ON_PYRAMID = 32.0, 16.0
"""Pixels at the input that the size of most objects should reach: two cells of a feature map of stride 16; four of the
finest map of a pyramid."""
TINY = 12.0
"""Pixels at the largest input: where a quarter of the objects are smaller, images are cut into tiles."""
MAX_TILE = 0.75
"""Of the longer side of an image: larger tiles would not enlarge the objects much."""
PYRAMID_CHANNELS = 64
"""A quarter of the paper's, for CPUs."""
ENOUGH_ANCHOR_RECALL = 0.8
"""Fraction of the objects that the anchors of a single feature map should reach. Where they cannot, its cells are too
far apart for the objects."""


def pyramid(config: Config, anchor_recall: float) -> Choice | None:
    """The feature pyramid of the base model, with few channels, if a single feature map is too coarse. The layers that
    the single map's base model freezes stay frozen: a step takes less time, and AP was the same.

    Args:
        anchor_recall: the fraction of the training objects that anchors of the single map, fitted to them, reach.
    """
    name = f"{config.base_model.name}-fpn"
    if name not in base_model_names() or anchor_recall >= ENOUGH_ANCHOR_RECALL:
        return None
    settings = {
        "base_model.name": name,
        "base_model.freeze_before": config.base_model.freeze_before,
        "base_model.fpn_channels": PYRAMID_CHANNELS,
        "base_model.rpn_channels": PYRAMID_CHANNELS,
    }
    return Choice(
        settings, f"one feature map is too coarse: its anchors would reach {anchor_recall:.0%} of the objects (IoU 0.5)"
    )


def tile(fingerprint: Fingerprint, at_largest_input: float, config: Config) -> Choice | None:
    """Tiles, where objects would be tiny even at the largest input.

    In a tile, three quarters of the objects have `SMALL_ON_PYRAMID` pixels or more at the input, nearly all objects fit
    into the overlap of two tiles, and no pixel is enlarged more than twice.

    Args:
        fingerprint: of the images that are as large as those with the small objects.
        at_largest_input: the size of small objects in whole images, pixels; see `Sizes.at_largest_input`.
    """
    image = config.detector.image
    if image.resize != "shorter_side" or at_largest_input >= TINY:
        return None
    longer, small = quantile(fingerprint.longer_side, 0.5), quantile(fingerprint.size, 0.25)
    input_side = image.longer_side
    enlarged = max(input_side * min(small / SMALL_ON_PYRAMID, 1), input_side / MOST_ENLARGED)
    side = _round_up(max(enlarged, quantile(fingerprint.size, 0.95) / OVERLAP), 32)
    if side > MAX_TILE * longer:
        return None
    settings = {"detector.image.tile": side, "detector.image.shorter_side": input_side}
    reason = f"without tiles, a quarter of the objects are under {at_largest_input:.2g} pixels at the largest input"
    return Choice(settings, reason)


def input_of_tile(fingerprint: Fingerprint, config: Config) -> Choice | None:
    """A square input for tiles that the user chose. With the default shorter side, each tile would lose pixels."""
    image = config.detector.image
    side = min(image.longer_side, MOST_ENLARGED * image.tile) if image.tile is not None else 0
    most = MOST_ENLARGED * quantile(fingerprint.longer_side, 0.5)
    if image.resize != "shorter_side" or side <= image.shorter_side or side > most:
        return None
    return Choice({"detector.image.shorter_side": side}, f"tiles are squares, here of {image.tile} pixels")


def input_size(fingerprint: Fingerprint, sizes: Sizes, config: Config) -> Choice | None:
    """The size to which images are scaled, so that three quarters of the objects reach `SMALL`.

    An image is not enlarged beyond twice its size. Where that is not needed, the default stays.

    Args:
        fingerprint: of the images that are as large as those with the small objects.
        sizes: of all images.
    """
    image, has_pyramid = config.detector.image, len(config.base_model.last_conv_node) > 1
    if image.resize != "shorter_side":
        return None
    wanted, size = (SMALL_ON_PYRAMID if has_pyramid else SMALL), sizes.at_input(image.shorter_side, image.longer_side)
    shorter, longer = quantile(fingerprint.shorter_side, 0.5), quantile(fingerprint.longer_side, 0.5)
    frame = max(longer, shorter * image.longer_side / image.shorter_side)
    most = min(LARGEST_INPUT, MOST_ENLARGED * frame)
    if size >= wanted or most <= image.longer_side:
        return None
    inputs = (
        (_round_up(side * image.shorter_side / image.longer_side, 32), side)
        for side in range(_round_up(image.longer_side + 1, 32), _round_up(most, 32) + 1, 32)
    )
    *smaller, largest = inputs
    chosen = next((each for each in smaller if sizes.at_input(*each) >= wanted), largest)
    names = "detector.image.shorter_side", "detector.image.longer_side"
    reason = f"a quarter of the objects are under {size:.2g} pixels at {image.longer_side} x {image.shorter_side}"
    return Choice(dict(zip(names, chosen, strict=True)), reason)


def mirror(fingerprint: Fingerprint) -> Choice:
    """Whether training also sees mirror images."""
    if not fingerprint.mirrored_classes:
        return Choice({"train.flip": True}, "no class seems to depend on left and right")
    names = listed(fingerprint.mirrored_classes, 4)
    return Choice({"train.flip": False}, f"a mirror image would turn some classes into others: {names}")


def min_proposal_size(fingerprint: Fingerprint, config: Config) -> Choice:
    """The least side of a proposal: half of the shortest side of nearly all objects, at most the default.

    The paper's code drops proposals of less than 16 pixels, which are whole objects in photos from the air.
    """
    default = config.detector.test_proposals.min_size
    shortest = quantile(fingerprint.shortest_side, 0.05)
    size = min(default, math.floor(shortest / 2))
    names = ("detector.train_proposals.min_size", "detector.test_proposals.min_size")
    return Choice(
        dict.fromkeys(names, float(size)), f"half of the shorter side of small objects ({shortest:.0f} pixels)"
    )


def max_detections(fingerprint: Fingerprint, config: Config) -> Choice:
    """Twice as many detections per image as the fullest training image has objects, at least the default."""
    most = int(fingerprint.objects_per_image[-1])
    count = min(max(config.detector.results.max_detections, _round_up(2 * most, 50)), MAX_BOXES)
    return Choice({"detector.results.max_detections": count}, f"twice the most objects in an image ({most})")


def proposals(fingerprint: Fingerprint, config: Config) -> Choice:
    """Four proposals for each object of the fullest image, at least the default."""
    most = int(fingerprint.objects_per_image[-1])
    count = min(max(config.detector.test_proposals.post_nms_top_n, _round_up(4 * most, 100)), MAX_BOXES)
    before = min(max(config.detector.test_proposals.pre_nms_top_n, 4 * count), MAX_BOXES)
    names = "detector.test_proposals.post_nms_top_n", "detector.test_proposals.pre_nms_top_n"
    return Choice(dict(zip(names, (count, before), strict=True)), f"four times the most objects in an image ({most})")


def roi_samples(fingerprint: Fingerprint, config: Config) -> Choice | None:
    """Enough RoIs per image for two foreground RoIs per object of an image with many objects."""
    roi = config.train.roi
    if roi.positive_fraction == 0:
        return None
    many = quantile(fingerprint.objects_per_image, 0.95)
    count = min(512, max(roi.sample_size, _round_up(2 * many / roi.positive_fraction, 128)))
    return Choice({"train.roi.sample_size": count}, f"5% of the images with objects have {round(many)} or more")


def initial_detector(detector: ModelSettings, config: Config) -> Choice | None:
    """Layers, anchors and input size of the detector that training starts from, where they differ from the settings."""
    there, here = flat(dump(detector)), flat(dump(config))
    kept = ("base_model.", "detector.anchors.", "detector.rules", "detector.box_deltas.", "detector.image.")
    settings = {name: value for name, value in there.items() if name.startswith(kept) and value != here[name]}
    sources = {"base_model.weights", "base_model.weights_package", "base_model.weights_url"}
    settings = {name: value for name, value in settings.items() if name not in sources}
    return Choice(settings, "kept from the detector that training starts from") if settings else None


def roi_head(config: Config) -> Choice | None:
    """A cascade of two RoI heads, whose boxes are the same for all classes; where the head consists of new layers."""
    if config.base_model.last_hidden_node is not None:
        return None  # two copies of a base model's own layers would double the detector
    settings = {"base_model.cascade": 2, "base_model.box_per_class": False}
    return Choice(settings, "a second RoI head refines the boxes of the first")


def schedule(fingerprint: Fingerprint, config: Config) -> Choice:
    """Epochs, so that training has about `STEPS` steps of one image, fewer if a step takes long, within `MIN_EPOCHS`
    and `MAX_EPOCHS`. Those of alternating training change in proportion.

    Args:
        fingerprint: of the tiles; of the images if there are none.
    """
    steps = STEPS / max(_cost(fingerprint, config), 1.0) ** 0.75
    least = MIN_EPOCHS if config.detector.image.tile is None else MIN_EPOCHS_OF_TILES
    epochs = min(max(round(steps / fingerprint.images), least), MAX_EPOCHS)
    usual = TrainSettings()
    settings = {
        f"train.{name}": round(getattr(usual, name) * epochs / usual.epochs) for name in EPOCHS[config.train.scheme]
    }
    slow = "; a step takes longer than usual" if steps < STEPS else ""
    what = "training image" if config.detector.image.tile is None else "training tile"
    return Choice(settings, f"{plural(fingerprint.images, what)}{slow}")


def _cost(fingerprint: Fingerprint, config: Config) -> float:
    """About how many times as long a step takes as one of an image of 640 x 480 pixels without a pyramid."""
    image = (round(quantile(fingerprint.shorter_side, 0.5)), round(quantile(fingerprint.longer_side, 0.5)))
    height, width = input_size_of(image, config.detector.resizing)
    return height * width / (640 * 480) * (2 if len(config.base_model.last_conv_node) > 1 else 1)


def augmentation() -> Choice:
    """How much images are changed: sizes and colors."""
    return Choice(
        {"train.scale_jitter": 1.6, "train.color_jitter": 0.3}, "random scales and colors make the images more varied"
    )


def cache(size: int, epochs: int, machine: Machine) -> Choice | None:
    """Where decoded training images are kept between the epochs: in memory if they fit, else in files.

    Args:
        size: bytes of all decoded images.
    """
    if epochs < 2:
        return None
    where = "disk" if machine.cache_memory < size <= machine.cache_disk else "memory"
    part = "; a part fits" if size > max(machine.cache_memory, machine.cache_disk) else ""
    return Choice({"data.cache": where}, f"the decoded training images take {max(size // 10**6, 1):,} MB{part}")


def workers(machine: Machine) -> Choice | None:
    """Threads that read images: a quarter of the cores, at most eight."""
    count = min(8, machine.cores // 4)
    return Choice({"data.workers": count}, f"a quarter of the {machine.cores} cores") if count > 1 else None


def within_budget(train: TrainSettings, seconds: float, spent: float = 0) -> Choice:
    """As many epochs as fit into `train.budget`, but no more than three times as many as without it.

    Args:
        seconds: that the training takes with these settings.
        spent: seconds of the budget that are gone.
    """
    names, budget = EPOCHS[train.scheme], float(train.budget or 0)
    factor = min(0.9 * (budget - spent) / seconds, 3)  # a little less: other work on the machine
    epochs = {f"train.{name}": max(1, math.floor(getattr(train, name) * factor)) for name in names}
    before = " and ".join(str(getattr(train, name)) for name in names)
    reason = f"training may take {duration(budget)}; {before} epochs would take {duration(seconds)}"
    few = "; less than a quarter of the usual epochs: this may be too little; give it more time"
    return Choice(epochs, reason + (few if factor < _ENOUGH_FRACTION else ""))


def warnings(fingerprint: Fingerprint, size: float, config: Config, hidden: int) -> Iterator[str]:
    """Problems of the data that no setting solves, one sentence each.

    Args:
        size: of small objects at the input, pixels; see `Sizes.at_input`.
        config: with the choices.
        hidden: number of objects that no tile shows by at least half.
    """
    if hidden:
        yield (
            f"{hidden} of {plural(fingerprint.objects, 'object')} will not be trained on: no tile of "
            f"{config.detector.image.tile} pixels shows at least half of such an object; to include them, set "
            f"detector.image.tile to a larger value"
        )
    labeled = fingerprint.images - fingerprint.empty_images
    if labeled < FEW_IMAGES:
        yield f"few training images have objects ({labeled}): label at least {FEW_IMAGES}"
    rare = [name for name, each in fingerprint.classes.items() if each.objects < FEW_OBJECTS]
    if rare:
        yield f"fewer than {FEW_OBJECTS} training objects of {listed(rare, 4)}: the detector may miss them; label more"
    if config.detector.image.resize == "shorter_side" and size < TOO_SMALL:
        yield (
            f"a quarter of the objects are smaller than {plural(max(round(size), 1), 'pixel')} at the input; they "
            f"are hard to find: use images that show them larger, or set detector.image.tile"
        )


def total_epochs(train: TrainSettings) -> int:
    """Epochs of the scheme, its phases counted once."""
    return sum(getattr(train, name) for name in EPOCHS[train.scheme])


def quantile(quantiles: Quantiles, fraction: float) -> float:
    """The value at one of `QUANTILES`."""
    return quantiles[QUANTILES.index(fraction)]


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
