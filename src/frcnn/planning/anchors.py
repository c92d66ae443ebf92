"""Anchor recall: the fraction of the training objects that some anchor overlaps enough; and better anchors.

Letters: G boxes, A anchors per cell.
"""

from collections.abc import Collection, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from frcnn.config import BaseModelSettings, Config, base_model_names
from frcnn.config.presets import base_model_preset
from frcnn.data.problems import has_area
from frcnn.data.records import Record
from frcnn.data.tiles import size_of
from frcnn.planning.choices import Choice
from frcnn.resizing import frame_size, input_size
from frcnn.types import Level

IOU_LEVELS = (0.5, 0.7)
_ENOUGH = 30  # boxes, for a suggestion
_SPREAD = 0.3  # of the logarithm of the sides of boxes, where there are few
_VARIANTS = 5  # of a box, where training changes the sizes of images
_SAMPLE = 400  # boxes that the search for a suggestion looks at
_GAIN = 0.02  # of the recall, that makes a suggestion worth it
_CHUNK = 16384  # boxes

_STRIDES = {1: (16,), 4: (4, 8, 16, 32)}
"""Of the feature maps of the base models in our table, by their number."""
_CENTERS = {"torchvision:alexnet": (1.0, -0.5), "torchvision:convnext": (0.5, 0.0), "torchvision:vgg": (0.5, 0.0)}
"""Where the first cell of a feature map is centered, pixels: a * stride + b. The layers of all others: at 0.5."""


class Boxes(NamedTuple):
    """Boxes at the training size."""

    xyxy: np.ndarray
    """(G, 4), input pixels."""
    sizes: np.ndarray
    """(G, 2): height and width of the resized image of each box, input pixels."""
    frames: np.ndarray
    """(G, 2): height and width of the frame that the image is in, input pixels."""
    labels: np.ndarray
    """(G,): indices of `classes`."""
    classes: tuple[str, ...]
    """Sorted."""

    def take(self, indices: np.ndarray | slice) -> "Boxes":
        """Some of the boxes."""
        return Boxes(self.xyxy[indices], self.sizes[indices], self.frames[indices], self.labels[indices], self.classes)


class Shapes(NamedTuple):
    """Anchors, as the settings of the same names describe them."""

    scales: tuple[float, ...]
    aspect_ratios: tuple[float, ...]


class AnchorRecall(NamedTuple):
    """For each IoU of `IOU_LEVELS`, the fraction of the objects that some anchor overlaps as much."""

    shapes: Shapes
    all: dict[float, float]
    of_class: dict[str, dict[float, float]]


class Suggestion(NamedTuple):
    """Anchors with a higher recall."""

    anchor_recall: AnchorRecall
    settings: list[str]
    """For --set."""


def feature_levels(config: Config) -> tuple[Level, ...]:
    """Stride and offset of the feature maps that have anchors.

    They are known for the base models of our table as they are. For others, a model with random weights measures them.
    """
    base, rules = config.base_model, config.detector.details
    strides = _STRIDES.get(len(base.last_conv_node))
    if strides is None or not _is_in_table(base):
        from frcnn.nn.build import build_model  # takes seconds, and most checks do not need it

        return build_model(config.model, ("object",)).rpn.levels
    factor, shift = next((_CENTERS[start] for start in _CENTERS if base.architecture.startswith(start)), (0.0, 0.5))
    levels = [
        Level(stride, rules.offset if rules.offset is not None else factor + shift / stride) for stride in strides
    ]
    if len(levels) > 1:
        levels.append(Level(2 * levels[-1].stride, levels[-1].offset / 2))  # the FPN's last level: every other cell
    return tuple(levels)


def _is_in_table(base: BaseModelSettings) -> bool:
    if base.name not in base_model_names():
        return False
    known = base_model_preset(base.name)["base_model"]
    nodes = known["last_conv_node"]
    same_nodes = list(base.last_conv_node) == ([nodes] if isinstance(nodes, str) else nodes)
    return same_nodes and base.architecture == known["architecture"]


