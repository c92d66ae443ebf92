"""Data sets: the one way from a folder to verified images and boxes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from frcnn.data.discover import Discovery, discover
from frcnn.data.formats import FORMATS
from frcnn.data.formats.source import ALL, Source, of_split
from frcnn.data.images import VerifiedImage, verify_image
from frcnn.data.prefetch import READ_THREADS, prefetch
from frcnn.data.problems import (
    OnProblem,
    Problem,
    ProblemKind,
    missing_image,
    problem_json,
    without_annotation,
    without_root,
)
from frcnn.data.records import Record, Records, same_objects
from frcnn.data.repair import RotatedImage, repair_boxes, repair_rotated
from frcnn.data.split import draw_split
from frcnn.data.tree import images_outside, split_word
from frcnn.json_text import to_json
from frcnn.messages import one_line, plural, train_command
from frcnn.run_files import CONFIG_FILE, LOCAL_FILE

if TYPE_CHECKING:
    from frcnn.config import DataSettings

SPLITS = ("train", "val", "test")
MAX_LOST = 0.1
"""Largest fraction of the images, and of the objects, that may be left out before training stops."""
_USE = {"train": "train on", "val": "validate on", "test": "test on"}
_SHOWN = 10  # problems listed in one error


class Dataset:
    """The images and boxes of a folder. Each split is read, verified and repaired once, when it is first used.

    Attributes:
        folder: where the data is.
        settings: how it is read.
        name: of the data set.
    """

    def __init__(self, folder: Path, settings: DataSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.name = settings.name or folder.resolve().name
        self._read: dict[str, Records] = {}
        self._verified: dict[str, Records] = {}
        self._val: Records | None = None
        self._problems: list[Problem] = []
        self._classes: tuple[str, ...] = ()

    @cached_property
    def discovery(self) -> Discovery:
        """The format of the folder, and where its annotations are."""
        return discover(self.folder, self.settings)

    @property
    def train(self) -> Records:
        """The images to train on."""
        return self.records("train")

    @property
    def val(self) -> Records:
        """The images to validate on during training; may be empty. Objects of classes without training images are left
        out."""
        if self._val is None:
            self._val = self.records("val").of_classes(self.classes)
        return self._val

    @property
    def test(self) -> Records:
        """The images to evaluate on; may be empty. They may have objects of classes without training images."""
        return self.records("test")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the training images, by name. Label i is classes[i - 1].

        Raises:
            ValueError: no training image has an object.
        """
        if not self._classes:
            self._classes = tuple(self.records("train").learned_counts)
        if not self._classes:
            raise ValueError(f"{self.folder}: no training image has an object ({self.summary()})")
        return self._classes

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out, repaired or looks odd in the splits that are verified."""
        return tuple(dict.fromkeys(self._problems))

    def records(self, split: str) -> Records:
        """The images of one split ("train", "val" or "test"), with all their classes.

        Raises:
            FileNotFoundError, ValueError: see `open_dataset`.
        """
        self.verify((split,))
        return self._verified[split]

    def verify(self, splits: Collection[str] = SPLITS) -> None:
        """Read these splits, open every image, and check and repair every box. Splits that are verified already are
        skipped.

        Raises:
            FileNotFoundError, ValueError: see `open_dataset`.
        """
        new = [split for split in splits if split not in self._verified]
        if not new:
            return
        unread = [split for split in new if split not in self._read]
        problems: list[Problem] = []
        read = dict(self._read)
        if unread:
            read |= read_annotations(self.discovery, self.settings, problems.append, unread)
        repaired = {split: repair(read[split], self.settings, problems.append) for split in new}
        problems = list(dict.fromkeys(problems))  # two splits may share a folder
        _raise_errors(self.folder, problems, self.settings)
        _stop_if_much_is_lost(self.folder, list(repaired.values()), problems, self.settings)
        self._read = read
        self._verified |= repaired
        self._problems += problems

    def replace(self, **splits: Records) -> Dataset:
        """The same data set and classes, with other records in these splits, e.g. `train=dataset.train[:8]`."""
        other = copy(self)
        other._classes = self.classes
        other._verified = self._verified | splits
        other._val = None
        return other

    def fingerprint(self) -> str:
        """A digest of the images to train and to validate on, and of their boxes. It changes if the folder moves."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            for record in part:
                digest.update(f"{record.image}\0{record.class_names}".encode("utf-8", "surrogateescape"))
                digest.update(record.boxes.tobytes() + record.ignore.tobytes())
            digest.update(b"\0\0")
        return digest.hexdigest()

    def summary(self) -> str:
        """What was understood: format, place, splits with counts, and what is not used; one line each."""
        return describe(self.discovery, self.settings, self._verified)

    def report(self) -> str:
        """Every problem as JSON, for data_report.json. Paths are relative to the data folder."""
        counts = Counter((problem.level, problem.kind) for problem in self.problems)
        content = {
            "format": self.discovery.format,
            "left_aside": left_aside(self.discovery, self.settings),
            "counts": [{"level": level, "kind": kind, "count": count} for (level, kind), count in counts.items()],
            "problems": [problem_json(without_root(problem, self.discovery.tree.root)) for problem in self.problems],
        }
        return to_json(content)


