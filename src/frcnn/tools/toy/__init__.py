"""The built-in toy data set: drawings of refrigerator shelves with sixteen kinds of groceries.

A small stand-in for a photographed data set. It needs no download, and a person can name the objects in its pictures.
Its folders have the layout of the CNTK Fast R-CNN tutorial.

`pen` draws shapes, `sprites` draws each kind of object with them, `scenes` puts the objects on shelves and lights them.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frcnn.files import atomic_dir
from frcnn.tools.toy.pen import Rng
from frcnn.tools.toy.scenes import draw_scene
from frcnn.tools.toy.sprites import CLASSES, GROCERIES


def _deal(sizes: Sequence[int], rng: Rng) -> Iterator[list[str]]:
    """Deal the classes like cards, so that their counts over all images differ by one at most."""
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
            groceries = [sprite for sprite in placed if sprite.name in GROCERIES]
            boxes = ["\t".join(map(str, sprite.box(*image.size))) for sprite in groceries]
            (folder / f"{number}.bboxes.tsv").write_text("\n".join(boxes) + "\n", encoding="utf-8", newline="\n")
            labels = [sprite.name for sprite in groceries]
            (folder / f"{number}.bboxes.labels.tsv").write_text(
                "\n".join(labels) + "\n", encoding="utf-8", newline="\n"
            )


def write_toy(out: Path, *, seed: int = 0, num_train: int = 32, num_test: int = 8, num_negative: int = 4) -> None:
    """Write the toy data set in the folder layout of the CNTK tutorial.

    ``out/positive`` holds the training images, ``out/testImages`` the test images, and
    ``out/negative`` images without any of the classes. Beside each positive and test image ``0.jpg``
    are ``0.bboxes.tsv``, with a line ``x1 y1 x2 y2`` (tab-separated whole pixels) for each box, and
    ``0.bboxes.labels.tsv`` with the class names in the same order. A box is continuous: its width is
    x2 - x1, and a W x H image spans [0, W] x [0, H].

    The folder is written whole or not at all.

    Args:
        out: a new or empty folder.
        seed: the same seed gives the same bytes with the same versions of Pillow and NumPy.
        num_train: number of training images.
        num_test: number of test images.
        num_negative: number of images without objects.

    Raises:
        FileExistsError: `out` is a file, or a folder that is not empty.
    """
    with atomic_dir(Path(out)) as partial:
        for folder, count in (("positive", num_train), ("testImages", num_test)):
            rng = Rng(f"{seed}/{folder}")
            _write_images(partial / folder, _deal([rng.randint(6, 10) for _ in range(count)], rng), seed)
        _write_images(partial / "negative", [[] for _ in range(num_negative)], seed)
