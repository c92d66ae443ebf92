"""Requests that wait for the detector are predicted together, in one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

from frcnn.detector import Detector
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.serve.limits import Limits


class Options(NamedTuple):
    """How images are predicted. Only images with the same options share a batch."""

    tile: int | None = None
    overlap: float = 0.2


class BusyError(Exception):
    """Too many images wait for the detector."""


class _Job(NamedTuple):
    image: Image.Image
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
        detector: gives the detector for the next batch; it may be another one than before.
        max_batch: images of a batch.
        max_wait: seconds.
    """

    def __init__(
        self,
        detector: Callable[[], Detector],
        limits: Limits,
        *,
        max_batch: int,
        max_wait: float,
        on_batch: OnBatch = lambda images, seconds: None,
    ) -> None:
        self._detector, self._limits, self._on_batch = detector, limits, on_batch
        self._max_batch, self._max_wait = max_batch, max_wait
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "detector")
        self._waiting_bytes = 0
        self.arriving = 0
        """Requests whose images are being received or decoded."""

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._queue.qsize()

    def require_room(self, images: int) -> None:
        """Raises:
        BusyError: so many more images cannot wait.
        """
        if self.waiting + images > self._limits.waiting or self._waiting_bytes > self._limits.waiting_bytes:
            raise BusyError

    async def predict(
        self, images: Sequence[Image.Image], options: Options, threshold: float
    ) -> list[Detections | Exception]:
        """The detections of each image, or its error.

        Raises:
            BusyError: too many images wait.
        """
        self.require_room(len(images))
        memory = sum(4 * image.width * image.height for image in images)  # Pillow's
        results: list[asyncio.Future[Detections]] = [asyncio.get_running_loop().create_future() for _ in images]
        self._waiting_bytes += memory
        try:
            for image, result in zip(images, results, strict=True):
                self._queue.put_nowait(_Job(image, options, threshold, result))
            return await asyncio.gather(*results, return_exceptions=True)  # type: ignore[return-value]
        finally:  # of a request that was given up, the results are not computed any more
            self._waiting_bytes -= memory

    async def run(self) -> None:
        """Predict until the task is canceled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                jobs = [job for job in await self._next_batch() if not job.result.done()]
                if jobs:
                    start = time.monotonic()
                    outcomes = await loop.run_in_executor(self._thread, _predict, self._detector(), jobs)
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
        return jobs


def _answer(result: asyncio.Future[Detections], outcome: Detections | Exception) -> None:
    if result.done():  # canceled: the client has gone, or the time was over
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


def _predict(detector: Detector, jobs: Sequence[_Job]) -> list[Detections | Exception]:
    """The outcome of each job."""
    outcomes: dict[int, Detections | Exception] = {}
    for options in dict.fromkeys(job.options for job in jobs):
        chosen = [number for number, job in enumerate(jobs) if job.options == options]
        try:
            results = _predict_alike(detector, [jobs[number] for number in chosen])
        except Exception as error:  # not of one image, so it is not known of which
            results = [error] if len(chosen) == 1 else [_predict(detector, [jobs[number]])[0] for number in chosen]
        outcomes |= zip(chosen, results, strict=True)
    return [outcomes[number] for number in range(len(jobs))]


def _predict_alike(detector: Detector, jobs: Sequence[_Job]) -> list[Detections | Exception]:
    """Jobs with the same options."""
    outcomes: list[Detections | Exception] = []
    detected: Iterable[Detections] = predict_each(
        detector.runtime,
        [job.image for job in jobs],
        threshold=min(job.threshold for job in jobs),
        tile=jobs[0].options.tile,
        overlap=jobs[0].options.overlap,
        on_error=outcomes.append,
    )
    for detections in detected:
        outcomes.append(detections[detections.confidence >= jobs[len(outcomes)].threshold])
    return outcomes
