"""The report as an HTML page: a template, with style and script in it, and the data as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from frcnn.evaluation.average_precision import SIZES
from frcnn.evaluation.errors import ErrorKind
from frcnn.messages import listed, plural
from frcnn.report.evidence import Evidence

if TYPE_CHECKING:
    from frcnn.evaluation.intervals import Interval
    from frcnn.evaluation.metrics import Metrics

FEW_IMAGES, FEW_OBJECTS = 30, 50
"""With fewer, metrics say little about other images."""

_MEANING = {
    "map": "COCO AP: mean of the average precision over IoU 0.50 to 0.95",
    "ar": "COCO AR: mean recall over IoU 0.50 to 0.95, with at most 100 detections per image and class",
    "small": "COCO AP of small objects, under 32 x 32 pixels",
    "medium": "COCO AP of medium objects, up to 96 x 96 pixels",
    "large": "COCO AP of large objects, over 96 x 96 pixels",
}

_KINDS = {
    ErrorKind.CLASS: "wrong class: the IoU with an object of another class is 0.5 or more",
    ErrorKind.LOCATION: "poor localization: its highest IoU with an object of its class is 0.1 to 0.5",
    ErrorKind.BOTH: "wrong class and poor localization: the IoU with an object of another class is 0.1 to 0.5",
    ErrorKind.DUPLICATE: "duplicate: the object already has a correct detection with more confidence",
    ErrorKind.BACKGROUND: "background: the IoU with every object is under 0.1",
    ErrorKind.MISSED: "missed: an object without a correct detection, unless a detection of the wrong class or with "
    "poor localization is about it",
}


@dataclass(frozen=True)
class Background:
    """What a reader must know about the detector and its data besides the metrics; each part may be empty."""

    name: str
    """Of the run."""
    evaluated_data: str = ""
    """Name of the evaluated data; "": that of the run."""
    about: Sequence[tuple[str, str]] = ()
    """Name and value: versions, machine, hashes, times."""
    data: Sequence[str] = ()
    """What was found in the data, a sentence each."""
    settings: Sequence[tuple[str, str, str]] = ()
    """Settings that differ from the default: name, value, default."""
    plan: str = ""
    """The plan, as YAML."""
    curves: bytes = b""
    """PNG of the training curves."""
    others: Sequence[tuple[str, dict[str, Any]]] = ()
    """Other runs to compare with: name, and what `Metrics.to_dict` gives."""
    store_command: str = ""
    """The command that stores a threshold in the model, without the threshold."""


def render(metrics: Metrics, evidence: Evidence, background: Background) -> str:
    """The page.

    Args:
        evidence: of the same images.
    """
    from jinja2 import Environment, StrictUndefined

    folder = files("frcnn.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        script=folder.joinpath("page.js").read_text(encoding="utf-8"),
        data=_as_json(evidence.to_dict()),
        title=background.name,
        verdict=verdict(metrics, evidence.threshold),
        warnings=list(warnings(metrics)),
        metrics=list(_metric_rows(metrics)),
        ap_name=_ap_name(metrics),
        recall=[(count, _three(value)) for count, value in metrics.recall.items()],
        classes=list(_class_rows(metrics, evidence.threshold)),
        errors=list(_error_rows(metrics)),
        images=metrics.images_of_split(),
        seconds=f"{metrics.seconds_per_image:.3f}",
        threshold=max(evidence.threshold, evidence.floor),
        floor=evidence.floor,
        left_out=evidence.left_out,
        labels=len(evidence.objects["image"]),
        suspects=len(evidence.suspects),
        suspects_in_all=evidence.suspects_in_all,
        wrong_labels=plural(evidence.suspects_in_all, "label"),
        unknown=bool(metrics.left_out),
        others=list(_other_rows(metrics, background)),
        background=background,
        curves=base64.b64encode(background.curves).decode(),
    )


def verdict(metrics: Metrics, threshold: float) -> str:
    """How good the detector is, in a sentence for everybody."""
    counts = metrics.counts(threshold)
    objects, detections = counts.correct + counts.missed, counts.correct + counts.false
    if not objects:
        return f"The {plural(metrics.images, 'image')} have no objects, so nothing can be said about the detector."
    if not detections:
        return f"At a confidence threshold of {threshold:.2f}, nothing is detected of {plural(objects, 'object')}."
    return (
        f"At a confidence threshold of {threshold:.2f}, the detector finds {_of_hundred(counts.recall)}% of the "
        f"{plural(objects, 'object')}, and {_of_hundred(counts.precision)}% of its {plural(detections, 'detection')} "
        f"are correct."
    )


def warnings(metrics: Metrics) -> Iterator[str]:
    """Why the metrics may say little about other images."""
    objects = sum(each.objects for each in metrics.curves.values())
    if metrics.images < FEW_IMAGES or objects < FEW_OBJECTS:
        yield (
            f"The evaluation has only {plural(objects, 'object')} in {plural(metrics.images, 'image')}, so results on "
            f"other images may be quite different. The intervals give an idea of how much."
        )
    rare = [name for name, each in metrics.curves.items() if 0 < each.objects < 10]
    if rare:
        yield f"These classes have fewer than 10 objects, so their figures are very uncertain: {_some(rare)}"
    absent = [name for name, each in metrics.curves.items() if not each.objects]
    if absent:
        yield f"These classes have no objects in the evaluated images, so they could not be evaluated: {_some(absent)}"
    if metrics.left_out:
        unknown = [f"{name} ({plural(count, 'object')})" for name, count in metrics.left_out.items()]
        yield f"Left out of all figures, because the detector does not know the class: {_some(unknown)}"


def _some(names: list[str]) -> str:
    """The first five, as the end of a sentence."""
    return listed(names, 5) + ("" if len(names) > 5 else ".")


def _ap_name(metrics: Metrics) -> str:
    """What `ClassMetrics.ap50` is called: "AP50"."""
    return f"AP{100 * metrics.ap_iou:g}"


def _metric_rows(metrics: Metrics) -> Iterator[dict[str, Any]]:
    form = " (11-point)" if metrics.use_07_metric else ""
    map50 = f"mean over the classes of the average precision at IoU {metrics.ap_iou:g}{form}"
    meaning = {"map50": f"m{_ap_name(metrics)}: {map50}", **_MEANING}
    values = {"map50": metrics.map50, "map": metrics.map, "ar": metrics.ar, **metrics.by_size}
    for name, value in values.items():
        if not (name in SIZES and math.isnan(value)):
            yield {"name": meaning[name], "value": _three(value), "interval": _range(metrics.intervals[name])}


def _class_rows(metrics: Metrics, threshold: float) -> Iterator[dict[str, Any]]:
    for name, own in metrics.per_class.items():
        best, counts = metrics.best_threshold(name), metrics.curves[name].at(threshold)
        yield {
            "name": name,
            "objects": metrics.curves[name].objects,
            "ap50": _three(own.ap50),
            "ap": _three(own.ap),
            "precision": _percent(counts.precision),
            "recall": _percent(counts.recall),
            "f1": _percent(counts.f1),
            "best": "-" if best is None else f"{best:.2f}",
        }


def _error_rows(metrics: Metrics) -> Iterator[dict[str, Any]]:
    for kind in ErrorKind:
        yield {
            "kind": kind.value,
            "meaning": _KINDS[kind],
            "cost": _three(metrics.errors.cost[kind]),
            "width": round(100 * metrics.errors.cost[kind] / max(*metrics.errors.cost.values(), 1e-9)),
        }


def _other_rows(metrics: Metrics, background: Background) -> Iterator[dict[str, Any]]:
    if not background.others:
        return
    for name, values in ((background.name, metrics.to_dict()), *background.others):
        if values.get("metric", metrics.metric) != metrics.metric:  # of another IoU, or VOC 2007's
            values = {**values, "map50": None, "intervals": {**(values.get("intervals") or {}), "map50": None}}
        yield {
            "name": name,
            "images": values.get("images", "-"),
            **{
                key: (_three(math.nan if values.get(key) is None else values[key]), _pair(values, key))
                for key in ("map50", "map", "ar")
            },
        }


def _pair(values: dict[str, Any], key: str) -> str:
    interval = (values.get("intervals") or {}).get(key)
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _range(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def _three(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}%"


def _of_hundred(fraction: float) -> int:
    """A whole number that says 100 or 0 only if that is exactly so."""
    return min(max(round(100 * fraction), int(fraction > 0)), 100 - int(fraction < 1))


def _as_json(content: dict[str, Any]) -> str:
    """JSON that can stand inside a <script> element: no text in it can end the element."""
    text = json.dumps(content, separators=(",", ":"))  # in ASCII: file names may hold invalid Unicode
    return text.replace("<", "\\u003c")
