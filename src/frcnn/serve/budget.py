"""The memory of all requests together is bounded."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class BusyError(Exception):
    """The service has no room for another request now."""


class TooMuchError(Exception):
    """A request needs more memory than all requests together may take."""


class Budget:
    """Bytes that requests may take; threads can share it.

    Args:
        limit: of all requests together.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._taken, self._lock = limit, 0, Lock()

    @contextmanager
    def request(self) -> Iterator["Share"]:
        """The share of one request. It is returned when the block ends."""
        share = Share(self)
        try:
            yield share
        finally:
            with self._lock:
                self._taken -= share.taken

    def take(self, share: "Share", count: int) -> None:
        """As `Share.take`."""
        with self._lock:
            if share.taken + count > self._limit:
                raise TooMuchError
            if self._taken + count > self._limit:
                raise BusyError
            share.taken += count
            self._taken += count


class Share:
    """What one request takes of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.taken = budget, 0

    def take(self, count: int) -> None:
        """Take bytes.

        Raises:
            TooMuchError: the request alone is too large.
            BusyError: it does not fit beside the others.
        """
        self._budget.take(self, count)
