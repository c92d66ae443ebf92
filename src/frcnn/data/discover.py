"""Which data format a folder has, where its annotations are, and which splits they have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from frcnn.data.formats import FORMATS, NOT_HERE
from frcnn.data.formats.source import Source
from frcnn.data.problems import Problem, common_areas
from frcnn.data.records import Records
from frcnn.data.tree import Tree
from frcnn.files import expand_home
from frcnn.messages import listed, plural, train_command

if TYPE_CHECKING:
    from frcnn.config import DataSettings

_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"})
_PACKED = frozenset(
    {".tfrecord", ".tfrecords", ".record", ".parquet", ".arrow", ".lmdb", ".mdb", ".h5", ".hdf5", ".mat"}
)
"""Files of other programs that have images in them."""
_ANNOTATION_DIRS = frozenset({"annotations", "annotation", "labels", "json", "xml", "csv", "configs", "config", "cfg"})
"""If one annotation file is named, the images may be beside its folder of such a name."""
_LIKELY = {
    ".xml": ("pascal_voc", "cvat", "imglab"),
    ".json": ("coco", "labelme", "via"),
    ".txt": ("yolo", "kitti"),
    ".yaml": ("yolo",),
    ".csv": ("csv", "via"),
    ".tsv": ("csv", "folders"),
}
"""The formats that a user with files of this suffix probably means."""
_STRAY = 0.1
"""Annotations of fewer images than this fraction of the data are strays."""
_TWIN_IOU = 0.5
"""Boxes in two formats that overlap by this IoU are one object."""
_COMPARED = 300  # images that two formats share, and boxes of each; enough to tell, and quick
_SHOWN = 3  # files that a note names
_START = 4096  # bytes of a file without a suffix
_UNKNOWN = frozenset({".json", ".xml", ".csv", ".tsv"})
"""Files with these suffixes are named if no format recognizes them. Text and YAML files often are no annotations."""
_AUXILIARY = frozenset({"meta.json", "classes.csv"})
"""They belong to annotations: Supervisely's, and RetinaNet's CSV."""


class Discovery(NamedTuple):
    """What `discover` understood of a folder."""

    tree: Tree
    format: str
    """A name of `FORMATS`."""
    sources: list[Source]
    """At least one, each of another split."""
    notes: list[str]
    """What is not used, in words."""
    read: Mapping[str, tuple[Records, list[Problem]]]
    """The records of splits that were read to compare formats, and what is wrong with them."""
    annotated_elsewhere: Mapping[str, str]
    """By path, the images that have no objects in `format`, but in another format: its name. They are no background."""

    @property
    def splits(self) -> list[str]:
        """The names of the splits, e.g. "train2017"."""
        return [source.split for source in self.sources]


def discover(data: Path, settings: DataSettings, *, new: str | None = None) -> Discovery:
    """Find the annotations of a data set by what is in its files.

    Args:
        data: the folder; or one annotation file in it, e.g. data.yaml or a COCO file, to use no other.
        settings: `format` chooses one format.
        new: the format of a folder of images without annotations; None: such a folder is an error.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: no format fits, or two formats contradict each other.
    """
    if settings.format is not None and settings.format not in FORMATS:
        raise ValueError(
            f"data.format: there is no format '{settings.format}'; choose one of {', '.join(FORMATS)}{NOT_HERE}"
        )
    tree, files = _open(data)
    found, notes = _sources(tree, files, settings)
    if settings.format is not None and settings.format not in found:
        other = f"looks like {' and '.join(found)}" if found else "has no known layout"
        raise ValueError(
            f"{data}: is not {settings.format} ({FORMATS[settings.format].LAYOUT}); it {other}{_seen(tree)}"
        )
    if not found:
        if new is not None and tree.images:
            return Discovery(tree, new, [], _skipped(tree), {}, {})
        raise ValueError(f"{data}: {_why_nothing(tree)}; {_layouts(tree)}")
    name, *others = found
    if not others:
        return Discovery(tree, name, found[name], [*notes, *_skipped(tree)], {}, {})
    contents = {each: _content(each, sources, tree, settings) for each, sources in found.items()}
    if settings.format is None:
        name, others_notes = _choose(data, contents)
        notes += others_notes
    elsewhere = {
        path: other
        for other, content in contents.items()
        for path in content.with_objects - contents[name].with_objects
        if path in contents[name].places
    }
    return Discovery(tree, name, found[name], [*notes, *_skipped(tree)], contents[name].read, elsewhere)


def _open(data: Path) -> tuple[Tree, list[Path]]:
    """The tree, and the files in it that may be annotations."""
    data = expand_home(data)
    if not data.is_file():
        tree = Tree(data)
        return tree, tree.files
    if data.suffix.lower() in _ARCHIVES:
        raise ValueError(f"{data}: is an archive; unpack it and name the folder that comes out")
    forms = [form for form in FORMATS.values() if data.suffix.lower() in form.SUFFIXES]
    if not data.suffix:  # any file can lack a suffix
        with data.open("rb") as opened:
            start = opened.read(_START)
        forms = [form for form in forms if form.recognizes(data, start)]
    if not forms:
        raise ValueError(f"{data}: is neither a folder nor an annotation file; name the folder of the data set")
    folder = data.resolve().parent
    tree = Tree(folder)
    if not tree.images and folder.name.lower() in _ANNOTATION_DIRS:
        tree = Tree(folder.parent)
    return tree, [data.resolve()]


def _sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> tuple[dict[str, list[Source]], list[str]]:
    """The sources of each format that recognizes files, and notes on formats that cannot be read. A file is of the
    first format that recognizes it; the format that the settings name comes first.

    Raises:
        ValueError: the files of the named format cannot be read; or those of some format, and there is no other one.
    """
    forms = {name: FORMATS[name] for name in sorted(FORMATS, key=lambda name: name != settings.format)}
    recognized: dict[str, list[Path]] = {}
    unknown: list[Path] = []
    for file in files:
        suffix = file.suffix.lower()
        start: bytes | None = None
        for name, form in forms.items():
            if suffix in form.SUFFIXES:
                start = tree.start(file) if start is None else start
                if form.recognizes(file, start):
                    recognized.setdefault(name, []).append(file)
                    break
        else:
            if suffix in _UNKNOWN and file.name.lower() not in _AUXILIARY:
                unknown.append(file)
    found: dict[str, list[Source]] = {}
    errors: dict[str, ValueError] = {}
    for name in forms:
        try:
            sources = forms[name].sources(tree, recognized[name], settings) if name in recognized else []
        except ValueError as error:
            errors[name] = error
            continue
        if sources:
            found[name] = sources
    if settings.format in errors or (errors and not found):
        raise next(iter(errors.values()))
    notes = [str(error) for error in errors.values()]
    if unknown:
        shown = listed([tree.relative(file).as_posix() for file in unknown], _SHOWN)
        notes.append(f"{plural(len(unknown), 'file')} without annotations that frcnn recognizes ({shown})")
    return found, notes


class _Content(NamedTuple):
    """What the annotations of one format say."""

    read: dict[str, tuple[Records, list[Problem]]]
    """The records of each split, and what is wrong with them."""
    places: dict[str, tuple[Records, int]]
    """By path of the image, the records that it is in, and its index there."""
    with_objects: frozenset[str]
    """The paths of the images that have objects."""
    objects: int
    """How many there are. Those of an image that several splits have count once."""
    command: str
    """How to train on these annotations."""

    def boxes(self, path: str) -> np.ndarray:
        """(G, 4): the boxes of an image."""
        records, index = self.places[path]
        return records[index].boxes


def _choose(data: Path, contents: Mapping[str, _Content]) -> tuple[str, list[str]]:
    """The format that says most: most images with objects, then most images, objects and splits. The others are set
    aside.

    A format contradicts the chosen one in two cases. It has objects in images without objects in the chosen one, at
    least a tenth as many images as the chosen one has. Or the boxes of their shared images differ: of the format with
    fewer objects in them, more than half of the objects have no box in the other format with an IoU of at least 0.5. A
    format with less than a tenth of the images contradicts nothing.

    Raises:
        ValueError: another format contradicts the chosen one.
    """

    def amount(name: str) -> tuple[int, int, int, int]:
        content = contents[name]
        return len(content.with_objects), len(content.places), content.objects, len(content.read)

    best = max(contents, key=amount)
    ask = f"choose one with --format (data.format) or name its file: {{}} or {contents[best].command}"
    notes = []
    for name, content in contents.items():
        if name == best or not content.places:
            continue
        shared = content.with_objects & contents[best].with_objects
        own = len(content.with_objects) - len(shared)
        few = _STRAY * len(contents[best].places)
        if own >= few:
            raise ValueError(
                f"{data}: has annotations in two formats for different images: {best} for "
                f"{plural(len(contents[best].with_objects), 'image')}, {name} for {len(content.with_objects)}, "
                f"{len(shared)} of them the same; {ask.format(content.command)}"
            )
        different, compared = _differences(content, contents[best], sorted(shared))
        if 2 * different > compared and len(content.places) >= few:
            raise ValueError(
                f"{data}: has annotations in two formats for the same images, {best} and {name}, with different boxes: "
                f"{different} of {plural(compared, 'object')} have no box in the other format that overlaps them by an "
                f"IoU of {_TWIN_IOU}; {ask.format(content.command)}"
            )
        only = f" and of {plural(own, 'image')} without objects in {best}" if own else ""
        objects = f"{plural(content.objects, 'object')}; {best} has {contents[best].objects}"
        notes.append(
            f"{name} annotations of {len(shared)} of the same images{only} ({objects}); --format {name} uses them"
        )
    return best, notes


def _content(name: str, sources: Sequence[Source], tree: Tree, settings: DataSettings) -> _Content:
    read: dict[str, tuple[Records, list[Problem]]] = {}
    places: dict[str, tuple[Records, int]] = {}
    counts: Counter[str] = Counter()
    for source in sources:
        problems: list[Problem] = []
        try:
            records = Records.of(FORMATS[name].read(source, tree, settings, problems.append))
        except (ValueError, OSError):
            continue
        read[source.split] = records, problems
        paths = records.paths
        places |= {path: (records, index) for index, path in enumerate(paths)}
        counts |= Counter(dict(zip(paths, records.box_counts.tolist(), strict=True)))  # of each image, the most
    first, *others = dict.fromkeys(file for source in sources for file in source.files)
    command = train_command(tree.root, "--format", name) if others else train_command(first)
    return _Content(read, places, frozenset(+counts), counts.total(), command)


def _differences(one: _Content, other: _Content, shared: Sequence[str]) -> tuple[int, int]:
    """How many objects of shared images have no twin, and of how many, in the format with fewer of them."""
    pairs = [(one.boxes(path), other.boxes(path)) for path in shared[:: _step(len(shared))]]
    if sum(len(first) for first, _ in pairs) > sum(len(second) for _, second in pairs):
        pairs = [(second, first) for first, second in pairs]
    pairs = [(first[:: _step(len(first))], second) for first, second in pairs]
    return sum(int((~_has_twin(*pair)).sum()) for pair in pairs), sum(len(first) for first, _ in pairs)


def _step(count: int) -> int:
    """The step that chooses at most `_COMPARED` of `count`."""
    return math.ceil(count / _COMPARED) or 1


def _has_twin(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(G,) bool: which boxes (G, 4) overlap some box of `others` (K, 4). Each is compared on its own, because all
    pairs at once may fill the memory."""
    areas, others_areas = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others))
    others = np.asfortranarray(others)

    def has_twin(box: np.ndarray, area: float) -> bool:
        common = common_areas(box, others)
        return bool((common >= _TWIN_IOU * (area + others_areas - common)).any())

    return np.array(list(map(has_twin, boxes, areas)), bool)


