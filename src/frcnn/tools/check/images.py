"""Errors and warnings about single image files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from frcnn.config import DataSettings
from frcnn.data.dataset import check_image
from frcnn.data.images import VerifiedImage
from frcnn.data.near_duplicates import ImageHash, hash_verified
from frcnn.data.problems import Problem, ProblemKind
from frcnn.data.records import Record
from frcnn.data.repair import RotatedImage, repair_rotated

_PLAIN = {"RGB", "L"}
_MODES = {
    "1": "black and white",
    "P": "a palette",
    "LA": "transparency, which is dropped",
    "PA": "transparency, which is dropped",
    "RGBA": "transparency, which is dropped",
    "CMYK": "colors for print, whose RGB is a guess",
    "YCbCr": "other colors than RGB",
    "LAB": "other colors than RGB",
    "HSV": "other colors than RGB",
}


class InspectedImage(NamedTuple):
    """The result of `inspect_image`."""

    record: Record | None
    """With its boxes repaired; None: the image cannot be read."""
    size: tuple[int, int] | None
    """(height, width) with the EXIF orientation applied; None: it cannot be read."""
    hash: ImageHash | None
    problems: list[Problem]
    rotated: RotatedImage | None = None
    """If it has an EXIF orientation; then its boxes are not repaired yet, see `repair_rotated_images`."""


def inspect_image(record: Record, settings: DataSettings) -> InspectedImage:
    """Read a whole image, once, and check the file and its boxes."""
    checked = check_image(record, settings)
    if checked.record is None or checked.verified is None:
        return InspectedImage(None, None, None, checked.problems)
    problems = [*checked.problems, *_odd(checked.record, checked.verified)]
    hash_ = hash_verified(record.image, checked.verified)
    return InspectedImage(checked.record, checked.verified.size, hash_, problems, checked.rotated)


def repair_rotated_images(images: Sequence[InspectedImage]) -> list[InspectedImage]:
    """The images of one split, with the boxes of rotated images repaired, and warnings about the others of these."""
    rotated = [image.rotated for image in images if image.rotated is not None]
    records, problems = repair_rotated(rotated)
    known = {problem.path for problem in problems if problem.kind == ProblemKind.UNROTATED_IMAGE}
    problems += [_rotated(image) for image in rotated if image.record.image not in known]
    by_path: dict[Path, list[Problem]] = {}
    for problem in problems:
        by_path.setdefault(problem.path, []).append(problem)
    repaired = dict(zip((image.record.image for image in rotated), records, strict=True))

    def finished(image: InspectedImage, rotated: RotatedImage) -> InspectedImage:
        path = rotated.record.image
        return image._replace(record=repaired[path], problems=image.problems + by_path.get(path, []))

    return [image if image.rotated is None else finished(image, image.rotated) for image in images]


def _odd(repaired: Record, file: VerifiedImage) -> Iterator[Problem]:
    def warning(kind: ProblemKind, message: str) -> Problem:
        return Problem(kind, repaired.image, message, level="warning")

    by_suffix = Image.registered_extensions().get(repaired.image.suffix.lower())
    if by_suffix != file.format.replace("MPO", "JPEG"):  # MPO: some phones' JPEG with a second picture
        yield warning(ProblemKind.OTHER_SUFFIX, f"is a {file.format} file; other programs may refuse it; rename it")
    if file.mode.startswith(("I", "F")):
        if not file.problems:
            yield warning(
                ProblemKind.MANY_BITS, "has 16 bits a pixel, which are scaled down to 8; export it with 8 to choose how"
            )
    elif file.mode not in _PLAIN:
        yield warning(ProblemKind.UNUSUAL_MODE, f"its mode is {file.mode}: {_MODES.get(file.mode, 'converted to RGB')}")


def _rotated(image: RotatedImage) -> Problem:
    """A warning for an image with an EXIF orientation whose boxes do not change."""
    stored, size = _pixels(image.stored_size), _pixels(image.size)
    text = f"its EXIF orientation ({image.orientation}) rotates it: {stored} in the file, {size} as seen"
    if image.record.size == image.size != image.stored_size:
        text += "; its annotation has the size as seen, which is right"
    else:
        text += "; frcnn assumes that the boxes were drawn on the rotated image; look at it (frcnn check --pictures)"
    return Problem(ProblemKind.ROTATED_IMAGE, image.record.image, text, level="warning")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels"