def open_dataset(folder: Path, settings: DataSettings, splits: Collection[str] = SPLITS) -> Dataset:
    """Read the annotations of a folder, open every image, and check and repair both. `Dataset.problems` lists what was
    repaired or left out.

    Args:
        folder: of the data set, or one annotation file in it.
        splits: are read and verified at once; the others when they are first used.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        ValueError: the format is not known, two formats contradict each other, a problem cannot be repaired, or more
            than a tenth of the images or objects, or a whole class, would be left out. With `settings.strict`, any
            problem that frcnn would otherwise repair. With all splits also: no training image has an object.
    """
    dataset = Dataset(folder, settings)
    dataset.verify(splits)
    if set(SPLITS) <= set(splits):
        for split in ("val", "test"):
            dataset._problems += unknown_classes(dataset.records(split), dataset.classes, split)
    return dataset


def unknown_classes(records: Records, classes: Collection[str], split: str) -> Iterator[Problem]:
    """Warnings about classes that the detector does not learn, so they are left out of the evaluation."""
    for name, count in records.learned_counts.items():
        if name not in classes:
            image = next(record.image for record in records if name in record.class_names)
            message = (
                f"class '{name}' is not among the training classes, so the evaluation leaves out "
                f"{plural(count, 'object')} of it in the split '{split}'"
            )
            yield Problem(ProblemKind.NEVER_TRAINED, image, message, level="warning")


def data_of_run(run: str | Path) -> DataSettings | None:
    """Where the data of a run directory is, and how it was read.

    Args:
        run: the run directory, or a file in it, e.g. its model.safetensors.

    Returns:
        None: the run directory does not say it.
    """
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    if not ((folder / CONFIG_FILE).is_file() and (folder / LOCAL_FILE).is_file()):
        return None  # e.g. a model file in a folder of something else
    from frcnn.config import read_run_config  # exported files run where pydantic is not installed

    settings = read_run_config(folder).data
    return None if settings.path is None else settings


