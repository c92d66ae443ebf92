"""Errors and warnings about the classes and the splits as a whole."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frcnn.data.problems import Problem, ProblemKind
from frcnn.data.records import Records
from frcnn.messages import plural

FEW = 10
IMBALANCE = 100.0
MOSTLY_EMPTY = 0.5


def odd_classes(folder: Path, splits: Mapping[str, Records], problems: Sequence[Problem]) -> Iterator[Problem]:
    """Errors and warnings about classes and splits. They tell how many objects or images were left out, because they
    may follow from that.

    Args:
        folder: of the data set, for the messages.
        splits: after their repair.
        problems: of their images and annotations.
    """
    lost = Counter(name for problem in problems for name in problem.lost)
    lost_images = sum(problem.images for problem in problems)

    def left_out(count: int, what: str) -> str:
        """How a message says that it may follow from what was left out."""
        return f" ({plural(count, f'{what} was', f'{what}s were')} left out)" if count else ""

    def warning(kind: ProblemKind, message: str) -> Problem:
        return Problem(kind, folder, message, level="warning")

    counts = {split: records.learned_counts for split, records in splits.items() if len(records)}
    train = counts.get("train", {})
    if not train:
        yield Problem(
            ProblemKind.NO_OBJECTS, folder, f"no training image has an object{left_out(lost.total(), 'object')}"
        )
    by_spelling = defaultdict(set)
    for name in {name for split in counts.values() for name in split}:
        by_spelling["".join(name.casefold().split()).replace("_", "").replace("-", "")].add(name)
    for names in by_spelling.values():
        if len(names) > 1:
            total = sum((Counter(each) for each in counts.values()), Counter[str]())
            spellings = " and ".join(f"'{name}' ({plural(total[name], 'object')})" for name in sorted(names))
            message = (
                f"the classes {spellings} differ in case, spaces or dashes only; if they are one class, write one name "
                f"in all annotations"
            )
            yield warning(ProblemKind.SIMILAR_NAMES, message)
    for name in sorted({name for split in counts.values() for name in split}):
        has = [split for split in counts if counts[split].get(name)]
        if "train" not in has:
            message = (
                f"class '{name}' is in the {' and '.join(has)} images only, so it is not learned, and left out of the "
                f"evaluation{left_out(lost[name], 'object')}"
            )
            yield warning(ProblemKind.NEVER_TRAINED, message)
            continue
        if len(counts) > 1 and has == ["train"]:
            message = f"class '{name}' is in the training images only, so it is never evaluated"
            yield warning(ProblemKind.NEVER_EVALUATED, message + left_out(lost[name], "object"))
        if train[name] < FEW:
            few = f"class '{name}' has {plural(train[name], 'training object')}{left_out(lost[name], 'object')}"
            yield warning(ProblemKind.FEW_OBJECTS, f"{few}; label {FEW} or more")
    if train and max(train.values()) > IMBALANCE * min(train.values()):
        most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        message = f"'{most}' has {train[most]} training objects, '{least}' {train[least]}: the rare one will be weak"
        yield warning(ProblemKind.IMBALANCE, message)
    for split, records in splits.items():
        empty = int((records.box_counts == 0).sum()) if len(records) else 0
        if empty > MOSTLY_EMPTY * max(len(records), 1):
            hint = left_out(lost.total(), "object")
            message = f"{empty} of {plural(len(records), f'{split} image')} without objects{hint}; are they annotated?"
            yield warning(ProblemKind.MOSTLY_EMPTY, message)
    if "test" not in counts:
        message = (
            f"no test images{left_out(lost_images, 'image')}, so nothing is evaluated; split=(0.8, 0, 0.2) "
            f"(--split 0.8,0,0.2) sets a fifth aside"
        )
        yield warning(ProblemKind.NO_TEST_IMAGES, message)
