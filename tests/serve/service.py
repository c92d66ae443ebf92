"""A detector that does what a test says, and a service of it on a free port."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

import httpx
import numpy as np
from tiny import CLASSES, draw_image

from frcnn.data.transforms import PaddedBatch
from frcnn.detector import Detector
from frcnn.inference.description import ResultRules
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import BatchResult, Runtime
from frcnn.resizing import Resizing
from frcnn.serve.model import Model, Source

T = TypeVar("T")
TOKEN = "a-long-token"
BOX = (10.0, 20.0, 50.0, 60.0)


def run_async(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine, in a thread of its own, because Playwright has a running event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(scenario())).result()


class FakeRuntime(Runtime):
    """Finds a "red" object with a score of 0.9 at BOX and a "blue" one with a score of 0.4 in every image.

    Args:
        before: called in each detection with the images of the batch; it may wait, or raise.
    """

    def __init__(
        self, before: Callable[[PaddedBatch], None] = lambda batch: None, classes: Sequence[str] = CLASSES
    ) -> None:
        self._before, self._classes = before, tuple(classes)
        self.batches: list[int] = []
        """Numbers of images of the detections so far."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def resizing(self) -> Resizing:
        return Resizing("shorter_side", width=0, height=0, shorter_side=96, longer_side=128, divisor=1, antialias=True)

    @property
    def result_settings(self) -> ResultRules:
        return ResultRules(0.5, 0.0, 10, 0.5, False)

    @property
    def batch_size(self) -> int:
        return 4

    @property
    def parallel_calls(self) -> int:
        return 1

    def detect(self, batch: PaddedBatch) -> BatchResult:
        self.batches.append(len(batch.images))
        self._before(batch)
        boxes = np.array([BOX, BOX], np.float32)
        red, blue = len(self.classes) - 1, 0
        return BatchResult(
            [
                Detections(
                    boxes,
                    np.array([0.9, 0.4], np.float32),
                    np.array([red, blue]),
                    self.classes,
                    size=(round(float(height)), round(float(width))),
                )
                for height, width in batch.original_sizes
            ],
            None,
        )


def model_of(runtime: Runtime, version: str = "0123456789abcdef") -> Model:
    return Model(Detector(runtime), "model.onnx", version, time.time())


NOWHERE = Source("coco:none")
"""Of a model that has no file."""


def photo(seed: int = 0, form: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file of 128 x 96 pixels."""
    content = BytesIO()
    draw_image([("red", BOX)], seed=seed).save(content, form, **options)
    return content.getvalue()


class Service(NamedTuple):
    """A running service."""

    address: str
    client: httpx.Client
    thread: threading.Thread
    stop: Callable[[], None]


Serve = Callable[..., Service]
"""Starts a service: of a runtime, with the arguments of `make_app`."""
