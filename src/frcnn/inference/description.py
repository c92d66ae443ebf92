"""The description that every exported file carries: all that a program needs to run it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.data.tiles import MIN_TILE
from frcnn.data.transforms import PaddedBatch
from frcnn.files import require_classes, require_format, require_input
from frcnn.json_text import load_json
from frcnn.messages import short
from frcnn.resizing import ROUNDINGS, Resizing, frame_size
from frcnn.types import DetectionTensors

FORMAT_VERSION = 3
_USUAL_VERSION = 2
"""Of files whose images are resized as this version implies, see `_is_usual`: other programs read them as before."""
INPUTS = ("images", "image_sizes", "original_sizes")
OUTPUTS = DetectionTensors._fields
RAW_OUTPUTS = ("rpn_rois", "cls_pred", "bbox_regr", "rois_valid")
_MAX_SIDE = 32_768
"""Of the input, pixels."""
_NEW = ("fixed_point", "rounding", "reduced_decoding")
"""What files of the usual version do not say."""


@dataclass(frozen=True)
class ResultRules:
    """How detections are selected and evaluated: the fields of `frcnn.config`'s `ResultSettings`, without pydantic."""

    nms_threshold: float
    score_threshold: float
    max_detections: int
    ap_iou: float
    use_07_metric: bool
    predict_threshold: float = 0.5


def _usual_rounding(*, antialias: bool) -> str:
    return "even" if antialias else "down"


def _is_usual(image: Resizing) -> bool:
    """Whether images are resized as files of the usual version imply."""
    usual = _usual_rounding(antialias=image.antialias)
    is_rounded = (image.rounding or usual) == usual
    return is_rounded and not image.fixed_point and (image.reduced_decoding or not image.antialias)


