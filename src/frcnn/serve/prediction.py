"""From the images of a request to detections, within the limits of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from PIL import Image
from starlette.requests import ClientDisconnect, Request

from frcnn.data.tiles import count_windows
from frcnn.inference.results import Detections
from frcnn.serve.batching import Batcher, Options
from frcnn.serve.bodies import ImageError, Upload, decode, require_decodable
from frcnn.serve.budget import Budget, Share
from frcnn.serve.limits import Limits
from frcnn.serve.metrics import ServiceMetrics
from frcnn.serve.model import Model

T = TypeVar("T")
_DECODERS = 4
"""Images that are decoded at the same time."""


class Query(NamedTuple):
    """What a request asks for."""

    threshold: float
    classes: frozenset[str] | None
    """None: all."""
    options: Options


class Prediction:
    """Decodes and predicts, and counts both.

    Args:
        max_wait: seconds that a batch waits for requests that are arriving.
    """

    def __init__(self, limits: Limits, metrics: ServiceMetrics, *, max_batch: int, max_wait: float) -> None:
        self._limits, self._metrics = limits, metrics
        self.budget = Budget(limits.memory_bytes)
        self._batcher = Batcher(
            max_waiting=limits.waiting,
            max_batch=max_batch,
            max_wait=max_wait,
            on_batch=self._count_batch,
            on_waiting=metrics.waiting.set,
        )
        self._decoders = ThreadPoolExecutor(_DECODERS, "decoder")  # not more, also if requests are given up

    async def run(self) -> None:
        """Predict until the task is canceled."""
        try:
            await self._batcher.run()
        finally:
            self._decoders.shutdown(wait=False, cancel_futures=True)

    def require_room(self) -> None:
        """Check that one more image may wait.

        Raises:
            BusyError: the queue is full.
        """
        self._batcher.require_room(1)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """While a request is received and decoded. A batch waits a moment for it."""
        self._batcher.arriving += 1
        try:
            yield
        finally:
            self._batcher.arriving -= 1

    async def decode(
        self, uploads: Sequence[Upload], model: Model, query: Query, memory: Share
    ) -> list[Image.Image | ImageError]:
        """The images; an error for each one that cannot be read, or would be cut into too many tiles.

        Raises:
            BusyError, TooMuchError: there is not enough memory.
        """
        loop, images, tiles = asyncio.get_running_loop(), list[Image.Image | ImageError](), 0
        for upload in uploads:
            try:
                image = await loop.run_in_executor(self._decoders, self._decoded, upload, memory)
                tiles += self._tiles(image, model, query.options)
                if tiles > self._limits.tiles:
                    rule = f"a request may have {self._limits.tiles}; use larger ones, or send fewer images"
                    raise ImageError(f"tile: the images have {tiles} tiles; {rule}")
            except ImageError as error:
                images.append(error)
            else:
                images.append(image)
        return images

    def _decoded(self, upload: Upload, memory: Share) -> Image.Image:
        memory.take(require_decodable(upload, self._limits))
        return decode(upload)

    def _tiles(self, image: Image.Image, model: Model, options: Options) -> int:
        tile = model.detector.runtime.resizing.tile if options.tile is None else options.tile
        return count_windows((image.height, image.width), tile, options.overlap) if tile else 0

    async def detect(
        self, images: Sequence[Image.Image | ImageError], model: Model, query: Query
    ) -> list[Detections | Exception]:
        """The detections in each image, or its error.

        Raises:
            BusyError: too many images wait.
        """
        readable = [image for image in images if isinstance(image, Image.Image)]
        found = iter(await self._batcher.predict(readable, model, query.options, query.threshold) if readable else [])
        results: list[Detections | Exception] = []
        for image in images:
            result = next(found) if isinstance(image, Image.Image) else image
            if isinstance(result, Detections):
                result = _of_classes(result, query.classes)
                self._metrics.detections.inc(len(result))
            self._metrics.images.labels("ok" if isinstance(result, Detections) else "error").inc()
            results.append(result)
        return results

    def _count_batch(self, images: int, seconds: float) -> None:
        self._metrics.batch_images.observe(images)
        self._metrics.batch_seconds.observe(seconds)


def _of_classes(detections: Detections, classes: frozenset[str] | None) -> Detections:
    if classes is None or not len(detections):
        return detections
    return detections[[name in classes for name in detections.class_name.tolist()]]


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of some work; it is canceled when the client is gone. The body must have been read.

    Raises:
        ClientDisconnect: the client is gone.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
