"""What a report shows of single images: all detections and objects, and pictures of those that matter most."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from frcnn.data.images import cropped, read_image
from frcnn.data.tiles import cut_into_windows, window_around
from frcnn.evaluation.errors import ErrorKind
from frcnn.evaluation.matching import inside_ignored, iou_matrix
from frcnn.evaluation.suspects import Suspect, find_suspects
from frcnn.evaluation.thresholds import LEAST_SCORE, calibration, together

if TYPE_CHECKING:
    from PIL import Image

    from frcnn.data.records import Record, Window
    from frcnn.evaluation.metrics import Metrics
    from frcnn.evaluation.missed import Explanation
    from frcnn.nn.faster_rcnn import FasterRCNN

_MOST_DETECTIONS = 100_000
_MANY = 20_000
"""Detections; with more, boxes are in whole pixels, so that the page stays small."""
_MOST_PICTURES = 60
"""Of each kind of error."""
_PICTURE_BYTES = 4_000_000
"""Of all pictures of errors: the page should be one that can be sent."""
_MOST_SUSPECTS = 24
"""Labels that may be wrong, with a picture each."""
_PICTURE_SIDE = 360
_CONTEXT = 3.0
"""Size of the part of the image that a picture shows, in sizes of its object."""
_LEAST_WINDOW = 96
"""Pixels of the image that a picture shows, at least."""
CORRECT, IGNORED = "correct", "ignored"
KINDS = (CORRECT, *(kind.value for kind in ErrorKind), IGNORED)


class Picture(NamedTuple):
    """A part of an image, with one error in it."""

    kind: str
    """One of `KINDS`."""
    number: int
    """Of the detection; of the object if it is missed."""
    window: Window
    """Which part, pixels of the image."""
    jpeg: bytes
    why: str
    """Why the object was missed, in words."""


class SuspectPicture(NamedTuple):
    """A part of an image, with a label that may be wrong."""

    image: int
    text: str
    label: list[float] | None
    """The box of the label; None: there is none."""
    proposed: list[float] | None
    """The box that the detector proposes; None: it proposes to remove the label."""
    window: Window
    """Which part, pixels of the image."""
    jpeg: bytes


class Evidence(NamedTuple):
    """The content of the page's JSON. D detections, O objects."""

    classes: Sequence[str]
    threshold: float
    images: list[str]
    """Names of the files."""
    detections: dict[str, list[Any]]
    """`image`, `label`, `score`, `box`, `kind` (index of `KINDS`) and `object` (-1: none), (D,) each, best first."""
    objects: dict[str, list[Any]]
    """`image`, `label`, `box`, `ignore` and `detection` (of it; -1: none), (O,) each."""
    pairs: dict[str, list[Any]]
    """`detection`, `object`: those with an IoU of 0.5 or more, whatever their classes, best first."""
    inside: list[int]
    """The detections inside an ignored object of their class: without a pair, they do not count."""
    calibration: list[tuple[float, float, int]]
    pictures: list[Picture]
    suspects: list[SuspectPicture]
    """The labels that are most probably wrong."""
    suspects_in_all: int
    floor: float
    """The lowest threshold: all detections from this confidence on are on the page."""
    left_out: int
    """The number of the others."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **self._asdict(),
            "kinds": KINDS,
            "pictures": [
                {**each._asdict(), "jpeg": _base64(each.jpeg), "kind": KINDS.index(each.kind)} for each in self.pictures
            ],
            "suspects": [{**each._asdict(), "jpeg": _base64(each.jpeg)} for each in self.suspects],
        }


def collect(
    metrics: Metrics,
    *,
    threshold: float,
    model: FasterRCNN | None = None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> Evidence:
    """What the page shows of the images of an evaluation.

    Args:
        threshold: the least confidence of a detection, to begin with.
        model: says why objects were missed; None: it is not known.
        on_picture: called with the numbers of pictures done and in total.
    """
    classes = tuple(metrics.per_class)
    detections, number_of = _detections(metrics, classes)
    objects, object_of = _objects(metrics, classes)
    _add_kinds(metrics, detections, objects, number_of, object_of)
    wanted = _most_important(detections, objects, threshold)
    pictures = list(_pictures(wanted, metrics, detections, objects, model, threshold, on_picture))
    suspects = find_suspects(metrics.detections, metrics.records)
    total = sum(len(each) for each in metrics.detections)
    is_cut = len(detections["score"]) == _MOST_DETECTIONS
    return Evidence(
        classes,
        threshold,
        _names(metrics.records),
        detections,
        objects,
        _pairs(metrics, number_of, object_of),
        _inside(metrics, number_of),
        calibration(together(metrics.curves)),
        pictures,
        list(_suspect_pictures(suspects[:_MOST_SUSPECTS], metrics.records)),
        len(suspects),
        float(np.ceil(100 * detections["score"][-1]) / 100) if is_cut else LEAST_SCORE,
        total - len(detections["score"]),
    )


def _names(records: Sequence[Record]) -> list[str]:
    """Of each path the shortest end that no other has: the file name, if possible. More of a path is private."""
    paths = [Path(record.image) for record in records]
    left = {path: path.relative_to(path.anchor).parts for path in paths}
    names: dict[Path, str] = {}
    for kept in range(1, max(map(len, left.values()), default=0) + 1):
        ends = {path: "/".join(parts[-kept:]) for path, parts in left.items()}
        same = Counter(ends.values())
        names |= {path: end for path, end in ends.items() if same[end] == 1 or kept >= len(left[path])}
        left = {path: parts for path, parts in left.items() if path not in names}
    return [names[path] for path in paths]


def _detections(metrics: Metrics, classes: Sequence[str]) -> tuple[dict[str, list[Any]], dict[tuple[int, int], int]]:
    """The detections of all images, best first; and (image, index in it) -> number."""
    rows = [
        (float(score), image, index)
        for image, own in enumerate(metrics.detections)
        for index, score in enumerate(own.confidence.tolist())
        if score >= LEAST_SCORE
    ]
    rows = sorted(rows, key=lambda row: -row[0])[:_MOST_DETECTIONS]
    number_of = {(image, index): number for number, (_, image, index) in enumerate(rows)}
    label_of = {name: label for label, name in enumerate(classes)}
    own = [metrics.detections[image] for _, image, _ in rows]
    return {
        "image": [image for _, image, _ in rows],
        "label": [label_of[each.classes[each.class_id[row[2]]]] for row, each in zip(rows, own, strict=True)],
        "score": [round(score, 4) for score, _, _ in rows],
        "box": [_rounded(each.xyxy[row[2]], many=len(rows) > _MANY) for row, each in zip(rows, own, strict=True)],
        "kind": [0] * len(rows),
        "object": [-1] * len(rows),
    }, number_of


def _objects(metrics: Metrics, classes: Sequence[str]) -> tuple[dict[str, list[Any]], dict[tuple[int, int], int]]:
    """The objects of all images; and (image, index in it) -> number."""
    label_of = {name: label for label, name in enumerate(classes)}
    content: dict[str, list[Any]] = {"image": [], "label": [], "box": [], "ignore": [], "detection": []}
    number_of = {}
    for image, record in enumerate(metrics.records):
        for index, (box, name, ignore) in enumerate(zip(record.boxes, record.class_names, record.ignore, strict=True)):
            number_of[image, index] = len(content["image"])
            for key, value in zip(content, (image, label_of[name], _rounded(box), int(ignore), -1), strict=True):
                content[key].append(value)
    return content, number_of


def _add_kinds(
    metrics: Metrics,
    detections: dict[str, list[Any]],
    objects: dict[str, list[Any]],
    number_of: dict[tuple[int, int], int],
    object_of: dict[tuple[int, int], int],
) -> None:
    """Which detections are correct and which are errors, and what they are about."""
    for error in metrics.errors.errors:
        number = number_of.get((error.image, -1 if error.detection is None else error.detection))
        if number is not None:
            detections["kind"][number] = KINDS.index(error.kind.value)
            if error.object is not None:
                detections["object"][number] = object_of[error.image, error.object]
    for image, matches in enumerate(metrics.errors.matches):
        for index, target in enumerate(matches.tolist()):
            number = number_of.get((image, index))
            if number is None:
                continue
            if target >= 0:
                detections["object"][number] = object_of[image, target]
                objects["detection"][object_of[image, target]] = number
            elif target == -2:
                detections["kind"][number] = KINDS.index(IGNORED)


def _pairs(
    metrics: Metrics, number_of: dict[tuple[int, int], int], object_of: dict[tuple[int, int], int]
) -> dict[str, list[Any]]:
    rows = []
    for image, (own, record) in enumerate(zip(metrics.detections, metrics.records, strict=True)):
        iou = iou_matrix(own.xyxy, record.boxes)
        for index, target in np.argwhere(iou >= 0.5).tolist():
            number = number_of.get((image, index))
            if number is not None:
                rows.append((-float(iou[index, target]), number, object_of[image, target]))
    rows.sort()
    return {"detection": [row[1] for row in rows], "object": [row[2] for row in rows]}


def _inside(metrics: Metrics, number_of: dict[tuple[int, int], int]) -> list[int]:
    return [
        number_of[image, index]
        for image, (own, record) in enumerate(zip(metrics.detections, metrics.records, strict=True))
        for index in np.flatnonzero(inside_ignored(own, record)).tolist()
        if (image, index) in number_of
    ]


class _Wanted(NamedTuple):
    """A picture to be made."""

    weight: float
    kind: str
    number: int
    image: int
    box: list[float]


def _most_important(detections: dict[str, list[Any]], objects: dict[str, list[Any]], threshold: float) -> list[_Wanted]:
    """The errors to show, some of each kind: false detections of high confidence, and missed objects that are large or
    far from being detected."""
    of_kind: dict[str, list[_Wanted]] = defaultdict(list)
    for number, kind in enumerate(detections["kind"]):
        if KINDS[kind] not in (CORRECT, IGNORED):
            image, box = detections["image"][number], detections["box"][number]
            of_kind[KINDS[kind]].append(_Wanted(detections["score"][number], KINDS[kind], number, image, box))
    sizes = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in objects["box"]]
    largest = max(sizes, default=1) or 1
    for number, detection in enumerate(objects["detection"]):
        score = detections["score"][detection] if detection >= 0 else 0.0
        if score < max(threshold, 0.9) and not objects["ignore"][number]:
            weight = (1 - score) + 0.5 * (sizes[number] / largest) ** 0.5 + (score < threshold)
            image, box = objects["image"][number], objects["box"][number]
            of_kind["missed"].append(_Wanted(weight, "missed", number, image, box))
    chosen = [each for own in of_kind.values() for each in sorted(own, key=lambda w: -w.weight)[:_MOST_PICTURES]]
    return sorted(chosen, key=lambda each: -each.weight)


def _pictures(
    wanted: Sequence[_Wanted],
    metrics: Metrics,
    detections: dict[str, list[Any]],
    objects: dict[str, list[Any]],
    model: FasterRCNN | None,
    threshold: float,
    on_picture: Callable[[int, int], None],
) -> Iterator[Picture]:
    """The pictures, in the order of `wanted`; fewer if they would be too large together."""
    by_image: dict[int, list[int]] = defaultdict(list)
    for order, each in enumerate(wanted):
        by_image[each.image].append(order)
    made: dict[int, Picture] = {}
    for image_number, orders in by_image.items():
        try:
            image = read_image(Path(metrics.records[image_number].image), any_size=True)
        except (OSError, ValueError):
            continue  # it was there when it was evaluated
        missed = [wanted[order].number for order in orders if wanted[order].kind == "missed"]
        why = _explained(model, image, missed, objects, tuple(metrics.per_class), threshold) if model else {}
        for order in orders:
            each = wanted[order]
            text = why.get(each.number, "") if each.kind == "missed" else ""
            made[order] = Picture(each.kind, each.number, *_part(image, [each.box]), text)
            on_picture(len(made), len(wanted))
    left = _PICTURE_BYTES
    for order in sorted(made):
        left -= len(made[order].jpeg) * 4 // 3
        if left < 0:
            return
        yield made[order]


def _suspect_pictures(suspects: Sequence[Suspect], records: Sequence[Record]) -> Iterator[SuspectPicture]:
    number_of = {str(record.image): number for number, record in enumerate(records)}
    by_image: dict[Path, list[int]] = defaultdict(list)
    for order, each in enumerate(suspects):
        by_image[each.image].append(order)
    made: dict[int, SuspectPicture] = {}
    for path, orders in by_image.items():
        try:
            image = read_image(path, any_size=True)
        except (OSError, ValueError):
            continue  # it was there when it was evaluated
        for order in orders:
            each = suspects[order]
            label, proposed = (None if box is None else _rounded(np.array(box)) for box in (each.label, each.proposed))
            part = _part(image, [box for box in (label, proposed) if box is not None])
            text = f"{each.subject}: {each.kind.value} ({each.score:.2f}); {each.reason}"
            made[order] = SuspectPicture(number_of[str(path)], text, label, proposed, *part)
    return (made[order] for order in sorted(made))


def _explained(
    model: FasterRCNN,
    image: Image.Image,
    missed: Sequence[int],
    objects: dict[str, list[Any]],
    classes: Sequence[str],
    threshold: float,
) -> dict[int, str]:
    """Why objects of an image were missed: number of the object -> words. With tiles, of the tile that shows most of
    the object."""
    from frcnn.evaluation.missed import why_missed

    size, tile = (image.height, image.width), model.settings.detector.resizing.tile
    windows = cut_into_windows(size, tile) if tile else [(0, 0, image.width, image.height)]
    in_window: dict[Window, list[int]] = defaultdict(list)
    for number in missed:
        box = objects["box"][number]
        in_window[max(windows, key=lambda window: _shared(box, window))].append(number)
    words = {}
    for window, numbers in in_window.items():
        boxes = np.array([objects["box"][number] for number in numbers], np.float32)
        boxes -= np.tile(np.array(window[:2], np.float32), 2)
        part = image if len(windows) == 1 else cropped(image, window)
        names = [classes[objects["label"][number]] for number in numbers]
        for number, each in zip(numbers, why_missed(model, part, boxes, names, threshold=threshold), strict=True):
            words[number] = in_words(each)
    return words


def in_words(why: Explanation) -> str:
    """Why an object was missed, with the figures."""
    from frcnn.evaluation.missed import Reason

    own = f"its own class has a confidence of {why.score:.2f}"
    return {
        Reason.ANCHOR: f"no anchor fits it: the best anchor has an IoU of {why.anchor_iou:.2f} with it",
        Reason.PROPOSAL: f"the RPN did not propose it: the best proposal has an IoU of {why.proposal_iou:.2f}",
        Reason.LOCATION: f"it was proposed (IoU {why.proposal_iou:.2f}), but no refined box has an IoU of 0.5 or more",
        Reason.OTHER_CLASS: f"taken for {why.other_class} ({why.other_score:.2f}); {own}",
        Reason.BACKGROUND: f"taken for background ({why.background:.2f}); {own}",
        Reason.LOW_SCORE: f"its class is the most probable one, but with a confidence of only {why.score:.2f}",
        Reason.NMS: f"its box had a confidence of {why.score:.2f}, but NMS or the limit of detections removed it",
    }[why.reason]


def _shared(box: Sequence[float], window: Window) -> float:
    width = min(box[2], window[2]) - max(box[0], window[0])
    height = min(box[3], window[3]) - max(box[1], window[1])
    return max(width, 0) * max(height, 0)


def _part(image: Image.Image, boxes: Sequence[Sequence[float]]) -> tuple[Window, bytes]:
    """The part of an image that shows these boxes and what is around them: where it is, and its JPEG."""
    window = window_around(boxes, image.size, context=_CONTEXT, least=_LEAST_WINDOW)
    return window, _jpeg(cropped(image, window))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _jpeg(picture: Image.Image) -> bytes:
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=75, comment=b"")  # not the photo's own comment
    return buffer.getvalue()


def _rounded(box: np.ndarray, *, many: bool = False) -> list[float]:
    """In tenths of a pixel; in whole pixels if there are many boxes, because the page would be too large."""
    return [round(float(value)) if many else round(float(value), 1) for value in box]
