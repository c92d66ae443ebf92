"""Requests that wait for the detector are predicted together, in one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

from frcnn.data.tiles import OVERLAP
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.serve.budget import BusyError
from frcnn.serve.model import Model


class Options(NamedTuple):
    """How images are predicted. Only images with the same options share a batch."""

    tile: int | None = None
    overlap: float = OVERLAP


class _Job(NamedTuple):
    image: Image.Image
    model: Model
    options: Options
    threshold: float
    result: asyncio.Future[Detections]


OnBatch = Callable[[int, float], None]
"""Called with the number of images of a batch and its seconds."""


class Batcher:
    """Predicts what several requests ask for.

    A batch starts as soon as the detector is free. If other requests are still arriving, it first waits for them, at
    most `max_wait` seconds.

    Args:
        max_waiting: images that may wait.
        max_batch: images of a batch.
        max_wait: seconds.
        on_waiting: called with the number of images that wait, when it changes.
    """

    def __init__(
        self,
        *,
        max_waiting: int,
        max_batch: int,
        max_wait: float,
        on_batch: OnBatch = lambda images, seconds: None,
        on_waiting: Callable[[int], None] = lambda images: None,
    ) -> None:
        self._max_waiting, self._max_batch, self._max_wait = max_waiting, max_batch, max_wait
        self._on_batch, self._on_waiting = on_batch, on_waiting
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "detector")
        self.arriving = 0
        """Requests whose images are being received or decoded."""

    def require_room(self, images: int) -> None:
        """Check that more images may wait.

        Raises:
            BusyError: the queue has no place for `images` more.
        """
        if self._queue.qsize() + images > self._max_waiting:
            raise BusyError

    async def predict(
        self, images: Sequence[Image.Image], model: Model, options: Options, threshold: float
    ) -> list[Detections | Exception]:
        """The detections of each image, or its error.

        Raises:
            BusyError: too many images wait.
        """
        self.require_room(len(images))
        results: list[asyncio.Future[Detections]] = [asyncio.get_running_loop().create_future() for _ in images]
        for image, result in zip(images, results, strict=True):
            self._queue.put_nowait(_Job(image, model, options, threshold, result))
        self._on_waiting(self._queue.qsize())
        # If the request is given up, its results are canceled, and not computed any more.
        return await asyncio.gather(*results, return_exceptions=True)  # type: ignore[return-value]

    async def run(self) -> None:
        """Predict until the task is canceled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                for jobs in _groups(await self._next_batch()):
                    jobs = [job for job in jobs if not job.result.done()]
                    if not jobs:
                        continue
                    start = time.monotonic()
                    outcomes = await loop.run_in_executor(self._thread, _predict, jobs)
                    self._on_batch(len(jobs), time.monotonic() - start)
                    for job, outcome in zip(jobs, outcomes, strict=True):
                        _answer(job.result, outcome)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _next_batch(self) -> list[_Job]:
        jobs = [await self._queue.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._max_wait):
                while len(jobs) < self._max_batch and (self.arriving or not self._queue.empty()):
                    jobs.append(await self._queue.get())
        while len(jobs) < self._max_batch and not self._queue.empty():
            jobs.append(self._queue.get_nowait())
        self._on_waiting(self._queue.qsize())
        return jobs


def _groups(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Jobs that can be predicted together: of the same model and options. An image that is cut into tiles may take
    long, so it is alone, and after the others."""
    whole: dict[tuple[int, Options], list[_Job]] = {}
    tiled: list[list[_Job]] = []
    for job in jobs:
        if job.model.detector.runtime.resizing.tile if job.options.tile is None else job.options.tile:
            tiled.append([job])
        else:
            whole.setdefault((id(job.model), job.options), []).append(job)
    return [*whole.values(), *tiled]


def _answer(result: asyncio.Future[Detections], outcome: Detections | Exception) -> None:
    if result.done():  # canceled: the client is gone, or the time was over
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


def _predict(jobs: Sequence[_Job]) -> list[Detections | Exception]:
    """The outcome of each job of a group."""
    try:
        return _predict_together(jobs)
    except Exception as error:  # not of one image, so it is not known of which
        return [error] if len(jobs) == 1 else [_predict([job])[0] for job in jobs]


def _predict_together(jobs: Sequence[_Job]) -> list[Detections | Exception]:
    outcomes: list[Detections | Exception] = []
    detected: Iterable[Detections] = predict_each(
        jobs[0].model.detector.runtime,
        [job.image for job in jobs],
        threshold=min(job.threshold for job in jobs),
        tile=jobs[0].options.tile,
        overlap=jobs[0].options.overlap,
        on_error=outcomes.append,
    )
    for detections in detected:
        outcomes.append(detections[detections.confidence >= jobs[len(outcomes)].threshold])
    return outcomes