def _skipped(tree: Tree) -> list[str]:
    return [f"{kind} ({count})" for kind, count in tree.skipped.items()]


def _why_nothing(tree: Tree) -> str:
    if not tree.images and not tree.files:
        return "the folder is empty"
    if not tree.images:
        packed = sorted({file.suffix.lower() for file in tree.files} & (_PACKED | _ARCHIVES))
        advice = f"; frcnn does not read {', '.join(packed)}: unpack the images, or export them with COCO's JSON"
        return f"the folder has no images{_seen(tree)}{advice if packed else ''}"
    if not tree.files:
        images = plural(len(tree.images), "image")
        return f"found {images}, but no annotations; draw boxes with `frcnn annotate {tree.root}`"
    heads = [
        f"; {tree.relative(file)} has the columns {tree.start(file).decode(errors='replace').splitlines()[0][:120]}"
        for file in tree.with_suffix(".csv", ".tsv")
        if tree.start(file).strip()
    ]
    return f"no annotation file has a known format{_seen(tree)}{heads[0] if heads else ''}"


def _seen(tree: Tree) -> str:
    """The most frequent kinds of files, for messages."""
    kinds = Counter((file.suffix.lower() or file.name, file.parent) for file in tree.files)
    kinds.update(("image", image.parent) for image in tree.images)
    seen = [
        f"{plural(count, kind if kind == 'image' else f'{kind} file')} in {_short(folder, tree)}"
        for (kind, folder), count in kinds.most_common(4)
    ]
    return f" (found: {', '.join(seen)})" if seen else ""


def _short(folder: Path, tree: Tree) -> str:
    return "the folder itself" if folder == tree.root else f"{tree.relative(folder)}/"


def _layouts(tree: Tree) -> str:
    """The three layouts that fit best what is there."""
    suffixes = Counter(file.suffix.lower() for file in tree.files)
    likely = [name for suffix, _ in suffixes.most_common() for name in _LIKELY.get(suffix, ())]
    names = [name for name in dict.fromkeys([*likely, "coco", "yolo", "pascal_voc"]) if name in FORMATS][:3]
    layouts = "; or ".join(f"{name}: {FORMATS[name].LAYOUT}" for name in names)
    others = ", ".join(name for name in FORMATS if name not in names)
    return f"likely layouts: {layouts}; frcnn also reads {others}{NOT_HERE}"
