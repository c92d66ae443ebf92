"""The folders of CNTK's tutorial: positive/ (training), negative/ (no objects), testImages/.

Beside NAME.jpg lie NAME.bboxes.tsv (a line a box: x1, y1, x2, y2, pixels) and NAME.bboxes.labels.tsv (a line a
class name, same order). An image with empty files holds no objects; one without files is not annotated yet, and left
out. A folder of photos with such files beside them is a set of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.data.formats.lines import plain, read_lines, to_numbers, visible
from frcnn.data.images import IMAGE_SUFFIXES, images_among
from frcnn.data.problems import Problem, Report, twins
from frcnn.data.records import make_record
from frcnn.files import whole_files
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "positive/, negative/ and testImages/ with NAME.bboxes.tsv and NAME.bboxes.labels.tsv beside each image"
ALL = "all"
"""The set's name where the photos lie in the folder itself."""
_PLACES = {"train": "positive", "test": "testImages"}


def recognises(folder: Path, settings: DataSettings) -> bool:
    return bool(sets(folder, settings))


def sets(folder: Path, settings: DataSettings) -> list[str]:
    named = [name for name, place in _PLACES.items() if (folder / place).is_dir()]
    return named or ([ALL] if next(visible(folder.glob("*.bboxes.tsv")), None) else [])


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of positive/ and negative/ ("train") or of testImages/ ("test"), in order of name."""
    for image in _images(folder / _PLACES.get(name, "."), report):
        yield from _annotated(image, report)
    if name == "train" and settings.use_negative:
        for image in _images(folder / "negative", report):
            if boxes_file(image).is_file() and boxes_file(image).stat().st_size:
                rule = "has boxes, but lies in negative/, whose images hold no objects; move it to positive/"
                report(Problem("boxes in negative/", image, rule))
            yield make_record(image, ())


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return "negative" if name == "train" and not record.names else _PLACES[name]


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    """Images without objects in positive/ or testImages/ have empty files."""
    for record in (record for records in sets.values() for record in records):
        if record.image.parent.name == "negative":
            continue
        _write(record.image, record.boxes.tolist(), record.names)


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    """Those of negative/ too, in which nothing can be drawn; of a folder of photos alone, all of them."""
    for name in sets(folder, settings) or [ALL]:
        for place in (_PLACES.get(name, "."), *(["negative"] if name == "train" else [])):
            yield from ((name, image) for image in _images(folder / place, lambda problem: None))


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    return []


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    if _is_negative(image, name):
        return []
    problems: list[Problem] = []
    record = next(_annotated(image, problems.append), None)
    errors = [problem for problem in problems if problem.level == "error"]
    if errors:
        raise ValueError(str(errors[0]))
    if record is None:
        return None
    return [Annotation(tuple(box), label) for box, label in zip(record.boxes.tolist(), record.names, strict=True)]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    if _is_negative(image, name):
        if objects:
            raise ValueError(f"{image}: lies in negative/, whose images hold no objects; move it to positive/")
    elif objects is None:
        boxes_file(image).unlink(missing_ok=True)
        labels_file(image).unlink(missing_ok=True)
    else:
        _write(image, [thing.box for thing in objects], [thing.name for thing in objects])


def boxes_file(image: Path) -> Path:
    return image.with_name(f"{image.stem}.bboxes.tsv")


def labels_file(image: Path) -> Path:
    return image.with_name(f"{image.stem}.bboxes.labels.tsv")


def _is_negative(image: Path, name: str) -> bool:
    return name == "train" and image.parent.name == "negative"


def _write(image: Path, boxes: Iterable[Sequence[float]], names: Iterable[str]) -> None:
    with whole_files(boxes_file(image), labels_file(image)) as (of_boxes, of_labels):
        of_boxes.write_text("".join("\t".join(map(plain, box)) + "\n" for box in boxes), encoding="utf-8")
        of_labels.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _images(folder: Path, report: Report) -> list[Path]:
    if not folder.is_dir():
        return []
    images = images_among(folder.iterdir())
    for problem in twins(images):
        report(problem)
    stems = {file.stem for file in images}
    for file in sorted(visible(folder.glob("*.bboxes.tsv"))):
        stem = file.name.removesuffix(".bboxes.tsv")
        if stem not in stems:
            rule = (
                f"there is no image {stem} that can be read ({', '.join(sorted(IMAGE_SUFFIXES))}); "
                f"convert the image or remove the file"
            )
            report(Problem("annotation without image", file, rule))
    return images


def _annotated(image: Path, report: Report) -> Iterator[Record]:
    missing = [file for file in (boxes_file(image), labels_file(image)) if not file.is_file()]
    if len(missing) == 2:
        rule = (
            f"is not annotated ({missing[0].name} is missing), and left out; annotate it, or move it to negative/ if "
            f"it holds no objects"
        )
        report(Problem("image without annotation", image, rule, level="warning"))
        return
    if missing:
        rule = f"{missing[0].name} is missing; there must be a file of boxes and one of labels"
        report(Problem("half an annotation", image, rule))
        return
    boxes = list(_boxes(boxes_file(image), report))
    names = [line.strip() for line in read_lines(labels_file(image)) if line.strip()]
    if len(boxes) != len(names):
        rule = (
            f"has {len(boxes)} boxes, but {labels_file(image).name} has {len(names)} labels; "
            f"there must be one line in each for every object"
        )
        report(Problem("boxes and labels differ in number", boxes_file(image), rule))
        return
    yield make_record(image, [(box, name) for box, name in zip(boxes, names, strict=True) if box is not None])


def _boxes(file: Path, report: Report) -> Iterator[list[float] | None]:
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        box = to_numbers(line.split(), 4)
        if box is None:
            rule = f"'{line.strip()}' is not a box; four numbers are needed: x1 y1 x2 y2, pixels"
            report(Problem("not a box", file, rule, f"line {number}"))
        yield box
