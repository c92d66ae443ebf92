"""Problems of a data set: their kinds, levels and messages."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from frcnn.data.records import ONLY_CLASS
from frcnn.messages import one_line, plural

Level = Literal["error", "left out", "repaired", "warning"]
"""An error stops training. "left out": an object or an annotated image is not used. "repaired": it is used, after an
unambiguous correction. A warning is for a person to judge: no annotated object is lost or changed, so `strict` does not
stop."""


class ImageNotFoundError(ValueError):
    """An annotation names an image that is not in the tree."""


class AmbiguousImageError(ImageNotFoundError):
    """Several files could be the image that an annotation names."""


def most_telling(errors: Sequence[ImageNotFoundError]) -> ImageNotFoundError:
    """Of the errors of several names for one image: that two images fit, else the first."""
    return next((error for error in errors if isinstance(error, AmbiguousImageError)), errors[0])


class ProblemKind(StrEnum):
    """What is wrong or odd: one name for each kind, as reports show it. docs/data.md says what is done about each."""

    # Annotations and the images that they name.
    UNREADABLE_ANNOTATION = "unreadable annotation"
    MISSING_IMAGE = "missing image"
    WITHOUT_ANNOTATION = "image without annotation"
    ANNOTATED_TWICE = "image annotated twice"
    AMBIGUOUS_NAME = "two images for one annotation"
    DUPLICATE_ID = "duplicate id"
    MISSING_SPLIT = "missing split"
    UNUSED_IMAGE = "image not used"
    OUTSIDE_FOLDER = "image outside the folder"
    # Objects.
    INVALID_OBJECT = "invalid object"
    UNKNOWN_CLASS = "unknown class"
    CONTROL_CHARACTERS = "control characters in a class name"
    SHAPE_WITHOUT_BOX = "shape without box"
    BOXES_IN_NEGATIVE = "boxes in negative/"
    NON_FINITE_BOX = "non-finite box"
    WITHOUT_AREA = "box without area"
    SWAPPED_CORNERS = "swapped corners"
    OUTSIDE = "box outside the image"
    TOO_MANY_BOXES = "too many boxes"
    # What the numbers of a data set mean.
    FRACTIONS = "boxes in fractions"
    PIXELS = "boxes in pixels"
    CORNERS = "boxes as corners"
    ZERO_BASED = "pixels from 0"
    CLASSES_FROM_ONE = "classes from 1"
    CLASSES_WITHOUT_NAMES = "classes without names"
    NO_CLASSES = "no classes"
    CONFIDENCE = "confidence"
    ROTATED_BOXES = "rotated boxes"
    OTHER_RESOLUTION = "annotation of another resolution"
    OTHER_SIZE = "size in the annotation differs"
    UNROTATED_IMAGE = "boxes of the unrotated image"
    # Image files.
    UNREADABLE_IMAGE = "unreadable image"
    TRUNCATED_IMAGE = "truncated image"
    GUESSED_RANGE = "guessed range of values"
    # What training cannot use.
    MUCH_LEFT_OUT = "much is left out"
    NO_OBJECTS = "nothing to learn"
    NEVER_TRAINED = "class never trained"
    # What only `frcnn check` looks for.
    OTHER_SUFFIX = "suffix of another format"
    ROTATED_IMAGE = "rotated by EXIF"
    MANY_BITS = "more than 8 bits"
    UNUSUAL_MODE = "unusual mode"
    TINY_BOX = "tiny box"
    HUGE_BOX = "huge box"
    EXTREME_SHAPE = "extreme shape"
    DRAWN_TWICE = "box drawn twice"
    TWO_CLASSES = "two classes for one box"
    INSIDE_ANOTHER = "box inside another"
    OFF_BY_ONE = "off by one pixel"
    SIMILAR_NAMES = "similar class names"
    NEVER_EVALUATED = "class never evaluated"
    FEW_OBJECTS = "few objects"
    IMBALANCE = "imbalance"
    MOSTLY_EMPTY = "mostly without objects"
    NO_TEST_IMAGES = "no test images"
    DUPLICATES = "duplicate images"
    LEAKED_DUPLICATES = "duplicate images in two splits"
    NEAR_DUPLICATES = "near-duplicate images"
    LEAKED_NEAR_DUPLICATES = "near-duplicate images in two splits"
    COPIED_ANNOTATION = "annotation of another image"


class Problem(NamedTuple):
    """One thing that is wrong with a data set, or looks odd, and what was done about it."""

    kind: ProblemKind
    path: Path
    """The image or the annotation file."""
    message: str
    """What is wrong, the rule, and the fix."""
    place: str = ""
    """Where in the file, e.g. "line 3"."""
    object: int | None = None
    """Index of the object in its image, from 0, so that its box can be drawn."""
    other: Path | None = None
    """A second image that the problem is about, e.g. the duplicate."""
    level: Level = "error"
    lost: tuple[str, ...] = ()
    """The class of each object that is lost by it; empty text: a class that is not known."""
    images: int = 0
    """How many annotated images are lost by it."""
    box: tuple[float, ...] | None = None
    """x1, y1, x2, y2 of the object in pixels of the image, scaled and rotated as the boxes that are used. None: the
    annotation has it so, or it is not finite."""

    @property
    def objects(self) -> int:
        """How many objects are lost by it."""
        return len(self.lost)

    def __str__(self) -> str:
        return one_line(f"{self.path}{', ' if self.place else ''}{self.place}: {self.message}")


OnProblem = Callable[[Problem], None]
"""Called with each problem while annotations are read."""


class AnnotationError(ValueError):
    """An annotation file cannot be read.

    Attributes:
        reason: why, without the file and the place.
        place: where in the file, e.g. "line 3, column 7"; empty: the parser does not know it.
    """

    def __init__(self, file: Path, reason: str, place: str = "") -> None:
        super().__init__(one_line(f"{file}{', ' if place else ''}{place}: {reason}"))
        self.reason = reason
        self.place = place


def unreadable_annotation(file: Path, error: Exception | str, place: str = "", images: int = 1) -> Problem:
    """An annotation that cannot be read: a file, or one line of it.

    Args:
        error: why; its text may begin with the file.
        images: how many images are lost by it.
    """
    message = str(error).removeprefix(f"{file}: ")
    if isinstance(error, AnnotationError):
        message, place = error.reason, place or error.place
    return Problem(ProblemKind.UNREADABLE_ANNOTATION, file, message, place, level="left out", images=images)


def missing_image(file: Path, error: Exception | str, place: str = "", lost: Iterable[str] = ()) -> Problem:
    """An annotated image that is not there, or that may be one of two files, which is an error.

    Args:
        file: the annotation.
        lost: the class of each of its objects.
    """
    if isinstance(error, AmbiguousImageError):
        return Problem(ProblemKind.AMBIGUOUS_NAME, file, str(error), place)
    lost = tuple(lost)
    return Problem(ProblemKind.MISSING_IMAGE, file, str(error), place, level="left out", lost=lost, images=1)


def without_annotation(path: Path, message: str) -> Problem:
    """An image that nobody has annotated yet, or a file with such images. No annotation is lost."""
    return Problem(ProblemKind.WITHOUT_ANNOTATION, path, message, level="warning")


def invalid_object(file: Path, message: str, place: str, name: str = "") -> Problem:
    """An object whose box or class cannot be read.

    Args:
        message: the rule that it breaks.
        name: its class; empty: it is not known.
    """
    message = f"{message}; it is left out"
    return Problem(ProblemKind.INVALID_OBJECT, file, message, place, level="left out", lost=(name,))


def unknown_class(file: Path, message: str, place: str) -> Problem:
    """An object whose class has a number or a name that the data set does not list."""
    message = f"{message}; it is left out"
    return Problem(ProblemKind.UNKNOWN_CLASS, file, message, place, level="left out", lost=("",))


def classes_without_names(path: Path) -> Problem:
    """The annotations number the classes, and no file has their names."""
    message = "no file names the classes, so their numbers are their names; add classes.txt with one name per line"
    return Problem(ProblemKind.CLASSES_WITHOUT_NAMES, path, message, level="warning")


def no_classes(path: Path) -> Problem:
    """The annotations have no classes."""
    message = f"no object has a class, so every object is of the class '{ONLY_CLASS}'"
    return Problem(ProblemKind.NO_CLASSES, path, message, level="warning")


def shapes_without_box(path: Path, counts: Mapping[str, int]) -> Problem:
    """Points, lines and the like, which people draw beside objects. No object is lost.

    Args:
        path: of the annotations.
        counts: the number of such shapes of each kind.
    """
    kinds = ", ".join(f"{count} of the kind {kind}" for kind, count in counts.items())
    shapes = plural(sum(counts.values()), "shape")
    message = f"{shapes} without a box: points, lines or the like, which are no objects ({kinds})"
    return Problem(ProblemKind.SHAPE_WITHOUT_BOX, path, message, level="warning")


def format_box(box: Iterable[float]) -> str:
    """How messages write a box: its four numbers, short."""
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def has_area(boxes: np.ndarray) -> np.ndarray:
    """(G,) bool: which boxes (G, 4) have finite numbers and an area."""
    return np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def common_areas(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(G,): the area that a box (4,) has in common with each of `boxes` (G, 4). It is faster if these are in Fortran's
    order: `np.asfortranarray`."""
    x1, y1, x2, y2 = boxes.T
    width = np.minimum(x2, box[2]) - np.maximum(x1, box[0])
    height = np.minimum(y2, box[3]) - np.maximum(y1, box[1])
    area: np.ndarray = np.maximum(width, 0) * np.maximum(height, 0)
    return area