class Description(NamedTuple):
    """An exported file's metadata: all that a program needs to run it."""

    classes: tuple[str, ...]
    image: Resizing
    """How a photo is resized and padded."""
    input: str
    """Form of `images`: "uint8", (B, H, W, 3), or "float", (B, 3, H, W); RGB, 0..255. The model normalizes them."""
    batch: int | None
    """Batch size; None: any."""
    min_side: int
    """Side of the smallest frame that the layers accept, pixels. Checked here, because some runtimes crash instead."""
    precision: str
    svd: int | None
    """Rank to which fully connected layers were compressed; None: they were not."""
    mean: tuple[float, ...]
    """RGB, 0..255, that the model subtracts; then it divides by `std`."""
    std: tuple[float, ...]
    results: ResultRules

    def to_metadata(self) -> dict[str, str]:
        """As flat text: one line a class, numbers separated by spaces, so that a program needs no JSON to read it; only
        `results` and `data`, which `frcnn evaluate` reads, are JSON."""
        image = {f"image.{name}": str(value).lower() for name, value in self.image._asdict().items()}
        version = FORMAT_VERSION
        if _is_usual(self.image):
            version = _USUAL_VERSION
            for name in _NEW:
                del image[f"image.{name}"]
        return {
            "format": "frcnn",
            "format_version": str(version),
            "classes": "\n".join(self.classes),
            **image,
            "input": self.input,
            "batch": "any" if self.batch is None else str(self.batch),
            "min_side": str(self.min_side),
            "precision": self.precision,
            **({} if self.svd is None else {"svd": str(self.svd)}),
            "mean": " ".join(map(str, self.mean)),
            "std": " ".join(map(str, self.std)),
            "results": json.dumps(vars(self.results)),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> Description:
        """Read a file's metadata.

        Raises:
            ValueError: the file is not an export of frcnn, damaged, or of a newer format.
        """
        if metadata.get("format") != "frcnn":
            raise ValueError(f"{path}: `frcnn export` did not write this file, so its classes and inputs are unknown")
        usual = metadata.get("format_version") == str(_USUAL_VERSION)
        require_format(metadata, path, _USUAL_VERSION if usual else FORMAT_VERSION, "export it again")
        read = _Metadata(metadata, path)
        antialias = read.choice("image.antialias", "true", "false") == "true"
        image = Resizing(
            read.choice("image.resize", "fit", "shorter_side"),
            width=read.number("image.width", 0, _MAX_SIDE),
            height=read.number("image.height", 0, _MAX_SIDE),
            shorter_side=read.number("image.shorter_side", 0, _MAX_SIDE),
            longer_side=read.number("image.longer_side", 0, _MAX_SIDE),
            divisor=read.number("image.divisor", 1, 1024),
            antialias=antialias,
            fixed_point=not usual and read.choice("image.fixed_point", "true", "false") == "true",
            rounding=_usual_rounding(antialias=antialias) if usual else read.choice("image.rounding", *ROUNDINGS),
            reduced_decoding=usual or read.choice("image.reduced_decoding", "true", "false") == "true",
            tile=read.number("image.tile", 0, 1_000_000) if "image.tile" in metadata else 0,
        )
        sides = (image.width, image.height) if image.resize == "fit" else (image.shorter_side, image.longer_side)
        if min(sides) < 1:
            raise read.damaged(f"the sides of its input are {sides}; they must be at least 1 pixel")
        if 0 < image.tile < MIN_TILE:
            raise read.damaged(f"its image.tile is {image.tile}; it must be 0 or at least {MIN_TILE} pixels")
        batch = None if metadata.get("batch") == "any" else read.number("batch", 1, 100_000)
        require_input(frame_size([sides], image), batch or 1, path)
        return cls(
            require_classes(read.text("classes").split("\n"), path),
            image,
            read.choice("input", "uint8", "float"),
            batch,
            read.number("min_side", 1, _MAX_SIDE),
            read.text("precision"),
            read.number("svd", 1, 1_000_000) if "svd" in metadata else None,
            read.rgb("mean", -1e6),
            read.rgb("std", 1e-6),
            read.results(),
        )

    def inputs(self, frames: PaddedBatch) -> Iterator[dict[str, np.ndarray]]:
        """The model's inputs for these frames: one batch, or several of the fixed size; copies of the last image fill
        up the last batch."""
        pixels = frames.images.transpose(0, 2, 3, 1) if self.input == "uint8" else frames.images.astype(np.float32)
        count = len(pixels)
        size = self.batch or count
        arrays = (pixels, frames.image_sizes, frames.original_sizes)
        for start in range(0, count, size):
            rows = np.arange(start, start + size).clip(max=count - 1)
            yield {name: np.ascontiguousarray(array[rows]) for name, array in zip(INPUTS, arrays, strict=True)}


class _Metadata:
    """The metadata of an exported file. It is not trusted: each value is checked before it is used."""

    def __init__(self, values: Mapping[str, str], path: Path) -> None:
        self._values, self._path = values, path

    def damaged(self, reason: str) -> ValueError:
        return ValueError(f"{self._path}: damaged, {reason}; export it again")

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise self.damaged(f"its metadata has no {name}")
        return value

    def choice(self, name: str, *words: str) -> str:
        value = self.text(name)
        if value not in words:
            raise self.damaged(f"its {name} is {short(value)}; it must be one of: {', '.join(words)}")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        value = self.text(name)
        if not (value.isascii() and value.isdecimal() and len(value) < 20 and low <= int(value) <= high):
            raise self.damaged(f"its {name} is {short(value)}; it must be a whole number from {low} to {high}")
        return int(value)

    def rgb(self, name: str, low: float) -> tuple[float, ...]:
        try:
            values = tuple(map(float, self.text(name).split()))
        except ValueError:
            values = ()
        if len(values) != 3 or not all(low <= value <= 1e6 for value in values):
            raise self.damaged(
                f"its {name} is {short(self._values[name])}; it must be three numbers from {low:g} to 1e+06"
            )
        return values

    def results(self) -> ResultRules:
        try:
            rules = ResultRules(**load_json(self.text("results")))
        except (ValueError, TypeError) as error:
            raise self.damaged(f"its results cannot be read ({error})") from None
        fractions = (rules.nms_threshold, rules.score_threshold, rules.ap_iou, rules.predict_threshold)
        if not (
            all(type(value) in (int, float) and 0 <= value <= 1 for value in fractions)
            and type(rules.max_detections) is int
            and 1 <= rules.max_detections <= 100_000
            and type(rules.use_07_metric) is bool
        ):
            raise self.damaged(
                f"its results are {short(vars(rules))}; thresholds must be from 0 to 1, and max_detections a whole "
                f"number from 1 to 100000"
            )
        return rules
