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


class Records(Sequence[Record]):
    """A sequence of records that makes each one when it is asked for. Slices share the arrays."""

    def __init__(self, arrays: _Arrays, chosen: np.ndarray) -> None:
        self._arrays = arrays
        self._chosen = chosen

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Records":
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
        arrays = _Arrays(
            bytes(paths),
            np.array(path_ends),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int32),
            np.frombuffer(difficult, bool).copy(),
            np.array(box_ends),
            tuple(names),
        )
        return cls(arrays, np.arange(len(box_ends) - 1))

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
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))