def at_training_size(records: Sequence[Record], sizes: Sequence[tuple[int, int] | None], config: Config) -> Boxes:
    """The boxes that train, resized like their images.

    Args:
        sizes: (height, width) of each image; None: it cannot be read, and is left out.
    """
    boxes, places, names = [np.zeros((0, 4))], [np.zeros((0, 4), int)], []
    for record, size in zip(records, sizes, strict=True):
        if size is None or not record.class_names:
            continue
        new = input_size(size, config.detector.resizing)
        trains = ~record.ignore & has_area(record.boxes)
        boxes.append(record.boxes[trains] * np.tile([new[1] / size[1], new[0] / size[0]], 2))
        places.append(np.tile((*new, *frame_size([new], config.detector.resizing)), (len(boxes[-1]), 1)))
        names += [name for name, is_one in zip(record.class_names, trains, strict=True) if is_one]
    place = np.concatenate(places)
    classes, labels = np.unique(np.array(names, str), return_inverse=True)
    return Boxes(np.concatenate(boxes), place[:, :2], place[:, 2:], labels, tuple(classes.tolist()))


def anchor_recall(boxes: Boxes, shapes: Shapes, levels: Sequence[Level], config: Config) -> AnchorRecall:
    """The anchor recall of these boxes. With `train.rpn.inside_only`, anchors that cross the border of the image do not
    count."""
    parts = [boxes.take(slice(at, at + _CHUNK)) for at in range(0, len(boxes.xyxy), _CHUNK)]
    best = [best_iou(part, _pairs(shapes), levels, config).max(axis=1) for part in parts]
    return _recall(boxes, np.concatenate([np.zeros(0), *best]), shapes)


def _pairs(shapes: Shapes) -> list[tuple[float, float]]:
    """(A,): the aspect ratio and the scale of each anchor of a cell."""
    return list(product(shapes.aspect_ratios, shapes.scales))


def _recall(boxes: Boxes, best: np.ndarray, shapes: Shapes) -> AnchorRecall:
    """The anchor recall, from the IoU of each box with the best anchor."""
    reached = {level: best >= level for level in IOU_LEVELS}
    counts = np.bincount(boxes.labels, minlength=len(boxes.classes))
    by_class = {level: np.bincount(boxes.labels, hit, len(counts)) for level, hit in reached.items()}
    of_class = {
        name: {level: float(by_class[level][label] / counts[label]) for level in IOU_LEVELS}
        for label, name in enumerate(boxes.classes)
        if counts[label]
    }
    return AnchorRecall(
        shapes, {level: float(hit.sum() / max(len(hit), 1)) for level, hit in reached.items()}, of_class
    )


