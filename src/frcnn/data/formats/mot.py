"""MOT challenge: a text file for each sequence, with a line for each object of a frame.

A line is `frame,id,x,y,width,height,flag,class,...` in pixels. The frames are the images of SEQ/img1 for SEQ/gt/gt.txt
(MOT challenge, DanceTrack, CVAT), or those of a folder SEQ for SEQ.txt (VisDrone's videos), by the numbers in their
names. An object with the flag 0 is ignored. A frame without lines has no objects. Lines with the id -1, or a confidence
in place of the flag, are detections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frcnn.data.formats.frames import frame_shift, frames_in, named
from frcnn.data.formats.lines import read_lines, to_numbers
from frcnn.data.formats.names_files import names_in
from frcnn.data.formats.source import Source, by_split, readable
from frcnn.data.formats.text_boxes import VISDRONE
from frcnn.data.problems import OnProblem, invalid_object, missing_image
from frcnn.data.records import ONLY_CLASS, Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "MOT challenge: SEQ/gt/gt.txt with frame,id,x,y,width,height,flag,class, and SEQ/img1/000001.jpg"
SUFFIXES = frozenset({".txt"})
_COLUMNS = (9, 10)  # the latter: VisDrone's videos, and MOT15, without classes
_PEDESTRIANS = (
    *("pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person"),
    *("distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd"),
)
"""The classes of MOT challenge, from 1."""
_IGNORED = frozenset({"ignored regions", "others"})
_WHOLE = 4000  # bytes: the last line of a longer start may be cut


class _Object(NamedTuple):
    frame: int
    box: tuple[float, float, float, float]
    class_number: int
    """-1: it has none."""
    ignore: bool
    columns: int


def recognizes(file: Path, start: bytes) -> bool:
    lines = start.decode("utf-8", "replace").splitlines()[: -1 if len(start) > _WHOLE else None]
    objects = [_object(line) for line in lines if line.strip()]
    return bool(objects) and None not in objects


def _object(line: str) -> _Object | None:
    cells = re.split(r"\s*,\s*", line.strip())
    numbers = to_numbers(cells)
    if numbers is None or len(numbers) not in _COLUMNS:
        return None
    frame, track, x, y, width, height, flag, number, *_ = numbers
    if not (frame >= 0 and track >= 0 and track % 1 == 0 and flag in (0, 1)):
        return None
    if frame % 1 or number % 1:  # the latter: a place in the world (MOT15)
        number = -1
    return _Object(int(frame), (x, y, x + width, y + height), int(number), flag == 0, len(numbers))


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """Files without frames are something else."""
    frames = {file: _frames(file, tree) for file in files}
    return by_split(
        [file for file in files if frames[file]],
        lambda file: tree.split_of(file) or tree.split_of(next(iter(frames[file].values())).parent),
    )


def _frames(file: Path, tree: Tree) -> dict[int, Path]:
    if file.stem == file.parent.name:  # gt/gt.txt
        return frames_in(lambda folder: folder.is_relative_to(file.parent.parent), tree)
    return frames_in(named(file.stem, tree), tree)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The frames of a split, in the order of their numbers."""
    listed = names_in(tree)
    for file, lines in readable(source.files, read_lines, on_problem, images=0):
        by_frame: dict[int, list[_Object]] = {}
        for number, line in enumerate(lines, start=1):
            one = _object(line)
            if one is not None:
                by_frame.setdefault(one.frame, []).append(one)
            elif line.strip():
                message = (
                    f"'{line.strip()}' must be frame,id,x,y,width,height,flag,class,visibility; the flag is 0 or 1"
                )
                on_problem(invalid_object(file, message, f"line {number}"))
        frames = _frames(file, tree)
        shift = frame_shift(by_frame, frames)
        for frame in sorted(by_frame):
            if frame + shift not in frames:
                lost = [_name(one, listed) for one in by_frame[frame]]
                on_problem(missing_image(file, f"there is no image of frame {frame}", lost=lost))
        for frame in sorted(frames):
            objects = by_frame.get(frame - shift, [])
            names = [_name(one, listed) for one in objects]
            ignore = [one.ignore or name in _IGNORED for one, name in zip(objects, names, strict=True)]
            boxes = [one.box for one in objects]
            yield make_record(frames[frame], zip(boxes, names, strict=True), ignore=ignore)


def _name(one: _Object, listed: Sequence[str]) -> str:
    """The class of an object; the numbers of MOT challenge and of lists count from 1."""
    number = one.class_number
    if number < 0:
        return ONLY_CLASS
    names = ("ignored regions", *(listed or _PEDESTRIANS)) if listed or one.columns == min(_COLUMNS) else VISDRONE
    return names[number] if number < len(names) else str(number)
