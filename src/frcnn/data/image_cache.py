"""A cache of decoded images: training reads each image in every epoch, and decoding a large photo takes longer than the
rest of reading it.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from frcnn.data.images import read_to_resize
from frcnn.data.records import Window
from frcnn.memory import total_memory
from frcnn.resizing import Resizing

ImageReader = Callable[[Path, Resizing, Window | None], tuple[Image.Image, tuple[int, int]]]
"""As `read_to_resize`: an image or a window of one that will be resized, and its original (height, width)."""


_Key = tuple[Path, Resizing, Window | None]


def memory_limit() -> int:
    """Bytes of memory that a cache may fill: a quarter of what this process may use."""
    return int(min(total_memory(), sys.maxsize)) // 4


def disk_limit(folder: Path) -> int:
    """Bytes of files that a cache may write: half of what is free on the disk of this folder."""
    return shutil.disk_usage(folder).free // 2


class ImageCache:
    """Keeps decoded images in memory or in files, as long as there is room; the others are decoded each time.
    Several threads may read at once.

    Args:
        limit: bytes.
        folder: where the files are written; `close` removes it. None: the images are kept in memory.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self._free = limit
        self._folder = folder
        self._lock = threading.Lock()
        self._kept: dict[_Key, tuple[np.ndarray | Path, tuple[int, int]]] = {}
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
            folder.mkdir(parents=True)

    def read(self, path: Path, resizing: Resizing, window: Window | None = None) -> tuple[Image.Image, tuple[int, int]]:
        """`read_to_resize`, from the cache if the image is there. Errors are the same too."""
        kept = self._kept.get((path, resizing, window))
        if kept is None:
            image, original = read_to_resize(path, resizing, window)
            self._keep((path, resizing, window), image, original)
            return image, original
        pixels, original = kept
        return Image.fromarray(np.load(pixels) if isinstance(pixels, Path) else pixels), original

    def close(self) -> None:
        """Forget all images, and remove the files."""
        with self._lock:
            self._free = 0
            self._kept.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self, key: _Key, image: Image.Image, original: tuple[int, int]) -> None:
        pixels = np.asarray(image)
        with self._lock:
            if pixels.nbytes > self._free or key in self._kept:
                return
            self._free -= pixels.nbytes
            self._kept[key] = self._stored(pixels), original

    def _stored(self, pixels: np.ndarray) -> np.ndarray | Path:
        if self._folder is None:
            return pixels
        file = self._folder / f"{len(self._kept)}.npy"
        try:
            np.save(file, pixels)
        except OSError:  # the disk is full: keep this image in memory, and cache no more
            file.unlink(missing_ok=True)
            self._free = 0
            return pixels
        return file
