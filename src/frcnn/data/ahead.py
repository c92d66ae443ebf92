"""Working ahead by threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

READERS = (os.cpu_count() or 1) + 4
"""Threads for reading many files: disks answer several at a time."""


def read_ahead(make: Callable[[T], R], items: Iterator[T], *, workers: int) -> Iterator[R]:
    """`map(make, items)`, in order, with `workers` threads a few items ahead; 0 works in the caller's thread."""
    if workers == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting: deque[Future[R]] = deque(pool.submit(make, item) for item in islice(items, 2 * workers))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(make, item) for item in islice(items, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
