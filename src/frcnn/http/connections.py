"""HTTP connections with limits: of their number, and of the time for a header and for reading an answer."""

import asyncio
import time

from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedProtocol(H11Protocol):
    """HTTP with a limit of open connections. Otherwise any program that reaches the server could exhaust its file
    descriptors with idle connections. If there are too many, the oldest idle one is closed; if none is idle, the new
    one. A connection that takes too long to send the header of a request is closed too, and one that does not read its
    answer: the answer would stay in memory."""

    max_connections = 64
    header_seconds: float = 60
    read_seconds: float = 60
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.opened_at = time.monotonic()
        self._header_timer: asyncio.TimerHandle | None = self._start_timer()
        known = [each for each in self.connections if isinstance(each, BoundedProtocol)]
        others = [each for each in known if each is not self and not each.transport.is_closing()]
        if len(others) >= self.max_connections:
            idle = (each for each in others if each.is_idle)
            oldest = min(idle, key=lambda each: each.opened_at, default=self)
            oldest.transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered, and the last answer has been read."""
        is_answered = self.cycle is None or self.cycle.response_complete
        return is_answered and not self.transport.get_write_buffer_size()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.is_idle:
            self._stop_timer()
        elif self._header_timer is None:  # the next request of the connection begins
            self._header_timer = self._start_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._stop_read_timer()
        if self.transport.get_write_buffer_size():
            self._read_timer = self.loop.call_later(self.read_seconds, self._abort_if_unread)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self.header_seconds, self._close_if_idle)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _abort_if_unread(self) -> None:
        self._read_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _close_if_idle(self) -> None:
        self._header_timer = None
        if self.is_idle:
            self.transport.close()


def bounded(connections: int, header_seconds: float, read_seconds: float = 60) -> type[BoundedProtocol]:
    """The protocol with these limits; uvicorn makes an instance of each connection."""
    limits = {"max_connections": connections, "header_seconds": header_seconds, "read_seconds": read_seconds}
    return type("BoundedProtocol", (BoundedProtocol,), limits)
