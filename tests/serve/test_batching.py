"""Which images are predicted together, and what each of them gets."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from PIL import Image
from service import FakeRuntime, model_of, run_async
from tiny import draw_image

from frcnn.data.transforms import PaddedBatch
from frcnn.inference.results import Detections
from frcnn.serve.batching import Batcher, Options
from frcnn.serve.budget import BusyError
from frcnn.serve.model import Model

PHOTO = draw_image([])


class OfOneModel(Batcher):
    model: Model


def run(
    runtime: FakeRuntime,
    scenario: Callable[[OfOneModel], Awaitable[Any]],
    max_waiting: int = 64,
    max_batch: int = 8,
    max_wait: float = 0.005,
) -> tuple[Any, list[int]]:
    """Run a scenario beside a batcher. Returns its result and the numbers of images of the batches."""
    sizes: list[int] = []

    async def main() -> Any:
        batcher = OfOneModel(
            max_waiting=max_waiting,
            max_batch=max_batch,
            max_wait=max_wait,
            on_batch=lambda images, seconds: sizes.append(images),
        )
        batcher.model = model_of(runtime)
        task = asyncio.create_task(batcher.run())
        try:
            return await scenario(batcher)
        finally:
            task.cancel()

    return run_async(main), sizes


async def one(
    batcher: OfOneModel,
    image: Image.Image = PHOTO,
    *,
    model: Model | None = None,
    threshold: float = 0.5,
    tile: int | None = None,
) -> Any:
    (result,) = await batcher.predict([image], model or batcher.model, Options(tile), threshold)
    return result


def test_images_that_wait_share_batches() -> None:
    _, sizes = run(FakeRuntime(), lambda batcher: asyncio.gather(*(one(batcher) for _ in range(20))), max_batch=8)
    assert sizes == [8, 8, 4]


def test_a_batch_of_one() -> None:
    _, sizes = run(FakeRuntime(), lambda batcher: asyncio.gather(*(one(batcher) for _ in range(3))), max_batch=1)
    assert sizes == [1, 1, 1]


def test_each_image_gets_its_own_threshold_and_tiles() -> None:
    big = draw_image([], size=(300, 300))

    async def scenario(batcher: OfOneModel) -> list[Detections]:
        return await asyncio.gather(
            one(batcher, threshold=0.95), one(batcher, threshold=0.3), one(batcher, big, tile=200), one(batcher)
        )

    results, sizes = run(FakeRuntime(), scenario)
    assert [len(each) for each in results[:2]] == [0, 2]
    assert results[2].size == (300, 300)
    assert len(results[2]) > len(results[3]) == 1  # the same box in each tile
    assert sizes == [3, 1]  # tiles come last, so that others do not wait for them


def test_a_batch_waits_for_requests_that_are_arriving_but_not_for_others() -> None:
    async def scenario(batcher: OfOneModel) -> None:
        batcher.arriving = 1
        first = asyncio.create_task(one(batcher))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, one(batcher))
        batcher.arriving = 0
        start = time.monotonic()
        await one(batcher)
        assert time.monotonic() - start < 0.25

    _, sizes = run(FakeRuntime(), scenario, max_wait=0.5)
    assert sizes == [2, 1]


def test_a_full_queue_refuses_images() -> None:
    gate = threading.Event()

    async def scenario(batcher: OfOneModel) -> None:
        busy = asyncio.create_task(one(batcher))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(one(batcher)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await one(batcher)
        gate.set()
        await asyncio.gather(busy, *waiting)
        await one(batcher)

    run(FakeRuntime(lambda batch: _wait(gate)), scenario, max_waiting=2)


def _wait(gate: threading.Event) -> None:
    assert gate.wait(10)


def test_requests_that_were_given_up_are_not_predicted() -> None:
    gate, runtime = threading.Event(), FakeRuntime(lambda batch: _wait(gate))

    async def scenario(batcher: OfOneModel) -> None:
        busy = asyncio.create_task(one(batcher))
        await asyncio.sleep(0.05)
        gone = [asyncio.create_task(one(batcher)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        gate.set()
        await busy
        await asyncio.sleep(0.05)
        await one(batcher)

    run(runtime, scenario)
    assert runtime.batches == [1, 1]


def test_each_request_is_predicted_by_the_model_that_it_started_with() -> None:
    other = FakeRuntime(classes=["cat", "dog"])

    async def scenario(batcher: OfOneModel) -> list[Detections]:
        return await asyncio.gather(one(batcher), one(batcher, model=model_of(other)), one(batcher))

    results, sizes = run(FakeRuntime(), scenario)
    assert [each.class_name.tolist() for each in results] == [["red"], ["dog"], ["red"]]
    assert sizes == [2, 1]


def test_the_number_of_waiting_images_is_told() -> None:
    told: list[int] = []

    async def main() -> None:
        batcher = Batcher(max_waiting=9, max_batch=2, max_wait=0, on_waiting=told.append)
        task = asyncio.create_task(batcher.run())
        await batcher.predict([PHOTO] * 3, model_of(FakeRuntime()), Options(), 0.5)
        task.cancel()

    run_async(main)
    assert told == [3, 1, 0]


@pytest.mark.parametrize("error", [RuntimeError("bug"), MemoryError(), ValueError("too small for the layers")])
def test_an_error_is_that_of_one_image(error: Exception) -> None:
    def fail(batch: PaddedBatch) -> None:
        if (batch.original_sizes[:, 0] == 50).any():
            raise error

    bad = draw_image([], size=(50, 50))

    async def scenario(batcher: OfOneModel) -> list[Any]:
        results = [one(batcher), one(batcher, bad), one(batcher)]
        return await asyncio.gather(*results, one(batcher, threshold=0.2))

    (first, failed, third, last), _ = run(FakeRuntime(fail), scenario)
    assert [len(each) for each in (first, third, last)] == [1, 1, 2]
    assert failed is error
