"""The built-in toy data set: drawings of refrigerator shelves with sixteen kinds of groceries.

A small stand-in for a photographed data set. It needs no download, a person can name what is in the
pictures, and the folders have the layout of the CNTK Fast R-CNN tutorial, so the reader that reads
them also reads real pictures annotated that way.

`pen` draws shapes on one sprite, `things` draws one kind of thing with it, `scenes` stands the things on shelves
and lights them.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frcnn.data.toy.pen import Rng
from frcnn.data.toy.scenes import draw_scene
from frcnn.data.toy.things import CLASSES, GROCERIES


def _deal(sizes: Sequence[int], rng: Rng) -> Iterator[list[str]]:
    """Deal the classes like cards, so that their counts over all hands differ by one at most."""
    deck: list[str] = []
    for size in sizes:
        while len(deck) < size:
            fresh = list(CLASSES)
            rng.shuffle(fresh)
            deck = fresh + deck  # the old cards are dealt first
        yield [deck.pop() for _ in range(size)]


def _write_images(folder: Path, hands: Iterable[list[str]], seed: int) -> None:
    folder.mkdir(parents=True)
    for number, hand in enumerate(hands):
        image, placed = draw_scene(hand, Rng(f"{seed}/{folder.name}/{number}"))
        image.save(folder / f"{number}.jpg", quality=90)
        if hand:
            groceries = [thing for thing in placed if thing.name in GROCERIES]
            boxes = ["\t".join(map(str, thing.box(*image.size))) for thing in groceries]
            (folder / f"{number}.bboxes.tsv").write_text("\n".join(boxes) + "\n", newline="\n")
            labels = [thing.name for thing in groceries]
            (folder / f"{number}.bboxes.labels.tsv").write_text("\n".join(labels) + "\n", newline="\n")


def write_toy(out: Path, *, seed: int = 0, num_train: int = 32, num_test: int = 8, num_negative: int = 4) -> None:
    """Write the toy data set in the folder layout of the CNTK tutorial.

    ``out/positive`` holds the training images, ``out/testImages`` the test images, and
    ``out/negative`` images without any of the classes. Beside each positive and test image ``0.jpg``
    lie ``0.bboxes.tsv``, with a line ``x1 y1 x2 y2`` (tab-separated whole pixels) for each box, and
    ``0.bboxes.labels.tsv`` with the class names in the same order. A box is continuous: its width is
    x2 - x1, and a W x H image spans [0, W] x [0, H].

    The folder appears at once when everything is written; an interrupted run leaves none.

    Args:
        out: Folder to write; it must not exist yet, or be empty.
        seed: The same seed gives the same bytes with the same versions of Pillow and NumPy.
        num_train: Number of training images.
        num_test: Number of test images.
        num_negative: Number of images without objects.

    Raises:
        FileExistsError: `out` is a file or a folder with something in it; nothing is written.
    """
    out = Path(out).resolve()
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not empty: name another folder, or delete this one")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        for folder, count in (("positive", num_train), ("testImages", num_test)):
            rng = Rng(f"{seed}/{folder}")
            _write_images(partial / folder, _deal([rng.randint(6, 10) for _ in range(count)], rng), seed)
        _write_images(partial / "negative", [[] for _ in range(num_negative)], seed)
        if out.exists():
            out.rmdir()  # Windows renames no folder onto another, not even onto an empty one
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
