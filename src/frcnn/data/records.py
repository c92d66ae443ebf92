"""The records of a data set in a few arrays, so that a million images cost megabytes, not gigabytes, and threads and
processes started by fork share them.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from frcnn.types import Record


class _Arrays(NamedTuple):
    """Of N images with G boxes in all."""

    paths: bytes
    """UTF-8, one after the other."""
    path_ends: np.ndarray
    """(N + 1,): image i's path is paths[path_ends[i] : path_ends[i + 1]]; so for boxes."""
    boxes: np.ndarray
    """(G, 4) float32."""
    labels: np.ndarray
    """(G,): which of `names`."""
    difficult: np.ndarray
    """(G,) bool."""
    box_ends: np.ndarray
    names: tuple[str, ...]
    sizes: np.ndarray
    """(N, 2) int32, height and width as the annotations say, 0 where they do not."""


class Records(Sequence[Record]):
    """A sequence of records that makes each one when it is asked for. Slices share the arrays."""

    def __init__(self, arrays: _Arrays, chosen: np.ndarray) -> None:
        self._arrays = arrays
        self._chosen = chosen

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Records":
        if isinstance(records, Records):
            return records
        sizes = array("i")
        paths, path_ends, box_ends = bytearray(), array("q", [0]), array("q", [0])
        boxes, labels, difficult = array("f"), array("i"), bytearray()
        names: dict[str, int] = {}
        for record in records:
            paths += str(record.image).encode("utf-8", "surrogateescape")
            boxes.frombytes(np.ascontiguousarray(record.boxes, np.float32).tobytes())
            labels.extend(names.setdefault(name, len(names)) for name in record.names)
            difficult += np.asarray(record.difficult, bool).tobytes()
            path_ends.append(len(paths))
            box_ends.append(len(labels))
            sizes.extend(record.size or (0, 0))
        arrays = _Arrays(
            bytes(paths),
            np.array(path_ends),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int32),
            np.frombuffer(difficult, bool).copy(),
            np.array(box_ends),
            tuple(names),
            np.array(sizes, np.int32).reshape(-1, 2),
        )
        return cls(arrays, np.arange(len(box_ends) - 1))

    @classmethod
    def of_arrays(
        cls,
        paths: Iterable[str],
        boxes: np.ndarray,
        labels: np.ndarray,
        names: Sequence[str],
        counts: np.ndarray,
        *,
        difficult: np.ndarray,
        sizes: np.ndarray,
    ) -> "Records":
        """Of what is in arrays already, which for a million images saves making each record once.

        Args:
            paths: of the N images, one after the other.
            boxes: (G, 4), those of the first image, then those of the second, ...
            labels: (G,) places in `names`.
            counts: (N,) how many boxes an image has.
            difficult: (G,) bool.
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
            difficult.astype(bool),
            np.concatenate(([0], np.cumsum(counts))),
            tuple(names),
            sizes.astype(np.int32),
        )
        return cls(arrays, np.arange(len(counts)))

    @property
    def box_counts(self) -> np.ndarray:
        """(N,): objects of each image."""
        ends = self._arrays.box_ends
        return ends[self._chosen + 1] - ends[self._chosen]

    @property
    def class_counts(self) -> dict[str, int]:
        """Objects of each class, for all classes that have one, in order of name."""
        arrays = self._arrays
        starts = arrays.box_ends[self._chosen]
        counts = self.box_counts
        # the places of all chosen images' boxes, without a loop over images
        places = np.repeat(starts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) + np.arange(counts.sum())
        found = np.bincount(arrays.labels[places], minlength=len(arrays.names))
        return dict(sorted((name, int(n)) for name, n in zip(arrays.names, found, strict=True) if n))

    def take(self, indices: Sequence[int] | np.ndarray) -> "Records":
        """Those at these places, in this order."""
        return Records(self._arrays, self._chosen[np.asarray(indices, np.int64)])

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
        path = arrays.paths[arrays.path_ends[number] : arrays.path_ends[number + 1]]
        own = slice(arrays.box_ends[number], arrays.box_ends[number + 1])
        return Record(
            Path(path.decode("utf-8", "surrogateescape")),
            arrays.boxes[own].copy(),
            tuple(arrays.names[label] for label in arrays.labels[own]),
            arrays.difficult[own].copy(),
            (int(arrays.sizes[number, 0]), int(arrays.sizes[number, 1])) if arrays.sizes[number, 0] else None,
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))


def make_record(
    image: Path, objects: Iterable[tuple[Sequence[float], str]], size: tuple[int, int] | None = None
) -> Record:
    """One image with these boxes and class names, none of them difficult."""
    found = list(objects)
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    return Record(image, boxes, tuple(name for _, name in found), np.zeros(len(found), bool), size)