def read_annotations(
    discovery: Discovery, settings: DataSettings, on_problem: OnProblem, splits: Collection[str] = SPLITS
) -> dict[str, Records]:
    """Read the annotations of these splits, and of those that are drawn together with them. Nothing is verified. Images
    are opened only to draw a split, or if the format needs their size.

    Args:
        on_problem: called with each line, object or image that is wrong; it is left out.

    Raises:
        FileNotFoundError, ValueError: nothing can be read, or the settings do not fit the data.
    """
    folder = discovery.tree.root
    names = discovery.splits
    raw = cache(lambda name: _read(discovery, name, settings))
    read = cache(lambda name: _own_images(discovery, name, raw, on_problem))
    if settings.split is not None:
        if len(names) > 1:
            raise ValueError(
                f"{folder}: data.split cannot be drawn, because the data has splits "
                f"({', '.join(name for name in names if name != ALL)}); leave out data.split, or merge them"
            )
        whole = read(names[0] if names else None)
        _report_outside(folder, [whole], on_problem)
        train, val, test = _draw(whole, settings.split, settings)
        return {"train": train[: settings.num_train_images], "val": val, "test": test[: settings.num_test_images]}
    chosen = choose_splits(folder, names, settings)
    is_drawn = settings.val_fraction > 0 and settings.val_split is None
    needs_train = "train" in splits or settings.fold is not None or ("val" in splits and is_drawn)
    records: dict[str, Records] = {}
    if needs_train:  # otherwise the problems of train would count as those of val
        train = read(chosen["train"])
        if settings.fold is not None:
            train, records["test"] = _draw_fold(train, settings)
        records["train"] = train = train[: settings.num_train_images]
        if is_drawn:
            parts = _draw(train, (1 - settings.val_fraction, settings.val_fraction), settings)
            records |= dict(zip(("train", "val"), parts, strict=True))  # both, so that the split is drawn once
    records |= {split: read(chosen[split]) for split in splits if split not in records}
    if "test" in records:
        records["test"] = records["test"][: settings.num_test_images]
    _report_outside(folder, records.values(), on_problem)
    return {split: records[split] for split in SPLITS if split in records}


def _report_outside(folder: Path, parts: Iterable[Records], on_problem: OnProblem) -> None:
    """Warn about images outside of the folder: once for each folder that they are in."""
    places = Counter(os.path.dirname(image) for part in parts for image in images_outside(folder, part.paths))
    for place, count in places.items():
        message = (
            f"{plural(count, 'image is', 'images are')} outside of {folder}; annotations or a link point there, so "
            f"{'it is' if count == 1 else 'they are'} used. If you do not want that, remove the entries or the link"
        )
        on_problem(Problem(ProblemKind.OUTSIDE_FOLDER, Path(place), message, level="warning"))


def _read(discovery: Discovery, name: str | None, settings: DataSettings) -> tuple[Records, list[Problem]]:
    """The records of a split of the folder, and what is wrong with them; none if `name` is None. Images without objects
    that another format annotates are left out."""
    if name is None:
        return Records.of(()), []
    if name in discovery.read:
        records, problems = discovery.read[name]
    else:
        source = next(source for source in discovery.sources if source.split == name)
        problems = []
        records = Records.of(FORMATS[discovery.format].read(source, discovery.tree, settings, problems.append))
    elsewhere = [path for path in records.paths if path in discovery.annotated_elsewhere]
    if not elsewhere:
        return records, problems
    message = f"has no objects in {discovery.format}, but in {{}}; it is left out, because it is no background"
    left_out = [
        without_annotation(Path(path), message.format(discovery.annotated_elsewhere[path])) for path in elsewhere
    ]
    keep = [index for index, path in enumerate(records.paths) if path not in discovery.annotated_elsewhere]
    return records.take(keep), problems + left_out


def _own_images(
    discovery: Discovery,
    name: str | None,
    read: Callable[[str | None], tuple[Records, list[Problem]]],
    on_problem: OnProblem,
) -> Records:
    """The records of a split, without images that belong to another split, and each image once.

    A reader searches for images by name. If an image of val is missing, it may find one of train with the same name.
    That image belongs to train if it is in a folder of train, and an annotation of train names it as well.
    """
    records, problems = read(name)
    for problem in problems:
        on_problem(problem)
    if name is None:
        return records
    paths = records.paths
    others = {split_word(split): split for split in discovery.splits if split_word(split) != split_word(name)}
    folders = {os.path.dirname(path) for path in paths}
    foreign = {folder: others.get(split_word(discovery.tree.split_of(Path(folder)))) for folder in folders}
    is_told = any(each.kind is ProblemKind.ANNOTATED_TWICE and each.level == "error" for each in problems)
    # Their problems do not belong to this split.
    of_others = {split: set(read(split)[0].paths) for split in set(foreign.values()) if split is not None}
    keep = []
    seen: dict[str, int] = {}
    for index, path in enumerate(paths):
        split = foreign[os.path.dirname(path)]
        if split is not None and path in of_others[split]:
            message = f"belongs to the split '{split}'; the image{of_split(name)} seems to be missing"
            on_problem(missing_image(Path(path), message, lost=records[index].class_names))
            continue
        first = seen.setdefault(path, index)
        if first == index:
            keep.append(index)
            continue
        if is_told:
            continue
        same = same_objects(records[first], records[index])
        files = next(source.files for source in discovery.sources if source.split == name)
        where = ", ".join(str(discovery.tree.relative(file)) for file in files[:3])
        if same:
            advice = "one annotation is used"
        elif 1 < len(files) <= 3:
            advice = f"the annotations differ; keep one of them, or name the file to use: {train_command(files[0])}"
        else:
            advice = "the annotations differ; keep one of them"
        message = f"is annotated twice in {where}; {advice}"
        on_problem(Problem(ProblemKind.ANNOTATED_TWICE, Path(path), message, level="warning" if same else "error"))
    return records if len(keep) == len(paths) else records.take(keep)


