"""Prefetching with threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

READ_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that read many files; disks serve several requests at a time."""


def prefetch(make: Callable[[T], R], items: Iterator[T], *, workers: int) -> Iterator[R]:
    """`map(make, items)`, in order. `workers` threads compute the next results in advance; with 0 workers, the caller's
    thread computes each one.

    An error of `make` or of the items is raised where `map` raises it: after all results before it.
    """
    if workers == 0:
        yield from map(make, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        futures = _submitted(pool, make, items)
        waiting = deque(islice(futures, 2 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(islice(futures, 1))
            yield result
    finally:
        # Do not wait: the garbage collector may close an abandoned iterator in any thread, also in one that holds a
        # lock of `threading`, and joining the threads there would block for ever.
        pool.shutdown(wait=False, cancel_futures=True)


def _submitted(pool: ThreadPoolExecutor, make: Callable[[T], R], items: Iterator[T]) -> Iterator[Future[R]]:
    try:
        for item in items:
            yield pool.submit(make, item)
    except Exception as error:
        failed: Future[R] = Future()
        failed.set_exception(error)
        yield failed
