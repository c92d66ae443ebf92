"""What is odd about the classes and the splits as a whole."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from frcnn.data.problems import Problem
from frcnn.data.records import Records

FEW = 10
IMBALANCE = 100.0
MOSTLY_EMPTY = 0.5


def odd_classes(folder: Path, splits: Mapping[str, Records]) -> Iterator[Problem]:
    """Errors and warnings about classes and shares; the folder stands for the data set in messages."""

    def warning(kind: str, rule: str) -> Problem:
        return Problem(kind, folder, rule, level="warning")

    counts = {split: records.class_counts for split, records in splits.items() if len(records)}
    train = counts.get("train", {})
    if not train:
        yield Problem("nothing to learn", folder, "no training image has an object")
    alike = defaultdict(set)
    for name in {name for split in counts.values() for name in split}:
        alike["".join(name.casefold().split()).replace("_", "").replace("-", "")].add(name)
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(f"'{name}'" for name in sorted(names))
            yield warning(
                "names nearly the same", f"classes {listed} differ in case, spaces or dashes only; one class?"
            )
    for name in sorted({name for split in counts.values() for name in split}):
        where = [split for split in counts if counts[split].get(name)]
        if "train" not in where:
            rule = f"class '{name}' is in the {' and '.join(where)} images only, so it cannot be learned"
            yield Problem("class never trained", folder, rule)
            continue
        if len(counts) > 1 and where == ["train"]:
            yield warning(
                "class never measured", f"class '{name}' is in the training images only, so nothing measures it"
            )
        if train[name] < FEW:
            yield warning("few objects", f"class '{name}' has {train[name]} training objects; {FEW} or more are wanted")
    if train and max(train.values()) > IMBALANCE * min(train.values()):
        most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        rule = f"'{most}' has {train[most]} training objects, '{least}' {train[least]}: the rare one will be weak"
        yield warning("imbalance", rule)
    for split, records in splits.items():
        empty = int((records.box_counts == 0).sum()) if len(records) else 0
        if empty > MOSTLY_EMPTY * max(len(records), 1):
            rule = f"{empty} of {len(records)} {split} images have no objects; are they annotated?"
            yield warning("mostly without objects", rule)
    if "test" not in counts:
        rule = "there are no test images, so nothing will be measured; --split 0.8,0,0.2 shares some out"
        yield warning("no test images", rule)
