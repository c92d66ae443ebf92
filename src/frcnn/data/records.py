"""`Record`: an image of a data set and its boxes. `Records`: the images of a split, held in a few arrays.

A million images cost megabytes instead of gigabytes, and threads and forked processes share them.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

Window = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of an image."""

ONLY_CLASS = "object"
"""The class of every object where annotations have no classes."""


class Record(NamedTuple):
    """One image of a data set and its annotation; no pixels."""

    image: Path
    boxes: np.ndarray
    """(G, 4) float32, pixels of the image with its EXIF orientation applied."""
    class_names: tuple[str, ...]
    """The class of each box."""
    ignore: np.ndarray
    """(G,) bool: objects that neither train the detector nor count in its evaluation."""
    size: tuple[int, int] | None = None
    """(height, width). As it is read: according to the annotation, None: it does not say. After the image was verified
    (`Dataset.records`): of the file."""
    window: Window | None = None
    """The part of the image that the record is about, whose pixels the boxes and the size are in; None: all of it."""


class Annotation(NamedTuple):
    """One object of an image, as `frcnn annotate` edits it."""

    box: tuple[float, float, float, float]
    """Pixels of the image with its EXIF orientation applied."""
    name: str
    """Its class."""
    ignore: bool = False
    source: str = ""
    """The text of the object in its format, so that fields that frcnn does not know are kept; empty: a new object."""


class _Arrays(NamedTuple):
    """N images with G boxes in all."""

    paths: bytes
    """All paths in UTF-8, joined."""
    path_ends: np.ndarray
    """(N + 1,): the path of image i is paths[path_ends[i] : path_ends[i + 1]]."""
    boxes: np.ndarray
    """(G, 4) float32."""
    labels: np.ndarray
    """(G,): indices into `class_names`."""
    ignore: np.ndarray
    """(G,) bool."""
    box_ends: np.ndarray
    """(N + 1,): the boxes of image i are boxes[box_ends[i] : box_ends[i + 1]]."""
    class_names: tuple[str, ...]
    sizes: np.ndarray
    """(N, 2) int32, height and width according to the annotations; 0: they do not say."""
    windows: np.ndarray
    """(N, 4) int32; 0: the whole image. (0, 4) if no record has a window, which is usual."""


