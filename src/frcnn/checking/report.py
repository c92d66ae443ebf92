"""Everything that `frcnn check` says of a data set."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from frcnn.checking.anchors import (
    LEVELS_OF_IOU,
    Reach,
    Shapes,
    Suggestion,
    at_training_size,
    levels_of,
    reach,
    suggest,
)
from frcnn.checking.boxes import odd_boxes, off_by_one
from frcnn.checking.classes import odd_classes
from frcnn.checking.copies import copies
from frcnn.checking.images import see
from frcnn.config import Config
from frcnn.data.ahead import READERS, read_ahead
from frcnn.data.dataset import find_format, read_annotations
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.problems import Problem
from frcnn.data.records import Records

_SHOWN = 5  # problems of one kind that the report lists; the JSON has all


class Check(NamedTuple):
    """What was found."""

    folder: Path
    format: str
    splits: dict[str, Records]
    problems: list[Problem]
    reach: Reach | None
    """Of the training boxes by the anchors; None if there are none."""
    suggestion: Suggestion | None

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.level == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.level == "warning"]

    def text(self) -> str:
        """A report for people."""
        lines = [f"{self.folder}: {self.format}"]
        for split, records in self.splits.items():
            if len(records):
                counts = records.class_counts
                empty = int((records.box_counts == 0).sum())
                listed = ", ".join(f"{name} {count}" for name, count in counts.items())
                lines.append(
                    f"  {split}: {len(records)} images ({empty / len(records):.0%} without objects), "
                    f"{sum(counts.values())} objects: {listed or 'none'}"
                )
        for title, problems in (("errors", self.errors), ("warnings", self.warnings)):
            if problems:
                lines += ["", f"{len(problems)} {title}"]
            for kind, count in Counter(problem.kind for problem in problems).items():
                chosen = [problem for problem in problems if problem.kind == kind]
                lines.append(f"  {kind} ({count})")
                lines += [f"    {problem}" for problem in chosen[:_SHOWN]]
                if count > _SHOWN:
                    lines.append(f"    ... and {count - _SHOWN} more (--json has all)")
        return "\n".join([*lines, *self._reach_lines()])

    def to_json(self) -> str:
        """The same, all of it, for programs."""
        content: dict[str, Any] = {
            "folder": str(self.folder),
            "format": self.format,
            "splits": {
                split: {
                    "images": len(records),
                    "without_objects": int((records.box_counts == 0).sum()),
                    "objects": records.class_counts,
                }
                for split, records in self.splits.items()
            },
            "problems": [
                {
                    "level": problem.level,
                    "kind": problem.kind,
                    "path": str(problem.path),
                    "place": problem.place,
                    "object": None if problem.object is None else problem.object + 1,
                    "rule": problem.rule,
                }
                for problem in self.problems
            ],
            "reach": None if self.reach is None else _reach_json(self.reach),
            "suggestion": None
            if self.suggestion is None
            else {"set": self.suggestion.settings, "reach": _reach_json(self.suggestion.reach)},
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def _reach_lines(self) -> list[str]:
        if self.reach is None:
            return []
        lines = ["", "training objects that some anchor reaches, at IoU " + " and ".join(map(str, LEVELS_OF_IOU))]
        width = max(len(name) for name in (*self.reach.of_class, "all"))
        for name, share in (("all", self.reach.share), *self.reach.of_class.items()):
            lines.append(f"  {name:<{width}}  " + "  ".join(f"{share[level]:>5.1%}" for level in LEVELS_OF_IOU))
        if self.suggestion is None:
            return [*lines, "  (as many scales and ratios would not reach clearly more)"]
        shares = self.suggestion.reach.share
        return [
            *lines,
            "  other anchors would reach " + " and ".join(f"{shares[level]:.1%}" for level in LEVELS_OF_IOU) + ":",
            "    " + " ".join(f"--set '{setting}'" for setting in self.suggestion.settings),
        ]


def check(folder: Path, config: Config, *, on_image: Callable[[int, int], None] = lambda done, total: None) -> Check:
    """Look at all images, boxes, classes and splits of a data set, as training with these settings would take them.

    Args:
        on_image: called with the images done and their total.

    Raises:
        FileNotFoundError, ValueError: nothing can be read at all.
    """
    name = find_format(folder, config.data)
    problems: list[Problem] = []
    splits = read_annotations(folder, config.data, problems.append)
    records = [record for part in splits.values() for record in part]
    split_of = [split for split, part in splits.items() for _ in range(len(part))]
    seen = []
    for one in read_ahead(lambda record: see(record, config.data), iter(records), workers=READERS):
        seen.append(one)
        on_image(len(seen), len(records))
    sizes = [one.size for one in seen]
    for record, one in zip(records, seen, strict=True):
        problems += one.problems
        if one.size is not None:
            problems += odd_boxes(record, one.size, config.detector.image)
    rule = off_by_one(records, sizes)
    if rule is not None:
        problems.append(Problem("a pixel off", folder, rule, level="warning"))
    problems += odd_classes(folder, splits)
    problems += copies(records, [one.look for one in seen], split_of)
    problems += _unused(folder, [record.image for record in records], problems)

    now = suggestion = None
    chosen = [place for place, split in enumerate(split_of) if split == "train"]
    boxes = at_training_size([records[place] for place in chosen], [sizes[place] for place in chosen], config)
    if any(boxes.names):
        levels = levels_of(config)
        rules = config.detector.anchors
        now = reach(boxes, Shapes(rules.scales, rules.aspect_ratios), levels, config)
        suggestion = suggest(boxes, now, levels, config)
    return Check(folder, name, splits, list(dict.fromkeys(problems)), now, suggestion)


def _unused(folder: Path, images: Sequence[Path], problems: Sequence[Problem]) -> list[Problem]:
    """Images in the folder that are not used, if nothing was said of them yet."""
    used = {os.path.realpath(path) for path in (*images, *(problem.path for problem in problems))}
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    rule = "is in no set that is used; annotate it, name its set (data.train_set, ...), or move it away"
    return [
        Problem("image not used", path, rule, level="warning") for path in found if os.path.realpath(path) not in used
    ]


def _reach_json(found: Reach) -> dict[str, Any]:
    return {"all": found.share, "of_class": found.of_class}