def duplicate_stems(images: Iterable[Path]) -> Iterator[Problem]:
    """Images of one folder whose names differ in the suffix only. Formats that find an annotation by the name without
    suffix cannot tell them apart."""
    first: dict[Path, Path] = {}
    for image in images:
        other = first.setdefault(image.with_suffix(""), image)
        if other != image:
            message = f"has the name of {other.name}, so both would have one annotation; rename one of them"
            yield Problem(ProblemKind.AMBIGUOUS_NAME, image, message)


def object_place(index: int, name: str) -> str:
    """How messages name an object of an image. The index counts from 0, the message from 1."""
    return f"object {index + 1} ('{name}')"


def without_root(problem: Problem, root: Path) -> Problem:
    """The problem for a file that does not say where the data is.

    Args:
        root: paths are relative to this folder; outside of it, only the file's name is given.
    """
    path, message = problem.path, problem.message
    path = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    if root.is_absolute():  # a relative one may be a word of the message
        message = message.replace(f"{root}{os.sep}", "").replace(str(root), root.name)
    return problem._replace(path=path, message=message)


def problem_json(problem: Problem) -> dict[str, object]:
    """A problem for a JSON file."""
    return {
        "level": problem.level,
        "kind": problem.kind.value,
        "path": problem.path.as_posix(),
        "place": problem.place,
        "object": None if problem.object is None else problem.object + 1,
        "message": problem.message,
    }
