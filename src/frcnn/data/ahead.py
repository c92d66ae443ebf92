"""Working ahead by threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

READERS = min(32, (os.cpu_count() or 1) + 4)
"""Threads for reading many files: disks answer several at a time."""


def read_ahead(make: Callable[[T], R], items: Iterator[T], *, workers: int) -> Iterator[R]:
    """`map(make, items)`, in order, with `workers` threads a few items ahead; 0 works in the caller's thread.

    An error, of `make` or of the items, is raised where it would be without threads: after all results before it.
    """
    if workers == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = _submitted(pool, make, items)
            waiting = deque(islice(futures, 2 * workers))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(islice(futures, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _submitted(pool: ThreadPoolExecutor, make: Callable[[T], R], items: Iterator[T]) -> Iterator[Future[R]]:
    try:
        for item in items:
            yield pool.submit(make, item)
    except Exception as error:
        failed: Future[R] = Future()
        failed.set_exception(error)
        yield failed