def unused_splits(discovery: Discovery, settings: DataSettings) -> list[Source]:
    """The splits of a folder that are neither trained nor evaluated on. Those that trainval contains are used."""
    if settings.split is not None:
        return []
    used = choose_splits(discovery.tree.root, discovery.splits, settings)
    if settings.fold is not None:
        del used["test"]
    whole = ("train", "val") if split_word(used["train"]) == "trainval" else ()
    unused = [source for source in discovery.sources if source.split not in used.values()]
    return [source for source in unused if split_word(source.split) not in whole]


def left_aside(discovery: Discovery, settings: DataSettings) -> list[str]:
    """What a folder has that is not used, in words."""
    notes = []
    for source in unused_splits(discovery, settings):
        first = f"{discovery.tree.relative(source.files[0])}{', ...' if len(source.files) > 1 else ''}"
        what = "annotations outside of the splits" if source.split == ALL else f"the split '{source.split}'"
        notes.append(f"{what} ({first}); data.train_split, data.val_split or data.test_split={source.split} uses it")
    return notes + discovery.notes


def renamed_splits(discovery: Discovery, settings: DataSettings) -> dict[str, str]:
    """The name in the folder of each split whose use has another name, e.g. {"train": "trainval", "test": "val"}."""
    if settings.split is not None:
        return {}
    chosen = choose_splits(discovery.tree.root, discovery.splits, settings)
    if settings.fold is not None:
        del chosen["test"]
    return {split: name for split, name in chosen.items() if name not in (None, ALL) and split_word(name) != split}


def describe(discovery: Discovery, settings: DataSettings, splits: Mapping[str, Records]) -> str:
    """What was understood of a folder: format, place, splits with counts, and what is not used; one line each. A
    split of another name in the folder is told, e.g. "test (val)"."""
    tree = discovery.tree
    files = [file for source in discovery.sources for file in source.files]
    places = Counter(tree.relative(file.parent if len(files) > 3 else file).as_posix() for file in files)
    where = ", ".join(f"{place}/" if len(files) > 3 else place for place, _ in places.most_common(3))
    names = {split: f"{split} ({name})" for split, name in renamed_splits(discovery, settings).items()}
    counts = "; ".join(
        f"{names.get(split, split)} {plural(len(records), 'image')}, "
        f"{plural(sum(records.class_counts.values()), 'object')}"
        for split, records in splits.items()
        if len(records)
    )
    lines = [
        f"format: {discovery.format}",
        f"annotations: {where}{', ...' if len(places) > 3 else ''}",
        f"splits: {counts or 'no images'}",
    ]
    lines += [f"not used: {note}" for note in left_aside(discovery, settings)]
    return "\n".join(map(one_line, lines))


