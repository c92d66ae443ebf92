"""Which objects the anchors can reach at all: what only a Faster R-CNN can say about a data set.

Letters: G boxes, N anchors.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frcnn.config import Config
from frcnn.data.transforms import input_size
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.anchors import anchor_grid, base_anchors
from frcnn.ops.boxes import inside, iou
from frcnn.types import Level, Record

LEVELS_OF_IOU = (0.5, 0.7)
_LEAST = 30  # boxes, to suggest anything
_SAMPLE = 400  # boxes that a suggestion is looked for with
_GAIN = 0.02  # of reach, for a suggestion to be worth it
_CHUNK = 256


class Boxes(NamedTuple):
    """Ground truth at the training size, by frame."""

    frames: list[tuple[int, int]]
    """(height, width) of each image, input pixels."""
    boxes: list[Tensor]
    names: list[tuple[str, ...]]


class Shapes(NamedTuple):
    """Anchors, as the settings give them."""

    scales: tuple[float, ...]
    aspect_ratios: tuple[float, ...]


class Reach(NamedTuple):
    """How many objects some anchor overlaps enough to learn from."""

    shapes: Shapes
    share: dict[float, float]
    """IoU -> share of the objects."""
    of_class: dict[str, dict[float, float]]


class Suggestion(NamedTuple):
    reach: Reach
    settings: list[str]
    """Ready for --set."""


def levels_of(config: Config) -> tuple[Level, ...]:
    """Where the feature maps of the base model look; it is built with random weights."""
    return FasterRCNN(config, ("object",)).rpn.levels


def at_training_size(records: Sequence[Record], sizes: Sequence[tuple[int, int] | None], config: Config) -> Boxes:
    """The boxes that train, scaled as their images are."""
    found = Boxes([], [], [])
    for record, size in zip(records, sizes, strict=True):
        if size is None or not record.names:
            continue
        frame = input_size(size, config.detector.image)
        scale = np.array([frame[1] / size[1], frame[0] / size[0]] * 2)
        good = ~record.difficult & (record.boxes[:, 2:] > record.boxes[:, :2]).all(axis=1)
        found.frames.append(frame)
        found.boxes.append(torch.from_numpy((record.boxes[good] * scale).astype(np.float32)))
        found.names.append(tuple(name for name, counts in zip(record.names, good, strict=True) if counts))
    return found


def reach(boxes: Boxes, shapes: Shapes, levels: Sequence[Level], config: Config) -> Reach:
    """The share of the boxes that an anchor overlaps, for each IoU; anchors that cross the border do not count where
    they do not train."""
    best: dict[str, list[float]] = {}
    by_frame: dict[tuple[int, int], list[int]] = {}
    for place, frame in enumerate(boxes.frames):
        by_frame.setdefault(frame, []).append(place)
    for frame, places in by_frame.items():
        anchors = _anchors(frame, shapes, levels, config)
        names = [name for place in places for name in boxes.names[place]]
        overlaps = [
            iou(chunk, anchors).amax(dim=1) if len(anchors) else torch.zeros(len(chunk))
            for chunk in torch.cat([boxes.boxes[place] for place in places]).split(_CHUNK)
        ]
        for name, value in zip(names, torch.cat(overlaps).tolist(), strict=True):
            best.setdefault(name, []).append(value)
    every = [value for values in best.values() for value in values]
    return Reach(shapes, _shares(every), {name: _shares(values) for name, values in sorted(best.items())})


def suggest(boxes: Boxes, now: Reach, levels: Sequence[Level], config: Config) -> Suggestion | None:
    """As many scales and ratios as there are (or fewer, where two come out the same), that reach more, and of no class
    less at the lower IoU; None if there are no better ones.

    Each scale and each ratio in turn takes the best of its neighbours, as long as something gets better; from the
    present ones, and from those of the boxes themselves.
    """
    if sum(map(len, boxes.names)) < _LEAST:
        return None
    some = _some(boxes)
    starts = (now.shapes, _start(some, now.shapes, levels, config))
    shapes, _ = max((_climb(some, start, levels, config) for start in starts), key=lambda found: found[1])
    shapes = Shapes(*(tuple(sorted({float(f"{value:.2g}") for value in values})) for values in shapes))
    found = reach(boxes, shapes, levels, config)
    worse = any(
        found.of_class[name][LEVELS_OF_IOU[0]] < shares[LEVELS_OF_IOU[0]] for name, shares in now.of_class.items()
    )
    if worse or _score(found) < _score(now) + _GAIN:
        return None
    settings = [
        f"detector.anchors.{name}=[{','.join(f'{value:g}' for value in values)}]"
        for name, values in zip(Shapes._fields, shapes, strict=True)
    ]
    return Suggestion(found, settings)


def _climb(boxes: Boxes, shapes: Shapes, levels: Sequence[Level], config: Config) -> tuple[Shapes, float]:
    """The best that small steps lead to, and its score."""
    best = _score(reach(boxes, shapes, levels, config))
    for factor in (1.4, 1.19, 1.09):
        improved = True
        while improved:
            improved = False
            for other in _neighbours(shapes, factor):
                score = _score(reach(boxes, other, levels, config))
                if score > best + 1e-6:
                    shapes, best, improved = other, score, True
    return shapes, best


def _anchors(frame: tuple[int, int], shapes: Shapes, levels: Sequence[Level], config: Config) -> Tensor:
    rules, grids = config.detector.anchors, []
    for level in levels:
        sizes = [(rules.base_size or level.stride) * scale for scale in shapes.scales]
        cells = (math.ceil(frame[0] / level.stride), math.ceil(frame[1] / level.stride))
        stride = (float(level.stride), float(level.stride))
        base = base_anchors(sizes, shapes.aspect_ratios, rounded=rules.rounded)
        grids.append(anchor_grid(base, cells, stride=stride, offset=level.offset))
    anchors = torch.cat(grids)
    if config.train.rpn.inside_only:
        anchors = anchors[inside(anchors, torch.tensor(frame, dtype=torch.float32))]
    return anchors


def _shares(values: Sequence[float]) -> dict[float, float]:
    return {level: sum(value >= level for value in values) / max(len(values), 1) for level in LEVELS_OF_IOU}


def _score(found: Reach) -> float:
    """Every class counts the same: the rare one, often the small one, is not given up for the others."""
    return sum(sum(shares.values()) for shares in found.of_class.values()) / len(found.of_class) / len(LEVELS_OF_IOU)


def _some(boxes: Boxes) -> Boxes:
    """Enough of them to search with."""
    places = np.array([(image, number) for image, names in enumerate(boxes.names) for number in range(len(names))])
    chosen = np.random.default_rng(0).permutation(places)[:_SAMPLE]
    by_image: dict[int, list[int]] = {}
    for image, number in chosen.tolist():
        by_image.setdefault(image, []).append(number)
    return Boxes(
        [boxes.frames[image] for image in by_image],
        [boxes.boxes[image][numbers] for image, numbers in by_image.items()],
        [tuple(boxes.names[image][number] for number in numbers) for image, numbers in by_image.items()],
    )


def _start(boxes: Boxes, shapes: Shapes, levels: Sequence[Level], config: Config) -> Shapes:
    """Scales and ratios at the quantiles of those of the boxes; on a pyramid, the scales there are."""
    sides = torch.cat(boxes.boxes)[:, 2:] - torch.cat(boxes.boxes)[:, :2]
    ratios = torch.quantile(sides[:, 1] / sides[:, 0], _middles(len(shapes.aspect_ratios)))
    if config.detector.anchors.base_size is None or len(levels) > 1:
        return Shapes(shapes.scales, tuple(ratios.tolist()))
    sizes = torch.quantile(sides.prod(dim=1).sqrt(), _middles(len(shapes.scales)))
    return Shapes(tuple((sizes / config.detector.anchors.base_size).tolist()), tuple(ratios.tolist()))


def _middles(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


def _neighbours(shapes: Shapes, factor: float) -> list[Shapes]:
    changed = []
    for field, values in zip(Shapes._fields, shapes, strict=True):
        for place in range(len(values)):
            for step in (factor, 1 / factor):
                moved = (*values[:place], values[place] * step, *values[place + 1 :])
                changed.append(shapes._replace(**{field: moved}))
    return changed
