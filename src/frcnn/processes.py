"""Processes that work together, as torchrun starts them. One alone is the common case: every function holds there too,
and torch.distributed is not even imported.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

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
    own = distributed.PrefixStore(_meet(store, own_rank, size), store)  # type: ignore[attr-defined]
    distributed.init_process_group(store=own, rank=own_rank, world_size=size, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _meet(store: "Store", own_rank: int, size: int) -> str:
    """A name for this start, the same in all its processes and in no other start.

    The store outlives processes that are started again, and they must not find the addresses of those that died.
    torchrun's count of restarts does not tell starts apart: each machine has its own.
    """
    from torch import distributed

    own = uuid.uuid4().hex
    if own_rank == 0:
        store.set("start", own)
        for other in range(1, size):
            store.set(f"{own}/seen/{store.get(f'{own}/here/{other}').decode()}", "")
        return own
    while True:
        start: str = store.get("start").decode()  # perhaps an earlier one, whose first process answers no more
        store.set(f"{start}/here/{own_rank}", own)
        try:
            store.wait([f"{start}/seen/{own}"], timedelta(seconds=1))
        except distributed.DistStoreError:
            continue
        return start


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


def spread(tensors: Sequence["Tensor"]) -> None:
    """Give all processes the first one's numbers, in place; all must call it."""
    if count() == 1 or not tensors:
        return
    import torch
    from torch import distributed

    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.broadcast(flat, src=0)
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


def total(values: "Tensor") -> "Tensor":
    """The sum over all processes; all must call it."""
    if count() > 1:
        from torch import distributed

        distributed.all_reduce(values)
    return values
