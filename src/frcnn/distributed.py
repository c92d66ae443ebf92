"""Distributed training, started by torchrun. With one process, every function works too and torch.distributed is not
imported.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

_TIMEOUT = timedelta(hours=2)  # of the slowest process, e.g. while it reads the annotations of a large data set


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that torchrun started. Without torchrun, or inside another `process_group`, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world_size() > 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    store, own_rank, size = next(rendezvous("env://", timeout=_TIMEOUT))
    prefix = _agree_on_prefix(store, own_rank, size)
    distributed.init_process_group(
        store=distributed.PrefixStore(prefix, store),  # type: ignore[attr-defined]
        rank=own_rank,
        world_size=size,
        timeout=_TIMEOUT,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _agree_on_prefix(store: "Store", own_rank: int, size: int) -> str:
    """A key prefix that all processes of this start share, and no earlier start used.

    The store outlives processes that torchrun restarts. Under the same keys, new processes would read the addresses of
    dead ones. torchrun's restart count cannot serve as the prefix: each machine counts its own restarts.

    Rank 0 publishes a random prefix. Every other rank answers under it and waits until rank 0 has seen the answer; if
    that does not happen, the prefix is that of an earlier start, and the rank reads it again.
    """
    from torch import distributed

    own = uuid.uuid4().hex
    if own_rank == 0:
        store.set("prefix", own)
        for other in range(1, size):
            answer = store.get(f"{own}/answer/{other}").decode()  # waits for it
            store.set(f"{own}/seen/{answer}", "")
        return own
    while True:
        prefix: str = store.get("prefix").decode()
        store.set(f"{prefix}/answer/{own_rank}", own)
        try:
            store.wait([f"{prefix}/seen/{own}"], timedelta(seconds=1))
        except distributed.DistStoreError:
            continue
        return prefix


def world_size() -> int:
    """The number of processes."""
    if "WORLD_SIZE" not in os.environ:
        return 1
    from torch import distributed

    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The index of this process, from 0."""
    if world_size() == 1:
        return 0
    from torch import distributed

    return distributed.get_rank()


def is_main_process() -> bool:
    """Whether this is rank 0, the process that writes files and messages."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """The value of every process, by rank. All processes must call it."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def barrier() -> None:
    """Wait until all processes have come here."""
    gather(None)


def broadcast_object(value: T) -> T:
    """The main process's value. All processes must call it."""
    return gather(value if is_main_process() else None)[0]  # type: ignore[return-value]


def broadcast(tensors: Sequence["Tensor"]) -> None:
    """Copy the main process's values into these tensors, in place. All processes must call it."""
    if world_size() == 1 or not tensors:
        return
    import torch
    from torch import distributed

    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.broadcast(flat, src=0)
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


def all_reduce(values: "Tensor") -> "Tensor":
    """The sum over all processes, in place. All processes must call it."""
    if world_size() > 1:
        from torch import distributed

        distributed.all_reduce(values)
    return values


def any_process(flag: bool, device: "torch.device") -> bool:
    """Whether the flag is set in any process. All processes must call it.

    Args:
        device: through which the processes communicate.
    """
    if world_size() == 1:
        return flag
    import torch

    return bool(all_reduce(torch.tensor(float(flag), device=device)))
