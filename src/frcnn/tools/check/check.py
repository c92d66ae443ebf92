"""`frcnn check`: every error and every warning about a data set, in one report."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frcnn.config import Config, DataSettings, make_config, with_arguments
from frcnn.data.dataset import describe, left_aside, lost_data, read_annotations
from frcnn.data.discover import Discovery, discover
from frcnn.data.prefetch import READ_THREADS, prefetch
from frcnn.data.problems import Problem, ProblemKind, problem_json, without_root
from frcnn.data.records import Records
from frcnn.data.tree import Tree
from frcnn.files import as_path
from frcnn.json_text import to_json
from frcnn.messages import plural
from frcnn.planning.anchors import (
    IOU_LEVELS,
    AnchorRecall,
    Shapes,
    Suggestion,
    anchor_recall,
    at_training_size,
    feature_levels,
    suggest,
)
from frcnn.tools.check.boxes import kept_objects, odd_boxes, off_by_one
from frcnn.tools.check.classes import odd_classes
from frcnn.tools.check.duplicates import find_duplicates
from frcnn.tools.check.images import inspect_image, repair_rotated_images

_SHOWN = 5  # if there are more problems of one kind, one is printed; the JSON has all
_TITLES = {"error": "errors", "left out": "left out", "repaired": "repaired", "warning": "warnings"}
"""By level."""


class CheckReport(NamedTuple):
    """The result of `check`. `print(report)` shows it, `report.to_json()` has every problem."""

    folder: Path
    discovery: Discovery
    settings: DataSettings
    splits: dict[str, Records]
    """As the annotations say."""
    repaired: dict[str, Records]
    """As training uses them."""
    problems: list[Problem]
    anchor_recall: AnchorRecall | None
    """Of the training boxes; None: there are none."""
    suggestion: Suggestion | None
    """Anchors with a clearly higher recall; None: none were found."""

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop training."""
        return [problem for problem in self.problems if problem.level == "error"]

    @property
    def repairs(self) -> list[Problem]:
        """What training would repair or leave out."""
        return [problem for problem in self.problems if problem.level in ("repaired", "left out")]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that a person should judge."""
        return [problem for problem in self.problems if problem.level == "warning"]

    def __repr__(self) -> str:
        return f"<CheckReport {self.folder}: {self.counts()}>"

    def __str__(self) -> str:
        lines = [
            str(self.folder),
            *(f"  {line}" for line in describe(self.discovery, self.settings, self.splits).split("\n")),
        ]
        for split, records in self.repaired.items():
            if len(records):
                empty = int((records.box_counts == 0).sum())
                classes = ", ".join(f"{name} {count}" for name, count in records.class_counts.items())
                lines.append(f"  classes in {split}: {classes or 'none'} ({plural(empty, 'image')} without objects)")
        for level, title in _TITLES.items():
            problems = [problem for problem in self.problems if problem.level == level]
            if problems:
                lines += ["", f"{title}: {len(problems)}"]
            for kind, count in Counter(problem.kind for problem in problems).items():
                same = [str(problem) for problem in problems if problem.kind == kind]
                shown = [text.replace(f"{self.discovery.tree.root}{os.sep}", "") for text in same]
                if count > _SHOWN:
                    lines.append(f"  {kind} ({count}; --json has all), e.g. {shown[0]}")
                else:
                    lines += [f"  {kind} ({count})", *(f"    {text}" for text in shown)]
        return "\n".join([*lines, *self._recall_lines()])

    def counts(self) -> str:
        """The numbers of errors, repairs and warnings, in words."""
        return (
            f"{plural(len(self.errors), 'error')}, {plural(len(self.repairs), 'repair')}, "
            f"{plural(len(self.warnings), 'warning')}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain data. Paths are relative to the folder."""
        return {
            "folder": self.folder.resolve().name,
            "format": self.discovery.format,
            "left_aside": left_aside(self.discovery, self.settings),
            "splits": {
                split: {
                    "images": len(records),
                    "without_objects": int((records.box_counts == 0).sum()),
                    "objects": records.class_counts,
                }
                for split, records in self.repaired.items()
            },
            "problems": [problem_json(without_root(problem, self.discovery.tree.root)) for problem in self.problems],
            "anchor_recall": None if self.anchor_recall is None else _recall_json(self.anchor_recall),
            "suggestion": None
            if self.suggestion is None
            else {"set": self.suggestion.settings, "anchor_recall": _recall_json(self.suggestion.anchor_recall)},
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return to_json(self.to_dict())

    def _recall_lines(self) -> list[str]:
        if self.anchor_recall is None:
            return []
        levels = " and ".join(map(str, IOU_LEVELS))
        lines = ["", f"anchor recall: training objects that some anchor overlaps with an IoU of {levels}"]
        width = max(len(name) for name in (*self.anchor_recall.of_class, "all"))
        for name, recall in (("all", self.anchor_recall.all), *self.anchor_recall.of_class.items()):
            lines.append(f"  {name:<{width}}  " + "  ".join(f"{recall[level]:>5.1%}" for level in IOU_LEVELS))
        if self.suggestion is None:
            return [*lines, "  (no other set of as many anchors has a clearly higher recall)"]
        better = self.suggestion.anchor_recall.all
        return [
            *lines,
            "  `frcnn train` chooses its own anchors (`frcnn plan` shows them). With --no-plan, use these, with "
            + " and ".join(f"{better[level]:.1%}" for level in IOU_LEVELS)
            + ":",
            "    " + " ".join(f"--set '{setting}'" for setting in self.suggestion.settings),
        ]


def check(
    data: str | Path,
    *,
    split: Sequence[float] | None = None,
    format: str | None = None,
    settings: Mapping[str, Any] | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Find errors and oddities in a data set: in its images, boxes, classes and splits, and in the anchors for it.

    Args:
        data: folder of images and boxes.
        split: fractions for train, val and test, e.g. (0.8, 0.0, 0.2), if the folder has no splits.
        format: of the folder, e.g. "coco"; None: auto-detected.
        settings: other settings by name, e.g. {"detector.anchors.scales": [4, 8, 16]}.
        on_image: called with the number of images that are done, and with their total.

    Raises:
        FileNotFoundError, ValueError: the folder cannot be read as a data set, or a setting is wrong.
    """
    overrides = with_arguments(settings, {"data.split": split, "data.format": format})
    return check_dataset(as_path(data, "data"), make_config(overrides=overrides), on_image=on_image)


def check_dataset(
    folder: Path, config: Config, *, on_image: Callable[[int, int], None] = lambda done, total: None
) -> CheckReport:
    """`check`, with all settings of a training."""
    discovery = discover(folder, config.data)
    problems: list[Problem] = []
    splits = read_annotations(discovery, config.data, problems.append)
    records = [record for part in splits.values() for record in part]
    split_of = [split for split, part in splits.items() for _ in range(len(part))]
    images = []
    for image in prefetch(lambda record: inspect_image(record, config.data), iter(records), workers=READ_THREADS):
        images.append(image)
        on_image(len(images), len(records))
    start = 0
    for part in splits.values():
        images[start : start + len(part)] = repair_rotated_images(images[start : start + len(part)])
        start += len(part)
    sizes = [image.size for image in images]
    for record, image in zip(records, images, strict=True):
        problems += image.problems
        if image.record is not None and image.size is not None:
            numbers = kept_objects(len(record.boxes), image.problems)
            problems += odd_boxes(image.record, image.size, config.detector.resizing, numbers)
    repaired = {
        split: Records.of(
            image.record
            for image, own in zip(images, split_of, strict=True)
            if own == split and image.record is not None
        )
        for split in splits
    }
    reasons = [] if config.data.force else lost_data(list(repaired.values()), problems)
    if reasons:  # one error, because one reason follows from another: a class is lost with its images
        advice = f"{'; '.join(reasons)}; correct the data, or train with --force (data.force)"
        problems.append(Problem(ProblemKind.MUCH_LEFT_OUT, folder, advice))
    message = off_by_one(records, sizes)
    if message is not None:
        problems.append(Problem(ProblemKind.OFF_BY_ONE, folder, message, level="warning"))
    problems += list(odd_classes(folder, repaired, problems))
    problems += find_duplicates(records, [image.hash for image in images], split_of)
    problems += _unused(discovery.tree, [record.image for record in records], problems)

    recall = suggestion = None
    train = [image for image, split in zip(images, split_of, strict=True) if split == "train"]
    trained = [(image.record, image.size) for image in train if image.record is not None]
    boxes = at_training_size([record for record, _ in trained], [size for _, size in trained], config)
    if len(boxes.xyxy):
        levels = feature_levels(config)
        anchors = config.detector.anchors
        recall = anchor_recall(boxes, Shapes(anchors.scales, anchors.aspect_ratios), levels, config)
        suggestion = suggest(boxes, recall, levels, config)
    return CheckReport(
        folder, discovery, config.data, splits, repaired, list(dict.fromkeys(problems)), recall, suggestion
    )


def _unused(tree: Tree, images: Sequence[Path], problems: Sequence[Problem]) -> list[Problem]:
    """Images of the folder that are in no split and that no other problem explains.

    Left out are links to used images, and copies of them, which labeling tools make when they export; images whose
    annotation cannot be read; and images that share a name which an annotation has. Those are reported by their cause.
    """
    known = {*images, *(problem.path for problem in problems)}
    unread = {each.path.stem for each in problems if each.kind is ProblemKind.UNREADABLE_ANNOTATION}
    ambiguous = [each.message for each in problems if each.kind is ProblemKind.AMBIGUOUS_NAME]
    others = [path for path in tree.images if path not in known and path.stem not in unread]
    others = [path for path in others if not any(str(tree.relative(path)) in message for message in ambiguous)]
    real = {os.path.realpath(path) for path in known} if others else set()
    used = {_name_and_size(path) for path in images} if others else set()
    message = "is in no split that is used; annotate it, name its split (data.train_split, ...), or move it away"
    return [
        Problem(ProblemKind.UNUSED_IMAGE, path, message, level="warning")
        for path in others
        if os.path.realpath(path) not in real and _name_and_size(path) not in used
    ]


def _name_and_size(path: Path) -> tuple[str, int]:
    """Equal for a file and its copy; size -1: there is no such file."""
    return path.name, path.stat().st_size if path.exists() else -1


def _recall_json(recall: AnchorRecall) -> dict[str, Any]:
    return {"all": recall.all, "of_class": recall.of_class}