def best_iou(boxes: Boxes, pairs: Sequence[tuple[float, float]], levels: Sequence[Level], config: Config) -> np.ndarray:
    """(G, A): the IoU of each box with the best anchor of each shape.

    Of one shape, the best anchor lies at the cell nearest to the center of the box: the overlap along one axis falls
    with the distance of the centers, whatever the other axis does. So no grid of anchors is made.

    Args:
        pairs: (A,) of aspect ratio and scale.
    """
    rules = config.detector.details
    area = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1)
    best = np.zeros((len(area), len(pairs)))
    for level in levels:
        cells = -(-boxes.frames // level.stride)
        spacing = boxes.frames // cells if rules.anchor_spacing == "frame" else np.full_like(cells, level.stride)
        sides = anchor_sides(pairs, level, config)
        common = np.ones_like(best)
        for axis in (0, 1):  # y, x
            limits = boxes.sizes[:, axis] if config.train.rpn.inside_only else None
            ends = boxes.xyxy[:, [1 - axis, 3 - axis]]
            common *= _overlap(ends, sides[:, axis], spacing[:, axis], cells[:, axis], level.offset, limits)
        best = np.maximum(best, common / (area[:, None] + sides.prod(axis=1) - common))
    return best


def _overlap(
    ends: np.ndarray,
    sides: np.ndarray,
    spacing: np.ndarray,
    cells: np.ndarray,
    offset: float,
    limits: np.ndarray | None,
) -> np.ndarray:
    """(G, A): along one axis, how much of each box the best anchor of each shape covers, input pixels.

    Args:
        ends: (G, 2) of the boxes.
        sides: (A,) of the anchors.
        spacing: (G,), pixels from anchor to anchor.
        cells: (G,) of the feature map.
        offset: see `Level`.
        limits: (G,) of the image, which anchors must not cross; None: they may.
    """
    spacing, half = spacing[:, None], sides / 2
    cell = np.rint(ends.mean(axis=1)[:, None] / spacing - offset)
    first, last = np.zeros_like(cell), cells[:, None] - 1.0
    if limits is not None:
        first = np.maximum(first, np.ceil(half / spacing - offset))
        last = np.minimum(last, np.floor((limits[:, None] - half) / spacing - offset))
    center = (cell.clip(first, last) + offset) * spacing
    common = np.minimum(ends[:, 1:], center + half) - np.maximum(ends[:, :1], center - half)
    return np.where(first <= last, common, 0).clip(min=0)


def anchor_sides(pairs: Sequence[tuple[float, float]], level: Level, config: Config) -> np.ndarray:
    """(A, 2): height and width of anchors, input pixels; those of `frcnn.nn.rpn.RPN`, without torch.

    Args:
        pairs: (A,) of aspect ratio and scale.
    """
    ratio, scale = np.array(pairs, np.float32).T
    size, root = scale * np.float32(config.detector.anchors.base_size or level.stride), np.sqrt(ratio)
    half = np.stack((size * root, size / root), axis=1) / 2
    return 2.0 * (np.rint(half) if config.detector.details.rounded_anchors else half)


def suggest(
    boxes: Boxes, now: AnchorRecall, levels: Sequence[Level], config: Config, kept: Collection[str] = ()
) -> Suggestion | None:
    """Search scales and aspect ratios, as many as there are, with a clearly higher recall.

    Each scale and each ratio is varied in small steps as long as the recall rises. The search starts from the present
    anchors, and again from quantiles of the boxes. Classes count as much as objects do, so that a rare class, which
    often is a small one, is not given up for the others.

    Args:
        kept: fields of `Shapes` that do not change.

    Returns:
        None: no better anchors were found, or there are too few boxes to tell. Values that become equal are merged.
    """
    if len(boxes.xyxy) < _ENOUGH:
        return None
    some = boxes.take(np.random.default_rng(0).permutation(len(boxes.xyxy))[:_SAMPLE])
    same = {name: getattr(now.shapes, name) for name in kept}
    starts = (now.shapes, *(start._replace(**same) for start in _quantiles(some, now.shapes, levels, config)))
    shapes, _ = max((_climb(some, start, levels, config, kept) for start in starts), key=lambda result: result[1])
    shapes = Shapes(*(tuple(sorted({float(f"{value:.2g}") for value in values})) for values in shapes))._replace(**same)
    better = anchor_recall(boxes, shapes, levels, config)
    if _score(better) < _score(now) + _GAIN:
        return None
    settings = [
        f"detector.anchors.{name}=[{','.join(f'{value:g}' for value in values)}]"
        for name, values in zip(Shapes._fields, shapes, strict=True)
        if name not in kept
    ]
    return Suggestion(better, settings)


def fitted_anchors(records: Sequence[Record], config: Config, named: Collection[str] = ()) -> Choice | None:
    """Anchors that fit the training objects, in the sizes that training shows; None: the present ones do.

    If there are fewer than 30 objects, each is replaced by several of similar size and shape, so that the anchors also
    fit new objects.

    Args:
        records: verified images, or tiles.
        named: the settings that the user chose. The others are fitted to them.
    """
    names = {name: f"detector.anchors.{name}" for name in Shapes._fields}
    kept = {name for name, setting in names.items() if setting in named}
    if len(kept) == len(names):
        return None
    boxes, levels = _boxes_of(records, config), feature_levels(config)
    present = Shapes(config.detector.anchors.scales, config.detector.anchors.aspect_ratios)
    varied = _with_variants(boxes, config.train.scale_jitter)
    better = suggest(varied, anchor_recall(varied, present, levels, config), levels, config, kept)
    if better is None:
        return None
    low, fitted = IOU_LEVELS[0], better.anchor_recall.shapes
    before, after = (anchor_recall(boxes, shapes, levels, config).all[low] for shapes in (present, fitted))
    return Choice(
        {setting: list(getattr(fitted, name)) for name, setting in names.items() if name not in kept},
        f"anchor recall at IoU {low}: {after:.0%} instead of {before:.0%}",
    )


def anchor_recall_of(records: Sequence[Record], config: Config) -> float:
    """The fraction of the training objects that some anchor overlaps with an IoU of 0.5 or more; 0 without objects."""
    anchors = config.detector.anchors
    shapes, boxes = Shapes(anchors.scales, anchors.aspect_ratios), _boxes_of(records, config)
    return anchor_recall(boxes, shapes, feature_levels(config), config).all[IOU_LEVELS[0]]


def _boxes_of(records: Sequence[Record], config: Config) -> Boxes:
    return at_training_size(records, [size_of(record) for record in records], config)


def _with_variants(boxes: Boxes, scale_jitter: float) -> Boxes:
    """Each box several times around the same center, in the sizes that `train.scale_jitter` gives it. Of fewer than
    `_ENOUGH` boxes, the shapes vary too."""
    count = len(boxes.xyxy)
    few = 0 < count < _ENOUGH
    if not few and scale_jitter == 1:
        return boxes
    random = np.random.default_rng(0)
    copies = boxes.take(np.arange(max(_VARIANTS * count, 4 * _ENOUGH if few else 0)) % max(count, 1))
    center, sides = (copies.xyxy[:, :2] + copies.xyxy[:, 2:]) / 2, copies.xyxy[:, 2:] - copies.xyxy[:, :2]
    sides *= scale_jitter ** random.uniform(-1, 1, (len(sides), 1))
    if few:
        sides *= np.exp(random.normal(0, _SPREAD, sides.shape))
    return copies._replace(xyxy=np.concatenate((center - sides / 2, center + sides / 2), axis=1))


def _climb(
    boxes: Boxes, shapes: Shapes, levels: Sequence[Level], config: Config, kept: Collection[str]
) -> tuple[Shapes, float]:
    """Hill climbing; the best shapes and their score.

    Args:
        kept: fields that do not change.
    """
    known: dict[tuple[float, float], np.ndarray] = {}

    def score(shapes: Shapes) -> float:
        pairs = _pairs(shapes)
        new = [pair for pair in pairs if pair not in known]
        known.update(zip(new, best_iou(boxes, new, levels, config).T, strict=True) if new else ())
        return _score(_recall(boxes, np.max([known[pair] for pair in pairs], axis=0), shapes))

    best = score(shapes)
    for factor in (1.4, 1.19, 1.09):
        improved = True
        while improved:
            improved = False
            for other in _neighbors(shapes, factor, kept):
                if (other_score := score(other)) > best + 1e-6:
                    shapes, best, improved = other, other_score, True
    return shapes, best


def _score(recall: AnchorRecall) -> float:
    """The mean of the recall of all objects and of the mean over classes."""
    by_class = [sum(each.values()) for each in recall.of_class.values()]
    return (sum(recall.all.values()) + sum(by_class) / len(by_class)) / 2 / len(IOU_LEVELS)


def _quantiles(boxes: Boxes, shapes: Shapes, levels: Sequence[Level], config: Config) -> list[Shapes]:
    """Where a search can start: scales and aspect ratios at quantiles of the boxes.

    The scales of a pyramid apply to all of its levels. One start has the scales as they are; another one makes the
    anchors of the finest level as large as the small objects.
    """
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    ratios = tuple(np.quantile(sides[:, 1] / sides[:, 0], _middles(len(shapes.aspect_ratios))).tolist())
    size = np.sqrt(sides.prod(axis=1))
    if len(levels) == 1:
        base = config.detector.anchors.base_size or levels[0].stride
        return [Shapes(tuple((np.quantile(size, _middles(len(shapes.scales))) / base).tolist()), ratios)]
    base = config.detector.anchors.base_size or min(level.stride for level in levels)
    factor = float(np.quantile(size, 0.25)) / (base * min(shapes.scales))
    return [Shapes(shapes.scales, ratios), Shapes(tuple(scale * factor for scale in shapes.scales), ratios)]


def _middles(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


def _neighbors(shapes: Shapes, factor: float, kept: Collection[str]) -> list[Shapes]:
    """The shapes with one value multiplied or divided by the factor. The fields in `kept` do not change."""
    changed = []
    for field in (name for name in Shapes._fields if name not in kept):
        values = getattr(shapes, field)
        for index in range(len(values)):
            for step in (factor, 1 / factor):
                moved = (*values[:index], values[index] * step, *values[index + 1 :])
                changed.append(shapes._replace(**{field: moved}))
    return changed
