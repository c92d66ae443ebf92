"""The connections of the annotation page's server."""

import asyncio
import time

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 64
"""Limit of open connections; a browser opens about six."""


class BoundedProtocol(H11Protocol):
    """HTTP with a limit of open connections. Otherwise any program on this computer could exhaust the server's file
    descriptors with idle connections. If there are too many, the oldest idle one is closed; if none is idle, the new
    one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.opened_at = time.monotonic()
        known = [each for each in self.connections if isinstance(each, BoundedProtocol)]
        others = [each for each in known if each is not self and not each.transport.is_closing()]
        if len(others) >= MAX_CONNECTIONS:
            idle = (each for each in others if each.cycle is None or each.cycle.response_complete)
            oldest = min(idle, key=lambda each: each.opened_at, default=self)
            oldest.transport.abort()