def choose_splits(folder: Path, names: Sequence[str], settings: DataSettings) -> dict[str, str | None]:
    """Which of a folder's splits are "train", "val" and "test"; None: none of them.

    Names begin with the word, e.g. "val2017". Without settings: a single split is trained on, whatever its name.
    Otherwise trainval or train is trained on, or the only split of another name, or val; test is tested on, or val.
    What is left of val validates. A name with train and test, e.g. "traintest", is of all images, and is not chosen.

    Raises:
        ValueError: the settings name a split that is not there, or several splits fit.
    """
    chosen: dict[str, str | None] = {split: getattr(settings, f"{split}_split") for split in SPLITS}
    if len(names) == 1 and not any(chosen.values()):
        return {"train": names[0], "val": None, "test": None}
    for split, name in chosen.items():
        if name is not None and name not in names:
            known = ", ".join(each for each in names if each != ALL) or "none"
            other = "; data.val_fraction sets some training images aside" if split == "val" else ""
            raise ValueError(f"{folder}: has no split '{name}' (data.{split}_split); its splits: {known}{other}")

    def only(split: str, fitting: Sequence[str]) -> str | None:
        if len(fitting) > 1:
            shown = (f"{ALL} (the annotations outside of the splits)" if name == ALL else name for name in fitting)
            raise ValueError(
                f"{folder}: has several splits {', '.join(shown)}; choose the one to {_USE[split]} with "
                f"data.{split}_split"
            )
        return fitting[0] if fitting else None

    names = [name for name in names if not all(word in name.casefold() for word in ("train", "test"))] or names
    begin = {word: [name for name in names if name.casefold().startswith(word)] for word in ("trainval", *SPLITS)}
    parts = [name for name in begin["train"] if name not in begin["trainval"]]
    others = [name for name in names if name not in (*begin["train"], *begin["val"], *begin["test"])]
    test = chosen["test"] or only("test", begin["test"])
    whole = begin["trainval"] if test is not None and test not in begin["val"] else []  # trainval contains val
    train = chosen["train"] or next(
        (only("train", each) for each in (whole, parts, begin["trainval"], others, begin["val"]) if each), None
    )
    test = test or only("test", [name for name in begin["val"] if name != train])
    left = [name for name in begin["val"] if name not in (train, test)] if train not in begin["trainval"] else []
    return {"train": train, "val": chosen["val"] or next(iter(left), None), "test": test}


def _draw(records: Records, fractions: Sequence[float], settings: DataSettings) -> list[Records]:
    """Random parts of a split."""
    return [records.take(part) for part in _draw_parts(records, fractions, settings)]


def _draw_fold(records: Records, settings: DataSettings) -> tuple[Records, Records]:
    """The training and the test images of one fold."""
    fold, count = settings.fold or (1, 1)
    test = _draw_parts(records, [1 / count] * count, settings)[fold - 1]
    return records.take(np.setdiff1d(np.arange(len(records)), test)), records.take(test)


def _draw_parts(records: Records, fractions: Sequence[float], settings: DataSettings) -> list[np.ndarray]:
    parts = draw_split(records, fractions, seed=settings.split_seed)
    wanted = sum(fraction > 0 for fraction in fractions)
    if len(records) and sum(len(part) > 0 for part in parts) < wanted:
        raise ValueError(
            f"data.split, data.fold, data.val_fraction: {plural(len(records), 'image')} cannot be split into {wanted} "
            f"parts, because near-duplicates stay together; add images, or leave out the setting"
        )
    return parts


def _raise_errors(folder: Path, problems: Sequence[Problem], settings: DataSettings) -> None:
    """Raise one error for all errors among the problems; with `strict`, also for what was repaired or left out."""
    levels = ("error", "left out", "repaired") if settings.strict else ("error",)
    lines = [str(problem) for problem in problems if problem.level in levels]
    if lines:
        more = f"\n... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        advice = f"\nRun `frcnn check {folder}` to see every problem, with --fix OUT to write a corrected copy."
        raise ValueError("\n".join(lines[:_SHOWN]) + more + advice)


def _stop_if_much_is_lost(
    folder: Path, kept: Sequence[Records], problems: Sequence[Problem], settings: DataSettings
) -> None:
    reasons = [] if settings.force else lost_data(kept, problems)
    if reasons:
        left_out = [problem for problem in problems if problem.level == "left out"]
        kinds = Counter(problem.kind for problem in left_out)
        shown = "".join(f"\n{problem}" for problem in left_out[:_SHOWN])
        raise ValueError(
            f"{folder}: {'; '.join(reasons)} ({', '.join(f'{kind}: {count}' for kind, count in kinds.items())}). "
            f"Correct the data, or continue without them: --force (data.force).{shown}\n"
            f"Run `frcnn check {folder}` to see every problem."
        )


