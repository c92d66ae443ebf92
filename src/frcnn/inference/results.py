"""The detections in one image, as a user gets them: NumPy arrays that can be indexed, plotted, tabulated and saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from PIL import Image

from frcnn.data.images import read_image
from frcnn.files import atomic_write
from frcnn.inference.plot import draw
from frcnn.json_text import to_json

_OTHER_LIBRARIES = {
    "boxes": "xyxy",
    "bboxes": "xyxy",
    "scores": "confidence",
    "conf": "confidence",
    "labels": "class_id",
    "cls": "class_id",
    "class_names": "class_name",
    "names": "class_name, or classes for all classes of the model",
    "xywh": "xyxy, or to_coco(image_id) for x, y, width, height",
    **dict.fromkeys(("show", "annotate", "render"), "plot()"),
    **dict.fromkeys(("to_df", "to_pandas", "pandas", "df"), "to_dataframe()"),
    "to_csv": "to_dataframe().to_csv(path)",
    "tojson": "to_json()",
    **dict.fromkeys(("cpu", "numpy", "to_numpy"), "xyxy, confidence and class_id, which are NumPy arrays"),
    "orig_img": "image",
    "orig_shape": "size",
}
"""Names of other libraries -> ours, for messages."""
_NOTEBOOK_SIDE = 1024  # pixels: a notebook keeps every picture that it shows


class Detection(NamedTuple):
    """One detected object."""

    xyxy: np.ndarray
    """(4,) float32: x1, y1, x2, y2, pixels of the original image."""
    confidence: float
    """Probability of the class, 0..1."""
    class_id: int
    """0..C-1."""
    class_name: str

    if not TYPE_CHECKING:  # type: ignore[misc]  # as in `Detections`

        def __getattr__(self, name: str) -> Any:
            if hasattr(Detections, name) or name in _OTHER_LIBRARIES:
                raise AttributeError(
                    f"'Detection' object has no attribute '{name}': it is one object. `predict` of one image returns "
                    f"one `Detections`, not a list; that has {_OTHER_LIBRARIES.get(name, name)}"
                )
            raise missing_attribute(self, name, {})


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The detections in one image, highest confidence first. N detections, C classes.

    The names are those of the `supervision` package; `confidence` is called score inside the model and in files.
    `len(detections)`, iteration (over `Detection`) and indexing work: an integer gives a `Detection`; a slice, a
    boolean mask or an index array gives `Detections`, e.g. `detections[detections.confidence > 0.5]` or
    `detections[detections.class_name == "dog"]`.
    """

    xyxy: np.ndarray
    """(N, 4) float32: x1, y1, x2, y2, pixels of the original image."""
    confidence: np.ndarray
    """(N,) float32: probability of the class, 0..1."""
    class_id: np.ndarray
    """(N,) int: 0..C-1, index into `classes`. The model's own label is `class_id + 1`, because its label 0 is
    background."""
    classes: tuple[str, ...]
    """All classes of the model, by name."""
    path: str | None = None
    """The image file; None if the image came from memory."""
    size: tuple[int, int] | None = None
    """(height, width) of the original image, pixels."""
    image: Image.Image | None = field(default=None)
    """The image itself, RGB, if it came from memory; None if `path` names its file."""
    tracker_id: np.ndarray | None = None
    """(N,) int: the object that each detection is in a video, from 1; -1: of no track yet. None: not tracked."""
    seconds: float | None = None
    """The time of a video's frame; None: no video."""

    def __post_init__(self) -> None:
        count = len(self.class_id)
        if self.xyxy.shape != (count, 4) or self.confidence.shape != (count,):
            raise ValueError(
                f"detections: xyxy {self.xyxy.shape}, confidence {self.confidence.shape} and class_id "
                f"{self.class_id.shape} must have the shapes (N, 4), (N,) and (N,)"
            )

    if not TYPE_CHECKING:  # else every name would be an attribute

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(self, name, _OTHER_LIBRARIES)

    @classmethod
    def empty(cls, classes: Sequence[str] = (), **source: Any) -> Detections:
        """No detections."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), tuple(classes), **source
        )

    @property
    def class_name(self) -> np.ndarray:
        """(N,) str: the class of each detection."""
        return np.array(self.classes, dtype=str)[self.class_id] if len(self) else np.zeros(0, dtype="<U1")

    def __len__(self) -> int:
        return len(self.class_id)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray | Sequence[int] | Sequence[bool]) -> Detections: ...
    def __getitem__(self, index: Any) -> Detection | Detections:
        if isinstance(index, int | np.integer):
            class_id = int(self.class_id[index])
            return Detection(self.xyxy[index], float(self.confidence[index]), class_id, self.classes[class_id])
        if isinstance(index, str):
            name = index if hasattr(Detections, index) or index in Detections.__annotations__ else None
            name = name or _OTHER_LIBRARIES.get(index)
            hint = f"use {name}" if name else f"of one class: detections[detections.class_name == {index!r}]"
            raise TypeError(f"Detections: {index!r} is not an index, a slice or a mask; {hint}")
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index if index.size else index.astype(np.int64)
        return replace(
            self,
            xyxy=self.xyxy[index],
            confidence=self.confidence[index],
            class_id=self.class_id[index],
            tracker_id=None if self.tracker_id is None else self.tracker_id[index],
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.class_name.tolist()).items())
        source = "" if self.path is None else f" in {self.path}"
        return f"<Detections: {len(self)}{source}{counts and f' ({counts})'}>"

    def _repr_png_(self) -> bytes | None:
        """A notebook shows the picture; without its image, it shows the text."""
        try:
            picture = self.plot()
        except (OSError, ValueError):
            return None
        picture.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    def plot(self, *, background: np.ndarray | None = None, unregressed: np.ndarray | None = None) -> Image.Image:
        """The image with boxes, class names and confidences.

        Args:
            background: (M, 4) boxes drawn in thin gray lines, e.g. RoIs that are background.
            unregressed: (M, 4) boxes drawn in thin white lines, e.g. RoIs before regression.

        Raises:
            FileNotFoundError: the file is not there any more.
            ValueError: the detections have no image.
        """
        if self.image is None and self.path is None:
            raise ValueError("plot: these detections have no image; make them with `Detector.predict`")
        image = self.image if self.image is not None else read_image(Path(str(self.path)), any_size=True)
        return draw(
            image,
            self.xyxy,
            self.confidence,
            self.class_name,
            tracker_id=self.tracker_id,
            background=background,
            unregressed=unregressed,
        )

    def save(self, path: str | Path) -> None:
        """Write the picture that `plot` makes; the suffix of `path` chooses the format, e.g. `.jpg`.

        Raises:
            ValueError: the suffix of a format that Pillow cannot write; or as `plot`.
            FileNotFoundError: as `plot`.
        """
        suffix = Path(path).suffix.lower()
        if Image.registered_extensions().get(suffix) not in Image.SAVE:
            raise ValueError(
                f"{path}: Pillow writes no pictures with the suffix '{suffix}'; use .jpg or .png, or for the numbers "
                f"to_json() or to_dataframe()"
            )
        picture = self.plot()
        with atomic_write(Path(path)) as partial:
            picture.save(partial, quality=92)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: `{"image": ..., "detections": [{"class": ..., "score": ..., "box": [x1, y1, x2, y2]}]}`; in a
        video that is tracked, each detection also has "tracker_id"."""
        detections = [
            {
                "class": each.class_name,
                "score": round(each.confidence, 6),
                "box": [round(float(value), 3) for value in each.xyxy],
            }
            for each in self
        ]
        if self.tracker_id is not None:
            detections = [
                each | {"tracker_id": number} for each, number in zip(detections, self.tracker_id.tolist(), strict=True)
            ]
        return {"image": self.path, "detections": detections}

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return to_json(self.to_dict())

    def to_coco(self, image_id: int | str, category_ids: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """COCO's result format, for pycocotools' `loadRes`: boxes are x, y, width, height in pixels.

        Args:
            image_id: the id of the image in your annotation file.
            category_ids: class name -> category id of your annotation file, e.g. {"cat": 17, "dog": 18}; None:
                `class_id + 1`, right only for files that frcnn wrote.

        Raises:
            ValueError: `category_ids` lacks a detected class.
        """
        if category_ids is None:
            category_ids = {name: number for number, name in enumerate(self.classes, start=1)}
        names = self.class_name.tolist()
        missing = [name for name in dict.fromkeys(names) if name not in category_ids]
        if missing:
            raise ValueError(f"category_ids: lacks class '{missing[0]}'; it has: {', '.join(category_ids) or 'none'}")
        x1, y1, x2, y2 = self.xyxy.astype(float).T
        boxes = np.stack((x1, y1, x2 - x1, y2 - y1), axis=1).tolist()
        return [
            {"image_id": image_id, "category_id": category_ids[name], "bbox": box, "score": score}
            for box, score, name in zip(boxes, self.confidence.tolist(), names, strict=True)
        ]

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row per detection: image, class_name, class_id, confidence, x1, y1, x2, y2.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise ModuleNotFoundError("to_dataframe needs pandas; run `pip install pandas`", name="pandas") from None
        sides = dict(zip(("x1", "y1", "x2", "y2"), self.xyxy.T, strict=True))
        columns = {"class_name": self.class_name, "class_id": self.class_id, "confidence": self.confidence, **sides}
        if self.tracker_id is not None:
            columns["tracker_id"] = self.tracker_id
        return pandas.DataFrame({"image": [self.path] * len(self), **columns})

    def to_supervision(self) -> Any:
        """A `supervision.Detections`.

        Raises:
            ModuleNotFoundError: supervision is not installed.
        """
        try:
            import supervision
        except ModuleNotFoundError:
            message = "to_supervision needs supervision; run `pip install supervision`"
            raise ModuleNotFoundError(message, name="supervision") from None
        return supervision.Detections(
            xyxy=self.xyxy,
            confidence=self.confidence,
            class_id=self.class_id,
            tracker_id=self.tracker_id,
            data={"class_name": self.class_name},
        )


def missing_attribute(owner: object, name: str, hints: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that does not exist.

    Args:
        hints: name in another library -> what to use instead.
    """
    hint = f"; use {hints[name]}" if name in hints else ""
    return AttributeError(f"'{type(owner).__name__}' object has no attribute '{name}'{hint}", name=name, obj=owner)


def to_detections(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    valid: np.ndarray,
    *,
    classes: Sequence[str],
    original_sizes: np.ndarray,
) -> list[Detections]:
    """The valid detections of each image of a batch.

    Args:
        boxes, scores, labels, valid: the arrays of `DetectionTensors`.
        classes: label i is classes[i - 1].
        original_sizes: (B, 2), (height, width) before resizing.
    """
    return [
        Detections(
            boxes[i][valid[i]],
            scores[i][valid[i]],
            labels[i][valid[i]].astype(np.int64) - 1,
            tuple(classes),
            size=(round(float(size[0])), round(float(size[1]))),
        )
        for i, size in enumerate(original_sizes)
    ]