class Records(Sequence[Record]):
    """A sequence of records. Each record is made when it is accessed; slices share the arrays."""

    def __init__(self, arrays: _Arrays, chosen: np.ndarray) -> None:
        self._arrays = arrays
        self._chosen = chosen

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Records":
        """Copy records into arrays; `Records` are returned as they are."""
        if isinstance(records, Records):
            return records
        sizes, windows = array("i"), array("i")
        paths, path_ends, box_ends = bytearray(), array("q", [0]), array("q", [0])
        boxes, labels, ignore = array("f"), array("i"), bytearray()
        names: dict[str, int] = {}
        with np.errstate(over="ignore", invalid="ignore"):  # formats read here; boxes not finite are reported later
            for record in records:
                paths += str(record.image).encode("utf-8", "surrogateescape")
                boxes.frombytes(np.ascontiguousarray(record.boxes, np.float32).tobytes())
                labels.extend(names.setdefault(name, len(names)) for name in record.class_names)
                ignore += np.asarray(record.ignore, bool).tobytes()
                path_ends.append(len(paths))
                box_ends.append(len(labels))
                sizes.extend(record.size or (0, 0))
                windows.extend(record.window or (0, 0, 0, 0))
        any_window = any(windows)
        arrays = _Arrays(
            bytes(paths),
            np.array(path_ends),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int32),
            np.frombuffer(ignore, bool).copy(),
            np.array(box_ends),
            tuple(names),
            np.array(sizes, np.int32).reshape(-1, 2),
            np.array(windows if any_window else (), np.int32).reshape(-1, 4),
        )
        return cls(arrays, np.arange(len(box_ends) - 1))

    @classmethod
    def of_arrays(
        cls,
        paths: Iterable[str],
        boxes: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        counts: np.ndarray,
        *,
        ignore: np.ndarray,
        sizes: np.ndarray,
    ) -> "Records":
        """Records from arrays, without making each record once.

        Args:
            paths: of the N images.
            boxes: (G, 4): those of the first image, then those of the second, ...
            labels: (G,) indices into `class_names`.
            counts: (N,) the number of boxes of each image.
            ignore: (G,) bool.
            sizes: (N, 2), height and width, or 0.
        """
        encoded = bytearray()
        ends = array("q", [0])
        for path in paths:
            encoded += path.encode("utf-8", "surrogateescape")
            ends.append(len(encoded))
        arrays = _Arrays(
            bytes(encoded),
            np.array(ends),
            boxes.astype(np.float32),
            labels.astype(np.int32),
            ignore.astype(bool),
            np.concatenate(([0], np.cumsum(counts))),
            tuple(class_names),
            sizes.astype(np.int32),
            np.zeros((0, 4), np.int32),
        )
        return cls(arrays, np.arange(len(counts)))

    @property
    def paths(self) -> list[str]:
        """The path of each image, without making the records."""
        return [self._path(number) for number in self._chosen.tolist()]

    def _path(self, number: int) -> str:
        arrays = self._arrays
        path = arrays.paths[arrays.path_ends[number] : arrays.path_ends[number + 1]]
        return path.decode("utf-8", "surrogateescape")

    @property
    def box_counts(self) -> np.ndarray:
        """(N,): the number of objects of each image."""
        ends = self._arrays.box_ends
        return ends[self._chosen + 1] - ends[self._chosen]

    @property
    def class_counts(self) -> dict[str, int]:
        """The number of objects of each class that has any, by name."""
        return self._counts(self._box_indices())

    @property
    def learned_counts(self) -> dict[str, int]:
        """`class_counts` of the objects that are not ignored. Other classes are not learned, e.g. KITTI's DontCare."""
        indices = self._box_indices()
        return self._counts(indices[~self._arrays.ignore[indices]])

    def _box_indices(self) -> np.ndarray:
        """The indices of the boxes of all chosen images, without a loop over images."""
        starts, counts = self._arrays.box_ends[self._chosen], self.box_counts
        return np.repeat(starts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) + np.arange(counts.sum())

    def _counts(self, indices: np.ndarray) -> dict[str, int]:
        names = self._arrays.class_names
        numbers = np.bincount(self._arrays.labels[indices], minlength=len(names))
        return dict(sorted((name, int(n)) for name, n in zip(names, numbers, strict=True) if n))

    def take(self, indices: Sequence[int] | np.ndarray) -> "Records":
        """The records with these indices, in this order."""
        return Records(self._arrays, self._chosen[np.asarray(indices, np.int64)])

    def of_classes(self, classes: Collection[str]) -> "Records":
        """The same images with the objects of these classes only."""
        if set(self.class_counts) <= set(classes):
            return self
        return Records.of(keep_objects(record, [name in classes for name in record.class_names]) for record in self)

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records":
        if isinstance(index, slice):
            return Records(self._arrays, self._chosen[index])
        arrays, number = self._arrays, self._chosen[index]
        own = slice(arrays.box_ends[number], arrays.box_ends[number + 1])
        x1, y1, x2, y2 = arrays.windows[number].tolist() if len(arrays.windows) else (0, 0, 0, 0)
        return Record(
            Path(self._path(number)),
            arrays.boxes[own].copy(),
            tuple(arrays.class_names[label] for label in arrays.labels[own]),
            arrays.ignore[own].copy(),
            (int(arrays.sizes[number, 0]), int(arrays.sizes[number, 1])) if arrays.sizes[number, 0] else None,
            (x1, y1, x2, y2) if x2 else None,
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))


def make_record(
    image: Path,
    objects: Iterable[tuple[Sequence[float], str]],
    size: tuple[int, int] | None = None,
    *,
    ignore: Sequence[bool] = (),
) -> Record:
    """One image with these boxes and class names.

    Args:
        ignore: whether each object is ignored; empty: none is.
    """
    objects = list(objects)
    boxes = np.array([box for box, _ in objects], np.float32).reshape(-1, 4)
    marks = np.array(ignore, bool) if len(ignore) else np.zeros(len(objects), bool)
    return Record(image, boxes, tuple(name for _, name in objects), marks, size)


def keep_objects(record: Record, keep: Sequence[bool] | np.ndarray) -> Record:
    """The record with some of its objects.

    Args:
        keep: (G,) bool, whether to keep each one.
    """
    chosen = np.asarray(keep, bool)
    names = tuple(name for name, kept in zip(record.class_names, chosen, strict=True) if kept)
    return record._replace(boxes=record.boxes[chosen], class_names=names, ignore=record.ignore[chosen])


def same_objects(one: Record, other: Record) -> bool:
    """Whether two annotations of an image have the same boxes and classes, in any order."""
    return sorted(zip(one.boxes.tolist(), one.class_names, strict=True)) == sorted(
        zip(other.boxes.tolist(), other.class_names, strict=True)
    )