def lost_data(kept: Sequence[Records], problems: Sequence[Problem]) -> list[str]:
    """Whether too much is left out: more than a tenth of the images or of the objects, or all objects of a class.

    Args:
        kept: the splits after their repair.
        problems: of these splits, from the reading of the annotations and from the repair.

    Returns:
        The reasons, in words; empty: it is not too much.
    """
    lost = Counter(name for problem in problems for name in problem.lost)
    rest = sum((Counter(records.class_counts) for records in kept), Counter[str]())
    counts = {
        "images": (sum(problem.images for problem in problems), sum(map(len, kept))),
        "objects": (lost.total(), rest.total()),
    }
    reasons = [
        f"{count} of {count + left} {what} would be left out"
        for what, (count, left) in counts.items()
        if count > MAX_LOST * (count + left)
    ]
    gone = [f"'{name}' ({count})" for name, count in sorted(lost.items()) if name.strip() and not rest[name]]
    classes = f"{'class' if len(gone) == 1 else 'classes'} {', '.join(gone)}"
    return reasons + ([f"all objects of the {classes} would be left out"] if gone else [])


class CheckedImage(NamedTuple):
    """One image, read, and its objects after their repair."""

    record: Record | None
    """None: the image cannot be read, or has too many boxes. If it is rotated, not repaired yet, see
    `repair_rotated`."""
    problems: list[Problem]
    rotated: RotatedImage | None = None
    """If it has an EXIF orientation."""
    verified: VerifiedImage | None = None
    """The file, decoded, if it can be read."""


def repair(records: Sequence[Record], settings: DataSettings, on_problem: OnProblem) -> Records:
    """Read every image of a split whole, repair its boxes (see `repair_boxes`, `rotate_boxes`), and leave out images
    that cannot be read."""
    rotated: dict[int, RotatedImage] = {}

    def check(record: Record) -> CheckedImage:
        return check_image(record, settings)._replace(verified=None)  # pixels do not wait in memory

    def readable() -> Iterator[Record]:
        count = 0
        for checked in prefetch(check, iter(records), workers=READ_THREADS):
            for problem in checked.problems:
                on_problem(problem)
            if checked.record is not None:
                if checked.rotated is not None:
                    rotated[count] = checked.rotated
                count += 1
                yield checked.record

    kept = Records.of(readable())
    if not rotated:
        return kept
    repaired, problems = repair_rotated(list(rotated.values()))
    for problem in problems:
        on_problem(problem)
    by_index = dict(zip(rotated, repaired, strict=True))
    return Records.of(by_index.get(index, record) for index, record in enumerate(kept))


def check_image(record: Record, settings: DataSettings) -> CheckedImage:
    """One image and what is wrong with it. Its boxes are repaired, unless it has an EXIF orientation."""
    try:
        verified = verify_image(record.image)
    except (ValueError, OSError) as error:
        message = str(error).removeprefix(f"{record.image}: ")
        kind, lost = ProblemKind.UNREADABLE_IMAGE, record.class_names
        return CheckedImage(None, [Problem(kind, record.image, message, level="left out", lost=lost, images=1)])
    rotated = None
    problems = list(verified.problems)
    if settings.max_boxes is not None and len(record.boxes) > settings.max_boxes:
        message = (
            f"has {plural(len(record.boxes), 'box', 'boxes')}, but data.max_boxes allows {settings.max_boxes}; raise it"
        )
        problems.append(Problem(ProblemKind.TOO_MANY_BOXES, record.image, message))
        return CheckedImage(None, problems, None, verified)  # comparing so many boxes would take hours
    if verified.orientation == 1:
        record, repairs = repair_boxes(record, verified.size)
        problems += repairs
    else:
        rotated = RotatedImage(record, verified.stored_size, verified.orientation)
    return CheckedImage(record, problems, rotated, verified)
