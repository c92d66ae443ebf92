"""Which classes are told apart by their orientation: the mirror image of one looks like another.

Letters: G objects, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from frcnn.data.images import read_to_resize
from frcnn.data.prefetch import READ_THREADS
from frcnn.data.records import Record
from frcnn.resizing import Resizing

SIDE = 16
"""Pixels of a thumbnail's side: enough to tell an arrow from its mirror image."""
_IMAGES = 300
"""About how many images are read."""
_OBJECTS = 40
"""Largest number of objects of a class that are compared."""
_ENOUGH = 10
"""Objects of a class, to say what it looks like."""
_KNOWN = 0.8
"""Least fraction of the objects of a class that get their own class."""
_MIRRORED = 0.6
"""Least fraction of the objects of a class whose mirror images get the other class."""
_READ = Resizing("shorter_side", shorter_side=480, longer_side=640)


def mirrored_by_looks(records: Sequence[Record]) -> tuple[str, ...]:
    """Classes whose mirror images look like objects of another class, sorted, e.g. arrows to the left and to the right.

    Each object gets the class of the most similar thumbnail of another object. Two classes A and B are returned if at
    least 80% of the objects of A get class A, at least 60% of their mirror images get class B, and the same holds from
    B to A.

    Args:
        records: the training images.
    """
    chosen = _chosen(records)
    if not chosen:
        return ()
    by_class: dict[str, list[np.ndarray]] = {}
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for found in pool.map(_thumbnails, (records[index] for index in chosen)):
            for name, thumbnails_of_class in found.items():
                kept = by_class.setdefault(name, [])
                kept += thumbnails_of_class[: _OBJECTS - len(kept)]
    classes = sorted(name for name, each in by_class.items() if len(each) >= _ENOUGH)
    if len(classes) < 2:
        return ()
    counts = [len(by_class[name]) for name in classes]
    thumbnails = np.concatenate([np.stack(by_class[name]) for name in classes])
    labels = np.repeat(np.arange(len(classes)), counts)
    plain = _most_similar(thumbnails, thumbnails, labels)
    mirrored = _most_similar(thumbnails[:, :, ::-1], thumbnails, labels)
    turns_into: dict[int, int] = {}
    for label in range(len(classes)):
        votes = np.bincount(mirrored[labels == label], minlength=len(classes)) / counts[label]
        if (plain[labels == label] == label).mean() >= _KNOWN and votes.max() >= _MIRRORED:
            turns_into[label] = int(votes.argmax())
    pairs = {label for label, other in turns_into.items() if other != label and turns_into.get(other) == label}
    return tuple(classes[label] for label in sorted(pairs))


def _chosen(records: Sequence[Record]) -> list[int]:
    """Indices of images with enough objects of each class, taken evenly from all; none if there are not two classes."""
    of_class: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        for name in np.array(record.class_names, str)[~record.ignore].tolist():
            of_class.setdefault(name, []).append(index)
    enough = [images for images in of_class.values() if len(images) >= _ENOUGH]
    if len(enough) < 2:
        return []
    count = min(_OBJECTS, max(_ENOUGH, _IMAGES // len(enough)))
    return sorted({images[number * len(images) // count] for images in enough for number in range(count)})


def _most_similar(queries: np.ndarray, thumbnails: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(G,): the label of the most similar thumbnail of another object."""
    similarity = queries.reshape(len(queries), -1) @ thumbnails.reshape(len(thumbnails), -1).T
    np.fill_diagonal(similarity, -np.inf)
    return labels[similarity.argmax(axis=1)]


def _thumbnails(record: Record) -> dict[str, list[np.ndarray]]:
    """Class -> gray thumbnails of its first objects, with mean 0 and length 1; objects of one color have none."""
    image, (height, width) = read_to_resize(record.image, _READ)
    gray = image.convert("L")
    found: dict[str, list[np.ndarray]] = {}
    for box, name, ignore in zip(record.boxes, record.class_names, record.ignore, strict=True):
        x1, y1, x2, y2 = box * np.tile((image.width / width, image.height / height), 2)
        region = (max(x1, 0), max(y1, 0), min(x2, image.width), min(y2, image.height))
        kept = found.setdefault(name, [])
        if ignore or len(kept) == _OBJECTS or region[2] - region[0] < 2 or region[3] - region[1] < 2:
            continue
        pixels = np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=region), np.float32)
        pixels -= pixels.mean()
        length = np.linalg.norm(pixels)
        if length > 0:
            kept.append(pixels / length)
    return found
