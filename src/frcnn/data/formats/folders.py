"""The folders of CNTK's tutorial: positive/ (training), negative/ (no objects), testImages/.

Beside NAME.jpg lie NAME.bboxes.tsv (a line a box: x1, y1, x2, y2, pixels) and NAME.bboxes.labels.tsv (a line a
class name, same order). An image with empty files holds no objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frcnn.config import DataSettings
from frcnn.data.formats.lines import plain, read_lines, to_numbers
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.problems import Problem, Report
from frcnn.data.records import make_record
from frcnn.files import write_text
from frcnn.types import Record

LAYOUT = "positive/, negative/ and testImages/ with NAME.bboxes.tsv and NAME.bboxes.labels.tsv beside each image"
_PLACES = {"train": "positive", "test": "testImages"}


def recognises(folder: Path, settings: DataSettings) -> bool:
    return (folder / "positive").is_dir() or (folder / "testImages").is_dir()


def sets(folder: Path, settings: DataSettings) -> list[str]:
    return [name for name, place in _PLACES.items() if (folder / place).is_dir()]


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of positive/ and negative/ ("train") or of testImages/ ("test"), in order of name."""
    yield from (record for image in _images(folder / _PLACES[name], report) for record in _annotated(image, report))
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
        lines = ["\t".join(map(plain, box.tolist())) + "\n" for box in record.boxes]
        write_text(boxes_file(record.image), "".join(lines))
        write_text(labels_file(record.image), "".join(f"{label}\n" for label in record.names))


def boxes_file(image: Path) -> Path:
    return image.with_name(f"{image.stem}.bboxes.tsv")


def labels_file(image: Path) -> Path:
    return image.with_name(f"{image.stem}.bboxes.labels.tsv")


def _images(folder: Path, report: Report) -> list[Path]:
    if not folder.is_dir():
        return []
    images = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    stems = {file.stem for file in images}
    for file in sorted(folder.glob("*.bboxes.tsv")):
        stem = file.name.removesuffix(".bboxes.tsv")
        if stem not in stems:
            rule = (
                f"there is no image {stem} that can be read ({', '.join(sorted(IMAGE_SUFFIXES))}); "
                f"convert the image or remove the file"
            )
            report(Problem("annotation without image", file, rule))
    # 2.jpg before 10.jpg: shorter names first, so that numbers are in order
    return sorted(images, key=lambda file: (len(file.stem), file.name))


def _annotated(image: Path, report: Report) -> Iterator[Record]:
    for file in (boxes_file(image), labels_file(image)):
        if not file.is_file():
            rule = (
                f"its annotation {file.name} is missing; annotate the image, write an empty file if it "
                f"holds no objects, or move it to negative/"
            )
            report(Problem("image without annotation", image, rule))
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
