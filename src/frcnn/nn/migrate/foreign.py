"""Errors of configs and weights of another library that have other values than that library writes."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def foreign_values(library: str) -> Iterator[None]:
    """Errors about the types and names of values become one that says what is wrong.

    Raises:
        ValueError: the block met a value of another type, or a tensor or setting is missing.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(
            f"the config or the weights are damaged, or not those of {library} ({type(error).__name__}: {error}); give "
            f"the files that {library} wrote"
        ) from None
