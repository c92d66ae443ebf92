"""Kill a process before each of its operations on files while it saves an annotation, and look at what is left.

    python kill_during_save.py FOLDER IMAGE

Prints JSON: the number of operations, and what was wrong. Each save runs in a forked child.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from frcnn.config import DataSettings
from frcnn.data.dataset import read_annotations
from frcnn.data.discover import discover
from frcnn.data.records import Annotation
from frcnn.tools.annotate.editing import Editor

OPERATIONS = {"open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "os.truncate"}
FIRST = [Annotation((10, 10, 50, 60), "red"), Annotation((60, 20, 100, 80), "blue")]
SECOND = [Annotation((12, 14, 55, 66), "blue")]
CHANGES = [(None, FIRST), (FIRST, SECOND), (SECOND, FIRST), (FIRST, []), (FIRST, None)]


def save(folder: Path, image: str, objects: list[Annotation] | None) -> None:
    editor = Editor(folder, DataSettings())
    index = [path.name for _, path in editor.images].index(image)
    editor._were_annotated = frozenset()  # so that an annotation can be removed
    editor.write(index, objects, editor.read(index).version)


def save_and_die(folder: Path, image: str, objects: list[Annotation] | None, last: int) -> bool:
    """Save in a process that dies before its operation number `last`. Returns whether it came to its end."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1] == 0
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in OPERATIONS and not (event == "open" and arguments[1] in ("r", "rb")):
            count += 1
            if count == last:
                os._exit(9)

    sys.addaudithook(hook)
    save(folder, image, objects)
    os._exit(0)


def objects_of(folder: Path, image: str) -> tuple[object, object]:
    """What the page shows, and what training reads."""
    editor = Editor(folder, DataSettings())
    index = [path.name for _, path in editor.images].index(image)
    objects = editor.read(index).objects
    shown = None if objects is None else [(tuple(map(float, each.box)), each.name) for each in objects]
    read = read_annotations(discover(folder, DataSettings()), DataSettings(), lambda problem: None)
    records = [record for records in read.values() for record in records if record.image.name == image]
    trained = [
        [(tuple(box), name) for box, name in zip(record.boxes.tolist(), record.class_names, strict=True)]
        for record in records
    ]
    return shown, trained


def main() -> None:
    source, image = Path(sys.argv[1]), sys.argv[2]
    operations, wrong = 0, []
    for before, after in CHANGES:
        start, end, work = (source.with_name(name) for name in ("start", "end", "work"))
        for folder in (start, end):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder)
            save(folder, image, before)
        save(end, image, after)
        allowed = [objects_of(start, image), objects_of(end, image)]
        is_done, last = False, 0
        while not is_done:
            last += 1
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(start, work)
            is_done = save_and_die(work, image, after, last)
            found = objects_of(work, image)
            if found not in allowed:
                wrong.append(f"operation {last} of {before} -> {after}: {found}")
            left = [file.name for file in work.rglob("*") if file.name.startswith(".frcnn-changes")]
            if left:
                wrong.append(f"operation {last} of {before} -> {after}: leaves {left}")
        operations += last - 1
    print(json.dumps({"operations": operations, "wrong": wrong}))


if __name__ == "__main__":
    main()
