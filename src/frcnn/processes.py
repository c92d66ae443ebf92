"""Processes that work together, as torchrun starts them. One alone is the common case: every function holds there too,
and torch.distributed is not even imported.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)  # for the slowest process, e.g. while it reads the annotations of a large set


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that torchrun has started, if there are any."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or count() > 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, own_rank, size = next(rendezvous("env://", timeout=_PATIENCE))
    # Processes that are started again may meet at the same place: not to find the addresses of those that died.
    attempt = distributed.PrefixStore(  # type: ignore[attr-defined]
        f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store
    )
    distributed.init_process_group(store=attempt, rank=own_rank, world_size=size, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count() -> int:
    if "WORLD_SIZE" not in os.environ:
        return 1
    from torch import distributed

    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    if count() == 1:
        return 0
    from torch import distributed

    return distributed.get_rank()


def is_first() -> bool:
    """The first process is the one that writes."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """The value of every process, in order; all must call it."""
    if count() == 1:
        return [value]
    from torch import distributed

    values: list[T | None] = [None] * count()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def from_first(value: T) -> T:
    """The first process's value; all must call it."""
    return gather(value if is_first() else None)[0]  # type: ignore[return-value]


def total(values: "Tensor") -> "Tensor":
    """The sum over all processes; all must call it."""
    if count() > 1:
        from torch import distributed

        distributed.all_reduce(values)
    return values
