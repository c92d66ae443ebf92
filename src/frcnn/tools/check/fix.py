"""`frcnn check --fix`: a corrected copy of a data set, and the list of changes."""

import os
from pathlib import Path
from typing import NamedTuple

from frcnn.data.formats import WRITABLE
from frcnn.data.problems import Problem, ProblemKind, without_root
from frcnn.data.records import Record, keep_objects
from frcnn.files import write_text
from frcnn.tools.check.boxes import kept_objects
from frcnn.tools.check.check import CheckReport
from frcnn.tools.convert import require_inside, write_dataset

CHANGES_FILE = "changes.txt"


class Fixed(NamedTuple):
    """The result of `fix`."""

    format: str
    changes: list[str]
    """With paths relative to the folder of the original."""


def fix(check: CheckReport, out: Path, *, follow_links: bool = False) -> Fixed:
    """Write a copy of a data set with the repairs of training, and without boxes that were drawn twice. The original is
    not changed. The copy has the format of the original, or COCO's if frcnn cannot write that.

    Args:
        follow_links: also copy images outside of the folder that an annotation or a link points to.

    Raises:
        ValueError: an image is outside of the folder, without `follow_links`.
        FileExistsError: `out` is a file, or a folder that is not empty.
    """
    form = check.discovery.format if check.discovery.format in WRITABLE else "coco"
    root = check.discovery.tree.root
    if not follow_links:
        require_inside(root, check.repaired)
    changes = [str(without_root(problem, root)) for problem in check.repairs]
    changes += [f"{without_root(problem, root)}: not fixed" for problem in check.errors]
    twice = {(problem.path, problem.object) for problem in check.problems if problem.kind == ProblemKind.DRAWN_TWICE}
    splits: dict[str, list[Record]] = {}
    of_image: dict[Path, list[Problem]] = {}
    for problem in check.problems:
        of_image.setdefault(problem.path, []).append(problem)
    for name, records in check.repaired.items():
        counts = dict(zip(check.splits[name].paths, check.splits[name].box_counts.tolist(), strict=True))
        for record in records:
            numbers = kept_objects(counts[str(record.image)], of_image.get(record.image, ()))
            once = keep_objects(record, [(record.image, number) not in twice for number in numbers])
            splits.setdefault(name, []).append(once)
    removed = [problem for problem in check.problems if problem.kind == ProblemKind.DRAWN_TWICE]
    changes += [f"{without_root(problem, root)}; it is removed" for problem in removed]
    changes += [note.removeprefix(f"{root}{os.sep}") for note in write_dataset(splits, out, form).notes]
    write_text(out / CHANGES_FILE, "".join(f"{change}\n" for change in changes))
    return Fixed(form, changes)
